//! Coinbase Exchange: candles that are built from trades, and pages with holes whose youngest rows are
//! still corrected.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Interval, ManualClock};
use forecastd_exchange::{
    CandleSource, CoinbaseRest, DropClass, Exchange, ExchangeError, FeedEvent,
};

use crate::feed::RunningFeed;
use crate::http::{HttpServer, http, ok, parameter};
use crate::stream::{Peer, StreamServer};
use crate::{FIVE, STEP, fixture, line};

/// 2023-11-14 22:10.
const START: i64 = 5_666_666 * STEP;

fn client(server: &HttpServer, now_ms: i64) -> CoinbaseRest {
    let clock = Arc::new(ManualClock::new(now_ms));
    CoinbaseRest::new(&server.url, clock, Duration::from_secs(30)).unwrap()
}

fn row(index: i64) -> String {
    format!("[{},1,3,2,2.5,7]", index * STEP / 1000)
}

/// An exchange that has the candles for which `exists` holds, newest first, with one row too many
/// before the start, and that refuses more than 300 at once.
async fn exchange(exists: impl Fn(i64) -> bool + Send + 'static) -> HttpServer {
    HttpServer::start(move |target| {
        let seconds = |name| parameter(target, name).unwrap().parse::<i64>().unwrap();
        assert_eq!(parameter(target, "granularity"), Some("300"));
        let (first, last) = (seconds("start") * 1000 / STEP, seconds("end") * 1000 / STEP);
        if last - first > 300 {
            return http(
                "400 Bad Request",
                "",
                &fixture("coinbase/rest/error-too-many-candles.json"),
            );
        }
        let rows: Vec<String> =
            (first - 1..=last).rev().filter(|index| exists(*index)).map(row).collect();
        ok(&format!("[{}]", rows.join(",")))
    })
    .await
}

fn indexes(candles: &[Candle]) -> Vec<i64> {
    candles.iter().map(|candle| candle.open_time_ms / STEP).collect()
}

#[tokio::test]
async fn a_range_of_many_pages_comes_with_the_holes_that_the_exchange_has() {
    let exists = |index: i64| !(400..455).contains(&index);
    let server = exchange(exists).await;
    let rest = client(&server, 5_000 * STEP);
    let candles = rest.candles("btc-usd", FIVE, 10 * STEP, 1_000 * STEP).await.unwrap();
    assert_eq!(indexes(&candles), (10..1_000).filter(|i| exists(*i)).collect::<Vec<_>>());
    let targets = server.targets();
    assert_eq!(targets.len(), 4, "{targets:?}");
    let (start, end) = (10 * STEP / 1000, 309 * STEP / 1000);
    let want = format!("/products/BTC-USD/candles?granularity=300&start={start}&end={end}");
    assert_eq!(targets[0], want);
}

#[tokio::test]
async fn rows_that_may_still_change_are_left_out() {
    let server = exchange(|index| index <= 20).await;
    for (late_ms, count) in [(9_999, 9), (10_000, 10)] {
        let rest = client(&server, 20 * STEP + late_ms);
        let candles = rest.candles("BTC-USD", FIVE, 10 * STEP, i64::MAX).await.unwrap();
        assert_eq!(candles.len(), count, "{late_ms}");
    }
}

#[tokio::test]
async fn recorded_bodies_are_read() {
    let text = fixture("coinbase/rest/exchange-candles-1m-2023-03-01.json");
    let server = HttpServer::start(move |_| ok(&text)).await;
    let rest = client(&server, START);
    let (from_ms, to_ms) = (1_677_628_800_000, 1_677_629_460_000);
    let candles = rest.candles("BTC-USD", Interval::MINUTE, from_ms, to_ms).await.unwrap();
    assert_eq!((candles.len(), candles[0].open, candles[0].high), (11, 23_144.37, 23_153.68));
    let text = fixture("coinbase/rest/exchange-trades-2024-03-13.json");
    let server = HttpServer::start(move |_| ok(&text)).await;
    let trades = client(&server, START).trades("BTC-USDT", 5_000).await.unwrap();
    assert_eq!((trades.len(), trades[0].price), (1, 73_271.63));
    assert_eq!(server.targets(), ["/products/BTC-USDT/trades?limit=1000"]);
}

