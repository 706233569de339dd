//! The adapters against small servers on this machine: the REST clients against recorded and against
//! senseless bodies, the feeds against scripted WebSocket conversations.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "test helpers may panic; what is compared must be equal to the bit"
)]

mod binance;
mod bybit;
mod coinbase;
mod coinbase_advanced;
mod coinmetrics;
mod damage;
mod feed;
mod http;
mod kraken;
mod manners;
mod owner;
mod proxy;
mod stream;

use std::path::PathBuf;
use std::time::Duration;

use forecastd_core::Interval;

/// Far above what any step needs, so that only a real hang ends here.
const DEADLINE: Duration = Duration::from_secs(30);
const FIVE: Interval = Interval::FIVE_MINUTES;
/// Five minutes.
const STEP: i64 = 300_000;

/// The text of a fixture file, such as `bybit/ws/klines.jsonl`.
fn fixture(name: &str) -> String {
    let given = std::env::var_os("FORECASTD_FIXTURES").map(PathBuf::from);
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
    let path = given.unwrap_or_else(|| default.into()).join("exchanges").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One line of a fixture file, counted from 1.
fn line(name: &str, number: usize) -> String {
    fixture(name).lines().nth(number - 1).unwrap().to_owned()
}
