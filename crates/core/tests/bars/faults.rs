//! Two days of three exchanges with outages, lost, doubled and reordered trades: what is settled
//! after the backfill is what an undisturbed run settles.
//!
//! The recordings are minutes; each is taken apart into trades that give it again.

use forecastd_core::bars::{Bar, BarState, MergeRules, NumberedTrade, SourceId, merge_bars};
use forecastd_core::{Candle, Interval};

use crate::support::{MINUTE_MS, Market, candles};

const EXCHANGES: [&str; 3] = ["coinbase", "kraken", "cryptocom"];
const REORDER_MS: i64 = 2_000;
const OUTAGE_MS: i64 = 10 * MINUTE_MS;

struct Random(u64);

impl Random {
    /// A number below `bound`: `SplitMix64`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Four trades a minute with the prices of its candle, ids without a jump.
fn taken_apart(candles: &[Candle]) -> Vec<NumberedTrade> {
    let mut id = 1_000;
    let mut trades = Vec::with_capacity(candles.len() * 4);
    for candle in candles {
        let prices = [candle.open, candle.high, candle.low, candle.close];
        for (price, into_ms) in prices.into_iter().zip([500, 15_000, 40_000, 59_000]) {
            id += 1;
            let time_ms = candle.open_time_ms + into_ms;
            trades.push(NumberedTrade { time_ms, id, price, size: candle.volume / 4.0 });
        }
    }
    trades
}

enum Step {
    Trade(NumberedTrade),
    Link(bool),
}

/// Arrivals in order of the clock; the clock ticks at each of them.
fn run(mut steps: Vec<(i64, Step)>, begin_ms: i64, end_ms: i64) -> Market {
    let mut market = Market::new(Interval::MINUTE, REORDER_MS);
    market.link(true, begin_ms - 1);
    steps.sort_by_key(|(at_ms, _)| *at_ms);
    for (at_ms, step) in steps {
        market.tick(at_ms);
        match step {
            Step::Trade(trade) => market.trade(&trade),
            Step::Link(is_up) => market.link(is_up, at_ms),
        }
    }
    market.tick(end_ms + 3_000);
    market
}

fn undisturbed(trades: &[NumberedTrade], begin_ms: i64, end_ms: i64) -> Market {
    let steps = trades.iter().map(|trade| (trade.time_ms, Step::Trade(*trade)));
    run(steps.collect(), begin_ms, end_ms)
}

fn disturbed(
    trades: &[NumberedTrade],
    outages: &[i64],
    seed: u64,
    (begin_ms, end_ms): (i64, i64),
) -> Market {
    let mut random = Random(seed);
    let mut steps = Vec::new();
    let is_down =
        |at_ms| outages.iter().any(|down_ms| (*down_ms..down_ms + OUTAGE_MS).contains(&at_ms));
    for (index, trade) in trades.iter().enumerate() {
        // A lost last trade has no later id that tells of it.
        let is_lost = random.below(200) == 0 && index > 0 && index + 1 < trades.len();
        if is_lost || is_down(trade.time_ms) {
            continue;
        }
        for _ in 0..=u64::from(random.below(20) == 0) {
            let delay_ms = i64::try_from(random.below(REORDER_MS.unsigned_abs())).unwrap();
            let at_ms = trade.time_ms + delay_ms;
            if !is_down(at_ms) {
                steps.push((at_ms, Step::Trade(*trade)));
            }
        }
    }
    for down_ms in outages {
        steps.push((*down_ms, Step::Link(false)));
        steps.push((down_ms + OUTAGE_MS, Step::Link(true)));
    }
    run(steps, begin_ms, end_ms)
}

fn merged(markets: &[Market]) -> Vec<forecastd_core::bars::Merged> {
    let lists: Vec<Vec<Bar>> =
        markets.iter().map(|market| market.series.bars().copied().collect()).collect();
    let sources: Vec<(SourceId, &[Bar])> =
        (0..).map(SourceId).zip(lists.iter().map(Vec::as_slice)).collect();
    merge_bars(&sources, Interval::MINUTE, &MergeRules::default()).unwrap()
}

#[test]
fn what_is_settled_after_the_backfill_is_what_an_undisturbed_run_settles() {
    let recorded = EXCHANGES.map(|name| taken_apart(&candles(&format!("{name}-1m-2023-03-10"))));
    let begin_ms = recorded.iter().map(|trades| trades[0].time_ms).min().unwrap() - 500;
    let end_ms = begin_ms + 2 * 1440 * MINUTE_MS;
    let calm: Vec<Market> =
        recorded.iter().map(|trades| undisturbed(trades, begin_ms, end_ms)).collect();
    let expected = merged(&calm);
    for seed in 0..5 {
        let mut random = Random(seed);
        // Two of three are down at the same time, twice a day and never at an edge of a minute.
        let outages: Vec<i64> = (0..4)
            .map(|index| {
                let within = i64::try_from(random.below(600)).unwrap();
                begin_ms + (index * 700 + 20 + within) * MINUTE_MS + 7_777
            })
            .collect();
        let mut markets: Vec<Market> = recorded
            .iter()
            .enumerate()
            .map(|(index, trades)| {
                let outages = if index == 2 { &[] } else { &outages[..] };
                let seed = seed * 3 + u64::try_from(index).unwrap();
                disturbed(trades, outages, seed, (begin_ms, end_ms))
            })
            .collect();
        for (index, market) in markets.iter().enumerate() {
            let told: Vec<(i64, i64)> =
                outages.iter().map(|down_ms| (*down_ms, down_ms + OUTAGE_MS)).collect();
            assert_eq!(market.outages, if index == 2 { Vec::new() } else { told });
        }
        let before = merged(&markets);
        let unsettled = before.iter().filter(|step| step.settled().is_none()).count();
        assert!(unsettled >= 40, "{unsettled} minutes lack their quorum during the outages");
        for (market, calm) in markets.iter_mut().zip(&calm) {
            // Whatever claims to be complete is so: nothing was corrected behind its back.
            for bar in market.series.bars().filter(|bar| bar.state == BarState::Complete) {
                assert_eq!(Some(bar), calm.series.get(bar.candle.open_time_ms));
            }
            for (from_ms, to_ms) in market.series.wanted(begin_ms, end_ms) {
                for bar in calm.series.bars() {
                    if (from_ms..to_ms).contains(&bar.candle.open_time_ms) {
                        market.series.backfill(bar.candle).unwrap();
                    }
                }
            }
        }
        let after = merged(&markets);
        assert_eq!(after.len(), expected.len());
        for (got, want) in after.iter().zip(&expected) {
            assert_eq!((got.open_time_ms, got.used), (want.open_time_ms, want.used));
            assert_eq!(got.settled(), want.settled());
        }
    }
}
