//! The simulated exchanges' texts have the keys and types of what the real ones sent.

use std::fs;
use std::path::PathBuf;

use forecastd_core::ManualClock;
use forecastd_devnet::exchange::{Fault, SimExchange};
use forecastd_exchange::Exchange;
use serde_json::{Map, Value, json};

use crate::client::{Client, get_json};
use crate::protocol::standing;

fn path(exchange: &str, file: &str) -> PathBuf {
    let given = std::env::var_os("FORECASTD_FIXTURES").map(PathBuf::from);
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
    let root = given.unwrap_or_else(|| default.into());
    root.join("exchanges").join(exchange).join(file)
}

fn body(exchange: &str, file: &str) -> Value {
    let text = fs::read_to_string(path(exchange, &format!("rest/{file}"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The first recorded message that is wanted.
fn message(exchange: &str, file: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let text = fs::read_to_string(path(exchange, &format!("ws/{file}"))).unwrap();
    let mut all = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    all.find(is_wanted).unwrap_or_else(|| panic!("no such message in {file}"))
}

/// The types in place of the values. Rows keep their length, lists of alike things their first one;
/// `ignored` keys are left out.
fn shape(value: &Value, ignored: &[&str]) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Array(parts) => {
            let is_row = parts.iter().all(|part| !part.is_array() && !part.is_object());
            let count = if is_row { parts.len() } else { 1 };
            parts.iter().take(count).map(|part| shape(part, ignored)).collect()
        }
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !ignored.contains(&key.as_str()));
            let shapes = kept.map(|(key, value)| (key.clone(), shape(value, ignored)));
            Value::Object(shapes.collect::<Map<_, _>>())
        }
    }
}

#[track_caller]
fn check(simulated: &Value, recorded: &Value, ignored: &[&str]) {
    let (is, want) = (shape(simulated, ignored), shape(recorded, ignored));
    assert_eq!(is, want, "simulated {simulated}, recorded {recorded}");
}

/// Lets five trades happen and makes the exchange look at its clock, by a request.
async fn go_on(client: &mut Client, clock: &ManualClock, prod: Value) {
    clock.advance(125_000);
    client.send(&prod).await;
}

#[tokio::test]
async fn binance() {
    let name = "binance";
    let (exchange, clock) = standing(Exchange::Binance, |_| {}).await;
    let streams = "/ws/btcusdt@kline_5m/btcusdt@trade";
    let mut client = Client::connect(&exchange.ws_url, streams).await;
    let file = "raw-stream.jsonl";
    let recorded = |kind: &'static str| message(name, file, move |one| one["e"] == kind);
    let kline = client.until(|one| one["e"] == "kline").await;
    check(&kline, &recorded("kline"), &[]);
    go_on(&mut client, &clock, json!({ "method": "LIST_SUBSCRIPTIONS", "id": 1 })).await;
    let trade = client.until(|one| one["e"] == "trade").await;
    // The order ids were taken away later.
    check(&trade, &recorded("trade"), &["a", "b"]);
    let control = "control-and-odd.jsonl";
    client.send(&json!({ "method": "SUBSCRIBE", "params": ["x"], "id": 1 })).await;
    let ack = client.until(|one| one["id"] == 1 && one["result"].is_null()).await;
    check(&ack, &message(name, control, |one| one["result"].is_null()), &[]);
    client.send(&json!({ "id": 2 })).await;
    let refusal = client.until(|one| one.get("code").is_some()).await;
    check(&refusal, &message(name, control, |one| one.get("code").is_some()), &["id"]);
    exchange.fault(Fault::Shutdown);
    let warning = client.until(|one| one["e"] == "serverShutdown").await;
    check(&warning, &message(name, control, |one| one["e"] == "serverShutdown"), &[]);
    let url = &exchange.rest_url;
    for (path, file) in [
        ("klines?symbol=BTCUSDT&interval=5m&limit=5", "klines-5m-2020-01-01.json"),
        ("trades?symbol=BTCUSDT&limit=5", "trades-2021-10-22.json"),
        ("aggTrades?symbol=BTCUSDT&limit=5", "aggtrades-2021-10-22.json"),
        ("klines?symbol=NOPE&interval=5m", "error-bad-symbol.json"),
    ] {
        check(&get_json(url, &format!("/api/v3/{path}")).await, &body(name, file), &[]);
    }
    for (status, file) in [(429, "error-rate-429.json"), (451, "error-geo-451.json")] {
        exchange.fault(Fault::RestStatus { status, retry_after: None, count: 1 });
        assert_eq!(get_json(url, "/api/v3/time").await, body(name, file));
    }
    exchange.stop().await;
}

