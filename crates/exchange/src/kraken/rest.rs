//! Kraken's REST interface: the newest 720 closed candles, and trades.
//!
//! Whatever is asked for, the answer holds the newest candles, oldest first, the running one last.
//! Refusals come with status 200 and a list of texts in `error`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use forecastd_core::{Candle, Clock, Interval, Trade};
use serde::Deserialize;
use serde_json::Value;

use super::message::side;
use super::{INTERVAL_RULE, INTERVALS, rest_pair};
use crate::error::ExchangeError;
use crate::http::{DEFAULT_RATE_WAIT, Explanation, HttpClient, Meaning};
use crate::intervals;
use crate::message::{
    CandleUpdate, DecodeError, amount, positive, seconds_ms, shape, shorten,
    symbol as readable_symbol, time_ms,
};
use crate::paging::{existing, rising, unreadable};
use crate::source::CandleSource;

const OHLC: &str = "/0/public/OHLC";
/// Closed candles in one answer, and the running one.
const PAGE: usize = 720;
const MAX_ROWS: usize = PAGE + 1;
/// How far back a feed asks: a little less, for candles that close while it asks.
const REACH: u32 = 700;
/// The exchange allows about one request a second.
const GAP: Duration = Duration::from_secs(1);
/// How long the exchange locks out who went on too fast.
const LOCKOUT: Duration = Duration::from_mins(15);

/// A client of Kraken's public REST interface.
#[derive(Debug)]
pub struct KrakenRest {
    http: HttpClient,
    clock: Arc<dyn Clock>,
}

