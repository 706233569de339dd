//! What the simulated exchange replays, and how.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, CandleError, Clock, Interval};
use forecastd_exchange::{Exchange, ExchangeError, FeedConfig};

use super::venue;

/// What the simulated exchange replays, and how.
#[derive(Debug, Clone)]
pub struct SimExchangeConfig {
    /// The exchange whose protocol it speaks.
    pub exchange: Exchange,
    /// The recording, rising, of one interval.
    pub candles: Arc<[Candle]>,
    /// The market's name in capitals as the exchange spells it, for example `BTCUSDT`, `BTC-USD`
    /// or `BTC/USD`.
    pub symbol: String,
    /// Interval of the recording. Streams and REST offer it and its multiples.
    pub interval: Interval,
    /// Market time.
    pub clock: Arc<dyn Clock>,
    /// Port on loopback, 0 for a free one.
    pub port: u16,
    /// Market time between words about a running candle; zero: at every execution.
    pub forming_every: Duration,
    /// Least real time between words about a running candle and between heartbeats, so that a fast
    /// replay does not flood its clients. Each candle is told running at least once all the same.
    pub forming_every_real: Duration,
    /// Market time from the end of an interval to its final candle, where the exchange marks one.
    pub final_delay: Duration,
    /// Real time between ping frames; `None` where the exchange sends none.
    pub ping_every: Option<Duration>,
    /// Time between heartbeats; `None` where the exchange sends none. Market time in a fast replay,
    /// but not oftener than [`Self::forming_every_real`]; real time in a slow one.
    pub heartbeat_every: Option<Duration>,
    /// Real time after which a connection without a subscription is closed.
    pub subscribe_within: Option<Duration>,
    /// Real time without data and without a word of the client after which a connection is closed.
    pub idle_cut: Option<Duration>,
    /// Real time after which every connection is closed.
    pub connection_life: Option<Duration>,
}

impl SimExchangeConfig {
    /// Settings of the real exchange and its main Bitcoin market for a recording of `interval`.
    pub fn new(
        exchange: Exchange,
        candles: Arc<[Candle]>,
        interval: Interval,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let rules = venue::of(exchange).rules();
        Self {
            exchange,
            candles,
            symbol: exchange.default_config().symbol,
            interval,
            clock,
            port: 0,
            forming_every: rules.forming_every,
            forming_every_real: Duration::from_millis(100),
            final_delay: rules.final_delay,
            ping_every: rules.ping_every,
            heartbeat_every: rules.heartbeat_every,
            subscribe_within: rules.subscribe_within,
            idle_cut: rules.idle_cut,
            connection_life: rules.connection_life,
        }
    }

    pub(super) fn validate(&self) -> Result<(), SimExchangeError> {
        let refuse = |key, value: String, rule| SimExchangeError::Config { key, value, rule };
        if self.symbol != self.symbol.to_ascii_uppercase() {
            return Err(refuse("symbol", self.symbol.clone(), "in capitals"));
        }
        // The adapter knows how its exchange spells markets and which intervals it has.
        let feed = FeedConfig {
            symbol: self.symbol.clone(),
            interval: self.interval,
            ..self.exchange.default_config()
        };
        self.exchange.open(feed, Arc::clone(&self.clock), 0)?;
        if self.candles.is_empty() {
            return Err(refuse("candles", "empty".to_owned(), "at least one candle"));
        }
        let mut last_ms = -1;
        for candle in self.candles.iter() {
            candle.validate(self.interval)?;
            if candle.open_time_ms <= last_ms {
                let value = candle.open_time_ms.to_string();
                return Err(refuse("candles", value, "rising in open time"));
            }
            last_ms = candle.open_time_ms;
        }
        let spans = [
            ("ping_every", self.ping_every),
            ("heartbeat_every", self.heartbeat_every),
            ("subscribe_within", self.subscribe_within),
            ("idle_cut", self.idle_cut),
            ("connection_life", self.connection_life),
        ];
        for (key, span) in spans {
            if span.is_some_and(|span| span.is_zero()) {
                return Err(refuse(key, "0s".to_owned(), "above zero"));
            }
        }
        Ok(())
    }
}

/// Why the simulated exchange cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SimExchangeError {
    /// A setting is wrong.
    #[error("simulated exchange setting `{key}` is {value}, must be {rule}")]
    Config {
        /// Name of the setting.
        key: &'static str,
        /// The refused value.
        value: String,
        /// What is accepted.
        rule: &'static str,
    },
    /// The exchange has no such market or interval.
    #[error("simulated exchange cannot have this market")]
    Market(#[from] ExchangeError),
    /// A candle of the recording breaks a rule.
    #[error("recording of the simulated exchange is not valid")]
    Candle(#[from] CandleError),
    /// The port cannot be had.
    #[error("simulated exchange cannot listen on {address}, choose another port")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}
