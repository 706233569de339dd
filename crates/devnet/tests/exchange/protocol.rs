//! The simulated Binance's own protocol, seen by a plain client.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, ManualClock};
use forecastd_devnet::exchange::{SimExchange, SimExchangeConfig, recording, spawn};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::{DEADLINE, FIVE};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An exchange whose clock stands a second after the open of the candle number 50.
async fn exchange(change: impl Fn(&mut SimExchangeConfig)) -> (SimExchange, Arc<ManualClock>) {
    let mut candles = recording::embedded().unwrap();
    candles.truncate(100);
    let clock = Arc::new(ManualClock::new(candles[50].open_time_ms + 1_000));
    let dyn_clock: Arc<dyn Clock> = clock.clone();
    let mut config = SimExchangeConfig::new(candles.into(), FIVE, dyn_clock);
    change(&mut config);
    (spawn(config).await.unwrap(), clock)
}

async fn connect(exchange: &SimExchange, path: &str) -> Socket {
    connect_async(format!("{}{path}", exchange.ws_url)).await.unwrap().0
}

async fn next(socket: &mut Socket) -> Option<Frame> {
    tokio::time::timeout(DEADLINE, socket.next()).await.expect("nothing came")?.ok()
}

async fn next_json(socket: &mut Socket) -> Value {
    loop {
        match next(socket).await {
            Some(Frame::Text(text)) => return serde_json::from_str(&text).unwrap(),
            Some(Frame::Ping(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn ask(socket: &mut Socket, request: Value) -> Value {
    socket.send(Frame::text(request.to_string())).await.unwrap();
    loop {
        let answer = next_json(socket).await;
        if answer.get("id").is_some() {
            return answer;
        }
    }
}

#[tokio::test]
async fn raw_streams_are_bare_and_combined_ones_wrapped() {
    let (exchange, _clock) = exchange(|_| {}).await;
    let mut raw = connect(&exchange, "/ws/btcusdt@kline_5m").await;
    let event = next_json(&mut raw).await;
    assert_eq!((&event["e"], &event["k"]["x"]), (&json!("kline"), &json!(false)));
    let mut combined = connect(&exchange, "/stream?streams=btcusdt@kline_5m/btcusdt@trade").await;
    let event = next_json(&mut combined).await;
    assert_eq!(event["stream"], "btcusdt@kline_5m");
    assert_eq!(event["data"]["s"], "BTCUSDT");
    let list = ask(&mut combined, json!({ "method": "LIST_SUBSCRIPTIONS", "id": 9 })).await;
    assert_eq!(list, json!({ "result": ["btcusdt@kline_5m", "btcusdt@trade"], "id": 9 }));
    exchange.stop().await;
}

#[tokio::test]
async fn a_final_candle_comes_once_after_its_delay_and_before_the_next_forming_one() {
    let (exchange, clock) = exchange(|config| config.forming_every_real = Duration::ZERO).await;
    let mut socket = connect(&exchange, "/ws/btcusdt@kline_5m").await;
    let first = next_json(&mut socket).await;
    let open_ms = first["k"]["t"].as_i64().unwrap();
    // A request makes the exchange look at its clock, which stands still here.
    let prod = json!({ "method": "LIST_SUBSCRIPTIONS", "id": 1 });
    clock.set(open_ms + 300_000 + 1_699);
    assert_eq!(ask(&mut socket, prod.clone()).await["id"], 1);
    clock.set(open_ms + 300_000 + 1_700);
    socket.send(Frame::text(prod.to_string())).await.unwrap();
    let mut bars = Vec::new();
    while bars.len() < 2 {
        let event = next_json(&mut socket).await;
        if event["e"] == "kline" {
            bars.push((event["k"]["t"].as_i64().unwrap(), event["k"]["x"].as_bool().unwrap()));
        }
    }
    assert_eq!(bars, [(open_ms, true), (open_ms + 300_000, false)]);
    exchange.stop().await;
}

#[tokio::test]
async fn an_unknown_stream_is_acknowledged_and_silent() {
    let (exchange, _clock) = exchange(|_| {}).await;
    let mut socket = connect(&exchange, "/ws").await;
    let request = json!({ "method": "SUBSCRIBE", "params": ["btcusdt@nothing"], "id": 1 });
    assert_eq!(ask(&mut socket, request).await, json!({ "result": null, "id": 1 }));
    let wrong = ask(&mut socket, json!({ "method": "BUY", "id": 2 })).await;
    assert_eq!((&wrong["code"], &wrong["id"]), (&json!(2), &json!(2)));
    exchange.stop().await;
}

#[tokio::test]
async fn a_client_that_talks_too_much_is_cut() {
    let (exchange, _clock) = exchange(|_| {}).await;
    let mut socket = connect(&exchange, "/ws").await;
    for id in 0..50 {
        let request = json!({ "method": "LIST_SUBSCRIPTIONS", "id": id });
        socket.feed(Frame::text(request.to_string())).await.unwrap();
    }
    socket.flush().await.unwrap();
    let mut answers = 0;
    let reason = loop {
        match next(&mut socket).await {
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
    let (exchange, _clock) = exchange(|config| {
        config.ping_every = Duration::from_millis(10);
        config.connection_life = Duration::from_millis(800);
    })
    .await;
    let mut socket = connect(&exchange, "/ws").await;
    let mut pings = 0;
    loop {
        match next(&mut socket).await {
            Some(Frame::Ping(_)) => pings += 1,
            Some(Frame::Close(_)) | None => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(pings > 0);
    exchange.stop().await;
}

#[tokio::test]
async fn recordings_and_settings_are_checked() {
    let candles = recording::embedded().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
    let config = SimExchangeConfig::new(candles[..10].into(), FIVE, clock);
    let mut falling = candles[..10].to_vec();
    falling.swap(3, 4);
    let mut broken = candles[..10].to_vec();
    broken[2].high = f64::NAN;
    let refused = [
        SimExchangeConfig { candles: Arc::new([]), ..config.clone() },
        SimExchangeConfig { candles: falling.into(), ..config.clone() },
        SimExchangeConfig { candles: broken.into(), ..config.clone() },
        SimExchangeConfig { symbol: "btc".to_owned(), ..config.clone() },
        SimExchangeConfig { interval: "10m".parse().unwrap(), ..config.clone() },
        SimExchangeConfig { ping_every: Duration::ZERO, ..config.clone() },
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
