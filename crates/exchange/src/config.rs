//! Settings of one feed.

use std::time::Duration;

use forecastd_core::Interval;

use crate::error::ExchangeError;
use crate::proxy::ProxyUrl;

/// Greatest number of candles that one outage may ask for; 100 000 take 100 requests.
const MAX_BACKFILL_LIMIT: u32 = 100_000;

/// Usual time after which an exchange's final candle counts as late.
pub(crate) const FINAL_GRACE: Duration = Duration::from_secs(5);

/// What a feed reads and how patient it is.
///
/// Spans are real time unless they say market time: sockets live in real time even when the
/// embedded network runs market time hundreds of times faster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedConfig {
    /// The exchange's own spelling of the market, for example `BTCUSDT`, `BTC-USD` or `BTC/USD`.
    pub symbol: String,
    /// Length of the candles.
    pub interval: Interval,
    /// Scheme, host and port of the WebSocket, `wss://` or `ws://`, without a path.
    pub ws_url: String,
    /// Scheme, host and port of the REST interface, `https://` or `http://`, without a path.
    pub rest_url: String,
    /// The proxy for both, `None` for the direct way. The environment's proxies are not used.
    pub proxy: Option<ProxyUrl>,
    /// Whether to subscribe to single trades as well.
    pub trades: bool,
    /// Longest time without market data before the connection counts as dead. Pings do not count:
    /// a connection with a silent subscription still answers them.
    pub idle_timeout: Duration,
    /// Longest time for connecting, and again for the answer to the subscription.
    pub connect_timeout: Duration,
    /// Longest time for one REST request.
    pub request_timeout: Duration,
    /// First pause after a failure.
    pub backoff_min: Duration,
    /// Longest pause after a failure. A connection must last this long to count as a success.
    pub backoff_max: Duration,
    /// Age at which a connection is replaced on purpose, before the exchange ends it.
    pub max_connection_age: Duration,
    /// Market time to wait for the final candle after its interval closed before asking by REST.
    pub final_grace: Duration,
    /// Most intervals that are fetched after an outage; older ones become a gap.
    pub max_backfill: u32,
    /// First open time that the owner lacks; `None` starts with the interval that is running.
    pub resume_from_ms: Option<i64>,
}

impl Default for FeedConfig {
    /// Binance's public market data hosts, BTC against USDT in five minutes.
    fn default() -> Self {
        Self {
            symbol: "BTCUSDT".to_owned(),
            interval: Interval::FIVE_MINUTES,
            ws_url: "wss://data-stream.binance.vision".to_owned(),
            rest_url: "https://data-api.binance.vision".to_owned(),
            proxy: None,
            trades: false,
            idle_timeout: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_mins(1),
            max_connection_age: Duration::from_hours(23),
            final_grace: FINAL_GRACE,
            max_backfill: 10_000,
            resume_from_ms: None,
        }
    }
}

impl FeedConfig {
    /// Checks every setting, apart from what depends on the exchange: its spelling of symbols and its
    /// intervals are checked where its feed is made.
    ///
    /// # Errors
    /// [`ExchangeError::Config`] names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), ExchangeError> {
        let hour = Duration::from_hours(1);
        let milli = Duration::from_millis(1);
        check_symbol(&self.symbol, "-/", "1 to 32 letters and digits, `-` or `/` between them")?;
        check_url("ws_url", &self.ws_url, ["wss://", "ws://"], "wss://host or ws://host")?;
        check_url(
            "rest_url",
            &self.rest_url,
            ["https://", "http://"],
            "https://host or http://host",
        )?;
        check_span("idle_timeout", self.idle_timeout, milli..=hour, "1ms..1h")?;
        check_span("connect_timeout", self.connect_timeout, milli..=hour, "1ms..1h")?;
        check_span("request_timeout", self.request_timeout, milli..=hour, "1ms..1h")?;
        check_span("backoff_min", self.backoff_min, milli..=hour, "1ms..1h")?;
        check_span("backoff_max", self.backoff_max, self.backoff_min..=hour, "backoff_min..1h")?;
        let day = hour * 24;
        check_span("max_connection_age", self.max_connection_age, milli..=day, "1ms..24h")?;
        check_span("final_grace", self.final_grace, Duration::ZERO..=hour, "0s..1h")?;
        if !(1..=MAX_BACKFILL_LIMIT).contains(&self.max_backfill) {
            return Err(refuse("max_backfill", &self.max_backfill, "1..100000 intervals"));
        }
        if let Some(from_ms) = self.resume_from_ms
            && (from_ms < 0 || !self.interval.is_aligned(from_ms))
        {
            return Err(refuse(
                "resume_from_ms",
                &from_ms,
                "a multiple of the interval, not negative",
            ));
        }
        Ok(())
    }
}

