//! Bybit v5, spot: the public WebSocket topics and REST interface.
//!
//! Source: `docs/v5/ws/connect`, `ws/public/kline`, `ws/public/trade`, `market/kline` of
//! `bybit-exchange.github.io`. Bybit marks final candles (`confirm`), numbers its trades without
//! promising it, and wants a JSON ping from its clients.

pub mod message;
pub mod rest;
pub mod subscription;

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, Interval};

pub use self::rest::BybitRest;
use self::subscription::Subscription;
use crate::config::{FINAL_GRACE, FeedConfig, check_symbol};
use crate::error::ExchangeError;
use crate::exchange::{Adapter, Parts};
use crate::host::Host;
use crate::intervals;

/// The candle lengths that lie on the grid from the Unix epoch. (Its `W` and `M` do not.)
const INTERVALS: [(&str, i64); 11] = [
    ("1", 60_000),
    ("3", 180_000),
    ("5", 300_000),
    ("15", 900_000),
    ("30", 1_800_000),
    ("60", 3_600_000),
    ("120", 7_200_000),
    ("240", 14_400_000),
    ("360", 21_600_000),
    ("720", 43_200_000),
    ("D", 86_400_000),
];
const INTERVAL_RULE: &str = "a Bybit interval of 1m..1d";

const HOSTS: [Host; 2] = [
    Host {
        ws_url: "wss://stream.bybit.com",
        rest_url: "https://api.bytick.com",
        note: "the second name of the REST host",
    },
    Host {
        ws_url: "wss://stream.bybit.kz",
        rest_url: "https://api.bybit.kz",
        note: "for Kazakhstan; other countries have hosts alike",
    },
];

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "bybit",
    ws_url: "wss://stream.bybit.com",
    rest_url: "https://api.bybit.com",
    symbol: "BTCUSDT",
    // Forming candles come at least once a minute.
    idle_timeout: Duration::from_mins(2),
    final_grace: FINAL_GRACE,
    intervals: &INTERVALS,
    manners: &rest::MANNERS,
    open,
};

fn open(config: &FeedConfig, clock: Arc<dyn Clock>) -> Result<Parts, ExchangeError> {
    intervals::check(config, &INTERVALS, INTERVAL_RULE)?;
    checked_symbol(&config.symbol)?;
    let rest = BybitRest::from_config(config, clock)?;
    let protocol = Box::new(Subscription::new(config));
    Ok(Parts { protocol, source: Arc::new(rest), bars: None, manners: &rest::MANNERS })
}

fn checked_symbol(symbol: &str) -> Result<String, ExchangeError> {
    check_symbol(symbol, "", "1 to 32 letters and digits").map(|text| text.to_ascii_uppercase())
}

/// Returns Bybit's name of an interval, `None` where it has no such candles.
pub fn interval_name(interval: Interval) -> Option<&'static str> {
    intervals::name_in(&INTERVALS, interval)
}

/// Returns the interval of a Bybit name: minutes, or `D`.
pub fn interval_of(name: &str) -> Option<Interval> {
    intervals::interval_in(&INTERVALS, name)
}
