//! Coinbase Advanced Trade's side of a WebSocket.

use chrono::SecondsFormat::{Micros, Nanos};
use forecastd_core::{Interval, TradeSide};
use serde_json::{Map, Value, json};

use crate::exchange::coinbase::names::{maker, trade_id};
use crate::exchange::market::{Bar, Execution};
use crate::exchange::time::rfc3339;
use crate::exchange::venue::{Dialogue, Kind, News, Scene, Texts, Topic, amount};

const HEARTBEATS: &str = "heartbeats";
const CANDLES: &str = "candles";
const TRADES: &str = "market_trades";
/// Channels that exist and are silent here.
const SILENT: [&str; 4] = ["ticker", "ticker_batch", "level2", "status"];
/// The only length of the candle channel.
const INTERVAL: Interval = Interval::FIVE_MINUTES;
/// How many intervals back a snapshot of candles reaches, and how many trades one holds.
const SNAPSHOT_INTERVALS: i64 = 12;
const SNAPSHOT_TRADES: usize = 50;
/// Longest foreign text that an answer repeats.
const MAX_ECHO: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Session {
    topics: Vec<Topic>,
    /// Messages that were sent.
    sequence: u64,
    beats: u64,
}

impl Session {
    /// Wraps events and counts the message.
    fn message(&mut self, channel: &str, events: &Value, now_ms: i64) -> String {
        let message = json!({
            "channel": channel, "client_id": "", "timestamp": rfc3339(now_ms, Nanos),
            "sequence_num": self.sequence, "events": events,
        });
        self.sequence += 1;
        message.to_string()
    }

    fn change(&mut self, request: &Value, scene: &Scene<'_>) -> Result<Vec<String>, String> {
        let word = |key: &str| request.get(key).and_then(Value::as_str);
        let is_on = match word("type") {
            Some("subscribe") => true,
            Some("unsubscribe") => false,
            _ => return Err("type has to be either subscribe or unsubscribe".to_owned()),
        };
        let name = word("channel").ok_or("channel is missing")?;
        if ![HEARTBEATS, CANDLES, TRADES].contains(&name) && !SILENT.contains(&name) {
            return Err(format!("channel {} is invalid", echo(name)));
        }
        let products = request.get("product_ids").and_then(Value::as_array);
        for product in products.into_iter().flatten() {
            if product.as_str() != Some(scene.symbol) {
                let product = echo(product.as_str().unwrap_or_default());
                return Err(format!("product {product} is invalid"));
            }
        }
        if name != HEARTBEATS && products.is_none_or(Vec::is_empty) {
            return Err("product_ids is missing".to_owned());
        }
        let is_known = self.topics.iter().any(|topic| topic.name == name);
        let mut answers = Vec::new();
        if is_on && !is_known {
            let kind = match name {
                CANDLES => Kind::Candles(INTERVAL),
                TRADES => Kind::Trades,
                _ => Kind::Silent,
            };
            self.topics.push(Topic { name: name.to_owned(), kind });
            answers.extend(self.snapshot(name, scene));
        } else if !is_on {
            self.topics.retain(|topic| topic.name != name);
        }
        answers.push(self.list(scene));
        Ok(answers)
    }

    /// Snapshots come newest first.
    fn snapshot(&mut self, channel: &str, scene: &Scene<'_>) -> Option<String> {
        let now_ms = scene.now_ms;
        let event = match channel {
            CANDLES if scene.market.has_interval(INTERVAL) => {
                let from_ms = INTERVAL.floor(now_ms) - SNAPSHOT_INTERVALS * INTERVAL.as_ms();
                let count = usize::try_from(SNAPSHOT_INTERVALS + 1).unwrap_or(1);
                let bars = scene.market.bars(INTERVAL, from_ms, now_ms, count, true, now_ms);
                let traded = bars.iter().rev().filter(|bar| bar.ids.is_some());
                let rows: Vec<Value> = traded.map(|bar| candle(bar, scene.symbol)).collect();
                json!({ "type": "snapshot", "candles": rows })
            }
            TRADES => {
                let newest = scene.market.latest(SNAPSHOT_TRADES, now_ms);
                let rows: Vec<Value> =
                    newest.iter().rev().map(|one| trade(one, scene.symbol)).collect();
                json!({ "type": "snapshot", "trades": rows })
            }
            _ => return None,
        };
        Some(self.message(channel, &json!([event]), now_ms))
    }

    /// The whole list of what is subscribed.
    fn list(&mut self, scene: &Scene<'_>) -> String {
        let entry = |topic: &Topic| {
            let product = if topic.name == HEARTBEATS { HEARTBEATS } else { scene.symbol };
            (topic.name.clone(), json!([product]))
        };
        let list: Map<String, Value> = self.topics.iter().map(entry).collect();
        self.message("subscriptions", &json!([{ "subscriptions": list }]), scene.now_ms)
    }
}

fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO).collect()
}

fn error(message: &str) -> String {
    json!({ "type": "error", "message": message }).to_string()
}

