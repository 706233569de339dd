//! The feed through calm and faults: every candle once, in order.

use std::sync::Arc;
use std::time::Duration;

use forecastd_devnet::exchange::{Fault, SimExchangeConfig, spawn};
use forecastd_exchange::{DropClass, FeedConfig};
use tokio::time::Instant;

use crate::reader::{Reader, settings};
use crate::{DEADLINE, FIVE, as_told, exchange, running_clock, sample};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_candle_is_told_once_in_order_at_high_speed() {
    let candles = sample(400);
    let clock = running_clock(&candles, 10);
    let exchange = exchange(&candles, &clock).await;
    let mut reader = Reader::start(settings(&exchange), &clock);
    reader.read_finals(60).await;
    assert_eq!(reader.finals[..60], as_told(&candles[10..70]));
    assert!(reader.forming > 0, "no forming candle in a whole run");
    assert_eq!((reader.connects, reader.gaps.len()), (1, 0));
    reader.stop().await;
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_the_exchange_costs_or_repeats_a_candle() {
    let candles = sample(2000);
    let clock = running_clock(&candles, 10);
    let exchange = exchange(&candles, &clock).await;
    let config = FeedConfig { idle_timeout: Duration::from_millis(400), ..settings(&exchange) };
    let mut reader = Reader::start(config, &clock);
    reader.read_finals(3).await;
    let second = Some(Duration::from_secs(1));
    // Each fault with what the feed says when it loses the connection by it.
    let faults = [
        (Fault::Drop, Some("connection lost")),
        (Fault::Garbage, None),
        (Fault::LostFinals { count: 3 }, None),
        (Fault::Silence, Some("no market data")),
        (Fault::LateFinals { by: Duration::from_secs(700), count: 2 }, None),
        (Fault::RepeatedFinals { count: 3 }, None),
        (Fault::Oversized, Some("too long")),
        (Fault::RestStatus { status: 503, retry_after: None, count: 2 }, None),
        (Fault::Shutdown, Some("shutdown")),
        (Fault::RestGarbage { count: 1 }, None),
        (Fault::LostFinals { count: 2 }, None),
        (Fault::RefuseSockets { count: 2 }, None),
        (Fault::Drop, Some("cannot connect")),
        (Fault::RestStatus { status: 429, retry_after: second, count: 1 }, None),
        (Fault::Drop, Some("connection lost")),
    ];
    for (fault, reason) in faults {
        let (losses, connects) = (reader.reasons.len(), reader.connects);
        exchange.fault(fault.clone());
        if let Some(reason) = reason {
            let has_reason = |reader: &Reader| {
                reader.reasons.iter().skip(losses).any(|text| text.contains(reason))
            };
            reader.read_until(&format!("`{reason}` after {fault:?}"), has_reason).await;
            let is_back = |reader: &Reader| reader.connects > connects;
            reader.read_until(&format!("the way back after {fault:?}"), is_back).await;
        }
        let count = reader.finals.len() + 6;
        reader.read_finals(count).await;
    }
    let count = reader.finals.len();
    assert_eq!(reader.finals, as_told(&candles[10..10 + count]));
    assert_eq!(reader.gaps, []);
    assert!(reader.backfills > 0, "outages of several candles were not backfilled");
    assert!(reader.dropped(DropClass::Invalid) >= 2, "{:?}", reader.dropped);
    reader.stop().await;
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_is_away_for_long_is_backfilled_whole() {
    let candles = sample(3000);
    let clock = running_clock(&candles, 5);
    let first = exchange(&candles, &clock).await;
    let config = settings(&first);
    let port = first.ws_url.rsplit(':').next().unwrap().parse().unwrap();
    let mut reader = Reader::start(config, &clock);
    reader.read_finals(2).await;
    first.stop().await;
    let away_until = candles[60].open_time_ms;
    reader.read_until("the outage", |_| clock.now_ms() > away_until).await;
    let again = SimExchangeConfig::new(candles.as_slice().into(), FIVE, Arc::clone(&clock));
    let again = spawn(SimExchangeConfig { port, ..again }).await.unwrap();
    reader.read_finals(70).await;
    assert_eq!(reader.finals[..70], as_told(&candles[5..75]));
    assert!(reader.backfills > 0);
    reader.stop().await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_resumes_where_its_owner_stopped_and_passes_over_real_holes() {
    let mut candles = sample(1600);
    let resume_ms = candles[100].open_time_ms;
    // The exchange never had these; the feed must neither invent them nor wait for them.
    candles.drain(300..316);
    let clock = running_clock(&candles, 1400);
    let exchange = exchange(&candles, &clock).await;
    let config = FeedConfig { resume_from_ms: Some(resume_ms), ..settings(&exchange) };
    let mut reader = Reader::start(config, &clock);
    reader.read_finals(1310).await;
    assert_eq!(reader.finals[..1310], as_told(&candles[100..1410]));
    reader.stop().await;
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_longer_than_the_limit_becomes_a_gap() {
    let candles = sample(600);
    let clock = running_clock(&candles, 500);
    let exchange = exchange(&candles, &clock).await;
    let resume_from_ms = Some(candles[0].open_time_ms);
    let config = FeedConfig { resume_from_ms, max_backfill: 50, ..settings(&exchange) };
    let mut reader = Reader::start(config, &clock);
    reader.read_finals(60).await;
    let (from_ms, to_ms) = reader.gaps[0];
    assert_eq!(from_ms, candles[0].open_time_ms);
    let start = candles.iter().position(|candle| candle.open_time_ms == to_ms).unwrap();
    assert_eq!(reader.finals[..60], as_told(&candles[start..start + 60]));
    reader.stop().await;
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_rest_interface_leaves_a_gap_and_live_candles_go_on() {
    let candles = sample(600);
    let clock = running_clock(&candles, 100);
    let exchange = exchange(&candles, &clock).await;
    exchange.fault(Fault::RestStatus { status: 451, retry_after: None, count: 1_000 });
    let resume_from_ms = Some(candles[50].open_time_ms);
    let config = FeedConfig { resume_from_ms, ..settings(&exchange) };
    let mut reader = Reader::start(config, &clock);
    reader.read_finals(5).await;
    let (from_ms, to_ms) = reader.gaps[0];
    assert_eq!(from_ms, candles[50].open_time_ms);
    assert!(reader.finals[0].open_time_ms >= to_ms);
    let all = as_told(&candles);
    assert!(reader.finals.iter().all(|candle| all.contains(candle)));
    assert!(reader.finals.windows(2).all(|two| two[0].open_time_ms < two[1].open_time_ms));
    reader.stop().await;
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trades_come_in_order_and_lost_ones_are_counted() {
    let candles = sample(600);
    let clock = running_clock(&candles, 10);
    let exchange = exchange(&candles, &clock).await;
    let config = FeedConfig { trades: true, ..settings(&exchange) };
    let mut reader = Reader::start(config, &clock);
    reader.read_until("trades", |reader| reader.trades.len() >= 60).await;
    exchange.fault(Fault::RefuseSockets { count: 3 });
    exchange.fault(Fault::Drop);
    let lost = |reader: &Reader| reader.dropped(DropClass::LostTrade) > 0;
    reader.read_until("lost trades", lost).await;
    let ids: Vec<u64> = reader
        .trades
        .iter()
        .map(|trade| trade.trade_id.as_ref().unwrap().number().unwrap())
        .collect();
    assert!(ids.windows(2).all(|two| two[0] < two[1]));
    let span = ids[ids.len() - 1] - ids[0] + 1;
    let missing = reader.dropped(DropClass::LostTrade) + reader.dropped(DropClass::Overflow);
    assert_eq!(span, ids.len() as u64 + missing);
    assert!(reader.trades.windows(2).all(|two| two[0].time_ms < two[1].time_ms));
    reader.stop().await;
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_and_dropping_end_everything_and_free_the_port() {
    let candles = sample(400);
    let clock = running_clock(&candles, 10);
    for is_dropped in [false, true] {
        let exchange = exchange(&candles, &clock).await;
        let port: u16 = exchange.ws_url.rsplit(':').next().unwrap().parse().unwrap();
        let mut reader = Reader::start(settings(&exchange), &clock);
        reader.read_until("a connection", |reader| reader.connects > 0).await;
        if is_dropped {
            drop(exchange);
        } else {
            exchange.stop().await;
        }
        let lost = |reader: &Reader| !reader.reasons.is_empty();
        reader.read_until("the loss of the connection", lost).await;
        let deadline = Instant::now() + DEADLINE;
        while let Err(error) = tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
            assert!(Instant::now() < deadline, "port {port} is not free: {error}");
            tokio::task::yield_now().await;
        }
        // The feed is in its pauses now and stops from there as well.
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_ends_with_its_owner() {
    let candles = sample(400);
    let clock = running_clock(&candles, 10);
    let exchange = exchange(&candles, &clock).await;
    let mut reader = Reader::start(settings(&exchange), &clock);
    reader.read_finals(1).await;
    let Reader { events, cancel, task, .. } = reader;
    drop(events);
    tokio::time::timeout(DEADLINE, task).await.expect("the feed outlives its reader").unwrap();
    drop(cancel);
    let mut reader = Reader::start(settings(&exchange), &clock);
    reader.read_finals(1).await;
    let Reader { events, cancel, task, .. } = reader;
    drop(cancel);
    tokio::time::timeout(DEADLINE, task).await.expect("the feed outlives its owner").unwrap();
    drop(events);
    exchange.stop().await;
}
