//! Coin Metrics: numeric series beside the candles, by its REST interface of version 4.
//!
//! Source: `docs.coinmetrics.io` (API conventions, time series, rate limits). Rows come in pages that
//! name the next one; numbers are texts, times have nine digits. The community host needs no key and
//! knows fewer series; the other one takes the key as a parameter of the request, which is why no
//! address of a request ever gets into an error or a log.

pub mod message;
pub mod rest;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use forecastd_core::Interval;

pub use self::rest::CoinMetrics;
use crate::config::refuse;
use crate::error::ExchangeError;
use crate::intervals::name_in;

/// Host for requests with a key.
pub const API_URL: &str = "https://api.coinmetrics.io";
/// Host for requests without a key.
pub const COMMUNITY_URL: &str = "https://community-api.coinmetrics.io";

/// Spacing of candles and metrics.
const FREQUENCIES: [(&str, i64); 9] = [
    ("1s", 1_000),
    ("1m", 60_000),
    ("5m", 300_000),
    ("10m", 600_000),
    ("15m", 900_000),
    ("30m", 1_800_000),
    ("1h", 3_600_000),
    ("4h", 14_400_000),
    ("1d", 86_400_000),
];
/// Spacing to which samples can be thinned out.
const GRANULARITIES: [(&str, i64); 3] = [("1m", 60_000), ("1h", 3_600_000), ("1d", 86_400_000)];
/// Longest name of a market, an asset or a metric.
const MAX_NAME: usize = 96;
/// Longest delay of a publication.
const MAX_DELAY: Duration = Duration::from_hours(24 * 31);

/// What the rows of an end point are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Candles: the metric is one of their fields.
    Candles,
    /// Metrics, which are asked for by name.
    Metrics,
    /// Samples of a state, at their own times unless thinned out.
    Samples,
}

/// The end points whose rows are series: one value a time.
const ENDPOINTS: [(&str, &str, Kind); 13] = [
    ("market-candles", "markets", Kind::Candles),
    ("pair-candles", "pairs", Kind::Candles),
    ("asset-metrics", "assets", Kind::Metrics),
    ("exchange-metrics", "exchanges", Kind::Metrics),
    ("exchange-asset-metrics", "exchange_assets", Kind::Metrics),
    ("pair-metrics", "pairs", Kind::Metrics),
    ("market-metrics", "markets", Kind::Metrics),
    ("institution-metrics", "institutions", Kind::Metrics),
    ("market-openinterest", "markets", Kind::Samples),
    ("market-funding-rates", "markets", Kind::Samples),
    ("market-contract-prices", "markets", Kind::Samples),
    ("market-implied-volatility", "markets", Kind::Samples),
    ("market-quotes", "markets", Kind::Samples),
];
const ENDPOINT_RULE: &str = "market-candles, pair-candles, asset-metrics, exchange-metrics, \
     exchange-asset-metrics, pair-metrics, market-metrics, institution-metrics, \
     market-openinterest, market-funding-rates, market-contract-prices, \
     market-implied-volatility or market-quotes";

/// An end point with one value a time. Trades and liquidations have many and are not among them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Endpoint(&'static (&'static str, &'static str, Kind));

impl Endpoint {
    /// Returns its name, such as `market-candles`.
    pub const fn as_str(self) -> &'static str {
        self.0.0
    }

    /// Returns the parameter that names the market, asset or pair.
    const fn selector(self) -> &'static str {
        self.0.1
    }

    const fn kind(self) -> Kind {
        self.0.2
    }

    /// Returns the name that a row of this end point carries: `market` for `markets`.
    fn row_key(self) -> &'static str {
        self.selector().trim_end_matches('s')
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.as_str())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Endpoint {
    type Err = ExchangeError;

    fn from_str(text: &str) -> Result<Self, ExchangeError> {
        let found = ENDPOINTS.iter().find(|(name, ..)| *name == text);
        found.map(Self).ok_or_else(|| refuse("endpoint", text, ENDPOINT_RULE))
    }
}

/// One series of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesConfig {
    /// The end point.
    pub endpoint: Endpoint,
    /// The market, asset, pair, exchange or institution, as Coin Metrics spells it:
    /// `binance-btc-usdt-spot`, `btc`.
    pub of: String,
    /// The metric, or the field of a row: `price_close`, `ReferenceRateUSD`, `rate`.
    pub metric: String,
    /// Spacing of the values; may be absent for samples (open interest, rates, prices, quotes), which
    /// then come at their own times.
    pub every: Option<Interval>,
    /// Time between the end of a value's interval and its publication.
    pub publication_delay: Duration,
}