#[tokio::test]
async fn bybit() {
    let name = "bybit";
    let (exchange, clock) = standing(Exchange::Bybit, |_| {}).await;
    let mut client = Client::connect(&exchange.ws_url, "/v5/public/spot").await;
    let request = |args: Value| json!({ "req_id": "a", "op": "subscribe", "args": args });
    client.send(&request(json!(["kline.5.BTCUSDT", "publicTrade.BTCUSDT"]))).await;
    let control = "control-and-odd.jsonl";
    let ack = client.next_json().await;
    check(&ack, &message(name, control, |one| one["success"] == true), &[]);
    let kline = client.until(|one| one["topic"] == "kline.5.BTCUSDT").await;
    check(&kline, &message(name, "klines.jsonl", |_| true), &[]);
    go_on(&mut client, &clock, json!({ "op": "ping" })).await;
    let pong = client.until(|one| one["op"] == "ping").await;
    check(&pong, &message(name, control, |one| one["op"] == "ping"), &[]);
    let trades = client.until(|one| one["topic"] == "publicTrade.BTCUSDT").await;
    let newest = message(name, "spot-trades.jsonl", |one| one["data"][0].get("RPI").is_some());
    check(&trades, &newest, &[]);
    assert_eq!(trades["data"].as_array().unwrap().len(), 5);
    client.send(&request(json!(["nothing.BTCUSDT"]))).await;
    let refusal = client.until(|one| one["success"] == false).await;
    check(&refusal, &message(name, control, |one| one["success"] == false), &["req_id"]);
    let url = &exchange.rest_url;
    for (path, file) in [
        ("kline?category=spot&symbol=BTCUSDT&interval=60", "kline-60-spot-open-bar.json"),
        ("recent-trade?category=spot&symbol=BTCUSDT", "recent-trade-spot.json"),
    ] {
        check(&get_json(url, &format!("/v5/market/{path}")).await, &body(name, file), &[]);
    }
    exchange.fault(Fault::RestStatus { status: 429, retry_after: None, count: 1 });
    let error = get_json(url, "/v5/market/time").await;
    check(&error, &body(name, "error-rate.json"), &[]);
    assert_eq!(error["retCode"], body(name, "error-rate.json")["retCode"]);
    bybit_rows_are_newest_first_and_a_category_is_needed(&exchange).await;
    exchange.stop().await;
}

