//! Kraken's REST interface: refusals come with status 200 and a list of texts.

use std::time::Duration;

use chrono::SecondsFormat;
use forecastd_core::{Candle, Interval, TradeSide};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::names::{answer_key, interval_of, rest_pair};
use super::session::average;
use crate::exchange::limits::Pace;
use crate::exchange::market::{Bar, Execution};
use crate::exchange::time::{rfc1123, rfc3339};
use crate::exchange::venue::{Query, Reply, Scene, firewall, number, reply, success};

/// One request a second is allowed; no number for a burst is documented.
const REQUEST_EVERY: Duration = Duration::from_secs(1);
const BURST: u32 = 5;
/// Closed candles in one answer; the running one comes with them.
const CLOSED_ROWS: i64 = 720;
const MAX_TRADES: usize = 1000;
const DEFAULT_MINUTES: i64 = 1;

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
            return refused(StatusCode::OK, "EGeneral:Too many requests");
        }
        let result = match path {
            "/0/public/OHLC" => candles(query, scene),
            "/0/public/Trades" => trades(query, scene),
            "/0/public/Time" => Ok(json!({
                "unixtime": scene.now_ms / 1000, "rfc1123": rfc1123(scene.now_ms),
            })),
            "/0/public/SystemStatus" => Ok(json!({
                "status": "online", "timestamp": rfc3339(scene.now_ms, SecondsFormat::Secs),
            })),
            _ => Err("EGeneral:Unknown method"),
        };
        match result {
            Ok(result) => success(&json!({ "error": [], "result": result })),
            Err(message) => refused(StatusCode::OK, message),
        }
    }
}

fn refused(status: StatusCode, message: &str) -> Reply {
    reply(status, &json!({ "error": [message] }))
}

/// The exchange's words for a refusal with this status.
pub(super) fn refusal(status: StatusCode) -> Reply {
    match status.as_u16() {
        429 => refused(status, "EGeneral:Too many requests"),
        418 => refused(status, "EGeneral:Temporary lockout"),
        405 | 451 => refused(status, "EGeneral:Permission denied"),
        // Cloudflare's pages.
        403 | 500.. => firewall(status),
        _ => refused(status, "EGeneral:Invalid arguments"),
    }
}

