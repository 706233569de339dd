//! Bodies: pages of rows, and refusals.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Endpoint, SeriesConfig};
use crate::http::{DEFAULT_RATE_WAIT, Explanation, Meaning};
use crate::message::{DecodeError, rfc3339_ms, shape, shorten, signed};

/// Longest mark of the next page that is repeated to the server.
const MAX_TOKEN: usize = 1_024;

/// One page of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Time in ms since the epoch and value, in the order of the body. Rows without a value, which
    /// means that there is none, are left out.
    pub rows: Vec<(i64, f64)>,
    /// Rows of the body, those without a value included.
    pub count: usize,
    /// Time of the first row, with or without a value.
    pub first_ms: Option<i64>,
    /// Time of the last row, with or without a value.
    pub last_ms: Option<i64>,
    /// The mark of the next page; `None` on the last one.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    data: Vec<Map<String, Value>>,
    next_page_token: Option<String>,
}

/// Reads a page.
///
/// # Errors
/// [`DecodeError`] for the first row that is wrong; a page counts as a whole.
pub fn decode_page(body: &[u8], series: &SeriesConfig) -> Result<Page, DecodeError> {
    let body: Body = serde_json::from_slice(body).map_err(|error| shape("page", &error))?;
    let next = body.next_page_token.filter(|token| !token.is_empty());
    if let Some(token) = next.as_ref().filter(|token| token.len() > MAX_TOKEN) {
        let rule = "at most 1024 characters";
        return Err(DecodeError::Value { field: "next_page_token", value: shorten(token), rule });
    }
    let (first_ms, last_ms, count) = (None, None, body.data.len());
    let mut page = Page { rows: Vec::with_capacity(count), count, first_ms, last_ms, next };
    for row in &body.data {
        let at_ms = row_time(row)?;
        check_owner(row, series.endpoint, &series.of)?;
        if page.last_ms.is_some_and(|before| at_ms <= before) {
            let rule = "later than the row before";
            return Err(DecodeError::Value { field: "time", value: at_ms.to_string(), rule });
        }
        page.first_ms.get_or_insert(at_ms);
        page.last_ms = Some(at_ms);
        if let Some(value) = row_value(row, &series.metric)? {
            page.rows.push((at_ms, value));
        }
    }
    Ok(page)
}

fn row_time(row: &Map<String, Value>) -> Result<i64, DecodeError> {
    let text = row.get("time").and_then(Value::as_str).ok_or_else(|| lacks("time"))?;
    rfc3339_ms("time", text)
}

/// A row of another market would put foreign numbers into the series.
fn check_owner(row: &Map<String, Value>, endpoint: Endpoint, of: &str) -> Result<(), DecodeError> {
    let owner = row.get(endpoint.row_key()).and_then(Value::as_str);
    let owner = owner.ok_or_else(|| lacks(endpoint.row_key()))?;
    if owner.eq_ignore_ascii_case(of) {
        return Ok(());
    }
    let rule = "the one that was asked for";
    Err(DecodeError::Value { field: endpoint.row_key(), value: shorten(owner), rule })
}

fn row_value(row: &Map<String, Value>, metric: &str) -> Result<Option<f64>, DecodeError> {
    match row.get(metric) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => signed("metric", text).map(Some),
        Some(Value::Number(number)) => signed("metric", &number.to_string()).map(Some),
        Some(_) => Err(lacks("metric")),
    }
}

fn lacks(field: &'static str) -> DecodeError {
    DecodeError::Shape { what: "row", reason: format!("without a readable {field}") }
}

/// Reads `{"error":{"type":"bad_parameter","message":"…"}}`; `None` for anything else.
pub(super) fn explain(body: &[u8]) -> Option<Explanation> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Reason,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(rename = "type", default)]
        class: String,
        #[serde(default)]
        message: String,
    }
    let Refusal { error } = serde_json::from_slice(body).ok()?;
    let meaning = match error.class.as_str() {
        "too_many_requests" => Meaning::TooFast(DEFAULT_RATE_WAIT),
        "internal_server_error" | "service_unavailable" => Meaning::Later,
        // Without rights to a series the status is 403 as well, and no other address would help.
        "unauthorized" | "forbidden" => Meaning::Denied,
        _ => Meaning::Wrong,
    };
    let message = format!("{}: {}", error.class, error.message);
    Some(Explanation { code: None, message, meaning })
}
