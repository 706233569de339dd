//! Binance's REST interface: closed candles and trades.

use std::time::Duration;

use forecastd_core::{Candle, Interval, Trade};
use serde::Deserialize;
use serde_json::Value;

use super::message::checked_trade;
use super::{HOSTS, INTERVAL_RULE, INTERVALS, checked_symbol};
use crate::error::ExchangeError;
use crate::http::{Explanation, Manners, Meaning, WeightLimit};
use crate::message::{DecodeError, amount, positive, shape, time_ms};
use crate::paging::{Closing, unreadable};
use crate::rest::{CandleApi, Request, rest_client, unmarked};
use crate::rows::Row;

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

/// The exchange allows 6000 a minute; other programs of this address need some of it.
const MOST_WEIGHT: u32 = 4_800;
const INVALID_SYMBOL: i64 = -1121;

pub(super) const MANNERS: Manners = Manners {
    explain,
    refuses_with_200: false,
    gap: Duration::ZERO,
    weight: Some(WeightLimit { header: WEIGHT_HEADER, most: MOST_WEIGHT }),
    hosts: &HOSTS,
    symbols: "https://api.binance.com/api/v3/exchangeInfo",
};
const API: CandleApi = CandleApi {
    intervals: &INTERVALS,
    interval_rule: INTERVAL_RULE,
    symbol: checked_symbol,
    page_intervals: PAGE_INTERVALS,
    is_loose: false,
    newest: None,
    reach: None,
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
    read: |body, symbol, interval| unmarked(decode_klines(body, interval)?, symbol, interval),
    is_unknown: |_, code, _| code == Some(INVALID_SYMBOL),
    trades: None,
    manners: &MANNERS,
};

rest_client!(
    /// A client of Binance's public REST interface.
    BinanceRest,
    API
);

impl BinanceRest {
    /// Returns the request weight of the running minute as the last answer told it; the exchange
    /// allows 6000.
    pub fn used_weight(&self) -> u32 {
        self.rest.http().used_weight()
    }

    /// Returns the newest `limit` (at most 1000) trades, oldest first.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub async fn trades(&self, symbol: &str, limit: u16) -> Result<Vec<Trade>, ExchangeError> {
        let symbol = checked_symbol(symbol)?;
        let limit = limit.clamp(1, 1000).to_string();
        let body = self.rest.http().get(TRADES, &[("symbol", &symbol), ("limit", &limit)]).await?;
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
        let body = self.rest.http().get(AGGREGATE_TRADES, &query).await?;
        decode_aggregate_trades(&body).map_err(|error| unreadable(AGGREGATE_TRADES, &error))
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
