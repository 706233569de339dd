//! What is written comes back the same to the bit, and the project's own recordings are read whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may panic")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use forecastd_core::bars::{GapReport, Survey};
use forecastd_core::features::binary_file::{FeatureFile, NumberType};
use forecastd_core::{Candle, FeatureId, Interval};
use forecastd_history::{
    CandleFile, CandleWriter, FileKind, HistoryError, detect_interval, read_candles,
};
use proptest::prelude::*;

const ENDINGS: [&str; 4] = ["csv", "csv.gz", "csv.zst", "parquet"];
const MINUTE: Interval = Interval::MINUTE;
const FIVE: Interval = Interval::FIVE_MINUTES;
/// One value of a candle.
type Part = fn(&Candle) -> f64;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn write(path: &Path, candles: &[Candle]) {
    let mut writer = CandleWriter::create(path).unwrap();
    for candle in candles {
        writer.push(candle).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), candles.len() as u64);
}

fn bits(candles: &[Candle]) -> Vec<(i64, [u64; 5], Option<u64>)> {
    let bits = |c: &Candle| [c.open, c.high, c.low, c.close, c.volume].map(f64::to_bits);
    candles.iter().map(|c| (c.open_time_ms, bits(c), c.trade_count)).collect()
}

fn survey(path: &Path, interval: Interval) -> GapReport {
    let mut survey = Survey::new(interval);
    for row in CandleFile::open(path).unwrap() {
        survey.add(&row.unwrap().candle).unwrap();
    }
    survey.report(None)
}

/// Any candle that the rules allow, from subnormal prices to the bounds.
fn candle() -> impl Strategy<Value = Candle> {
    let price = prop_oneof![
        (1_u64..=1e15_f64.to_bits()).prop_map(f64::from_bits),
        1e-8..1e6_f64,
        Just(1e15),
    ];
    let volume = prop_oneof![
        Just(0.0),
        (0..=281_474_976_710_656.0_f64.to_bits()).prop_map(f64::from_bits),
        0.0..1e4_f64,
    ];
    (prop::array::uniform4(price), volume, any::<Option<u64>>()).prop_map(
        |(mut prices, volume, trade_count)| {
            prices.sort_by(f64::total_cmp);
            let [low, open, close, high] = prices;
            Candle { open_time_ms: 0, open, high, low, close, volume, trade_count }
        },
    )
}

fn candles() -> impl Strategy<Value = Vec<Candle>> {
    let times = prop::collection::btree_set(0_i64..=253_402_300_740_000 / 60_000, 1..60);
    (times, prop::collection::vec(candle(), 60)).prop_map(|(times, candles)| {
        let placed =
            |(index, candle): (i64, Candle)| Candle { open_time_ms: index * 60_000, ..candle };
        times.into_iter().zip(candles).map(placed).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sound_candles_survive_every_format(candles in candles()) {
        let folder = tempfile::tempdir().unwrap();
        for ending in ENDINGS {
            let path = folder.path().join(format!("a.{ending}"));
            write(&path, &candles);
            prop_assert_eq!(bits(&read_candles(&path, MINUTE).unwrap()), bits(&candles), "{}", ending);
        }
    }
}

#[test]
fn the_embedded_recording_survives_every_format_and_chain_of_formats() {
    let folder = tempfile::tempdir().unwrap();
    let mut path = project("data/btcusd-5m.csv.gz");
    let recorded = read_candles(&path, FIVE).unwrap();
    assert_eq!(recorded.len(), 65_952);
    for ending in ENDINGS {
        let next = folder.path().join(format!("b.{ending}"));
        write(&next, &read_candles(&path, FIVE).unwrap());
        assert_eq!(detect_interval(&next).unwrap(), FIVE);
        assert_eq!(bits(&read_candles(&next, FIVE).unwrap()), bits(&recorded), "{ending}");
        path = next;
    }
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), ENDINGS.len(), "a draft was left behind");
}

