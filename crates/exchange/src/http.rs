//! One bounded GET: size, time, pace, redirects, and the meaning of status codes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use tokio::time::sleep_until;

use crate::config::{FeedConfig, refuse};
use crate::error::ExchangeError;
use crate::host::{Host, advice};
use crate::message::shorten;
use crate::pace::Pace;
use crate::proxy::ProxyUrl;
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
    /// What the exchange counts beside that.
    pub(crate) weight: Option<WeightLimit>,
    /// Where else the exchange can be had.
    pub(crate) hosts: &'static [Host],
    /// Where the exchange lists its symbols.
    pub(crate) symbols: &'static str,
}

/// A weight that the exchange counts by the minute of its clock.
#[derive(Debug)]
pub(crate) struct WeightLimit {
    /// The header that tells what is used up.
    pub(crate) header: &'static str,
    /// From here on the rest of the minute is waited for.
    pub(crate) most: u32,
}

/// The way of a client to its host.
#[derive(Debug, Clone)]
pub(crate) struct Way<'a> {
    pub(crate) rest_url: &'a str,
    /// Real time for one request.
    pub(crate) timeout: Duration,
    pub(crate) proxy: Option<&'a ProxyUrl>,
}

impl<'a> From<&'a FeedConfig> for Way<'a> {
    fn from(config: &'a FeedConfig) -> Self {
        Self {
            rest_url: &config.rest_url,
            timeout: config.request_timeout,
            proxy: config.proxy.as_ref(),
        }
    }
}

impl fmt::Debug for Manners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manners").field("gap", &self.gap).finish_non_exhaustive()
    }
}

/// A client for one host. After "too many requests" it refuses further calls by itself until the
/// asked time has passed: going on would turn into a ban.
pub(crate) struct HttpClient {
    client: Client,
    base: Url,
    manners: &'static Manners,
    pace: Arc<Pace>,
}

impl fmt::Debug for HttpClient {
    /// Without the client, which would show a proxy's password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, pace) = (self.base.as_str(), &self.pace);
        f.debug_struct("HttpClient")
            .field("base", &base)
            .field("pace", pace)
            .finish_non_exhaustive()
    }
}

