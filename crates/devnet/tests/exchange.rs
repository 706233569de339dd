//! The Binance adapter against the simulated Binance, over real sockets on loopback.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Clock, Interval, ManualClock, ScaledClock, Trade};
use forecastd_devnet::exchange::{
    Fault, SimExchange, SimExchangeConfig, TRADES_PER_CANDLE, recording, spawn,
};
use forecastd_exchange::{
    BinanceFeed, BinanceRest, CandleSource, DropClass, ExchangeError, FeedConfig, FeedEvent,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const FIVE: Interval = Interval::FIVE_MINUTES;
/// Market time per real time: a five-minute candle takes 50 ms.
const SPEED: f64 = 6000.0;
/// Far above what any step needs, so that only a real hang ends here.
const DEADLINE: Duration = Duration::from_secs(120);

/// Real time since the start of the test.
#[derive(Debug)]
struct RealClock(Instant);

impl Clock for RealClock {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

fn sample(count: usize) -> Vec<Candle> {
    let mut candles = recording::embedded().unwrap();
    candles.truncate(count);
    candles
}

/// What the adapter must make of the recording.
fn as_told(candles: &[Candle]) -> Vec<Candle> {
    let told = |candle: &Candle| Candle { trade_count: Some(TRADES_PER_CANDLE as u64), ..*candle };
    candles.iter().map(told).collect()
}

/// A market whose clock starts inside of the candle number `start`.
fn running_clock(candles: &[Candle], start: usize) -> Arc<dyn Clock> {
    let base = Arc::new(RealClock(Instant::now()));
    Arc::new(ScaledClock::new(base, candles[start].open_time_ms + 1_000, SPEED))
}

async fn exchange(candles: &[Candle], clock: &Arc<dyn Clock>) -> SimExchange {
    spawn(SimExchangeConfig::new(candles.into(), FIVE, Arc::clone(clock))).await.unwrap()
}

fn settings(exchange: &SimExchange) -> FeedConfig {
    FeedConfig {
        ws_url: exchange.ws_url.clone(),
        rest_url: exchange.rest_url.clone(),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(500),
        final_grace: Duration::from_secs(120),
        ..FeedConfig::default()
    }
}

/// A running feed and everything it told.
struct Reader {
    events: mpsc::Receiver<FeedEvent>,
    cancel: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// Final candles in the order of telling, live or fetched.
    finals: Vec<Candle>,
    trades: Vec<Trade>,
    forming: usize,
    backfills: usize,
    gaps: Vec<(i64, i64)>,
    connects: usize,
    reasons: Vec<String>,
    dropped: Vec<(DropClass, u64)>,
}

impl Reader {
    fn start(config: FeedConfig, clock: &Arc<dyn Clock>) -> Self {
        let feed = BinanceFeed::new(config, Arc::clone(clock), 1).unwrap();
        let (sender, events) = mpsc::channel(64);
        let (cancel, cancelled) = watch::channel(false);
        Self {
            events,
            cancel,
            task: tokio::spawn(feed.run(sender, cancelled)),
            finals: Vec::new(),
            trades: Vec::new(),
            forming: 0,
            backfills: 0,
            gaps: Vec::new(),
            connects: 0,
            reasons: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// Reads until `is_done`.
    async fn read_until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_done(self) {
            let event = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let Ok(event) = event else {
                panic!("waited in vain for {what}: {} finals, {:?}", self.finals.len(), self.reasons)
            };
            self.take(event.expect("the feed ended by itself"));
        }
    }

    fn take(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Connected => self.connects += 1,
            FeedEvent::Subscribed => {}
            FeedEvent::Candle { candle, is_final: true } => self.finals.push(candle),
            FeedEvent::Candle { candle, is_final: false } => {
                // A forming candle never comes before the final one of the interval before it.
                if let Some(last) = self.finals.last() {
                    assert_eq!(candle.open_time_ms, last.close_time_ms(FIVE));
                }
                self.forming += 1;
            }
            FeedEvent::Trade(trade) => self.trades.push(trade),
            FeedEvent::Disconnected { reason, .. } => self.reasons.push(reason),
            FeedEvent::Backfill { from_ms, to_ms, candles } => {
                let inside = |candle: &Candle| (from_ms..to_ms).contains(&candle.open_time_ms);
                assert!(!candles.is_empty() && candles.iter().all(inside));
                self.backfills += 1;
                self.finals.extend(candles);
            }
            FeedEvent::Gap { from_ms, to_ms, .. } => self.gaps.push((from_ms, to_ms)),
            FeedEvent::Dropped { class, count } => self.dropped.push((class, count)),
        }
    }

    async fn read_finals(&mut self, count: usize) {
        self.read_until(&format!("{count} final candles"), |reader| reader.finals.len() >= count)
            .await;
    }

    fn dropped(&self, class: DropClass) -> u64 {
        self.dropped.iter().filter(|(got, _)| *got == class).map(|(_, count)| count).sum()
    }

    async fn stop(self) {
        self.cancel.send(true).unwrap();
        tokio::time::timeout(DEADLINE, self.task).await.expect("the feed does not stop").unwrap();
    }
}

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
    let second = Duration::from_secs(1);
    let faults = [
        Fault::Drop,
        Fault::Garbage,
        Fault::LostFinals { count: 3 },
        Fault::Silence,
        Fault::LateFinals { by: Duration::from_secs(700), count: 2 },
        Fault::RepeatedFinals { count: 3 },
        Fault::Oversized,
        Fault::RestStatus { status: 503, retry_after: None, count: 2 },
        Fault::Shutdown,
        Fault::RestGarbage { count: 1 },
        Fault::Drop,
        Fault::RefuseSockets { count: 2 },
        Fault::Drop,
        Fault::RestStatus { status: 429, retry_after: Some(second), count: 1 },
        Fault::Drop,
    ];
    for fault in faults {
        exchange.fault(fault);
        let count = reader.finals.len() + 6;
        reader.read_finals(count).await;
    }
    let count = reader.finals.len();
    assert_eq!(reader.finals, as_told(&candles[10..10 + count]));
    assert_eq!(reader.gaps, []);
    assert!(reader.backfills > 0, "outages of several candles were not backfilled");
    assert!(reader.connects >= 7, "{:?}", reader.reasons);
    assert!(reader.dropped(DropClass::Invalid) >= 2, "{:?}", reader.dropped);
    let has_reason = |part: &str| reader.reasons.iter().any(|reason| reason.contains(part));
    for part in ["no market data", "shutdown", "cannot connect", "too long", "connection lost"] {
        assert!(has_reason(part), "no `{part}` in {:?}", reader.reasons);
    }
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
    let ids: Vec<u64> =
        reader.trades.iter().map(|trade| trade.trade_id.as_ref().unwrap().parse().unwrap()).collect();
    assert!(ids.windows(2).all(|two| two[0] < two[1]));
    let span = ids[ids.len() - 1] - ids[0] + 1;
    let missing = reader.dropped(DropClass::LostTrade) + reader.dropped(DropClass::Overflow);
    assert_eq!(span, ids.len() as u64 + missing);
    assert!(reader.trades.windows(2).all(|two| two[0].time_ms < two[1].time_ms));
    reader.stop().await;
    exchange.stop().await;
}

#[tokio::test]
async fn rest_pages_equal_the_recording() {
    let candles = sample(2600);
    let clock = Arc::new(ManualClock::new(candles[2500].open_time_ms + 1_000));
    let dyn_clock: Arc<dyn Clock> = clock.clone();
    let exchange = exchange(&candles, &dyn_clock).await;
    let rest = BinanceRest::new(&exchange.rest_url, dyn_clock, Duration::from_secs(30)).unwrap();
    let ask = |from: i64, to: i64| rest.candles("BTCUSDT", FIVE, from, to);
    // Everything that has closed; the running candle is not among it.
    let all = ask(0, i64::MAX - FIVE.as_ms()).await;
    assert!(matches!(all, Err(ExchangeError::Range { .. })), "{all:?}");
    let start = candles[0].open_time_ms;
    let all = ask(start, start + 50_000 * FIVE.as_ms()).await.unwrap();
    assert_eq!(all, as_told(&candles[..2500]));
    assert_eq!(rest.used_weight(), 6);
    // Odd and empty ranges; the end is not included.
    let at = |index: usize| candles[index].open_time_ms;
    assert_eq!(ask(at(7) - 1, at(9)).await.unwrap(), as_told(&candles[7..9]));
    assert_eq!(ask(at(7) + 1, at(9) + 1).await.unwrap(), as_told(&candles[8..10]));
    assert_eq!(ask(at(9), at(9)).await.unwrap(), []);
    assert_eq!(ask(at(2550), at(2560)).await.unwrap(), []);
    assert_eq!(ask(at(1000), at(2000)).await.unwrap(), as_told(&candles[1000..2000]));
    // A last candle without a later one counts a little after its end only.
    clock.set(candles[2599].close_time_ms(FIVE) + 2_999);
    assert_eq!(ask(at(2598), at(2599) + 1).await.unwrap(), as_told(&candles[2598..2599]));
    clock.advance(1);
    assert_eq!(ask(at(2598), at(2599) + 1).await.unwrap(), as_told(&candles[2598..2600]));
    exchange.stop().await;
}

#[tokio::test]
async fn longer_intervals_are_served_and_shorter_ones_refused() {
    let candles = sample(600);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(candles[599].close_time_ms(FIVE)));
    let exchange = exchange(&candles, &clock).await;
    let rest = BinanceRest::new(&exchange.rest_url, clock, Duration::from_secs(30)).unwrap();
    let (start, hour) = (candles[0].open_time_ms, "1h".parse().unwrap());
    let hours = rest.candles("BTCUSDT", hour, start, start + 3_600_000 * 40).await.unwrap();
    assert_eq!(hours.len(), 40);
    assert_eq!((hours[3].open, hours[3].close), (candles[36].open, candles[47].close));
    let minutes = rest.candles("BTCUSDT", Interval::MINUTE, start, start + 600_000).await;
    let Err(ExchangeError::Refused { code: Some(-1120), .. }) = minutes else { panic!("{minutes:?}") };
    let symbol = rest.candles("NOPE", FIVE, start, start + 600_000).await;
    let Err(ExchangeError::Refused { code: Some(-1121), .. }) = symbol else { panic!("{symbol:?}") };
    exchange.stop().await;
}

