//! Kraken spot: WebSocket version 2 live, version 1 messages readable as well, and the REST interface.
//!
//! Source: `docs.kraken.com` (WebSocket v2 `ohlc`, `trade`, `status`; REST `OHLC`, `Trades`). Kraken does
//! not say which candle is final and does not send a closed one again: a later one proves it, else the
//! clock and REST do. It sends a heartbeat every second by itself, so that no ping of this side is
//! needed. REST has the newest 720 candles and nothing before them; an older outage becomes a gap.
//!
//! A market has three spellings: `BTC/USD` here and in version 2, `XBT/USD` in version 1, `XBTUSD` in
//! REST, whose answer may call it `XXBTZUSD`.

pub mod message;
pub mod rest;
pub mod subscription;

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, Interval};

pub use self::rest::KrakenRest;
use self::subscription::Subscription;
use crate::config::{FINAL_GRACE, FeedConfig, check_symbol, refuse};
use crate::error::ExchangeError;
use crate::exchange::{Adapter, Parts};
use crate::host::Host;
use crate::intervals;

/// Minutes of the candle lengths that lie on the grid from the Unix epoch and within a week.
const INTERVALS: [(&str, i64); 7] = [
    ("1", 60_000),
    ("5", 300_000),
    ("15", 900_000),
    ("30", 1_800_000),
    ("60", 3_600_000),
    ("240", 14_400_000),
    ("1440", 86_400_000),
];
const INTERVAL_RULE: &str = "a Kraken interval of 1m, 5m, 15m, 30m, 1h, 4h or 1d";

/// There is one public host of each kind.
const HOSTS: [Host; 0] = [];

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "kraken",
    ws_url: "wss://ws.kraken.com",
    rest_url: "https://api.kraken.com",
    symbol: "BTC/USD",
    // Sends only when something is traded.
    idle_timeout: Duration::from_mins(5),
    final_grace: FINAL_GRACE,
    intervals: &INTERVALS,
    manners: &rest::MANNERS,
    open,
};

fn open(config: &FeedConfig, clock: Arc<dyn Clock>) -> Result<Parts, ExchangeError> {
    intervals::check(config, &INTERVALS, INTERVAL_RULE)?;
    rest_pair(&config.symbol)?;
    let rest = KrakenRest::from_config(config, clock)?;
    let protocol = Box::new(Subscription::new(config));
    Ok(Parts { protocol, source: Arc::new(rest), bars: None, manners: &rest::MANNERS })
}

/// Returns the name of a market in REST requests: no separator, and the old names of two coins.
fn rest_pair(symbol: &str) -> Result<String, ExchangeError> {
    let rule = "two names with `/` between them, such as BTC/USD";
    let symbol = check_symbol(symbol, "/", rule)?.to_ascii_uppercase();
    let Some((base, quote)) = symbol.split_once('/').filter(|(_, quote)| !quote.contains('/'))
    else {
        return Err(refuse("symbol", &symbol, rule));
    };
    let old = |name: &str| match name {
        "BTC" => "XBT".to_owned(),
        "DOGE" => "XDG".to_owned(),
        _ => name.to_owned(),
    };
    Ok(old(base) + &old(quote))
}

/// Returns the interval of so many minutes.
fn interval_of_minutes(minutes: u64) -> Option<Interval> {
    intervals::interval_in(&INTERVALS, &minutes.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_spells_markets_in_the_old_way() {
        for (symbol, want) in
            [("BTC/USD", "XBTUSD"), ("eth/btc", "ETHXBT"), ("DOGE/USDT", "XDGUSDT")]
        {
            assert_eq!(rest_pair(symbol).unwrap(), want);
        }
        for symbol in ["BTCUSD", "BTC/", "/USD", "A/B/C", "BTC-USD", ""] {
            assert!(rest_pair(symbol).is_err(), "{symbol}");
        }
    }
}
