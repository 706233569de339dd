//! `forecastd history fetch` and `feed tail` against the simulated exchange and a source that fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use forecastd::clock::SystemClock;
use forecastd::commands::history::draft::draft_path;
use forecastd::commands::history::fetch::{Wanted, into_file};
use forecastd_core::{Candle, Clock as _, Interval, ManualClock};
use forecastd_devnet::exchange::{
    Fault, SimExchange, SimExchangeConfig, TRADES_PER_CANDLE, recording,
};
use forecastd_exchange::{CandleSource, Exchange, ExchangeError, FeedConfig};
use forecastd_history::read_candles;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::support::{DEADLINE, Talker};

const FIVE: Interval = Interval::FIVE_MINUTES;

/// Candles of a recording with real gaps in them; asking for one takes a step of the executor.
#[derive(Debug)]
struct Recorded {
    candles: Vec<Candle>,
    calls: AtomicUsize,
    /// What the next calls are answered with.
    failures: std::sync::Mutex<Vec<ExchangeError>>,
}

#[async_trait]
impl CandleSource for Recorded {
    async fn candles(
        &self,
        _: &str,
        _: Interval,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Candle>, ExchangeError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if let Some(failure) = self.failures.lock().unwrap().pop() {
            return Err(failure);
        }
        let is_asked = |candle: &&Candle| (from_ms..to_ms).contains(&candle.open_time_ms);
        Ok(self.candles.iter().filter(is_asked).copied().collect())
    }

    fn reach(&self) -> Option<u32> {
        Some(700)
    }
}

/// The recording without some candles: single ones, one of each thousand, and two days.
fn with_holes() -> Vec<Candle> {
    let candles = recording::embedded().unwrap().into_iter().take(12_000).enumerate();
    let is_there = |index: &usize| index % 997 != 5 && !(3_000..3_576).contains(index);
    candles.filter(|(index, _)| is_there(index)).map(|(_, candle)| candle).collect()
}

fn wanted(candles: &[Candle], failures: Vec<ExchangeError>) -> (Arc<Recorded>, Wanted) {
    let calls = AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(failures);
    let source = Arc::new(Recorded { candles: candles.to_vec(), calls, failures });
    let wanted = Wanted {
        tells_progress: false,
        oldest_ms: std::sync::atomic::AtomicI64::new(i64::MIN),
        exchange: Exchange::Binance,
        source: source.clone(),
        symbol: "BTCUSDT".to_owned(),
        interval: FIVE,
        from_ms: candles[0].open_time_ms,
        to_ms: candles.last().unwrap().close_time_ms(FIVE),
    };
    (source, wanted)
}

/// Polls the fetch so often and drops it then; true when it was done before.
async fn poll_some(wanted: &Wanted, out: &Path, polls: usize) -> bool {
    let mut fetch = Box::pin(into_file(wanted, out));
    for _ in 0..polls {
        match futures_util::poll!(&mut fetch) {
            std::task::Poll::Ready(outcome) => {
                outcome.unwrap();
                return true;
            }
            std::task::Poll::Pending => {}
        }
    }
    false
}

#[tokio::test]
async fn a_fetch_that_is_dropped_anywhere_ends_with_the_same_file() {
    let candles = with_holes();
    let mut random = StdRng::seed_from_u64(7);
    for name in ["a.csv", "b.csv.gz", "c.csv.zst", "d.parquet"] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join(name);
        let (source, wanted) = wanted(&candles, Vec::new());
        let mut runs = 1;
        while !poll_some(&wanted, &out, random.random_range(0..4)).await {
            runs += 1;
        }
        assert!(runs > 3, "{runs}");
        assert_eq!(read_candles(&out, FIVE).unwrap(), candles, "{name}");
        // At most one page again for each stop.
        let calls = source.calls.load(Ordering::Relaxed);
        assert!(calls <= 13 + runs, "{calls} calls in {runs} runs");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the file is left");
        let again = into_file(&wanted, &out).await.unwrap_err().to_string();
        assert!(again.contains("exists already"), "{again}");
    }
}