impl HttpClient {
    pub(crate) fn new(way: &Way<'_>, manners: &'static Manners) -> Result<Self, ExchangeError> {
        install_tls();
        let Way { rest_url, timeout, proxy } = *way;
        let rule = "https://host or http://host";
        let base = Url::parse(rest_url).map_err(|_| refuse("rest_url", rest_url, rule))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(refuse("rest_url", rest_url, rule));
        }
        let builder = Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout)
            .redirect(Policy::none())
            .user_agent(concat!("forecastd/", env!("CARGO_PKG_VERSION")));
        // The WebSocket does not read the environment's proxies; both go the same way.
        let builder = match proxy {
            None => builder.no_proxy(),
            Some(proxy) => builder.proxy(proxy.for_requests()?),
        };
        let client = builder
            .build()
            .map_err(|source| ExchangeError::Transport { path: "/".to_owned(), source })?;
        let through = proxy.map(ProxyUrl::to_string).unwrap_or_default();
        let pace = Pace::of(&format!("{base} {through}"));
        Ok(Self { client, base, manners, pace })
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

    /// Returns the weight of the host's running minute as the last answer told it.
    pub(crate) fn used_weight(&self) -> u32 {
        self.pace.used_weight()
    }

    /// Fetches `path` with `query` and returns the body of a 200 answer.
    pub(crate) async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<u8>, ExchangeError> {
        self.check_gate()?;
        if let Some(at) = self.pace.reserve(self.manners.gap) {
            sleep_until(at).await;
            self.check_gate()?;
        }
        let mut url = self.base.clone();
        url.set_path(path);
        url.query_pairs_mut().extend_pairs(query);
        let sent = self.client.get(url).send().await;
        let mut response = sent.map_err(|source| transport(path, source))?;
        self.weigh(response.headers());
        let status = response.status().as_u16();
        if status == 200 {
            let body = read_body(&mut response, path, MAX_BODY_BYTES).await?;
            let words = if self.manners.refuses_with_200 { self.explain(&body) } else { None };
            return match words {
                None => Ok(body),
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
        let error = classify(status, headers, explanation, body, self.manners);
        if let ExchangeError::RateLimited { status, retry_after } = error {
            self.pace.close(retry_after, status);
        }
        error
    }

    /// Waits for the exchange's next minute before the limit of this one is reached.
    fn weigh(&self, headers: &HeaderMap) {
        let Some(WeightLimit { header, most }) = &self.manners.weight else {
            return;
        };
        let text = headers.get(*header).and_then(|value| value.to_str().ok());
        if let Some(weight) = text.and_then(|text| text.parse::<u32>().ok()) {
            self.pace.set_used_weight(weight);
            if weight >= *most {
                let wait = rest_of_minute(headers);
                tracing::warn!(weight, ?wait, "most of the request weight is used up, waiting");
                self.pace.hold(wait);
            }
        }
    }

    fn check_gate(&self) -> Result<(), ExchangeError> {
        match self.pace.closed_for() {
            None => Ok(()),
            Some((retry_after, status)) => Err(ExchangeError::RateLimited { status, retry_after }),
        }
    }
}

/// Returns how much is left of the minute of the exchange's clock, by its header `Date`.
fn rest_of_minute(headers: &HeaderMap) -> Duration {
    let date = headers.get(DATE).and_then(|value| value.to_str().ok());
    let second = date
        .and_then(|text| DateTime::parse_from_rfc2822(text).ok())
        .map_or(0, |date| date.timestamp().rem_euclid(60));
    Duration::from_secs(60_u64.saturating_sub(second.unsigned_abs()))
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

/// Says what a refusal means: the exchange's own words go before the status.
pub(crate) fn classify(
    status: u16,
    headers: &HeaderMap,
    explanation: Option<Explanation>,
    body: &[u8],
    manners: &Manners,
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
        (403 | 451, _) | (_, Meaning::Blocked) => {
            ExchangeError::Blocked { status, message, advice: advice(manners.hosts) }
        }
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
    use tokio::time::Instant;

    use super::*;

    const MANNERS: Manners = Manners {
        explain,
        refuses_with_200: false,
        gap: Duration::ZERO,
        weight: None,
        hosts: &[],
        symbols: "nowhere",
    };

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
        classify(status, &headers, explain(body), body, &MANNERS)
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
            classify(status, &HeaderMap::new(), Some(found), b"", &MANNERS)
        };
        let wait = Duration::from_mins(10);
        assert_eq!(class(403, Meaning::TooFast(wait)).retry_after(), Some(wait));
        assert_eq!(class(200, Meaning::TooFast(wait)).retry_after(), Some(wait));
        assert!(matches!(class(200, Meaning::Blocked), ExchangeError::Blocked { .. }));
        assert!(matches!(class(200, Meaning::Later), ExchangeError::Server { .. }));
        assert!(matches!(class(200, Meaning::Wrong), ExchangeError::Refused { .. }));
        assert!(matches!(class(403, Meaning::Later), ExchangeError::Blocked { .. }));
    }

    #[test]
    fn the_rest_of_the_exchanges_minute_is_read_from_its_clock() {
        let rest = |date: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static(date));
            rest_of_minute(&headers).as_secs()
        };
        assert_eq!(rest("Thu, 26 Nov 2026 03:18:02 GMT"), 58);
        assert_eq!(rest("Thu, 26 Nov 2026 03:18:59 GMT"), 1);
        assert_eq!(rest("Thu, 26 Nov 2026 03:18:00 GMT"), 60);
        assert_eq!(rest("soon"), 60);
        assert_eq!(rest_of_minute(&HeaderMap::new()).as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_minute_is_waited_for_before_the_weight_is_used_up() {
        const WEIGHED: Manners = Manners {
            weight: Some(WeightLimit { header: "x-mbx-used-weight-1m", most: 4_800 }),
            ..MANNERS
        };
        let timeout = Duration::from_secs(1);
        let way = Way { rest_url: "http://weighed.made.up", timeout, proxy: None };
        let client = HttpClient::new(&way, &WEIGHED).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("Thu, 26 Nov 2026 03:18:20 GMT"));
        headers.insert("x-mbx-used-weight-1m", HeaderValue::from_static("4799"));
        client.weigh(&headers);
        assert_eq!((client.used_weight(), client.pace.reserve(Duration::ZERO)), (4_799, None));
        headers.insert("x-mbx-used-weight-1m", HeaderValue::from_static("4800"));
        client.weigh(&headers);
        let wait = client.pace.reserve(Duration::ZERO).unwrap() - Instant::now();
        assert_eq!((client.used_weight(), wait), (4_800, Duration::from_secs(40)));
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
            let timeout = Duration::from_secs(1);
            let reach = Way { rest_url: url, timeout, proxy: None };
            let client = HttpClient::new(&reach, &MANNERS).unwrap();
            assert_eq!(client.is_private(), is_private, "{url}");
        }
    }
}
