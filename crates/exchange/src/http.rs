//! One bounded GET: size, time, pace, redirects, and the meaning of status codes.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use tokio::time::{Instant, sleep_until};

use crate::config::refuse;
use crate::error::ExchangeError;
use crate::message::shorten;
use crate::tls::install_tls;

/// A page of 1000 candles takes about 150 kB.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Error bodies are short; some are HTML of a firewall.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Wait after 429 and 418 when the exchange does not say how long.
pub(crate) const DEFAULT_RATE_WAIT: Duration = Duration::from_mins(1);
const RATE_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const DEFAULT_BAN_WAIT: Duration = Duration::from_mins(2);
/// The longest ban that an exchange documents.
const MAX_WAIT: Duration = Duration::from_hours(72);

/// What a refusal in the exchange's own words means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// "Try again later", whatever the status is.
    Later,
    /// Too many requests; how long to wait where no header says it.
    TooFast(Duration),
    /// Not from this address.
    Blocked,
    /// Not for this account, whatever the address.
    Denied,
    /// The request is wrong, or the status says more.
    Wrong,
}

/// What an exchange's error body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explanation {
    pub(crate) code: Option<i64>,
    pub(crate) message: String,
    pub(crate) meaning: Meaning,
}

/// How one exchange wants to be asked, and how it refuses.
pub(crate) struct Manners {
    /// Reads the exchange's words in the body of a refusal.
    pub(crate) explain: fn(&[u8]) -> Option<Explanation>,
    /// Whether refusals come with status 200: each body is looked through then.
    pub(crate) refuses_with_200: bool,
    /// Shortest time between two requests.
    pub(crate) gap: Duration,
}

impl fmt::Debug for Manners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manners").field("gap", &self.gap).finish_non_exhaustive()
    }
}

/// A client for one host. After "too many requests" it refuses further calls by itself until the
/// asked time has passed: going on would turn into a ban.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: Client,
    base: Url,
    manners: &'static Manners,
    closed_until: Mutex<Option<(Instant, u16)>>,
    /// When the next request may go out.
    next_at: Mutex<Option<Instant>>,
}

impl HttpClient {
    pub(crate) fn new(
        base_url: &str,
        timeout: Duration,
        manners: &'static Manners,
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
        let (closed_until, next_at) = (Mutex::new(None), Mutex::new(None));
        Ok(Self { client, base, manners, closed_until, next_at })
    }

    /// Tells whether nobody on the way can read a request: it is encrypted or stays on this machine.
    pub(crate) fn is_private(&self) -> bool {
        let is_loopback = match self.base.host_str() {
            Some("localhost") => true,
            Some(host) => {
                let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
                ip.is_ok_and(|ip| ip.is_loopback())
            }
            None => false,
        };
        self.base.scheme() == "https" || is_loopback
    }

    /// Fetches `path` with `query` and returns the headers and the body of a 200 answer.
    pub(crate) async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<(HeaderMap, Vec<u8>), ExchangeError> {
        self.check_gate()?;
        if let Some(at) = self.reserve() {
            sleep_until(at).await;
            self.check_gate()?;
        }
        let mut url = self.base.clone();
        url.set_path(path);
        url.query_pairs_mut().extend_pairs(query);
        let sent = self.client.get(url).send().await;
        let mut response = sent.map_err(|source| transport(path, source))?;
        let status = response.status().as_u16();
        if status == 200 {
            let body = read_body(&mut response, path, MAX_BODY_BYTES).await?;
            let words = if self.manners.refuses_with_200 { self.explain(&body) } else { None };
            return match words {
                None => Ok((response.headers().clone(), body)),
                refusal => Err(self.refused(status, response.headers(), refusal, &body)),
            };
        }
        let headers = response.headers().clone();
        // The status decides; a body that cannot be read only costs the explanation.
        let body = read_body(&mut response, path, MAX_ERROR_BYTES).await.unwrap_or_default();
        Err(self.refused(status, &headers, self.explain(&body), &body))
    }

    fn explain(&self, body: &[u8]) -> Option<Explanation> {
        (self.manners.explain)(body)
    }

    /// Turns a refusal into an error.
    fn refused(
        &self,
        status: u16,
        headers: &HeaderMap,
        explanation: Option<Explanation>,
        body: &[u8],
    ) -> ExchangeError {
        let error = classify(status, headers, explanation, body);
        if let ExchangeError::RateLimited { status, retry_after } = error {
            let until = Instant::now() + retry_after;
            *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((until, status));
        }
        error
    }

