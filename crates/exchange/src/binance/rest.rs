//! Binance's REST interface: closed candles and trades.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use forecastd_core::{Candle, Clock, Interval, Trade};
use serde::Deserialize;
use serde_json::Value;

use super::interval_name;
use super::message::checked_trade;
use crate::config::{check_symbol, refuse};
use crate::continuity::Range;
use crate::error::ExchangeError;
use crate::http::{Explanation, HttpClient, Meaning};
use crate::message::{DecodeError, amount, positive, shape, time_ms};
use crate::paging::{existing, keep_closed, unreadable};
use crate::source::CandleSource;

const KLINES: &str = "/api/v3/klines";
const TRADES: &str = "/api/v3/trades";
const AGGREGATE_TRADES: &str = "/api/v3/aggTrades";
/// Greatest number of rows in one answer.
const PAGE: usize = 1000;
/// What the exchange says about the weight that this address used in the running minute.
const WEIGHT_HEADER: &str = "x-mbx-used-weight-1m";
/// Error codes that mean "later": internal error, too many requests, time-out.
const TRANSIENT_CODES: [i64; 3] = [-1001, -1003, -1007];

/// A client of Binance's public REST interface.
#[derive(Debug)]
pub struct BinanceRest {
    http: HttpClient,
    clock: Arc<dyn Clock>,
    used_weight: AtomicU32,
}

impl BinanceRest {
    /// Creates a client of the host `rest_url` (`https://host`, without a path).
    ///
    /// `clock`: market time, which tells what has closed. `timeout`: real time for one request.
    ///
    /// # Errors
    /// [`ExchangeError::Config`] when the address cannot be one.
    pub fn new(
        rest_url: &str,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Result<Self, ExchangeError> {
        let http = HttpClient::new(rest_url, timeout, explain)?;
        Ok(Self { http, clock, used_weight: AtomicU32::new(0) })
    }

    /// Returns the request weight of the running minute as the last answer told it; the exchange
    /// allows 6000.
    pub fn used_weight(&self) -> u32 {
        self.used_weight.load(Ordering::Relaxed)
    }

    /// Returns the newest `limit` (at most 1000) trades, oldest first.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub async fn trades(&self, symbol: &str, limit: u16) -> Result<Vec<Trade>, ExchangeError> {
        let symbol = checked_symbol(symbol)?;
        let limit = limit.clamp(1, 1000).to_string();
        let body = self.get(TRADES, &[("symbol", &symbol), ("limit", &limit)]).await?;
        decode_trades(&body).map_err(|error| unreadable(TRADES, &error))
    }

    /// Returns up to `limit` (at most 1000) aggregate trades from the aggregate id `from_id` on.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub async fn aggregate_trades(
        &self,
        symbol: &str,
        from_id: u64,
        limit: u16,
    ) -> Result<Vec<Trade>, ExchangeError> {
        let symbol = checked_symbol(symbol)?;
        let (from_id, limit) = (from_id.to_string(), limit.clamp(1, 1000).to_string());
        let query = [("symbol", &*symbol), ("fromId", &*from_id), ("limit", &*limit)];
        let body = self.get(AGGREGATE_TRADES, &query).await?;
        decode_aggregate_trades(&body).map_err(|error| unreadable(AGGREGATE_TRADES, &error))
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<u8>, ExchangeError> {
        let (headers, body) = self.http.get(path, query).await?;
        let weight = headers.get(WEIGHT_HEADER).and_then(|value| value.to_str().ok());
        if let Some(weight) = weight.and_then(|text| text.parse().ok()) {
            self.used_weight.store(weight, Ordering::Relaxed);
        }
        Ok(body)
    }
}