/// Checks and copies a symbol: letters and digits, with any of `separators` only between them.
pub(crate) fn check_symbol(
    symbol: &str,
    separators: &str,
    rule: &'static str,
) -> Result<String, ExchangeError> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_good =
        symbol.len() <= 32 && symbol.split(|letter| separators.contains(letter)).all(is_word);
    if is_good { Ok(symbol.to_owned()) } else { Err(refuse("symbol", symbol, rule)) }
}

fn check_url(
    key: &'static str,
    url: &str,
    schemes: [&str; 2],
    rule: &'static str,
) -> Result<(), ExchangeError> {
    let rest = schemes.into_iter().find_map(|scheme| url.strip_prefix(scheme));
    let is_host = |rest: &str| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']);
    if rest.is_some_and(is_host) { Ok(()) } else { Err(refuse(key, url, rule)) }
}

fn check_span(
    key: &'static str,
    span: Duration,
    range: std::ops::RangeInclusive<Duration>,
    rule: &'static str,
) -> Result<(), ExchangeError> {
    if range.contains(&span) { Ok(()) } else { Err(refuse(key, &format!("{span:?}"), rule)) }
}

pub(crate) fn refuse(
    key: &'static str,
    value: &(impl ToString + ?Sized),
    rule: &'static str,
) -> ExchangeError {
    ExchangeError::Config { key, value: value.to_string(), rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        FeedConfig::default().validate().unwrap();
    }

    #[test]
    fn the_spellings_of_all_exchanges_are_valid() {
        for symbol in ["BTCUSDT", "BTC-USD", "BTC/USD", "1INCH-USD"] {
            let config = FeedConfig { symbol: symbol.to_owned(), ..FeedConfig::default() };
            config.validate().unwrap();
        }
    }

    type Damage = fn(&mut FeedConfig);

    #[test]
    fn each_bad_setting_is_named() {
        let broken: [(&str, Damage); 14] = [
            ("symbol", |c| c.symbol = "BTC?USDT".into()),
            ("symbol", |c| c.symbol = "../USDT".into()),
            ("symbol", |c| c.symbol = "BTC-".into()),
            ("symbol", |c| c.symbol = String::new()),
            ("ws_url", |c| c.ws_url = "https://host".into()),
            ("ws_url", |c| c.ws_url = "wss://host/ws".into()),
            ("rest_url", |c| c.rest_url = "wss://host".into()),
            ("rest_url", |c| c.rest_url = "https://user@host".into()),
            ("idle_timeout", |c| c.idle_timeout = Duration::ZERO),
            ("backoff_max", |c| c.backoff_max = Duration::from_millis(1)),
            ("max_connection_age", |c| c.max_connection_age *= 2),
            ("final_grace", |c| c.final_grace = Duration::from_secs(4000)),
            ("max_backfill", |c| c.max_backfill = 0),
            ("resume_from_ms", |c| c.resume_from_ms = Some(1)),
        ];
        for (key, damage) in broken {
            let mut config = FeedConfig::default();
            damage(&mut config);
            let error = config.validate().unwrap_err();
            assert!(error.to_string().contains(&format!("`{key}`")), "{key}: {error}");
            assert!(!error.is_retryable());
        }
    }
}
