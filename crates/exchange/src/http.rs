//! One bounded GET: size, time, redirects, and the meaning of status codes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use tokio::time::Instant;

use crate::config::refuse;
use crate::error::ExchangeError;
use crate::message::shorten;
use crate::tls::install_tls;

/// A page of 1000 candles takes about 150 kB.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Error bodies are short; some are HTML of a firewall.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Wait after 429 and 418 when the exchange does not say how long.
const DEFAULT_RATE_WAIT: Duration = Duration::from_mins(1);
const DEFAULT_BAN_WAIT: Duration = Duration::from_mins(2);
/// The longest ban that an exchange documents.
const MAX_WAIT: Duration = Duration::from_hours(72);

/// What an exchange's error body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explanation {
    pub(crate) code: i64,
    pub(crate) message: String,
    /// The code means "try again later" whatever the status is.
    pub(crate) is_transient: bool,
}

/// A client for one host. After "too many requests" it refuses further calls by itself until the
/// asked time has passed: going on would turn into a ban.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: Client,
    base: Url,
    explain: fn(&[u8]) -> Option<Explanation>,
    closed_until: Mutex<Option<(Instant, u16)>>,
}

impl HttpClient {
    pub(crate) fn new(
        base_url: &str,
        timeout: Duration,
        explain: fn(&[u8]) -> Option<Explanation>,
    ) -> Result<Self, ExchangeError> {
        install_tls();
        let rule = "https://host or http://host";
        let base = Url::parse(base_url).map_err(|_| refuse("rest_url", base_url, rule))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(refuse("rest_url", base_url, rule));
        }
        let client = Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout)
            .redirect(Policy::none())
            .user_agent(concat!("forecastd/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| ExchangeError::Transport { path: "/".to_owned(), source })?;
        Ok(Self { client, base, explain, closed_until: Mutex::new(None) })
    }

    /// Fetches `path` with `query` and returns the headers and the body of a 200 answer.
    pub(crate) async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<(HeaderMap, Vec<u8>), ExchangeError> {
        self.check_gate()?;
        let mut url = self.base.clone();
        url.set_path(path);
        url.query_pairs_mut().extend_pairs(query);
        let sent = self.client.get(url).send().await;
        let mut response = sent.map_err(|source| transport(path, source))?;
        let status = response.status().as_u16();
        if status == 200 {
            let body = read_body(&mut response, path, MAX_BODY_BYTES).await?;
            return Ok((response.headers().clone(), body));
        }
        let headers = response.headers().clone();
        // The status decides; a body that cannot be read only costs the explanation.
        let body = read_body(&mut response, path, MAX_ERROR_BYTES).await.unwrap_or_default();
        let error = classify(status, &headers, &body, self.explain);
        if let ExchangeError::RateLimited { status, retry_after } = error {
            let until = Instant::now() + retry_after;
            *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((until, status));
        }
        Err(error)
    }

    fn check_gate(&self) -> Result<(), ExchangeError> {
        let mut gate = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((until, status)) = *gate else {
            return Ok(());
        };
        let retry_after = until.saturating_duration_since(Instant::now());
        if retry_after.is_zero() {
            *gate = None;
            return Ok(());
        }
        Err(ExchangeError::RateLimited { status, retry_after })
    }
}

fn transport(path: &str, source: reqwest::Error) -> ExchangeError {
    ExchangeError::Transport { path: path.to_owned(), source: source.without_url() }
}

async fn read_body(
    response: &mut Response,
    path: &str,
    limit: usize,
) -> Result<Vec<u8>, ExchangeError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| transport(path, source))? {
        if body.len() + chunk.len() > limit {
            return Err(ExchangeError::BodyTooLarge { path: path.to_owned(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn classify(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    explain: fn(&[u8]) -> Option<Explanation>,
) -> ExchangeError {
    let explanation = explain(body);
    let code = explanation.as_ref().map(|found| found.code);
    let is_transient = explanation.as_ref().is_some_and(|found| found.is_transient);
    let message = match explanation {
        Some(found) => shorten(&found.message),
        None => shorten(&String::from_utf8_lossy(body)),
    };
    match status {
        429 | 418 => {
            let default = if status == 418 { DEFAULT_BAN_WAIT } else { DEFAULT_RATE_WAIT };
            let retry_after = retry_after(headers).unwrap_or(default).min(MAX_WAIT);
            ExchangeError::RateLimited { status, retry_after }
        }
        403 | 451 => ExchangeError::Blocked { status, message },
        500.. => ExchangeError::Server { status, message },
        _ if is_transient => ExchangeError::Server { status, message },
        _ => ExchangeError::Refused { status, code, message },
    }
}

/// `Retry-After` in its form of whole seconds, the one that exchanges use.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse::<u64>().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn explain(body: &[u8]) -> Option<Explanation> {
        (body == b"busy").then(|| Explanation {
            code: -7,
            message: "busy".into(),
            is_transient: true,
        })
    }

    fn class(status: u16, wait: Option<&'static str>, body: &[u8]) -> ExchangeError {
        let mut headers = HeaderMap::new();
        if let Some(wait) = wait {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(wait));
        }
        classify(status, &headers, body, explain)
    }

    #[test]
    fn status_codes_have_their_class() {
        for (status, body, is_retryable) in [
            (429, &b""[..], true),
            (418, b"", true),
            (500, b"", true),
            (503, b"<html>", true),
            (400, b"busy", true),
            (400, b"", false),
            (404, b"", false),
            (301, b"", false),
            (403, b"<html>", false),
            (451, b"", false),
        ] {
            assert_eq!(class(status, None, body).is_retryable(), is_retryable, "{status}");
        }
    }

    #[test]
    fn the_asked_wait_is_kept_within_bounds() {
        let wait = |status, text| class(status, text, b"").retry_after().unwrap();
        assert_eq!(wait(429, Some("7")), Duration::from_secs(7));
        assert_eq!(wait(429, None), DEFAULT_RATE_WAIT);
        assert_eq!(wait(418, Some("soon")), DEFAULT_BAN_WAIT);
        assert_eq!(wait(418, Some("99999999999")), MAX_WAIT);
    }
}
