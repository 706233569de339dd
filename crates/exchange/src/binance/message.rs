//! Reads Binance's WebSocket messages, raw and combined.
//!
//! Field names differ only by case (`l` low, `L` last trade id), so they are spelt out here.

use std::borrow::Cow;

use forecastd_core::{Candle, Trade, TradeSide};
use serde::Deserialize;
use serde_json::Value;

use super::interval_of;
use crate::flat::{Fields, Flat};
use crate::message::{
    CandleUpdate, DecodeError, Message, TradeUpdate, amount, json, plain_positive, positive, shape,
    shorten, symbol, time_ms,
};
use crate::symbol::Symbol;

/// Reads one text message.
///
/// # Errors
/// [`DecodeError`] when the text is not JSON, or claims to be a trade or candle and is malformed.
pub fn decode(text: &str) -> Result<Message, DecodeError> {
    plain_trade(text).map_or_else(|| decode_any(text), |update| Ok(Message::Trade(update)))
}

/// Reads any message, trades of any form included: slower, and what [`decode`] is measured by.
///
/// # Errors
/// [`DecodeError`] as for [`decode`].
pub fn decode_any(text: &str) -> Result<Message, DecodeError> {
    let value = json(text)?;
    let payload = match (value.get("stream"), value.get("data")) {
        (Some(_), Some(data)) => data,
        _ => &value,
    };
    match payload.get("e").and_then(Value::as_str) {
        Some("kline") => candle(payload),
        Some("trade") => trade(payload),
        Some("aggTrade") => aggregate_trade(payload),
        Some("serverShutdown") => Ok(Message::GoingAway),
        Some(_) => Ok(Message::Other),
        None => Ok(answer(payload)),
    }
}

/// Reads a raw trade in its usual form; `None` for everything else, the broken ones included.
fn plain_trade(text: &str) -> Option<TradeUpdate> {
    let (mut kind, mut market, mut number) = (None, None, None);
    let (mut price, mut size, mut at, mut maker) = (None, None, None, None);
    for field in Fields::of(text)? {
        let (name, value) = field?;
        let place = match name {
            b"e" if value != Flat::Text(b"trade") => return None,
            b"e" => &mut kind,
            b"s" => &mut market,
            b"t" => &mut number,
            b"p" => &mut price,
            b"q" => &mut size,
            b"T" => &mut at,
            b"m" => &mut maker,
            // The wrapper of combined streams.
            b"data" => return None,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    kind?;
    let number = number?.number()?;
    let trade = Trade {
        time_ms: time_ms("T", i64::try_from(at?.number()?).ok()?).ok()?,
        price: plain_positive(price?.text()?)?,
        size: plain_positive(size?.text()?)?,
        trade_id: Some(number.into()),
        side: taker_side(maker?.bool()?),
    };
    let symbol = Symbol::from_bytes(market?.text()?)?;
    Some(TradeUpdate { symbol, trade, numbers: Some(number..=number) })
}

/// An answer to a request: the error comes bare or, in other products, inside of `error`.
fn answer(value: &Value) -> Message {
    let body = value.get("error").unwrap_or(value);
    if let (Some(code), Some(reason)) =
        (body.get("code").and_then(Value::as_i64), body.get("msg").and_then(Value::as_str))
    {
        return Message::Nack { reason: format!("{} (code {code})", shorten(reason)) };
    }
    match (value.get("result"), value.get("id")) {
        (Some(_), Some(id)) => Message::Ack { id: id.as_u64() },
        _ => Message::Other,
    }
}

#[derive(Deserialize)]
struct KlineEvent<'a> {
    #[serde(borrow, rename = "s")]
    symbol: Cow<'a, str>,
    #[serde(borrow, rename = "k")]
    bar: Kline<'a>,
}

#[derive(Deserialize)]
struct Kline<'a> {
    #[serde(rename = "t")]
    open_time_ms: i64,
    #[serde(rename = "T")]
    last_ms: i64,
    #[serde(borrow, rename = "i")]
    interval: Cow<'a, str>,
    #[serde(borrow, rename = "o")]
    open: Cow<'a, str>,
    #[serde(borrow, rename = "h")]
    high: Cow<'a, str>,
    #[serde(borrow, rename = "l")]
    low: Cow<'a, str>,
    #[serde(borrow, rename = "c")]
    close: Cow<'a, str>,
    #[serde(borrow, rename = "v")]
    volume: Cow<'a, str>,
    #[serde(rename = "n")]
    trade_count: u64,
    #[serde(rename = "x")]
    is_final: bool,
}

fn candle(payload: &Value) -> Result<Message, DecodeError> {
    let event = KlineEvent::deserialize(payload).map_err(|error| shape("kline", &error))?;
    let bar = event.bar;
    // Binance also has weeks and months, which do not lie on the grid; nobody here asks for them.
    let Some(interval) = interval_of(&bar.interval) else {
        return Ok(Message::Other);
    };
    let candle = Candle {
        open_time_ms: time_ms("t", bar.open_time_ms)?,
        open: positive("o", &bar.open)?,
        high: positive("h", &bar.high)?,
        low: positive("l", &bar.low)?,
        close: positive("c", &bar.close)?,
        volume: amount("v", &bar.volume)?,
        trade_count: Some(bar.trade_count),
    };
    candle.validate(interval)?;
    if bar.last_ms != candle.close_time_ms(interval) - 1 {
        let rule = "the last millisecond of the interval";
        return Err(DecodeError::Value { field: "T", value: bar.last_ms.to_string(), rule });
    }
    let symbol = symbol("s", &event.symbol)?;
    let is_final = Some(bar.is_final);
    Ok(Message::Candles(vec![CandleUpdate { symbol, interval, candle, is_final }]))
}