async fn bybit_rows_are_newest_first_and_a_category_is_needed(exchange: &SimExchange) {
    let ask = async |query: &str| {
        let path = format!("/v5/market/kline?symbol=BTCUSDT&interval=5{query}");
        get_json(&exchange.rest_url, &path).await
    };
    let rows = ask("&category=spot&limit=20").await;
    let rows = rows["result"]["list"].as_array().unwrap();
    let times: Vec<i64> =
        rows.iter().map(|row| row[0].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(times.len(), 20);
    assert!(times.windows(2).all(|two| two[0] - two[1] == 300_000), "{times:?}");
    // Too many for the limit: the oldest end is cut off.
    let (first, last) = (times[19], times[0]);
    let cut = ask(&format!("&category=spot&start={first}&end={last}&limit=3")).await;
    assert_eq!(cut["result"]["list"][0], rows[0]);
    assert_eq!(cut["result"]["list"].as_array().unwrap().len(), 3);
    let perpetual = ask("").await;
    assert_eq!(
        perpetual["result"],
        json!({ "category": "linear", "symbol": "BTCUSDT", "list": [] })
    );
    for (query, code) in [
        ("&category=spot&limit=0", 10_001),
        ("&category=none", 10_001),
        ("&category=spot&start=x", 10_001),
    ] {
        assert_eq!(ask(query).await["retCode"], code, "{query}");
    }
}

#[tokio::test]
async fn kraken() {
    let (name, file) = ("kraken", "v2-session.jsonl");
    let (exchange, clock) = standing(Exchange::Kraken, |_| {}).await;
    let mut client = Client::connect(&exchange.ws_url, "/v2").await;
    let of = |channel: &'static str, kind: &'static str| {
        move |one: &Value| one["channel"] == channel && one["type"] == kind
    };
    let hello = client.next_json().await;
    check(&hello, &message(name, file, of("status", "update")), &[]);
    let request = |channel: &str, symbol: &str| {
        let params = json!({
            "channel": channel, "symbol": [symbol], "interval": 5, "snapshot": true,
        });
        json!({ "method": "subscribe", "params": params, "req_id": 1 })
    };
    for channel in ["ohlc", "trade"] {
        client.send(&request(channel, "BTC/USD")).await;
        let ack = client.until(|one| one["success"] == true).await;
        let is_ack = |one: &Value| one["result"]["channel"] == "ohlc";
        // Only the candle channel has an interval and a warning about its names.
        let ignored: &[&str] =
            if channel == "ohlc" { &["req_id"] } else { &["req_id", "interval", "warnings"] };
        check(&ack, &message(name, file, is_ack), ignored);
        let snapshot = client.until(of(channel, "snapshot")).await;
        check(&snapshot, &message(name, file, of(channel, "snapshot")), &[]);
    }
    go_on(&mut client, &clock, json!({ "method": "ping", "req_id": 7 })).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let one = client.next_json().await;
        let key = if one["method"] == "pong" { "pong" } else { one["channel"].as_str().unwrap() };
        if ["pong", "ohlc", "trade"].contains(&key) && !seen.contains(&key.to_owned()) {
            seen.push(key.to_owned());
            let recorded = message(name, file, |other| match key {
                "pong" => other["method"] == "pong",
                "ohlc" => of("ohlc", "update")(other),
                _ => of("trade", "update")(other),
            });
            check(&one, &recorded, &[]);
        }
    }
    client.send(&request("ohlc", "XBT/USD")).await;
    let refusal = client.until(|one| one["success"] == false).await;
    check(&refusal, &message(name, file, |one| one["success"] == false), &["req_id"]);
    exchange.fault(Fault::Shutdown);
    let away = client.until(|one| one["channel"] == "status").await;
    assert_eq!(away["data"][0]["system"], "maintenance");
    let url = &exchange.rest_url;
    for (path, file) in [
        ("OHLC?pair=XBTUSD&interval=5", "ohlc-1m-720-2025-11-10.json"),
        ("Trades?pair=XXBTZUSD", "trades-1000-2025-11-10.json"),
        ("SystemStatus", "system-status.json"),
        ("Time", "server-time.json"),
    ] {
        let answer = get_json(url, &format!("/0/public/{path}")).await;
        let text = body(name, file).to_string().replace("XBTUSDT", "XXBTZUSD");
        check(&answer, &serde_json::from_str(&text).unwrap(), &[]);
    }
    let unknown = get_json(url, "/0/public/OHLC?pair=NOPE").await;
    assert_eq!(unknown, body(name, "error-unknown-pair.json"));
    exchange.stop().await;
}

