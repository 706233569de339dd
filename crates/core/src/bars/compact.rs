//! Short bars into longer ones, without a loss of what is known about them.

use super::{Bar, BarState};
use crate::candle::Candle;
use crate::features::compact;
use crate::grid::Interval;

/// Why bars cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// The longer interval is not a multiple of the shorter one.
    #[error("bars of {from} cannot become bars of {to}, must be a multiple")]
    NotMultiple {
        /// Length of the parts.
        from: Interval,
        /// The refused length.
        to: Interval,
    },
    /// An open time does not lie on the grid of the parts.
    #[error("bar at {open_time_ms} ms is not on the grid of {from}")]
    OffGrid {
        /// The refused open time.
        open_time_ms: i64,
        /// The grid it should lie on.
        from: Interval,
    },
    /// Times do not rise.
    #[error("bar at {0} ms comes after one that is not older, must be in rising order")]
    Order(i64),
}

/// Joins bars of `from` in rising order of time into bars of `to`.
///
/// First open, highest high, lowest low, last close, exact sum of the volumes, sum of the counts;
/// flat parts lend their prices only to a bar that has no other part, because a price that nobody
/// traded at is none of an exchange's longer candle. The state is the worst of the parts, and at
/// least partial where a part is missing. An interval without any part gives no bar.
///
/// # Errors
/// [`CompactError`] when the lengths do not fit or the bars are not on the grid in rising order.
pub fn compact_bars(bars: &[Bar], from: Interval, to: Interval) -> Result<Vec<Bar>, CompactError> {
    let parts_of_whole = usize::try_from(to.as_ms() / from.as_ms()).unwrap_or(usize::MAX);
    if to.as_ms() % from.as_ms() != 0 {
        return Err(CompactError::NotMultiple { from, to });
    }
    let mut before_ms = i64::MIN;
    for open_time_ms in bars.iter().map(|bar| bar.candle.open_time_ms) {
        if !from.is_aligned(open_time_ms) {
            return Err(CompactError::OffGrid { open_time_ms, from });
        }
        if open_time_ms <= before_ms {
            return Err(CompactError::Order(open_time_ms));
        }
        before_ms = open_time_ms;
    }
    let mut joined = Vec::with_capacity(bars.len() / parts_of_whole.max(1) + 2);
    let mut candles: Vec<Candle> = Vec::new();
    let start_ms = |bar: &Bar| to.floor(bar.candle.open_time_ms);
    for group in bars.chunk_by(|a, b| start_ms(a) == start_ms(b)) {
        let is_flat = group.iter().all(|bar| bar.is_flat);
        candles.clear();
        candles.extend(group.iter().filter(|bar| is_flat || !bar.is_flat).map(|bar| bar.candle));
        let Some((candle, _)) = compact(&candles, to).pop() else { continue };
        let worst = group.iter().map(|bar| bar.state).max().unwrap_or(BarState::Partial);
        let is_short = group.len() < parts_of_whole;
        joined.push(Bar {
            candle,
            state: if is_short { worst.max(BarState::Partial) } else { worst },
            is_flat,
            first_id: group.iter().find_map(|bar| bar.first_id),
            last_id: group.iter().rev().find_map(|bar| bar.last_id),
        });
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::numeric::exact_sum;

    fn bar(minute: i64, close: f64, state: BarState) -> Bar {
        let candle = Candle {
            open_time_ms: minute * 60_000,
            open: close - 1.0,
            high: close + 2.0,
            low: close - 2.0,
            close,
            volume: 0.1,
            trade_count: Some(2),
        };
        let id = minute.unsigned_abs() * 2;
        Bar { candle, state, is_flat: false, first_id: Some(id), last_id: Some(id + 1) }
    }

    fn flat(minute: i64, close: f64) -> Bar {
        let candle = bar(minute - 1, close, BarState::Complete).candle.flat_after(minute * 60_000);
        Bar { state: BarState::Complete, is_flat: true, ..Bar::backfilled(candle) }
    }

    fn five(bars: &[Bar]) -> Vec<Bar> {
        compact_bars(bars, Interval::MINUTE, Interval::FIVE_MINUTES).unwrap()
    }

    #[test]
    fn five_whole_minutes_are_one_whole_bar() {
        let minutes: Vec<Bar> =
            (0..5).map(|m| bar(m, 10.0 + m as f64, BarState::Complete)).collect();
        let joined = five(&minutes)[0];
        let candle = joined.candle;
        assert_eq!((candle.open, candle.high, candle.low, candle.close), (9.0, 16.0, 8.0, 14.0));
        assert_eq!(candle.volume.to_bits(), 0.5_f64.to_bits());
        assert_eq!((candle.trade_count, joined.state), (Some(10), BarState::Complete));
        assert_eq!((joined.first_id, joined.last_id), (Some(0), Some(9)));
    }

    #[test]
    fn the_worst_part_decides_and_a_missing_one_makes_it_partial() {
        let of = |state| {
            let minutes: Vec<Bar> = (0..5)
                .map(|m| bar(m, 10.0, if m == 3 { state } else { BarState::Complete }))
                .collect();
            five(&minutes)[0].state
        };
        for state in [BarState::Complete, BarState::Backfilled, BarState::Partial, BarState::Void] {
            assert_eq!(of(state), state);
        }
        let four: Vec<Bar> = (1..5).map(|m| bar(m, 10.0, BarState::Complete)).collect();
        assert_eq!(five(&four)[0].state, BarState::Partial);
    }

    #[test]
    fn a_flat_part_lends_no_price_unless_all_are_flat() {
        let mut minutes = vec![flat(0, 500.0), flat(1, 500.0)];
        minutes.extend((2..5).map(|m| bar(m, 10.0, BarState::Complete)));
        let joined = five(&minutes)[0];
        assert_eq!((joined.candle.open, joined.candle.high, joined.is_flat), (9.0, 12.0, false));
        assert_eq!(joined.state, BarState::Complete);
        let quiet: Vec<Bar> = (0..5).map(|m| flat(m, 500.0)).collect();
        let joined = five(&quiet)[0];
        assert_eq!((joined.candle.close, joined.candle.trade_count), (500.0, Some(0)));
        assert!(joined.is_flat && joined.state == BarState::Complete);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let seven = Interval::from_ms(7 * 60_000).unwrap();
        let error = compact_bars(&[], Interval::FIVE_MINUTES, seven).unwrap_err();
        assert_eq!(error.to_string(), "bars of 5m cannot become bars of 7m, must be a multiple");
        let twice = [bar(1, 10.0, BarState::Complete); 2];
        let joined = compact_bars(&twice, Interval::MINUTE, Interval::FIVE_MINUTES);
        assert_eq!(joined, Err(CompactError::Order(60_000)));
        let mut off = bar(1, 10.0, BarState::Complete);
        off.candle.open_time_ms += 1;
        assert!(matches!(
            compact_bars(&[off], Interval::MINUTE, Interval::FIVE_MINUTES),
            Err(CompactError::OffGrid { .. })
        ));
    }

    proptest! {
        #[test]
        fn joining_in_two_steps_or_in_one_is_the_same_but_for_rounding(
            parts in prop::collection::vec((1.0_f64..1e6, 0.0_f64..1e3, any::<bool>()), 1..90),
        ) {
            let minutes: Vec<Bar> = parts
                .iter()
                .enumerate()
                .filter(|(_, part)| part.2)
                .map(|(minute, (close, volume, _))| {
                    let mut bar = bar(i64::try_from(minute).unwrap(), *close + 3.0, BarState::Complete);
                    bar.candle.volume = *volume;
                    bar
                })
                .collect();
            let hour = Interval::from_ms(3_600_000).unwrap();
            let once = compact_bars(&minutes, Interval::MINUTE, hour).unwrap();
            let twice = compact_bars(&five(&minutes), Interval::FIVE_MINUTES, hour).unwrap();
            prop_assert_eq!(once.len(), twice.len());
            for (a, b) in once.iter().zip(&twice) {
                let sum = a.candle.volume;
                prop_assert!((sum - b.candle.volume).abs() <= 1e-12 * sum);
                let mut b = *b;
                b.candle.volume = sum;
                prop_assert_eq!(a, &b);
            }
            let total = exact_sum(&minutes.iter().map(|bar| bar.candle.volume).collect::<Vec<_>>());
            let joined = exact_sum(&once.iter().map(|bar| bar.candle.volume).collect::<Vec<_>>());
            prop_assert!((total - joined).abs() <= 1e-12 * total);
        }
    }
}
