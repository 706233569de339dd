//! The closed bars of one market, as long as they may still be corrected or asked for.
//!
//! Limits: a stated number of intervals, the oldest are dropped. A bar that was used for a score is
//! frozen: every change of it is refused, also of one that did not exist when the score was made.

use std::collections::BTreeMap;

use super::{Bar, BarState};
use crate::candle::{Candle, CandleError};
use crate::grid::Interval;

/// Longest series, in intervals: two years of minutes.
pub const MAX_SERIES: usize = 1 << 20;

/// What a correction changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// The interval had no bar.
    Inserted,
    /// This bar was replaced.
    Replaced(Bar),
    /// The bar that is there is better, or says the same.
    Kept,
}

/// How many bars a doubt met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubts {
    /// Bars that are partial now.
    pub changed: usize,
    /// Bars that would be, but a score was computed from them.
    pub frozen: usize,
}

/// Why a bar was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// A score was computed from what is there.
    #[error("bar at {0} ms was used for a score and is not changed any more")]
    Frozen(i64),
    /// The bar is older than everything that is kept.
    #[error("bar at {open_time_ms} ms is older than the series, which begins at {first_ms} ms")]
    TooOld {
        /// Open time of the refused bar.
        open_time_ms: i64,
        /// Oldest open time that is kept.
        first_ms: i64,
    },
    /// The candle breaks a rule.
    #[error(transparent)]
    Candle(#[from] CandleError),
}

/// One interval. A frozen one without a bar is a hole that a score has filled from the past.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    bar: Option<Bar>,
    is_frozen: bool,
}

/// Bars by open time, with their freezing marks.
#[derive(Debug, Clone)]
pub struct BarSeries {
    interval: Interval,
    capacity: usize,
    slots: BTreeMap<i64, Slot>,
    /// Nothing before this time is taken any more.
    first_ms: i64,
}

impl BarSeries {
    /// Creates an empty series of at most `capacity` intervals, which is brought into
    /// `1..=MAX_SERIES`.
    pub const fn new(interval: Interval, capacity: usize) -> Self {
        let capacity = if capacity > MAX_SERIES { MAX_SERIES } else { capacity };
        let capacity = if capacity == 0 { 1 } else { capacity };
        Self { interval, capacity, slots: BTreeMap::new(), first_ms: i64::MIN }
    }

    /// Takes a bar that was just closed. One that is there already stays.
    ///
    /// # Errors
    /// [`ChangeError`] when the bar is invalid, too old, or its interval is frozen.
    pub fn record(&mut self, bar: Bar) -> Result<Change, ChangeError> {
        self.put(bar, |there, new| new.state < there.state)
    }

    /// Takes a candle that the exchange gives for an interval.
    ///
    /// It replaces a partial, void or backfilled bar (a later answer wins), never a complete one.
    ///
    /// # Errors
    /// [`ChangeError`] when the candle is invalid, too old, or would change a frozen interval.
    pub fn backfill(&mut self, candle: Candle) -> Result<Change, ChangeError> {
        self.put(Bar::backfilled(candle), |there, new| {
            there.state != BarState::Complete && there != new
        })
    }

    /// Makes the whole bars of `from_ms..to_ms` partial: they may lack trades.
    pub fn doubt(&mut self, from_ms: i64, to_ms: i64) -> Doubts {
        let mut doubts = Doubts::default();
        if from_ms >= to_ms {
            return doubts;
        }
        for slot in self.slots.range_mut(from_ms..to_ms).map(|(_, slot)| slot) {
            let Some(bar) = slot.bar.as_mut().filter(|bar| bar.state.is_whole()) else { continue };
            if slot.is_frozen {
                doubts.frozen += 1;
            } else {
                bar.state = BarState::Partial;
                doubts.changed += 1;
            }
        }
        doubts
    }

    /// Marks that a score was computed from the intervals of `from_ms..to_ms`, with and without
    /// bars; at most as many as the series holds, the youngest ones.
    pub fn freeze(&mut self, from_ms: i64, to_ms: i64) {
        let length_ms =
            self.interval.as_ms().saturating_mul(i64::try_from(self.capacity).unwrap_or(i64::MAX));
        let first_ms = from_ms.max(to_ms.saturating_sub(length_ms)).max(self.first_ms);
        let mut at_ms = self.interval.ceil(first_ms);
        while at_ms < to_ms {
            self.slots.entry(at_ms).or_default().is_frozen = true;
            at_ms += self.interval.as_ms();
        }
        self.drop_oldest();
    }

    /// Returns the bar of one interval.
    pub fn get(&self, open_time_ms: i64) -> Option<&Bar> {
        self.slots.get(&open_time_ms)?.bar.as_ref()
    }

    /// Tells whether a score was computed from this interval.
    pub fn is_frozen(&self, open_time_ms: i64) -> bool {
        self.slots.get(&open_time_ms).is_some_and(|slot| slot.is_frozen)
    }

    /// Returns the bars in rising order of time.
    pub fn bars(&self) -> impl Iterator<Item = &Bar> {
        self.slots.values().filter_map(|slot| slot.bar.as_ref())
    }

