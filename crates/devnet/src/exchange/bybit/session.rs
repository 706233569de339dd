//! Bybit's side of a WebSocket.

use forecastd_core::{Interval, TradeSide};
use forecastd_exchange::bybit::{interval_name, interval_of};
use serde_json::{Value, json};
use uuid::Uuid;

use super::trade_id;
use crate::exchange::market::Execution;
use crate::exchange::venue::{Dialogue, Kind, News, Scene, Shown, Texts, Topic, amount};

/// Most topics in one request, spot.
const MAX_ARGS: usize = 10;
/// Most characters of all topics of a connection.
const MAX_ARGS_LEN: usize = 21_000;
/// Most trades in one message.
const MAX_TRADES: usize = 1024;
/// At the end of an interval one message holds the closed candle and the new one.
const MAX_CANDLES: usize = 2;
/// Longest foreign text that an answer repeats.
const MAX_ECHO: usize = 128;

#[derive(Debug)]
pub(super) struct Session {
    connection: String,
    topics: Vec<Topic>,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { connection: Uuid::new_v4().to_string(), topics: Vec::new() }
    }

    fn answer(&self, op: &str, id: Option<&str>, result: Result<&str, String>) -> String {
        let (success, message) = match result {
            Ok(message) => (true, message.to_owned()),
            Err(message) => (false, message),
        };
        let mut answer = json!({
            "success": success, "ret_msg": message, "conn_id": self.connection, "op": op,
        });
        if let (Some(id), Some(fields)) = (id, answer.as_object_mut()) {
            fields.insert("req_id".to_owned(), json!(id));
        }
        answer.to_string()
    }

    fn subscribe(&mut self, names: &[&str], symbol: &str) -> Result<(), String> {
        let mut added = Vec::new();
        for name in names {
            let known = topic(name, symbol);
            let topic = known.ok_or_else(|| format!("error:handler not found,topic:{name}"))?;
            if self.topics.contains(&topic) || added.contains(&topic) {
                return Err(format!("error:already subscribed,topic:{name}"));
            }
            added.push(topic);
        }
        let length: usize = self.topics.iter().chain(&added).map(|topic| topic.name.len()).sum();
        if length > MAX_ARGS_LEN {
            return Err("args length exceeds the limit".to_owned());
        }
        self.topics.append(&mut added);
        Ok(())
    }
}

/// Reads a topic of the market `symbol`; one of another market or channel is not known.
fn topic(name: &str, symbol: &str) -> Option<Topic> {
    let rest = name.strip_suffix(symbol)?;
    let kind = match rest.strip_prefix("kline.").and_then(|rest| rest.strip_suffix('.')) {
        Some(interval) => Kind::Candles(interval_of(interval)?),
        None if rest == "publicTrade." => Kind::Trades,
        None => return None,
    };
    Some(Topic { name: name.to_owned(), kind })
}

fn args(request: &Value) -> Result<Vec<&str>, String> {
    let args = request.get("args").and_then(Value::as_array).ok_or("error:args missing")?;
    if args.len() > MAX_ARGS {
        return Err(format!("args size >{MAX_ARGS}"));
    }
    let is_name = |name: &&str| name.len() <= MAX_ECHO;
    let names: Vec<&str> = args.iter().filter_map(Value::as_str).filter(is_name).collect();
    if names.len() == args.len() { Ok(names) } else { Err("error:args invalid".to_owned()) }
}

