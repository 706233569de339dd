//! Coinbase Exchange: the public WebSocket feed and REST interface.
//!
//! Source: `docs.cdp.coinbase.com` (Exchange: WebSocket channels `matches` and `heartbeat`, REST product
//! candles and trades). There is no candle channel: final candles are built from the trades, whose
//! numbers rise by one, and the heartbeat says each second which trade is the newest. What was not
//! heard as a whole comes by REST, whose youngest rows are still corrected for a while. An interval
//! without trades has no candle. Forming candles are not told.

pub mod message;
pub mod rest;
pub mod subscription;

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, TradeSide};

pub use self::rest::CoinbaseRest;
use self::subscription::Subscription;
use crate::config::{FeedConfig, check_symbol, refuse};
use crate::error::ExchangeError;
use crate::exchange::{Adapter, Parts};
use crate::host::Host;
use crate::intervals;
use crate::message::{DecodeError, shorten};
use crate::trade_bars::TradeBars;

/// Seconds of the candle lengths.
const INTERVALS: [(&str, i64); 6] = [
    ("60", 60_000),
    ("300", 300_000),
    ("900", 900_000),
    ("3600", 3_600_000),
    ("21600", 21_600_000),
    ("86400", 86_400_000),
];
const INTERVAL_RULE: &str = "a Coinbase interval of 1m, 5m, 15m, 1h, 6h or 1d";

/// How long after its end a candle is left alone by REST: younger rows may still change.
pub(crate) const SETTLE_MS: i64 = 10_000;
/// The same as a span of market time.
pub(crate) const SETTLE: Duration = Duration::from_millis(SETTLE_MS.unsigned_abs());

/// There is one public host of each kind; the other interface is an exchange of its own here.
pub(crate) const HOSTS: [Host; 0] = [];

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "coinbase",
    ws_url: "wss://ws-feed.exchange.coinbase.com",
    rest_url: "https://api.exchange.coinbase.com",
    symbol: "BTC-USD",
    // Sends only when something is traded.
    idle_timeout: Duration::from_mins(5),
    final_grace: SETTLE,
    intervals: &INTERVALS,
    manners: &rest::MANNERS,
    open,
};

fn open(config: &FeedConfig, clock: Arc<dyn Clock>) -> Result<Parts, ExchangeError> {
    intervals::check(config, &INTERVALS, INTERVAL_RULE)?;
    checked_symbol(&config.symbol)?;
    let rest = CoinbaseRest::from_config(config, clock)?;
    let protocol = Box::new(Subscription::new(config));
    let bars = Some(TradeBars::new(config.interval)?);
    Ok(Parts { protocol, source: Arc::new(rest), bars, manners: &rest::MANNERS })
}

/// Checks the name of a product, which both of Coinbase's interfaces spell alike.
pub(crate) fn checked_symbol(symbol: &str) -> Result<String, ExchangeError> {
    let rule = "two names with `-` between them, such as BTC-USD";
    let symbol = check_symbol(symbol, "-", rule)?.to_ascii_uppercase();
    if symbol.split('-').count() == 2 { Ok(symbol) } else { Err(refuse("symbol", &symbol, rule)) }
}

/// Returns the taker's side of a trade whose `side` is the maker's.
pub(crate) fn taker_side(maker: &str) -> Result<TradeSide, DecodeError> {
    match maker {
        "sell" | "SELL" => Ok(TradeSide::Buy),
        "buy" | "BUY" => Ok(TradeSide::Sell),
        _ => {
            let (value, rule) = (shorten(maker), "`buy` or `sell`");
            Err(DecodeError::Value { field: "side", value, rule })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_two_names() {
        assert_eq!(checked_symbol("btc-usd").unwrap(), "BTC-USD");
        for symbol in ["BTCUSD", "BTC/USD", "BTC-", "A-B-C", ""] {
            assert!(checked_symbol(symbol).is_err(), "{symbol}");
        }
    }
}