#[tokio::test]
async fn coinbase() {
    let name = "coinbase";
    let (exchange, clock) = standing(Exchange::Coinbase, |_| {}).await;
    let mut client = Client::connect(&exchange.ws_url, "").await;
    let (feed, control) = ("exchange-2021-04-17.jsonl", "exchange-control-and-odd.jsonl");
    let of = |kind: &'static str| move |one: &Value| one["type"] == kind;
    let request = |product: &str| {
        json!({
            "type": "subscribe", "product_ids": [product], "channels": ["matches", "heartbeat"],
        })
    };
    client.send(&request("BTC-USD")).await;
    let last = client.until(of("last_match")).await;
    check(&last, &message(name, feed, of("last_match")), &[]);
    let list = client.until(of("subscriptions")).await;
    check(&list["channels"][0], &json!({ "name": "", "product_ids": [""] }), &[]);
    check(&list, &message(name, control, of("subscriptions")), &["product_ids"]);
    let beat = client.until(of("heartbeat")).await;
    check(&beat, &message(name, control, of("heartbeat")), &[]);
    assert_eq!(beat["last_trade_id"], last["trade_id"]);
    go_on(&mut client, &clock, request("GIBBERISH-USD")).await;
    let refusal = client.until(of("error")).await;
    check(&refusal, &message(name, control, of("error")), &[]);
    let mut trades = Vec::new();
    while trades.len() < 5 {
        trades.push(client.until(of("match")).await);
    }
    check(&trades[0], &message(name, feed, of("match")), &[]);
    let number = |one: &Value| one["trade_id"].as_u64().unwrap();
    assert_eq!(number(&trades[0]), number(&last) + 1);
    assert!(trades.windows(2).all(|two| number(&two[1]) == number(&two[0]) + 1));
    let event = |one: &Value| one["sequence"].as_u64().unwrap();
    assert!(trades.windows(2).all(|two| event(&two[1]) > event(&two[0]) + 1));
    let url = &exchange.rest_url;
    let ask = async |query: String| get_json(url, &format!("/products/BTC-USD/{query}")).await;
    let rows = ask("candles?granularity=300".to_owned()).await;
    check(&rows, &body(name, "exchange-candles-1m-2023-03-01.json"), &[]);
    let mut trades = ask("trades?limit=1".to_owned()).await;
    // The recorded copy gives the number as text.
    trades[0]["trade_id"] = json!(trades[0]["trade_id"].to_string());
    check(&trades, &body(name, "exchange-trades-2024-03-13.json"), &[]);
    let start = 1_677_628_800;
    let many = format!("candles?granularity=300&start={start}&end={}", start + 301 * 300);
    assert_eq!(ask(many).await, body(name, "error-too-many-candles.json"));
    exchange.fault(Fault::Shutdown);
    assert_eq!(client.until(of("error")).await["message"], "Server is shutting down");
    exchange.stop().await;
}

#[tokio::test]
async fn coinbase_advanced() {
    let (name, file) = ("coinbase", "advanced.jsonl");
    let (exchange, clock) = standing(Exchange::CoinbaseAdvanced, |_| {}).await;
    let mut client = Client::connect(&exchange.ws_url, "").await;
    let of = |channel: &'static str, kind: &'static str| {
        move |one: &Value| {
            let event = &one["events"][0];
            one["channel"] == channel && (kind.is_empty() || event["type"] == kind)
        }
    };
    let request = |channel: &str, product: &str| json!({ "type": "subscribe", "product_ids": [product], "channel": channel });
    for channel in ["heartbeats", "candles", "market_trades"] {
        client.send(&request(channel, "BTC-USD")).await;
    }
    let list = client.until(of("subscriptions", "")).await;
    // What is subscribed differs.
    check(&list, &message(name, file, of("subscriptions", "")), &["subscriptions"]);
    let snapshot = client.until(of("candles", "snapshot")).await;
    let recorded = message(name, file, of("candles", "update"));
    check(&snapshot, &recorded, &[]);
    let snapshot = client.until(of("market_trades", "snapshot")).await;
    check(&snapshot, &message(name, file, of("market_trades", "snapshot")), &[]);
    let beat = client.until(of("heartbeats", "")).await;
    check(&beat, &message(name, file, of("heartbeats", "")), &[]);
    go_on(&mut client, &clock, request("heartbeats", "BTC-USD")).await;
    let (mut updates, mut number) = (0, beat["sequence_num"].as_u64().unwrap());
    while updates < 2 {
        let one = client.next_json().await;
        number += 1;
        assert_eq!(one["sequence_num"], number);
        for channel in ["candles", "market_trades"] {
            if of(channel, "update")(&one) {
                check(&one, &message(name, file, of(channel, "update")), &[]);
                updates += 1;
            }
        }
    }
    let path = |start: i64| {
        let end = start + 6000;
        format!(
            "/api/v3/brokerage/market/products/BTC-USD/candles?granularity=FIVE_MINUTE&start={start}&end={end}"
        )
    };
    let rows = get_json(&exchange.rest_url, &path(1_677_628_800)).await;
    check(&rows, &body(name, "advanced-candles-1h.json"), &[]);
    exchange.stop().await;
}

#[tokio::test]
async fn coinbase_wants_a_subscription_soon() {
    let soon = Some(std::time::Duration::from_millis(50));
    for name in [Exchange::Coinbase, Exchange::CoinbaseAdvanced] {
        let (exchange, _clock) = standing(name, |config| config.subscribe_within = soon).await;
        let mut client = Client::connect(&exchange.ws_url, "").await;
        assert_eq!(client.end().await.1.as_deref(), Some("disconnected"));
        exchange.stop().await;
    }
}
