//! Bybit's REST interface: closed candles and the newest trades.
//!
//! Pages come newest first. Refusals come with status 200 and a `retCode`; `category` is always sent,
//! without it Bybit answers with the candles of the perpetual contract.

use std::time::Duration;

use forecastd_core::{Candle, Interval, Trade};
use serde::Deserialize;
use serde_json::Value;

use super::message::checked_trade;
use super::{HOSTS, INTERVAL_RULE, INTERVALS, checked_symbol};
use crate::error::ExchangeError;
use crate::http::{DEFAULT_RATE_WAIT, Explanation, Manners, Meaning};
use crate::message::{
    CandleUpdate, DecodeError, amount, positive, shape, symbol as readable_symbol, time_ms,
};
use crate::paging::{Closing, unreadable};
use crate::rest::{CandleApi, Request, rest_client};
use crate::rows::Row;

const KLINES: &str = "/v5/market/kline";
const TRADES: &str = "/v5/market/recent-trade";
/// Intervals of one page: an answer holds at most 1000 rows, and both ends of what is asked for are
/// included.
const PAGE_INTERVALS: i64 = 999;
/// How long an address stays refused after 600 requests in 5 s.
const IP_BAN: Duration = Duration::from_mins(10);
/// `retCode`s that mean "later": server time-out, internal error, overload.
const LATER: [i64; 3] = [10_000, 10_016, 10_429];
/// A wrong parameter: of all that are sent only the symbol is not checked before.
const INVALID_PARAMETER: i64 = 10_001;
/// Too many visits of this second.
const TOO_MANY: i64 = 10_006;
/// Too many requests of this address.
const TOO_MANY_OF_ADDRESS: i64 = 10_018;
/// The address or its country is refused.
const BLOCKED: [i64; 3] = [10_009, 10_010, 10_024];

/// The exchange allows 600 requests in 5 s.
const GAP: Duration = Duration::from_millis(10);

pub(super) const MANNERS: Manners = Manners {
    explain,
    refuses_with_200: true,
    gap: GAP,
    weight: None,
    hosts: &HOSTS,
    symbols: "https://api.bybit.com/v5/market/instruments-info?category=spot",
};
const API: CandleApi = CandleApi {
    intervals: &INTERVALS,
    interval_rule: INTERVAL_RULE,
    symbol: checked_symbol,
    page_intervals: PAGE_INTERVALS,
    is_loose: false,
    newest: None,
    reach: None,
    // The answer says by its own clock what has closed.
    closing: Closing::Marked,
    request: |symbol, name, page| Request {
        path: KLINES.to_owned(),
        query: vec![
            ("category", "spot".to_owned()),
            ("symbol", symbol.to_owned()),
            ("interval", name.to_owned()),
            ("start", page.from_ms.to_string()),
            ("end", page.to_ms.to_string()),
            ("limit", "1000".to_owned()),
        ],
    },
    read: |body, _, interval| decode_klines(body, interval),
    is_unknown: |_, code, _| code == Some(INVALID_PARAMETER),
    trades: None,
    manners: &MANNERS,
};

rest_client!(
    /// A client of Bybit's public REST interface.
    BybitRest,
    API
);

impl BybitRest {
    /// Returns the newest `limit` (at most 60) trades, oldest first.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub async fn trades(&self, symbol: &str, limit: u16) -> Result<Vec<Trade>, ExchangeError> {
        let symbol = checked_symbol(symbol)?;
        let limit = limit.clamp(1, 60).to_string();
        let query = [("category", "spot"), ("symbol", &*symbol), ("limit", &*limit)];
        let body = self.rest.http().get(TRADES, &query).await?;
        decode_trades(&body).map_err(|error| unreadable(TRADES, &error))
    }
}

#[derive(Deserialize)]
struct Body<T> {
    result: Option<List<T>>,
    time: i64,
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default)]
    symbol: Option<String>,
    // Absent or null where there is nothing.
    #[serde(default = "Option::default")]
    list: Option<Vec<T>>,
}

