//! Binance's REST interface: closed candles and trades.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use forecastd_core::{Candle, Clock, Interval, Trade};
use serde::Deserialize;
use serde_json::Value;

use super::message::checked_trade;
use super::{INTERVAL_RULE, INTERVALS, checked_symbol};
use crate::error::ExchangeError;
use crate::http::{Explanation, Manners, Meaning};
use crate::message::{DecodeError, amount, positive, shape, time_ms};
use crate::paging::{Closing, unreadable};
use crate::rest::{CandleApi, Request, RestClient, unmarked};
use crate::rows::Row;
use crate::source::CandleSource;

const KLINES: &str = "/api/v3/klines";
const TRADES: &str = "/api/v3/trades";
const AGGREGATE_TRADES: &str = "/api/v3/aggTrades";
/// Intervals of one page: an answer holds at most 1000 rows, and both ends of what is asked for are
/// included.
const PAGE_INTERVALS: i64 = 999;
/// What the exchange says about the weight that this address used in the running minute.
const WEIGHT_HEADER: &str = "x-mbx-used-weight-1m";
/// Error codes that mean "later": internal error, too many requests, time-out.
const TRANSIENT_CODES: [i64; 3] = [-1001, -1003, -1007];

const MANNERS: Manners = Manners { explain, refuses_with_200: false, gap: Duration::ZERO };
const API: CandleApi = CandleApi {
    intervals: &INTERVALS,
    interval_rule: INTERVAL_RULE,
    symbol: checked_symbol,
    page_intervals: PAGE_INTERVALS,
    is_loose: false,
    newest: None,
    closing: Closing::LaterRow,
    request: |symbol, name, page| Request {
        path: KLINES.to_owned(),
        query: vec![
            ("symbol", symbol.to_owned()),
            ("interval", name.to_owned()),
            ("startTime", page.from_ms.to_string()),
            ("endTime", page.to_ms.to_string()),
            ("limit", "1000".to_owned()),
        ],
    },
    read: |body, symbol, interval| Ok(unmarked(decode_klines(body, interval)?, symbol, interval)),
    manners: &MANNERS,
};

/// A client of Binance's public REST interface.
#[derive(Debug)]
pub struct BinanceRest {
    rest: RestClient,
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
        let rest = RestClient::new(&API, rest_url, clock, timeout)?;
        Ok(Self { rest, used_weight: AtomicU32::new(0) })
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
        let (headers, body) = self.rest.http().get(path, query).await?;
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
        self.rest.candles(symbol, interval, from_ms, to_ms).await
    }
}

/// Reads the body of `/api/v3/klines`: strictly rising, valid candles. The last one may be open.
///
/// # Errors
/// [`DecodeError`] for the first row that is wrong; a page counts as a whole.
pub fn decode_klines(body: &[u8], interval: Interval) -> Result<Vec<Candle>, DecodeError> {
    let rows: Vec<Vec<Value>> =
        serde_json::from_slice(body).map_err(|error| shape("klines", &error))?;
    let mut candles: Vec<Candle> = Vec::with_capacity(rows.len());
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
fn decode_row(fields: &[Value], interval: Interval) -> Result<Candle, DecodeError> {
    let row = Row { what: "klines", fields };
    let candle = Candle {
        open_time_ms: time_ms("open time", row.integer(0, "open time")?)?,
        open: positive("open", row.text(1, "open")?)?,
        high: positive("high", row.text(2, "high")?)?,
        low: positive("low", row.text(3, "low")?)?,
        close: positive("close", row.text(4, "close")?)?,
        volume: amount("volume", row.text(5, "volume")?)?,
        trade_count: Some(row.count(8, "trade count")?),
    };
    candle.validate(interval)?;
    let last_ms = row.integer(6, "close time")?;
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
