//! One bar that still takes trades, in constant memory.
//!
//! Open, high, low, close need no memory of the trades: the first and the last one by (time, id)
//! and the extremes are enough. The volume is summed exactly in integers, so the order in which the
//! trades arrive cannot change a bit of it.

use super::{Bar, BarState, NumberedTrade};
use crate::candle::Candle;
use crate::grid::Interval;

/// Volumes are counted in units of 2^-80: exact for every size from 2^-28 (3.7e-9) up, so for each
/// whole satoshi; a smaller size is rounded once to the nearest unit, whatever arrives before it.
const UNIT_EXPONENT: i32 = 80;
/// 2^-80.
const UNIT: f64 = f64::from_bits((1023 - UNIT_EXPONENT as u64) << 52);

const MANTISSA_BITS: u32 = 52;
/// Exponent field of a double whose mantissa, read as an integer, counts units.
const EXPONENT_OF_UNIT: i32 = 1023 + MANTISSA_BITS.cast_signed() - UNIT_EXPONENT;

/// Returns a size of `0..=MAX_SIZE` in units, at most 2^121.
#[inline]
const fn to_units(size: f64) -> u128 {
    let bits = size.to_bits();
    let mantissa = (bits & ((1 << MANTISSA_BITS) - 1)) | (1 << MANTISSA_BITS);
    let shift = (bits >> MANTISSA_BITS) as i32 - EXPONENT_OF_UNIT;
    if shift >= 0 {
        (mantissa as u128) << shift
    } else if shift > -(MANTISSA_BITS.cast_signed() + 2) {
        let down = shift.unsigned_abs();
        ((mantissa + (1 << (down - 1))) >> down) as u128
    } else {
        0
    }
}

/// Returns units as a double, rounded once to nearest.
const fn from_units(units: u128) -> f64 {
    units as f64 * UNIT
}

/// A bar that still takes trades.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenBar {
    /// First millisecond of the interval.
    pub(super) open_time_ms: i64,
    /// Time and id of the first trade.
    first: (i64, u64),
    /// Time and id of the last trade.
    last: (i64, u64),
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume_units: u128,
    trade_count: u64,
    /// Hull of what was not heard of the interval, `from..to`; nothing where `from >= to`.
    missed_from_ms: i64,
    missed_to_ms: i64,
    /// Trades were lost, and it is not known any more which.
    pub(super) has_lost: bool,
    /// Something that was missed has been fetched.
    pub(super) is_filled: bool,
}

impl OpenBar {
    /// Creates a bar without a trade.
    pub(super) const fn empty(open_time_ms: i64) -> Self {
        Self {
            open_time_ms,
            first: (i64::MAX, u64::MAX),
            last: (i64::MIN, 0),
            open: 0.0,
            high: f64::NEG_INFINITY,
            low: f64::INFINITY,
            close: 0.0,
            volume_units: 0,
            trade_count: 0,
            missed_from_ms: i64::MAX,
            missed_to_ms: i64::MIN,
            has_lost: false,
            is_filled: false,
        }
    }

    /// Takes a bounded trade of this interval at its place by (time, id).
    #[inline]
    pub(super) fn apply(&mut self, trade: &NumberedTrade) {
        let key = (trade.time_ms, trade.id);
        if key < self.first {
            self.first = key;
            self.open = trade.price;
        }
        if key > self.last {
            self.last = key;
            self.close = trade.price;
        }
        if trade.price > self.high {
            self.high = trade.price;
        }
        if trade.price < self.low {
            self.low = trade.price;
        }
        self.volume_units = self.volume_units.saturating_add(to_units(trade.size));
        self.trade_count += 1;
    }

    /// Marks that `from_ms..to_ms` was not heard, as far as it touches `open..end_ms`.
    pub(super) fn miss(&mut self, from_ms: i64, to_ms: i64, end_ms: i64) {
        let (from_ms, to_ms) = (from_ms.max(self.open_time_ms), to_ms.min(end_ms));
        if from_ms < to_ms {
            self.missed_from_ms = self.missed_from_ms.min(from_ms);
            self.missed_to_ms = self.missed_to_ms.max(to_ms);
        }
    }