#[tokio::test]
async fn refusals_have_their_class() {
    let refusal = |answer: Vec<u8>| async move {
        let server = HttpServer::start(move |_| answer.clone()).await;
        let rest = client(&server, 5_000 * STEP);
        rest.candles("BTC-USD", FIVE, 10 * STEP, 20 * STEP).await.unwrap_err()
    };
    let many = fixture("coinbase/rest/error-too-many-candles.json");
    let many = refusal(http("400 Bad Request", "", &many)).await;
    assert!(many.to_string().contains("exceeds 300") && !many.is_retryable(), "{many}");
    let unknown = refusal(http("404 Not Found", "", r#"{"message":"NotFound"}"#)).await;
    assert!(matches!(unknown, ExchangeError::UnknownSymbol { .. }), "{unknown}");
    let fast = refusal(http("429 Too Many Requests", "", r#"{"message":"slow"}"#)).await;
    assert_eq!(fast.retry_after(), Some(Duration::from_mins(1)));
    for body in ["", "{}", "[[]]", "[[1,2]]", r#"[["1",1,3,2,2.5,7]]"#, "[[7,1,3,2,2.5,7]]"] {
        let error = refusal(ok(body)).await;
        assert!(matches!(error, ExchangeError::Decode { .. }), "{error}: {body}");
    }
    let twice = refusal(ok(&format!("[{},{}]", row(12), row(12)))).await;
    assert!(twice.to_string().contains("told once"), "{twice}");
}

fn matched(id: u64, time_ms: i64, price: f64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(time_ms).unwrap().to_rfc3339();
    format!(
        r#"{{"type":"match","trade_id":{id},"sequence":1,"time":"{time}","product_id":"BTC-USD","size":"0.5","price":"{price}","side":"sell"}}"#
    )
}

fn heartbeat(id: u64, time_ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(time_ms).unwrap().to_rfc3339();
    format!(
        r#"{{"type":"heartbeat","sequence":90,"last_trade_id":{id},"product_id":"BTC-USD","time":"{time}"}}"#
    )
}

const LIST: &str = r#"{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]},{"name":"heartbeat","product_ids":["BTC-USD"]}]}"#;

/// Accepts the feed and confirms its subscription; trade `id` was the last one before it.
async fn subscribe(stream: &StreamServer, id: u64, time_ms: i64) -> Peer {
    let mut peer = stream.accept().await;
    assert_eq!(peer.path, "/");
    let request = peer.read().await;
    assert!(request.contains(r#""product_ids":["BTC-USD"],"channels":["matches","heartbeat"]"#));
    peer.send(matched(id, time_ms, 7.0).replace("match", "last_match")).await;
    peer.send(LIST).await;
    peer.send(heartbeat(id, time_ms)).await;
    peer
}

#[tokio::test]
async fn a_whole_interval_is_told_live_and_an_outage_comes_by_rest() {
    let stream = StreamServer::start().await;
    let rest = exchange(|_| true).await;
    let mut feed =
        RunningFeed::start(Exchange::Coinbase, &stream, &rest, START + 9, |config| config);
    let mut peer = subscribe(&stream, 100, START + 5).await;
    assert_eq!(feed.next_link().await, "connected");
    assert_eq!(feed.trade().await.trade_id, Some("100".into()));
    assert_eq!(feed.next_link().await, "subscribed");

    // The interval of the subscription was not heard as a whole: REST has it once it has settled.
    feed.clock.set(START + STEP + 1_100);
    peer.send(matched(101, START + 20, 8.0)).await;
    peer.send(matched(102, START + STEP + 1_000, 9.0)).await;
    assert_eq!(feed.trade().await.price, 8.0);
    assert_eq!(feed.trade().await.price, 9.0);
    assert_eq!(rest.targets().len(), 0);
    feed.clock.set(START + STEP + 10_000);
    peer.send(matched(103, START + STEP + 10_000, 11.0)).await;
    assert_eq!(feed.trade().await.price, 11.0);
    assert_eq!(indexes(&feed.backfill().await), [START / STEP]);

    // The next one was, and the first trade behind it proves that it is over.
    feed.clock.set(START + 2 * STEP + 2_000);
    peer.send(matched(104, START + 2 * STEP + 1_000, 10.0)).await;
    let told = feed.final_candle().await;
    assert_eq!((told.open_time_ms, told.trade_count), (START + STEP, Some(2)));
    assert_eq!((told.open, told.high, told.low, told.close), (9.0, 11.0, 9.0, 11.0));
    assert_eq!(told.volume, 1.0);
    assert_eq!(feed.trade().await.price, 10.0);
    assert_eq!(rest.targets().len(), 1);

    // The connection is away over the end of an interval. Trades 105 and 106 are lost, 107 is the last
    // one before the subscription.
    drop(peer);
    feed.lost().await;
    feed.clock.set(START + 3 * STEP + 11_000);
    let mut peer = subscribe(&stream, 107, START + 3 * STEP + 9_000).await;
    let (filled, events) = feed.backfill_among(4).await;
    let [FeedEvent::Connected, FeedEvent::Trade(last), lost, FeedEvent::Subscribed] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(last.trade_id, Some("107".into()));
    assert_eq!(*lost, FeedEvent::Dropped { class: DropClass::LostTrade, count: 2 });
    assert_eq!(indexes(&filled), [START / STEP + 2]);
    // And again an interval that was not heard as a whole, then one that was.
    feed.clock.set(START + 4 * STEP + 10_000);
    peer.send(matched(108, START + 4 * STEP + 10_000, 5.0)).await;
    assert_eq!(feed.trade().await.price, 5.0);
    assert_eq!(indexes(&feed.backfill().await), [START / STEP + 3]);
    feed.clock.set(START + 5 * STEP + 4_000);
    peer.send(heartbeat(108, START + 5 * STEP + 4_000)).await;
    assert_eq!(feed.final_candle().await.open_time_ms, START + 4 * STEP);
    feed.stop().await;
}

#[tokio::test]
async fn an_interval_with_a_lost_trade_comes_by_rest() {
    let stream = StreamServer::start().await;
    let rest = exchange(|_| true).await;
    let mut feed =
        RunningFeed::start(Exchange::Coinbase, &stream, &rest, START - 1, |config| config);
    let mut peer = subscribe(&stream, 100, START - 2).await;
    for _ in 0..3 {
        feed.next().await;
    }
    // The interval before is of no interest.
    feed.clock.set(START + 10_000);
    peer.send(matched(101, START + 9_000, 7.0)).await;
    feed.trade().await;
    assert_eq!(indexes(&feed.backfill().await), [START / STEP - 1]);
    // The exchange has traded 102, which never comes: once may be a matter of order, twice is a loss.
    peer.send(heartbeat(102, START + 10_000)).await;
    peer.send(heartbeat(102, START + 11_000)).await;
    assert_eq!(feed.dropped().await, (DropClass::LostTrade, 1));
    feed.clock.set(START + STEP + 10_000);
    peer.send(matched(103, START + STEP + 9_000, 9.0)).await;
    assert_eq!(feed.trade().await.price, 9.0);
    let fetched = feed.backfill().await;
    assert_eq!((indexes(&fetched), fetched[0].volume), (vec![START / STEP], 7.0));
    // A number out of this world is no loss of as many trades; what it touches comes by REST too.
    peer.send(matched(u64::MAX - 1, START + STEP + 10_000, 9.0)).await;
    peer.send(matched(104, START + STEP + 10_001, 8.0)).await;
    assert_eq!(feed.trade().await.price, 9.0);
    assert_eq!(feed.trade().await.price, 8.0);
    feed.clock.set(START + 2 * STEP + 10_000);
    peer.send(matched(105, START + 2 * STEP + 9_000, 9.0)).await;
    assert_eq!(feed.trade().await.price, 9.0);
    assert_eq!(indexes(&feed.backfill().await), [START / STEP + 1]);
    feed.stop().await;
}

#[tokio::test]
async fn an_interval_without_trades_is_passed_over_once_a_later_candle_proves_it() {
    let stream = StreamServer::start().await;
    let quiet = START / STEP + 1;
    let rest = exchange(move |index| index != quiet).await;
    let mut feed =
        RunningFeed::start(Exchange::Coinbase, &stream, &rest, START + 9, |config| config);
    let mut peer = subscribe(&stream, 100, START + 5).await;
    for _ in 0..3 {
        feed.next().await;
    }
    feed.clock.set(START + STEP + 10_000);
    peer.send(heartbeat(100, START + STEP + 10_000)).await;
    assert_eq!(indexes(&feed.backfill().await), [START / STEP]);
    feed.clock.set(START + 2 * STEP + 20_000);
    peer.send(heartbeat(100, START + 2 * STEP + 20_000)).await;
    peer.send(matched(101, START + 2 * STEP + 20_000, 9.0)).await;
    feed.trade().await;
    feed.clock.set(START + 3 * STEP + 20_000);
    peer.send(matched(102, START + 3 * STEP + 20_000, 9.0)).await;
    // Built live, told with the answer that has nothing before it.
    feed.trade().await;
    assert_eq!(indexes(&feed.backfill().await), [quiet + 1]);
    feed.stop().await;
}

#[tokio::test]
async fn a_refused_product_ends_the_connection_with_the_exchanges_words() {
    let stream = StreamServer::start().await;
    let rest = exchange(|_| true).await;
    let mut feed = RunningFeed::start(Exchange::Coinbase, &stream, &rest, START, |config| config);
    let mut peer = stream.accept().await;
    peer.read().await;
    peer.send(line("coinbase/ws/exchange-control-and-odd.jsonl", 2)).await;
    let reason = feed.lost().await;
    assert!(reason.contains("GIBBERISH-USD is not a valid product"), "{reason}");
    feed.stop().await;
}
