//! Reads Bybit's WebSocket messages.

use std::borrow::Cow;

use forecastd_core::{Candle, Trade, TradeSide};
use serde::Deserialize;
use serde_json::Value;

use super::interval_of;
use crate::message::{
    CandleUpdate, DecodeError, Message, TradeUpdate, amount, json, positive, shape, shorten,
    symbol, time_ms,
};

/// Reads one text message.
///
/// # Errors
/// [`DecodeError`] when the text is not JSON, or claims to be a trade or candle and is malformed.
pub fn decode(text: &str) -> Result<Message, DecodeError> {
    let value = json(text)?;
    let Some(topic) = value.get("topic").and_then(Value::as_str) else {
        return Ok(answer(&value));
    };
    let mut parts = topic.splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("kline"), Some(interval), Some(market)) => candles(&value, interval, market),
        (Some("publicTrade"), Some(_), None) => trades(&value),
        _ => Ok(Message::Other),
    }
}

/// An answer to a request. Spot answers a ping like a subscription, other products with `pong`.
fn answer(value: &Value) -> Message {
    let word = |key: &str| value.get(key).and_then(Value::as_str);
    match (word("op"), value.get("success").and_then(Value::as_bool)) {
        (Some("pong"), _) | (Some("ping"), Some(true)) => Message::Pong,
        (Some(_), Some(true)) => {
            Message::Ack { id: word("req_id").and_then(|text| text.parse().ok()) }
        }
        (_, Some(false)) => {
            Message::Nack { reason: shorten(word("ret_msg").unwrap_or("no reason given")) }
        }
        _ => Message::Other,
    }
}

#[derive(Deserialize)]
struct Event<T> {
    data: Vec<T>,
}

#[derive(Deserialize)]
struct Kline<'a> {
    start: i64,
    end: i64,
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
    confirm: bool,
}

/// One message may hold the closed candle and the new one.
fn candles(value: &Value, interval: &str, market: &str) -> Result<Message, DecodeError> {
    // Bybit also has weeks and months, which do not lie on the grid; nobody here asks for them.
    let Some(interval) = interval_of(interval) else {
        return Ok(Message::Other);
    };
    let symbol = symbol("topic", market)?;
    let event = Event::<Kline<'_>>::deserialize(value).map_err(|error| shape("kline", &error))?;
    let mut updates = Vec::with_capacity(event.data.len());
    for bar in event.data {
        let candle = Candle {
            open_time_ms: time_ms("start", bar.start)?,
            open: positive("open", &bar.open)?,
            high: positive("high", &bar.high)?,
            low: positive("low", &bar.low)?,
            close: positive("close", &bar.close)?,
            volume: amount("volume", &bar.volume)?,
            trade_count: None,
        };
        candle.validate(interval)?;
        if bar.end != candle.close_time_ms(interval) - 1 {
            let rule = "the last millisecond of the interval";
            return Err(DecodeError::Value { field: "end", value: bar.end.to_string(), rule });
        }
        let is_final = Some(bar.confirm);
        updates.push(CandleUpdate { symbol, interval, candle, is_final });
    }
    updates.sort_by_key(|update| update.candle.open_time_ms);
    Ok(Message::Candles(updates))
}

#[derive(Deserialize)]
struct TradeEvent<'a> {
    #[serde(borrow, rename = "s")]
    symbol: Cow<'a, str>,
    #[serde(rename = "T")]
    time_ms: i64,
    #[serde(borrow, rename = "p")]
    price: Cow<'a, str>,
    #[serde(borrow, rename = "v")]
    size: Cow<'a, str>,
    #[serde(borrow, rename = "S")]
    side: Cow<'a, str>,
    #[serde(borrow, rename = "i")]
    trade_id: Cow<'a, str>,
}

fn trades(value: &Value) -> Result<Message, DecodeError> {
    let event = Event::<TradeEvent<'_>>::deserialize(value)
        .map_err(|error| shape("publicTrade", &error))?;
    let mut updates = Vec::with_capacity(event.data.len());
    for entry in event.data {
        let trade =
            checked_trade(&entry.price, &entry.size, entry.time_ms, &entry.trade_id, &entry.side)?;
        // The ids of spot rose by one where they were recorded, but that is not promised.
        updates.push(TradeUpdate { symbol: symbol("s", &entry.symbol)?, trade, numbers: None });
    }
    Ok(Message::Trades(updates))
}

/// Checks the parts of a trade; the side is the taker's.
pub(super) fn checked_trade(
    price: &str,
    size: &str,
    at_ms: i64,
    trade_id: &str,
    side: &str,
) -> Result<Trade, DecodeError> {
    let side = match side {
        "Buy" => TradeSide::Buy,
        "Sell" => TradeSide::Sell,
        _ => {
            let value = shorten(side);
            return Err(DecodeError::Value { field: "side", value, rule: "`Buy` or `Sell`" });
        }
    };
    Ok(Trade {
        time_ms: time_ms("time", at_ms)?,
        price: positive("price", price)?,
        size: positive("size", size)?,
        trade_id: Some(shorten(trade_id).into()),
        side,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KLINE: &str = r#"{"topic":"kline.5.BTCUSDT","data":[{"start":1672325100000,"end":1672325399999,"interval":"5","open":"3","close":"2.5","high":"3","low":"2","volume":"0","turnover":"0","confirm":false,"timestamp":1672325100001},{"start":1672324800000,"end":1672325099999,"interval":"5","open":"2.5","close":"2.25","high":"3","low":"2","volume":"7","turnover":"1","confirm":true,"timestamp":1672324988882}],"ts":1672324988882,"type":"snapshot"}"#;

    #[test]
    fn a_message_at_the_boundary_holds_two_candles() {
        let Message::Candles(updates) = decode(KLINE).unwrap() else { panic!("not a candle") };
        let told: Vec<_> =
            updates.iter().map(|update| (update.candle.open_time_ms, update.is_final)).collect();
        assert_eq!(told, [(1_672_324_800_000, Some(true)), (1_672_325_100_000, Some(false))]);
    }

    #[test]
    fn each_broken_candle_is_refused() {
        for (from, to) in [
            (r#""confirm":true"#, r#""confirm":"true""#),
            (r#""confirm":true,"#, ""),
            (r#""high":"3""#, r#""high":"1""#),
            (r#""volume":"7""#, r#""volume":"-1""#),
            (r#""volume":"7""#, r#""volume":7"#),
            (r#""open":"2.5""#, r#""open":"NaN""#),
            (r#""start":1672324800000"#, r#""start":1672324800001"#),
            (r#""end":1672325099999"#, r#""end":1672325100000"#),
            (r#""start":1672324800000"#, r#""start":99999999999999"#),
            ("kline.5.BTCUSDT", "kline.5.BTC USDT"),
            (r#""data":["#, r#""data":[null,"#),
        ] {
            assert!(KLINE.contains(from), "{from}");
            assert!(decode(&KLINE.replacen(from, to, 1)).is_err(), "{to}");
        }
        assert_eq!(decode(&KLINE.replace("kline.5.", "kline.W.")), Ok(Message::Other));
    }

    #[test]
    fn answers_are_told_apart() {
        let ack = r#"{"success":true,"ret_msg":"","conn_id":"x","req_id":"1","op":"subscribe"}"#;
        assert_eq!(decode(ack), Ok(Message::Ack { id: Some(1) }));
        let nack = decode(&ack.replace("true", "false").replace("\"\"", "\"no topic\""));
        assert_eq!(nack, Ok(Message::Nack { reason: "no topic".into() }));
        assert_eq!(decode("[]"), Ok(Message::Other));
    }
}
