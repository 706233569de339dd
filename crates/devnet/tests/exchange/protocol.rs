//! The simulated exchanges' own protocols, seen by a plain client.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, ManualClock};
use forecastd_devnet::exchange::{SimExchange, SimExchangeConfig, spawn};
use forecastd_exchange::Exchange;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::client::Client;
use crate::{FIVE, sample};

/// An exchange whose clock stands a second after the open of the candle number 50.
pub(crate) async fn standing(
    exchange: Exchange,
    change: impl Fn(&mut SimExchangeConfig),
) -> (SimExchange, Arc<ManualClock>) {
    let candles = sample(exchange, 100);
    let clock = Arc::new(ManualClock::new(candles[50].open_time_ms + 1_000));
    let dyn_clock: Arc<dyn Clock> = clock.clone();
    let mut config = SimExchangeConfig::new(exchange, candles.into(), FIVE, dyn_clock);
    change(&mut config);
    (spawn(config).await.unwrap(), clock)
}

async fn ask(client: &mut Client, request: Value) -> Value {
    client.send(&request).await;
    client.until(|answer| answer.get("id").is_some()).await
}

#[tokio::test]
async fn raw_streams_are_bare_and_combined_ones_wrapped() {
    let (exchange, _clock) = standing(Exchange::Binance, |_| {}).await;
    let mut raw = Client::connect(&exchange.ws_url, "/ws/btcusdt@kline_5m").await;
    let event = raw.next_json().await;
    assert_eq!((&event["e"], &event["k"]["x"]), (&json!("kline"), &json!(false)));
    let mut combined =
        Client::connect(&exchange.ws_url, "/stream?streams=btcusdt@kline_5m/btcusdt@trade").await;
    let event = combined.next_json().await;
    assert_eq!(event["stream"], "btcusdt@kline_5m");
    assert_eq!(event["data"]["s"], "BTCUSDT");
    let list = ask(&mut combined, json!({ "method": "LIST_SUBSCRIPTIONS", "id": 9 })).await;
    assert_eq!(list, json!({ "result": ["btcusdt@kline_5m", "btcusdt@trade"], "id": 9 }));
    exchange.stop().await;
}

#[tokio::test]
async fn a_final_candle_comes_once_after_its_delay_and_before_the_next_forming_one() {
    let (exchange, clock) =
        standing(Exchange::Binance, |config| config.forming_every_real = Duration::ZERO).await;
    let mut socket = Client::connect(&exchange.ws_url, "/ws/btcusdt@kline_5m").await;
    let first = socket.next_json().await;
    let open_ms = first["k"]["t"].as_i64().unwrap();
    // A request makes the exchange look at its clock, which stands still here.
    let prod = json!({ "method": "LIST_SUBSCRIPTIONS", "id": 1 });
    clock.set(open_ms + 300_000 + 1_699);
    assert_eq!(ask(&mut socket, prod.clone()).await["id"], 1);
    clock.set(open_ms + 300_000 + 1_700);
    socket.send(&prod).await;
    let mut bars = Vec::new();
    while bars.len() < 2 {
        let event = socket.next_json().await;
        if event["e"] == "kline" {
            bars.push((event["k"]["t"].as_i64().unwrap(), event["k"]["x"].as_bool().unwrap()));
        }
    }
    assert_eq!(bars, [(open_ms, true), (open_ms + 300_000, false)]);
    exchange.stop().await;
}

#[tokio::test]
async fn an_unknown_stream_is_acknowledged_and_silent() {
    let (exchange, _clock) = standing(Exchange::Binance, |_| {}).await;
    let mut socket = Client::connect(&exchange.ws_url, "/ws").await;
    let request = json!({ "method": "SUBSCRIBE", "params": ["btcusdt@nothing"], "id": 1 });
    assert_eq!(ask(&mut socket, request).await, json!({ "result": null, "id": 1 }));
    let wrong = ask(&mut socket, json!({ "method": "BUY", "id": 2 })).await;
    assert_eq!((&wrong["code"], &wrong["id"]), (&json!(2), &json!(2)));
    exchange.stop().await;
}

