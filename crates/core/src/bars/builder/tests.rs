use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::bars::{Bar, BarSeries, BarState};
use crate::grid::Interval;
use crate::numeric::exact_sum;

const MINUTE_MS: i64 = 60_000;

/// A builder with everything it told.
struct Bench {
    builder: BarBuilder,
    events: Vec<BarEvent>,
}

impl Bench {
    /// A clock that only the test moves refuses nothing for being ahead of it.
    fn new(rules: BarRules) -> Self {
        let rules = BarRules { ahead_ms: Interval::MAX_MS, ..rules };
        Self { builder: BarBuilder::new(rules).unwrap(), events: Vec::new() }
    }

    /// Consecutive ids in order, the link up since long ago.
    fn connected() -> Self {
        let mut bench = Self::new(BarRules::in_order(Interval::MINUTE, IdRule::Consecutive));
        bench.link(true, 0);
        bench
    }

    fn trade(&mut self, id: u64, secs: i64, price: f64) -> TradeOutcome {
        let trade = NumberedTrade { time_ms: secs * 1000, id, price, size: 1.0 };
        self.builder.trade(&trade, &mut |event| self.events.push(event))
    }

    fn link(&mut self, is_up: bool, secs: i64) {
        let mut sink = |event| self.events.push(event);
        if is_up {
            self.builder.connected(secs * 1000, &mut sink);
        } else {
            self.builder.disconnected(secs * 1000, &mut sink);
        }
    }

    fn tick(&mut self, secs: i64) {
        self.builder.tick(secs * 1000, &mut |event| self.events.push(event));
    }

    fn bars(&self) -> Vec<Bar> {
        let closed = |event: &BarEvent| match event {
            BarEvent::Closed(bar) => Some(*bar),
            _ => None,
        };
        self.events.iter().filter_map(closed).collect()
    }

    /// Minute, state and flatness of each closed bar.
    fn seen(&self) -> Vec<(i64, BarState, bool)> {
        let of = |bar: &Bar| (bar.candle.open_time_ms / MINUTE_MS, bar.state, bar.is_flat);
        self.bars().iter().map(of).collect()
    }
}

use BarState::{Backfilled, Complete, Partial, Void};

#[test]
fn a_later_trade_or_the_clock_closes_a_bar_and_empty_ones_are_flat() {
    let mut bench = Bench::connected();
    for (id, secs, price) in [(1, 70, 10.0), (2, 80, 12.0), (3, 85, 8.0), (4, 119, 9.0)] {
        assert_eq!(bench.trade(id, secs, price), TradeOutcome::Applied);
    }
    assert!(bench.events.is_empty());
    bench.trade(5, 240, 11.0);
    assert_eq!(bench.seen(), [(1, Complete, false), (2, Complete, true), (3, Complete, true)]);
    let (bar, flat) = (bench.bars()[0], bench.bars()[1]);
    let candle = bar.candle;
    assert_eq!((candle.open, candle.high, candle.low, candle.close), (10.0, 12.0, 8.0, 9.0));
    assert_eq!((candle.volume, candle.trade_count), (4.0, Some(4)));
    assert_eq!((bar.first_id, bar.last_id), (Some(1), Some(4)));
    assert_eq!((flat.candle.open, flat.candle.trade_count, flat.first_id), (9.0, Some(0), None));
    bench.tick(302);
    assert_eq!(bench.bars().len(), 3, "within the grace");
    bench.tick(303);
    assert_eq!(bench.bars().len(), 4);
    bench.tick(200);
    assert_eq!(bench.bars().len(), 4, "a clock that went back");
}

