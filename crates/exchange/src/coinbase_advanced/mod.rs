//! Coinbase Advanced Trade: the public WebSocket channels and REST interface, without a key.
//!
//! Source: `docs.cdp.coinbase.com` (Advanced Trade: WebSocket channels `candles`, `market_trades` and
//! `heartbeats`, REST public product candles). The candle channel knows five minutes only, marks
//! nothing as final and may correct a candle after its end: it tells forming candles here, and every
//! final one is confirmed by REST first and told as a backfill. Candles of another length come by REST
//! alone, with the trades as the sign that the market lives.

pub mod message;
pub mod rest;
pub mod subscription;

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::Clock;

pub use self::rest::CoinbaseAdvancedRest;
use self::subscription::Subscription;
use crate::coinbase::{HOSTS, SETTLE, checked_symbol};
use crate::config::FeedConfig;
use crate::error::ExchangeError;
use crate::exchange::{Adapter, Parts};
use crate::intervals;

/// The candle lengths of the REST interface.
const INTERVALS: [(&str, i64); 8] = [
    ("ONE_MINUTE", 60_000),
    ("FIVE_MINUTE", 300_000),
    ("FIFTEEN_MINUTE", 900_000),
    ("THIRTY_MINUTE", 1_800_000),
    ("ONE_HOUR", 3_600_000),
    ("TWO_HOUR", 7_200_000),
    ("SIX_HOUR", 21_600_000),
    ("ONE_DAY", 86_400_000),
];
const INTERVAL_RULE: &str = "a Coinbase interval of 1m, 5m, 15m, 30m, 1h, 2h, 6h or 1d";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "coinbase_advanced",
    ws_url: "wss://advanced-trade-ws.coinbase.com",
    rest_url: "https://api.coinbase.com",
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
    let rest = CoinbaseAdvancedRest::from_config(config, clock)?;
    let protocol = Box::new(Subscription::new(config));
    Ok(Parts { protocol, source: Arc::new(rest), bars: None, manners: &rest::MANNERS })
}
