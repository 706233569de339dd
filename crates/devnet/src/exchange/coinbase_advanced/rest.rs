//! Coinbase Advanced Trade's public REST interface.

use std::time::Duration;

use forecastd_core::Interval;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::exchange::coinbase::names::{rows, time_ms};
use crate::exchange::limits::Pace;
use crate::exchange::market::Bar;
use crate::exchange::venue::{Query, Reply, Scene, Texts, firewall, reply, success};

/// Ten requests a second, and a few at once.
const REQUEST_EVERY: Duration = Duration::from_millis(100);
const BURST: u32 = 15;
const MAX_ROWS: i64 = 350;
const PREFIX: &str = "/api/v3/brokerage/market/products/";
const GRANULARITIES: [(&str, i64); 8] = [
    ("ONE_MINUTE", 60_000),
    ("FIVE_MINUTE", 300_000),
    ("FIFTEEN_MINUTE", 900_000),
    ("THIRTY_MINUTE", 1_800_000),
    ("ONE_HOUR", 3_600_000),
    ("TWO_HOUR", 7_200_000),
    ("SIX_HOUR", 21_600_000),
    ("ONE_DAY", 86_400_000),
];

#[derive(Debug)]
pub(super) struct Rest {
    pace: Pace,
}

impl Rest {
    pub(super) fn new() -> Self {
        Self { pace: Pace::new(REQUEST_EVERY, BURST) }
    }

    pub(super) fn answer(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Reply {
        if !self.pace.take() {
            return refusal(StatusCode::TOO_MANY_REQUESTS);
        }
        let product = path.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
        match product {
            Some((product, "candles")) if product == scene.symbol => match candles(query, scene) {
                Ok(body) => success(&body),
                Err(message) => failure(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message),
            },
            _ => failure(StatusCode::NOT_FOUND, "NOT_FOUND", "valid product_id is required"),
        }
    }
}

fn failure(status: StatusCode, error: &str, message: &str) -> Reply {
    reply(status, &json!({ "error": error, "error_details": message, "message": message }))
}

/// The exchange's words for a refusal with this status.
pub(super) fn refusal(status: StatusCode) -> Reply {
    match status.as_u16() {
        403 => firewall(status),
        418 | 429 => failure(status, "RESOURCE_EXHAUSTED", "too many requests"),
        451 => failure(status, "PERMISSION_DENIED", "not available in your country"),
        503 => failure(status, "UNAVAILABLE", "service unavailable"),
        500.. => failure(status, "INTERNAL", "internal error"),
        _ => failure(status, "INVALID_ARGUMENT", "bad request"),
    }
}

/// `GET .../products/{product}/candles`: newest first, texts. All three parameters are required.
fn candles(query: &Query, scene: &Scene<'_>) -> Result<Value, &'static str> {
    let name = query.get("granularity").map_or("", String::as_str);
    let known = GRANULARITIES.iter().find(|(known, _)| *known == name);
    let interval = known.and_then(|(_, ms)| Interval::from_ms(*ms).ok());
    let interval = interval
        .filter(|interval| scene.market.has_interval(*interval))
        .ok_or("invalid granularity")?;
    let start = time_ms(query, "start").ok().flatten().ok_or("start is invalid or missing")?;
    let end = time_ms(query, "end").ok().flatten().ok_or("end is invalid or missing")?;
    if start > end {
        return Err("start must be before end");
    }
    if (end - start) / interval.as_ms() > MAX_ROWS {
        return Err("number of candles requested should be less than 350");
    }
    let limit = usize::try_from(MAX_ROWS).unwrap_or(0);
    let from_ms = interval.floor(start);
    let bars = rows(scene.market, interval, from_ms, end, limit, scene.now_ms);
    let list: Vec<Value> = bars.iter().map(row).collect();
    Ok(json!({ "candles": list }))
}

fn row(bar: &Bar) -> Value {
    let texts = Texts::from(&bar.candle);
    json!({
        "start": (bar.candle.open_time_ms / 1000).to_string(), "low": texts.low,
        "high": texts.high, "open": texts.open, "close": texts.close, "volume": texts.volume,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::market::Market;
    use crate::exchange::recording;

    #[test]
    fn all_parameters_are_needed_and_ranges_are_limited() {
        let mut all = recording::embedded().unwrap();
        all.truncate(500);
        let market = Market::new(all.as_slice().into(), Interval::FIVE_MINUTES);
        let now_ms = all[450].open_time_ms;
        let scene = Scene { market: &market, symbol: "BTC-USD", now_ms };
        let ask = |start: usize, end: usize, granularity: &str| {
            let seconds = |index: usize| (all[index].open_time_ms / 1000).to_string();
            let pairs = [("start", seconds(start)), ("end", seconds(end))];
            let mut query: Query =
                pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            query.insert("granularity".to_owned(), granularity.to_owned());
            candles(&query, &scene)
        };
        let rows = ask(10, 20, "FIVE_MINUTE").unwrap();
        assert_eq!(rows["candles"].as_array().unwrap().len(), 11);
        assert_eq!(rows["candles"][0]["start"], (all[20].open_time_ms / 1000).to_string());
        assert!(ask(10, 361, "FIVE_MINUTE").unwrap_err().contains("350"));
        assert_eq!(ask(10, 20, "300"), Err("invalid granularity"));
        assert_eq!(candles(&Query::new(), &scene), Err("invalid granularity"));
    }
}