fn candle(bar: &Bar, symbol: &str) -> Value {
    let texts = Texts::from(&bar.candle);
    json!({
        "start": (bar.candle.open_time_ms / 1000).to_string(), "high": texts.high,
        "low": texts.low, "open": texts.open, "close": texts.close, "volume": texts.volume,
        "product_id": symbol,
    })
}

fn trade(execution: &Execution, symbol: &str) -> Value {
    let side = match maker(execution.side) {
        TradeSide::Buy => "BUY",
        TradeSide::Sell => "SELL",
    };
    json!({
        "trade_id": trade_id(execution.id).to_string(), "product_id": symbol,
        "price": execution.price.to_string(), "size": amount(execution.size), "side": side,
        "time": rfc3339(execution.time_ms, Micros),
    })
}

impl Dialogue for Session {
    fn hear(&mut self, text: &str, scene: &Scene<'_>) -> Vec<String> {
        let request = serde_json::from_str::<Value>(text);
        let result = match &request {
            Ok(request) => self.change(request, scene),
            Err(_) => Err("malformed JSON".to_owned()),
        };
        result.unwrap_or_else(|message| vec![error(&message)])
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn tell(&mut self, topic: &Topic, news: &News, scene: &Scene<'_>) -> Vec<String> {
        let event = match news {
            News::Candles(_, candles) => {
                let rows: Vec<Value> =
                    candles.iter().map(|one| candle(&one.bar, scene.symbol)).collect();
                json!({ "type": "update", "candles": rows })
            }
            News::Trades(trades) => {
                let rows: Vec<Value> = trades.iter().map(|one| trade(one, scene.symbol)).collect();
                json!({ "type": "update", "trades": rows })
            }
        };
        vec![self.message(&topic.name, &json!([event]), scene.now_ms)]
    }

    fn heartbeat(&mut self, scene: &Scene<'_>) -> Vec<String> {
        if !self.topics.iter().any(|topic| topic.name == HEARTBEATS) {
            return Vec::new();
        }
        self.beats += 1;
        let at = rfc3339(scene.now_ms, Nanos).replace('T', " ").replace('Z', "+00:00");
        let events = json!([{ "current_time": at, "heartbeat_counter": self.beats }]);
        vec![self.message(HEARTBEATS, &events, scene.now_ms)]
    }

    fn farewell(&mut self, _scene: &Scene<'_>) -> Vec<String> {
        vec![error("server is shutting down")]
    }

    fn too_fast(&mut self) -> Vec<String> {
        vec![error("rate limit exceeded")]
    }

    fn nonsense(&mut self, scene: &Scene<'_>) -> String {
        let row = json!({
            "start": "soon", "high": "1", "low": "2", "open": "-1", "close": "NaN",
            "volume": "0", "product_id": scene.symbol,
        });
        let events = json!([{ "type": "update", "candles": [row] }]);
        self.message(CANDLES, &events, scene.now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::market::Market;
    use crate::exchange::recording;

    #[test]
    fn every_message_has_the_next_number_and_the_list_is_whole() {
        let mut candles = recording::embedded().unwrap();
        candles.truncate(50);
        let now_ms = candles[40].open_time_ms;
        let market = Market::new(candles.into(), INTERVAL);
        let scene = Scene { market: &market, symbol: "BTC-USD", now_ms };
        let mut session = Session::default();
        let mut messages: Vec<Value> = Vec::new();
        for channel in [HEARTBEATS, CANDLES, TRADES] {
            let request =
                json!({ "type": "subscribe", "product_ids": ["BTC-USD"], "channel": channel });
            let answers = session.hear(&request.to_string(), &scene);
            messages.extend(answers.iter().map(|text| serde_json::from_str(text).unwrap()));
        }
        let beat = session.heartbeat(&scene).remove(0);
        messages.push(serde_json::from_str(&beat).unwrap());
        let channels: Vec<&str> =
            messages.iter().map(|one| one["channel"].as_str().unwrap()).collect();
        let list = "subscriptions";
        assert_eq!(channels, [list, CANDLES, list, TRADES, list, HEARTBEATS]);
        let numbers: Vec<u64> =
            messages.iter().map(|one| one["sequence_num"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
        let all = json!({
            "candles": ["BTC-USD"], "heartbeats": ["heartbeats"], "market_trades": ["BTC-USD"],
        });
        assert_eq!(messages[4]["events"][0]["subscriptions"], all);
        assert_eq!(messages[1]["events"][0]["candles"].as_array().unwrap().len(), 13);
        for (request, words) in [
            (json!({ "type": "subscribe", "channel": "no" }), "channel no is invalid"),
            (json!({ "type": "subscribe", "channel": "candles" }), "product_ids is missing"),
            (
                json!({ "type": "subscribe", "channel": "candles", "product_ids": ["X-USD"] }),
                "product X-USD is invalid",
            ),
        ] {
            let answer = session.hear(&request.to_string(), &scene).remove(0);
            assert_eq!(answer, json!({ "type": "error", "message": words }).to_string());
        }
    }
}
