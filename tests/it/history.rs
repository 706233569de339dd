//! `forecastd history import | export | verify` and a fetch into a store.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use forecastd_core::bars::{Bar, BarState, compact_bars};
use forecastd_core::{Candle, Hotkey, Interval, ManualClock, NetUid, Role, StreamId};
use forecastd_devnet::exchange::{SimExchangeConfig, TRADES_PER_CANDLE, recording};
use forecastd_exchange::Exchange;
use forecastd_history::{detect_interval, read_candles};
use forecastd_store::{Batch, CandleRecord, Identity, Market, Store, StoreConfig, StreamRecord};
use serde_json::Value;

use crate::support::{Talker, ask, dev, stop};

const FIVE: Interval = Interval::FIVE_MINUTES;
const STREAM: &str = "BTCUSD-5m";

fn project(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

fn forecastd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forecastd")).args(arguments).env_clear().output().unwrap()
}

/// Runs a command and expects its exit code; returns standard output and error.
fn run(arguments: &[&str], code: i32) -> (String, String) {
    let output = forecastd(arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{errors}");
    assert!(!errors.contains("panicked at"), "{errors}");
    (said, errors)
}

fn json(arguments: &[&str], code: i32) -> Value {
    let (said, errors) = run(&[arguments, &["--json"]].concat(), code);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{errors}"))
}

/// The store of a node that has the stream and no candle.
fn store(directory: &Path) -> Store {
    let identity = Identity {
        network: "local".to_owned(),
        netuid: NetUid(8),
        hotkey: Hotkey::from_bytes([7; 32]),
        role: Role::Miner,
    };
    let config =
        StoreConfig { reserve_bytes: 0, ..StoreConfig::new(directory.to_owned(), identity) };
    let store = Store::open(config).unwrap();
    let record = StreamRecord {
        interval_ms: FIVE.as_ms(),
        horizon: 100,
        markets: vec![Market {
            feed: "binance".to_owned(),
            exchange: "binance".to_owned(),
            symbol: "BTCUSDT".to_owned(),
        }],
    };
    store.write_blocking(Batch::new().put(&StreamId(STREAM.to_owned()), &record).unwrap()).unwrap();
    store
}

fn put(store: &Store, candles: &[Candle], state: BarState) {
    let mut batch = Batch::new();
    for candle in candles {
        let key = (StreamId(STREAM.to_owned()), candle.open_time_ms);
        let record = CandleRecord {
            candle: *candle,
            state,
            source: "binance".to_owned(),
            is_settled: false,
        };
        batch = batch.put(&key, &record).unwrap();
    }
    store.write_blocking(batch).unwrap();
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The options of a command on the stream in the data directory.
    fn stream(&self) -> [String; 4] {
        let data = self.data().to_str().unwrap().to_owned();
        ["--stream".to_owned(), STREAM.to_owned(), "--data-dir".to_owned(), data]
    }

    fn with_stream(&self, arguments: &[&str], code: i32) -> Value {
        let stream = self.stream();
        let stream: Vec<&str> = stream.iter().map(String::as_str).collect();
        json(&[arguments, &stream].concat(), code)
    }
}

#[test]
fn a_file_goes_into_the_store_and_comes_out_the_same_and_longer() {
    let place = Place::new();
    store(&place.data()).close_blocking();
    let data = project("data/btcusd-5m.csv.gz");
    let imported = place.with_stream(&["history", "import", &data], 0);
    assert_eq!(imported["stored"]["added"], 65_952, "{imported}");
    let again = place.with_stream(&["history", "import", &data], 0);
    assert_eq!((&again["stored"]["kept"], &again["stored"]["added"]), (&65_952.into(), &0.into()));

    let verified = place.with_stream(&["history", "verify"], 0);
    assert_eq!(verified["report"]["coverage_percent"], 100.0, "{verified}");
    assert_eq!(verified["states"]["backfilled"], 65_952);

    let recorded = recording::embedded().unwrap();
    let same = place.file("same.parquet");
    place.with_stream(&["history", "export", "--out", &same], 0);
    assert_eq!(read_candles(Path::new(&same), FIVE).unwrap(), recorded);

    let hours: Interval = "4h".parse().unwrap();
    let long = place.file("long.csv.zst");
    let from = ["--from", "2024-08-01", "--to", "2024-09-01"];
    let arguments = [&["history", "export", "--out", &long, "--interval", "4h"][..], &from];
    let exported = place.with_stream(&arguments.concat(), 0);
    assert_eq!((&exported["candles"], &exported["left_out"]), (&186.into(), &0.into()));
    let bars: Vec<Bar> = recorded
        .iter()
        .filter(|c| (1_722_470_400_000..1_725_148_800_000).contains(&c.open_time_ms))
        .map(|candle| Bar::backfilled(*candle))
        .collect();
    let expected: Vec<Candle> =
        compact_bars(&bars, FIVE, hours).unwrap().into_iter().map(|bar| bar.candle).collect();
    assert_eq!(read_candles(Path::new(&long), hours).unwrap(), expected);
    assert_eq!(expected.len(), 186);
}

#[test]
fn files_are_converted_joined_and_a_missing_part_is_not_hidden() {
    let place = Place::new();
    let minutes = project("tests/data/binance-1m-2023-03-24.csv.bz2");
    let fives = project("tests/data/binance-5m-2023-03-24.csv.bz2");
    let out = place.file("joined.parquet");
    let arguments = ["history", "import", &minutes, "--out", &out, "--interval", "5m"];
    let joined = json(&arguments, 0);
    assert_eq!((&joined["candles"], &joined["report"]["missing"]), (&272.into(), &80.into()));
    // Another download of the same market in five minutes.
    let read = read_candles(Path::new(&out), FIVE).unwrap();
    for (joined, other) in read.iter().zip(read_candles(Path::new(&fives), FIVE).unwrap()) {
        // The exchange sums decimals, this program their nearest doubles.
        assert!((joined.volume - other.volume).abs() < 1e-9, "{joined:?}");
        assert_eq!(Candle { volume: other.volume, ..*joined }, other);
    }
    assert_eq!(detect_interval(Path::new(&out)).unwrap(), FIVE);

    // The halt began at 12:40 and ended at 14:00: the hour of 12 lacks a part.
    let (hours, all) = (place.file("hours.csv"), place.file("all.csv"));
    let arguments = ["history", "import", &fives, "--out", &hours, "--interval", "1h"];
    let report = json(&arguments, 0);
    assert_eq!((&report["candles"], &report["left_out"]), (&22.into(), &1.into()), "{report}");
    let arguments = ["history", "import", &fives, "--out", &all, "--interval", "1h"];
    let report = json(&[&arguments[..], &["--keep-partial"]].concat(), 0);
    assert_eq!((&report["candles"], &report["left_out"]), (&23.into(), &0.into()), "{report}");

    let (_, errors) = run(&["history", "import", &fives, "--out", &hours], 1);
    assert!(errors.contains("exists already"), "{errors}");
    let other = place.file("other.csv");
    let (_, errors) = run(&["history", "import", &fives, "--out", &other, "--interval", "7m"], 64);
    assert!(errors.contains("must be a multiple"), "{errors}");
    assert!(!Path::new(&other).exists());
}

#[test]
fn a_report_names_the_known_gaps_and_ends_with_1() {
    let fives = project("tests/data/binance-5m-2023-03-24.csv.bz2");
    let found = json(&["history", "verify", &fives], 1);
    let report = &found["report"];
    assert_eq!(
        (&report["missing"], &report["gaps"], &report["flat"]),
        (&16.into(), &1.into(), &14.into())
    );
    assert_eq!(report["missing_runs"][0]["from_ms"], 1_679_661_600_000_i64);
    assert_eq!(report["flat_runs"][0]["count"], 14);
    let (said, _) = run(&["history", "verify", &fives], 1);
    assert!(said.contains("272 of 288 candles of 5m, 94.444 %"), "{said}");
    assert!(said.contains("2023-03-24 12:40:00 .. 2023-03-24 14:00:00"), "{said}");
    let whole = project("data/btcusd-5m.csv.gz");
    assert_eq!(json(&["history", "verify", &whole], 0)["is_ok"], true);
    let span = ["--from", "2024-06-30", "--to", "2024-07-02"];
    let short = json(&[&["history", "verify", &whole][..], &span].concat(), 1);
    assert_eq!(short["report"]["missing"], 288);
}

#[test]
fn faulty_rows_are_told_with_their_lines_and_nothing_is_imported_from_behind_them() {
    let place = Place::new();
    store(&place.data()).close_blocking();
    let path = place.file("a.csv");
    let mut text = "time,o,h,l,c,v\n".to_owned();
    for index in 0..20 {
        let close = if index == 12 { "x" } else { "2" };
        let at = 1_700_000_100 + if index == 15 { 14 } else { index } * 300;
        writeln!(text, "{at},2,2,2,{close},1").unwrap();
    }
    std::fs::write(&path, text).unwrap();
    let found = json(&["history", "verify", &path], 1);
    let faults = found["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 2, "{found}");
    assert!(faults[0].as_str().unwrap().contains("line 14, column `c`: is `x`"), "{found}");
    assert!(faults[1].as_str().unwrap().contains("line 17"), "{found}");
    assert_eq!(
        (&found["report"]["invalid"], &found["report"]["duplicates"]),
        (&1.into(), &1.into())
    );
    let out = place.file("b.csv");
    let (_, errors) = run(&["history", "import", &path, "--out", &out], 1);
    assert!(errors.contains("line 14") && !Path::new(&out).exists(), "{errors}");
    let data = place.data();
    let data = data.to_str().unwrap();
    let import = ["history", "import", &path, "--stream", STREAM, "--data-dir", data];
    let (_, errors) = run(&import, 1);
    assert!(errors.contains("line 14"), "{errors}");
    let (_, errors) = run(&["history", "verify", "--stream", "OTHER", "--data-dir", data], 1);
    assert!(errors.contains("no stream `OTHER`"), "{errors}");

    let opened = Store::open_existing(data, 4 << 20).unwrap();
    let (_, errors) = run(&import, 75);
    assert!(errors.contains("stop that one first"), "{errors}");
    opened.close_blocking();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_into_a_store_asks_for_what_is_missing_and_keeps_what_was_live() {
    let place = Place::new();
    let mut candles = recording::embedded().unwrap();
    candles.truncate(5_000);
    let told = |candle: &Candle| Candle { trade_count: Some(TRADES_PER_CANDLE as u64), ..*candle };
    let live = Candle { volume: 7.0, ..candles[4_000] };
    let opened = store(&place.data());
    put(&opened, &candles[..2_000], BarState::Backfilled);
    put(&opened, &candles[2_500..2_600], BarState::Partial);
    put(&opened, &[live], BarState::Complete);
    opened.close_blocking();

    let end_ms = candles.last().unwrap().close_time_ms(FIVE);
    let clock = Arc::new(ManualClock::new(end_ms + 60_000));
    let config = SimExchangeConfig::new(Exchange::Binance, candles.clone().into(), FIVE, clock);
    let exchange = forecastd_devnet::exchange::spawn(config).await.unwrap();
    let url = exchange.rest_url.clone();
    let to = chrono::DateTime::from_timestamp_millis(end_ms).unwrap().format("%FT%TZ").to_string();
    let ask = move |place: &Place| {
        let arguments =
            ["history", "fetch", "--exchange", "binance", "--url", &url, "--from", "2024-07-01"];
        place.with_stream(&[&arguments[..], &["--to", &to]].concat(), 0)
    };
    let (place, fetched, again) = tokio::task::spawn_blocking(move || {
        let fetched = ask(&place);
        let again = ask(&place);
        (place, fetched, again)
    })
    .await
    .unwrap();
    let stored = &fetched["stored"];
    assert_eq!((&stored["added"], &stored["replaced"]), (&2_899.into(), &100.into()), "{fetched}");
    assert_eq!(fetched["report"]["coverage_percent"], 100.0);
    assert_eq!(again["fetched"], 0, "{again}");
    // Three pages to the live candle, one behind it.
    assert_eq!(exchange.rest_requests(), 4);
    exchange.stop().await;

    let opened = Store::open_existing(place.data(), 4 << 20).unwrap();
    let rows: Vec<CandleRecord> = opened
        .scan_prefix::<CandleRecord>(&StreamId(STREAM.to_owned()))
        .map(|row| row.unwrap().1)
        .collect();
    opened.close_blocking();
    assert_eq!(rows.len(), 5_000);
    for (index, row) in rows.iter().enumerate() {
        let expected = match index {
            0..2_000 => candles[index],
            4_000 => live,
            _ => told(&candles[index]),
        };
        assert_eq!(row.candle, expected, "{index}");
    }
    assert_eq!((rows[4_000].state, rows[2_500].state), (BarState::Complete, BarState::Backfilled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_daemon_is_read_and_not_written_to() {
    let place = Place::new();
    let config = project("config.toml");
    let mut command = dev(&place.data(), Path::new(&config), &[]);
    // All exchanges replay the same recording, so that their candles agree.
    command
        .env("FORECASTD__DEV__DATA", project("data/btcusd-5m.csv.gz"))
        .env("FORECASTD__DEV__START", "2025-01-11T00:00:00Z");
    let mut network = Talker::start(command);
    // A forecast needs the whole window of candles.
    network.wait_for(|line| line["event"] == "forecast").await;
    let process = network.drain();
    let out = place.file("a.csv");
    let export = ["history", "export", "--stream", STREAM, "--out", &out];
    let exported = ask(&place.data(), &export).await;
    let candles = read_candles(Path::new(&out), FIVE).unwrap();
    assert!(candles.len() >= 500, "{exported}");
    assert_eq!(exported["candles"].as_u64().unwrap(), candles.len() as u64);
    let recorded = recording::embedded().unwrap();
    let index = |candle: &Candle| {
        recorded.binary_search_by_key(&candle.open_time_ms, |recorded| recorded.open_time_ms)
    };
    for candle in &candles {
        let recorded = recorded[index(candle).unwrap()];
        let prices = |of: &Candle| [of.open, of.high, of.low, of.close];
        // A mean of equal prices may be off by a last bit.
        let is_same = |(a, b): (f64, f64)| (a - b).abs() <= 1e-12 * b;
        assert!(prices(candle).into_iter().zip(prices(&recorded)).all(is_same), "{candle:?}");
        assert!(candle.volume >= recorded.volume);
    }
    let data = place.data();
    let import = ["history", "import", &out, "--stream", STREAM, "--data-dir"];
    let import = [&import[..], &[data.to_str().unwrap()]].concat();
    let (_, errors) = run(&import, 75);
    assert!(errors.contains("while no daemon runs"), "{errors}");
    stop(process).await;
    run(&import, 0);
}
