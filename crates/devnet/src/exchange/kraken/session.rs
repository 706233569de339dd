//! Kraken's side of a WebSocket, version 2.

use chrono::SecondsFormat::{Micros, Nanos};
use forecastd_core::{Interval, TradeSide};
use serde_json::{Map, Value, json};

use super::names::interval_of;
use crate::exchange::market::{Bar, Execution};
use crate::exchange::time::rfc3339;
use crate::exchange::venue::{Dialogue, Kind, News, Scene, Topic};

/// Real ones fit neither a signed number of 64 bits nor a double.
const FIRST_CONNECTION: u64 = 16_174_536_464_690_000_000;
/// How many intervals back a snapshot of candles reaches, and how many trades one holds.
const SNAPSHOT_INTERVALS: i64 = 12;
const SNAPSHOT_TRADES: usize = 50;
/// Most symbols in one request that are answered.
const MAX_SYMBOLS: usize = 100;
/// Longest foreign text that an answer repeats.
const MAX_ECHO: usize = 64;
const DEFAULT_MINUTES: i64 = 1;
/// Interval of the broken candle.
const NONSENSE_INTERVAL: Interval = Interval::FIVE_MINUTES;

#[derive(Debug)]
pub(super) struct Session {
    topics: Vec<Topic>,
    /// Whether anything was sent since the last heartbeat.
    is_busy: bool,
}

/// A channel of a request.
struct Wanted {
    kind: Kind,
    minutes: i64,
    has_snapshot: bool,
}

impl Session {
    pub(super) const fn new() -> Self {
        Self { topics: Vec::new(), is_busy: false }
    }

    /// Answers for one symbol; further texts are the snapshot.
    fn one(
        &mut self,
        method: &str,
        params: &Value,
        symbol: &Value,
        request: &Value,
        scene: &Scene<'_>,
    ) -> Vec<String> {
        let at = rfc3339(scene.now_ms, Micros);
        let mut answer = Map::new();
        answer.insert("method".to_owned(), json!(method));
        if let Some(id) = request.get("req_id").filter(|id| id.is_u64()) {
            answer.insert("req_id".to_owned(), id.clone());
        }
        let mut snapshot = None;
        match self.change(method, params, symbol, scene) {
            Ok((result, texts)) => {
                answer.insert("result".to_owned(), result);
                answer.insert("success".to_owned(), json!(true));
                snapshot = texts;
            }
            Err(message) => {
                answer.insert("error".to_owned(), json!(message));
                answer.insert("success".to_owned(), json!(false));
                if let Some(symbol) = symbol.as_str() {
                    answer.insert("symbol".to_owned(), json!(echo(symbol)));
                }
            }
        }
        answer.insert("time_in".to_owned(), json!(at));
        answer.insert("time_out".to_owned(), json!(at));
        std::iter::once(Value::Object(answer).to_string()).chain(snapshot).collect()
    }

    fn change(
        &mut self,
        method: &str,
        params: &Value,
        symbol: &Value,
        scene: &Scene<'_>,
    ) -> Result<(Value, Option<String>), String> {
        let symbol = symbol.as_str().ok_or("Symbol(s) not found")?;
        if symbol != scene.symbol {
            return Err(format!("Currency pair not supported {}", echo(symbol)));
        }
        let (channel, wanted) = wanted(params)?;
        let topic = Topic { name: format!("{channel}-{}", wanted.minutes), kind: wanted.kind };
        let mut result = Map::new();
        result.insert("channel".to_owned(), json!(channel));
        if let Kind::Candles(_) = wanted.kind {
            result.insert("interval".to_owned(), json!(wanted.minutes));
        }
        result.insert("symbol".to_owned(), json!(symbol));
        if method == "unsubscribe" {
            let count = self.topics.len();
            self.topics.retain(|known| *known != topic);
            let is_gone = self.topics.len() < count;
            return if is_gone {
                Ok((Value::Object(result), None))
            } else {
                Err("Subscription Not Found".to_owned())
            };
        }
        if self.topics.contains(&topic) {
            return Err("Already subscribed".to_owned());
        }
        result.insert("snapshot".to_owned(), json!(wanted.has_snapshot));
        if let Kind::Candles(_) = wanted.kind {
            let warnings = json!(["timestamp is deprecated, use interval_begin"]);
            result.insert("warnings".to_owned(), warnings);
        }
        self.topics.push(topic);
        let snapshot = wanted.has_snapshot.then(|| snapshot(wanted.kind, scene)).flatten();
        Ok((Value::Object(result), snapshot))
    }
}

fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO).collect()
}