#[tokio::test]
async fn a_draft_torn_at_any_byte_is_mended_without_a_hole_or_a_double() {
    let candles = &with_holes()[..5_500];
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.csv");
    let (_, wanted) = wanted(candles, Vec::new());
    assert!(!poll_some(&wanted, &out, 5).await);
    let draft = std::fs::read(draft_path(&out)).unwrap();
    assert!(draft.len() > 150_000, "four pages are in it: {} bytes", draft.len());
    let mut random = StdRng::seed_from_u64(8);
    for case in 0..120 {
        // The first lines, then anywhere; behind the cut nothing, zeros, or a piece that fits.
        let cut = if case < 60 { case * 4 } else { random.random_range(0..draft.len()) };
        let mut torn = draft[..cut].to_vec();
        let head = draft.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0;
        if cut > head {
            match case % 3 {
                0 => torn.extend([0; 4096]),
                1 => torn.extend_from_slice(&draft[draft.len() - 30..]),
                _ => {}
            }
        }
        std::fs::write(draft_path(&out), torn).unwrap();
        let (_, report) = into_file(&wanted, &out).await.unwrap();
        assert_eq!(read_candles(&out, FIVE).unwrap(), candles, "cut at {cut}, case {case}");
        assert_eq!(report.candles, candles.len() as u64);
        std::fs::remove_file(&out).unwrap();
    }
}

#[tokio::test]
async fn a_draft_of_something_else_is_left_alone_and_two_fetches_never_share_one() {
    let candles = with_holes();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.csv");
    let (_, wanted) = wanted(&candles, Vec::new());
    assert!(!poll_some(&wanted, &out, 3).await);
    let other = Wanted { symbol: "ETHUSDT".to_owned(), source: wanted.source.clone(), ..wanted };
    let error = into_file(&other, &out).await.unwrap_err().to_string();
    assert!(error.contains("belongs to another fetch"), "{error}");
    let same = Wanted { symbol: "BTCUSDT".to_owned(), source: other.source.clone(), ..other };
    let mut first = Box::pin(into_file(&same, &out));
    assert!(futures_util::poll!(&mut first).is_pending());
    let error = into_file(&same, &out).await.unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    drop(first);
    into_file(&same, &out).await.unwrap();
    assert_eq!(read_candles(&out, FIVE).unwrap(), candles);
}

#[tokio::test(start_paused = true)]
async fn the_asked_wait_is_kept_and_what_cannot_be_had_is_explained() {
    let candles = with_holes();
    let folder = tempfile::tempdir().unwrap();
    let limited =
        |secs| ExchangeError::RateLimited { status: 429, retry_after: Duration::from_secs(secs) };
    let server = || ExchangeError::Server { status: 503, message: "busy".to_owned() };
    let (_, fetch) = wanted(&candles, vec![limited(100), server(), limited(7)]);
    let began = tokio::time::Instant::now();
    into_file(&fetch, &folder.path().join("a.csv")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(107), "{:?}", began.elapsed());

    for (failure, part) in [
        (limited(3_600), "goes on there later"),
        (
            ExchangeError::TooOld { from_ms: 0, oldest_ms: 1_719_792_000_000 },
            "--from 2024-07-01T00:00:00Z",
        ),
        (
            ExchangeError::Blocked {
                status: 451,
                message: String::new(),
                advice: "use another host".to_owned(),
            },
            "another host",
        ),
    ] {
        let (source, fetch) = wanted(&candles, vec![failure]);
        let error = into_file(&fetch, &folder.path().join("b.csv")).await.unwrap_err();
        assert!(format!("{error:#}").contains(part), "{error:#}");
        assert_eq!(source.calls.load(Ordering::Relaxed), 1);
    }
    let (source, fetch) = wanted(&candles, (0..50).map(|_| server()).collect());
    let error = into_file(&fetch, &folder.path().join("c.csv")).await.unwrap_err();
    assert!(format!("{error:#}").contains("busy"), "{error:#}");
    assert_eq!(source.calls.load(Ordering::Relaxed), 10);
}

