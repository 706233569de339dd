//! What the feed asks Kraken for: one request a channel, each answered by itself.

use super::message;
use crate::config::FeedConfig;
use crate::message::{DecodeError, Message};
use crate::socket::Protocol;

/// The channels of one market over one connection.
#[derive(Debug, Clone)]
pub struct Subscription {
    url: String,
    requests: Vec<String>,
}

impl Subscription {
    /// Names the channels of `config`: its candles and, where asked for, its trades.
    pub fn new(config: &FeedConfig) -> Self {
        let symbol = config.symbol.to_ascii_uppercase();
        let minutes = config.interval.as_ms() / 60_000;
        // The running candle comes with the snapshot; of trades it would repeat what is over.
        let mut channels = vec![serde_json::json!({
            "channel": "ohlc", "symbol": [symbol], "interval": minutes, "snapshot": true,
        })];
        if config.trades {
            channels.push(serde_json::json!({
                "channel": "trade", "symbol": [symbol], "snapshot": false,
            }));
        }
        let request = |(position, params): (usize, serde_json::Value)| {
            let body = serde_json::json!({
                "method": "subscribe", "params": params, "req_id": position + 1,
            });
            body.to_string()
        };
        let requests = channels.into_iter().enumerate().map(request).collect();
        Self { url: format!("{}/v2", config.ws_url), requests }
    }
}

impl Protocol for Subscription {
    fn url(&self) -> &str {
        &self.url
    }

    fn requests(&self) -> Vec<String> {
        self.requests.clone()
    }

    fn confirmed_by(&self, message: &Message) -> Vec<usize> {
        let Message::Ack { id: Some(id) } = message else {
            return vec![];
        };
        (0..self.requests.len()).filter(|position| Ok(*id) == u64::try_from(position + 1)).collect()
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
        let config = FeedConfig { trades: true, ..Exchange::Kraken.default_config() };
        let subscription = Subscription::new(&config);
        assert_eq!(subscription.url(), "wss://ws.kraken.com/v2");
        assert_eq!(
            subscription.requests(),
            [
                r#"{"method":"subscribe","params":{"channel":"ohlc","symbol":["BTC/USD"],"interval":5,"snapshot":true},"req_id":1}"#,
                r#"{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"],"snapshot":false},"req_id":2}"#,
            ]
        );
        assert_eq!(subscription.ping(), None);
        assert_eq!(subscription.confirmed_by(&Message::Ack { id: Some(2) }), [1]);
        for message in [Message::Ack { id: None }, Message::Ack { id: Some(3) }, Message::Heartbeat]
        {
            assert!(subscription.confirmed_by(&message).is_empty(), "{message:?}");
        }
    }
}
