//! Reads the WebSocket messages of Coinbase Exchange.

use std::borrow::Cow;

use forecastd_core::Trade;
use serde::Deserialize;
use serde_json::Value;

use super::taker_side;
use crate::message::{
    DecodeError, LastTrade, Message, Topic, TradeUpdate, json, positive, rfc3339_ms, shape,
    shorten, symbol,
};

/// Reads one text message.
///
/// # Errors
/// [`DecodeError`] when the text is not JSON, or claims to be a trade and is malformed.
pub fn decode(text: &str) -> Result<Message, DecodeError> {
    let value = json(text)?;
    match value.get("type").and_then(Value::as_str) {
        // The last one before the subscription comes once more, with the number that it always had.
        Some("match" | "last_match") => trade(&value),
        Some("heartbeat") => Ok(last_trade(&value).map_or(Message::Heartbeat, Message::LastTrade)),
        Some("subscriptions") => Ok(Message::Subscriptions(topics(&value))),
        Some("error") => Ok(refusal(&value)),
        _ => Ok(Message::Other),
    }
}

#[derive(Deserialize)]
struct Match<'a> {
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    trade_id: u64,
    #[serde(borrow)]
    price: Cow<'a, str>,
    #[serde(borrow)]
    size: Cow<'a, str>,
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn trade(value: &Value) -> Result<Message, DecodeError> {
    let entry = Match::deserialize(value).map_err(|error| shape("match", &error))?;
    let trade = checked_trade(&entry.price, &entry.size, &entry.time, entry.trade_id, &entry.side)?;
    let numbers = Some(entry.trade_id..=entry.trade_id);
    let symbol = symbol("product_id", &entry.product_id)?;
    Ok(Message::Trade(TradeUpdate { symbol, trade, numbers }))
}

/// Checks the parts of a trade. `side` is the maker's.
pub(crate) fn checked_trade(
    price: &str,
    size: &str,
    time: &str,
    trade_id: u64,
    side: &str,
) -> Result<Trade, DecodeError> {
    Ok(Trade {
        time_ms: rfc3339_ms("time", time)?,
        price: positive("price", price)?,
        size: positive("size", size)?,
        trade_id: Some(trade_id.into()),
        side: taker_side(side)?,
    })
}

/// `None` for one that names no trade.
fn last_trade(value: &Value) -> Option<LastTrade> {
    let word = |key: &str| value.get(key).and_then(Value::as_str);
    let time_ms = rfc3339_ms("time", word("time")?).ok()?;
    let symbol = symbol("product_id", word("product_id")?).ok()?;
    Some(LastTrade { symbol, number: value.get("last_trade_id")?.as_u64()?, time_ms })
}

fn refusal(value: &Value) -> Message {
    let word = |key: &str| value.get(key).and_then(Value::as_str);
    let message = shorten(word("message").unwrap_or("no reason given"));
    let reason = match word("reason") {
        Some(reason) => shorten(&format!("{message}: {reason}")),
        None => message,
    };
    Message::Nack { reason }
}

fn topics(value: &Value) -> Vec<Topic> {
    let channels = value.get("channels").and_then(Value::as_array).into_iter().flatten();
    let named = channels.filter_map(|channel| {
        let name = channel.get("name")?.as_str()?;
        Some((name, channel.get("product_ids")?.as_array()?))
    });
    named.flat_map(|(name, products)| topics_of(name, products)).collect()
}

/// The products of one channel.
pub(crate) fn topics_of<'a>(
    channel: &'a str,
    products: &'a [Value],
) -> impl Iterator<Item = Topic> + 'a {
    let products = products.iter().filter_map(Value::as_str);
    products.map(|product| Topic { channel: shorten(channel), symbol: shorten(product) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_names_the_newest_trade() {
        let text = r#"{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2014-11-07T08:19:28.464459Z"}"#;
        let symbol = symbol("product_id", "BTC-USD").unwrap();
        let newest = LastTrade { symbol, number: 20, time_ms: 1_415_348_368_464 };
        assert_eq!(decode(text), Ok(Message::LastTrade(newest)));
        for (from, to) in [("20,", "-1,"), ("2014-11-07", "someday"), ("BTC-USD", "")] {
            assert!(text.contains(from), "{from}");
            assert_eq!(decode(&text.replacen(from, to, 1)), Ok(Message::Heartbeat), "{to}");
        }
    }

    #[test]
    fn the_answer_to_a_subscription_is_the_whole_list() {
        let text = r#"{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD","ETH-USD"]},{"name":"heartbeat","product_ids":["BTC-USD"],"account_ids":null},{"name":7},"odd"]}"#;
        let topic =
            |channel: &str, symbol: &str| Topic { channel: channel.into(), symbol: symbol.into() };
        let want = vec![
            topic("matches", "BTC-USD"),
            topic("matches", "ETH-USD"),
            topic("heartbeat", "BTC-USD"),
        ];
        assert_eq!(decode(text), Ok(Message::Subscriptions(want)));
    }

    #[test]
    fn a_refusal_keeps_both_parts_of_its_words() {
        let reason = |text: &str| match decode(text) {
            Ok(Message::Nack { reason }) => reason,
            other => panic!("{other:?}"),
        };
        let text = r#"{"type":"error","message":"Failed to subscribe","reason":"X-USD is not a valid product"}"#;
        assert_eq!(reason(text), "Failed to subscribe: X-USD is not a valid product");
        assert_eq!(reason(r#"{"type":"error","message":"ErrSlowConsume"}"#), "ErrSlowConsume");
        assert_eq!(reason(r#"{"type":"error"}"#), "no reason given");
    }
}