#[tokio::test]
async fn a_client_that_talks_too_much_is_cut() {
    let (exchange, _clock) = standing(Exchange::Binance, |_| {}).await;
    let mut socket = Client::connect(&exchange.ws_url, "/ws").await;
    for id in 0..50 {
        let request = json!({ "method": "LIST_SUBSCRIPTIONS", "id": id });
        socket.feed(&request).await;
    }
    socket.flush().await;
    let mut answers = 0;
    let reason = loop {
        match socket.next().await {
            Some(Frame::Text(_)) => answers += 1,
            Some(Frame::Close(Some(frame))) => break frame.reason.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason, "Too many requests");
    assert!((5..50).contains(&answers), "{answers}");
    exchange.stop().await;
}

#[tokio::test]
async fn pings_come_and_a_connection_does_not_live_for_ever() {
    let (exchange, _clock) = standing(Exchange::Binance, |config| {
        config.ping_every = Some(Duration::from_millis(10));
        config.connection_life = Some(Duration::from_millis(800));
    })
    .await;
    let mut socket = Client::connect(&exchange.ws_url, "/ws").await;
    let (pings, _) = socket.end().await;
    assert!(pings > 0);
    exchange.stop().await;
}

#[tokio::test]
async fn recordings_and_settings_are_checked() {
    let candles = sample(Exchange::Binance, 10);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
    let config = SimExchangeConfig::new(Exchange::Binance, candles[..10].into(), FIVE, clock);
    let mut falling = candles[..10].to_vec();
    falling.swap(3, 4);
    let mut broken = candles[..10].to_vec();
    broken[2].high = f64::NAN;
    let refused = [
        SimExchangeConfig { candles: Arc::new([]), ..config.clone() },
        SimExchangeConfig { candles: falling.into(), ..config.clone() },
        SimExchangeConfig { candles: broken.into(), ..config.clone() },
        SimExchangeConfig { symbol: "btc".to_owned(), ..config.clone() },
        SimExchangeConfig { symbol: "BTC/USD".to_owned(), ..config.clone() },
        SimExchangeConfig { exchange: Exchange::Kraken, ..config.clone() },
        SimExchangeConfig { interval: "10m".parse().unwrap(), ..config.clone() },
        SimExchangeConfig { ping_every: Some(Duration::ZERO), ..config.clone() },
    ];
    for config in refused {
        assert!(spawn(config).await.is_err());
    }
    let first = spawn(config.clone()).await.unwrap();
    let port = first.ws_url.rsplit(':').next().unwrap().parse().unwrap();
    let second = spawn(SimExchangeConfig { port, ..config }).await.unwrap_err();
    assert!(second.to_string().contains(&port.to_string()), "{second}");
    first.stop().await;
}

/// The time-outs of the exchanges that cut idle connections, with the path of their WebSocket.
#[tokio::test]
async fn idle_connections_are_cut_where_the_exchange_does_so() {
    let soon = Some(Duration::from_millis(50));
    let (bybit, _clock) = standing(Exchange::Bybit, |config| config.idle_cut = soon).await;
    let mut client = Client::connect(&bybit.ws_url, "/v5/public/spot").await;
    assert_eq!(client.end().await.1.as_deref(), Some("disconnected"));
    bybit.stop().await;
    let (kraken, _clock) =
        standing(Exchange::Kraken, |config| config.subscribe_within = soon).await;
    let mut client = Client::connect(&kraken.ws_url, "/v2").await;
    assert_eq!(client.end().await.1.as_deref(), Some("disconnected"));
    kraken.stop().await;
}

#[tokio::test]
async fn bybit_tells_the_closed_candle_and_the_new_one_in_one_message() {
    let (exchange, clock) = standing(Exchange::Bybit, |_| {}).await;
    let mut client = Client::connect(&exchange.ws_url, "/v5/public/spot").await;
    client.send(&json!({ "op": "subscribe", "args": ["kline.5.BTCUSDT"] })).await;
    let first = client.until(|message| message["topic"] == "kline.5.BTCUSDT").await;
    let open_ms = first["data"][0]["start"].as_i64().unwrap();
    clock.set(open_ms + FIVE.as_ms() + 200);
    client.send(&json!({ "op": "ping" })).await;
    let both = client.until(|message| message["topic"] == "kline.5.BTCUSDT").await;
    let told: Vec<(i64, bool)> = both["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bar| (bar["start"].as_i64().unwrap(), bar["confirm"].as_bool().unwrap()))
        .collect();
    assert_eq!(told, [(open_ms, true), (open_ms + FIVE.as_ms(), false)]);
    exchange.stop().await;
}

#[tokio::test]
async fn kraken_tells_the_last_state_of_an_interval_before_the_next_one() {
    let (exchange, clock) = standing(Exchange::Kraken, |_| {}).await;
    let candles = sample(Exchange::Kraken, 100);
    let mut client = Client::connect(&exchange.ws_url, "/v2").await;
    let params = json!({
        "channel": "ohlc", "symbol": ["BTC/USD"], "interval": 5, "snapshot": false,
    });
    client.send(&json!({ "method": "subscribe", "params": params })).await;
    client.until(|message| message["success"] == true).await;
    clock.set(candles[51].open_time_ms + 1);
    client.send(&json!({ "method": "ping" })).await;
    let is_of = |message: &Value, at: usize| {
        let begin = message["data"][0]["interval_begin"].as_str().unwrap_or_default();
        chrono::DateTime::parse_from_rfc3339(begin)
            .is_ok_and(|begin| begin.timestamp_millis() == candles[at].open_time_ms)
    };
    let mut last = Value::Null;
    let next = loop {
        let update = client.until(|message| message["channel"] == "ohlc").await;
        assert!(is_of(&update, 50) || is_of(&update, 51), "{update}");
        if is_of(&update, 51) {
            break update;
        }
        last = update;
    };
    assert_eq!(last["data"][0]["close"].as_f64(), Some(candles[50].close));
    assert_eq!(last["data"][0]["volume"].as_f64(), Some(candles[50].volume));
    assert_eq!(next["data"][0]["open"].as_f64(), Some(candles[51].open));
    exchange.stop().await;
}

#[tokio::test]
async fn kraken_answers_a_wrong_symbol_and_goes_on_with_heartbeats() {
    let soon = Some(Duration::from_millis(10));
    let (exchange, _clock) =
        standing(Exchange::Kraken, |config| config.heartbeat_every = soon).await;
    let mut client = Client::connect(&exchange.ws_url, "/v2").await;
    let hello = client.next_json().await;
    assert_eq!(
        (&hello["channel"], &hello["data"][0]["system"]),
        (&json!("status"), &json!("online"))
    );
    assert!(hello["data"][0]["connection_id"].as_u64().unwrap() > i64::MAX.unsigned_abs());
    let params = json!({ "channel": "trade", "symbol": ["XBT/USD", "BTC/USD"] });
    client.send(&json!({ "method": "subscribe", "params": params, "req_id": 3 })).await;
    let refusal = client.next_json().await;
    assert_eq!(refusal["error"], "Currency pair not supported XBT/USD");
    assert_eq!((&refusal["req_id"], &refusal["symbol"]), (&json!(3), &json!("XBT/USD")));
    assert_eq!(client.next_json().await["success"], true);
    assert_eq!(client.next_json().await, json!({ "channel": "heartbeat" }));
    exchange.stop().await;
}