#[test]
fn the_bar_in_which_the_link_came_up_is_partial_unless_it_is_fetched() {
    for (fetched, state) in
        [(None, Partial), (Some((60, 120)), Backfilled), (Some((60, 90)), Partial)]
    {
        let mut bench = Bench::new(BarRules::in_order(Interval::MINUTE, IdRule::Consecutive));
        bench.link(true, 100);
        bench.trade(1, 101, 10.0);
        if let Some((from, to)) = fetched {
            bench.trade(0, 70, 9.0);
            bench.builder.fetched(from * 1000, to * 1000);
        }
        bench.trade(2, 120, 10.0);
        bench.trade(3, 180, 10.0);
        assert_eq!(bench.seen(), [(1, state, false), (2, Complete, false)], "{fetched:?}");
    }
    let mut never_up = Bench::new(BarRules::in_order(Interval::MINUTE, IdRule::Consecutive));
    never_up.trade(1, 60, 10.0);
    never_up.trade(2, 120, 10.0);
    assert_eq!(never_up.seen(), [(1, Partial, false)]);
}

#[test]
fn an_outage_makes_the_bars_it_touches_partial_or_void_and_is_told_once() {
    let mut bench = Bench::connected();
    bench.trade(1, 60, 10.0);
    bench.tick(90);
    bench.link(false, 130);
    bench.link(false, 140);
    bench.link(true, 310);
    bench.link(true, 320);
    bench.trade(2, 330, 11.0);
    bench.trade(3, 420, 11.0);
    let expected = [
        (1, Partial, false),
        (2, Partial, true),
        (3, Void, true),
        (4, Void, true),
        (5, Partial, false),
        (6, Complete, true),
    ];
    // Minute 1 ended before the outage, but within the grace nobody knows what was on its way.
    assert_eq!(bench.seen()[1..], expected[1..]);
    let outage = BarEvent::Outage { from_ms: 130_000, to_ms: 310_000 };
    let told = bench.events.iter().filter(|event| matches!(event, BarEvent::Outage { .. }));
    assert_eq!(told.collect::<Vec<_>>(), [&outage]);
    assert_eq!(bench.builder.counters().outages, 1);
}

#[test]
fn quiet_is_not_disconnected() {
    let mut bench = Bench::connected();
    bench.trade(1, 60, 10.0);
    for secs in 61..600 {
        bench.tick(secs);
    }
    bench.trade(2, 600, 10.0);
    assert!(bench.seen().iter().all(|bar| bar.1 == Complete));
    assert_eq!(bench.bars().len(), 9);
}

#[test]
fn an_outage_that_is_noticed_late_casts_doubt_on_closed_bars() {
    let mut bench = Bench::connected();
    bench.trade(1, 60, 10.0);
    bench.tick(300);
    assert_eq!(bench.bars().len(), 3, "minutes 1 to 3");
    bench.link(false, 150);
    let doubt = BarEvent::Doubted { from_ms: 120_000, to_ms: 240_000 };
    assert_eq!(bench.events.last(), Some(&doubt));
    bench.link(true, 310);
    bench.trade(2, 370, 10.0);
    assert_eq!(bench.seen()[3..], [(4, Void, true), (5, Partial, true)]);
}

#[test]
fn a_jump_of_ids_makes_every_bar_partial_that_may_lack_the_trades() {
    let mut bench = Bench::connected();
    bench.trade(1, 60, 10.0);
    bench.trade(2, 130, 10.0);
    bench.trade(5, 200, 10.0);
    bench.trade(6, 240, 10.0);
    assert_eq!(bench.seen(), [(1, Complete, false), (2, Partial, false), (3, Partial, false)]);
    assert_eq!(bench.builder.counters().lost, 2);
    // The clock closed minutes 4 and 5 before the jump was known.
    bench.tick(363);
    assert_eq!(bench.seen()[3..], [(4, Complete, false), (5, Complete, true)]);
    bench.trade(9, 370, 10.0);
    let doubt = BarEvent::Doubted { from_ms: 240_000, to_ms: 360_000 };
    assert_eq!(bench.events.last(), Some(&doubt));
    bench.trade(10, 420, 10.0);
    assert_eq!(bench.seen()[5], (6, Partial, false));
}

#[test]
fn ids_that_the_exchange_does_not_have_are_no_loss_once_it_was_asked() {
    let mut bench = Bench::connected();
    bench.trade(1, 60, 10.0);
    bench.trade(3, 70, 10.0);
    bench.builder.fetched(60_000, 71_000);
    bench.trade(4, 120, 10.0);
    assert_eq!(bench.seen(), [(1, Backfilled, false)]);
}