#[async_trait]
impl CandleSource for BinanceRest {
    async fn candles(
        &self,
        symbol: &str,
        interval: Interval,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Candle>, ExchangeError> {
        let symbol = checked_symbol(symbol)?;
        let name = interval_name(interval)
            .ok_or_else(|| refuse("interval", &interval, "a Binance interval of 1s..1d"))?;
        let Some(range) = existing(interval, from_ms, to_ms, self.clock.now_ms())? else {
            return Ok(Vec::new());
        };
        let Range { mut from_ms, to_ms } = range;
        let mut candles: Vec<Candle> = Vec::new();
        loop {
            // Both ends are included; the row at `to_ms` is asked for only because a later row is
            // the proof that the one before it has closed.
            let (start, end) = (from_ms.to_string(), to_ms.to_string());
            let query = [
                ("symbol", &*symbol),
                ("interval", name),
                ("startTime", &*start),
                ("endTime", &*end),
                ("limit", "1000"),
            ];
            let body = self.get(KLINES, &query).await?;
            let page =
                decode_klines(&body, interval).map_err(|error| unreadable(KLINES, &error))?;
            check_page(&page, from_ms, to_ms)?;
            let is_last = page.len() < PAGE;
            from_ms = page.last().map_or(to_ms, |last| last.close_time_ms(interval));
            candles.extend(page);
            if is_last || from_ms > to_ms {
                break;
            }
        }
        keep_closed(&mut candles, interval, to_ms, self.clock.now_ms());
        Ok(candles)
    }
}

fn checked_symbol(symbol: &str) -> Result<String, ExchangeError> {
    check_symbol(symbol, "", "1 to 32 letters and digits")
}

/// A page must lie inside of what was asked and hold no more than was asked.
fn check_page(page: &[Candle], from_ms: i64, to_ms: i64) -> Result<(), ExchangeError> {
    let decode = |reason: String| ExchangeError::Decode { path: KLINES.to_owned(), reason };
    if page.len() > PAGE {
        return Err(decode(format!("{} rows, asked for {PAGE}", page.len())));
    }
    match (page.first(), page.last()) {
        (Some(first), Some(last)) if first.open_time_ms < from_ms || last.open_time_ms > to_ms => {
            let (first, last) = (first.open_time_ms, last.open_time_ms);
            Err(decode(format!("rows {first}..={last} ms, asked for {from_ms}..={to_ms} ms")))
        }
        _ => Ok(()),
    }
}

/// Reads the body of `/api/v3/klines`: strictly rising, valid candles. The last one may be open.
///
/// # Errors
/// [`DecodeError`] for the first row that is wrong; a page counts as a whole.
pub fn decode_klines(body: &[u8], interval: Interval) -> Result<Vec<Candle>, DecodeError> {
    let rows: Vec<Vec<Value>> =
        serde_json::from_slice(body).map_err(|error| shape("klines", &error))?;
    let mut candles: Vec<Candle> = Vec::with_capacity(rows.len().min(PAGE));
    for row in &rows {
        let candle = decode_row(row, interval)?;
        if candles.last().is_some_and(|last| last.open_time_ms >= candle.open_time_ms) {
            let value = candle.open_time_ms.to_string();
            return Err(DecodeError::Value { field: "open time", value, rule: "rising" });
        }
        candles.push(candle);
    }
    Ok(candles)
}

/// `[open ms, o, h, l, c, volume, close ms, quote volume, trades, ...]`
fn decode_row(row: &[Value], interval: Interval) -> Result<Candle, DecodeError> {
    let lacks = |field: &'static str| DecodeError::Shape {
        what: "klines",
        reason: format!("row without a readable {field}"),
    };
    let text =
        |index: usize, field| row.get(index).and_then(Value::as_str).ok_or_else(|| lacks(field));
    let number =
        |index: usize, field| row.get(index).and_then(Value::as_i64).ok_or_else(|| lacks(field));
    let candle = Candle {
        open_time_ms: time_ms("open time", number(0, "open time")?)?,
        open: positive("open", text(1, "open")?)?,
        high: positive("high", text(2, "high")?)?,
        low: positive("low", text(3, "low")?)?,
        close: positive("close", text(4, "close")?)?,
        volume: amount("volume", text(5, "volume")?)?,
        trade_count: Some(row.get(8).and_then(Value::as_u64).ok_or_else(|| lacks("trade count"))?),
    };
    candle.validate(interval)?;
    let last_ms = number(6, "close time")?;
    if last_ms != candle.close_time_ms(interval) - 1 {
        let rule = "the last millisecond of the interval";
        return Err(DecodeError::Value { field: "close time", value: last_ms.to_string(), rule });
    }
    Ok(candle)
}

/// Reads the body of `/api/v3/trades`.
///
/// # Errors
/// [`DecodeError`] for the first entry that is wrong.
pub fn decode_trades(body: &[u8]) -> Result<Vec<Trade>, DecodeError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        id: u64,
        price: String,
        qty: String,
        time: i64,
        is_buyer_maker: bool,
    }
    let entries: Vec<Entry> =
        serde_json::from_slice(body).map_err(|error| shape("trades", &error))?;
    let read = |entry: &Entry| {
        checked_trade(&entry.price, &entry.qty, entry.time, entry.id, entry.is_buyer_maker)
    };
    entries.iter().map(read).collect()
}

/// Reads the body of `/api/v3/aggTrades`; the ids are those of the aggregates.
///
/// # Errors
/// [`DecodeError`] for the first entry that is wrong.
pub fn decode_aggregate_trades(body: &[u8]) -> Result<Vec<Trade>, DecodeError> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "a")]
        id: u64,
        #[serde(rename = "p")]
        price: String,
        #[serde(rename = "q")]
        size: String,
        #[serde(rename = "T")]
        time_ms: i64,
        #[serde(rename = "m")]
        is_buyer_maker: bool,
    }
    let entries: Vec<Entry> =
        serde_json::from_slice(body).map_err(|error| shape("aggTrades", &error))?;
    let read = |entry: &Entry| {
        checked_trade(&entry.price, &entry.size, entry.time_ms, entry.id, entry.is_buyer_maker)
    };
    entries.iter().map(read).collect()
}

/// Reads `{"code":-1121,"msg":"Invalid symbol."}`.
///
/// # Errors
/// [`DecodeError::Shape`] when the body is anything else.
pub fn decode_error(body: &[u8]) -> Result<(i64, String), DecodeError> {
    #[derive(Deserialize)]
    struct Body {
        code: i64,
        msg: String,
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| shape("error", &error))?;
    Ok((body.code, body.msg))
}

fn explain(body: &[u8]) -> Option<Explanation> {
    let (code, message) = decode_error(body).ok()?;
    let is_transient = TRANSIENT_CODES.contains(&code);
    let meaning = if is_transient { Meaning::Later } else { Meaning::Wrong };
    Some(Explanation { code: Some(code), message, meaning })
}
