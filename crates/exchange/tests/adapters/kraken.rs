//! Kraken: the newest 720 candles only, and a feed in which a later candle proves the one before it.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Interval, ManualClock};
use forecastd_exchange::{
    CandleSource, Exchange, ExchangeError, FeedConfig, FeedEvent, KrakenRest,
};

use crate::feed::RunningFeed;
use crate::http::{HttpServer, ok};
use crate::stream::{Peer, StreamServer};
use crate::{fixture, line};

const MINUTE: Interval = Interval::MINUTE;
const STEP: i64 = 60_000;
/// First and last open time of the recorded answer; the last candle is the running one.
const FIRST_MS: i64 = 1_762_777_020_000;
const LAST_MS: i64 = FIRST_MS + 720 * STEP;

async fn ask(body: String, from_ms: i64) -> Result<Vec<i64>, ExchangeError> {
    let server = HttpServer::start(move |_| ok(&body)).await;
    let clock = Arc::new(ManualClock::new(LAST_MS + 9));
    let rest = KrakenRest::new(&server.url, clock, Duration::from_secs(30)).unwrap();
    let candles = rest.candles("BTC/USDT", MINUTE, from_ms, i64::MAX).await?;
    assert_eq!(server.targets(), ["/0/public/OHLC?pair=XBTUSDT&interval=1"]);
    Ok(candles.iter().map(|candle| candle.open_time_ms).collect())
}

#[tokio::test]
async fn the_recorded_answer_is_read_without_its_running_candle() {
    let body = fixture("kraken/rest/ohlc-1m-720-2025-11-10.json");
    let times = ask(body.clone(), FIRST_MS).await.unwrap();
    assert_eq!((times.len(), times[0], times[719]), (720, FIRST_MS, LAST_MS - STEP));
    // The key of the market need not be the name that was asked for.
    let renamed = body.replacen("XBTUSDT", "XXBTZUSD", 1);
    assert_eq!(ask(renamed, LAST_MS - STEP).await.unwrap(), [LAST_MS - STEP]);
}