/// Reads the body of `/v5/market/kline` into strictly rising, valid candles, each marked by whether it
/// had closed when the answer was made.
///
/// # Errors
/// [`DecodeError`] for the first row that is wrong; a page counts as a whole.
pub fn decode_klines(body: &[u8], interval: Interval) -> Result<Vec<CandleUpdate>, DecodeError> {
    let body: Body<Vec<Value>> =
        serde_json::from_slice(body).map_err(|error| shape("kline", &error))?;
    let now_ms = time_ms("time", body.time)?;
    let Some(List { symbol, list: Some(rows) }) = body.result else {
        return Ok(Vec::new());
    };
    let symbol = readable_symbol("symbol", &symbol.unwrap_or_default())?;
    let mut updates: Vec<CandleUpdate> = Vec::with_capacity(rows.len());
    for row in rows.iter().rev() {
        let candle = decode_row(row, interval)?;
        if updates.last().is_some_and(|last| last.candle.open_time_ms >= candle.open_time_ms) {
            let value = candle.open_time_ms.to_string();
            return Err(DecodeError::Value { field: "start", value, rule: "falling" });
        }
        let is_final = Some(candle.close_time_ms(interval) <= now_ms);
        updates.push(CandleUpdate { symbol, interval, candle, is_final });
    }
    Ok(updates)
}

/// `[start ms, open, high, low, close, volume, turnover]`, all texts.
fn decode_row(fields: &[Value], interval: Interval) -> Result<Candle, DecodeError> {
    let row = Row { what: "kline", fields };
    let candle = Candle {
        open_time_ms: milliseconds("start", row.text(0, "start")?)?,
        open: positive("open", row.text(1, "open")?)?,
        high: positive("high", row.text(2, "high")?)?,
        low: positive("low", row.text(3, "low")?)?,
        close: positive("close", row.text(4, "close")?)?,
        volume: amount("volume", row.text(5, "volume")?)?,
        trade_count: None,
    };
    candle.validate(interval)?;
    Ok(candle)
}

fn milliseconds(field: &'static str, text: &str) -> Result<i64, DecodeError> {
    // What is not a number is as wrong as a time before 1970.
    time_ms(field, text.parse().unwrap_or(-1))
}

/// Reads the body of `/v5/market/recent-trade`, oldest first.
///
/// # Errors
/// [`DecodeError`] for the first entry that is wrong.
pub fn decode_trades(body: &[u8]) -> Result<Vec<Trade>, DecodeError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        exec_id: String,
        price: String,
        size: String,
        side: String,
        time: String,
    }
    let body: Body<Entry> =
        serde_json::from_slice(body).map_err(|error| shape("recent-trade", &error))?;
    let entries = body.result.and_then(|result| result.list).unwrap_or_default();
    let read = |entry: &Entry| {
        let at_ms = milliseconds("time", &entry.time)?;
        checked_trade(&entry.price, &entry.size, at_ms, &entry.exec_id, &entry.side)
    };
    let mut trades = entries.iter().rev().map(read).collect::<Result<Vec<_>, _>>()?;
    trades.sort_by_key(|trade| trade.time_ms);
    Ok(trades)
}

/// Reads the refusal in `{"retCode":10006,"retMsg":"Too many visits!",...}`; `None` for success and for
/// anything else.
pub fn decode_refusal(body: &[u8]) -> Option<(i64, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Refusal {
        ret_code: i64,
        #[serde(default)]
        ret_msg: String,
    }
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    (refusal.ret_code != 0).then_some((refusal.ret_code, refusal.ret_msg))
}

fn explain(body: &[u8]) -> Option<Explanation> {
    if let Some((code, message)) = decode_refusal(body) {
        let meaning = match code {
            TOO_MANY => Meaning::TooFast(DEFAULT_RATE_WAIT),
            TOO_MANY_OF_ADDRESS => Meaning::TooFast(IP_BAN),
            _ if BLOCKED.contains(&code) => Meaning::Blocked,
            _ if LATER.contains(&code) => Meaning::Later,
            _ => Meaning::Wrong,
        };
        return Some(Explanation { code: Some(code), message, meaning });
    }
    // The firewall's 403 is plain text or HTML. One for the country has other words.
    let short = body.get(..body.len().min(4096))?;
    let text = String::from_utf8_lossy(short).to_ascii_lowercase();
    text.contains("access too frequent").then(|| Explanation {
        code: None,
        message: "access too frequent".to_owned(),
        meaning: Meaning::TooFast(IP_BAN),
    })
}
