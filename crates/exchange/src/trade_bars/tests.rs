//! Candles from trades, against what really happened.

use std::collections::BTreeMap;

use forecastd_core::TradeSide;
use proptest::prelude::*;

use super::*;
use crate::numbers::TradeNumbers;

const MINUTE: i64 = 60_000;

fn trade(id: u64, time_ms: i64) -> Trade {
    // Any price and size will do, as long as they differ.
    let (price, size) = (100.0 + (id % 11) as f64, 1.0 + (id % 4) as f64);
    Trade { time_ms, price, size, trade_id: Some(id.into()), side: TradeSide::Buy }
}

/// A market with its numbering, as the feed would drive it.
struct Heard {
    bars: TradeBars,
    numbers: TradeNumbers,
    told: Vec<Candle>,
}

impl Heard {
    fn new() -> Self {
        let bars = TradeBars::new(Interval::MINUTE).unwrap();
        Self { bars, numbers: TradeNumbers::default(), told: Vec::new() }
    }

    /// A heard market from time 0 on, whose newest trade is number 0.
    fn up() -> Self {
        let mut heard = Self::new();
        heard.bars.subscribed();
        heard.named(0, 0);
        heard
    }

    fn trade(&mut self, id: u64, time_ms: i64) {
        let place = self.numbers.take(&(id..=id));
        self.told.extend(self.bars.trade(&trade(id, time_ms), place));
    }

    fn named(&mut self, number: u64, time_ms: i64) {
        let newest = self.numbers.named(number);
        self.told.extend(self.bars.named(time_ms, newest));
    }

    fn minutes(&self) -> Vec<i64> {
        self.told.iter().map(|candle| candle.open_time_ms / MINUTE).collect()
    }
}

#[test]
fn the_first_interval_is_not_told_and_the_next_one_is() {
    let mut heard = Heard::up();
    for (id, time_ms) in [(1, 5), (2, MINUTE), (3, 2 * MINUTE - 1), (4, 2 * MINUTE + 999)] {
        heard.trade(id, time_ms);
    }
    assert_eq!(heard.minutes(), [0_i64; 0], "a trade of the past may still come");
    heard.trade(5, 2 * MINUTE + 1_000);
    assert_eq!(heard.minutes(), [1]);
    let candle = heard.told[0];
    assert_eq!((candle.open, candle.close), (trade(2, 0).price, trade(3, 0).price));
    assert_eq!((candle.volume, candle.trade_count), (3.0 + 4.0, Some(2)));
}

#[test]
fn the_exchanges_word_closes_a_quiet_interval() {
    let mut heard = Heard::up();
    heard.trade(1, MINUTE + 5);
    heard.named(1, 2 * MINUTE + 2_999);
    assert_eq!(heard.minutes(), [0_i64; 0]);
    heard.named(1, 2 * MINUTE + 3_000);
    assert_eq!(heard.minutes(), [1]);
    // Nothing was traded in 2: there is no such candle.
    heard.trade(2, 3 * MINUTE + 5);
    heard.named(2, 4 * MINUTE + 3_000);
    assert_eq!(heard.minutes(), [1, 3]);
}

#[test]
fn what_is_on_its_way_keeps_the_interval_open_and_what_is_lost_spoils_it() {
    let mut heard = Heard::up();
    heard.trade(1, MINUTE + 5);
    heard.named(2, 2 * MINUTE + 3_000);
    assert_eq!(heard.minutes(), [0_i64; 0], "number 2 is of an unknown time");
    heard.named(2, 2 * MINUTE + 4_000);
    // Number 2 may lie anywhere between 1 and 3.
    heard.trade(3, 3 * MINUTE + 1);
    heard.trade(4, 4 * MINUTE + 1_000);
    assert_eq!(heard.minutes(), [0_i64; 0]);
    heard.trade(5, 5 * MINUTE + 1_000);
    assert_eq!(heard.minutes(), [4]);
}

#[test]
fn a_hole_in_the_numbers_spoils_both_sides_of_it() {
    let mut heard = Heard::up();
    heard.trade(1, MINUTE + 5);
    heard.trade(3, 2 * MINUTE + 5);
    heard.trade(4, 3 * MINUTE + 5);
    heard.trade(5, 4 * MINUTE + 5_000);
    assert_eq!(heard.minutes(), [3]);
}