#[tokio::test]
async fn refusals_have_their_class_and_a_rate_limit_is_kept() {
    let candles = sample(100);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(candles[50].open_time_ms));
    let exchange = exchange(&candles, &clock).await;
    let client = || {
        BinanceRest::new(&exchange.rest_url, Arc::clone(&clock), Duration::from_millis(300)).unwrap()
    };
    let (from, to) = (candles[0].open_time_ms, candles[10].open_time_ms);
    for (status, is_retryable) in [(451, false), (403, false), (500, true), (503, true)] {
        exchange.fault(Fault::RestStatus { status, retry_after: None, count: 1 });
        let error = client().candles("BTCUSDT", FIVE, from, to).await.unwrap_err();
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    for fault in [Fault::RestGarbage { count: 1 }, Fault::RestSilence { count: 1 }] {
        exchange.fault(fault);
        let error = client().candles("BTCUSDT", FIVE, from, to).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    let limited = client();
    let retry_after = Some(Duration::from_secs(3600));
    exchange.fault(Fault::RestStatus { status: 429, retry_after, count: 1 });
    let before = exchange.rest_requests();
    for _ in 0..3 {
        let error = limited.candles("BTCUSDT", FIVE, from, to).await.unwrap_err();
        assert!(error.retry_after().unwrap() > Duration::from_secs(3000), "{error}");
    }
    assert_eq!(exchange.rest_requests(), before + 1, "the limit was not kept by the client itself");
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
