//! The one list of exchanges, and a feed of any of them.
//!
//! An exchange is a folder of the shape of [`crate::binance`] that describes itself in an [`Adapter`],
//! and one line in each `match` of this file.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, Interval};
use tokio::sync::{mpsc, watch};

use crate::config::{FeedConfig, refuse};
use crate::error::ExchangeError;
use crate::event::FeedEvent;
use crate::feed::run_feed;
use crate::host::Host;
use crate::http::Manners;
use crate::intervals::Intervals;
use crate::socket::Protocol;
use crate::source::CandleSource;
use crate::trade_bars::TradeBars;
use crate::{binance, bybit, coinbase, coinbase_advanced, kraken};

/// What an adapter's folder tells about its exchange.
pub(crate) struct Adapter {
    pub(crate) name: &'static str,
    /// Scheme and host of the public hosts that need no key.
    pub(crate) ws_url: &'static str,
    pub(crate) rest_url: &'static str,
    /// Bitcoin against US dollars, or against Tether where that is the main market.
    pub(crate) symbol: &'static str,
    /// How long its main market may be silent: some send only when something is traded.
    pub(crate) idle_timeout: Duration,
    /// Market time after which a final candle that the stream did not bring can be had by REST.
    pub(crate) final_grace: Duration,
    pub(crate) intervals: &'static Intervals,
    pub(crate) manners: &'static Manners,
    pub(crate) open: fn(&FeedConfig, Arc<dyn Clock>) -> Result<Parts, ExchangeError>,
}

/// What an adapter makes of checked settings.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) protocol: Box<dyn Protocol>,
    pub(crate) source: Arc<dyn CandleSource>,
    /// Makes the final candles where the exchange sends none.
    pub(crate) bars: Option<TradeBars>,
    pub(crate) manners: &'static Manners,
}

/// An exchange that this crate can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exchange {
    /// Binance spot.
    Binance,
    /// Bybit spot.
    Bybit,
    /// Coinbase Exchange: candles built from its trades.
    Coinbase,
    /// Coinbase Advanced Trade: candles confirmed by REST.
    CoinbaseAdvanced,
    /// Kraken spot.
    Kraken,
}

impl Exchange {
    /// All exchanges, by name.
    pub const ALL: [Self; 5] =
        [Self::Binance, Self::Bybit, Self::Coinbase, Self::CoinbaseAdvanced, Self::Kraken];

