//! The REST interface of Coinbase Exchange: closed candles and the newest trades.
//!
//! Pages come newest first, may begin before what was asked for, and lack the intervals without
//! trades. Their youngest rows are still corrected.

use std::time::Duration;

use forecastd_core::{Candle, Interval, Trade};
use serde::Deserialize;
use serde_json::Value;

use super::message::checked_trade;
use super::{HOSTS, INTERVAL_RULE, INTERVALS, SETTLE_MS, checked_symbol};
use crate::error::ExchangeError;
use crate::http::{Explanation, Manners, Meaning};
use crate::message::{DecodeError, amount_number, positive_number, shape, shorten, time_ms};
use crate::paging::{Closing, rising, unreadable};
use crate::rest::{CandleApi, Request, rest_client, unmarked};
use crate::rows::Row;

/// Intervals of one page: an answer holds at most 300 rows, and both ends of what is asked for are
/// included.
const PAGE_INTERVALS: i64 = 299;
/// The exchange allows about ten requests a second.
const GAP: Duration = Duration::from_millis(125);

pub(super) const MANNERS: Manners = Manners {
    explain,
    refuses_with_200: false,
    gap: GAP,
    weight: None,
    hosts: &HOSTS,
    symbols: "https://api.exchange.coinbase.com/products",
};
const API: CandleApi = CandleApi {
    intervals: &INTERVALS,
    interval_rule: INTERVAL_RULE,
    symbol: checked_symbol,
    page_intervals: PAGE_INTERVALS,
    is_loose: true,
    newest: None,
    reach: None,
    closing: Closing::Settled(SETTLE_MS),
    request: |product, granularity, page| Request {
        path: format!("/products/{product}/candles"),
        query: vec![
            ("granularity", granularity.to_owned()),
            ("start", (page.from_ms / 1000).to_string()),
            ("end", (page.to_ms / 1000).to_string()),
        ],
    },
    read: |body, symbol, interval| unmarked(decode_candles(body, interval)?, symbol, interval),
    is_unknown: |status, _, _| status == 404,
    trades: None,
    manners: &MANNERS,
};

rest_client!(
    /// A client of the public REST interface of Coinbase Exchange.
    CoinbaseRest,
    API
);

impl CoinbaseRest {
    /// Returns the newest `limit` (at most 1000) trades, oldest first.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub async fn trades(&self, symbol: &str, limit: u16) -> Result<Vec<Trade>, ExchangeError> {
        let path = format!("/products/{}/trades", checked_symbol(symbol)?);
        let limit = limit.clamp(1, 1000).to_string();
        let body = self.rest.http().get(&path, &[("limit", &limit)]).await?;
        decode_trades(&body).map_err(|error| unreadable(&path, &error))
    }
}

/// Reads the body of `/products/{product}/candles`: strictly rising, valid candles. The youngest may
/// still change.
///
/// # Errors
/// [`DecodeError`] for the first row that is wrong; a page counts as a whole.
pub fn decode_candles(body: &[u8], interval: Interval) -> Result<Vec<Candle>, DecodeError> {
    let rows: Vec<Vec<Value>> =
        serde_json::from_slice(body).map_err(|error| shape("candles", &error))?;
    let candles: Result<Vec<Candle>, DecodeError> =
        rows.iter().map(|row| decode_row(row, interval)).collect();
    rising(candles?)
}

/// `[seconds, low, high, open, close, volume]`, all numbers.
fn decode_row(fields: &[Value], interval: Interval) -> Result<Candle, DecodeError> {
    let row = Row { what: "candles", fields };
    let candle = Candle {
        open_time_ms: time_ms("time", row.integer(0, "time")?.saturating_mul(1000))?,
        low: positive_number("low", row.number(1, "low")?)?,
        high: positive_number("high", row.number(2, "high")?)?,
        open: positive_number("open", row.number(3, "open")?)?,
        close: positive_number("close", row.number(4, "close")?)?,
        volume: amount_number("volume", row.number(5, "volume")?)?,
        trade_count: None,
    };
    candle.validate(interval)?;
    Ok(candle)
}

/// Reads the body of `/products/{product}/trades`, oldest first.
///
/// # Errors
/// [`DecodeError`] for the first entry that is wrong.
pub fn decode_trades(body: &[u8]) -> Result<Vec<Trade>, DecodeError> {
    /// Some copies of the interface give the number as text.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u64),
        Text(String),
    }
    #[derive(Deserialize)]
    struct Entry {
        trade_id: Id,
        side: String,
        size: String,
        price: String,
        time: String,
    }
    let entries: Vec<Entry> =
        serde_json::from_slice(body).map_err(|error| shape("trades", &error))?;
    let read = |entry: &Entry| {
        let id = match &entry.trade_id {
            Id::Number(number) => *number,
            Id::Text(text) => text.parse().map_err(|_| DecodeError::Value {
                field: "trade_id",
                value: shorten(text),
                rule: "a whole number",
            })?,
        };
        checked_trade(&entry.price, &entry.size, &entry.time, id, &entry.side)
    };
    let mut trades = entries.iter().rev().map(read).collect::<Result<Vec<_>, _>>()?;
    trades.sort_by_key(|trade| trade.time_ms);
    Ok(trades)
}

/// Reads the refusal in `{"message":"NotFound"}`; `None` for anything else.
pub fn decode_refusal(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    serde_json::from_slice::<Refusal>(body).ok().map(|refusal| shorten(&refusal.message))
}

/// The status says what the words mean.
pub(crate) fn explain(body: &[u8]) -> Option<Explanation> {
    let message = decode_refusal(body)?;
    Some(Explanation { code: None, message, meaning: Meaning::Wrong })
}