#[derive(Deserialize)]
struct TradeEvent<'a> {
    #[serde(borrow, rename = "s")]
    symbol: Cow<'a, str>,
    #[serde(rename = "t")]
    trade_id: u64,
    #[serde(borrow, rename = "p")]
    price: Cow<'a, str>,
    #[serde(borrow, rename = "q")]
    size: Cow<'a, str>,
    #[serde(rename = "T")]
    time_ms: i64,
    #[serde(rename = "m")]
    is_buyer_maker: bool,
}

fn trade(payload: &Value) -> Result<Message, DecodeError> {
    let event = TradeEvent::deserialize(payload).map_err(|error| shape("trade", &error))?;
    let trade = checked_trade(
        &event.price,
        &event.size,
        event.time_ms,
        event.trade_id,
        event.is_buyer_maker,
    )?;
    let numbers = Some(event.trade_id..=event.trade_id);
    let symbol = symbol("s", &event.symbol)?;
    Ok(Message::Trade(TradeUpdate { symbol, trade, numbers }))
}

#[derive(Deserialize)]
struct AggregateTradeEvent<'a> {
    #[serde(borrow, rename = "s")]
    symbol: Cow<'a, str>,
    #[serde(rename = "a")]
    aggregate_id: u64,
    #[serde(borrow, rename = "p")]
    price: Cow<'a, str>,
    #[serde(borrow, rename = "q")]
    size: Cow<'a, str>,
    #[serde(rename = "f")]
    first_id: u64,
    #[serde(rename = "l")]
    last_id: u64,
    #[serde(rename = "T")]
    time_ms: i64,
    #[serde(rename = "m")]
    is_buyer_maker: bool,
}

fn aggregate_trade(payload: &Value) -> Result<Message, DecodeError> {
    let event =
        AggregateTradeEvent::deserialize(payload).map_err(|error| shape("aggTrade", &error))?;
    let trade = checked_trade(
        &event.price,
        &event.size,
        event.time_ms,
        event.aggregate_id,
        event.is_buyer_maker,
    )?;
    let numbers = (event.first_id <= event.last_id).then_some(event.first_id..=event.last_id);
    let symbol = symbol("s", &event.symbol)?;
    Ok(Message::Trade(TradeUpdate { symbol, trade, numbers }))
}

/// When the buyer was the maker, the taker sold.
const fn taker_side(is_buyer_maker: bool) -> TradeSide {
    if is_buyer_maker { TradeSide::Sell } else { TradeSide::Buy }
}

/// Checks the parts of a trade.
pub(super) fn checked_trade(
    price: &str,
    size: &str,
    at_ms: i64,
    trade_id: u64,
    is_buyer_maker: bool,
) -> Result<Trade, DecodeError> {
    Ok(Trade {
        time_ms: time_ms("T", at_ms)?,
        price: positive("p", price)?,
        size: positive("q", size)?,
        trade_id: Some(trade_id.into()),
        side: taker_side(is_buyer_maker),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KLINE: &str = r#"{"e":"kline","E":1718667728540,"s":"BTCUSDT","k":{"t":1718667720000,"T":1718667779999,"s":"BTCUSDT","i":"1m","f":1,"L":2,"o":"2.5","c":"2.25","h":"3","l":"2","v":"0","n":246,"x":false,"q":"1","V":"1","Q":"1","B":"0"}}"#;

    #[test]
    fn fields_that_differ_by_case_are_told_apart() {
        let Message::Candles(updates) = decode(KLINE).unwrap() else { panic!("not a candle") };
        let candle = updates[0].candle;
        assert_eq!((candle.open, candle.high, candle.low, candle.close), (2.5, 3.0, 2.0, 2.25));
        assert_eq!(candle.trade_count, Some(246));
    }

    #[test]
    fn each_broken_candle_is_refused() {
        for (from, to) in [
            (r#""x":false"#, r#""x":"false""#),
            (r#""x":false,"#, ""),
            (r#""h":"3""#, r#""h":"1""#),
            (r#""v":"0""#, r#""v":"-1""#),
            (r#""v":"0""#, r#""v":0"#),
            (r#""o":"2.5""#, r#""o":"NaN""#),
            (r#""t":1718667720000"#, r#""t":1718667720001"#),
            (r#""T":1718667779999"#, r#""T":1718667780000"#),
            (r#""t":1718667720000"#, r#""t":99999999999999"#),
        ] {
            assert!(KLINE.contains(from), "{from}");
            assert!(decode(&KLINE.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn both_forms_of_a_refusal_are_read() {
        for text in [
            r#"{"code":2,"msg":"Invalid request","id":1}"#,
            r#"{"error":{"code":2,"msg":"Invalid request"},"id":1}"#,
        ] {
            let want = Message::Nack { reason: "Invalid request (code 2)".into() };
            assert_eq!(decode(text), Ok(want));
        }
        assert_eq!(decode(r#"{"result":null,"id":7}"#), Ok(Message::Ack { id: Some(7) }));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_decoder_panic(text in ".{0,200}") {
            drop(decode(&text));
        }

        #[test]
        fn no_damaged_kline_makes_the_decoder_panic(at in 0..400_usize, with in any::<char>()) {
            let damaged: String =
                KLINE.chars().enumerate().map(|(i, c)| if i == at { with } else { c }).collect();
            if let Ok(Message::Candles(updates)) = decode(&damaged) {
                for update in updates {
                    prop_assert!(update.candle.validate(update.interval).is_ok());
                }
            }
        }
    }
}
