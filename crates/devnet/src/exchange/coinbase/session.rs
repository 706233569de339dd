//! Coinbase Exchange's side of a WebSocket.

use chrono::SecondsFormat::Micros;
use forecastd_core::TradeSide;
use serde_json::{Value, json};

use super::names::{maker, order_id, sequence, trade_id};
use crate::exchange::market::Execution;
use crate::exchange::time::rfc3339;
use crate::exchange::venue::{Dialogue, Kind, News, Scene, Topic, amount};

const MATCHES: &str = "matches";
const HEARTBEAT: &str = "heartbeat";
/// Channels that exist and are silent here.
const SILENT: [&str; 5] = ["ticker", "ticker_batch", "level2", "level2_batch", "status"];
/// Longest foreign text that an answer repeats.
const MAX_ECHO: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Session {
    topics: Vec<Topic>,
}

/// The words of a refusal, where there are any besides "failed".
type Refused = Option<String>;

impl Session {
    /// Carries out a subscription; returns the trades that are already over.
    fn change(&mut self, request: &Value, scene: &Scene<'_>) -> Result<Vec<String>, Refused> {
        let is_on = match request.get("type").and_then(Value::as_str) {
            Some("subscribe") => true,
            Some("unsubscribe") => false,
            _ => return Err(Some("type has to be either subscribe or unsubscribe".to_owned())),
        };
        let channels = request.get("channels").and_then(Value::as_array).ok_or(None)?;
        let mut names = Vec::new();
        for channel in channels {
            // A channel is a name, or an object with products of its own.
            let name = channel.as_str().or_else(|| channel.get("name")?.as_str()).ok_or(None)?;
            let products = channel.get("product_ids").or_else(|| request.get("product_ids"));
            let products = products.and_then(Value::as_array).ok_or(None)?;
            for product in products {
                if product.as_str() != Some(scene.symbol) {
                    let product = echo(product.as_str().unwrap_or_default());
                    return Err(Some(format!("{product} is not a valid product")));
                }
            }
            if ![MATCHES, HEARTBEAT].contains(&name) && !SILENT.contains(&name) {
                return Err(Some(format!("{} is not a valid channel", echo(name))));
            }
            names.push(name);
        }
        let mut over = Vec::new();
        if !is_on {
            self.topics.retain(|topic| !names.contains(&topic.name.as_str()));
            return Ok(over);
        }
        for name in names {
            if self.topics.iter().any(|topic| topic.name == name) {
                continue;
            }
            let kind = if name == MATCHES { Kind::Trades } else { Kind::Silent };
            self.topics.push(Topic { name: name.to_owned(), kind });
            if name == MATCHES {
                let last = scene.market.latest(1, scene.now_ms);
                over.extend(last.iter().map(|one| trade("last_match", one, scene.symbol)));
            }
        }
        Ok(over)
    }

    /// The whole list of what is subscribed.
    fn list(&self, symbol: &str) -> String {
        let channel = |topic: &Topic| json!({ "name": topic.name, "product_ids": [symbol] });
        let channels: Vec<Value> = self.topics.iter().map(channel).collect();
        json!({ "type": "subscriptions", "channels": channels }).to_string()
    }
}

fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO).collect()
}

fn error(message: &str, reason: Refused) -> String {
    match reason {
        Some(reason) => json!({ "type": "error", "message": message, "reason": reason }),
        None => json!({ "type": "error", "message": message }),
    }
    .to_string()
}

fn trade(kind: &str, execution: &Execution, symbol: &str) -> String {
    let side = match maker(execution.side) {
        TradeSide::Buy => "buy",
        TradeSide::Sell => "sell",
    };
    json!({
        "type": kind, "trade_id": trade_id(execution.id),
        "maker_order_id": order_id(execution.id, 0), "taker_order_id": order_id(execution.id, 1),
        "side": side, "size": amount(execution.size), "price": execution.price.to_string(),
        "product_id": symbol, "sequence": sequence(execution.id),
        "time": rfc3339(execution.time_ms, Micros),
    })
    .to_string()
}