#[test]
fn an_outage_spoils_what_it_touches_and_the_trade_before_the_subscription_counts_once() {
    let mut heard = Heard::up();
    heard.trade(1, MINUTE + 5);
    heard.told.extend(heard.bars.disconnected());
    // The last trade comes again, before and without a word about the newest one.
    heard.bars.subscribed();
    heard.trade(1, MINUTE + 5);
    heard.named(1, 2 * MINUTE + 100);
    heard.trade(2, 3 * MINUTE + 5);
    heard.trade(3, 4 * MINUTE + 5_000);
    assert_eq!(heard.minutes(), [3]);
    assert_eq!(heard.told[0].trade_count, Some(1));
}

#[test]
fn without_the_exchanges_word_nothing_is_told() {
    let mut heard = Heard::new();
    heard.bars.subscribed();
    for id in 1..100 {
        heard.trade(id, i64::try_from(id).unwrap() * 10_000);
    }
    assert_eq!(heard.minutes(), [0_i64; 0]);
}

#[test]
fn an_absurd_number_costs_some_candles_and_not_all_later_ones() {
    let mut heard = Heard::up();
    heard.trade(1, MINUTE + 5);
    heard.trade(u64::MAX - 1, MINUTE + 6);
    heard.trade(2, MINUTE + 7);
    heard.named(2, MINUTE + 900);
    heard.trade(3, 2 * MINUTE + 5);
    heard.trade(4, 3 * MINUTE + 5_000);
    assert_eq!(heard.minutes(), [2]);
}

#[derive(Debug, Clone)]
enum Step {
    /// A trade so many milliseconds after the one before, which arrives or not.
    Trade {
        after_ms: i64,
        arrives: bool,
    },
    /// The exchange's word so many milliseconds after the last event.
    Named {
        after_ms: i64,
    },
    Unreadable,
    Outage {
        trades: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..20_000_i64).prop_map(|after_ms| Step::Trade { after_ms, arrives: true }),
        1 => (0..20_000_i64).prop_map(|after_ms| Step::Trade { after_ms, arrives: false }),
        6 => (0..5_000_i64).prop_map(|after_ms| Step::Named { after_ms }),
        1 => Just(Step::Unreadable),
        1 => (0..4_u64).prop_map(|trades| Step::Outage { trades }),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn only_the_truth_is_told_and_in_order(steps in steps()) {
        let mut heard = Heard::up();
        let mut truth: BTreeMap<i64, Vec<Trade>> = BTreeMap::new();
        let (mut now_ms, mut number) = (0, 0);
        for step in steps {
            match step {
                Step::Trade { after_ms, arrives } => {
                    now_ms += after_ms;
                    number += 1;
                    truth.entry(now_ms / MINUTE).or_default().push(trade(number, now_ms));
                    if arrives {
                        heard.trade(number, now_ms);
                    }
                }
                Step::Named { after_ms } => {
                    now_ms += after_ms;
                    heard.named(number, now_ms);
                }
                Step::Unreadable => heard.told.extend(heard.bars.doubt()),
                Step::Outage { trades } => {
                    heard.told.extend(heard.bars.disconnected());
                    for _ in 0..trades {
                        now_ms += 7_000;
                        number += 1;
                        truth.entry(now_ms / MINUTE).or_default().push(trade(number, now_ms));
                    }
                    heard.bars.subscribed();
                    let last = truth.values().flatten().last().cloned();
                    if let Some(last) = last {
                        heard.trade(number, last.time_ms);
                    }
                    heard.named(number, now_ms);
                }
            }
        }
        prop_assert!(heard.minutes().is_sorted_by(|a, b| a < b));
        for candle in &heard.told {
            let trades = &truth[&(candle.open_time_ms / MINUTE)];
            let prices = || trades.iter().map(|trade| trade.price);
            let want = Candle {
                open_time_ms: candle.open_time_ms,
                open: trades[0].price,
                high: prices().fold(0.0, f64::max),
                low: prices().fold(f64::MAX, f64::min),
                close: trades[trades.len() - 1].price,
                volume: trades.iter().map(|trade| trade.size).sum(),
                trade_count: Some(trades.len() as u64),
            };
            prop_assert_eq!(*candle, want);
        }
    }
}
