//! What `barter-data` makes of the messages that `feeds memory` reads; a part of `scripts/bench feeds`.
//!
//! `barter-peer FILE`: one raw trade message of Binance a line. Prints one line of JSON a figure: its
//! parser alone, as `serde_json` runs it over text, and with its own next step, the normalised event.

use std::error::Error;
use std::hint::black_box;

use barter_data::event::MarketIter;
use barter_data::exchange::binance::trade::BinanceTrade;
use barter_data::subscription::trade::PublicTrade;
use barter_instrument::exchange::ExchangeId;
use rustix::time::{ClockId, clock_gettime};

const RUNS: usize = 9;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let file = std::env::args().nth(1).ok_or("which file?")?;
    let text = std::fs::read_to_string(file)?;
    let lines: Vec<&str> = text.lines().collect();
    measure("parse", &lines, |line| {
        let trade = serde_json::from_str::<BinanceTrade>(line)?;
        let amount = trade.amount;
        black_box(trade);
        Ok(amount)
    })?;
    measure("parse and normalise", &lines, |line| {
        let trade = serde_json::from_str::<BinanceTrade>(line)?;
        let events = MarketIter::from((ExchangeId::BinanceSpot, 0_usize, trade)).0;
        let amount = |event: &barter_data::event::MarketEvent<usize, PublicTrade>| event.kind.amount;
        Ok(events.iter().flatten().map(amount).sum())
    })
}

/// CPU time of this thread so far: what others do on the machine counts less than in real time.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn measure(
    metric: &str,
    lines: &[&str],
    amount: impl Fn(&str) -> Result<f64, Failure>,
) -> Result<(), Failure> {
    let mut rates = Vec::with_capacity(RUNS);
    let mut volume = 0.0;
    for _ in 0..RUNS {
        volume = 0.0;
        let started = cpu_seconds();
        for line in lines {
            volume += amount(line)?;
        }
        rates.push(lines.len() as f64 / (cpu_seconds() - started));
    }
    rates.sort_by(f64::total_cmp);
    let (median, best) = (rates[RUNS / 2], rates[RUNS - 1]);
    println!(r#"{{"metric":"{metric}","value":{median},"best":{best},"volume":{volume}}}"#);
    Ok(())
}
