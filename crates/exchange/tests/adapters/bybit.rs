//! Bybit: pages newest first, refusals with status 200, a feed with marked finals.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Interval, ManualClock};
use forecastd_exchange::{BybitRest, CandleSource, DropClass, Exchange, ExchangeError, FeedEvent};

use crate::feed::RunningFeed;
use crate::http::{HttpServer, http, ok, parameter};
use crate::stream::StreamServer;
use crate::{FIVE, STEP, fixture, line};

fn client(server: &HttpServer, now_ms: i64) -> BybitRest {
    let clock = Arc::new(ManualClock::new(now_ms));
    BybitRest::new(&server.url, clock, Duration::from_secs(30)).unwrap()
}

/// The candles `first..=last` as Bybit lists them, told at `now_ms`.
fn body(first: i64, last: i64, now_ms: i64) -> String {
    let row = |index: i64| {
        let open = index * STEP;
        format!(r#"["{open}","2","3","1","2.5","7","17"]"#)
    };
    let rows: Vec<String> = (first..=last).rev().map(row).collect();
    let list = rows.join(",");
    format!(
        r#"{{"retCode":0,"retMsg":"OK","result":{{"category":"spot","symbol":"BTCUSDT","list":[{list}]}},"time":{now_ms}}}"#
    )
}

/// An exchange that has all candles and, like the real one, cuts off the oldest of a long answer.
pub(crate) async fn exchange(now_ms: i64) -> HttpServer {
    HttpServer::start(move |target| {
        let number = |name| parameter(target, name).unwrap().parse::<i64>().unwrap();
        assert_eq!(parameter(target, "category"), Some("spot"));
        assert_eq!(parameter(target, "interval"), Some("5"));
        let first = FIVE.ceil(number("start")) / STEP;
        let last = number("end").min(now_ms) / STEP;
        ok(&body(first.max(last - number("limit") + 1), last, now_ms))
    })
    .await
}

pub(crate) fn indexes(candles: &[Candle]) -> Vec<i64> {
    candles.iter().map(|candle| candle.open_time_ms / STEP).collect()
}

#[tokio::test]
async fn a_range_of_many_pages_comes_without_hole_or_repetition() {
    let now_ms = 3_500 * STEP + 1;
    let server = exchange(now_ms).await;
    let rest = client(&server, now_ms);
    let candles = rest.candles("btcusdt", FIVE, 10 * STEP, i64::MAX).await.unwrap();
    assert_eq!(indexes(&candles), (10..3_500).collect::<Vec<_>>());
    let targets = server.targets();
    assert_eq!(targets.len(), 4, "{targets:?}");
    assert_eq!(
        targets[0],
        format!(
            "/v5/market/kline?category=spot&symbol=BTCUSDT&interval=5&start={}&end={}&limit=1000",
            10 * STEP,
            1009 * STEP
        )
    );
}

#[tokio::test]
async fn recorded_pages_are_read_and_the_open_candle_is_left_out() {
    for (name, count) in [("kline-60-spot-2024-05-08", 5), ("kline-60-spot-open-bar", 4)] {
        let text = fixture(&format!("bybit/rest/{name}.json"));
        let server = HttpServer::start(move |_| ok(&text)).await;
        let rest = client(&server, 1_720_000_000_000);
        let (from_ms, to_ms) = (1_715_162_400_000, 1_715_180_400_000);
        let hour = Interval::from_ms(3_600_000).unwrap();
        let candles = rest.candles("BTCUSDT", hour, from_ms, to_ms).await.unwrap();
        assert_eq!(candles.len(), count, "{name}");
        assert_eq!((candles[0].open_time_ms, candles[0].close), (from_ms, 62_439.82));
    }
}

#[tokio::test]
async fn recorded_trades_are_read() {
    let text = fixture("bybit/rest/recent-trade-spot.json");
    let server = HttpServer::start(move |_| ok(&text)).await;
    let trades = client(&server, 0).trades("BTCUSDT", 9_999).await.unwrap();
    assert_eq!((trades.len(), trades[0].price), (1, 16_618.49));
    assert_eq!(parameter(&server.targets()[0], "limit"), Some("60"));
}

/// Asks once for the candles 10..20 and returns the refusal.
async fn refusal(answer: Vec<u8>) -> ExchangeError {
    let server = HttpServer::start(move |_| answer.clone()).await;
    let rest = client(&server, 5_000 * STEP);
    rest.candles("BTCUSDT", FIVE, 10 * STEP, 20 * STEP).await.unwrap_err()
}

#[tokio::test]
async fn refusals_have_their_class() {
    let code = |code: i64| ok(&format!(r#"{{"retCode":{code},"retMsg":"words","result":null}}"#));
    let minutes = Duration::from_mins;
    for (answer, wait) in [
        (ok(&fixture("bybit/rest/error-rate.json")), Some(minutes(1))),
        (code(10_018), Some(minutes(10))),
        (http("403 Forbidden", "", "403, access too frequent"), Some(minutes(10))),
        (
            http("403 Forbidden", "retry-after: 7\r\n", "Access too frequent!"),
            Some(minutes(7) / 60),
        ),
        (http("429 Too Many Requests", "", ""), Some(minutes(1))),
    ] {
        let error = refusal(answer).await;
        assert_eq!(error.retry_after(), wait, "{error}");
        assert!(error.is_retryable());
    }
    let html = "<html>configured to block access from your country</html>";
    for answer in [code(10_009), code(10_024), http("403 Forbidden", "", html)] {
        let error = refusal(answer).await;
        assert!(matches!(error, ExchangeError::Blocked { .. }), "{error}");
        assert!(!error.is_retryable() && error.to_string().contains("proxy"), "{error}");
    }
    let wrong = refusal(code(10_001)).await;
    assert!(matches!(wrong, ExchangeError::UnknownSymbol { .. }), "{wrong}");
    assert!(matches!(refusal(code(10_002)).await, ExchangeError::Refused { .. }));
    assert!(refusal(code(10_016)).await.is_retryable());
}

#[tokio::test]
async fn after_too_many_requests_all_clients_keep_still() {
    let text = fixture("bybit/rest/error-rate.json");
    let server = HttpServer::start(move |_| ok(&text)).await;
    let rest = client(&server, 5_000 * STEP);
    // Another client of the same host has the same address, and is refused alike.
    for rest in [&rest, &rest, &client(&server, 5_000 * STEP)] {
        let error = rest.candles("BTCUSDT", FIVE, 10 * STEP, 20 * STEP).await.unwrap_err();
        assert!(matches!(error, ExchangeError::RateLimited { .. }), "{error}");
    }
    assert_eq!(server.targets().len(), 1);
}

#[tokio::test]
async fn bodies_that_break_a_rule_are_refused() {
    let good = body(10, 19, 5_000 * STEP);
    let rows = |first, last| body(first, last, 5_000 * STEP);
    for text in [
        String::new(),
        "[]".to_owned(),
        good.replace(r#""time":"#, r#""tame":"#),
        good.replace("\"2.5\"", "2.5"),
        good.replace("\"2.5\"", "\"9\""),
        good.replace("\"2.5\"", "\"1e400\""),
        good.replacen(&(12 * STEP).to_string(), &(12 * STEP + 1).to_string(), 1),
        good.replacen(&(12 * STEP).to_string(), &(13 * STEP).to_string(), 1),
        good.replacen(&(12 * STEP).to_string(), "x", 1),
        good.replace(",\"7\",\"17\"", ""),
        rows(9, 19),
        rows(10, 21),
        rows(10, 1_500),
    ] {
        let error = refusal(ok(&text)).await;
        assert!(matches!(error, ExchangeError::Decode { .. }), "{error}: {text}");
    }
    let error = refusal(ok(&" ".repeat(5_000_000))).await;
    assert!(matches!(error, ExchangeError::BodyTooLarge { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_without_a_list_is_empty() {
    for result in ["null", "{}", r#"{"symbol":"BTCUSDT","list":null}"#] {
        let text = format!(r#"{{"retCode":0,"retMsg":"OK","result":{result},"time":1}}"#);
        let server = HttpServer::start(move |_| ok(&text)).await;
        let rest = client(&server, 5_000 * STEP);
        let candles = rest.candles("BTCUSDT", FIVE, 10 * STEP, 20 * STEP).await.unwrap();
        assert_eq!(candles, [], "{result}");
    }
}

#[tokio::test]
async fn bad_requests_are_refused_before_they_are_sent() {
    let server = HttpServer::start(|_| ok("")).await;
    let rest = client(&server, 5_000 * STEP);
    let odd = Interval::from_ms(7).unwrap();
    for (symbol, interval) in [("BTC-USD", FIVE), ("BTC&x", FIVE), ("", FIVE), ("BTCUSDT", odd)] {
        let error = rest.candles(symbol, interval, 0, STEP).await.unwrap_err();
        assert!(matches!(error, ExchangeError::Config { .. }), "{error}");
    }
    assert_eq!(server.targets(), [""; 0]);
}

pub(crate) const ACK: &str =
    r#"{"success":true,"ret_msg":"","conn_id":"x","req_id":"1","op":"subscribe"}"#;

#[tokio::test]
async fn a_feed_tells_marked_finals_and_fills_an_outage() {
    let start = 1_672_324_800_000;
    let stream = StreamServer::start().await;
    let rest = exchange(start + 3 * STEP + 1).await;
    let mut feed = RunningFeed::start(Exchange::Bybit, &stream, &rest, start + 9, |config| config);
    let mut peer = stream.accept().await;
    assert_eq!(peer.path, "/v5/public/spot");
    assert!(peer.read().await.contains(r#""args":["kline.5.BTCUSDT","publicTrade.BTCUSDT"]"#));
    peer.send(ACK).await;
    feed.subscribed().await;
    // A pong and an unknown topic are no data, a candle of another length is counted.
    for number in [4, 6] {
        peer.send(line("bybit/ws/control-and-odd.jsonl", number)).await;
    }
    for number in [1, 2] {
        peer.send(line("bybit/ws/klines.jsonl", number)).await;
    }
    let forming = feed.forming().await;
    assert_eq!((forming.open_time_ms, forming.volume), (start, 2.081));
    assert_eq!(feed.dropped().await, (DropClass::Unexpected, 1));
    peer.send(line("bybit/ws/spot-trades.jsonl", 3)).await;
    for last_digit in 8..=9 {
        let id = feed.trade().await.trade_id.unwrap();
        assert_eq!(id.to_string(), format!("229000000058738710{last_digit}"));
    }
    for _ in 0..4 {
        feed.trade().await;
    }
    feed.clock.set(start + STEP + 1);
    peer.send(line("bybit/ws/klines.jsonl", 3)).await;
    let closed = feed.final_candle().await;
    assert_eq!((closed.open_time_ms, closed.volume), (start, 3.402));
    assert_eq!(rest.targets().len(), 0);

    // Two candles close while the connection is away.
    drop(peer);
    feed.lost().await;
    feed.clock.set(start + 3 * STEP + 1);
    let mut peer = stream.accept().await;
    peer.read().await;
    peer.send(ACK).await;
    let (filled, link) = feed.backfill_among(2).await;
    assert_eq!(link, [FeedEvent::Connected, FeedEvent::Subscribed]);
    assert_eq!(indexes(&filled), [start / STEP + 1, start / STEP + 2]);
    feed.stop().await;
}

#[tokio::test]
async fn a_refused_topic_ends_the_connection_with_the_exchanges_words() {
    let stream = StreamServer::start().await;
    let rest = exchange(0).await;
    let mut feed = RunningFeed::start(Exchange::Bybit, &stream, &rest, 0, |config| config);
    let mut peer = stream.accept().await;
    peer.read().await;
    peer.send(line("bybit/ws/control-and-odd.jsonl", 3)).await;
    let reason = feed.lost().await;
    assert!(reason.contains("Invalid topic: invalid.topic.BTCUSDT"), "{reason}");
    feed.stop().await;
}
