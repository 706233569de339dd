//! Recorded messages of the exchanges against what they must turn into.
//!
//! Reads `FORECASTD_FIXTURES` (default `tests/fixtures` at the repository root). Every file of a
//! supported exchange is run; an unknown exchange, a file without its expectation and an empty
//! folder fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "test helpers may panic; what is compared must be equal to the bit"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use forecastd_core::{Candle, Interval, Trade, TradeSide};
use forecastd_exchange::binance::{message, rest};
use forecastd_exchange::{DecodeError, Message};
use serde_json::{Value, json};

/// Exchanges whose fixtures exist but which have no adapter.
const UNSUPPORTED: [&str; 3] = ["bybit", "coinbase", "kraken"];

fn root() -> PathBuf {
    let given = std::env::var_os("FORECASTD_FIXTURES").map(PathBuf::from);
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
    given.unwrap_or_else(|| default.into()).join("exchanges")
}

/// The raw files of `folder` with their expectation, by name.
fn pairs(folder: &Path, ending: &str) -> Vec<(PathBuf, PathBuf)> {
    let expected_ending = format!(".expected.{ending}");
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut pairs = Vec::new();
    for name in &names {
        let stem = match name.strip_suffix(&expected_ending) {
            Some(stem) => {
                assert!(names.contains(&format!("{stem}.{ending}")), "{name} has no raw file");
                continue;
            }
            None => name.strip_suffix(&format!(".{ending}")).unwrap_or_else(|| panic!("{name}?")),
        };
        let expected = format!("{stem}{expected_ending}");
        assert!(names.contains(&expected), "{name} has no expectation");
        pairs.push((folder.join(name), folder.join(expected)));
    }
    assert!(!pairs.is_empty(), "{} is empty", folder.display());
    pairs
}

#[test]
fn every_exchange_folder_is_known() {
    let mut supported = 0;
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        if name == "binance" {
            supported += 1;
        } else {
            assert!(UNSUPPORTED.contains(&name.as_str()), "unknown exchange folder {name}");
        }
    }
    assert_eq!(supported, 1, "no fixtures of binance in {}", root().display());
}

#[test]
fn binance_stream_messages_match_their_records() {
    let mut classes = BTreeMap::new();
    for (raw_path, expected_path) in pairs(&root().join("binance/ws"), "jsonl") {
        let raw = fs::read_to_string(&raw_path).unwrap();
        let expected = fs::read_to_string(&expected_path).unwrap();
        let (raw, expected): (Vec<_>, Vec<_>) = (raw.lines().collect(), expected.lines().collect());
        assert_eq!(raw.len(), expected.len(), "{}", raw_path.display());
        assert!(!raw.is_empty(), "{}", raw_path.display());
        for (index, (line, want)) in raw.iter().zip(&expected).enumerate() {
            let place = format!("{} line {}", raw_path.display(), index + 1);
            let want: Value = serde_json::from_str(want).unwrap();
            let (class, records) = stream_records(message::decode(line));
            assert_eq!(class, want["class"], "{place}");
            compare(&records, want["records"].as_array().unwrap(), &place);
            *classes.entry(class).or_insert(0) += 1;
        }
    }
    println!("binance stream messages: {classes:?}");
    for class in ["ack", "nack", "candle", "trade", "notice", "other", "invalid"] {
        assert!(classes.contains_key(class), "no message of class {class}");
    }
}

fn stream_records(decoded: Result<Message, DecodeError>) -> (&'static str, Vec<Value>) {
    match decoded {
        Err(_) => ("invalid", vec![]),
        Ok(Message::Ack { .. }) => ("ack", vec![]),
        Ok(Message::Nack { .. }) => ("nack", vec![]),
        Ok(Message::GoingAway) => ("notice", vec![]),
        Ok(Message::Other) => ("other", vec![]),
        Ok(Message::Candles(updates)) => {
            let record = |update: &forecastd_exchange::CandleUpdate| {
                candle_record(&update.symbol, update.interval, &update.candle, update.is_final)
            };
            ("candle", updates.iter().map(record).collect())
        }
        Ok(Message::Trades(updates)) => {
            ("trade", updates.iter().map(|u| trade_record(&u.symbol, &u.trade)).collect())
        }
    }
}

