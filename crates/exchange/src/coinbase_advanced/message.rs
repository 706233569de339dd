//! Reads the WebSocket messages of Coinbase Advanced Trade.

use std::borrow::Cow;

use forecastd_core::{Candle, Interval};
use serde::Deserialize;
use serde_json::Value;

use crate::coinbase::message::{checked_trade, topics_of};
use crate::message::{
    CandleUpdate, DecodeError, Message, TradeUpdate, amount, json, positive, seconds_ms, shape,
    shorten, symbol,
};

/// The only length of the candle channel.
pub(super) const CANDLES: Interval = Interval::FIVE_MINUTES;

/// Reads one text message.
///
/// # Errors
/// [`DecodeError`] when the text is not JSON, or claims to be a trade or candle and is malformed.
pub fn decode(text: &str) -> Result<Message, DecodeError> {
    let value = json(text)?;
    let word = |key: &str| value.get(key).and_then(Value::as_str);
    match (word("channel"), word("type")) {
        (Some("candles"), _) => candles(&value),
        (Some("market_trades"), _) => trades(&value),
        (Some("heartbeats"), _) => Ok(Message::Heartbeat),
        (Some("subscriptions"), _) => Ok(subscriptions(&value)),
        (None, Some("error")) => {
            Ok(Message::Nack { reason: shorten(word("message").unwrap_or("no reason given")) })
        }
        _ => Ok(Message::Other),
    }
}

/// Returns the number of a message in the row of its connection.
pub(super) fn sequence(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Envelope {
        sequence_num: u64,
    }
    serde_json::from_str::<Envelope>(text).ok().map(|envelope| envelope.sequence_num)
}

#[derive(Deserialize)]
struct Envelope<T> {
    events: Vec<T>,
}

#[derive(Deserialize)]
struct CandleEvent<'a> {
    #[serde(borrow)]
    candles: Vec<Bar<'a>>,
}

#[derive(Deserialize)]
struct Bar<'a> {
    #[serde(borrow)]
    start: Cow<'a, str>,
    #[serde(borrow)]
    open: Cow<'a, str>,
    #[serde(borrow)]
    high: Cow<'a, str>,
    #[serde(borrow)]
    low: Cow<'a, str>,
    #[serde(borrow)]
    close: Cow<'a, str>,
    #[serde(borrow)]
    volume: Cow<'a, str>,
    /// Absent in REST.
    #[serde(borrow, default)]
    product_id: Option<Cow<'a, str>>,
}

/// Reads a candle of the stream or of REST.
pub(super) fn candle(bar: &Value, interval: Interval) -> Result<Candle, DecodeError> {
    let bar = Bar::deserialize(bar).map_err(|error| shape("candles", &error))?;
    checked_candle(&bar, interval)
}

fn checked_candle(bar: &Bar<'_>, interval: Interval) -> Result<Candle, DecodeError> {
    let candle = Candle {
        open_time_ms: seconds_ms("start", &bar.start)?,
        open: positive("open", &bar.open)?,
        high: positive("high", &bar.high)?,
        low: positive("low", &bar.low)?,
        close: positive("close", &bar.close)?,
        volume: amount("volume", &bar.volume)?,
        trade_count: None,
    };
    candle.validate(interval)?;
    Ok(candle)
}

fn candles(value: &Value) -> Result<Message, DecodeError> {
    let message =
        Envelope::<CandleEvent<'_>>::deserialize(value).map_err(|e| shape("candles", &e))?;
    let bars = message.events.iter().flat_map(|event| &event.candles);
    let read = |bar: &Bar<'_>| {
        let candle = checked_candle(bar, CANDLES)?;
        let symbol = symbol("product_id", bar.product_id.as_deref().unwrap_or_default())?;
        Ok(CandleUpdate { symbol, interval: CANDLES, candle, is_final: None })
    };
    let mut updates = bars.map(read).collect::<Result<Vec<_>, DecodeError>>()?;
    updates.sort_by_key(|update| update.candle.open_time_ms);
    Ok(Message::Candles(updates))
}

#[derive(Deserialize)]
struct TradeEvent<'a> {
    #[serde(borrow)]
    trades: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    trade_id: Cow<'a, str>,
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    #[serde(borrow)]
    price: Cow<'a, str>,
    #[serde(borrow)]
    size: Cow<'a, str>,
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// A snapshot comes newest first.
fn trades(value: &Value) -> Result<Message, DecodeError> {
    let message =
        Envelope::<TradeEvent<'_>>::deserialize(value).map_err(|e| shape("market_trades", &e))?;
    let entries = message.events.iter().flat_map(|event| &event.trades);
    let read = |entry: &Entry<'_>| {
        let id = entry.trade_id.parse::<u64>().map_err(|_| DecodeError::Value {
            field: "trade_id",
            value: shorten(&entry.trade_id),
            rule: "a whole number",
        })?;
        let trade = checked_trade(&entry.price, &entry.size, &entry.time, id, &entry.side)?;
        let symbol = symbol("product_id", &entry.product_id)?;
        Ok((id, TradeUpdate { symbol, trade, numbers: Some(id..=id) }))
    };
    let mut updates = entries.map(read).collect::<Result<Vec<_>, DecodeError>>()?;
    updates.sort_by_key(|(id, update)| (update.trade.time_ms, *id));
    Ok(Message::Trades(updates.into_iter().map(|(_, update)| update).collect()))
}

fn subscriptions(value: &Value) -> Message {
    let lists = value.get("events").and_then(Value::as_array).into_iter().flatten();
    let channels = lists.filter_map(|event| event.get("subscriptions")?.as_object()).flatten();
    let named = channels.filter_map(|(name, products)| Some((name, products.as_array()?)));
    Message::Subscriptions(named.flat_map(|(name, products)| topics_of(name, products)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_turned_round() {
        let entry = |id: u64, second: u64| {
            format!(
                r#"{{"trade_id":"{id}","product_id":"BTC-USD","price":"2","size":"1","side":"BUY","time":"2026-04-07T14:30:0{second}.789012Z"}}"#
            )
        };
        let text = format!(
            r#"{{"channel":"market_trades","events":[{{"type":"snapshot","trades":[{},{},{}]}}]}}"#,
            entry(9, 2),
            entry(8, 2),
            entry(7, 1)
        );
        let Ok(Message::Trades(updates)) = decode(&text) else { panic!("{text}") };
        let ids: Vec<_> = updates.iter().map(|update| update.numbers.clone().unwrap()).collect();
        assert_eq!(ids, [7..=7, 8..=8, 9..=9]);
    }

    #[test]
    fn messages_are_numbered_and_refusals_are_read() {
        assert_eq!(sequence(r#"{"channel":"x","sequence_num":5,"events":[]}"#), Some(5));
        for text in ["", "[]", "{}", r#"{"sequence_num":-1}"#, r#"{"sequence_num":"5"}"#] {
            assert_eq!(sequence(text), None, "{text}");
        }
        let want = Message::Nack { reason: "channel is invalid".into() };
        assert_eq!(decode(r#"{"type":"error","message":"channel is invalid"}"#), Ok(want));
    }

    #[test]
    fn a_candle_without_a_product_is_refused() {
        let bar =
            r#"{"start":"1775521800","high":"3","low":"1","open":"2","close":"2","volume":"0"}"#;
        let text = format!(r#"{{"channel":"candles","events":[{{"candles":[{bar}]}}]}}"#);
        assert!(decode(&text).is_err());
        let with = text.replace(r#""volume""#, r#""product_id":"BTC-USD","volume""#);
        assert!(decode(&with).is_ok(), "{with}");
    }
}
