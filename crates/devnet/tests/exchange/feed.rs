//! The feeds through calm and faults: every candle once, in order.

use std::time::Duration;

use forecastd_core::Candle;
use forecastd_devnet::exchange::{Fault, SimExchange, SimExchangeConfig, spawn};
use forecastd_exchange::{DropClass, Exchange, FeedConfig};
use tokio::time::Instant;

use crate::reader::{Reader, settings};
use crate::{DEADLINE, FIVE, as_told, for_each_exchange, running_clock, sample, simulated, told};

for_each_exchange!(
    every_candle_is_told_once_in_order_at_high_speed,
    no_fault_of_the_exchange_costs_or_repeats_a_candle,
    an_exchange_that_is_away_for_long_is_backfilled_whole,
    a_feed_resumes_where_its_owner_stopped_and_passes_over_real_holes,
    an_outage_longer_than_the_limit_becomes_a_gap,
    a_blocked_rest_interface_leaves_a_gap_and_live_candles_go_on,
    trades_come_in_order_and_lost_ones_are_counted,
    disturbed_trades_are_told_once_and_counted_where_numbers_show_them,
    wrong_prices_are_told_as_the_exchange_tells_them,
    stopping_and_dropping_end_everything_and_free_the_port,
    a_feed_ends_with_its_owner,
);

/// Settings of a feed whose owner lacks everything from this candle on: the market's clock may be past
/// it when the feed begins.
fn settings_from(first: &Candle, exchange: Exchange, running: &SimExchange) -> FeedConfig {
    FeedConfig { resume_from_ms: Some(first.open_time_ms), ..settings(exchange, running) }
}

async fn every_candle_is_told_once_in_order_at_high_speed(exchange: Exchange) {
    let candles = sample(exchange, 400);
    let clock = running_clock(&candles, 10);
    let running = simulated(exchange, &candles, &clock).await;
    let config = settings_from(&candles[10], exchange, &running);
    let mut reader = Reader::start(exchange, config, &clock);
    reader.read_finals(60).await;
    assert_eq!(told(exchange, &reader.finals[..60]), as_told(exchange, &candles[10..70]));
    // Candles built from trades are told when they are whole only.
    let has_forming = exchange != Exchange::Coinbase;
    assert_eq!(reader.forming > 0, has_forming, "forming candles in a whole run");
    assert_eq!((reader.connects, reader.gaps.len()), (1, 0));
    reader.stop().await;
    running.stop().await;
}

/// Each fault with what the feed says when it loses the connection by it.
fn faults(exchange: Exchange) -> Vec<(Fault, Option<&'static str>)> {
    let second = Some(Duration::from_secs(1));
    let goodbye = "exchange closed the connection";
    let shutdown = match exchange {
        Exchange::Binance => "announced a shutdown",
        Exchange::Coinbase | Exchange::CoinbaseAdvanced => "shutting down",
        Exchange::Bybit | Exchange::Kraken => goodbye,
    };
    vec![
        (Fault::Drop, Some("connection lost")),
        (Fault::Garbage, None),
        (Fault::LostFinals { count: 3 }, None),
        (Fault::Silence, Some("no market data")),
        (Fault::LateFinals { by: Duration::from_secs(700), count: 2 }, None),
        (Fault::RepeatedFinals { count: 3 }, None),
        (Fault::Oversized, Some("too long")),
        (Fault::RestStatus { status: 503, retry_after: None, count: 2 }, None),
        (Fault::Shutdown, Some(shutdown)),
        (Fault::RestGarbage { count: 1 }, None),
        (Fault::LostFinals { count: 2 }, None),
        (Fault::TruncatedFrame, Some("connection lost")),
        (Fault::RefuseSockets { count: 2 }, None),
        (Fault::Drop, Some("cannot connect")),
        (Fault::EndOfLife, Some(goodbye)),
        (Fault::RestStatus { status: 429, retry_after: second, count: 1 }, None),
        (Fault::Drop, Some("connection lost")),
        (Fault::DropHandshakes { count: 2 }, None),
        (Fault::Drop, Some("cannot connect")),
        (Fault::Outage { span: Duration::from_hours(1) }, Some("cannot connect")),
    ]
}

