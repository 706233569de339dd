//! What the two interfaces of Coinbase share: the numbers of trades, the maker's side, and a REST
//! side that is a little behind.

use chrono::DateTime;
use forecastd_core::{Interval, TradeSide};
use uuid::Uuid;

use crate::exchange::market::{Bar, Market};
use crate::exchange::venue::Query;

const FIRST_TRADE_ID: u64 = 500_000_000;
const FIRST_SEQUENCE: u64 = 50_000_000_000;
/// Events of orders between two trades.
const EVENTS_PER_TRADE: u64 = 17;
/// How far the candles of REST are behind the market, market time: a row that has just closed still
/// changes.
const REST_LAG_MS: i64 = 5_000;

/// Returns the exchange's number of an execution.
pub(in crate::exchange) const fn trade_id(id: u64) -> u64 {
    FIRST_TRADE_ID + id
}

/// Returns the number of the event of an execution among those of all orders.
pub(in crate::exchange) const fn sequence(id: u64) -> u64 {
    FIRST_SEQUENCE + id * EVENTS_PER_TRADE
}

/// Returns the name of an order of an execution: 0 the maker's, 1 the taker's.
pub(in crate::exchange) fn order_id(id: u64, party: u64) -> String {
    Uuid::from_u64_pair(id.wrapping_mul(0x9e37_79b9_7f4a_7c15), party).to_string()
}

/// Coinbase tells the side of the maker.
pub(in crate::exchange) const fn maker(taker: TradeSide) -> TradeSide {
    match taker {
        TradeSide::Buy => TradeSide::Sell,
        TradeSide::Sell => TradeSide::Buy,
    }
}

/// Returns the candles with trades that open in `from_ms..=to_ms`, newest first.
pub(in crate::exchange) fn rows(
    market: &Market,
    interval: Interval,
    from_ms: i64,
    to_ms: i64,
    limit: usize,
    now_ms: i64,
) -> Vec<Bar> {
    let known_ms = now_ms - REST_LAG_MS;
    let mut bars = market.bars(interval, from_ms, to_ms, limit, true, known_ms);
    bars.retain(|bar| bar.ids.is_some());
    bars.reverse();
    bars
}

/// Reads a time in seconds or as ISO 8601; `Err` for what is neither.
pub(in crate::exchange) fn time_ms(query: &Query, name: &str) -> Result<Option<i64>, ()> {
    let Some(text) = query.get(name) else {
        return Ok(None);
    };
    let seconds = text.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000));
    let iso = || DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis());
    seconds.or_else(iso).filter(|at_ms| *at_ms >= 0).map(Some).ok_or(())
}
