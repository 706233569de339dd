//! The REST interface of Coinbase Advanced Trade: closed candles.
//!
//! Pages come newest first; the running candle may be absent. Their youngest rows are still corrected.

use std::time::Duration;

use forecastd_core::{Candle, Interval};
use serde::Deserialize;
use serde_json::Value;

use super::message::candle;
use super::{HOSTS, INTERVAL_RULE, INTERVALS};
use crate::coinbase::{SETTLE_MS, checked_symbol};
use crate::http::{Explanation, Manners, Meaning};
use crate::message::{DecodeError, shape, shorten};
use crate::paging::{Closing, rising};
use crate::rest::{CandleApi, Request, rest_client, unmarked};

/// Intervals of one page: an answer holds at most 350 rows, and both ends of what is asked for are
/// included.
const PAGE_INTERVALS: i64 = 349;
/// The exchange allows about ten requests a second.
const GAP: Duration = Duration::from_millis(125);

pub(super) const MANNERS: Manners = Manners {
    explain,
    refuses_with_200: false,
    gap: GAP,
    weight: None,
    hosts: &HOSTS,
    symbols: "https://api.coinbase.com/api/v3/brokerage/market/products",
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
        path: format!("/api/v3/brokerage/market/products/{product}/candles"),
        query: vec![
            ("start", (page.from_ms / 1000).to_string()),
            ("end", (page.to_ms / 1000).to_string()),
            ("granularity", granularity.to_owned()),
        ],
    },
    read: |body, symbol, interval| unmarked(decode_candles(body, interval)?, symbol, interval),
    is_unknown: |status, _, _| status == 404,
    trades: None,
    manners: &MANNERS,
};

rest_client!(
    /// A client of the public REST interface of Coinbase Advanced Trade.
    CoinbaseAdvancedRest,
    API
);

/// Reads the body of `/api/v3/brokerage/market/products/{product}/candles`: strictly rising, valid
/// candles. The youngest may still change.
///
/// # Errors
/// [`DecodeError`] for the first row that is wrong; a page counts as a whole.
pub fn decode_candles(body: &[u8], interval: Interval) -> Result<Vec<Candle>, DecodeError> {
    #[derive(Deserialize)]
    struct Body {
        candles: Vec<Value>,
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| shape("candles", &error))?;
    let candles: Result<Vec<Candle>, DecodeError> =
        body.candles.iter().map(|row| candle(row, interval)).collect();
    rising(candles?)
}

/// Reads the refusal in `{"error":"NOT_FOUND","message":"..."}`; `None` for anything else.
pub fn decode_refusal(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(default)]
        message: String,
    }
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    Some(shorten(&format!("{} {}", refusal.error, refusal.message)))
}

/// The status says what the words mean.
fn explain(body: &[u8]) -> Option<Explanation> {
    let message = decode_refusal(body)?;
    Some(Explanation { code: None, message, meaning: Meaning::Wrong })
}
