//! Binance's side of a WebSocket.

use forecastd_exchange::binance::interval_name;
use serde_json::{Value, json};

use super::requests::Subscriptions;
use super::texts;
use crate::exchange::venue::{BadAddress, Dialogue, News, Query, Scene, Shown, Topic};

#[derive(Debug)]
pub(super) struct Session {
    subscriptions: Subscriptions,
}

impl Session {
    /// Reads the streams in the address; fails where one cannot be a name.
    pub(super) fn open(path: &str, query: &Query, symbol: &str) -> Result<Self, BadAddress> {
        let is_combined = path == "/stream";
        let mut subscriptions = Subscriptions { is_combined, ..Subscriptions::default() };
        let names = match path.strip_prefix("/ws/") {
            Some(names) => names,
            None => query.get("streams").map_or("", String::as_str),
        };
        let names = names.split('/').filter(|name| !name.is_empty());
        subscriptions.add(names, &symbol.to_ascii_lowercase()).map_err(|_| BadAddress)?;
        Ok(Self { subscriptions })
    }

    fn event(&self, stream: &str, data: &Value) -> String {
        if self.subscriptions.is_combined {
            json!({ "stream": stream, "data": data }).to_string()
        } else {
            data.to_string()
        }
    }
}

impl Dialogue for Session {
    fn hear(&mut self, text: &str, scene: &Scene<'_>) -> Vec<String> {
        let stream_symbol = scene.symbol.to_ascii_lowercase();
        vec![self.subscriptions.answer(text, &stream_symbol).to_string()]
    }

    fn topics(&self) -> &[Topic] {
        &self.subscriptions.streams
    }

    fn tell(&mut self, topic: &Topic, news: &News, scene: &Scene<'_>) -> Vec<String> {
        let (symbol, now_ms) = (scene.symbol, scene.now_ms);
        let events: Vec<Value> = match news {
            News::Candles(interval, candles) => {
                let name = interval_name(*interval).unwrap_or_default();
                let event = |one: &Shown| {
                    texts::kline(symbol, name, *interval, &one.bar, one.is_final, now_ms)
                };
                candles.iter().map(event).collect()
            }
            News::Trades(trades) => {
                trades.iter().map(|one| texts::trade(symbol, one, now_ms)).collect()
            }
        };
        events.into_iter().map(|data| self.event(&topic.name, &data)).collect()
    }

    fn farewell(&mut self, scene: &Scene<'_>) -> Vec<String> {
        vec![self.event("!serverShutdown", &texts::server_shutdown(scene.now_ms))]
    }

    fn nonsense(&mut self, scene: &Scene<'_>) -> String {
        let bar = json!({ "t": 1, "T": 0, "i": "5m", "o": "-1", "c": "NaN" });
        json!({ "e": "kline", "E": scene.now_ms, "s": scene.symbol, "k": bar }).to_string()
    }
}
