//! Reads Kraken's WebSocket messages of version 2 (objects with JSON numbers) and, where they come from
//! a recording or an old host, of version 1 (data in arrays of texts).

use std::borrow::Cow;

use forecastd_core::{Candle, Trade, TradeSide};
use serde::Deserialize;
use serde_json::Value;

use super::interval_of_minutes;
use crate::message::{
    CandleUpdate, DecodeError, Message, TradeUpdate, amount, amount_number, json, positive,
    positive_number, rfc3339_ms, seconds_ms, shape, shorten, symbol, time_ms,
};

/// Reads one text message.
///
/// # Errors
/// [`DecodeError`] when the text is not JSON, or claims to be a trade or candle and is malformed.
pub fn decode(text: &str) -> Result<Message, DecodeError> {
    let value = json(text)?;
    if let Some(parts) = value.as_array() {
        return old_data(parts);
    }
    let word = |key: &str| value.get(key).and_then(Value::as_str);
    match (word("channel"), word("method"), word("event")) {
        (Some("ohlc"), ..) => candles(&value),
        (Some("trade"), ..) => trades(&value),
        (Some("heartbeat"), ..) | (_, _, Some("heartbeat")) => Ok(Message::Heartbeat),
        (Some("status"), ..) => Ok(status(value.pointer("/data/0/system"))),
        (Some(_), ..) => Ok(Message::Other),
        (_, Some("pong"), _) | (_, _, Some("pong")) => Ok(Message::Pong),
        (_, _, Some("systemStatus")) => Ok(status(value.get("status"))),
        (_, Some(_), _) => Ok(answer(&value)),
        (_, _, Some(event)) => Ok(old_answer(event, &value)),
        // `{"Error":"Exceeded msg rate"}` has neither.
        _ => Ok(word("Error").map_or(Message::Other, |reason| nack(Some(reason)))),
    }
}

fn status(state: Option<&Value>) -> Message {
    match state.and_then(Value::as_str) {
        // In the other states nothing, or nothing at market prices, is traded.
        Some(state) => Message::Status { is_online: state == "online", state: shorten(state) },
        None => Message::Other,
    }
}

fn nack(reason: Option<&str>) -> Message {
    Message::Nack { reason: shorten(reason.unwrap_or("no reason given")) }
}

fn answer(value: &Value) -> Message {
    match value.get("success").and_then(Value::as_bool) {
        Some(true) => Message::Ack { id: value.get("req_id").and_then(Value::as_u64) },
        Some(false) => nack(value.get("error").and_then(Value::as_str)),
        None => Message::Other,
    }
}

fn old_answer(event: &str, value: &Value) -> Message {
    let word = |key: &str| value.get(key).and_then(Value::as_str);
    match (event, word("status")) {
        ("error", _) | ("subscriptionStatus", Some("error")) => nack(word("errorMessage")),
        ("subscriptionStatus", Some("subscribed")) => {
            Message::Ack { id: value.get("reqid").and_then(Value::as_u64) }
        }
        _ => Message::Other,
    }
}

#[derive(Deserialize)]
struct Event<T> {
    data: Vec<T>,
}

#[derive(Deserialize)]
struct Ohlc<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: f64,
    trades: u64,
    #[serde(borrow)]
    interval_begin: Cow<'a, str>,
    interval: u64,
}

fn candles(value: &Value) -> Result<Message, DecodeError> {
    let event = Event::<Ohlc<'_>>::deserialize(value).map_err(|error| shape("ohlc", &error))?;
    let mut updates = Vec::with_capacity(event.data.len());
    for bar in event.data {
        // Nobody here asks for weeks and half months.
        let Some(interval) = interval_of_minutes(bar.interval) else {
            return Ok(Message::Other);
        };
        let candle = Candle {
            open_time_ms: rfc3339_ms("interval_begin", &bar.interval_begin)?,
            open: positive_number("open", bar.open)?,
            high: positive_number("high", bar.high)?,
            low: positive_number("low", bar.low)?,
            close: positive_number("close", bar.close)?,
            volume: amount_number("volume", bar.volume)?,
            trade_count: Some(bar.trades),
        };
        candle.validate(interval)?;
        let symbol = symbol("symbol", &bar.symbol)?;
        updates.push(CandleUpdate { symbol, interval, candle, is_final: None });
    }
    updates.sort_by_key(|update| update.candle.open_time_ms);
    Ok(Message::Candles(updates))
}

#[derive(Deserialize)]
struct TradeEvent<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    side: Cow<'a, str>,
    price: f64,
    qty: f64,
    trade_id: u64,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
}