    /// Marks that every trade of `from_ms..to_ms` has been fetched and given.
    pub(super) fn fetched(&mut self, from_ms: i64, to_ms: i64, end_ms: i64) {
        if self.has_missed() && from_ms <= self.missed_from_ms && self.missed_to_ms <= to_ms {
            self.missed_from_ms = i64::MAX;
            self.missed_to_ms = i64::MIN;
            self.is_filled = true;
        }
        if self.has_lost && from_ms <= self.open_time_ms && end_ms <= to_ms {
            self.has_lost = false;
            self.is_filled = true;
        }
    }

    /// Ends the bar. `has_gap`: ids of trades that may belong to it never came. `previous`: the
    /// candle before it; without one an interval without trades has no price and gives nothing.
    pub(super) fn close(
        &self,
        interval: Interval,
        has_gap: bool,
        previous: Option<&Candle>,
    ) -> Option<Bar> {
        let end_ms = self.open_time_ms + interval.as_ms();
        let heard_nothing = self.missed_from_ms <= self.open_time_ms && self.missed_to_ms >= end_ms;
        let is_flat = self.trade_count == 0;
        let state = if is_flat && heard_nothing {
            BarState::Void
        } else if self.has_missed() || self.has_lost || has_gap {
            BarState::Partial
        } else if self.is_filled {
            BarState::Backfilled
        } else {
            BarState::Complete
        };
        if is_flat {
            let candle = previous?.flat_after(self.open_time_ms);
            return Some(Bar { candle, state, is_flat, first_id: None, last_id: None });
        }
        let candle = Candle {
            open_time_ms: self.open_time_ms,
            open: self.open,
            high: self.high,
            low: self.low,
            close: self.close,
            volume: from_units(self.volume_units),
            trade_count: Some(self.trade_count),
        };
        let (first_id, last_id) = (Some(self.first.1), Some(self.last.1));
        Some(Bar { candle, state, is_flat, first_id, last_id })
    }

    const fn has_missed(&self) -> bool {
        self.missed_from_ms < self.missed_to_ms
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bars::{MAX_SIZE, MAX_VOLUME};
    use crate::numeric::exact_sum;

    #[test]
    fn sizes_survive_the_way_to_units_and_back() {
        for size in [0.0, 1e-8, 0.000_276_25, 1.0, 0.1, 21e6, MAX_SIZE, 3.8e-9] {
            assert_eq!(from_units(to_units(size)).to_bits(), size.to_bits(), "{size}");
        }
        assert_eq!(to_units(f64::MIN_POSITIVE), 0);
        assert_eq!(to_units(5e-324), 0);
        assert_eq!(to_units(UNIT), 1);
        assert_eq!(to_units(UNIT * 0.5), 1, "a half is rounded up");
        assert_eq!(to_units(UNIT * 0.25), 0);
    }

    #[test]
    fn a_sum_beyond_every_bound_stops() {
        let mut bar = OpenBar::empty(0);
        for id in 0..1000 {
            bar.apply(&NumberedTrade { time_ms: 0, id, price: 1.0, size: MAX_SIZE });
        }
        let bar = bar.close(Interval::MINUTE, false, None).unwrap();
        assert_eq!(bar.candle.volume.to_bits(), MAX_VOLUME.to_bits());
    }

    #[test]
    fn a_hole_is_filled_only_by_a_fetch_that_covers_it() {
        let mut bar = OpenBar::empty(60_000);
        bar.apply(&NumberedTrade { time_ms: 60_000, id: 1, price: 1.0, size: 1.0 });
        let state = |bar: &OpenBar| bar.close(Interval::MINUTE, false, None).unwrap().state;
        assert_eq!(state(&bar), BarState::Complete);
        bar.miss(0, 60_000, 120_000);
        assert_eq!(state(&bar), BarState::Complete, "the hole ends where the bar begins");
        bar.miss(70_000, 80_000, 120_000);
        assert_eq!(state(&bar), BarState::Partial);
        bar.fetched(70_001, 90_000, 120_000);
        assert_eq!(state(&bar), BarState::Partial);
        bar.fetched(60_000, 80_000, 120_000);
        assert_eq!(state(&bar), BarState::Backfilled);
    }

    proptest! {
        #[test]
        fn the_volume_is_the_exact_sum_in_any_order(
            mut sizes in prop::collection::vec(1e-8_f64..1e6, 1..60),
        ) {
            let expected = exact_sum(&sizes);
            for _ in 0..2 {
                let units = sizes.iter().fold(0, |sum: u128, size| sum + to_units(*size));
                prop_assert_eq!(from_units(units).to_bits(), expected.to_bits());
                sizes.reverse();
            }
        }
    }
}
