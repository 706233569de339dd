//! Short candles into longer ones, as they come.

use forecastd_core::Interval;
use forecastd_core::bars::{Bar, BarState, CompactError, compact_bars};

/// Joins bars of one length into bars of another, by [`compact_bars`], with the memory of one.
#[derive(Debug, Clone)]
pub struct Joiner {
    from: Interval,
    to: Interval,
    parts: Vec<Bar>,
    incomplete: u64,
}

impl Joiner {
    /// Creates a joiner from bars of `from` to bars of `to`, which may be the same.
    ///
    /// # Errors
    /// [`CompactError::NotMultiple`].
    pub fn new(from: Interval, to: Interval) -> Result<Self, CompactError> {
        compact_bars(&[], from, to)?;
        Ok(Self { from, to, parts: Vec::new(), incomplete: 0 })
    }

    /// Returns the length of the bars that come out.
    pub const fn interval(&self) -> Interval {
        self.to
    }

    /// Returns how many bars came out that lack a part.
    pub const fn incomplete(&self) -> u64 {
        self.incomplete
    }

    /// Takes the next bar; returns the one that is full, or that no later bar can be a part of.
    ///
    /// # Errors
    /// [`CompactError`] when it is off the grid or not younger than the one before.
    pub fn push(&mut self, bar: Bar) -> Result<Option<Bar>, CompactError> {
        let start_ms = |bar: &Bar| self.to.floor(bar.candle.open_time_ms);
        let is_next = self.parts.first().is_some_and(|first| start_ms(first) < start_ms(&bar));
        let done = if is_next { self.finish()? } else { None };
        self.parts.push(bar);
        // A wrong row is told when it comes, not when its bar is full.
        if let [before, last] =
            self.parts.last_chunk::<2>().map_or(self.parts.as_slice(), |two| two)
            && before.candle.open_time_ms >= last.candle.open_time_ms
        {
            return Err(CompactError::Order(last.candle.open_time_ms));
        }
        Ok(done)
    }

    /// Returns the last bar, if there is one.
    ///
    /// # Errors
    /// As [`Joiner::push`].
    pub fn finish(&mut self) -> Result<Option<Bar>, CompactError> {
        let joined = compact_bars(&self.parts, self.from, self.to)?;
        self.parts.clear();
        let bar = joined.into_iter().next();
        self.incomplete += u64::from(bar.is_some_and(|bar| bar.state > BarState::Backfilled));
        Ok(bar)
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::Candle;
    use proptest::prelude::*;

    use super::*;

    fn bar(minute: i64) -> Bar {
        let close = 1.0 + minute as f64;
        Bar::backfilled(Candle {
            open_time_ms: minute * 60_000,
            open: close,
            high: close,
            low: close,
            close,
            volume: 1.0,
            trade_count: None,
        })
    }

    proptest! {
        #[test]
        fn one_by_one_is_the_same_as_all_at_once(
            minutes in prop::collection::btree_set(0_i64..200, 0..100), factor in 1_i64..8,
        ) {
            let to = Interval::from_ms(factor * 60_000).unwrap();
            let bars: Vec<Bar> = minutes.into_iter().map(bar).collect();
            let mut joiner = Joiner::new(Interval::MINUTE, to).unwrap();
            let mut joined = Vec::new();
            for bar in &bars {
                joined.extend(joiner.push(*bar).unwrap());
            }
            joined.extend(joiner.finish().unwrap());
            let expected = compact_bars(&bars, Interval::MINUTE, to).unwrap();
            let partial = expected.iter().filter(|bar| bar.state == BarState::Partial).count();
            prop_assert_eq!(joined, expected);
            prop_assert_eq!(joiner.incomplete(), partial as u64);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let odd = Interval::from_ms(90_000).unwrap();
        assert!(matches!(
            Joiner::new(Interval::MINUTE, odd),
            Err(CompactError::NotMultiple { .. })
        ));
        let mut joiner = Joiner::new(Interval::MINUTE, Interval::FIVE_MINUTES).unwrap();
        joiner.push(bar(3)).unwrap();
        assert_eq!(joiner.push(bar(2)), Err(CompactError::Order(120_000)));
    }
}