#[test]
fn a_late_trade_is_counted_and_casts_doubt_but_changes_nothing() {
    let mut bench = Bench::connected();
    bench.trade(1, 60, 10.0);
    bench.tick(130);
    let before = bench.bars();
    assert_eq!(bench.trade(2, 119, 99.0), TradeOutcome::Late);
    assert_eq!(bench.bars(), before);
    let doubt = BarEvent::Doubted { from_ms: 60_000, to_ms: 120_000 };
    assert_eq!(bench.events.last(), Some(&doubt));
    assert_eq!(bench.trade(2, 119, 99.0), TradeOutcome::Duplicate);
    let counters = bench.builder.counters();
    assert_eq!((counters.applied, counters.late, counters.duplicates), (1, 1, 1));
}

#[test]
fn absurd_trades_are_refused() {
    let mut bench = Bench::connected();
    bench.builder.rules.ahead_ms = MINUTE_MS;
    bench.tick(100);
    assert_eq!(bench.trade(1, 161, 10.0), TradeOutcome::Refused, "a minute ahead of the clock");
    assert_eq!(bench.trade(1, 100, f64::NAN), TradeOutcome::Refused);
    assert_eq!(bench.trade(1, 100, 10.0), TradeOutcome::Applied);
    assert_eq!(bench.trade(2, 101, -1.0), TradeOutcome::Refused);
    bench.trade(3, 102, 10.0);
    bench.trade(4, 120, 10.0);
    assert_eq!(bench.seen(), [(1, Partial, false)], "the refused trade is missing");
}

#[test]
fn ids_that_begin_anew_do_not_stop_the_bars() {
    let mut bench = Bench::connected();
    bench.trade(1_000, 60, 10.0);
    bench.trade(1_001, 61, 10.0);
    assert_eq!(bench.trade(5, 250, 11.0), TradeOutcome::Applied);
    bench.trade(6, 300, 11.0);
    bench.trade(7, 360, 11.0);
    let states: Vec<_> = bench.seen().iter().map(|bar| bar.1).collect();
    assert_eq!(states, [Partial, Partial, Partial, Partial, Complete]);
    assert_eq!(bench.builder.counters().id_restarts, 1);
}

#[test]
fn a_silence_beyond_every_bound_begins_anew() {
    let mut bench = Bench::connected();
    bench.trade(1, 60, 10.0);
    let far = 60 * (MAX_EMPTY_RUN + 10);
    bench.tick(far);
    assert_eq!(bench.seen(), [(1, Complete, false)]);
    assert!(matches!(bench.events.last(), Some(BarEvent::Skipped { from_ms: 120_000, .. })));
    assert_eq!(bench.trade(2, 120, 10.0), TradeOutcome::Late);
    assert_eq!(bench.trade(3, far, 10.0), TradeOutcome::Applied);
    bench.trade(4, far + 60, 10.0);
    assert_eq!(bench.seen()[1].1, Partial);
    bench.builder.tick(i64::MAX, &mut |_| {});
    bench.builder.connected(i64::MIN, &mut |_| {});
    bench.builder.disconnected(i64::MAX, &mut |_| {});
}

#[test]
fn rules_out_of_bounds_are_refused() {
    let good = BarRules::in_order(Interval::MINUTE, IdRule::Unique { remembered: 10 });
    assert_eq!(good.validate(), Ok(()));
    let wait = BarRules { reorder_ms: 63 * MINUTE_MS, ..good };
    assert_eq!(
        BarBuilder::new(wait).unwrap_err().to_string(),
        "reorder_ms is 3780000 ms, must be 0..3720000 ms for this interval"
    );
    assert!(BarBuilder::new(BarRules { grace_ms: -1, ..good }).is_err());
    assert!(BarBuilder::new(BarRules { ahead_ms: -1, ..good }).is_err());
    let ids = IdRule::Unique { remembered: 0 };
    assert!(BarBuilder::new(BarRules { ids, ..good }).is_err());
}