fn trades(value: &Value) -> Result<Message, DecodeError> {
    let event =
        Event::<TradeEvent<'_>>::deserialize(value).map_err(|error| shape("trade", &error))?;
    let mut updates = Vec::with_capacity(event.data.len());
    for entry in event.data {
        let trade = Trade {
            time_ms: rfc3339_ms("timestamp", &entry.timestamp)?,
            price: positive_number("price", entry.price)?,
            size: positive_number("qty", entry.qty)?,
            trade_id: Some(entry.trade_id.into()),
            side: side(&entry.side)?,
        };
        let numbers = Some(entry.trade_id..=entry.trade_id);
        updates.push(TradeUpdate { symbol: symbol("symbol", &entry.symbol)?, trade, numbers });
    }
    Ok(Message::Trades(updates))
}

/// The taker's side.
pub(super) fn side(text: &str) -> Result<TradeSide, DecodeError> {
    match text {
        "buy" | "b" => Ok(TradeSide::Buy),
        "sell" | "s" => Ok(TradeSide::Sell),
        _ => {
            let (value, rule) = (shorten(text), "`buy` or `sell`");
            Err(DecodeError::Value { field: "side", value, rule })
        }
    }
}

/// `[channel number, payload, channel name, pair]`; order books may have two payloads.
fn old_data(parts: &[Value]) -> Result<Message, DecodeError> {
    let [_, payload, channel, pair] = parts else {
        return Ok(Message::Other);
    };
    let (Some(channel), Some(pair)) = (channel.as_str(), pair.as_str()) else {
        return Ok(Message::Other);
    };
    if channel == "trade" {
        return old_trades(payload, pair);
    }
    match channel.strip_prefix("ohlc-").map(str::parse) {
        Some(Ok(minutes)) => old_candle(payload, minutes, pair),
        _ => Ok(Message::Other),
    }
}

/// `[[price, volume, seconds, side, order type, miscellaneous], ...]`, all texts; no ids.
fn old_trades(payload: &Value, pair: &str) -> Result<Message, DecodeError> {
    let rows = Vec::<Vec<String>>::deserialize(payload).map_err(|error| shape("trade", &error))?;
    let mut updates = Vec::with_capacity(rows.len());
    for row in &rows {
        let [price, size, at, taker, ..] = row.as_slice() else {
            let reason = format!("row of {} fields", row.len());
            return Err(DecodeError::Shape { what: "trade", reason });
        };
        let trade = Trade {
            time_ms: seconds_ms("time", at)?,
            price: positive("price", price)?,
            size: positive("volume", size)?,
            trade_id: None,
            side: side(taker)?,
        };
        updates.push(TradeUpdate { symbol: symbol("pair", pair)?, trade, numbers: None });
    }
    Ok(Message::Trades(updates))
}

/// `[time, end, open, high, low, close, average, volume, count]`: texts, the count a number.
fn old_candle(payload: &Value, minutes: u64, pair: &str) -> Result<Message, DecodeError> {
    type Row = (String, String, String, String, String, String, String, String, u64);
    let Some(interval) = interval_of_minutes(minutes) else {
        return Ok(Message::Other);
    };
    let (_, end, open, high, low, close, _, volume, count) =
        Row::deserialize(payload).map_err(|error| shape("ohlc", &error))?;
    let candle = Candle {
        open_time_ms: time_ms("end", seconds_ms("end", &end)? - interval.as_ms())?,
        open: positive("open", &open)?,
        high: positive("high", &high)?,
        low: positive("low", &low)?,
        close: positive("close", &close)?,
        volume: amount("volume", &volume)?,
        trade_count: Some(count),
    };
    candle.validate(interval)?;
    let symbol = symbol("pair", pair)?;
    Ok(Message::Candles(vec![CandleUpdate { symbol, interval, candle, is_final: None }]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_candle_is_named_by_its_end() {
        let text = r#"[42,["1542057314.748456","1542057360.000000","3586.7","3586.8","3586.6","3586.7","3586.6","0.03373000",2],"ohlc-5","XBT/USD"]"#;
        assert!(decode(text).is_err(), "the end is not on the grid of five minutes");
        let text = text.replace("ohlc-5", "ohlc-1");
        let Message::Candles(updates) = decode(&text).unwrap() else { panic!("not a candle") };
        let candle = updates[0].candle;
        assert_eq!((candle.open_time_ms, candle.trade_count), (1_542_057_300_000, Some(2)));
    }

    #[test]
    fn states_and_refusals_without_a_method_are_read() {
        let down = r#"{"channel":"status","data":[{"system":"maintenance"}],"type":"update"}"#;
        let want = Message::Status { is_online: false, state: "maintenance".into() };
        assert_eq!(decode(down), Ok(want));
        let want = Message::Nack { reason: "Exceeded msg rate".into() };
        assert_eq!(decode(r#"{"Error":"Exceeded msg rate"}"#), Ok(want));
    }
}
