//! What the feed asks Coinbase Advanced Trade for: one channel a request, the whole list as answer.

use super::message::{self, CANDLES};
use crate::config::FeedConfig;
use crate::message::{DecodeError, Message};
use crate::socket::Protocol;

/// Keeps the other channels open in a silent market.
const HEARTBEATS: &str = "heartbeats";

/// The channels of one market over one connection.
#[derive(Debug, Clone)]
pub struct Subscription {
    url: String,
    symbol: String,
    channels: Vec<&'static str>,
}

impl Subscription {
    /// Names the channels of `config`: candles where the stream has them, and trades where they are
    /// asked for or are the only sign of life.
    pub fn new(config: &FeedConfig) -> Self {
        let mut channels = vec![HEARTBEATS];
        if config.interval == CANDLES {
            channels.push("candles");
        }
        if config.trades || config.interval != CANDLES {
            channels.push("market_trades");
        }
        Self { url: config.ws_url.clone(), symbol: config.symbol.to_ascii_uppercase(), channels }
    }
}

impl Protocol for Subscription {
    fn url(&self) -> &str {
        &self.url
    }

    fn requests(&self) -> Vec<String> {
        let request = |channel: &&str| {
            let body = serde_json::json!({
                "type": "subscribe", "product_ids": [self.symbol], "channel": channel,
            });
            body.to_string()
        };
        self.channels.iter().map(request).collect()
    }

    fn confirmed_by(&self, message: &Message) -> Vec<usize> {
        let Message::Subscriptions(topics) = message else {
            return vec![];
        };
        // The heartbeats belong to no product.
        let is_there = |channel: &str| {
            topics.iter().any(|topic| {
                topic.channel == channel && (channel == HEARTBEATS || topic.symbol == self.symbol)
            })
        };
        let channels = self.channels.iter().enumerate();
        channels.filter(|(_, name)| is_there(name)).map(|(position, _)| position).collect()
    }

    fn decode(&self, text: &str) -> Result<Message, DecodeError> {
        let mut message = message::decode(text)?;
        if let Message::Candles(updates) = &mut message {
            // A later candle proves nothing here, the one before it may still be corrected: only REST
            // makes a candle final.
            for update in updates {
                update.is_final = Some(false);
            }
        }
        Ok(message)
    }

    fn sequence(&self, text: &str) -> Option<u64> {
        message::sequence(text)
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::Interval;

    use super::*;
    use crate::Exchange;

    fn subscription(interval: Interval, trades: bool) -> Subscription {
        let config = Exchange::CoinbaseAdvanced.default_config();
        Subscription::new(&FeedConfig { interval, trades, ..config })
    }

    #[test]
    fn the_texts_are_the_documented_ones() {
        let five = subscription(Interval::FIVE_MINUTES, true);
        assert_eq!(five.url(), "wss://advanced-trade-ws.coinbase.com");
        let request = |channel: &str| {
            format!(r#"{{"type":"subscribe","product_ids":["BTC-USD"],"channel":"{channel}"}}"#)
        };
        let all = ["heartbeats", "candles", "market_trades"].map(request);
        assert_eq!(five.requests(), all);
        let quiet = subscription(Interval::FIVE_MINUTES, false);
        assert_eq!(quiet.requests(), all[..2]);
        let one = subscription(Interval::MINUTE, false);
        assert_eq!(one.requests(), [all[0].clone(), all[2].clone()]);
    }

    #[test]
    fn each_channel_is_confirmed_by_the_list() {
        let five = subscription(Interval::FIVE_MINUTES, true);
        let confirmed = |list: &str| {
            let text =
                format!(r#"{{"channel":"subscriptions","events":[{{"subscriptions":{list}}}]}}"#);
            five.confirmed_by(&message::decode(&text).unwrap())
        };
        assert_eq!(confirmed(r#"{"heartbeats":["heartbeats"]}"#), [0]);
        assert_eq!(confirmed(r#"{"candles":["BTC-USD"],"heartbeats":[""]}"#), [0, 1]);
        assert!(confirmed(r#"{"candles":["ETH-USD"],"market_trades":7}"#).is_empty());
    }

    #[test]
    fn no_candle_of_the_stream_is_final() {
        let five = subscription(Interval::FIVE_MINUTES, true);
        let text = r#"{"channel":"candles","events":[{"type":"update","candles":[{"start":"1775521800","high":"3","low":"1","open":"2","close":"2","volume":"0","product_id":"BTC-USD"}]}]}"#;
        let Ok(Message::Candles(updates)) = five.decode(text) else { panic!("{text}") };
        assert_eq!(updates[0].is_final, Some(false));
    }
}