impl KrakenRest {
    /// Creates a client of the host `rest_url` (`https://host`, without a path).
    ///
    /// `clock`: market time, which bounds what is asked for. `timeout`: real time for one request.
    ///
    /// # Errors
    /// [`ExchangeError::Config`] when the address cannot be one.
    pub fn new(
        rest_url: &str,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Result<Self, ExchangeError> {
        Ok(Self { http: HttpClient::new(rest_url, timeout, explain)?.with_gap(GAP), clock })
    }
}

#[async_trait]
impl CandleSource for KrakenRest {
    async fn candles(
        &self,
        symbol: &str,
        interval: Interval,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Candle>, ExchangeError> {
        let pair = rest_pair(symbol)?;
        let minutes = intervals::named(&INTERVALS, interval, INTERVAL_RULE)?;
        let Some(range) = existing(interval, from_ms, to_ms, self.clock.now_ms())? else {
            return Ok(Vec::new());
        };
        let (headers, body) =
            self.http.get(OHLC, &[("pair", &pair), ("interval", minutes)]).await?;
        if let Some(refusal) = explain(&body) {
            return Err(self.http.refused(200, &headers, Some(refusal), &body));
        }
        let rows = decode_ohlc(&body, &pair, interval).map_err(|error| unreadable(OHLC, &error))?;
        if rows.len() > MAX_ROWS {
            let reason = format!("{} rows, at most {MAX_ROWS} are documented", rows.len());
            return Err(ExchangeError::Decode { path: OHLC.to_owned(), reason });
        }
        // A full answer says nothing about what was before it: such candles exist and are gone.
        if let Some(first) = rows.first()
            && rows.len() >= PAGE
            && range.from_ms < first.candle.open_time_ms
        {
            let oldest_ms = first.candle.open_time_ms;
            return Err(ExchangeError::TooOld { from_ms: range.from_ms, oldest_ms });
        }
        let is_asked = |row: &CandleUpdate| {
            row.is_final == Some(true)
                && (range.from_ms..range.to_ms).contains(&row.candle.open_time_ms)
        };
        Ok(rows.into_iter().filter(is_asked).map(|row| row.candle).collect())
    }

    fn reach(&self) -> Option<u32> {
        Some(REACH)
    }
}

/// Takes the rows of the market, whose key need not be the name that was asked for, and `last`.
fn rows_of(body: &[u8], what: &'static str) -> Result<(Vec<Vec<Value>>, Value), DecodeError> {
    #[derive(Deserialize)]
    struct Body {
        result: serde_json::Map<String, Value>,
    }
    let mut body: Body = serde_json::from_slice(body).map_err(|error| shape(what, &error))?;
    let last = body.result.remove("last").unwrap_or_default();
    let mut markets = body.result.into_iter();
    let (Some((_, rows)), None) = (markets.next(), markets.next()) else {
        let reason = "result does not hold exactly one market".to_owned();
        return Err(DecodeError::Shape { what, reason });
    };
    let rows = serde_json::from_value(rows).map_err(|error| shape(what, &error))?;
    Ok((rows, last))
}

/// Reads the body of `/0/public/OHLC` into strictly rising, valid candles, each marked by whether it had
/// closed when the answer was made. `pair` is the symbol to give them.
///
/// # Errors
/// [`DecodeError`] for the first row that is wrong; a page counts as a whole.
pub fn decode_ohlc(
    body: &[u8],
    pair: &str,
    interval: Interval,
) -> Result<Vec<CandleUpdate>, DecodeError> {
    let (rows, last) = rows_of(body, "OHLC")?;
    let symbol = readable_symbol("pair", pair)?;
    let last_ms = seconds_ms("last", &last.to_string())?;
    let candles: Result<Vec<Candle>, DecodeError> =
        rows.iter().map(|row| decode_row(row, interval)).collect();
    let update = |candle: Candle| CandleUpdate {
        symbol,
        interval,
        candle,
        is_final: Some(candle.open_time_ms <= last_ms),
    };
    Ok(rising(candles?)?.into_iter().map(update).collect())
}

fn lacks(field: &'static str) -> DecodeError {
    DecodeError::Shape { what: "row", reason: format!("without a readable {field}") }
}

fn text<'a>(row: &'a [Value], index: usize, field: &'static str) -> Result<&'a str, DecodeError> {
    row.get(index).and_then(Value::as_str).ok_or_else(|| lacks(field))
}

/// `[seconds, open, high, low, close, average, volume, count]`: numbers at both ends, else texts.
fn decode_row(row: &[Value], interval: Interval) -> Result<Candle, DecodeError> {
    let seconds = row.first().and_then(Value::as_i64).ok_or_else(|| lacks("time"))?;
    let candle = Candle {
        open_time_ms: time_ms("time", seconds.saturating_mul(1000))?,
        open: positive("open", text(row, 1, "open")?)?,
        high: positive("high", text(row, 2, "high")?)?,
        low: positive("low", text(row, 3, "low")?)?,
        close: positive("close", text(row, 4, "close")?)?,
        volume: amount("volume", text(row, 6, "volume")?)?,
        trade_count: Some(row.get(7).and_then(Value::as_u64).ok_or_else(|| lacks("count"))?),
    };
    candle.validate(interval)?;
    Ok(candle)
}

/// Reads the body of `/0/public/Trades`, oldest first.
///
/// # Errors
/// [`DecodeError`] for the first row that is wrong.
pub fn decode_trades(body: &[u8]) -> Result<Vec<Trade>, DecodeError> {
    let (rows, _) = rows_of(body, "Trades")?;
    let mut trades = Vec::with_capacity(rows.len());
    for row in &rows {
        // The number is written out again instead of multiplied: a product could round up.
        let at = row.get(2).filter(|at| at.is_number()).ok_or_else(|| lacks("time"))?;
        let id = row.get(6).and_then(Value::as_u64).ok_or_else(|| lacks("trade id"))?;
        trades.push(Trade {
            time_ms: seconds_ms("time", &at.to_string())?,
            price: positive("price", text(row, 0, "price")?)?,
            size: positive("volume", text(row, 1, "volume")?)?,
            trade_id: Some(id.into()),
            side: side(text(row, 3, "side")?)?,
        });
    }
    Ok(trades)
}

/// Reads the refusal in `{"error":["EQuery:Unknown asset pair"]}`; `None` for success and for anything
/// else. Warnings, which begin with `W`, are no refusal.
pub fn decode_refusal(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Vec<String>,
    }
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    refusal.error.into_iter().find(|text| !text.starts_with('W')).map(|text| shorten(&text))
}

fn explain(body: &[u8]) -> Option<Explanation> {
    let message = decode_refusal(body)?;
    let meaning = if message.contains("Temporary lockout") {
        Meaning::TooFast(LOCKOUT)
    } else if message.contains("Too many requests") || message.contains("Rate limit exceeded") {
        Meaning::TooFast(DEFAULT_RATE_WAIT)
    } else if message.starts_with("EService:") || message.contains("Internal error") {
        Meaning::Later
    } else {
        Meaning::Wrong
    };
    Some(Explanation { code: None, message, meaning })
}
