//! Coinbase Exchange's REST interface.

use std::time::Duration;

use chrono::SecondsFormat::Micros;
use forecastd_core::{Interval, TradeSide};
use forecastd_exchange::Exchange;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::names::{maker, rows, time_ms, trade_id};
use crate::exchange::limits::Pace;
use crate::exchange::market::{Bar, Execution};
use crate::exchange::time::rfc3339;
use crate::exchange::venue::{Query, Reply, Scene, amount, firewall, number, reply, success};

/// Ten requests a second, and a few at once.
const REQUEST_EVERY: Duration = Duration::from_millis(100);
const BURST: u32 = 15;
const MAX_ROWS: i64 = 300;
const MAX_TRADES: usize = 1000;
const DEFAULT_TRADES: usize = 1000;
const DEFAULT_GRANULARITY: i64 = 60;

#[derive(Debug)]
pub(super) struct Rest {
    pace: Pace,
}

impl Rest {
    pub(super) fn new() -> Self {
        Self { pace: Pace::new(REQUEST_EVERY, BURST) }
    }

    pub(super) fn answer(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Reply {
        if !self.pace.take() {
            return refusal(StatusCode::TOO_MANY_REQUESTS);
        }
        if path == "/time" {
            let iso = rfc3339(scene.now_ms, Micros);
            return success(&json!({ "iso": iso, "epoch": scene.now_ms as f64 / 1000.0 }));
        }
        let product = path.strip_prefix("/products/").and_then(|rest| rest.split_once('/'));
        let result = match product {
            Some((product, "candles")) if product == scene.symbol => candles(query, scene),
            Some((product, "trades")) if product == scene.symbol => trades(query, scene),
            _ => return failure(StatusCode::NOT_FOUND, "NotFound"),
        };
        match result {
            Ok(body) => success(&body),
            Err(message) => failure(StatusCode::BAD_REQUEST, message),
        }
    }
}

fn failure(status: StatusCode, message: &str) -> Reply {
    reply(status, &json!({ "message": message }))
}

/// The exchange's words for a refusal with this status.
pub(super) fn refusal(status: StatusCode) -> Reply {
    let message = match status.as_u16() {
        403 => return firewall(status),
        418 | 429 => "Public rate limit exceeded",
        451 => "Unavailable For Legal Reasons",
        503 => "Service unavailable",
        500.. => "Internal server error",
        _ => "Bad request",
    };
    failure(status, message)
}

/// `GET /products/{product}/candles`: newest first, `[seconds, low, high, open, close, volume]`. Only
/// a start and an end together count.
fn candles(query: &Query, scene: &Scene<'_>) -> Result<Value, &'static str> {
    let granularity = number(query, "granularity").map_err(|_| "Unsupported granularity")?;
    let seconds = granularity.unwrap_or(DEFAULT_GRANULARITY);
    let interval = seconds.checked_mul(1000).and_then(|ms| Interval::from_ms(ms).ok());
    let interval = interval
        .filter(|interval| Exchange::Coinbase.intervals().contains(interval))
        .filter(|interval| scene.market.has_interval(*interval))
        .ok_or("Unsupported granularity")?;
    let start = time_ms(query, "start").map_err(|()| "Invalid start")?;
    let end = time_ms(query, "end").map_err(|()| "Invalid end")?;
    let (from_ms, to_ms) = match (start, end) {
        (Some(start), Some(end)) if start > end => return Err("start must be before end"),
        (Some(start), Some(end)) if (end - start) / interval.as_ms() > MAX_ROWS => {
            return Err("granularity too small for the requested time range. Count of \
                        aggregations requested exceeds 300");
        }
        // The row in which the start lies comes as well.
        (Some(start), Some(end)) => (interval.floor(start), end),
        _ => (interval.floor(scene.now_ms) - (MAX_ROWS - 1) * interval.as_ms(), scene.now_ms),
    };
    let limit = usize::try_from(MAX_ROWS).unwrap_or(0);
    let bars = rows(scene.market, interval, from_ms, to_ms, limit, scene.now_ms);
    Ok(bars.iter().map(row).collect())
}

fn row(bar: &Bar) -> Value {
    let candle = &bar.candle;
    json!([
        candle.open_time_ms / 1000,
        candle.low,
        candle.high,
        candle.open,
        candle.close,
        candle.volume
    ])
}

/// `GET /products/{product}/trades`: newest first.
fn trades(query: &Query, scene: &Scene<'_>) -> Result<Value, &'static str> {
    let limit = number(query, "limit").map_err(|_| "Invalid limit")?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(DEFAULT_TRADES);
    let newest = scene.market.latest(limit.min(MAX_TRADES), scene.now_ms);
    Ok(newest.iter().rev().map(trade_row).collect())
}

fn trade_row(execution: &Execution) -> Value {
    let side = match maker(execution.side) {
        TradeSide::Buy => "buy",
        TradeSide::Sell => "sell",
    };
    json!({
        "trade_id": trade_id(execution.id), "side": side, "size": amount(execution.size),
        "price": execution.price.to_string(), "time": rfc3339(execution.time_ms, Micros),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::market::Market;
    use crate::exchange::recording;

    fn query(pairs: &[(&str, String)]) -> Query {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[test]
    fn rows_without_trades_are_missing_and_young_ones_change() {
        let mut all = recording::embedded().unwrap();
        all.truncate(50);
        all[10].volume = 0.0;
        let market = Market::new(all.as_slice().into(), Interval::FIVE_MINUTES);
        let close_ms = all[21].open_time_ms;
        let ask = |now_ms: i64| {
            let scene = Scene { market: &market, symbol: "BTC-USD", now_ms };
            let five = query(&[("granularity", "300".to_owned())]);
            candles(&five, &scene).unwrap()
        };
        let young = ask(close_ms + 1);
        let settled = ask(close_ms + 60_000);
        assert_eq!(young.as_array().unwrap().len(), 20);
        assert_eq!(young[0][0], all[20].open_time_ms / 1000);
        assert_eq!(settled[1][0], young[0][0]);
        let times: Vec<i64> =
            settled.as_array().unwrap().iter().map(|row| row[0].as_i64().unwrap()).collect();
        assert!(times.is_sorted_by(|a, b| a > b));
        assert!(!times.contains(&(all[10].open_time_ms / 1000)));
        // The last execution is 25 s before the end, so that only the running row can be younger.
        assert_eq!(settled[1], young[0]);
        assert_ne!(ask(all[20].open_time_ms + 25_001)[0], ask(all[20].open_time_ms + 31_000)[0]);
    }

    #[test]
    fn ranges_are_limited_and_times_come_in_two_forms() {
        let mut all = recording::embedded().unwrap();
        all.truncate(500);
        let market = Market::new(all.as_slice().into(), Interval::FIVE_MINUTES);
        let now_ms = all[450].open_time_ms;
        let scene = Scene { market: &market, symbol: "BTC-USD", now_ms };
        let ask = |start: String, end: String| {
            let granularity = ("granularity", "300".to_owned());
            candles(&query(&[granularity, ("start", start), ("end", end)]), &scene)
        };
        let seconds = |index: usize| (all[index].open_time_ms / 1000).to_string();
        let iso = |index: usize| rfc3339(all[index].open_time_ms, Micros);
        let rows = ask(seconds(100), seconds(399)).unwrap();
        assert_eq!(rows.as_array().unwrap().len(), 300);
        assert_eq!(rows, ask(iso(100), iso(399)).unwrap());
        assert_eq!(rows[0][0], all[399].open_time_ms / 1000);
        assert!(ask(seconds(100), seconds(401)).unwrap_err().contains("exceeds 300"));
        assert_eq!(ask(seconds(101), seconds(100)), Err("start must be before end"));
        assert_eq!(ask("soon".to_owned(), seconds(100)), Err("Invalid start"));
        let wrong = query(&[("granularity", "120".to_owned())]);
        assert_eq!(candles(&wrong, &scene), Err("Unsupported granularity"));
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_ten_requests_a_second_are_too_many() {
        let market = Market::new([].into(), Interval::FIVE_MINUTES);
        let scene = Scene { market: &market, symbol: "BTC-USD", now_ms: 0 };
        let rest = Rest::new();
        let ask = |path: &str| rest.answer(path, &Query::new(), &scene).status().as_u16();
        assert!((0..BURST).all(|_| ask("/time") == 200));
        assert_eq!(ask("/time"), 429);
        tokio::time::advance(REQUEST_EVERY).await;
        assert_eq!([ask("/products/NOPE/candles"), ask("/time")], [404, 429]);
    }
}
