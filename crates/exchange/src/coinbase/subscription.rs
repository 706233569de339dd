//! What the feed asks Coinbase Exchange for.

use super::message;
use crate::config::FeedConfig;
use crate::message::{DecodeError, Message};
use crate::socket::Protocol;

/// Trades, and each second the number of the newest one.
const CHANNELS: [&str; 2] = ["matches", "heartbeat"];

/// The channels of one market over one connection.
#[derive(Debug, Clone)]
pub struct Subscription {
    url: String,
    symbol: String,
}

impl Subscription {
    /// Names the channels of `config`. Trades are always among them: the candles are made of them.
    pub fn new(config: &FeedConfig) -> Self {
        Self { url: config.ws_url.clone(), symbol: config.symbol.to_ascii_uppercase() }
    }
}

impl Protocol for Subscription {
    fn url(&self) -> &str {
        &self.url
    }

    fn requests(&self) -> Vec<String> {
        let request = serde_json::json!({
            "type": "subscribe",
            "product_ids": [self.symbol],
            "channels": CHANNELS,
        });
        vec![request.to_string()]
    }

    fn confirmed_by(&self, message: &Message) -> Vec<usize> {
        let Message::Subscriptions(topics) = message else {
            return vec![];
        };
        let is_there = |channel: &&str| {
            topics.iter().any(|topic| topic.channel == *channel && topic.symbol == self.symbol)
        };
        if CHANNELS.iter().all(is_there) { vec![0] } else { vec![] }
    }

    fn decode(&self, text: &str) -> Result<Message, DecodeError> {
        message::decode(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exchange;

    #[test]
    fn the_texts_are_the_documented_ones() {
        let subscription = Subscription::new(&Exchange::Coinbase.default_config());
        assert_eq!(subscription.url(), "wss://ws-feed.exchange.coinbase.com");
        assert_eq!(
            subscription.requests(),
            [
                r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["matches","heartbeat"]}"#
            ]
        );
        assert_eq!(subscription.ping(), None);
    }

    #[test]
    fn only_a_list_with_both_channels_of_the_market_confirms() {
        let subscription = Subscription::new(&Exchange::Coinbase.default_config());
        let confirmed = |channels: &str| {
            let text = format!(r#"{{"type":"subscriptions","channels":[{channels}]}}"#);
            subscription.confirmed_by(&message::decode(&text).unwrap())
        };
        let of = |name: &str, product: &str| {
            format!(r#"{{"name":"{name}","product_ids":["{product}"]}}"#)
        };
        let both = format!("{},{}", of("heartbeat", "BTC-USD"), of("matches", "BTC-USD"));
        assert_eq!(confirmed(&both), [0]);
        for channels in [
            String::new(),
            of("matches", "BTC-USD"),
            format!("{},{}", of("heartbeat", "BTC-USD"), of("matches", "ETH-USD")),
        ] {
            assert!(confirmed(&channels).is_empty(), "{channels}");
        }
    }
}
