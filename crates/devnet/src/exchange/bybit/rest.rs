//! Bybit's REST interface: refusals come with status 200 and a `retCode`.

use std::time::Duration;

use forecastd_exchange::bybit::interval_of;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::session::side;
use super::trade_id;
use crate::exchange::limits::Window;
use crate::exchange::market::{Bar, Execution};
use crate::exchange::venue::{
    Query, Reply, Scene, Texts, amount, firewall, number, plain, reply, success,
};

/// Requests of one address in [`LIMIT_SPAN`]; who sends more is locked out for [`LOCKOUT`].
const LIMIT: u32 = 600;
const LIMIT_SPAN: Duration = Duration::from_secs(5);
const LOCKOUT: Duration = Duration::from_mins(10);
const DEFAULT_ROWS: usize = 200;
const MAX_ROWS: usize = 1000;
/// Newest trades of a spot market in one answer.
const MAX_TRADES: usize = 60;

const PARAMETER: i64 = 10_001;

#[derive(Debug)]
pub(super) struct Rest {
    requests: Window,
}

impl Rest {
    pub(super) fn new() -> Self {
        Self { requests: Window::new(LIMIT, LIMIT_SPAN).with_penalty(LOCKOUT) }
    }

    pub(super) fn answer(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Reply {
        if self.requests.add(1).is_over {
            let body = "access too frequent, please try again later".to_owned();
            return plain(StatusCode::FORBIDDEN, "text/plain", body);
        }
        let now_ms = scene.now_ms;
        let result = match path {
            "/v5/market/kline" => klines(query, scene),
            "/v5/market/recent-trade" => trades(query, scene),
            "/v5/market/time" => Ok(json!({
                "timeSecond": (now_ms / 1000).to_string(),
                "timeNano": (i128::from(now_ms) * 1_000_000).to_string(),
            })),
            _ => return plain(StatusCode::NOT_FOUND, "text/plain", String::new()),
        };
        match result {
            Ok(result) => success(&body(0, "OK", &result, now_ms)),
            Err(message) => success(&body(PARAMETER, message, &json!({}), now_ms)),
        }
    }
}

fn body(code: i64, message: &str, result: &Value, now_ms: i64) -> Value {
    json!({
        "retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": now_ms,
    })
}

/// The exchange's words for a refusal with this status.
pub(super) fn refusal(status: StatusCode, now_ms: i64) -> Reply {
    let (code, message) = match status.as_u16() {
        403 => {
            let page = "<html><body>The request could not be satisfied. The distribution is \
                        configured to block access from your country.</body></html>";
            return plain(status, "text/html", page.to_owned());
        }
        418 | 429 => (10_006, "Too many visits!"),
        451 => (10_009, "IP has been banned"),
        502.. => return firewall(status),
        500.. => (10_016, "Internal server error"),
        _ => (PARAMETER, "Request parameter error"),
    };
    reply(status, &body(code, message, &json!({}), now_ms))
}

/// What a request names: this market, or one of the perpetual contracts that are not simulated.
fn is_spot(query: &Query, scene: &Scene<'_>) -> Result<bool, &'static str> {
    match query.get("category").map(String::as_str) {
        Some("spot") => match query.get("symbol") {
            Some(symbol) if symbol == scene.symbol => Ok(true),
            _ => Err("Not supported symbols"),
        },
        // Without a category it is the perpetual contract.
        None | Some("linear" | "inverse") => Ok(false),
        Some(_) => Err("Invalid category"),
    }
}

fn limit_of(query: &Query, usual: usize, most: usize) -> Result<usize, &'static str> {
    let limit = number(query, "limit").map_err(|_| "Invalid limit")?;
    let limit = limit.map_or(usual, |limit| usize::try_from(limit).unwrap_or(most));
    if limit == 0 { Err("Invalid limit") } else { Ok(limit.min(most)) }
}

fn list(query: &Query, symbol: Option<&str>, rows: &[Value]) -> Value {
    let category = query.get("category").map_or("linear", String::as_str);
    match symbol {
        Some(symbol) => json!({ "category": category, "symbol": symbol, "list": rows }),
        None => json!({ "category": category, "list": rows }),
    }
}

/// `GET /v5/market/kline`: newest first, times on the open time, both ends included. What is more than
/// `limit` is cut off at the oldest end, or at the newest where only a start is given.
fn klines(query: &Query, scene: &Scene<'_>) -> Result<Value, &'static str> {
    let name = query.get("interval").map_or("", String::as_str);
    let known = interval_of(name).filter(|interval| scene.market.has_interval(*interval));
    let interval = known.ok_or("Invalid period!")?;
    let start = number(query, "start").map_err(|_| "Invalid start")?;
    let end = number(query, "end").map_err(|_| "Invalid end")?;
    let limit = limit_of(query, DEFAULT_ROWS, MAX_ROWS)?;
    let is_ours = is_spot(query, scene)?;
    let (from_ms, to_ms) = (start.unwrap_or(0), end.unwrap_or(i64::MAX));
    let is_newest = start.is_none() || end.is_some();
    let bars = if is_ours {
        scene.market.bars(interval, from_ms, to_ms, limit, is_newest, scene.now_ms)
    } else {
        Vec::new()
    };
    let symbol = query.get("symbol").map_or(scene.symbol, String::as_str);
    let rows: Vec<Value> = bars.iter().rev().map(row).collect();
    Ok(list(query, Some(symbol), &rows))
}

fn row(bar: &Bar) -> Value {
    let texts = Texts::from(&bar.candle);
    json!([
        bar.candle.open_time_ms.to_string(),
        texts.open,
        texts.high,
        texts.low,
        texts.close,
        texts.volume,
        amount(bar.turnover)
    ])
}

/// `GET /v5/market/recent-trade`: newest first.
fn trades(query: &Query, scene: &Scene<'_>) -> Result<Value, &'static str> {
    let limit = limit_of(query, MAX_TRADES, MAX_TRADES)?;
    let newest =
        if is_spot(query, scene)? { scene.market.latest(limit, scene.now_ms) } else { Vec::new() };
    let row = |execution: &Execution| {
        json!({
            "execId": trade_id(execution.id).to_string(), "symbol": scene.symbol,
            "price": execution.price.to_string(), "size": amount(execution.size),
            "side": side(execution.side), "time": execution.time_ms.to_string(),
            "isBlockTrade": false, "isRPITrade": false, "seq": execution.id.to_string(),
        })
    };
    let rows: Vec<Value> = newest.iter().rev().map(row).collect();
    Ok(list(query, None, &rows))
}

#[cfg(test)]
mod tests {
    use forecastd_core::{Candle, Interval};
    use forecastd_exchange::bybit::rest::decode_klines;

    use super::*;
    use crate::exchange::market::Market;
    use crate::exchange::recording;

    #[test]
    fn every_recorded_candle_survives_the_texts_bit_for_bit() {
        let candles = recording::embedded().unwrap();
        let interval = Interval::FIVE_MINUTES;
        let market = Market::new(candles.as_slice().into(), interval);
        for candle in candles.iter().step_by(17) {
            let bar = market.bar(interval, candle.open_time_ms, i64::MAX).unwrap();
            let list = json!({ "category": "spot", "symbol": "BTCUSDT", "list": [row(&bar)] });
            let text = body(0, "OK", &list, 4_000_000_000_000).to_string();
            let update = decode_klines(text.as_bytes(), interval).unwrap().remove(0);
            assert_eq!(update.candle, Candle { trade_count: None, ..*candle });
            assert_eq!(update.is_final, Some(true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_too_often_is_locked_out_for_ten_minutes() {
        let market = Market::new([].into(), Interval::FIVE_MINUTES);
        let scene = Scene { market: &market, symbol: "BTCUSDT", now_ms: 0 };
        let rest = Rest::new();
        let ask = || rest.answer("/v5/market/time", &Query::new(), &scene).status().as_u16();
        assert!((0..LIMIT).all(|_| ask() == 200));
        assert_eq!(ask(), 403);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert_eq!(ask(), 403);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ask(), 200);
    }
}