fn wanted(params: &Value) -> Result<(&str, Wanted), String> {
    let channel = params.get("channel").and_then(Value::as_str).ok_or("Channel not found")?;
    let snapshot = params.get("snapshot").and_then(Value::as_bool);
    match channel {
        "ohlc" => {
            let minutes = params.get("interval").map_or(Some(DEFAULT_MINUTES), Value::as_i64);
            let interval = minutes.and_then(interval_of).ok_or("Invalid interval")?;
            let minutes = interval.as_ms() / 60_000;
            let has_snapshot = snapshot.unwrap_or(true);
            Ok((channel, Wanted { kind: Kind::Candles(interval), minutes, has_snapshot }))
        }
        "trade" => {
            let has_snapshot = snapshot.unwrap_or(false);
            Ok((channel, Wanted { kind: Kind::Trades, minutes: 0, has_snapshot }))
        }
        other => Err(format!("Channel {} not supported", echo(other))),
    }
}

/// Snapshots hold what was traded: intervals without trades are missing.
fn snapshot(kind: Kind, scene: &Scene<'_>) -> Option<String> {
    let now_ms = scene.now_ms;
    match kind {
        Kind::Candles(interval) if scene.market.has_interval(interval) => {
            let from_ms = interval.floor(now_ms) - SNAPSHOT_INTERVALS * interval.as_ms();
            let count = usize::try_from(SNAPSHOT_INTERVALS + 1).unwrap_or(1);
            let bars = scene.market.bars(interval, from_ms, now_ms, count, true, now_ms);
            let traded = bars.iter().filter(|bar| bar.ids.is_some());
            let data: Vec<Value> = traded.map(|bar| candle(interval, bar, scene.symbol)).collect();
            Some(event("ohlc", "snapshot", &data, Some(now_ms)))
        }
        Kind::Trades => {
            let trades = scene.market.latest(SNAPSHOT_TRADES, now_ms);
            let data: Vec<Value> = trades.iter().map(|one| trade(one, scene.symbol)).collect();
            Some(event("trade", "snapshot", &data, None))
        }
        _ => None,
    }
}

fn event(channel: &str, kind: &str, data: &[Value], at_ms: Option<i64>) -> String {
    let mut event = json!({ "channel": channel, "type": kind, "data": data });
    if let (Some(at_ms), Some(fields)) = (at_ms, event.as_object_mut()) {
        fields.insert("timestamp".to_owned(), json!(rfc3339(at_ms, Nanos)));
    }
    event.to_string()
}

fn candle(interval: Interval, bar: &Bar, symbol: &str) -> Value {
    let candle = &bar.candle;
    json!({
        "symbol": symbol, "open": candle.open, "high": candle.high, "low": candle.low,
        "close": candle.close, "trades": candle.trade_count.unwrap_or(0),
        "volume": candle.volume, "vwap": average(bar),
        "interval_begin": rfc3339(candle.open_time_ms, Nanos),
        "interval": interval.as_ms() / 60_000,
        "timestamp": rfc3339(candle.close_time_ms(interval), Micros),
    })
}

/// The average price in tenths, 0 without trades.
pub(super) fn average(bar: &Bar) -> f64 {
    let volume = bar.candle.volume;
    if volume > 0.0 { (bar.turnover / volume * 10.0).round() / 10.0 } else { 0.0 }
}

fn trade(execution: &Execution, symbol: &str) -> Value {
    let side = match execution.side {
        TradeSide::Buy => "buy",
        TradeSide::Sell => "sell",
    };
    json!({
        "symbol": symbol, "side": side, "price": execution.price, "qty": execution.size,
        "ord_type": "market", "trade_id": execution.id,
        "timestamp": rfc3339(execution.time_ms, Micros),
    })
}

fn status(system: &str) -> String {
    let connection = FIRST_CONNECTION.saturating_add(rand::random::<u32>().into());
    let state = json!({
        "version": "2.0.10", "system": system, "api_version": "v2", "connection_id": connection,
        "upcoming_maintenance": [], "emergency": [],
    });
    event("status", "update", &[state], None)
}

impl Dialogue for Session {
    fn greeting(&mut self, _scene: &Scene<'_>) -> Vec<String> {
        vec![status("online")]
    }

