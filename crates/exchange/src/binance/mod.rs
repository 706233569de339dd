//! Binance spot: the public market data streams and REST interface.
//!
//! Source: `web-socket-streams.md`, `rest-api.md` and `errors.md` of `binance/binance-spot-api-docs`.
//! A further exchange is a folder of the same shape: `message` reads what comes, `subscription`
//! writes what goes out, `rest` fetches closed candles, and this file ties them to the shared loop.

pub mod message;
pub mod rest;
pub mod subscription;

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, Interval};
use tokio::sync::{mpsc, watch};

pub use self::rest::BinanceRest;
use self::subscription::Subscription;
use crate::config::{FINAL_GRACE, FeedConfig, check_symbol};
use crate::error::ExchangeError;
use crate::event::FeedEvent;
use crate::exchange::{Adapter, Parts};
use crate::feed::run_feed;
use crate::host::Host;
use crate::intervals;

/// The candle lengths that Binance has and that lie on the grid from the Unix epoch. (Its `3d`,
/// `1w` and `1M` do not.)
const INTERVALS: [(&str, i64); 13] = [
    ("1s", 1_000),
    ("1m", 60_000),
    ("3m", 180_000),
    ("5m", 300_000),
    ("15m", 900_000),
    ("30m", 1_800_000),
    ("1h", 3_600_000),
    ("2h", 7_200_000),
    ("4h", 14_400_000),
    ("6h", 21_600_000),
    ("8h", 28_800_000),
    ("12h", 43_200_000),
    ("1d", 86_400_000),
];

const INTERVAL_RULE: &str = "a Binance interval of 1s..1d";

/// The default hosts give market data only.
const HOSTS: [Host; 2] = [
    Host {
        ws_url: "wss://stream.binance.com:443",
        rest_url: "https://api.binance.com",
        note: "the main hosts",
    },
    Host {
        ws_url: "wss://stream.binance.us:9443",
        rest_url: "https://api.binance.us",
        note: "for the United States, a thin market with prices of its own",
    },
];

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "binance",
    ws_url: "wss://data-stream.binance.vision",
    rest_url: "https://data-api.binance.vision",
    symbol: "BTCUSDT",
    idle_timeout: Duration::from_mins(1),
    final_grace: FINAL_GRACE,
    intervals: &INTERVALS,
    manners: &rest::MANNERS,
    open: |config, clock| {
        let feed = BinanceFeed::new(config.clone(), clock, 0)?;
        Ok(feed.into_parts())
    },
};

/// Returns Binance's name of an interval, `None` where it has no such candles.
pub fn interval_name(interval: Interval) -> Option<&'static str> {
    intervals::name_in(&INTERVALS, interval)
}

/// Returns the interval of a Binance name; case matters (`1m` is a minute, `1M` a month).
pub fn interval_of(name: &str) -> Option<Interval> {
    intervals::interval_in(&INTERVALS, name)
}

fn checked_symbol(symbol: &str) -> Result<String, ExchangeError> {
    check_symbol(symbol, "", "1 to 32 letters and digits")
}

/// A live feed of one Binance market.
#[derive(Debug)]
pub struct BinanceFeed {
    config: FeedConfig,
    clock: Arc<dyn Clock>,
    rest: Arc<BinanceRest>,
    seed: u64,
}

impl BinanceFeed {
    /// Prepares a feed; nothing is sent before [`BinanceFeed::run`].
    ///
    /// `clock`: market time, which tells what has closed. `seed`: of the jitter in the pauses.
    ///
    /// # Errors
    /// [`ExchangeError::Config`] when a setting is out of range or Binance has no such interval.
    pub fn new(
        config: FeedConfig,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self, ExchangeError> {
        intervals::check(&config, &INTERVALS, INTERVAL_RULE)?;
        checked_symbol(&config.symbol)?;
        let rest = BinanceRest::from_config(&config, Arc::clone(&clock))?;
        Ok(Self { config, clock, rest: Arc::new(rest), seed })
    }

    /// Returns the REST side of this feed, to share its limits with other requests.
    pub fn rest(&self) -> Arc<BinanceRest> {
        Arc::clone(&self.rest)
    }

    /// Runs until `cancel` becomes true, its sender is gone, or nobody receives `events`.
    ///
    /// Connects, subscribes, reconnects with rising pauses, and fetches by REST every interval that
    /// an outage touched before later candles are told. Finals, backfills and connection events
    /// wait for room in `events`; trades and forming candles are dropped and counted without it.
    /// The future may be dropped at any point: the connection closes, nothing else is left.
    pub async fn run(self, events: mpsc::Sender<FeedEvent>, cancel: watch::Receiver<bool>) {
        let (config, clock, seed) = (self.config.clone(), Arc::clone(&self.clock), self.seed);
        run_feed(config, clock, self.into_parts(), seed, events, cancel).await;
    }

    fn into_parts(self) -> Parts {
        let protocol = Box::new(Subscription::new(&self.config));
        Parts { protocol, source: self.rest, bars: None, manners: &rest::MANNERS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_names_round_trip() {
        for (name, ms) in INTERVALS {
            let interval = interval_of(name).unwrap();
            assert_eq!(interval.as_ms(), ms);
            assert_eq!(interval_name(interval), Some(name));
        }
        for name in ["1M", "5M", "1w", "3d", "10m", "", "m"] {
            assert_eq!(interval_of(name), None, "{name}");
        }
    }
}