    /// Takes the next place in the row of requests; `None` when it is now.
    fn reserve(&self) -> Option<Instant> {
        let gap = self.manners.gap;
        if gap.is_zero() {
            return None;
        }
        let now = Instant::now();
        let mut next_at = self.next_at.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next_at.map_or(now, |next| next.max(now));
        *next_at = Some(at + gap);
        (at > now).then_some(at)
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
    explanation: Option<Explanation>,
    body: &[u8],
) -> ExchangeError {
    let (code, message, meaning) = match explanation {
        Some(found) => (found.code, shorten(&found.message), found.meaning),
        None => (None, shorten(&String::from_utf8_lossy(body)), Meaning::Wrong),
    };
    let rate_limited = |default: Duration| {
        let retry_after = retry_after(headers).unwrap_or(default).min(MAX_WAIT);
        ExchangeError::RateLimited { status, retry_after }
    };
    match (status, meaning) {
        (_, Meaning::TooFast(default)) => rate_limited(default),
        (_, Meaning::Denied) => ExchangeError::Refused { status, code, message },
        (429, _) => rate_limited(DEFAULT_RATE_WAIT),
        (418, _) => rate_limited(DEFAULT_BAN_WAIT),
        (403 | 451, _) | (_, Meaning::Blocked) => ExchangeError::Blocked { status, message },
        (500.., _) | (_, Meaning::Later) => ExchangeError::Server { status, message },
        _ => ExchangeError::Refused { status, code, message },
    }
}

/// `Retry-After` in its form of whole seconds, the one that exchanges use; else the seconds until the
/// limit is lifted (`X-RateLimit-Reset`), at least one.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = |name: HeaderName| {
        let text = headers.get(name)?.to_str().ok()?;
        text.trim().parse::<u64>().ok()
    };
    let wait = seconds(RETRY_AFTER).or_else(|| seconds(RATE_RESET).map(|wait| wait.max(1)));
    wait.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn explain(body: &[u8]) -> Option<Explanation> {
        (body == b"busy").then(|| Explanation {
            code: Some(-7),
            message: "busy".into(),
            meaning: Meaning::Later,
        })
    }

    fn class(status: u16, wait: Option<&'static str>, body: &[u8]) -> ExchangeError {
        let mut headers = HeaderMap::new();
        if let Some(wait) = wait {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(wait));
        }
        classify(status, &headers, explain(body), body)
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
    fn the_exchanges_own_words_go_before_the_status() {
        let class = |status, meaning| {
            let found = Explanation { code: None, message: String::new(), meaning };
            classify(status, &HeaderMap::new(), Some(found), b"")
        };
        let wait = Duration::from_mins(10);
        assert_eq!(class(403, Meaning::TooFast(wait)).retry_after(), Some(wait));
        assert_eq!(class(200, Meaning::TooFast(wait)).retry_after(), Some(wait));
        assert!(matches!(class(200, Meaning::Blocked), ExchangeError::Blocked { .. }));
        assert!(matches!(class(200, Meaning::Later), ExchangeError::Server { .. }));
        assert!(matches!(class(200, Meaning::Wrong), ExchangeError::Refused { .. }));
        assert!(matches!(class(403, Meaning::Later), ExchangeError::Blocked { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_keep_their_distance() {
        static MANNERS: Manners =
            Manners { explain, refuses_with_200: false, gap: Duration::from_secs(1) };
        let gap = MANNERS.gap;
        let client = HttpClient::new("http://127.0.0.1:1", gap, &MANNERS).unwrap();
        let now = Instant::now();
        assert_eq!(client.reserve(), None);
        assert_eq!(client.reserve(), Some(now + gap));
        assert_eq!(client.reserve(), Some(now + 2 * gap));
        tokio::time::advance(5 * gap).await;
        assert_eq!(client.reserve(), None);
    }

    #[test]
    fn the_asked_wait_is_kept_within_bounds() {
        let wait = |status, text| class(status, text, b"").retry_after().unwrap();
        assert_eq!(wait(429, Some("7")), Duration::from_secs(7));
        assert_eq!(wait(429, None), DEFAULT_RATE_WAIT);
        assert_eq!(wait(418, Some("soon")), DEFAULT_BAN_WAIT);
        assert_eq!(wait(418, Some("99999999999")), MAX_WAIT);
        let mut headers = HeaderMap::new();
        headers.insert(RATE_RESET, HeaderValue::from_static("0"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(1)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("9"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(9)));
    }

    #[test]
    fn only_encrypted_or_local_requests_are_private() {
        for (url, is_private) in [
            ("https://host.example", true),
            ("http://host.example", false),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("http://127.0.0.1.example", false),
        ] {
            let client = HttpClient::new(url, Duration::from_secs(1), explain).unwrap();
            assert_eq!(client.is_private(), is_private, "{url}");
        }
    }
}