#[tokio::test]
async fn what_is_older_than_the_answer_is_refused_and_not_taken_for_missing() {
    let body = fixture("kraken/rest/ohlc-1m-720-2025-11-10.json");
    let error = ask(body, FIRST_MS - STEP).await.unwrap_err();
    assert!(matches!(error, ExchangeError::TooOld { oldest_ms: FIRST_MS, .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn refusals_have_their_class() {
    let body = |text: &str| format!(r#"{{"error":["{text}"]}}"#);
    let unknown = ask(fixture("kraken/rest/error-unknown-pair.json"), FIRST_MS).await.unwrap_err();
    assert!(matches!(unknown, ExchangeError::UnknownSymbol { .. }), "{unknown}");
    let fast = ask(body("EGeneral:Too many requests"), FIRST_MS).await.unwrap_err();
    assert_eq!(fast.retry_after(), Some(Duration::from_mins(1)));
    let lockout = ask(body("EGeneral:Temporary lockout"), FIRST_MS).await.unwrap_err();
    assert_eq!(lockout.retry_after(), Some(Duration::from_mins(15)));
    assert!(ask(body("EService:Busy"), FIRST_MS).await.unwrap_err().is_retryable());
    let time = ask(fixture("kraken/rest/server-time.json"), FIRST_MS).await.unwrap_err();
    assert!(matches!(time, ExchangeError::Decode { .. }), "{time}");
}

/// Accepts the feed and confirms both of its requests.
async fn subscribe(stream: &StreamServer) -> Peer {
    let mut peer = stream.accept().await;
    assert_eq!(peer.path, "/v2");
    peer.send(line("kraken/ws/v2-session.jsonl", 1)).await;
    for id in 1..=2 {
        assert!(peer.read().await.contains(&format!(r#""req_id":{id}"#)));
        peer.send(format!(r#"{{"method":"subscribe","success":true,"req_id":{id}}}"#)).await;
    }
    peer
}

#[tokio::test]
async fn a_later_candle_proves_that_the_one_before_it_is_final() {
    let stream = StreamServer::start().await;
    let rest = HttpServer::start(|target| panic!("nothing has to be asked: {target}")).await;
    // The recorded update is of the minute 17:35 of 2026-09-10.
    let start = 1_789_061_700_000;
    let change = |config| FeedConfig { symbol: "BTC/USDT".into(), interval: MINUTE, ..config };
    let mut feed = RunningFeed::start(Exchange::Kraken, &stream, &rest, start + 9, change);
    let mut peer = subscribe(&stream).await;
    feed.subscribed().await;
    peer.send(line("kraken/ws/v2-session.jsonl", 4)).await;
    let update = line("kraken/ws/v2-session.jsonl", 5);
    peer.send(update.clone()).await;
    let forming = feed.forming().await;
    assert_eq!((forming.open_time_ms, forming.close), (start, 77_509.2));
    feed.clock.set(start + STEP + 9);
    peer.send(update.replace("T17:35:00.000000000Z", "T17:36:00.000000000Z")).await;
    assert_eq!(feed.final_candle().await, forming);
    assert_eq!(feed.forming().await.open_time_ms, start + STEP);
    // A refused symbol ends the connection with the exchange's words.
    peer.send(line("kraken/ws/v2-session.jsonl", 6)).await;
    let reason = feed.lost().await;
    assert!(reason.contains("Currency pair not supported"), "{reason}");
    feed.stop().await;
}

fn minutes(config: FeedConfig) -> FeedConfig {
    FeedConfig { symbol: "BTC/USDT".into(), interval: MINUTE, ..config }
}

fn update(open_time_ms: i64) -> String {
    let begin = chrono::DateTime::from_timestamp_millis(open_time_ms).unwrap().to_rfc3339();
    let text = line("kraken/ws/v2-session.jsonl", 5);
    let (head, tail) = text.split_once(r#""interval_begin":""#).unwrap();
    let (_, tail) = tail.split_once('"').unwrap();
    format!(r#"{head}"interval_begin":"{begin}"{tail}"#)
}

#[tokio::test]
async fn an_outage_is_filled_and_what_was_seen_before_it_is_not_taken_for_final() {
    let stream = StreamServer::start().await;
    let body = fixture("kraken/rest/ohlc-1m-720-2025-11-10.json");
    let rest = HttpServer::start(move |_| ok(&body)).await;
    let start = LAST_MS - 3 * STEP;
    let mut feed = RunningFeed::start(Exchange::Kraken, &stream, &rest, start + 9, minutes);
    let mut peer = subscribe(&stream).await;
    feed.subscribed().await;
    peer.send(update(start)).await;
    assert_eq!(feed.forming().await.close, 77_509.2);
    drop(peer);
    feed.lost().await;

    feed.clock.set(LAST_MS + 9);
    let mut peer = subscribe(&stream).await;
    let (filled, link) = feed.backfill_among(2).await;
    assert_eq!(link, [FeedEvent::Connected, FeedEvent::Subscribed]);
    let times: Vec<i64> = filled.iter().map(|candle| candle.open_time_ms).collect();
    assert_eq!(times, [start, start + STEP, start + 2 * STEP]);
    assert!(filled[0].close != 77_509.2, "the recorded row, not the update before the outage");
    // From here on live again.
    peer.send(update(LAST_MS)).await;
    assert_eq!(feed.forming().await.open_time_ms, LAST_MS);
    feed.clock.set(LAST_MS + STEP);
    peer.send(update(LAST_MS + STEP)).await;
    assert_eq!(feed.final_candle().await.open_time_ms, LAST_MS);
    assert_eq!(rest.targets().len(), 1);
    feed.stop().await;
}

#[tokio::test]
async fn an_outage_beyond_the_newest_candles_leaves_a_gap() {
    let stream = StreamServer::start().await;
    let body = fixture("kraken/rest/ohlc-1m-720-2025-11-10.json");
    let rest = HttpServer::start(move |_| ok(&body)).await;
    let since = LAST_MS - 5_000 * STEP;
    let resume = |config| FeedConfig { resume_from_ms: Some(since), ..minutes(config) };
    let mut feed = RunningFeed::start(Exchange::Kraken, &stream, &rest, LAST_MS + 9, resume);
    let gap = |event: &FeedEvent| match event {
        FeedEvent::Gap { from_ms, to_ms, .. } => Some((*from_ms, *to_ms)),
        _ => None,
    };
    // A little less than the exchange's 720, for candles that close while it is asked.
    assert_eq!(feed.find(gap).await, (since, LAST_MS - 700 * STEP));
    let _peer = subscribe(&stream).await;
    let candles = |event: &FeedEvent| match event {
        FeedEvent::Backfill { candles, .. } => Some(candles.clone()),
        _ => None,
    };
    let filled = feed.find(candles).await;
    assert_eq!((filled.len(), filled[0].open_time_ms), (700, LAST_MS - 700 * STEP));
    feed.stop().await;
}