#[test]
fn binance_bodies_match_their_records() {
    let mut classes = BTreeMap::new();
    for (raw_path, expected_path) in pairs(&root().join("binance/rest"), "json") {
        let place = raw_path.display().to_string();
        let body = fs::read(&raw_path).unwrap();
        let want: Value = serde_json::from_slice(&fs::read(&expected_path).unwrap()).unwrap();
        let request = &want["request"];
        let symbol = request["symbol"].as_str().unwrap();
        let is_ok = want["http_status"] == 200;
        let (class, records) = match request["path"].as_str().unwrap() {
            _ if !is_ok => {
                let (code, message) = rest::decode_error(&body).unwrap();
                assert!(!message.is_empty(), "{place} code {code}");
                ("error", vec![])
            }
            "/api/v3/klines" => {
                let interval = Interval::from_ms(request["interval_ms"].as_i64().unwrap()).unwrap();
                let rows = rest::decode_klines(&body, interval).unwrap();
                let record = |row: &Candle| candle_record(symbol, interval, row, None);
                ("candle", rows.iter().map(record).collect())
            }
            "/api/v3/trades" => ("trade", trades(symbol, &rest::decode_trades(&body).unwrap())),
            "/api/v3/aggTrades" => {
                ("trade", trades(symbol, &rest::decode_aggregate_trades(&body).unwrap()))
            }
            path => panic!("{place}: unknown path {path}"),
        };
        assert_eq!(class, want["class"], "{place}");
        compare(&records, want["records"].as_array().unwrap(), &place);
        *classes.entry(class).or_insert(0) += records.len().max(1);
    }
    println!("binance bodies: {classes:?}");
    assert_eq!(classes.len(), 3, "{classes:?}");
}

fn trades(symbol: &str, trades: &[Trade]) -> Vec<Value> {
    trades.iter().map(|trade| trade_record(symbol, trade)).collect()
}

fn candle_record(
    symbol: &str,
    interval: Interval,
    candle: &Candle,
    is_final: Option<bool>,
) -> Value {
    json!({
        "kind": "candle", "exchange": "binance", "symbol": symbol,
        "interval_ms": interval.as_ms(), "open_time_ms": candle.open_time_ms,
        "close_time_ms": candle.close_time_ms(interval) - 1,
        "open": candle.open, "high": candle.high, "low": candle.low, "close": candle.close,
        "volume": candle.volume, "is_final": is_final, "trade_count": candle.trade_count,
    })
}

fn trade_record(symbol: &str, trade: &Trade) -> Value {
    let side = match trade.side {
        TradeSide::Buy => "buy",
        TradeSide::Sell => "sell",
    };
    json!({
        "kind": "trade", "exchange": "binance", "symbol": symbol, "price": trade.price,
        "size": trade.size, "time_ms": trade.time_ms, "trade_id": trade.trade_id, "side": side,
    })
}

/// Field by field; decimals of the expectation are texts and count by value.
fn compare(got: &[Value], want: &[Value], place: &str) {
    assert_eq!(got.len(), want.len(), "{place}: number of records");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let (got, want) = (got.as_object().unwrap(), want.as_object().unwrap());
        let keys = |record: &serde_json::Map<String, Value>| {
            record.keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(keys(got), keys(want), "{place} record {index}");
        for (key, want) in want {
            let got = &got[key];
            let is_equal = match (got, want.as_str()) {
                (Value::Number(number), Some(text)) => {
                    number.as_f64().unwrap().to_bits() == text.parse::<f64>().unwrap().to_bits()
                }
                _ => got == want,
            };
            assert!(is_equal, "{place} record {index} field {key}: got {got}, want {want}");
        }
    }
}
