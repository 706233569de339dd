//! Measures the way from Binance's raw trade messages to closed candles; a part of `scripts/bench`.
//!
//! ```text
//! feeds messages AGGREGATES.json COUNT   # prints COUNT messages, one a line
//! feeds memory FILE                      # those messages, in memory, on this thread
//! feeds socket FILE RATE SECONDS         # over a loopback WebSocket, RATE a second, 0 as fast as it goes
//! feeds frames FILE SECONDS              # the same without the feed: only the WebSocket library
//! feeds serve FILE RATE SECONDS          # the other end of the two before, which start it
//! ```
//! Each prints one line of JSON a figure. `socket` and `frames` start `serve` as a process of its own
//! through the command in `FEEDS_SENDER`, such as `taskset -c 1`, which is put before it.
//!
//! The messages are recorded executions: price, size, time and side of each are those of a recorded
//! page of aggregate trades, in the text form of a recorded trade message, with numbers that rise by
//! one and, when the page begins anew, later times.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod feed;
mod histogram;
mod memory;
mod messages;
mod serve;

use std::error::Error;
use std::process::ExitCode;

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

type Failure = Box<dyn Error + Send + Sync>;

/// Prints a figure; of rates more is better, of everything else less.
fn figure(metric: &str, value: f64, unit: &str, conditions: &str) {
    println!(
        "{}",
        json!({"metric": metric, "value": value, "unit": unit, "conditions": conditions})
    );
}

/// CPU time of this thread so far: what others do on the machine counts less than in real time.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["messages", page, count] => messages::print(page, count),
        ["memory", file] => memory::measure(file),
        ["socket", file, rate, seconds] => feed::measure(file, rate, seconds),
        ["frames", file, seconds] => feed::measure_frames(file, seconds),
        ["serve", file, rate, seconds] => serve::run(file, rate, seconds),
        _ => Err("see the head of main.rs for what can be given".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