fn key_of(query: &Query, scene: &Scene<'_>) -> Result<String, &'static str> {
    let pair = query.get("pair").ok_or("EGeneral:Invalid arguments")?;
    let key = answer_key(scene.symbol);
    let is_ours = *pair == rest_pair(scene.symbol) || *pair == key || *pair == scene.symbol;
    if is_ours { Ok(key) } else { Err("EQuery:Unknown asset pair") }
}

/// `GET /0/public/OHLC`: the newest candles, oldest first, the running one last. An interval without
/// trades is flat at the close before it.
fn candles(query: &Query, scene: &Scene<'_>) -> Result<Value, &'static str> {
    let key = key_of(query, scene)?;
    let wrong = |_| "EGeneral:Invalid arguments";
    let minutes = number(query, "interval").map_err(wrong)?.unwrap_or(DEFAULT_MINUTES);
    let since_ms = number(query, "since").map_err(wrong)?.unwrap_or(0).saturating_mul(1000);
    let known = interval_of(minutes).filter(|interval| scene.market.has_interval(*interval));
    let interval = known.ok_or("EGeneral:Invalid arguments")?;
    let running_ms = interval.floor(scene.now_ms);
    let rows: Vec<Value> = filled(interval, running_ms, scene)
        .iter()
        .filter(|bar| bar.candle.open_time_ms > since_ms || bar.candle.open_time_ms == running_ms)
        .map(row)
        .collect();
    Ok(json!({ key: rows, "last": (running_ms - interval.as_ms()) / 1000 }))
}

/// The candles up to the running one, without holes. Before the recording there is nothing.
fn filled(interval: Interval, running_ms: i64, scene: &Scene<'_>) -> Vec<Bar> {
    let from_ms = running_ms - CLOSED_ROWS * interval.as_ms();
    let mut close = scene.market.close_before(from_ms);
    let mut bars = Vec::new();
    for step in 0..=CLOSED_ROWS {
        let open_time_ms = from_ms + step * interval.as_ms();
        let traded = scene.market.bar(interval, open_time_ms, scene.now_ms);
        let flat = |price: f64| Bar {
            candle: Candle {
                open_time_ms,
                open: price,
                high: price,
                low: price,
                close: price,
                volume: 0.0,
                trade_count: Some(0),
            },
            ids: None,
            turnover: 0.0,
        };
        let bar = traded.filter(|bar| bar.ids.is_some()).or_else(|| close.map(flat));
        close = bar.map(|bar| bar.candle.close);
        bars.extend(bar);
    }
    bars
}

/// Prices have at least one digit after the point, volumes eight.
fn row(bar: &Bar) -> Value {
    let candle = &bar.candle;
    let price = |value: f64| format!("{value:?}");
    json!([
        candle.open_time_ms / 1000,
        price(candle.open),
        price(candle.high),
        price(candle.low),
        price(candle.close),
        price(average(bar)),
        format!("{:.8}", candle.volume),
        candle.trade_count.unwrap_or(0)
    ])
}

/// `GET /0/public/Trades`: the oldest ones after `since` (nanoseconds), else the newest.
fn trades(query: &Query, scene: &Scene<'_>) -> Result<Value, &'static str> {
    let key = key_of(query, scene)?;
    let wrong = |_| "EGeneral:Invalid arguments";
    let count = number(query, "count").map_err(wrong)?;
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(MAX_TRADES);
    if !(1..=MAX_TRADES).contains(&count) {
        return Err("EGeneral:Invalid arguments");
    }
    let since = number(query, "since").map_err(wrong)?;
    let trades: Vec<Execution> = match since {
        Some(since_ns) => {
            let after_ms = since_ns / 1_000_000;
            scene.market.executions(after_ms, scene.now_ms).take(count).collect()
        }
        None => scene.market.latest(count, scene.now_ms),
    };
    let nanos = |at_ms: i64| (i128::from(at_ms) * 1_000_000).to_string();
    let last = trades.last().map_or_else(
        || since.map_or_else(|| nanos(scene.now_ms), |since_ns| since_ns.to_string()),
        |trade| nanos(trade.time_ms),
    );
    let rows: Vec<Value> = trades.iter().map(trade_row).collect();
    Ok(json!({ key: rows, "last": last }))
}

fn trade_row(execution: &Execution) -> Value {
    let side = match execution.side {
        TradeSide::Buy => "b",
        TradeSide::Sell => "s",
    };
    json!([
        format!("{:.5}", execution.price),
        format!("{:.8}", execution.size),
        execution.time_ms as f64 / 1000.0,
        side,
        "m",
        "",
        execution.id
    ])
}

#[cfg(test)]
mod tests {
    use forecastd_core::TradeId;
    use forecastd_exchange::kraken::rest::{decode_ohlc, decode_trades};

    use super::*;
    use crate::exchange::market::Market;
    use crate::exchange::recording;

    const FIVE: Interval = Interval::FIVE_MINUTES;

    fn query(pairs: &[(&str, &str)]) -> Query {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn holes_are_flat_and_the_running_candle_is_last() {
        let mut candles = recording::embedded().unwrap();
        candles.truncate(900);
        candles.drain(400..410);
        let market = Market::new(candles.as_slice().into(), FIVE);
        let now_ms = candles[800].open_time_ms + 100_000;
        let scene = Scene { market: &market, symbol: "BTC/USD", now_ms };
        let query = query(&[("pair", "XBTUSD"), ("interval", "5")]);
        let body = json!({ "error": [], "result": super::candles(&query, &scene).unwrap() });
        let rows = decode_ohlc(body.to_string().as_bytes(), "BTC/USD", FIVE).unwrap();
        assert_eq!(rows.len(), 721);
        let finals: Vec<bool> = rows.iter().map(|row| row.is_final == Some(true)).collect();
        assert_eq!(finals.iter().filter(|is_final| **is_final).count(), 720);
        assert!(!finals[720]);
        assert_eq!(rows[720].candle.open_time_ms, candles[800].open_time_ms);
        let flat: Vec<_> = rows.iter().filter(|row| row.candle.volume <= 0.0).collect();
        assert_eq!(flat.len(), 10);
        assert_eq!(flat[9].candle.close.to_bits(), candles[399].close.to_bits());
        assert_eq!(flat[0].candle.trade_count, Some(0));
    }

    #[test]
    fn trades_go_on_after_the_last_one() {
        let mut candles = recording::embedded().unwrap();
        candles.truncate(200);
        let market = Market::new(candles.as_slice().into(), FIVE);
        let now_ms = candles[150].open_time_ms;
        let scene = Scene { market: &market, symbol: "BTC/USD", now_ms };
        let (mut since, mut ids) = ("0".to_owned(), Vec::new());
        loop {
            let query = query(&[("pair", "XBTUSD"), ("since", &since)]);
            let result = trades(&query, &scene).unwrap();
            let body = json!({ "error": [], "result": result });
            let page = decode_trades(body.to_string().as_bytes()).unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= 1000);
            ids.extend(page.iter().map(|trade| trade.trade_id.clone().unwrap()));
            since = result["last"].as_str().unwrap().to_owned();
        }
        let want: Vec<TradeId> = (1..=150 * 12 + 1_u64).map(TradeId::from).collect();
        assert_eq!(ids, want);
    }
}
