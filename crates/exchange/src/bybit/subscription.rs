//! What the feed asks Bybit for.

use std::time::Duration;

use super::{interval_name, message};
use crate::config::FeedConfig;
use crate::message::{DecodeError, Message};
use crate::socket::{Ping, Protocol};

/// The number of the one request that a connection sends.
const REQUEST_ID: u64 = 1;
/// The documents advise 20 s; after 10 minutes without ping or data the connection is cut.
const PING_EVERY: Duration = Duration::from_secs(20);

/// The topics of one market over one connection.
#[derive(Debug, Clone)]
pub struct Subscription {
    url: String,
    request: String,
}

impl Subscription {
    /// Names the topics of `config`: its candles and, where asked for, its trades.
    pub fn new(config: &FeedConfig) -> Self {
        let symbol = config.symbol.to_ascii_uppercase();
        let interval = interval_name(config.interval).unwrap_or_default();
        let mut topics = vec![format!("kline.{interval}.{symbol}")];
        if config.trades {
            topics.push(format!("publicTrade.{symbol}"));
        }
        let request = serde_json::json!({
            "req_id": REQUEST_ID.to_string(),
            "op": "subscribe",
            "args": topics,
        });
        Self { url: format!("{}/v5/public/spot", config.ws_url), request: request.to_string() }
    }
}

impl Protocol for Subscription {
    fn url(&self) -> &str {
        &self.url
    }

    fn requests(&self) -> Vec<String> {
        vec![self.request.clone()]
    }

    fn confirmed_by(&self, message: &Message) -> Vec<usize> {
        if matches!(message, Message::Ack { id: Some(REQUEST_ID) }) { vec![0] } else { vec![] }
    }

    fn decode(&self, text: &str) -> Result<Message, DecodeError> {
        message::decode(text)
    }

    fn ping(&self) -> Option<Ping> {
        Some(Ping { every: PING_EVERY, text: r#"{"op":"ping"}"#.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exchange;

    #[test]
    fn the_texts_are_the_documented_ones() {
        let config = FeedConfig { trades: true, ..Exchange::Bybit.default_config() };
        let subscription = Subscription::new(&config);
        assert_eq!(subscription.url(), "wss://stream.bybit.com/v5/public/spot");
        assert_eq!(
            subscription.requests(),
            [r#"{"req_id":"1","op":"subscribe","args":["kline.5.BTCUSDT","publicTrade.BTCUSDT"]}"#]
        );
        let ping = subscription.ping().unwrap();
        assert_eq!((ping.every.as_secs(), ping.text.as_str()), (20, r#"{"op":"ping"}"#));
    }

    #[test]
    fn only_the_answer_to_the_own_request_confirms() {
        let subscription = Subscription::new(&Exchange::Bybit.default_config());
        assert_eq!(subscription.confirmed_by(&Message::Ack { id: Some(1) }), [0]);
        for message in [Message::Ack { id: None }, Message::Ack { id: Some(2) }, Message::Pong] {
            assert!(subscription.confirmed_by(&message).is_empty(), "{message:?}");
        }
    }
}
