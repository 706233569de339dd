//! Kraken's REST interface: the newest 720 closed candles, and trades.
//!
//! Whatever is asked for, the answer holds the newest candles, oldest first, the running one last.
//! Refusals come with status 200 and a list of texts in `error`.

use std::time::Duration;

use forecastd_core::{Candle, Interval, Trade};
use serde::Deserialize;
use serde_json::Value;

use super::message::side;
use super::{HOSTS, INTERVAL_RULE, INTERVALS, rest_pair};
use crate::http::{DEFAULT_RATE_WAIT, Explanation, Manners, Meaning};
use crate::message::{
    CandleUpdate, DecodeError, amount, positive, seconds_ms, shape, shorten,
    symbol as readable_symbol, time_ms,
};
use crate::old_trades::{TradesApi, TradesPage};
use crate::paging::{Closing, rising};
use crate::rest::{CandleApi, Request, rest_client};
use crate::rows::Row;

const OHLC: &str = "/0/public/OHLC";
const TRADES: &str = "/0/public/Trades";
/// Closed candles in one answer; the running one comes on top.
const PAGE: usize = 720;
/// One answer is all that there is, so that a range is never cut into pages.
const PAGE_INTERVALS: i64 = 100_000;
/// How far back a feed asks: a little less, for candles that close while it asks.
const REACH: u32 = 700;
/// The exchange allows about one request a second.
const GAP: Duration = Duration::from_secs(1);
/// How long the exchange locks out who went on too fast.
const LOCKOUT: Duration = Duration::from_mins(15);

pub(super) const MANNERS: Manners = Manners {
    explain,
    refuses_with_200: true,
    gap: GAP,
    weight: None,
    hosts: &HOSTS,
    symbols: "https://api.kraken.com/0/public/AssetPairs",
};
const API: CandleApi = CandleApi {
    intervals: &INTERVALS,
    interval_rule: INTERVAL_RULE,
    symbol: rest_pair,
    page_intervals: PAGE_INTERVALS,
    is_loose: true,
    newest: Some(PAGE),
    reach: Some(REACH),
    closing: Closing::Marked,
    request: |pair, minutes, _| Request {
        path: OHLC.to_owned(),
        query: vec![("pair", pair.to_owned()), ("interval", minutes.to_owned())],
    },
    read: decode_ohlc,
    is_unknown: |_, _, words| words.contains("Unknown asset pair"),
    trades: Some(TradesApi {
        request: |pair, since_ns| Request {
            path: TRADES.to_owned(),
            query: vec![("pair", pair.to_owned()), ("since", since_ns.to_string())],
        },
        read: decode_trades_page,
    }),
    manners: &MANNERS,
};

rest_client!(
    /// A client of Kraken's public REST interface.
    KrakenRest,
    API
);

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

/// `[seconds, open, high, low, close, average, volume, count]`: numbers at both ends, else texts.
fn decode_row(fields: &[Value], interval: Interval) -> Result<Candle, DecodeError> {
    let row = Row { what: "OHLC", fields };
    let candle = Candle {
        open_time_ms: time_ms("time", row.integer(0, "time")?.saturating_mul(1000))?,
        open: positive("open", row.text(1, "open")?)?,
        high: positive("high", row.text(2, "high")?)?,
        low: positive("low", row.text(3, "low")?)?,
        close: positive("close", row.text(4, "close")?)?,
        volume: amount("volume", row.text(6, "volume")?)?,
        trade_count: Some(row.count(7, "count")?),
    };
    candle.validate(interval)?;
    Ok(candle)
}

/// Reads the body of `/0/public/Trades`, oldest first.
///
/// # Errors
/// [`DecodeError`] for the first row that is wrong.
pub fn decode_trades(body: &[u8]) -> Result<Vec<Trade>, DecodeError> {
    decode_trades_page(body).map(|(trades, _)| trades)
}

/// Reads the body of `/0/public/Trades` and the moment, nanoseconds, from which to ask on.
fn decode_trades_page(body: &[u8]) -> Result<TradesPage, DecodeError> {
    let (rows, last) = rows_of(body, "Trades")?;
    let last = last.as_str().and_then(|last| last.parse().ok());
    let last_ns = last.ok_or_else(|| DecodeError::Shape {
        what: "Trades",
        reason: "last is not a moment in nanoseconds".to_owned(),
    })?;
    let mut trades = Vec::with_capacity(rows.len());
    for fields in &rows {
        let row = Row { what: "Trades", fields };
        trades.push(Trade {
            // The digits are read instead of the number multiplied: a product could round up.
            time_ms: seconds_ms("time", &row.digits(2, "time")?)?,
            price: positive("price", row.text(0, "price")?)?,
            size: positive("volume", row.text(1, "volume")?)?,
            trade_id: Some(row.count(6, "trade id")?.into()),
            side: side(row.text(3, "side")?)?,
        });
    }
    Ok((trades, last_ns))
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
