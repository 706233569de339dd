//! Binance's REST interface and its weights.

use std::time::Duration;

use forecastd_exchange::binance::interval_of;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde_json::{Value, json};

use super::texts;
use crate::exchange::limits::Window;
use crate::exchange::venue::{Query, Reply, Scene, firewall, number, reply, success};

/// Weight that one address may use in a minute, as documented.
const WEIGHT_LIMIT: u32 = 6000;
const WEIGHT_HEADER: &str = "x-mbx-used-weight-1m";
const KLINES_WEIGHT: u32 = 2;
const TRADES_WEIGHT: u32 = 25;
const AGGREGATES_WEIGHT: u32 = 4;
const INFO_WEIGHT: u32 = 20;
const SMALL_WEIGHT: u32 = 1;
const DEFAULT_LIMIT: usize = 500;
const MAX_LIMIT: usize = 1000;

#[derive(Debug)]
pub(super) struct Rest {
    weight: Window,
}

impl Rest {
    pub(super) fn new() -> Self {
        Self { weight: Window::new(WEIGHT_LIMIT, Duration::from_mins(1)) }
    }

    pub(super) fn answer(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Reply {
        let weight = match path {
            "/api/v3/klines" => KLINES_WEIGHT,
            "/api/v3/trades" => TRADES_WEIGHT,
            "/api/v3/aggTrades" => AGGREGATES_WEIGHT,
            "/api/v3/exchangeInfo" => INFO_WEIGHT,
            _ => SMALL_WEIGHT,
        };
        let count = self.weight.add(weight);
        let mut reply = if count.is_over {
            let mut reply = refusal(StatusCode::TOO_MANY_REQUESTS);
            let wait = HeaderValue::from(count.left.as_secs() + 1);
            reply.headers_mut().insert(header::RETRY_AFTER, wait);
            reply
        } else {
            let now_ms = scene.now_ms;
            match path {
                "/api/v3/klines" => answered(klines(query, scene)),
                "/api/v3/trades" => answered(trades(query, scene)),
                "/api/v3/aggTrades" => answered(aggregates(query, scene)),
                "/api/v3/time" => success(&json!({ "serverTime": now_ms })),
                "/api/v3/ping" => success(&json!({})),
                "/api/v3/exchangeInfo" => {
                    success(&texts::exchange_info(scene.symbol, now_ms, WEIGHT_LIMIT))
                }
                _ => failure(StatusCode::NOT_FOUND, -1000, "Not found."),
            }
        };
        reply.headers_mut().insert(WEIGHT_HEADER, HeaderValue::from(count.used));
        reply
    }
}

/// The code and the words of a request that is wrong.
type Wrong = (i64, String);

fn failure(status: StatusCode, code: i64, message: &str) -> Reply {
    reply(status, &texts::error(code, message, None))
}

/// The exchange's words for a refusal with this status.
pub(super) fn refusal(status: StatusCode) -> Reply {
    let (code, message) = match status.as_u16() {
        403 => return firewall(status),
        429 => (
            -1003,
            "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. \
             Please use WebSocket Streams for live updates to avoid polling the API.",
        ),
        418 => (
            -1003,
            "Way too much request weight used; IP banned. Please use WebSocket Streams for live \
             updates to avoid bans.",
        ),
        451 => (
            0,
            "Service unavailable from a restricted location according to 'b. Eligibility' in \
             https://www.binance.com/en/terms. Please contact customer service if you believe you \
             received this message in error.",
        ),
        405 => (-1000, "Method not allowed."),
        503 => (-1000, "Service unavailable."),
        _ => (-1000, "An unknown error occurred while processing the request."),
    };
    failure(status, code, message)
}

fn answered(result: Result<Value, Wrong>) -> Reply {
    match result {
        Ok(body) => success(&body),
        Err((code, message)) => failure(StatusCode::BAD_REQUEST, code, &message),
    }
}

fn bad(code: i64, message: &str) -> Wrong {
    (code, message.to_owned())
}

fn missing(name: &str) -> Wrong {
    let message =
        format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed.");
    (-1102, message)
}

fn unreadable(name: &str) -> Wrong {
    (-1100, format!("Illegal characters found in parameter '{name}'."))
}

/// Reads `limit`, which is cut to the greatest one.
fn limit_of(query: &Query) -> Result<usize, Wrong> {
    match number(query, "limit").map_err(unreadable)? {
        None => Ok(DEFAULT_LIMIT),
        Some(0) => Err(bad(-1130, "Data sent for parameter 'limit' is not valid.")),
        Some(limit) => Ok(usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT)),
    }
}

fn check_symbol(query: &Query, scene: &Scene<'_>) -> Result<(), Wrong> {
    match query.get("symbol").map(String::as_str) {
        None | Some("") => Err(missing("symbol")),
        Some(symbol) if symbol == scene.symbol => Ok(()),
        Some(_) => Err(bad(-1121, "Invalid symbol.")),
    }
}

/// `GET /api/v3/klines`. Times count on the open time, both ends included. Without times the newest
/// rows, with a start the oldest from there, with an end alone the newest up to there.
fn klines(query: &Query, scene: &Scene<'_>) -> Result<Value, Wrong> {
    check_symbol(query, scene)?;
    let name = query.get("interval").filter(|text| !text.is_empty());
    let name = name.ok_or_else(|| missing("interval"))?;
    let known = interval_of(name).filter(|interval| scene.market.has_interval(*interval));
    let interval = known.ok_or_else(|| bad(-1120, "Invalid interval."))?;
    let start = number(query, "startTime").map_err(unreadable)?;
    let end = number(query, "endTime").map_err(unreadable)?;
    let limit = limit_of(query)?;
    let (from_ms, to_ms) = (start.unwrap_or(0), end.unwrap_or(i64::MAX));
    let is_newest = start.is_none();
    let bars = scene.market.bars(interval, from_ms, to_ms, limit, is_newest, scene.now_ms);
    Ok(bars.iter().map(|bar| texts::kline_row(interval, bar)).collect())
}

/// `GET /api/v3/trades`: the newest ones, oldest first.
fn trades(query: &Query, scene: &Scene<'_>) -> Result<Value, Wrong> {
    check_symbol(query, scene)?;
    let newest = scene.market.latest(limit_of(query)?, scene.now_ms);
    Ok(newest.iter().map(texts::trade_row).collect())
}

/// `GET /api/v3/aggTrades`: the oldest ones from `fromId` or `startTime`, else the newest. Every
/// execution is an order of its own here, so that aggregates have the numbers of the executions.
fn aggregates(query: &Query, scene: &Scene<'_>) -> Result<Value, Wrong> {
    check_symbol(query, scene)?;
    let limit = limit_of(query)?;
    let from_id = number(query, "fromId").map_err(unreadable)?;
    let start = number(query, "startTime").map_err(unreadable)?;
    let end = number(query, "endTime").map_err(unreadable)?;
    let now_ms = scene.now_ms;
    let to_ms = end.unwrap_or(now_ms).min(now_ms);
    let id = from_id.and_then(|id| u64::try_from(id).ok());
    let trades = match (id, start) {
        (Some(id), _) => match scene.market.time_of(id) {
            Some(at_ms) => scene.market.executions(at_ms - 1, to_ms).take(limit).collect(),
            None => Vec::new(),
        },
        (None, Some(at_ms)) => scene.market.executions(at_ms - 1, to_ms).take(limit).collect(),
        (None, None) => scene.market.latest(limit, to_ms),
    };
    Ok(trades.iter().map(texts::aggregate_row).collect())
}
