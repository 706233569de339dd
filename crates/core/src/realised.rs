//! What came true over a horizon, and how holes in candles are filled: from the past, never from the
//! future.

use std::collections::BTreeMap;

use crate::candle::Candle;
use crate::grid::Interval;
use crate::stream::StreamSpec;

/// The closes of a horizon, as far as they are known.
#[derive(Debug, Clone, PartialEq)]
pub enum Realised {
    /// Settled: the candle after the last needed one exists.
    Settled {
        /// Closes of the horizon, oldest first, quote currency.
        closes: Vec<f64>,
        /// How many of them had to be filled from the past.
        filled: usize,
    },
    /// The candle after the last needed one does not exist yet.
    NotYet,
    /// Too many candles do not exist at the exchange.
    Missing {
        /// How many.
        count: usize,
    },
}

/// Returns one candle for each step of `[from_ms, to_ms)` from the first known one on, holes filled
/// flat with the close before them, and the number of holes.
pub fn fill_from_past(
    interval: Interval,
    found: &[Candle],
    from_ms: i64,
    to_ms: i64,
) -> (Vec<Candle>, usize) {
    let known: BTreeMap<i64, &Candle> = found.iter().map(|c| (c.open_time_ms, c)).collect();
    let mut filled: Vec<Candle> = Vec::with_capacity(found.len());
    let mut holes = 0;
    let mut at_ms = interval.ceil(from_ms);
    while at_ms < to_ms {
        if let Some(candle) = known.get(&at_ms) {
            filled.push(**candle);
        } else if let Some(previous) = filled.last() {
            holes += 1;
            filled.push(previous.flat_after(at_ms));
        }
        at_ms += interval.as_ms();
    }
    (filled, holes)
}

/// Decides what the candles `found` say about the horizon that starts at `start_ms`.
///
/// A candle at or after the end of the horizon is the witness that the exchange went on, so that
/// nothing before it is still to come. At most `max_missing` candles are filled from the past.
pub fn realised_closes(
    spec: &StreamSpec,
    found: &[Candle],
    start_ms: i64,
    max_missing: usize,
) -> Realised {
    let witness_ms = spec.end_ms(start_ms);
    if !found.iter().any(|candle| candle.open_time_ms >= witness_ms) {
        return Realised::NotYet;
    }
    // One candle before the horizon, so that a hole at its first step has a past.
    let before_ms = start_ms - spec.interval.as_ms();
    let (filled, _) = fill_from_past(spec.interval, found, before_ms, witness_ms);
    let horizon: Vec<&Candle> = filled.iter().filter(|c| c.open_time_ms >= start_ms).collect();
    let real = found.iter().filter(|c| (start_ms..witness_ms).contains(&c.open_time_ms)).count();
    let missing = spec.horizon.saturating_sub(real);
    if horizon.len() != spec.horizon || missing > max_missing {
        return Realised::Missing { count: missing };
    }
    Realised::Settled { closes: horizon.iter().map(|c| c.close).collect(), filled: missing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamId;

    const STEP_MS: i64 = 300_000;

    fn spec() -> StreamSpec {
        StreamSpec {
            id: StreamId("BTCUSD-5m".to_owned()),
            interval: Interval::FIVE_MINUTES,
            horizon: 4,
            lookback: 10,
            round_every: Interval::from_ms(1_800_000).unwrap(),
            topic_id: 1,
            schema_id: 1,
        }
    }

    /// Candles at these steps after 0; the close tells the step.
    fn candles(steps: &[i64]) -> Vec<Candle> {
        let candle = |step: &i64| {
            let close = 100.0 + *step as f64;
            Candle {
                open_time_ms: step * STEP_MS,
                open: close,
                high: close,
                low: close,
                close,
                volume: 1.0,
                trade_count: None,
            }
        };
        steps.iter().map(candle).collect()
    }

    #[test]
    fn a_hole_takes_the_close_before_it_and_never_one_after_it() {
        let (filled, holes) =
            fill_from_past(Interval::FIVE_MINUTES, &candles(&[1, 4]), 0, 5 * STEP_MS);
        let closes: Vec<f64> = filled.iter().map(|candle| candle.close).collect();
        assert_eq!((closes, holes), (vec![101.0, 101.0, 101.0, 104.0], 2), "step 0 has no past");
        let gap = filled[1];
        assert_eq!((gap.open, gap.high, gap.low, gap.volume), (101.0, 101.0, 101.0, 0.0));
    }

    #[test]
    fn nothing_is_settled_without_the_witness() {
        let start_ms = 10 * STEP_MS;
        let whole = candles(&[9, 10, 11, 12, 13]);
        assert_eq!(realised_closes(&spec(), &whole, start_ms, 1), Realised::NotYet);
        let settled = realised_closes(&spec(), &candles(&[9, 10, 11, 12, 13, 14]), start_ms, 1);
        let closes = vec![110.0, 111.0, 112.0, 113.0];
        assert_eq!(settled, Realised::Settled { closes, filled: 0 });
    }

    #[test]
    fn few_missing_candles_are_filled_and_many_make_the_horizon_missing() {
        let start_ms = 10 * STEP_MS;
        let one_hole = realised_closes(&spec(), &candles(&[9, 11, 12, 13, 15]), start_ms, 1);
        let closes = vec![109.0, 111.0, 112.0, 113.0];
        assert_eq!(one_hole, Realised::Settled { closes, filled: 1 });
        let two_holes = candles(&[9, 11, 13, 14]);
        assert_eq!(
            realised_closes(&spec(), &two_holes, start_ms, 1),
            Realised::Missing { count: 2 }
        );
        let no_past = candles(&[11, 12, 13, 14]);
        assert_eq!(realised_closes(&spec(), &no_past, start_ms, 1), Realised::Missing { count: 1 });
    }
}