impl Dialogue for Session {
    fn hear(&mut self, text: &str, scene: &Scene<'_>) -> Vec<String> {
        let request: Value = serde_json::from_str(text).unwrap_or_default();
        let word = |key| request.get(key).and_then(Value::as_str);
        let id = word("req_id").filter(|id| id.len() <= MAX_ECHO);
        let answer = match word("op") {
            Some("ping") => self.answer("ping", id, Ok("pong")),
            Some("subscribe") => {
                let done = args(&request).and_then(|names| self.subscribe(&names, scene.symbol));
                self.answer("subscribe", id, done.map(|()| ""))
            }
            Some("unsubscribe") => {
                let names = args(&request);
                if let Ok(names) = &names {
                    self.topics.retain(|topic| !names.contains(&topic.name.as_str()));
                }
                self.answer("unsubscribe", id, names.map(|_| ""))
            }
            _ => self.answer("", id, Err("error:op not supported".to_owned())),
        };
        vec![answer]
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn tell(&mut self, topic: &Topic, news: &News, scene: &Scene<'_>) -> Vec<String> {
        let parts: Vec<Vec<Value>> = match news {
            News::Candles(interval, candles) => candles
                .chunks(MAX_CANDLES)
                .map(|part| part.iter().map(|one| candle(*interval, one, scene)).collect())
                .collect(),
            News::Trades(trades) => trades
                .chunks(MAX_TRADES)
                .map(|part| part.iter().map(|one| trade(one, scene.symbol)).collect())
                .collect(),
        };
        let event = |data: Vec<Value>| json!({ "topic": topic.name, "data": data, "ts": scene.now_ms, "type": "snapshot" });
        parts.into_iter().map(|data| event(data).to_string()).collect()
    }

    fn farewell(&mut self, _scene: &Scene<'_>) -> Vec<String> {
        // Short restarts are not announced.
        Vec::new()
    }

    fn nonsense(&mut self, scene: &Scene<'_>) -> String {
        let bar = json!({ "start": 1, "end": 0, "interval": "5", "open": "-1", "confirm": "no" });
        json!({
            "topic": format!("kline.5.{}", scene.symbol), "data": [bar], "ts": scene.now_ms,
            "type": "snapshot",
        })
        .to_string()
    }
}

fn candle(interval: Interval, shown: &Shown, scene: &Scene<'_>) -> Value {
    let candle = &shown.bar.candle;
    let end_ms = candle.close_time_ms(interval) - 1;
    let texts = Texts::from(candle);
    let last = scene.market.latest(1, end_ms.min(scene.now_ms));
    json!({
        "start": candle.open_time_ms, "end": end_ms,
        "interval": interval_name(interval).unwrap_or_default(),
        "open": texts.open, "close": texts.close, "high": texts.high, "low": texts.low,
        "volume": texts.volume, "turnover": amount(shown.bar.turnover),
        "confirm": shown.is_final,
        "timestamp": last.first().map_or(candle.open_time_ms, |trade| trade.time_ms),
    })
}

fn trade(execution: &Execution, symbol: &str) -> Value {
    json!({
        "i": trade_id(execution.id).to_string(), "T": execution.time_ms,
        "p": execution.price.to_string(), "v": amount(execution.size),
        "S": side(execution.side), "seq": execution.id, "s": symbol, "BT": false, "RPI": false,
    })
}

/// The taker's side.
pub(super) const fn side(side: TradeSide) -> &'static str {
    match side {
        TradeSide::Buy => "Buy",
        TradeSide::Sell => "Sell",
    }
}

#[cfg(test)]
mod tests {
    use forecastd_exchange::bybit::message;

    use super::*;

    #[test]
    fn only_topics_of_the_market_are_known() {
        let kind = |name| topic(name, "BTCUSDT").map(|topic| topic.kind);
        assert_eq!(kind("kline.5.BTCUSDT"), Some(Kind::Candles(Interval::FIVE_MINUTES)));
        assert_eq!(kind("publicTrade.BTCUSDT"), Some(Kind::Trades));
        for name in ["kline.7.BTCUSDT", "kline.5.ETHUSDT", "kline5BTCUSDT", "BTCUSDT", "tickers."] {
            assert_eq!(kind(name), None, "{name}");
        }
    }

    #[test]
    fn requests_get_the_documented_answers() {
        let market = crate::exchange::market::Market::new([].into(), Interval::FIVE_MINUTES);
        let scene = Scene { market: &market, symbol: "BTCUSDT", now_ms: 0 };
        let mut session = Session::new();
        let mut ask = |request: Value| {
            let answer = session.hear(&request.to_string(), &scene).pop().unwrap();
            message::decode(&answer).unwrap();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let success = answer["success"].as_bool().unwrap();
            (success, answer["ret_msg"].as_str().unwrap().to_owned(), answer["req_id"].clone())
        };
        let subscribe = |args: Value| json!({ "req_id": "7", "op": "subscribe", "args": args });
        let good = ask(subscribe(json!(["kline.5.BTCUSDT", "publicTrade.BTCUSDT"])));
        assert_eq!(good, (true, String::new(), json!("7")));
        assert_eq!(ask(json!({ "op": "ping" })), (true, "pong".into(), Value::Null));
        for (request, words) in [
            (subscribe(json!(["kline.5.NOPE"])), "error:handler not found,topic:kline.5.NOPE"),
            (subscribe(json!(["kline.5.BTCUSDT"])), "error:already subscribed,"),
            (subscribe(json!(vec!["kline.1.BTCUSDT"; 11])), "args size >10"),
            (subscribe(json!([1])), "error:args invalid"),
            (json!({ "op": "buy" }), "error:op not supported"),
            (json!(3), "error:op not supported"),
        ] {
            let (success, message, _) = ask(request);
            assert!(!success && message.starts_with(words), "{message}");
        }
        let off = ask(json!({ "op": "unsubscribe", "args": ["kline.5.BTCUSDT"] }));
        assert!(off.0);
        assert_eq!(session.topics.len(), 1);
    }
}