/// An exchange whose recording has ended.
async fn exchange(candles: &[Candle]) -> SimExchange {
    let clock = Arc::new(ManualClock::new(candles.last().unwrap().close_time_ms(FIVE) + 60_000));
    forecastd_devnet::exchange::spawn(SimExchangeConfig::new(
        Exchange::Binance,
        candles.into(),
        FIVE,
        clock,
    ))
    .await
    .unwrap()
}

fn fetch(exchange: &SimExchange, candles: &[Candle], more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forecastd"));
    let time = |at_ms: i64| {
        chrono::DateTime::from_timestamp_millis(at_ms).unwrap().format("%FT%TZ").to_string()
    };
    command
        .args(["history", "fetch", "--exchange", "binance", "--url", &exchange.rest_url])
        .args(["--from", &time(candles[0].open_time_ms)])
        .args(["--to", &time(candles.last().unwrap().close_time_ms(FIVE))])
        .args(more)
        .kill_on_drop(true);
    command
}

/// Kills the process when it has asked so often.
async fn kill_after(mut process: Child, exchange: &SimExchange, requests: u64) {
    let until = exchange.rest_requests() + requests;
    let wait = async {
        while exchange.rest_requests() < until && process.try_wait().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("it asks on");
    process.kill().await.unwrap();
}

/// What the exchange tells of the recording.
fn as_told(candles: &[Candle]) -> Vec<Candle> {
    let told = |candle: &Candle| Candle { trade_count: Some(TRADES_PER_CANDLE as u64), ..*candle };
    candles.iter().map(told).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_goes_on_and_the_file_is_the_recording() {
    let candles = recording::embedded().unwrap();
    let exchange = exchange(&candles).await;
    let folder = tempfile::tempdir().unwrap();
    let out: PathBuf = folder.path().join("a.csv.gz");
    let arguments = ["--out", out.to_str().unwrap(), "--json"];
    let mut random = StdRng::seed_from_u64(9);
    for _ in 0..4 {
        let process = fetch(&exchange, &candles, &arguments).spawn().unwrap();
        kill_after(process, &exchange, random.random_range(1..15)).await;
        assert!(!out.exists());
    }
    exchange.fault(Fault::RestStatus { status: 429, retry_after: Some(Duration::ZERO), count: 2 });
    let output = fetch(&exchange, &candles, &arguments).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("going on behind") && errors.contains("candles"), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["report"]["coverage_percent"], 100.0, "{report}");
    assert!(report["fetched"].as_u64().unwrap() < 65_952);
    assert_eq!(read_candles(&out, FIVE).unwrap(), as_told(&candles));
    let pages = 65_952_u64.div_ceil(999);
    assert!(exchange.rest_requests() <= pages + 4 * 2 + 2, "{}", exchange.rest_requests());
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_wishes_are_refused_before_anything_is_asked() {
    let candles = recording::embedded().unwrap();
    let exchange = exchange(&candles).await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (more, code, part) in [
        (vec!["--out".to_owned(), at("a.txt")], 64, "must be .csv"),
        (vec!["--out".to_owned(), at("a.csv"), "--symbol".into(), "../x".into()], 64, "symbol"),
        (vec!["--out".to_owned(), at("a.csv"), "--interval".into(), "7m".into()], 64, "interval"),
        (
            vec!["--out".to_owned(), at("a.csv"), "--stream".into(), "X".into()],
            64,
            "cannot be used",
        ),
        (vec![], 64, "--out"),
        (vec!["--stream".to_owned(), "X".into(), "--data-dir".into(), at("none")], 73, "no store"),
    ] {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let output = fetch(&exchange, &candles, &more).output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {errors}");
        assert!(errors.contains(part), "{more:?}: {errors}");
    }
    assert_eq!(exchange.rest_requests(), 0);
    // The exchange's own refusal.
    let out = at("b.csv");
    let more = ["--out", &out, "--symbol", "NOPE"];
    let output = fetch(&exchange, &candles, &more).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("Invalid symbol"), "{errors}");
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_is_told_in_lines_of_json() {
    // Half of the recording lies before now.
    let mut candles = recording::embedded().unwrap();
    let second: Interval = "1s".parse().unwrap();
    candles.truncate(3_000);
    let mut open_time_ms = second.floor(SystemClock.now_ms()) - 1_000 * second.as_ms();
    for candle in &mut candles {
        candle.open_time_ms = open_time_ms;
        open_time_ms += second.as_ms();
    }
    let clock = Arc::new(SystemClock);
    let config = SimExchangeConfig {
        forming_every: Duration::from_millis(50),
        forming_every_real: Duration::from_millis(50),
        ..SimExchangeConfig::new(Exchange::Binance, candles.into(), second, clock)
    };
    let exchange = forecastd_devnet::exchange::spawn(config).await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_forecastd"));
    command
        .args(["feed", "tail", "--exchange", "binance", "--interval", "1s", "--count", "20"])
        .args(["--trades", "--url", &exchange.ws_url, "--rest-url", &exchange.rest_url]);
    let mut tail = Talker::start(command);
    let candle = tail.wait_for(|line| line["event"] == "candle").await;
    assert_eq!((&candle["exchange"], &candle["symbol"]), (&"binance".into(), &"BTCUSDT".into()));
    assert_eq!((&candle["interval_ms"], &candle["is_final"]), (&1_000.into(), &false.into()));
    assert!(candle["close"].as_f64().unwrap() > 1_000.0, "{candle}");
    let mut count = 1;
    while let Some(line) = tail.next().await {
        assert!(line["at_ms"].as_i64().is_some() && line["event"].is_string(), "{line}");
        count += 1;
    }
    assert!((10..20).contains(&count), "{count} lines");
    let ended = tokio::time::timeout(DEADLINE, tail.process.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
    exchange.stop().await;
}

#[tokio::test]
async fn what_kraken_does_not_keep_is_built_from_its_trades() {
    let mut candles = recording::embedded().unwrap();
    candles.truncate(900);
    let clock = Arc::new(ManualClock::new(candles.last().unwrap().close_time_ms(FIVE) + 60_000));
    let config =
        SimExchangeConfig::new(Exchange::Kraken, candles.as_slice().into(), FIVE, clock.clone());
    let exchange = forecastd_devnet::exchange::spawn(config).await.unwrap();
    let config =
        FeedConfig { rest_url: exchange.rest_url.clone(), ..Exchange::Kraken.default_config() };
    let symbol = config.symbol.clone();
    let (_, source) = Exchange::Kraken.open(config, clock, 0).unwrap();
    let wanted = Wanted {
        tells_progress: false,
        oldest_ms: std::sync::atomic::AtomicI64::new(i64::MIN),
        exchange: Exchange::Kraken,
        source,
        symbol,
        interval: FIVE,
        from_ms: candles[0].open_time_ms,
        to_ms: candles[899].close_time_ms(FIVE),
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("kraken.csv");
    let (fetched, report) = into_file(&wanted, &out).await.unwrap();
    assert_eq!((fetched, report.missing), (900, 0), "{report:?}");
    for (got, want) in read_candles(&out, FIVE).unwrap().iter().zip(&candles) {
        let prices = |of: &Candle| [of.open, of.high, of.low, of.close].map(f64::to_bits);
        assert_eq!((got.open_time_ms, prices(got)), (want.open_time_ms, prices(want)));
        assert!((got.volume - want.volume).abs() <= 1e-7 * want.volume, "{got:?} {want:?}");
    }
    exchange.stop().await;
}