#[test]
fn every_recording_of_the_tests_is_read_and_its_gaps_are_the_known_ones() {
    for (name, interval, rows, missing, flat) in [
        ("binance-1m-2023-03-24", "1m", 1360, 80, 72),
        ("binance-5m-2023-03-24", "5m", 272, 16, 14),
        ("coinbase-1m-2016-10-07", "1m", 1419, 21, 0),
        ("coinbase-1m-2023-03-10", "1m", 2876, 4, 0),
        ("coinbase-1s-2016-10-08", "1s", 3453, 82_945, 0),
        ("cryptocom-1m-2023-03-10", "1m", 2870, 10, 0),
        ("kraken-1m-2023-03-10", "1m", 2880, 0, 0),
        ("kraken-1m-2023-11", "1m", 1988, 889, 0),
        ("kraken-5m-2023-11", "5m", 565, 11, 0),
        ("kraken-exchange-1m-2025-11-10", "1m", 721, 0, 216),
    ] {
        let path = project(&format!("tests/data/{name}.csv.bz2"));
        let interval: Interval = interval.parse().unwrap();
        assert_eq!(detect_interval(&path).unwrap(), interval, "{name}");
        let report = survey(&path, interval);
        assert_eq!((report.candles, report.missing, report.flat), (rows, missing, flat), "{name}");
        assert_eq!(report.faulty_rows(), 0);
        assert_eq!(read_candles(&path, interval).unwrap().len() as u64, report.candles);
    }
}

#[test]
fn the_references_own_files_give_their_values() {
    let folder = project("tests/vectors/features/files");
    let golden = fs::read_to_string(project("tests/vectors/features/binary_file.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let mut read = 0;
    for case in golden["cases"].as_array().unwrap() {
        let name = case["file"].as_str().unwrap().rsplit('/').next().unwrap();
        let whole = &case["read"][0];
        let values = |feature: &str| -> Option<Vec<f64>> {
            let values = whole["values"][feature].as_array()?;
            Some(values.iter().map(|value| value.as_f64().unwrap()).collect())
        };
        let needed = ["101001", "101002", "101003", "101004"].map(values);
        let [Some(close), Some(high), Some(low), Some(volume)] = needed else {
            let error = CandleFile::open(&folder.join(name)).unwrap_err();
            assert!(error.to_string().contains("the file has no"), "{error}");
            continue;
        };
        let file = CandleFile::open(&folder.join(name)).unwrap();
        let interval = file.interval().unwrap();
        assert_eq!(interval.as_ms(), case["interval_ms"].as_i64().unwrap());
        let candles: Vec<Candle> = file.map(|row| row.unwrap().candle).collect();
        assert_eq!(candles.len() as u64, case["sample_count"].as_u64().unwrap());
        let end_ms = case["start_ms"].as_i64().unwrap();
        assert_eq!(candles[0].close_time_ms(interval), end_ms, "samples carry the end");
        let column = |part: Part| candles.iter().map(part).collect::<Vec<f64>>();
        let count = close.len();
        assert_eq!(column(|candle| candle.close)[..count], close);
        assert_eq!(column(|candle| candle.high)[..count], high);
        assert_eq!(column(|candle| candle.low)[..count], low);
        assert_eq!(column(|candle| candle.volume)[..count], volume);
        read += 1;
    }
    assert_eq!(read, 2);
}

#[test]
fn a_feature_file_of_real_candles_is_read_packed_and_plain_with_and_without_opens() {
    let recorded = read_candles(&project("data/btcusd-5m.csv.gz"), FIVE).unwrap();
    let recorded = &recorded[..2_000];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.taosfs");
    let parts: [(FeatureId, Part); 5] = [
        (FeatureId::CLOSE, |candle| candle.close),
        (FeatureId::HIGH, |candle| candle.high),
        (FeatureId::LOW, |candle| candle.low),
        (FeatureId::VOLUME, |candle| candle.volume),
        (FeatureId::OPEN, |candle| candle.open),
    ];
    for columns in [&parts[..], &parts[..4]] {
        let kinds = columns.iter().map(|(id, _)| (*id, NumberType::Float64)).collect();
        let start_ms = recorded[0].close_time_ms(FIVE);
        let mut features = FeatureFile::new(kinds, start_ms, FIVE).unwrap();
        let rows: Vec<Vec<f64>> = recorded
            .iter()
            .map(|candle| columns.iter().map(|(_, part)| part(candle)).collect())
            .collect();
        features.append(start_ms, &rows).unwrap();
        let plain = features.encode();
        let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        packed.write_all(&plain).unwrap();
        for bytes in [plain, packed.finish().unwrap()] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(detect_interval(&path).unwrap(), FIVE);
            let read = read_candles(&path, FIVE).unwrap();
            if columns.len() == 5 {
                assert_eq!(bits(&read), bits(recorded));
                continue;
            }
            for (two, was) in read.windows(2).zip(recorded.windows(2)) {
                let before = two[0].close.min(two[1].high).max(two[1].low);
                assert_eq!(bits(&two[1..]), bits(&[Candle { open: before, ..was[1] }]));
            }
        }
    }
    assert!(matches!(read_candles(&path, MINUTE), Err(HistoryError::OtherInterval { .. })));
}

/// Writes text and reads it back as candles of one minute.
fn read_text(text: &str) -> Result<Vec<Candle>, HistoryError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    read_candles(file.path(), MINUTE)
}

