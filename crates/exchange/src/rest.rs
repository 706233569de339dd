//! What the REST clients share: one way to ask for closed candles, of which each exchange only states
//! its own rules.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Clock, Interval};

use crate::continuity::Range;
use crate::error::ExchangeError;
use crate::http::{HttpClient, Manners};
use crate::intervals::{self, Intervals};
use crate::message::{CandleUpdate, DecodeError};
use crate::paging::{Closing, check_page, existing, keep_closed, pages, unreadable};

/// Reads a body; the symbol and interval are those that were asked for.
type ReadRows = fn(&[u8], &str, Interval) -> Result<Vec<CandleUpdate>, DecodeError>;

/// How one exchange is asked for candles.
pub(crate) struct CandleApi {
    pub(crate) intervals: &'static Intervals,
    /// The intervals in words.
    pub(crate) interval_rule: &'static str,
    /// Checks a symbol and returns its spelling in requests.
    pub(crate) symbol: fn(&str) -> Result<String, ExchangeError>,
    /// Most intervals to ask for at once, so that nothing of the answer is ever cut off; the row at
    /// the end of the page comes on top where the exchange includes both ends.
    pub(crate) page_intervals: i64,
    /// Whether rows outside of what was asked for are usual, and not a sign of a broken answer.
    pub(crate) is_loose: bool,
    /// Where the exchange has only its newest candles: how many an answer holds at least when older
    /// ones are gone.
    pub(crate) newest: Option<usize>,
    pub(crate) closing: Closing,
    /// Makes the request of one page from symbol, name of the interval and open times.
    pub(crate) request: fn(&str, &'static str, Range) -> Request,
    /// Reads an answer into rising rows.
    pub(crate) read: ReadRows,
    pub(crate) manners: &'static Manners,
}

/// One GET.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
}

/// A client of one host of one exchange.
#[derive(Debug)]
pub(crate) struct RestClient {
    api: &'static CandleApi,
    http: HttpClient,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for CandleApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandleApi").finish_non_exhaustive()
    }
}

impl RestClient {
    pub(crate) fn new(
        api: &'static CandleApi,
        rest_url: &str,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Result<Self, ExchangeError> {
        Ok(Self { api, http: HttpClient::new(rest_url, timeout, api.manners)?, clock })
    }

    pub(crate) const fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Returns the checked spelling of a symbol in requests.
    pub(crate) fn symbol(&self, symbol: &str) -> Result<String, ExchangeError> {
        (self.api.symbol)(symbol)
    }

    /// Does what [`crate::CandleSource::candles`] promises.
    pub(crate) async fn candles(
        &self,
        symbol: &str,
        interval: Interval,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Candle>, ExchangeError> {
        let symbol = self.symbol(symbol)?;
        let name = intervals::named(self.api.intervals, interval, self.api.interval_rule)?;
        let Some(range) = existing(interval, from_ms, to_ms, self.clock.now_ms())? else {
            return Ok(Vec::new());
        };
        let mut candles: Vec<Candle> = Vec::new();
        for page in pages(range, interval, self.api.page_intervals) {
            let mut rows = self.page(&symbol, name, interval, page).await?;
            keep_closed(&mut rows, interval, self.api.closing, self.clock.now_ms());
            // The row at the end of the page was only the proof for the one before it.
            let closed = rows.into_iter().map(|row| row.candle);
            candles.extend(closed.filter(|row| row.open_time_ms < page.to_ms));
        }
        Ok(candles)
    }

    async fn page(
        &self,
        symbol: &str,
        name: &'static str,
        interval: Interval,
        page: Range,
    ) -> Result<Vec<CandleUpdate>, ExchangeError> {
        let Request { path, query } = (self.api.request)(symbol, name, page);
        let query: Vec<(&str, &str)> = query.iter().map(|(key, value)| (*key, &**value)).collect();
        let (_, body) = self.http.get(&path, &query).await?;
        let mut rows =
            (self.api.read)(&body, symbol, interval).map_err(|error| unreadable(&path, &error))?;
        // A full answer says nothing about what was before it: such candles exist and are gone.
        if let (Some(newest), Some(first)) = (self.api.newest, rows.first())
            && rows.len() >= newest
            && page.from_ms < first.candle.open_time_ms
        {
            let oldest_ms = first.candle.open_time_ms;
            return Err(ExchangeError::TooOld { from_ms: page.from_ms, oldest_ms });
        }
        if self.api.is_loose {
            rows.retain(|row| (page.from_ms..=page.to_ms).contains(&row.candle.open_time_ms));
        }
        let limit = usize::try_from(self.api.page_intervals).unwrap_or(usize::MAX);
        check_page(&path, &rows, page, limit.saturating_add(1))?;
        Ok(rows)
    }
}

/// Gives the candles of an answer that does not say which are final the form of those that do.
pub(crate) fn unmarked(rows: Vec<Candle>, symbol: &str, interval: Interval) -> Vec<CandleUpdate> {
    let update =
        |candle| CandleUpdate { symbol: symbol.to_owned(), interval, candle, is_final: None };
    rows.into_iter().map(update).collect()
}