    /// Returns the ranges of intervals to fetch within `from_ms..to_ms`: those without a whole bar,
    /// without the frozen ones; oldest first.
    pub fn wanted(&self, from_ms: i64, to_ms: i64) -> Vec<(i64, i64)> {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        let mut at_ms = self.interval.ceil(from_ms.max(self.first_ms));
        while at_ms < to_ms {
            let end_ms = at_ms + self.interval.as_ms();
            let slot = self.slots.get(&at_ms).copied().unwrap_or_default();
            if !slot.is_frozen && !slot.bar.is_some_and(|bar| bar.state.is_whole()) {
                match ranges.last_mut() {
                    Some(last) if last.1 == at_ms => last.1 = end_ms,
                    _ => ranges.push((at_ms, end_ms)),
                }
            }
            at_ms = end_ms;
        }
        ranges
    }

    fn put(&mut self, bar: Bar, is_better: fn(&Bar, &Bar) -> bool) -> Result<Change, ChangeError> {
        bar.candle.validate(self.interval)?;
        let open_time_ms = bar.candle.open_time_ms;
        if open_time_ms < self.first_ms {
            return Err(ChangeError::TooOld { open_time_ms, first_ms: self.first_ms });
        }
        let slot = self.slots.entry(open_time_ms).or_default();
        let change = match slot.bar {
            Some(there) if !is_better(&there, &bar) => return Ok(Change::Kept),
            Some(there) => Change::Replaced(there),
            None => Change::Inserted,
        };
        if slot.is_frozen {
            return Err(ChangeError::Frozen(open_time_ms));
        }
        slot.bar = Some(bar);
        self.drop_oldest();
        Ok(change)
    }

    fn drop_oldest(&mut self) {
        while self.slots.len() > self.capacity
            && let Some((open_time_ms, _)) = self.slots.pop_first()
        {
            self.first_ms = open_time_ms + self.interval.as_ms();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candle(minute: i64, close: f64) -> Candle {
        Candle {
            open_time_ms: minute * 60_000,
            open: close,
            high: close,
            low: close,
            close,
            volume: 1.0,
            trade_count: Some(1),
        }
    }

    fn bar(minute: i64, close: f64, state: BarState) -> Bar {
        Bar { state, ..Bar::backfilled(candle(minute, close)) }
    }

    fn series() -> BarSeries {
        let mut series = BarSeries::new(Interval::MINUTE, 10);
        for (minute, state) in
            [(0, BarState::Complete), (1, BarState::Partial), (2, BarState::Void)]
        {
            assert_eq!(series.record(bar(minute, 5.0, state)), Ok(Change::Inserted));
        }
        series
    }

    #[test]
    fn backfilling_mends_what_is_not_whole_and_nothing_else() {
        let mut series = series();
        assert_eq!(series.wanted(0, 300_000), [(60_000, 300_000)]);
        assert_eq!(series.backfill(candle(0, 6.0)), Ok(Change::Kept), "complete bars stay");
        let partial = bar(1, 5.0, BarState::Partial);
        assert_eq!(series.backfill(candle(1, 6.0)), Ok(Change::Replaced(partial)));
        assert_eq!(series.backfill(candle(1, 6.0)), Ok(Change::Kept), "the same once more");
        let earlier = bar(1, 6.0, BarState::Backfilled);
        assert_eq!(series.backfill(candle(1, 7.0)), Ok(Change::Replaced(earlier)));
        assert_eq!(series.backfill(candle(4, 8.0)), Ok(Change::Inserted));
        assert_eq!(series.wanted(0, 300_000), [(120_000, 240_000)]);
    }

    #[test]
    fn a_frozen_interval_refuses_changes_and_says_so() {
        let mut series = series();
        series.freeze(0, 240_000);
        assert_eq!(series.backfill(candle(1, 6.0)), Err(ChangeError::Frozen(60_000)));
        assert_eq!(series.backfill(candle(3, 6.0)), Err(ChangeError::Frozen(180_000)), "a hole");
        assert_eq!(series.backfill(candle(0, 6.0)), Ok(Change::Kept));
        assert_eq!(series.doubt(0, 600_000), Doubts { changed: 0, frozen: 1 });
        assert_eq!(series.get(0).map(|bar| bar.state), Some(BarState::Complete));
        assert!(series.is_frozen(180_000) && !series.is_frozen(240_000));
        assert_eq!(series.backfill(candle(4, 6.0)), Ok(Change::Inserted));
    }

    #[test]
    fn a_doubted_bar_is_partial_until_it_is_fetched() {
        let mut series = series();
        assert_eq!(series.doubt(0, 120_000), Doubts { changed: 1, frozen: 0 });
        assert_eq!(series.doubt(120_000, 0), Doubts::default());
        assert!(matches!(series.backfill(candle(0, 6.0)), Ok(Change::Replaced(_))));
    }

    #[test]
    fn the_series_keeps_its_bound_and_takes_nothing_older() {
        let mut series = BarSeries::new(Interval::MINUTE, 3);
        for minute in 0..5 {
            series.record(bar(minute, 5.0, BarState::Complete)).unwrap();
        }
        assert_eq!(series.bars().count(), 3);
        let refused = ChangeError::TooOld { open_time_ms: 60_000, first_ms: 120_000 };
        assert_eq!(series.backfill(candle(1, 5.0)), Err(refused));
        series.freeze(i64::MIN, 600_000);
        assert_eq!(series.slots.len(), 3, "freezing keeps the bound too");
        let broken = Candle { high: f64::NAN, ..candle(20, 5.0) };
        assert!(matches!(series.backfill(broken), Err(ChangeError::Candle(_))));
    }
}
