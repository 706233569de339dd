//! Measures how many trades a second one core turns into bars.
//!
//! `cargo run --release -p forecastd-core --example build_bars [millions of trades]`
//!
//! The market is made: prices walk, a trade every 20 ms, bars of one second and one minute. Each
//! line is the best and the median of seven runs over the same trades, which lie in memory, with a tick
//! of the clock every 50 trades. The counts show that every trade was applied once.

#![expect(clippy::print_stdout, reason = "the figures are what the example is for")]
#![expect(clippy::disallowed_methods, reason = "a measurement wants real time")]

use std::time::Instant;

use forecastd_core::Interval;
use forecastd_core::bars::{BarBuilder, BarEvent, BarRules, IdRule, NumberedTrade, TradeOutcome};

const RUNS: usize = 7;
const START_MS: i64 = 1_700_000_000_000;
/// Mean pause between two trades.
const PAUSE_MS: u64 = 20;

/// A generator that is the same everywhere: `SplitMix64`.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn market(count: u64) -> Vec<NumberedTrade> {
    let mut random = Random(7);
    let mut cents: i64 = 3_000_000;
    let mut time_ms = START_MS;
    (0..count)
        .map(|id| {
            cents = (cents + (random.next() % 201).cast_signed() - 100).max(100_000);
            time_ms += (random.next() % (2 * PAUSE_MS + 1)).cast_signed();
            let size = (random.next() % 100_000_000 + 1) as f64 / 1e8;
            NumberedTrade { time_ms, id: id + 1, price: cents as f64 / 100.0, size }
        })
        .collect()
}

/// Moves one trade of `every` up to eight places back, and gives one of `every` twice.
fn disturbed(trades: &[NumberedTrade], every: u64) -> Vec<NumberedTrade> {
    let mut random = Random(11);
    let mut arrivals = trades.to_vec();
    for index in 8..arrivals.len() {
        if random.next().is_multiple_of(every) {
            arrivals.swap(index, index - 8);
        }
    }
    let again = |trade: &NumberedTrade| std::iter::once(*trade);
    arrivals
        .iter()
        .flat_map(|trade| {
            let is_twice = random.next().is_multiple_of(every);
            again(trade).chain(is_twice.then_some(*trade))
        })
        .collect()
}

fn scattered(trades: &[NumberedTrade]) -> Vec<NumberedTrade> {
    let mut random = Random(13);
    trades.iter().map(|trade| NumberedTrade { id: random.next() >> 1, ..*trade }).collect()
}

fn measure(name: &str, rules: BarRules, trades: &[NumberedTrade]) {
    let mut rates = Vec::with_capacity(RUNS);
    let (mut bars, mut volume, mut applied) = (0_u64, 0.0, 0_u64);
    for _ in 0..RUNS {
        let Ok(mut builder) = BarBuilder::new(rules) else { return };
        (bars, volume, applied) = (0, 0.0, 0);
        let mut sink = |event: BarEvent| {
            if let BarEvent::Closed(bar) = event {
                bars += 1;
                volume += bar.candle.volume;
            }
        };
        builder.connected(START_MS - 1, &mut sink);
        let started = Instant::now();
        // About a second of the market between two ticks of the clock.
        for second in trades.chunks(50) {
            builder.tick(second[0].time_ms, &mut sink);
            for trade in second {
                let outcome = builder.trade(trade, &mut sink);
                applied += u64::from(outcome == TradeOutcome::Applied);
            }
        }
        rates.push(trades.len() as f64 / started.elapsed().as_secs_f64() / 1e6);
    }
    rates.sort_by(f64::total_cmp);
    let (median, best) = (rates[RUNS / 2], rates[RUNS - 1]);
    println!(
        "{name:<42} {best:>7.1} best {median:>7.1} median, million trades/s \
         ({} trades, {applied} applied, {bars} bars, volume {volume:.3})",
        trades.len()
    );
}

fn main() {
    let millions = std::env::args().nth(1).and_then(|text| text.parse::<u64>().ok());
    let trades = market(millions.unwrap_or(10).clamp(1, 100) * 1_000_000);
    let unique = IdRule::Unique { remembered: 16_384 };
    let Ok(second) = Interval::from_ms(1_000) else { return };
    let rules =
        |interval, ids, reorder_ms| BarRules { reorder_ms, ..BarRules::in_order(interval, ids) };
    let consecutive = IdRule::Consecutive;
    measure("in order, 1m, consecutive ids", rules(Interval::MINUTE, consecutive, 0), &trades);
    measure("in order, 1s, consecutive ids", rules(second, consecutive, 0), &trades);
    let arrivals = disturbed(&trades, 100);
    measure(
        "1 % moved, 1 % twice, 1m, consecutive ids",
        rules(Interval::MINUTE, consecutive, 2_000),
        &arrivals,
    );
    measure(
        "1 % moved, 1 % twice, 1s, consecutive ids",
        rules(second, consecutive, 2_000),
        &arrivals,
    );
    let trades = scattered(&trades);
    measure("in order, 1m, scattered ids", rules(Interval::MINUTE, unique, 0), &trades);
    let arrivals = disturbed(&trades, 100);
    measure(
        "1 % moved, 1 % twice, 1m, scattered ids",
        rules(Interval::MINUTE, unique, 2_000),
        &arrivals,
    );
}