/// Trades with consecutive ids whose times never fall.
fn market() -> impl Strategy<Value = Vec<NumberedTrade>> {
    let step =
        (prop_oneof![Just(0_i64), 0..3_000_i64, 0..200_000_i64], 1.0_f64..1e5, 1e-8_f64..1e3);
    prop::collection::vec(step, 2..120).prop_map(|steps| {
        let mut time_ms = 600_000;
        let place = |(index, (pause_ms, price, size)): (usize, (i64, f64, f64))| {
            time_ms += pause_ms;
            NumberedTrade { time_ms, id: 500 + index as u64, price, size }
        };
        steps.into_iter().enumerate().map(place).collect()
    })
}

/// The bars of the trades by definition, as far as a last trade or clock closes them.
fn bars_by_definition(trades: &[NumberedTrade], end_ms: i64) -> Vec<Candle> {
    let mut groups: BTreeMap<i64, Vec<&NumberedTrade>> = BTreeMap::new();
    for trade in trades {
        groups.entry(Interval::MINUTE.floor(trade.time_ms)).or_default().push(trade);
    }
    let mut candles: Vec<Candle> = Vec::new();
    let mut at_ms = Interval::MINUTE.floor(trades[0].time_ms);
    while at_ms + MINUTE_MS <= end_ms {
        if let Some(group) = groups.get(&at_ms) {
            let prices = || group.iter().map(|trade| trade.price);
            candles.push(Candle {
                open_time_ms: at_ms,
                open: group[0].price,
                high: prices().fold(0.0, f64::max),
                low: prices().fold(f64::INFINITY, f64::min),
                close: group[group.len() - 1].price,
                volume: exact_sum(&group.iter().map(|trade| trade.size).collect::<Vec<_>>()),
                trade_count: Some(group.len() as u64),
            });
        } else {
            candles.push(candles[candles.len() - 1].flat_after(at_ms));
        }
        at_ms += MINUTE_MS;
    }
    candles
}

/// Runs arrivals through a builder and a series; the clock shows the time of each arrival.
fn run(rules: BarRules, arrivals: &[(i64, NumberedTrade)], end_ms: i64) -> (Vec<Bar>, BarCounters) {
    let mut builder = BarBuilder::new(rules).unwrap();
    let mut series = BarSeries::new(rules.interval, 10_000);
    let mut sink = |event: BarEvent| match event {
        BarEvent::Closed(bar) => {
            series.record(bar).unwrap();
        }
        BarEvent::Doubted { from_ms, to_ms } => {
            series.doubt(from_ms, to_ms);
        }
        BarEvent::Outage { .. } | BarEvent::Skipped { .. } => {}
    };
    builder.connected(0, &mut sink);
    for (now_ms, trade) in arrivals {
        builder.tick(*now_ms, &mut sink);
        builder.trade(trade, &mut sink);
        assert!(builder.open_bars() <= MAX_OPEN_BARS);
    }
    builder.tick(end_ms + rules.grace_ms, &mut sink);
    (series.bars().copied().collect(), builder.counters())
}

