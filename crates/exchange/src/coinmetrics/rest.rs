//! The REST client.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use forecastd_core::{Clock, Observation};

use super::message::{Page, decode_page, explain};
use super::{API_URL, ApiKey, COMMUNITY_URL, Kind, SeriesConfig};
use crate::config::refuse;
use crate::error::ExchangeError;
use crate::http::{HttpClient, Manners, Way};
use crate::paging::unreadable;

/// Rows of a page: half of what is allowed, so that a page of candles fits into a bounded body.
const PAGE: usize = 5_000;
/// Most pages of one call, and so 500 000 values.
const MAX_PAGES: usize = 100;
/// Without a key ten requests in six seconds are allowed.
static COMMUNITY: Manners = Manners { gap: Duration::from_millis(650), ..WITH_KEY };
const WITH_KEY: Manners = Manners {
    explain,
    refuses_with_200: false,
    gap: Duration::from_millis(10),
    weight: None,
    hosts: &[],
    symbols: "https://api.coinmetrics.io/v4/catalog-v2",
};
/// With a key many more are.
static ACCOUNT: Manners = WITH_KEY;

/// A client of Coin Metrics.
#[derive(Debug)]
pub struct CoinMetrics {
    http: HttpClient,
    key: Option<ApiKey>,
    clock: Arc<dyn Clock>,
}

impl CoinMetrics {
    /// Creates a client of `url` (`https://host`, without a path); of the public hosts when it is
    /// absent: the community's without a key, the other one with a key.
    ///
    /// `clock`: market time, which bounds what is asked for. `timeout`: real time for one request.
    ///
    /// # Errors
    /// [`ExchangeError::Config`] when the address cannot be one, or would send the key in the clear.
    pub fn new(
        url: Option<&str>,
        key: Option<ApiKey>,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Result<Self, ExchangeError> {
        let (public, manners) = match key {
            Some(_) => (API_URL, &ACCOUNT),
            None => (COMMUNITY_URL, &COMMUNITY),
        };
        let url = url.unwrap_or(public);
        let http = HttpClient::new(&Way { rest_url: url, timeout, proxy: None }, manners)?;
        if key.is_some() && !http.is_private() {
            return Err(refuse("url", url, "https://host where a key is sent"));
        }
        Ok(Self { http, key, clock })
    }

    /// Returns the values of `series` with an own time in `from_ms..to_ms`, oldest first, strictly
    /// rising, each with the time at which it becomes known: the end of its interval plus the delay
    /// of its publication.
    ///
    /// A value whose interval is not over is left out, and so is one that does not exist: the answer
    /// may be empty.
    ///
    /// # Errors
    /// [`ExchangeError`]; nothing of the range is returned then. Nothing is retried here.
    pub async fn series(
        &self,
        series: &SeriesConfig,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Observation>, ExchangeError> {
        series.validate()?;
        let every_ms = series.every_ms();
        // Nothing whose interval ends later has its last value yet.
        let end_ms = self.clock.now_ms().saturating_sub(every_ms).saturating_add(1);
        let (from_ms, to_ms) = (from_ms.max(0), to_ms.min(end_ms));
        if from_ms >= to_ms {
            return Ok(Vec::new());
        }
        let path = format!("/v4/timeseries/{}", series.endpoint);
        let pages = self.pages(&path, series, from_ms, to_ms).await;
        let rows = pages.map_err(|error| self.without_key(error))?;
        let known_after_ms = every_ms.saturating_add(series.delay_ms());
        let observed = |(at_ms, value): (i64, f64)| Observation {
            at_ms,
            known_ms: at_ms.saturating_add(known_after_ms),
            value,
        };
        Ok(rows.into_iter().map(observed).collect())
    }

    async fn pages(
        &self,
        path: &str,
        series: &SeriesConfig,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<(i64, f64)>, ExchangeError> {
        let (start, end) = (iso(from_ms)?, iso(to_ms)?);
        let page_size = PAGE.to_string();
        let mut query = vec![
            (series.endpoint.selector(), series.of.as_str()),
            ("start_time", start.as_str()),
            ("end_time", end.as_str()),
            ("end_inclusive", "false"),
            ("paging_from", "start"),
            ("page_size", page_size.as_str()),
        ];
        query.extend(series.every_name()?);
        if series.endpoint.kind() == Kind::Metrics {
            query.push(("metrics", series.metric.as_str()));
        }
        query.extend(self.key.as_ref().map(|key| ("api_key", key.expose())));
        let mut rows: Vec<(i64, f64)> = Vec::new();
        let (mut next, mut after_ms) = (None::<String>, from_ms.saturating_sub(1));
        for _ in 0..MAX_PAGES {
            let mut query = query.clone();
            query.extend(next.as_deref().map(|token| ("next_page_token", token)));
            let body = self.http.get(path, &query).await?;
            let page = decode_page(&body, series).map_err(|error| unreadable(path, &error))?;
            check(path, &page, after_ms, to_ms)?;
            after_ms = page.last_ms.unwrap_or(after_ms);
            rows.extend(page.rows);
            match page.next {
                Some(token) if next.as_ref() == Some(&token) => {
                    let reason = "the same page is named as the next one again".to_owned();
                    return Err(ExchangeError::Decode { path: path.to_owned(), reason });
                }
                Some(token) => next = Some(token),
                None => return Ok(rows),
            }
        }
        let limit = i64::try_from(MAX_PAGES * PAGE).unwrap_or(i64::MAX);
        Err(ExchangeError::Range { from_ms, to_ms, limit })
    }

    /// A server may repeat what it was asked with.
    fn without_key(&self, mut error: ExchangeError) -> ExchangeError {
        let Some(key) = &self.key else { return error };
        match &mut error {
            ExchangeError::Blocked { message: text, .. }
            | ExchangeError::Server { message: text, .. }
            | ExchangeError::Refused { message: text, .. }
            | ExchangeError::Decode { reason: text, .. } => {
                *text = text.replace(key.expose(), "(key)");
            }
            _ => {}
        }
        error
    }
}

/// Checks that a page goes on where the one before ended and stays within what was asked for.
fn check(path: &str, page: &Page, after_ms: i64, to_ms: i64) -> Result<(), ExchangeError> {
    let decode = |reason: String| ExchangeError::Decode { path: path.to_owned(), reason };
    if page.count > PAGE {
        return Err(decode(format!("{} rows, asked for {PAGE}", page.count)));
    }
    if let Some(at_ms) = page.first_ms.filter(|at_ms| *at_ms <= after_ms) {
        return Err(decode(format!("row at {at_ms} ms, must be after {after_ms} ms")));
    }
    if let Some(at_ms) = page.last_ms.filter(|at_ms| *at_ms >= to_ms) {
        return Err(decode(format!("row at {at_ms} ms, asked for less than {to_ms} ms")));
    }
    Ok(())
}

fn iso(at_ms: i64) -> Result<String, ExchangeError> {
    let time = DateTime::from_timestamp_millis(at_ms);
    let time = time.ok_or_else(|| refuse("from_ms", &at_ms, "a time of the calendar"))?;
    Ok(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}
