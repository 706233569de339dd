//! The walk-forward split: train on the past, validate on what came after, never a leak between.
//!
//! ```text
//! candles   0 ───────────────────────────── validation_from ─────────────── end
//! training  |lookback|start|horizon|  … last horizon ends ┤
//! validation                                              ├ start … |horizon|
//! ```
//! A window is named by the index of its newest candle. Training windows end, horizon included,
//! before the first validation start; a validation window may look back into the training span,
//! as a live forecast does, but everything that it is scored on lies after it.

use forecastd_core::{Candle, Interval};

/// The windows of both spans, by the index of their newest candle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Index of the first candle of the validation span.
    pub validation_from: usize,
    /// Training windows, rising.
    pub training: Vec<usize>,
    /// Validation windows, rising.
    pub validation: Vec<usize>,
}

/// Sizes of windows and spans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitConfig {
    /// Candles before and including the start.
    pub lookback: usize,
    /// Candles after the start.
    pub horizon: usize,
    /// Share of the candles, at the end, that validates; 0..1.
    pub validation_fraction: f64,
    /// Distance between training windows, candles.
    pub training_stride: usize,
    /// Distance between validation windows, candles.
    pub validation_stride: usize,
}

/// Splits `candles` and drops the windows that cross a gap.
pub fn walk_forward(candles: &[Candle], interval: Interval, config: &SplitConfig) -> Split {
    let count = candles.len();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length, clamped to it"
    )]
    let held_out = (count as f64 * config.validation_fraction.clamp(0.0, 1.0)) as usize;
    let validation_from = count - held_out.min(count);
    let gaps = Gaps::new(candles, interval);
    let windows = |from: usize, end: usize, stride: usize| -> Vec<usize> {
        let first = from.max(config.lookback.max(1) - 1);
        (first..end.saturating_sub(config.horizon))
            .step_by(stride.max(1))
            .filter(|newest| gaps.is_whole(*newest + 1 - config.lookback, *newest + config.horizon))
            .collect()
    };
    Split {
        validation_from,
        training: windows(0, validation_from, config.training_stride),
        validation: windows(validation_from, count, config.validation_stride),
    }
}

/// Answers in constant time whether a range of candles is free of gaps.
#[derive(Debug)]
pub struct Gaps(Vec<u32>);

impl Gaps {
    /// Counts the gaps of `candles`, oldest first.
    pub fn new(candles: &[Candle], interval: Interval) -> Self {
        let mut gaps = 0;
        let mut before = Vec::with_capacity(candles.len());
        before.extend(candles.first().map(|_| 0));
        for pair in candles.windows(2) {
            gaps += u32::from(pair[1].open_time_ms != pair[0].close_time_ms(interval));
            before.push(gaps);
        }
        Self(before)
    }

    /// Tells whether no candle is missing between the candles `first` and `last`, both included.
    pub fn is_whole(&self, first: usize, last: usize) -> bool {
        match (self.0.get(first), self.0.get(last)) {
            (Some(before), Some(after)) => first <= last && before == after,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candles_with_gaps(steps: &[i64]) -> Vec<Candle> {
        let mut open_time_ms = 0;
        steps
            .iter()
            .map(|step| {
                open_time_ms += step * 300_000;
                Candle {
                    open_time_ms,
                    open: 1.0,
                    high: 1.0,
                    low: 1.0,
                    close: 1.0,
                    volume: 0.0,
                    trade_count: None,
                }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn nothing_that_training_is_scored_on_reaches_the_validation_span(
            steps in proptest::collection::vec(prop_oneof![9 => Just(1_i64), 1 => 2_i64..5], 1..300),
            lookback in 1_usize..20,
            horizon in 1_usize..20,
            validation_fraction in 0.0..1.0,
            training_stride in 1_usize..7,
            validation_stride in 1_usize..7,
        ) {
            let candles = candles_with_gaps(&steps);
            let config = SplitConfig {
                lookback, horizon, validation_fraction, training_stride, validation_stride,
            };
            let split = walk_forward(&candles, Interval::FIVE_MINUTES, &config);
            let boundary_ms = candles.get(split.validation_from).map(|c| c.open_time_ms);
            for newest in &split.training {
                let last_scored = &candles[newest + horizon];
                prop_assert!(boundary_ms.is_none_or(|at| last_scored.open_time_ms < at));
            }
            for newest in &split.validation {
                prop_assert!(*newest >= split.validation_from);
                prop_assert!(*newest + horizon < candles.len());
            }
            for newest in split.training.iter().chain(&split.validation) {
                let span = &candles[newest + 1 - lookback..=newest + horizon];
                let want_ms = i64::try_from(span.len() - 1).unwrap() * 300_000;
                prop_assert_eq!(span[span.len() - 1].open_time_ms - span[0].open_time_ms, want_ms);
            }
        }
    }

    #[test]
    fn the_split_uses_every_window_that_fits() {
        let candles = candles_with_gaps(&[1; 100]);
        let config = SplitConfig {
            lookback: 10,
            horizon: 5,
            validation_fraction: 0.3,
            training_stride: 1,
            validation_stride: 5,
        };
        let split = walk_forward(&candles, Interval::FIVE_MINUTES, &config);
        assert_eq!(split.validation_from, 70);
        assert_eq!((split.training[0], split.training[split.training.len() - 1]), (9, 64));
        assert_eq!(split.validation, [70, 75, 80, 85, 90]);
    }
}
