//! Final candles in rising order, each exactly once, across outages. Pure: no sockets, no timers.
//!
//! ```text
//!   told before | next_ms            first held        closed_to(now)
//!   ------------|---- missing -------|--- held --- ...
//! ```
//!
//! Invariants: every final candle that was told opens before `next_ms`; every held one opens at or
//! after it. An interval without a candle is passed over only when a later candle proves that the
//! exchange has none.
//!
//! Where the exchange does not say which candle is final, a later one proves it: the last values that
//! were seen of the earlier one stand, unless something may have been missed in between
//! ([`Continuity::distrust`]). Without a later one, and after anything was missed, the clock decides
//! that it is over and REST what its values are.

use std::collections::BTreeMap;

use forecastd_core::{Candle, Interval};

/// Most final candles that wait for a gap before them; further ones are fetched with the gap.
const MAX_HELD: usize = 1024;

/// A range of open times, `to_ms` not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

/// What to do with a live candle.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Offer {
    /// Tell these final candles, in this order.
    Final(Vec<Candle>),
    /// Tell this forming candle.
    Forming(Candle),
    /// Nothing to tell: known already, or waits for a gap before it.
    Quiet,
    /// It opens after "now": the clock is wrong, or the exchange.
    Future,
}

/// What an answered range leads to.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Filled {
    /// Candles of the range that were not told before.
    pub(crate) backfill: Vec<Candle>,
    /// Live candles that waited for them.
    pub(crate) released: Vec<Candle>,
}

/// The position in the row of final candles.
#[derive(Debug)]
pub(crate) struct Continuity {
    interval: Interval,
    grace_ms: i64,
    next_ms: i64,
    held: BTreeMap<i64, Candle>,
    /// After a (re)subscription: live candles do not count until everything before this is known.
    hold_until_ms: Option<i64>,
    /// The newest candle of an exchange that does not say what is final.
    unmarked: Option<Candle>,
}

impl Continuity {
    /// Starts with the interval that opens at `next_ms` as the first one to tell.
    pub(crate) const fn new(interval: Interval, grace_ms: i64, next_ms: i64) -> Self {
        Self {
            interval,
            grace_ms,
            next_ms,
            held: BTreeMap::new(),
            hold_until_ms: None,
            unmarked: None,
        }
    }

    /// Notes that a subscription begins: every interval that closed before counts as touched.
    pub(crate) fn subscribed(&mut self, now_ms: i64) {
        self.distrust();
        self.hold_until_ms = Some(self.interval.floor(now_ms));
        self.release_hold();
    }

    /// Notes that something may have been missed: what was seen of the running candle is no longer
    /// known to be its last state.
    pub(crate) const fn distrust(&mut self) {
        self.unmarked = None;
    }

    /// Takes a live candle of an exchange that does not say whether it is final.
    pub(crate) fn offer_unmarked(&mut self, candle: Candle, now_ms: i64) -> Vec<Offer> {
        let at = candle.open_time_ms;
        if at > now_ms {
            return vec![Offer::Future];
        }
        match self.unmarked {
            // Late word about a candle that is over.
            Some(newest) if at < newest.open_time_ms => vec![self.offer(candle, true, now_ms)],
            Some(over) if at > over.open_time_ms => {
                self.unmarked = Some(candle);
                vec![self.offer(over, true, now_ms), self.offer(candle, false, now_ms)]
            }
            _ => {
                self.unmarked = Some(candle);
                vec![self.offer(candle, false, now_ms)]
            }
        }
    }

    /// Takes a live candle that the exchange marks as final or forming.
    pub(crate) fn offer(&mut self, candle: Candle, is_final: bool, now_ms: i64) -> Offer {
        let at = candle.open_time_ms;
        if at > now_ms {
            return Offer::Future;
        }
        if at < self.next_ms {
            return Offer::Quiet;
        }
        let is_next = at == self.next_ms && self.hold_until_ms.is_none();
        if !is_final {
            return if is_next { Offer::Forming(candle) } else { Offer::Quiet };
        }
        if is_next {
            self.next_ms = candle.close_time_ms(self.interval);
            let mut finals = vec![candle];
            finals.extend(self.release());
            return Offer::Final(finals);
        }
        if self.held.len() < MAX_HELD {
            self.held.insert(at, candle);
        }
        Offer::Quiet
    }

    /// Returns the range that has to be fetched now, if any.
    pub(crate) fn missing(&self, now_ms: i64) -> Option<Range> {
        let closed_to = self.interval.floor(now_ms);
        let first_held = self.held.keys().next().copied();
        let is_due = self.hold_until_ms.is_some() || first_held.is_some();
        let to_ms = if is_due || now_ms >= self.deadline_ms() {
            closed_to.max(first_held.unwrap_or(closed_to))
        } else {
            return None;
        };
        (self.next_ms < to_ms).then_some(Range { from_ms: self.next_ms, to_ms })
    }