impl SeriesConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`ExchangeError::Config`] names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), ExchangeError> {
        let is_name = |text: &str, signs: &[u8]| {
            (1..=MAX_NAME).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || signs.contains(&b))
        };
        if !is_name(&self.of, b"-_.") {
            return Err(refuse("of", &self.of, "1 to 96 letters, digits, `-`, `_` or `.`"));
        }
        if !is_name(&self.metric, b"_") {
            return Err(refuse("metric", &self.metric, "1 to 96 letters, digits or `_`"));
        }
        if self.publication_delay > MAX_DELAY {
            let delay = format!("{:?}", self.publication_delay);
            return Err(refuse("publication_delay", &delay, "at most 31 days"));
        }
        self.every_name().map(|_| ())
    }

    /// Returns the parameter that sets the spacing, with its value.
    fn every_name(&self) -> Result<Option<(&'static str, &'static str)>, ExchangeError> {
        let (key, table, rule) = match self.endpoint.kind() {
            Kind::Candles | Kind::Metrics => {
                ("frequency", &FREQUENCIES[..], "1s, 1m, 5m, 10m, 15m, 30m, 1h, 4h or 1d")
            }
            Kind::Samples => ("granularity", &GRANULARITIES[..], "1m, 1h, 1d or not set"),
        };
        let Some(every) = self.every else {
            return match self.endpoint.kind() {
                Kind::Samples => Ok(None),
                Kind::Candles | Kind::Metrics => Err(refuse("every", "not set", rule)),
            };
        };
        let name = name_in(table, every);
        name.map(|name| Some((key, name))).ok_or_else(|| refuse("every", &every, rule))
    }

    fn every_ms(&self) -> i64 {
        self.every.map_or(0, Interval::as_ms)
    }

    fn delay_ms(&self) -> i64 {
        i64::try_from(self.publication_delay.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The key of an account. `Debug` does not show it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Wraps a key.
    ///
    /// # Errors
    /// [`ExchangeError::Config`] when it cannot be one; the text is not repeated.
    pub fn new(text: &str) -> Result<Self, ExchangeError> {
        let text = text.trim();
        if (8..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err(refuse("api_key", "(not shown)", "8 to 256 printable characters without blanks"))
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(set)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SeriesConfig {
        SeriesConfig {
            endpoint: "market-candles".parse().unwrap(),
            of: "binance-btc-usdt-spot".to_owned(),
            metric: "price_close".to_owned(),
            every: Some(Interval::FIVE_MINUTES),
            publication_delay: Duration::from_secs(30),
        }
    }

    #[test]
    fn all_end_points_are_read_and_others_are_refused_with_the_list() {
        for (name, selector, _) in ENDPOINTS {
            let endpoint: Endpoint = name.parse().unwrap();
            assert_eq!((endpoint.to_string().as_str(), endpoint.selector()), (name, selector));
            assert!(ENDPOINT_RULE.contains(name));
        }
        assert_eq!("asset-metrics".parse::<Endpoint>().unwrap().row_key(), "asset");
        for name in ["market-trades", "market-liquidations", "", "../catalog"] {
            let error = name.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("`endpoint`") && error.contains("pair-metrics"), "{error}");
        }
    }

    type Damage = fn(&mut SeriesConfig);

    #[test]
    fn each_bad_setting_is_named() {
        config().validate().unwrap();
        let broken: [(&str, Damage); 9] = [
            ("of", |c| c.of = "a&api_key=b".into()),
            ("of", |c| c.of = String::new()),
            ("of", |c| c.of = "a,b".into()),
            ("metric", |c| c.metric = "a,b".into()),
            ("metric", |c| c.metric = "x".repeat(97)),
            ("every", |c| c.every = None),
            ("every", |c| c.every = Some(Interval::from_ms(120_000).unwrap())),
            ("every", |c| c.endpoint = "market-quotes".parse().unwrap()),
            ("publication_delay", |c| c.publication_delay = MAX_DELAY * 2),
        ];
        for (key, damage) in broken {
            let mut config = config();
            damage(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
        }
        let raw = SeriesConfig {
            endpoint: "market-funding-rates".parse().unwrap(),
            every: None,
            ..config()
        };
        raw.validate().unwrap();
    }

    #[test]
    fn a_key_shows_itself_nowhere() {
        let key = ApiKey::new(" s3cr3t-k3y\n").unwrap();
        assert_eq!(key.expose(), "s3cr3t-k3y");
        assert!(!format!("{key:?}").contains("s3cr3t"));
        for text in ["", "short", "with blank in it", "schlüssel-schlüssel"] {
            let error = ApiKey::new(text).unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
