//! Coinbase Advanced Trade: forming candles from the stream, final ones from REST only.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Interval, ManualClock};
use forecastd_exchange::{
    CandleSource, CoinbaseAdvancedRest, Exchange, ExchangeError, FeedConfig, FeedEvent,
};

use crate::feed::RunningFeed;
use crate::http::{HttpServer, http, ok, parameter};
use crate::stream::{Peer, StreamServer};
use crate::{FIVE, STEP, fixture, line};

/// Open time of the recorded candle.
const START: i64 = 1_775_521_800_000;

/// An exchange that has every candle, newest first; its volume is 7.
async fn exchange() -> HttpServer {
    HttpServer::start(|target| {
        let seconds = |name| parameter(target, name).unwrap().parse::<i64>().unwrap();
        let step = match parameter(target, "granularity").unwrap() {
            "ONE_MINUTE" => 60,
            "FIVE_MINUTE" => 300,
            other => panic!("{other}"),
        };
        let (first, last) = (seconds("start") / step, seconds("end") / step);
        assert!(last - first < 350, "{target}");
        let row = |index: i64| {
            let start = index * step;
            format!(
                r#"{{"start":"{start}","low":"1","high":"3","open":"2","close":"2.5","volume":"7"}}"#
            )
        };
        let rows: Vec<String> = (first..=last).rev().map(row).collect();
        ok(&format!(r#"{{"candles":[{}]}}"#, rows.join(",")))
    })
    .await
}

fn client(server: &HttpServer, now_ms: i64) -> CoinbaseAdvancedRest {
    let clock = Arc::new(ManualClock::new(now_ms));
    CoinbaseAdvancedRest::new(&server.url, clock, Duration::from_secs(30)).unwrap()
}

#[tokio::test]
async fn a_range_of_many_pages_comes_without_what_may_still_change() {
    let server = exchange().await;
    let rest = client(&server, 1_000 * STEP + 9_999);
    let candles = rest.candles("btc-usd", FIVE, 10 * STEP, i64::MAX).await.unwrap();
    let times: Vec<i64> = candles.iter().map(|candle| candle.open_time_ms / STEP).collect();
    assert_eq!(times, (10..999).collect::<Vec<_>>());
    let targets = server.targets();
    assert_eq!(targets.len(), 3, "{targets:?}");
    let (start, end) = (10 * STEP / 1000, 359 * STEP / 1000);
    assert_eq!(
        targets[0],
        format!(
            "/api/v3/brokerage/market/products/BTC-USD/candles?start={start}&end={end}&granularity=FIVE_MINUTE"
        )
    );
}

#[tokio::test]
async fn recorded_bodies_are_read_and_refusals_have_their_class() {
    let ask = |answer: Vec<u8>| async move {
        let server = HttpServer::start(move |_| answer.clone()).await;
        let rest = client(&server, 1_800_000_000_000);
        let (from_ms, to_ms) = (1_791_281_880_000, 1_791_282_300_000);
        rest.candles("ETH-USD", Interval::MINUTE, from_ms, to_ms).await
    };
    let candles = ask(ok(&fixture("coinbase/rest/advanced-candles-1m-2026-10-06.json"))).await;
    let candles = candles.unwrap();
    assert_eq!((candles.len(), candles[0].close), (7, 2712.65));
    let unknown = r#"{"error":"NOT_FOUND","error_details":"x","message":"valid product required"}"#;
    let error = ask(http("404 Not Found", "", unknown)).await.unwrap_err();
    assert!(matches!(error, ExchangeError::UnknownSymbol { .. }), "{error}");
    assert!(error.to_string().contains("valid product required"), "{error}");
    for body in ["", "[]", "{}", r#"{"candles":7}"#, r#"{"candles":[{"start":1}]}"#] {
        let error = ask(ok(body)).await.unwrap_err();
        assert!(matches!(error, ExchangeError::Decode { .. }), "{error}: {body}");
    }
}

/// Accepts the feed and confirms each of its requests with the growing list.
async fn subscribe(stream: &StreamServer, channels: &[&str]) -> Peer {
    let mut peer = stream.accept().await;
    let mut list = Vec::new();
    for (number, channel) in channels.iter().enumerate() {
        assert!(peer.read().await.contains(&format!(r#""channel":"{channel}""#)));
        list.push(format!(r#""{channel}":["BTC-USD"]"#));
        let list = list.join(",");
        peer.send(format!(
            r#"{{"channel":"subscriptions","client_id":"","timestamp":"2026-04-07T14:30:00Z","sequence_num":{number},"events":[{{"subscriptions":{{{list}}}}}]}}"#
        ))
        .await;
    }
    peer
}

/// A recorded line with another number.
fn numbered(number: usize, line_number: usize) -> String {
    let text = line("coinbase/ws/advanced.jsonl", line_number);
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["sequence_num"] = number.into();
    value.to_string()
}

const ALL: [&str; 3] = ["heartbeats", "candles", "market_trades"];

#[tokio::test]
async fn the_stream_tells_forming_candles_and_rest_confirms_each_final_one() {
    let stream = StreamServer::start().await;
    let rest = exchange().await;
    let mut feed =
        RunningFeed::start(Exchange::CoinbaseAdvanced, &stream, &rest, START + 9, |config| config);
    let mut peer = subscribe(&stream, &ALL).await;
    feed.subscribed().await;
    peer.send(numbered(3, 2)).await;
    peer.send(numbered(4, 3)).await;
    assert_eq!(feed.forming().await.volume, 42.15);
    peer.send(numbered(5, 4)).await;
    assert_eq!(feed.trade().await.trade_id, Some("995098700".into()));
    assert_eq!(feed.trade().await.trade_id, Some("995098701".into()));
    // A later candle proves nothing: nothing is told of the one before until REST has settled.
    feed.clock.set(START + STEP + 1_000);
    let later = numbered(6, 3).replace("1775521800", "1775522100");
    peer.send(later.clone()).await;
    feed.clock.set(START + STEP + 10_000);
    peer.send(later.replace(r#""sequence_num":6"#, r#""sequence_num":7"#)).await;
    let confirmed = feed.backfill().await;
    assert_eq!((confirmed.len(), confirmed[0].open_time_ms), (1, START));
    assert_eq!(confirmed[0].volume, 7.0, "the stream's last word was not the truth");

    // Number 8 is lost: only a new subscription tells the state of the market again.
    peer.send(numbered(9, 3)).await;
    let reason = feed.lost().await;
    assert!(reason.contains("number 9 came after 7"), "{reason}");
    feed.clock.set(START + 3 * STEP + 11_000);
    let _peer = subscribe(&stream, &ALL).await;
    let (filled, link) = feed.backfill_among(2).await;
    assert_eq!(link, [FeedEvent::Connected, FeedEvent::Subscribed]);
    let missed: Vec<i64> = filled.iter().map(|candle| candle.open_time_ms).collect();
    assert_eq!(missed, [START + STEP, START + 2 * STEP]);
    feed.stop().await;
}

#[tokio::test]
async fn a_length_that_the_stream_lacks_comes_by_rest_alone() {
    let stream = StreamServer::start().await;
    let rest = exchange().await;
    let change = |config| FeedConfig { interval: Interval::MINUTE, trades: false, ..config };
    let mut feed =
        RunningFeed::start(Exchange::CoinbaseAdvanced, &stream, &rest, START + 9, change);
    let mut peer = subscribe(&stream, &["heartbeats", "market_trades"]).await;
    feed.subscribed().await;
    feed.clock.set(START + 60_000 + 10_000);
    // Trades are a sign of life only, and wake the feed.
    peer.send(numbered(2, 4)).await;
    assert_eq!(feed.backfill().await[0].open_time_ms, START);
    feed.stop().await;
}