impl Dialogue for Session {
    fn hear(&mut self, text: &str, scene: &Scene<'_>) -> Vec<String> {
        let Ok(request) = serde_json::from_str::<Value>(text) else {
            return vec![error("Malformed JSON", None)];
        };
        match self.change(&request, scene) {
            // In the recording the trades that were over came before the list.
            Ok(over) => over.into_iter().chain([self.list(scene.symbol)]).collect(),
            Err(reason) => vec![error("Failed to subscribe", reason)],
        }
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn tell(&mut self, _topic: &Topic, news: &News, scene: &Scene<'_>) -> Vec<String> {
        match news {
            News::Trades(trades) => {
                trades.iter().map(|one| trade("match", one, scene.symbol)).collect()
            }
            // There is no candle channel.
            News::Candles(..) => Vec::new(),
        }
    }

    fn heartbeat(&mut self, scene: &Scene<'_>) -> Vec<String> {
        if !self.topics.iter().any(|topic| topic.name == HEARTBEAT) {
            return Vec::new();
        }
        let last = scene.market.latest(1, scene.now_ms).first().map_or(0, |one| one.id);
        let beat = json!({
            "type": "heartbeat", "sequence": sequence(last), "last_trade_id": trade_id(last),
            "product_id": scene.symbol, "time": rfc3339(scene.now_ms, Micros),
        });
        vec![beat.to_string()]
    }

    fn farewell(&mut self, _scene: &Scene<'_>) -> Vec<String> {
        vec![error("Server is shutting down", None)]
    }

    fn too_fast(&mut self) -> Vec<String> {
        vec![error("rate limit exceeded", None)]
    }

    fn nonsense(&mut self, scene: &Scene<'_>) -> String {
        json!({
            "type": "match", "trade_id": 10, "sequence": 50, "time": "yesterday",
            "product_id": scene.symbol, "size": "5.23512", "price": "-1", "side": "sell",
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::Interval;

    use super::*;
    use crate::exchange::market::Market;
    use crate::exchange::recording;

    #[test]
    fn requests_get_the_whole_list_or_the_documented_refusal() {
        let mut candles = recording::embedded().unwrap();
        candles.truncate(10);
        let now_ms = candles[5].open_time_ms;
        let market = Market::new(candles.into(), Interval::FIVE_MINUTES);
        let scene = Scene { market: &market, symbol: "BTC-USD", now_ms };
        let mut session = Session::default();
        let mut ask = |request: Value| -> Vec<Value> {
            let answers = session.hear(&request.to_string(), &scene);
            answers.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
        };
        let request = |kind: &str, product: &str, channels: Value| json!({ "type": kind, "product_ids": [product], "channels": channels });
        let answers = ask(request("subscribe", "BTC-USD", json!(["matches"])));
        assert_eq!(answers[0]["type"], "last_match");
        assert_eq!(answers[0]["trade_id"], FIRST + 5 * 12 + 1);
        let list = |names: &[&str]| {
            let channel = |name: &&str| json!({ "name": name, "product_ids": ["BTC-USD"] });
            let channels: Vec<Value> = names.iter().map(channel).collect();
            json!({ "type": "subscriptions", "channels": channels })
        };
        assert_eq!(answers[1], list(&["matches"]));
        let object = json!([{ "name": "heartbeat", "product_ids": ["BTC-USD"] }]);
        let answers = ask(json!({ "type": "subscribe", "channels": object }));
        assert_eq!(answers, [list(&["matches", "heartbeat"])]);
        for (request, reason) in [
            (request("subscribe", "X-USD", json!(["matches"])), "X-USD is not a valid product"),
            (request("subscribe", "BTC-USD", json!(["no"])), "no is not a valid channel"),
            (request("buy", "BTC-USD", json!([])), "type has to be either"),
        ] {
            let answers = ask(request);
            assert_eq!(answers[0]["message"], "Failed to subscribe");
            assert!(answers[0]["reason"].as_str().unwrap().starts_with(reason), "{answers:?}");
        }
        let answers = ask(request("unsubscribe", "BTC-USD", json!(["matches"])));
        assert_eq!(answers, [list(&["heartbeat"])]);
    }

    const FIRST: u64 = 500_000_000;
}