    const fn adapter(self) -> &'static Adapter {
        match self {
            Self::Binance => &binance::ADAPTER,
            Self::Bybit => &bybit::ADAPTER,
            Self::Coinbase => &coinbase::ADAPTER,
            Self::CoinbaseAdvanced => &coinbase_advanced::ADAPTER,
            Self::Kraken => &kraken::ADAPTER,
        }
    }

    /// Returns the name for settings, logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        self.adapter().name
    }

    /// Returns scheme and host of its public WebSocket.
    pub const fn ws_url(self) -> &'static str {
        self.adapter().ws_url
    }

    /// Returns scheme and host of its public REST interface.
    pub const fn rest_url(self) -> &'static str {
        self.adapter().rest_url
    }

    /// Returns further hosts, for when one of them refuses this machine.
    pub const fn other_hosts(self) -> &'static [Host] {
        self.adapter().manners.hosts
    }

    /// Returns where it lists its symbols.
    pub const fn symbols_listed_at(self) -> &'static str {
        self.adapter().manners.symbols
    }

    /// Tells whether its WebSocket brings final candles of its own, which its trades can be held
    /// against.
    pub const fn tells_finals(self) -> bool {
        !matches!(self, Self::Coinbase | Self::CoinbaseAdvanced)
    }

    /// Returns the candle lengths that a feed of it can have, shortest first.
    pub fn intervals(self) -> Vec<Interval> {
        let table = self.adapter().intervals.iter();
        table.filter_map(|(_, ms)| Interval::from_ms(*ms).ok()).collect()
    }

    /// Returns the settings of a feed of its main Bitcoin market in five minutes.
    pub fn default_config(self) -> FeedConfig {
        let adapter = self.adapter();
        FeedConfig {
            symbol: adapter.symbol.to_owned(),
            ws_url: adapter.ws_url.to_owned(),
            rest_url: adapter.rest_url.to_owned(),
            idle_timeout: adapter.idle_timeout,
            final_grace: adapter.final_grace,
            ..FeedConfig::default()
        }
    }

    /// Prepares a feed and the source of its closed candles, which may be shared with others, so that
    /// its limits hold for all requests together. Nothing is sent before [`ExchangeFeed::run`].
    ///
    /// `clock`: market time, which tells what has closed. `seed`: of the jitter in the pauses.
    ///
    /// # Errors
    /// [`ExchangeError::Config`] when a setting is out of range, or when this exchange has no such
    /// interval or spells no market like this.
    pub fn open(
        self,
        config: FeedConfig,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<(ExchangeFeed, Arc<dyn CandleSource>), ExchangeError> {
        let parts = (self.adapter().open)(&config, Arc::clone(&clock))?;
        let source = Arc::clone(&parts.source);
        Ok((ExchangeFeed { exchange: self, config, clock, parts, seed }, source))
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Exchange {
    type Err = ExchangeError;

    fn from_str(name: &str) -> Result<Self, ExchangeError> {
        let found = Self::ALL.into_iter().find(|exchange| exchange.as_str() == name);
        found.ok_or_else(|| refuse("exchange", name, NAMES))
    }
}

/// For messages; a test compares it with the list.
const NAMES: &str = "binance, bybit, coinbase, coinbase_advanced or kraken";

/// A live feed of one market of any exchange.
#[derive(Debug)]
pub struct ExchangeFeed {
    exchange: Exchange,
    config: FeedConfig,
    clock: Arc<dyn Clock>,
    parts: Parts,
    seed: u64,
}

impl ExchangeFeed {
    /// Returns the exchange that it reads.
    pub const fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// Asks `source` instead of a client of its own, so that limits hold for all who share it.
    #[must_use]
    pub fn with_source(self, source: Arc<dyn CandleSource>) -> Self {
        Self { parts: Parts { source, ..self.parts }, ..self }
    }

    /// Runs until `cancel` becomes true, its sender is gone, or nobody receives `events`.
    ///
    /// Connects, subscribes, reconnects with rising pauses, and fetches by REST every interval that
    /// an outage touched before later candles are told. Finals, backfills and connection events
    /// wait for room in `events`; trades and forming candles are dropped and counted without it.
    /// The future may be dropped at any point: the connection closes, nothing else is left.
    pub async fn run(self, events: mpsc::Sender<FeedEvent>, cancel: watch::Receiver<bool>) {
        let Self { config, clock, parts, seed, .. } = self;
        run_feed(config, clock, parts, seed, events, cancel).await;
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::ManualClock;

    use super::*;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(ManualClock::new(0))
    }

    #[test]
    fn names_round_trip_and_are_listed() {
        for exchange in Exchange::ALL {
            assert_eq!(exchange.as_str().parse::<Exchange>().unwrap(), exchange);
            assert!(NAMES.contains(exchange.as_str()), "{exchange}");
        }
        assert_eq!(NAMES.replace(" or ", ", ").split(", ").count(), Exchange::ALL.len());
        let names = Exchange::ALL.map(Exchange::as_str);
        assert!(names.is_sorted());
        for name in ["", "Binance", "nyse"] {
            let error = name.parse::<Exchange>().unwrap_err();
            assert!(error.to_string().contains("bybit"), "{error}");
        }
    }

    #[test]
    fn the_defaults_of_each_exchange_make_a_feed() {
        for exchange in Exchange::ALL {
            let config = exchange.default_config();
            assert!(exchange.intervals().contains(&config.interval), "{exchange}");
            assert!(exchange.intervals().is_sorted(), "{exchange}");
            let (feed, _source) = exchange.open(config, clock(), 1).unwrap();
            assert_eq!(feed.exchange(), exchange);
        }
    }

    #[test]
    fn other_hosts_are_valid_settings() {
        for exchange in Exchange::ALL {
            for host in exchange.other_hosts() {
                let (ws_url, rest_url) = (host.ws_url.to_owned(), host.rest_url.to_owned());
                let config = FeedConfig { ws_url, rest_url, ..exchange.default_config() };
                config.validate().unwrap();
            }
            assert!(exchange.symbols_listed_at().starts_with("https://"), "{exchange}");
        }
    }

    #[test]
    fn what_an_exchange_does_not_have_is_refused() {
        for exchange in Exchange::ALL {
            let odd = Interval::from_ms(7).unwrap();
            for (key, config) in [
                ("interval", FeedConfig { interval: odd, ..exchange.default_config() }),
                (
                    "symbol",
                    FeedConfig { symbol: "A-B-C/D".to_owned(), ..exchange.default_config() },
                ),
                ("ws_url", FeedConfig { ws_url: String::new(), ..exchange.default_config() }),
            ] {
                let error = exchange.open(config, clock(), 1).unwrap_err();
                assert!(error.to_string().contains(&format!("`{key}`")), "{exchange}: {error}");
            }
        }
    }
}