    /// Returns when the next final candle counts as late.
    pub(crate) const fn deadline_ms(&self) -> i64 {
        self.next_ms + self.interval.as_ms() + self.grace_ms
    }

    /// Takes the closed candles that exist in `range`, oldest first.
    ///
    /// A candle behind the range proves nothing about it: it may have come after the question. The
    /// next range reaches over it.
    pub(crate) fn filled(&mut self, range: Range, rows: Vec<Candle>) -> Filled {
        let mut known: BTreeMap<i64, Candle> = BTreeMap::new();
        // Of a candle that came both ways the fetched one, which is the later word, wins.
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() >= range.to_ms {
                break;
            }
            let (at, candle) = entry.remove_entry();
            known.insert(at, candle);
        }
        known.extend(rows.into_iter().map(|candle| (candle.open_time_ms, candle)));
        let told_to = self.next_ms;
        let backfill: Vec<Candle> = known
            .into_values()
            .filter(|candle| (told_to..range.to_ms).contains(&candle.open_time_ms))
            .collect();
        if let Some(last) = backfill.last() {
            self.next_ms = last.close_time_ms(self.interval);
        }
        if self.hold_until_ms.is_some_and(|hold| range.to_ms >= hold) {
            self.hold_until_ms = None;
        }
        let released = if self.hold_until_ms.is_none() { self.release() } else { Vec::new() };
        Filled { backfill, released }
    }

    /// Passes over `range`, which cannot be had, and returns the live candles behind it.
    pub(crate) fn give_up(&mut self, range: Range) -> Vec<Candle> {
        self.next_ms = self.next_ms.max(range.to_ms);
        self.held = self.held.split_off(&self.next_ms);
        self.release_hold();
        if self.hold_until_ms.is_none() { self.release() } else { Vec::new() }
    }

    /// Shortens what lacks to the newest `count` intervals; returns what was cut off.
    pub(crate) fn cap(&mut self, now_ms: i64, count: u32) -> Option<Range> {
        let newest = self.interval.floor(now_ms) - i64::from(count) * self.interval.as_ms();
        if self.next_ms >= newest {
            return None;
        }
        let cut = Range { from_ms: self.next_ms, to_ms: newest };
        self.next_ms = newest;
        self.held = self.held.split_off(&newest);
        Some(cut)
    }

    fn release_hold(&mut self) {
        if self.hold_until_ms.is_some_and(|hold| self.next_ms >= hold) {
            self.hold_until_ms = None;
        }
    }

    /// Takes the held candles that follow `next_ms` without a hole.
    fn release(&mut self) -> Vec<Candle> {
        let mut finals = Vec::new();
        while let Some(candle) = self.held.remove(&self.next_ms) {
            self.next_ms = candle.close_time_ms(self.interval);
            finals.push(candle);
        }
        finals
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: i64 = 60_000;

    fn candle(index: i64) -> Candle {
        Candle {
            open_time_ms: index * STEP,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 0.0,
            trade_count: None,
        }
    }

    fn start(index: i64) -> Continuity {
        Continuity::new(Interval::MINUTE, 5_000, index * STEP)
    }

    fn indexes(candles: &[Candle]) -> Vec<i64> {
        candles.iter().map(|candle| candle.open_time_ms / STEP).collect()
    }

    #[test]
    fn a_row_without_holes_passes_through_once() {
        let mut row = start(0);
        assert_eq!(row.offer(candle(0), false, 30_000), Offer::Forming(candle(0)));
        assert_eq!(row.offer(candle(0), true, STEP), Offer::Final(vec![candle(0)]));
        assert_eq!(row.offer(candle(0), true, STEP), Offer::Quiet);
        assert_eq!(row.offer(candle(1), true, 2 * STEP), Offer::Final(vec![candle(1)]));
        assert_eq!(row.missing(2 * STEP), None);
    }

    #[test]
    fn a_hole_holds_later_candles_until_it_is_filled() {
        let mut row = start(0);
        assert_eq!(row.offer(candle(2), true, 3 * STEP), Offer::Quiet);
        assert_eq!(row.offer(candle(3), false, 3 * STEP + 1), Offer::Quiet);
        let range = row.missing(3 * STEP + 1).unwrap();
        assert_eq!(range, Range { from_ms: 0, to_ms: 3 * STEP });
        let filled = row.filled(range, vec![candle(0), candle(1)]);
        assert_eq!(indexes(&filled.backfill), [0, 1, 2]);
        assert_eq!(row.offer(candle(3), false, 3 * STEP + 1), Offer::Forming(candle(3)));
    }

    #[test]
    fn an_interval_that_the_exchange_lacks_is_passed_over_only_with_proof() {
        let mut row = start(0);
        let range = Range { from_ms: 0, to_ms: 3 * STEP };
        assert_eq!(indexes(&row.filled(range, vec![candle(1)]).backfill), [1]);
        // 0 is proven missing by 1; 2 may still come.
        assert_eq!(
            row.missing(3 * STEP + 5_000),
            Some(Range { from_ms: 2 * STEP, to_ms: 3 * STEP })
        );
        assert_eq!(row.offer(candle(3), true, 4 * STEP), Offer::Quiet);
        let range = row.missing(4 * STEP).unwrap();
        assert_eq!(range.to_ms, 4 * STEP);
        assert_eq!(indexes(&row.filled(range, vec![]).backfill), [3]);
    }

    #[test]
    fn a_subscription_holds_live_candles_until_the_outage_is_filled() {
        let mut row = start(0);
        row.subscribed(2 * STEP + 10);
        assert_eq!(row.offer(candle(0), true, 2 * STEP + 10), Offer::Quiet);
        assert_eq!(row.offer(candle(2), true, 3 * STEP), Offer::Quiet);
        // An answer to a question from before the subscription does not open the gate.
        let early = row.filled(Range { from_ms: 0, to_ms: STEP }, vec![candle(0)]);
        assert_eq!((indexes(&early.backfill), early.released.len()), (vec![0], 0));
        let range = row.missing(3 * STEP).unwrap();
        let filled = row.filled(range, vec![candle(1)]);
        assert_eq!(indexes(&filled.backfill), [1, 2]);
        assert_eq!(row.missing(3 * STEP), None);
    }

    #[test]
    fn a_candle_that_arrives_while_it_is_fetched_is_told_once() {
        let mut row = start(0);
        let range = row.missing(2 * STEP + 5_000).unwrap();
        assert_eq!(row.offer(candle(0), true, 2 * STEP), Offer::Final(vec![candle(0)]));
        let filled = row.filled(range, vec![candle(0), candle(1)]);
        assert_eq!(indexes(&filled.backfill), [1]);
        assert_eq!(row.filled(range, vec![candle(0), candle(1)]), Filled::default());
    }

    #[test]
    fn a_candle_that_arrives_while_others_are_fetched_proves_nothing_about_them() {
        let mut row = start(0);
        let range = row.missing(2 * STEP + 5_000).unwrap();
        assert_eq!(range, Range { from_ms: 0, to_ms: 2 * STEP });
        // Asked before the exchange had 1, answered after 2 came.
        assert_eq!(row.offer(candle(2), true, 3 * STEP), Offer::Quiet);
        let filled = row.filled(range, vec![candle(0)]);
        assert_eq!((indexes(&filled.backfill), filled.released.len()), (vec![0], 0));
        let range = row.missing(3 * STEP).unwrap();
        assert_eq!(range, Range { from_ms: STEP, to_ms: 3 * STEP });
        assert_eq!(indexes(&row.filled(range, vec![candle(1)]).backfill), [1, 2]);
    }

    #[test]
    fn a_subscription_that_touches_nothing_does_not_hold() {
        let mut row = start(2);
        row.subscribed(2 * STEP + 10);
        assert_eq!(row.missing(2 * STEP + 10), None);
        assert_eq!(row.offer(candle(2), false, 2 * STEP + 10), Offer::Forming(candle(2)));
    }

    #[test]
    fn a_late_final_candle_is_asked_for_after_the_grace() {
        let row = start(0);
        assert_eq!(row.missing(STEP + 4_999), None);
        assert_eq!(row.missing(STEP + 5_000), Some(Range { from_ms: 0, to_ms: STEP }));
        assert_eq!(row.deadline_ms(), STEP + 5_000);
    }

    #[test]
    fn a_candle_from_the_future_cannot_move_the_row() {
        let mut row = start(0);
        assert_eq!(row.offer(candle(1_000_000), true, STEP), Offer::Future);
        assert_eq!(row.missing(STEP), None);
    }

    #[test]
    fn what_cannot_be_had_is_passed_over() {
        let mut row = start(0);
        row.subscribed(3 * STEP);
        assert_eq!(row.offer(candle(3), true, 4 * STEP), Offer::Quiet);
        let released = row.give_up(Range { from_ms: 0, to_ms: 3 * STEP });
        assert_eq!(indexes(&released), [3]);
        assert_eq!(row.missing(4 * STEP), None);
    }

    #[test]
    fn a_long_outage_is_cut_to_the_cap() {
        let mut row = start(0);
        assert_eq!(row.cap(50 * STEP, 50), None);
        assert_eq!(row.cap(60 * STEP, 50), Some(Range { from_ms: 0, to_ms: 10 * STEP }));
        assert_eq!(row.missing(60 * STEP + 5_000).unwrap().from_ms, 10 * STEP);
    }

    #[test]
    fn without_a_mark_a_later_candle_makes_the_one_before_final() {
        let mut row = start(0);
        let changed = Candle { volume: 7.0, ..candle(0) };
        assert_eq!(row.offer_unmarked(candle(0), 10), [Offer::Forming(candle(0))]);
        assert_eq!(row.offer_unmarked(changed, 20), [Offer::Forming(changed)]);
        assert_eq!(
            row.offer_unmarked(candle(1), STEP),
            [Offer::Final(vec![changed]), Offer::Forming(candle(1))]
        );
        // A correction comes too late: what was told stands.
        assert_eq!(row.offer_unmarked(candle(0), STEP), [Offer::Quiet]);
        assert_eq!(row.offer_unmarked(candle(9), STEP), [Offer::Future]);
        assert_eq!(row.missing(2 * STEP + 4_999), None);
        let range = row.missing(2 * STEP + 5_000).unwrap();
        assert_eq!(range, Range { from_ms: STEP, to_ms: 2 * STEP });
    }

    #[test]
    fn without_a_mark_a_skipped_interval_is_asked_for() {
        let mut row = start(0);
        assert_eq!(row.offer_unmarked(candle(0), 10), [Offer::Forming(candle(0))]);
        let later = row.offer_unmarked(candle(2), 2 * STEP);
        assert_eq!(later, [Offer::Final(vec![candle(0)]), Offer::Quiet]);
        assert_eq!(row.offer_unmarked(candle(3), 3 * STEP), [Offer::Quiet, Offer::Quiet]);
        let range = row.missing(3 * STEP).unwrap();
        assert_eq!(range, Range { from_ms: STEP, to_ms: 3 * STEP });
        assert_eq!(indexes(&row.filled(range, vec![candle(1)]).backfill), [1, 2]);
    }

    #[test]
    fn what_was_seen_before_a_loss_is_never_taken_for_final() {
        let losses: [fn(&mut Continuity); 2] = [Continuity::distrust, |row| row.subscribed(10)];
        for lose in losses {
            let mut row = start(0);
            assert_eq!(row.offer_unmarked(candle(0), 10), [Offer::Forming(candle(0))]);
            lose(&mut row);
            assert_eq!(row.offer_unmarked(candle(1), STEP), [Offer::Quiet]);
            assert_eq!(row.missing(STEP + 5_000), Some(Range { from_ms: 0, to_ms: STEP }));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Time passes, and the final candle that closed is lost (false) or arrives (true).
        Close(bool),
        Repeat(i64),
        Resubscribe,
        Fetch {
            lag: bool,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => any::<bool>().prop_map(Step::Close),
            1 => (0..40_i64).prop_map(Step::Repeat),
            1 => Just(Step::Resubscribe),
            3 => any::<bool>().prop_map(|lag| Step::Fetch { lag }),
        ];
        prop::collection::vec(step, 1..80)
    }

    proptest! {
        #[test]
        fn whatever_happens_each_existing_candle_is_told_once_in_order(
            steps in steps(),
            holes in prop::collection::btree_set(0..80_i64, 0..12),
        ) {
            let exists = |index: i64| !holes.contains(&index);
            let mut row = start(0);
            let mut told = Vec::new();
            let mut now_index = 0_i64;
            let fetch = |row: &mut Continuity, told: &mut Vec<i64>, now_ms: i64, lag: bool| {
                let Some(range) = row.missing(now_ms) else { return };
                let end = range.to_ms / STEP - i64::from(lag);
                let rows = (range.from_ms / STEP..end).filter(|i| exists(*i)).map(candle).collect();
                let filled = row.filled(range, rows);
                told.extend(indexes(&filled.backfill));
                told.extend(indexes(&filled.released));
            };
            for step in steps {
                let now_ms = now_index * STEP;
                match step {
                    Step::Close(arrives) => {
                        now_index += 1;
                        if arrives && exists(now_index - 1)
                            && let Offer::Final(finals) =
                                row.offer(candle(now_index - 1), true, now_index * STEP)
                        {
                            told.extend(indexes(&finals));
                        }
                    }
                    Step::Repeat(index) => {
                        if exists(index) && index < now_index
                            && let Offer::Final(finals) = row.offer(candle(index), true, now_ms)
                        {
                            told.extend(indexes(&finals));
                        }
                    }
                    Step::Resubscribe => row.subscribed(now_ms),
                    Step::Fetch { lag } => fetch(&mut row, &mut told, now_ms, lag),
                }
            }
            // A last candle that exists, its grace, and an exchange that answers completely.
            let end = 100;
            row.subscribed(end * STEP);
            let now_ms = end * STEP + 5_000;
            fetch(&mut row, &mut told, now_ms, false);
            fetch(&mut row, &mut told, now_ms, false);
            let want: Vec<i64> = (0..end).filter(|index| exists(*index)).collect();
            prop_assert_eq!(told, want);
        }
    }
}