proptest! {
    #[test]
    fn duplicates_and_reordered_trades_change_nothing(
        trades in market(),
        delays in prop::collection::vec((0..=5_000_i64, 0..=5_000_i64, any::<bool>()), 120),
        has_consecutive_ids in any::<bool>(),
    ) {
        let ids = if has_consecutive_ids {
            IdRule::Consecutive
        } else {
            IdRule::Unique { remembered: 1000 }
        };
        let end_ms = trades[trades.len() - 1].time_ms + MINUTE_MS;
        let rules = BarRules { reorder_ms: 5_000, grace_ms: 6_000, ..BarRules::in_order(Interval::MINUTE, ids) };
        let mut arrivals = Vec::new();
        for (trade, (delay_ms, again_ms, is_twice)) in trades.iter().zip(&delays) {
            arrivals.push((trade.time_ms + delay_ms, *trade));
            if *is_twice {
                arrivals.push((trade.time_ms + again_ms, *trade));
            }
        }
        arrivals.sort_by_key(|(at_ms, _)| *at_ms);
        let (bars, counters) = run(rules, &arrivals, end_ms);
        let candles: Vec<Candle> = bars.iter().map(|bar| bar.candle).collect();
        prop_assert_eq!(candles, bars_by_definition(&trades, end_ms));
        prop_assert!(bars.iter().all(|bar| bar.state == Complete));
        prop_assert_eq!(counters.applied, trades.len() as u64);
        prop_assert_eq!(counters.duplicates, (arrivals.len() - trades.len()) as u64);
        prop_assert_eq!((counters.late, counters.refused, counters.lost), (0, 0, 0));
    }

    #[test]
    fn every_bar_that_lacks_a_trade_is_partial(
        trades in market(),
        fates in prop::collection::vec((0..=2_000_i64, 0..10_u8), 120),
    ) {
        let end_ms = trades[trades.len() - 1].time_ms + MINUTE_MS;
        let rules = BarRules {
            reorder_ms: 2_000,
            ..BarRules::in_order(Interval::MINUTE, IdRule::Consecutive)
        };
        let last = trades.len() - 1;
        let mut arrivals = Vec::new();
        let mut hurt = BTreeSet::new();
        for (index, (trade, (delay_ms, fate))) in trades.iter().zip(&fates).enumerate() {
            // The first and last are kept: nothing is known of ids beyond them.
            if *fate == 0 && index > 0 && index < last {
                hurt.insert(Interval::MINUTE.floor(trade.time_ms));
            } else {
                arrivals.push((trade.time_ms + delay_ms, *trade));
            }
        }
        arrivals.sort_by_key(|(at_ms, _)| *at_ms);
        let (bars, counters) = run(rules, &arrivals, end_ms);
        let begin_ms = bars[0].candle.open_time_ms;
        let whole: BTreeMap<i64, Candle> =
            bars_by_definition(&trades, end_ms).iter().map(|c| (c.open_time_ms, *c)).collect();
        for bar in &bars {
            let at_ms = bar.candle.open_time_ms;
            if hurt.contains(&at_ms) {
                prop_assert_eq!(bar.state, Partial, "{}", at_ms);
            } else if bar.state == Complete && !bar.is_flat {
                prop_assert_eq!(Some(&bar.candle), whole.get(&at_ms));
            }
        }
        prop_assert!(begin_ms >= Interval::MINUTE.floor(trades[0].time_ms));
        prop_assert_eq!(counters.applied + counters.late, arrivals.len() as u64);
        prop_assert_eq!(counters.lost, (trades.len() - arrivals.len()) as u64);
    }

    #[test]
    fn whatever_comes_the_bars_are_valid_and_without_holes(
        steps in prop::collection::vec(
            (0..6_u8, 0..5_000_000_i64, 0..200_u64, prop_oneof![Just(f64::NAN), -1.0..1e6_f64]),
            1..200,
        ),
        reorder_ms in 0..100_000_i64,
    ) {
        let rules = BarRules {
            reorder_ms,
            ..BarRules::in_order(Interval::MINUTE, IdRule::Consecutive)
        };
        let mut builder = BarBuilder::new(rules).unwrap();
        let mut bars: Vec<Bar> = Vec::new();
        let mut sink = |event: BarEvent| if let BarEvent::Closed(bar) = event { bars.push(bar) };
        for (kind, time_ms, id, price) in steps {
            match kind {
                0 => builder.connected(time_ms, &mut sink),
                1 => builder.disconnected(time_ms, &mut sink),
                2 => builder.tick(time_ms, &mut sink),
                3 => builder.fetched(time_ms, time_ms + 200_000),
                _ => {
                    builder.trade(&NumberedTrade { time_ms, id, price, size: price }, &mut sink);
                }
            }
            prop_assert!(builder.open_bars() <= MAX_OPEN_BARS);
        }
        for pair in bars.windows(2) {
            prop_assert_eq!(pair[0].candle.open_time_ms + MINUTE_MS, pair[1].candle.open_time_ms);
        }
        for bar in &bars {
            prop_assert_eq!(bar.candle.validate(Interval::MINUTE), Ok(()));
            prop_assert_eq!(bar.is_flat, bar.candle.trade_count == Some(0));
        }
    }
}