#[test]
fn headers_of_other_programs_and_their_times_give_the_same_candles() {
    let expected = read_text(
        "open_time_ms,open,high,low,close,volume\n1678406400000,1,3,0.5,2,7\n1678406460000,2,2,2,2,0\n",
    )
    .unwrap();
    for text in [
        "# of an exchange\n\u{feff}timestamp,open,high,low,close,volume,turnover\r\n1678406400,1,3,0.5,2,7,9\r\n\r\n1678406460,2,2,2,2,0,0\r\n",
        "Date,Open,High,Low,Close,Volume BTC,Volume USDT\n\"2023-03-10 00:00:00\",\"1\",3,0.5,2,7,9\n2023-03-10 00:01:00, 2 ,2,2,2,0,0",
        "time,low,high,open,close,volume\n1678406400000000,0.5,3,1,2,7\n1678406460000000,2,2,2,2,0\n",
        "symbol,volume,close,low,high,open,start,note\nX,7,2,0.5,3,1,2023-03-10T00:00:00Z,\"a, b\"\nX,0,2,2,2,2,2023-03-10T00:01:00Z,\n",
    ] {
        assert_eq!(read_text(text).unwrap(), expected, "{text}");
    }
    let counted = read_text("open_time_ms,open,high,low,close,volume,trades\n0,1,1,1,1,1,5\n60000,1,1,1,1,1,\n120000,1,1,1,1,1,12.0\n").unwrap();
    let counts: Vec<_> = counted.iter().map(|candle| candle.trade_count).collect();
    assert_eq!(counts, [Some(5), None, Some(12)]);
}

#[test]
fn the_length_of_a_candle_is_found_behind_gaps_and_stray_rows() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "time,o,h,l,c,v").unwrap();
    for minute in (0..600).filter(|minute| minute % 7 != 0 && minute % 5 != 1) {
        let stray = i64::from(minute == 300);
        writeln!(file, "{},1,1,1,1,1", 1_678_406_400 + minute * 60 + stray).unwrap();
    }
    assert_eq!(detect_interval(file.path()).unwrap(), MINUTE);
    let mut short = tempfile::NamedTempFile::new().unwrap();
    writeln!(short, "time,o,h,l,c,v\n1678406400,1,1,1,1,1").unwrap();
    assert!(matches!(detect_interval(short.path()), Err(HistoryError::NoInterval { .. })));
}

#[test]
fn the_name_decides_what_is_written() {
    for (name, kind) in [
        ("a.csv", FileKind::Csv),
        ("A.CSV.GZ", FileKind::CsvGzip),
        ("a.5m.csv.zst", FileKind::CsvZstd),
        ("a.parquet", FileKind::Parquet),
    ] {
        assert_eq!(FileKind::of(Path::new(name)).unwrap(), kind);
    }
    for name in ["a", "a.txt", "a.gz", "a.csv.bz2", "a.taosfs", ""] {
        let error = FileKind::of(Path::new(name)).unwrap_err();
        assert!(error.to_string().contains(".parquet"), "{error}");
    }
}

#[test]
fn a_file_appears_when_it_is_complete_and_a_draft_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let candle = read_text("time,o,h,l,c,v\n2023-03-10,1,1,1,1,1\n").unwrap()[0];
    let mut writer = CandleWriter::create(&path).unwrap();
    writer.push(&candle).unwrap();
    assert!(!path.exists());
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let missing = folder.path().join("no/such/folder.csv");
    assert!(matches!(CandleWriter::create(&missing), Err(HistoryError::Open { .. })));
}