    fn hear(&mut self, text: &str, scene: &Scene<'_>) -> Vec<String> {
        let request: Value = serde_json::from_str(text).unwrap_or_default();
        let at = rfc3339(scene.now_ms, Micros);
        let id = request.get("req_id").filter(|id| id.is_u64());
        match request.get("method").and_then(Value::as_str) {
            Some("ping") => {
                let mut pong = json!({ "method": "pong", "time_in": at, "time_out": at });
                if let (Some(id), Some(fields)) = (id, pong.as_object_mut()) {
                    fields.insert("req_id".to_owned(), id.clone());
                }
                vec![pong.to_string()]
            }
            Some(method @ ("subscribe" | "unsubscribe")) => {
                let params = request.get("params").unwrap_or(&Value::Null);
                match params.get("symbol").and_then(Value::as_array) {
                    Some(symbols) if !symbols.is_empty() => symbols
                        .iter()
                        .take(MAX_SYMBOLS)
                        .flat_map(|symbol| self.one(method, params, symbol, &request, scene))
                        .collect(),
                    _ => self.one(method, params, &Value::Null, &request, scene),
                }
            }
            _ => {
                let answer = json!({
                    "error": "Malformed request", "success": false, "time_in": at, "time_out": at,
                });
                vec![answer.to_string()]
            }
        }
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn tell(&mut self, _topic: &Topic, news: &News, scene: &Scene<'_>) -> Vec<String> {
        self.is_busy = true;
        match news {
            // Each update stands alone.
            News::Candles(interval, candles) => candles
                .iter()
                .map(|one| {
                    let data = [candle(*interval, &one.bar, scene.symbol)];
                    event("ohlc", "update", &data, Some(scene.now_ms))
                })
                .collect(),
            News::Trades(trades) => {
                let data: Vec<Value> = trades.iter().map(|one| trade(one, scene.symbol)).collect();
                vec![event("trade", "update", &data, None)]
            }
        }
    }

    fn heartbeat(&mut self, _scene: &Scene<'_>) -> Vec<String> {
        let is_due = !self.topics.is_empty() && !std::mem::take(&mut self.is_busy);
        if is_due { vec![r#"{"channel":"heartbeat"}"#.to_owned()] } else { Vec::new() }
    }

    fn farewell(&mut self, _scene: &Scene<'_>) -> Vec<String> {
        vec![status("maintenance")]
    }

    fn too_fast(&mut self) -> Vec<String> {
        vec![r#"{"Error":"Exceeded msg rate"}"#.to_owned()]
    }

    fn nonsense(&mut self, scene: &Scene<'_>) -> String {
        let minutes = NONSENSE_INTERVAL.as_ms() / 60_000;
        let bar = json!({
            "symbol": scene.symbol, "open": -1.0, "high": "1", "interval": minutes,
            "interval_begin": "not-a-time",
        });
        event("ohlc", "update", &[bar], Some(scene.now_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forecastd_core::Candle;
    use forecastd_exchange::Message;
    use forecastd_exchange::kraken::message;

    use super::*;
    use crate::exchange::market::Market;
    use crate::exchange::recording;

    fn ask(session: &mut Session, market: &Market, request: &Value) -> Vec<Value> {
        let scene = Scene { market, symbol: "BTC/USD", now_ms: 1_720_000_123_000 };
        let answers = session.hear(&request.to_string(), &scene);
        answers.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    #[test]
    fn each_symbol_has_an_answer_of_its_own_and_good_ones_a_snapshot() {
        let candles = recording::embedded().unwrap();
        let market = Market::new(candles.into(), Interval::FIVE_MINUTES);
        let mut session = Session::new();
        let mut params =
            json!({ "channel": "ohlc", "symbol": ["BTC/USD", "XBT/USD"], "interval": 5 });
        let request = json!({ "method": "subscribe", "params": params, "req_id": 4 });
        let answers = ask(&mut session, &market, &request);
        assert_eq!(answers.len(), 3);
        assert_eq!((&answers[0]["success"], &answers[0]["req_id"]), (&json!(true), &json!(4)));
        assert_eq!(answers[1]["type"], "snapshot");
        assert_eq!(answers[1]["data"].as_array().unwrap().len(), 13);
        assert_eq!(answers[2]["error"], "Currency pair not supported XBT/USD");
        assert_eq!(session.topics().len(), 1);
        for (key, value, error) in [
            ("symbol", json!(["BTC/USD"]), "Already subscribed"),
            ("interval", json!(3), "Invalid interval"),
            ("channel", json!("nothing"), "Channel nothing not supported"),
            ("symbol", json!([]), "Symbol(s) not found"),
        ] {
            params[key] = value;
            let request = json!({ "method": "subscribe", "params": params });
            assert_eq!(ask(&mut session, &market, &request)[0]["error"], error);
        }
        let pong = ask(&mut session, &market, &json!({ "method": "ping", "req_id": 9 }));
        assert_eq!((&pong[0]["method"], &pong[0]["req_id"]), (&json!("pong"), &json!(9)));
        let params = json!({ "channel": "ohlc", "symbol": ["BTC/USD"], "interval": 5 });
        let request = json!({ "method": "unsubscribe", "params": params });
        assert_eq!(ask(&mut session, &market, &request)[0]["success"], true);
        assert_eq!(ask(&mut session, &market, &request)[0]["error"], "Subscription Not Found");
        assert_eq!(session.topics(), []);
    }

    #[test]
    fn every_recorded_candle_survives_the_texts_bit_for_bit() {
        let candles: Arc<[_]> = recording::embedded().unwrap().into();
        let interval = Interval::FIVE_MINUTES;
        let market = Market::new(Arc::clone(&candles), interval);
        for recorded in candles.iter().step_by(17) {
            let bar = market.bar(interval, recorded.open_time_ms, i64::MAX).unwrap();
            let text = event("ohlc", "update", &[candle(interval, &bar, "BTC/USD")], Some(0));
            let Ok(Message::Candles(updates)) = message::decode(&text) else { panic!("{text}") };
            assert_eq!(updates[0].candle, Candle { trade_count: Some(12), ..*recorded });
        }
    }
}
