//! What the feed asks Binance for.

use super::{interval_name, message};
use crate::config::FeedConfig;
use crate::message::{DecodeError, Message};
use crate::socket::Protocol;

/// The number of the one request that a connection sends.
const REQUEST_ID: u64 = 1;

/// The streams of one market over one connection.
#[derive(Debug, Clone)]
pub struct Subscription {
    url: String,
    request: String,
}

impl Subscription {
    /// Names the streams of `config`: its candles and, where asked for, its trades.
    pub fn new(config: &FeedConfig) -> Self {
        let symbol = config.symbol.to_ascii_lowercase();
        let interval = interval_name(config.interval).unwrap_or_default();
        let mut streams = vec![format!("{symbol}@kline_{interval}")];
        if config.trades {
            streams.push(format!("{symbol}@trade"));
        }
        let request = serde_json::json!({
            "method": "SUBSCRIBE",
            "params": streams,
            "id": REQUEST_ID,
        });
        Self { url: format!("{}/ws", config.ws_url), request: request.to_string() }
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

    fn confirms_unknown_symbols(&self) -> bool {
        true
    }

    fn decode(&self, text: &str) -> Result<Message, DecodeError> {
        message::decode(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_the_documented_one() {
        let config = FeedConfig { trades: true, ..FeedConfig::default() };
        let subscription = Subscription::new(&config);
        assert_eq!(subscription.url(), "wss://data-stream.binance.vision/ws");
        assert_eq!(
            subscription.requests(),
            [r#"{"method":"SUBSCRIBE","params":["btcusdt@kline_5m","btcusdt@trade"],"id":1}"#]
        );
    }
}