async fn no_fault_of_the_exchange_costs_or_repeats_a_candle(exchange: Exchange) {
    let candles = sample(exchange, 4800);
    let clock = running_clock(&candles, 10);
    let running = simulated(exchange, &candles, &clock).await;
    let idle_timeout = Duration::from_millis(400);
    let config = FeedConfig { idle_timeout, ..settings_from(&candles[10], exchange, &running) };
    let mut reader = Reader::start(exchange, config, &clock);
    reader.read_finals(3).await;
    for (fault, reason) in faults(exchange) {
        let (losses, connects) = (reader.reasons.len(), reader.connects);
        running.fault(fault.clone());
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
    assert_eq!(told(exchange, &reader.finals), as_told(exchange, &candles[10..])[..count]);
    assert_eq!(reader.gaps, []);
    assert!(reader.backfills > 0, "outages of several candles were not backfilled");
    assert!(reader.dropped(DropClass::Invalid) >= 2, "{:?}", reader.dropped);
    reader.stop().await;
    running.stop().await;
}

async fn an_exchange_that_is_away_for_long_is_backfilled_whole(exchange: Exchange) {
    let candles = sample(exchange, 3000);
    let clock = running_clock(&candles, 5);
    let first = simulated(exchange, &candles, &clock).await;
    let config = settings_from(&candles[5], exchange, &first);
    let port = first.ws_url.rsplit(':').next().unwrap().parse().unwrap();
    let mut reader = Reader::start(exchange, config, &clock);
    reader.read_finals(2).await;
    first.stop().await;
    let away_until = candles[60].open_time_ms;
    reader.read_until("the outage", |_| clock.now_ms() > away_until).await;
    let again = SimExchangeConfig::new(exchange, candles.as_slice().into(), FIVE, clock.clone());
    let again = spawn(SimExchangeConfig { port, ..again }).await.unwrap();
    reader.read_finals(70).await;
    assert_eq!(told(exchange, &reader.finals[..70]), as_told(exchange, &candles[5..75]));
    assert!(reader.backfills > 0);
    reader.stop().await;
    again.stop().await;
}

async fn a_feed_resumes_where_its_owner_stopped_and_passes_over_real_holes(exchange: Exchange) {
    let mut candles = sample(exchange, 1000);
    let resume_ms = candles[100].open_time_ms;
    // The exchange never had these; the feed must neither invent them nor wait for them.
    candles.drain(300..316);
    let clock = running_clock(&candles, 700);
    let running = simulated(exchange, &candles, &clock).await;
    let resume_from_ms = Some(resume_ms);
    let config = FeedConfig { resume_from_ms, ..settings(exchange, &running) };
    let mut reader = Reader::start(exchange, config, &clock);
    let want = as_told(exchange, &candles[100..710]);
    reader.read_finals(want.len()).await;
    assert_eq!(told(exchange, &reader.finals[..want.len()]), want);
    assert_eq!(reader.gaps, []);
    reader.stop().await;
    running.stop().await;
}

async fn an_outage_longer_than_the_limit_becomes_a_gap(exchange: Exchange) {
    let candles = sample(exchange, 900);
    let clock = running_clock(&candles, 500);
    let running = simulated(exchange, &candles, &clock).await;
    let resume_from_ms = Some(candles[0].open_time_ms);
    let config = FeedConfig { resume_from_ms, max_backfill: 50, ..settings(exchange, &running) };
    let mut reader = Reader::start(exchange, config, &clock);
    reader.read_finals(60).await;
    let (from_ms, to_ms) = reader.gaps[0];
    assert_eq!(from_ms, candles[0].open_time_ms);
    let start = candles.iter().position(|candle| candle.open_time_ms == to_ms).unwrap();
    assert_eq!(
        told(exchange, &reader.finals[..60]),
        as_told(exchange, &candles[start..start + 60])
    );
    reader.stop().await;
    running.stop().await;
}

async fn a_blocked_rest_interface_leaves_a_gap_and_live_candles_go_on(exchange: Exchange) {
    let candles = sample(exchange, 900);
    let clock = running_clock(&candles, 100);
    let running = simulated(exchange, &candles, &clock).await;
    running.fault(Fault::RestStatus { status: 451, retry_after: None, count: 1_000 });
    let resume_from_ms = Some(candles[50].open_time_ms);
    let config = FeedConfig { resume_from_ms, ..settings(exchange, &running) };
    let mut reader = Reader::start(exchange, config, &clock);
    if exchange == Exchange::CoinbaseAdvanced {
        // Its final candles all come by REST; what is running is told all the same.
        let has_gaps = |reader: &Reader| reader.gaps.len() > 1 && reader.forming > 0;
        reader.read_until("gaps and running candles", has_gaps).await;
        assert_eq!(reader.gaps[0].0, candles[50].open_time_ms);
        assert!(reader.gaps.windows(2).all(|two| two[0].1 == two[1].0));
        assert_eq!(reader.finals, []);
        reader.stop().await;
        running.stop().await;
        return;
    }
    reader.read_finals(5).await;
    let (from_ms, to_ms) = reader.gaps[0];
    assert_eq!(from_ms, candles[50].open_time_ms);
    assert!(reader.finals[0].open_time_ms >= to_ms);
    let all = as_told(exchange, &candles);
    assert!(told(exchange, &reader.finals).iter().all(|candle| all.contains(candle)));
    assert!(reader.finals.windows(2).all(|two| two[0].open_time_ms < two[1].open_time_ms));
    reader.stop().await;
    running.stop().await;
}

/// Whether the exchange promises that its trades are numbered without holes.
fn has_numbers(exchange: Exchange) -> bool {
    exchange != Exchange::Bybit
}

fn ids(reader: &Reader) -> Vec<u64> {
    let id = |trade: &forecastd_core::Trade| trade.trade_id.as_ref().unwrap().number().unwrap();
    reader.trades.iter().map(id).collect()
}

async fn trades_come_in_order_and_lost_ones_are_counted(exchange: Exchange) {
    let candles = sample(exchange, 900);
    let clock = running_clock(&candles, 10);
    let running = simulated(exchange, &candles, &clock).await;
    let config = FeedConfig { trades: true, ..settings(exchange, &running) };
    let mut reader = Reader::start(exchange, config, &clock);
    reader.read_until("trades", |reader| reader.trades.len() >= 60).await;
    running.fault(Fault::RefuseSockets { count: 3 });
    running.fault(Fault::Drop);
    let count = |reader: &Reader| reader.connects > 1 && !reader.reasons.is_empty();
    reader.read_until("the way back", count).await;
    let count = reader.trades.len() + 60;
    reader.read_until("more trades", |reader| reader.trades.len() >= count).await;
    if has_numbers(exchange) {
        let lost = |reader: &Reader| reader.dropped(DropClass::LostTrade) > 0;
        reader.read_until("lost trades", lost).await;
    }
    let ids = ids(&reader);
    assert!(ids.windows(2).all(|two| two[0] < two[1]));
    let span = ids[ids.len() - 1] - ids[0] + 1;
    let missing = reader.dropped(DropClass::LostTrade) + reader.dropped(DropClass::Overflow);
    if has_numbers(exchange) {
        assert_eq!(span, ids.len() as u64 + missing);
    } else {
        assert!(span > ids.len() as u64);
    }
    assert!(reader.trades.windows(2).all(|two| two[0].time_ms < two[1].time_ms));
    reader.stop().await;
    running.stop().await;
}

async fn disturbed_trades_are_told_once_and_counted_where_numbers_show_them(exchange: Exchange) {
    let candles = sample(exchange, 900);
    let clock = running_clock(&candles, 10);
    let running = simulated(exchange, &candles, &clock).await;
    let config = FeedConfig { trades: true, ..settings_from(&candles[10], exchange, &running) };
    let mut reader = Reader::start(exchange, config, &clock);
    reader.read_until("trades", |reader| reader.trades.len() >= 30).await;
    for fault in [
        Fault::RepeatedTrades { count: 20 },
        Fault::ReorderedTrades { count: 5 },
        Fault::LostTrades { count: 7 },
    ] {
        running.fault(fault);
        let count = reader.trades.len() + 60;
        reader.read_until("more trades", |reader| reader.trades.len() >= count).await;
    }
    let ids = ids(&reader);
    let span = ids.iter().max().unwrap() - ids.iter().min().unwrap() + 1;
    if has_numbers(exchange) {
        assert!(ids.windows(2).all(|two| two[0] < two[1]), "{ids:?}");
        // One of each swapped pair comes too late and counts as lost, unless both come in one message
        // of an exchange whose messages are sorted.
        let missing = reader.dropped(DropClass::LostTrade);
        let swapped = if exchange == Exchange::CoinbaseAdvanced { 0 } else { 5 };
        assert!(missing >= 7 + swapped, "{missing}");
        let overflow = reader.dropped(DropClass::Overflow);
        assert_eq!(span, ids.len() as u64 + missing + overflow);
    } else {
        // Nothing promises that the numbers rise, so that trades are passed on as they come.
        let repeats = ids.windows(2).filter(|two| two[0] == two[1]).count();
        let swaps = ids.windows(2).filter(|two| two[0] > two[1]).count();
        assert_eq!((repeats, swaps), (20, 5));
        assert_eq!(span, ids.len() as u64 - 20 + 7);
    }
    let finals = reader.finals.len();
    assert_eq!(told(exchange, &reader.finals), as_told(exchange, &candles[10..10 + finals]));
    reader.stop().await;
    running.stop().await;
}

async fn wrong_prices_are_told_as_the_exchange_tells_them(exchange: Exchange) {
    let candles = sample(exchange, 900);
    let clock = running_clock(&candles, 10);
    let running = simulated(exchange, &candles, &clock).await;
    let config = settings_from(&candles[10], exchange, &running);
    let mut reader = Reader::start(exchange, config, &clock);
    reader.read_finals(5).await;
    let count = reader.finals.len();
    running.fault(Fault::WrongPrices { factor: 1.25, span: Duration::from_mins(50) });
    reader.read_finals(count + 40).await;
    let right = as_told(exchange, &candles[10..]);
    let is_wrong = |(told, right): (&Candle, &Candle)| {
        let ratio = told.close / right.close;
        assert_eq!(told.open_time_ms, right.open_time_ms);
        assert!(told == right || (ratio - 1.25).abs() < 1e-6, "{told:?} {right:?}");
        told != right
    };
    let finals = told(exchange, &reader.finals);
    let wrong: Vec<bool> = finals.iter().zip(&right).map(is_wrong).collect();
    let first = wrong.iter().position(|is_wrong| *is_wrong).unwrap();
    let expected: Vec<bool> =
        (0..wrong.len()).map(|at| (first..first + 10).contains(&at)).collect();
    assert_eq!(wrong, expected);
    reader.stop().await;
    running.stop().await;
}

async fn stopping_and_dropping_end_everything_and_free_the_port(exchange: Exchange) {
    let candles = sample(exchange, 400);
    let clock = running_clock(&candles, 10);
    for is_dropped in [false, true] {
        let running = simulated(exchange, &candles, &clock).await;
        let port: u16 = running.ws_url.rsplit(':').next().unwrap().parse().unwrap();
        let mut reader = Reader::start(exchange, settings(exchange, &running), &clock);
        reader.read_until("a connection", |reader| reader.connects > 0).await;
        if is_dropped {
            drop(running);
        } else {
            running.stop().await;
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

async fn a_feed_ends_with_its_owner(exchange: Exchange) {
    let candles = sample(exchange, 400);
    let clock = running_clock(&candles, 10);
    let running = simulated(exchange, &candles, &clock).await;
    let mut reader = Reader::start(exchange, settings(exchange, &running), &clock);
    reader.read_finals(1).await;
    let Reader { events, cancel, task, .. } = reader;
    drop(events);
    tokio::time::timeout(DEADLINE, task).await.expect("the feed outlives its reader").unwrap();
    drop(cancel);
    let mut reader = Reader::start(exchange, settings(exchange, &running), &clock);
    reader.read_finals(1).await;
    let Reader { events, cancel, task, .. } = reader;
    drop(cancel);
    tokio::time::timeout(DEADLINE, task).await.expect("the feed outlives its owner").unwrap();
    drop(events);
    running.stop().await;
}

#[test]
fn each_exchange_is_among_the_tested_ones() {
    // The macro names them one by one.
    let tested = [
        Exchange::Binance,
        Exchange::Bybit,
        Exchange::Coinbase,
        Exchange::CoinbaseAdvanced,
        Exchange::Kraken,
    ];
    assert_eq!(Exchange::ALL, tested);
}
