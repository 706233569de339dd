//! How good one forecast was, and how much of a round each miner earns.
//!
//! ```text
//! closes ──weighted_rmse──► USD, lower is better ──shares──► 0..1, sums to 1
//! realised closes ──importance──► 0.01..1, how much the round moves the averages
//! ```

mod percentile;
pub mod tables;

pub use percentile::{Volatility, importance, percentile, volatility};
pub(crate) use percentile::{measure, percentile_of_narrow};

use crate::hotkey::Hotkey;
use crate::numeric::pairwise_sum;

/// Step `i` of a forecast weighs e^(−0.001·i).
pub const STEP_WEIGHT_DECAY: f64 = 0.001;
/// Errors that differ by less than this part of the greatest count as equal: the difference is
/// rounding, and must not decide between a full and an empty share.
const EQUAL_WITHIN: f64 = 1e-12;

/// Why a round cannot be scored. Nothing is changed when one of these is returned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScoreError {
    /// Two lists that belong together have different lengths.
    #[error("forecast has {forecast} values but {realised} closes were realised")]
    Length {
        /// Length of the forecast.
        forecast: usize,
        /// Number of realised closes.
        realised: usize,
    },
    /// There are no realised closes.
    #[error("no realised closes, the round cannot be scored yet")]
    NoRealisedCloses,
    /// The number of realised closes is not the horizon.
    #[error("{got} realised closes, the round has a horizon of {want}")]
    Horizon {
        /// Closes that were given.
        got: usize,
        /// The round's horizon.
        want: usize,
    },
    /// A realised close is NaN, infinite, zero or negative.
    #[error("realised close {index} is {value}, must be finite and above 0; fetch it again")]
    BadRealisedClose {
        /// Position of the first such close.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A forecast value is NaN or infinite.
    #[error("forecast value {index} is not finite")]
    NotFinite {
        /// Position of the first such value.
        index: usize,
    },
    /// The squared error is outside of the number range.
    #[error("forecast is so far away that its error overflows")]
    Overflow,
    /// The list of registered miners is empty: scoring would forget everybody.
    #[error("the list of registered miners is empty, wait for the metagraph")]
    NoMembers,
    /// The same hotkey appears twice.
    #[error("hotkey {0} has two answers in one round")]
    DuplicateAnswer(Hotkey),
    /// A stored moving average is NaN, infinite or negative.
    #[error("stored average of hotkey {hotkey} is {value}, restore the state from a backup")]
    BadAverage {
        /// Whose average it is.
        hotkey: Hotkey,
        /// The stored value.
        value: f64,
    },
    /// A moving average would become NaN or infinite.
    #[error("average of hotkey {0} would become NaN or infinite")]
    AverageOverflow(Hotkey),
    /// A setting is outside of its range.
    #[error(transparent)]
    Setting(#[from] crate::settings::SettingError),
}

impl ScoreError {
    /// Tells whether the same call can succeed later, when more market data has arrived.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NoRealisedCloses
                | Self::Horizon { .. }
                | Self::BadRealisedClose { .. }
                | Self::NoMembers
        )
    }
}

/// Returns the weighted root-mean-square error of a forecast.
///
/// `forecast`, `realised`: closes in USD, oldest first, same length, all finite. Result in USD,
/// `0.0` is perfect.
///
/// # Errors
/// [`ScoreError::Length`], [`ScoreError::NoRealisedCloses`], [`ScoreError::NotFinite`],
/// [`ScoreError::BadRealisedClose`] (NaN or infinite only) or [`ScoreError::Overflow`].
///
/// Golden data: `scoring/weighted_rmse.json`, 1e-12 relative.
pub fn weighted_rmse(forecast: &[f64], realised: &[f64]) -> Result<f64, ScoreError> {
    if realised.is_empty() {
        return Err(ScoreError::NoRealisedCloses);
    }
    if let Some(index) = realised.iter().position(|value| !value.is_finite()) {
        return Err(ScoreError::BadRealisedClose { index, value: realised[index] });
    }
    StepWeights::new(realised.len()).checked_rmse(forecast, realised)
}

/// The weights of the steps, computed once a round.
#[derive(Debug, Clone)]
pub(crate) struct StepWeights {
    weights: Vec<f64>,
    total: f64,
}

impl StepWeights {
    pub(crate) fn new(count: usize) -> Self {
        let weights = step_weights(count);
        let total = pairwise_sum(&weights);
        Self { weights, total }
    }

    /// The error of a foreign forecast against closes that are known to be finite.
    pub(crate) fn checked_rmse(
        &self,
        forecast: &[f64],
        realised: &[f64],
    ) -> Result<f64, ScoreError> {
        if forecast.len() != realised.len() {
            return Err(ScoreError::Length { forecast: forecast.len(), realised: realised.len() });
        }
        if let Some(index) = forecast.iter().position(|value| !value.is_finite()) {
            return Err(ScoreError::NotFinite { index });
        }
        let error = self.rmse(forecast, realised);
        if error.is_finite() { Ok(error) } else { Err(ScoreError::Overflow) }
    }

    /// The formula without checks.
    pub(crate) fn rmse(&self, forecast: &[f64], realised: &[f64]) -> f64 {
        debug_assert_eq!(forecast.len(), realised.len());
        let weighted: Vec<f64> = self
            .weights
            .iter()
            .zip(forecast.iter().zip(realised))
            .map(|(weight, (expected, real))| {
                let distance = expected - real;
                weight * (distance * distance)
            })
            .collect();
        (pairwise_sum(&weighted) / self.total).sqrt()
    }
}

pub(crate) fn step_weights(count: usize) -> Vec<f64> {
    (0..count).map(|step| libm::exp(-STEP_WEIGHT_DECAY * step as f64)).collect()
}

/// Returns the share of each miner from the errors of a round, in the order given: the least error
/// earns most, the greatest nothing, the sum is 1 within rounding.
///
/// One error earns 1, equal errors earn the same, no error gives no share, an error that is not
/// finite earns nothing. The result does not change when all errors are multiplied by a factor.
pub fn shares(errors: &[f64]) -> Vec<f64> {
    let usable = || errors.iter().copied().filter(|error| error.is_finite());
    let least = usable().fold(f64::INFINITY, f64::min);
    let greatest = usable().fold(f64::NEG_INFINITY, f64::max);
    // Halved, so that the distance of the extremes stays in the number range.
    let spread = greatest / 2.0 - least / 2.0;
    let are_equal = spread <= greatest.abs().max(least.abs()) * EQUAL_WITHIN;
    let scaled: Vec<f64> = errors
        .iter()
        .map(|error| match (error.is_finite(), are_equal) {
            (false, _) => 0.0,
            (true, true) => 1.0,
            (true, false) => (greatest / 2.0 - error / 2.0) / spread,
        })
        .collect();
    let total = pairwise_sum(&scaled);
    scaled.iter().map(|value| if *value > 0.0 { value / total } else { 0.0 }).collect()
}

/// Returns the part of the steps in which forecast and reality moved in the same direction, 0..1;
/// standing still is a direction of its own.
///
/// # Errors
/// [`ScoreError::Length`] when the lengths differ, [`ScoreError::NoRealisedCloses`] below two.
pub fn directional_accuracy(forecast: &[f64], realised: &[f64]) -> Result<f64, ScoreError> {
    if forecast.len() != realised.len() {
        return Err(ScoreError::Length { forecast: forecast.len(), realised: realised.len() });
    }
    if realised.len() < 2 {
        return Err(ScoreError::NoRealisedCloses);
    }
    let steps = forecast.windows(2).zip(realised.windows(2));
    let hits = steps.filter(|(a, b)| a[1].partial_cmp(&a[0]) == b[1].partial_cmp(&b[0])).count();
    Ok(hits as f64 / (realised.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rmse_refuses_what_is_not_a_number() {
        assert_eq!(weighted_rmse(&[1.0], &[]), Err(ScoreError::NoRealisedCloses));
        assert_eq!(
            weighted_rmse(&[1.0], &[1.0, 2.0]),
            Err(ScoreError::Length { forecast: 1, realised: 2 })
        );
        assert_eq!(
            weighted_rmse(&[1.0, f64::NAN], &[1.0, 2.0]),
            Err(ScoreError::NotFinite { index: 1 })
        );
        assert_eq!(weighted_rmse(&[1e300, 1.0], &[1.0, 2.0]), Err(ScoreError::Overflow));
        assert!(matches!(
            weighted_rmse(&[1.0], &[f64::INFINITY]),
            Err(ScoreError::BadRealisedClose { .. })
        ));
    }

    #[test]
    fn one_equal_and_none_have_defined_shares() {
        assert_eq!(shares(&[]), Vec::<f64>::new());
        assert_eq!(shares(&[42.0]), [1.0]);
        assert_eq!(shares(&[0.0, 0.0]), [0.5, 0.5]);
        assert_eq!(shares(&[7.0, 7.0 + 1e-14, 7.0, 7.0]), [0.25; 4]);
        assert_eq!(shares(&[10.0, 20.0]), [1.0, 0.0]);
    }

    #[test]
    fn directions_count_standing_still() {
        let accuracy = directional_accuracy(&[1.0, 1.0, 2.0], &[5.0, 5.0, 4.0]).unwrap();
        assert!((accuracy - 0.5).abs() < 1e-15);
        assert!(directional_accuracy(&[1.0], &[1.0]).is_err());
    }

    proptest! {
        #[test]
        fn shares_sum_to_one_and_follow_the_order(
            errors in prop::collection::vec(0.0..1e6_f64, 1..300),
        ) {
            let got = shares(&errors);
            let total: f64 = got.iter().sum();
            prop_assert!((total - 1.0).abs() < 1e-9);
            for (a, share_a) in errors.iter().zip(&got) {
                prop_assert!((0.0..=1.0).contains(share_a));
                for (b, share_b) in errors.iter().zip(&got) {
                    prop_assert!(a > b || share_a >= share_b);
                }
            }
        }

        #[test]
        fn shares_do_not_depend_on_the_scale(
            errors in prop::collection::vec(1.0..1e4_f64, 2..50),
            factor in 1e-3..1e3_f64,
        ) {
            let scaled: Vec<f64> = errors.iter().map(|error| error * factor).collect();
            for (a, b) in shares(&errors).iter().zip(shares(&scaled)) {
                prop_assert!((a - b).abs() < 1e-6);
            }
        }

        #[test]
        fn no_numbers_whatever_give_a_share_that_is_nan(
            errors in prop::collection::vec(any::<f64>(), 0..20),
        ) {
            prop_assert!(shares(&errors).iter().all(|share| share.is_finite()));
        }

        #[test]
        fn rmse_is_finite_or_refused_and_zero_only_for_a_perfect_forecast(
            pairs in prop::collection::vec((any::<f64>(), any::<f64>()), 1..120),
        ) {
            let (forecast, realised): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            if let Ok(error) = weighted_rmse(&forecast, &realised) {
                prop_assert!(error.is_finite() && error >= 0.0);
            }
        }

        #[test]
        fn a_constant_offset_is_its_own_error(
            realised in prop::collection::vec(1e4..1e5_f64, 1..120),
            offset in 0.5..1e3_f64,
        ) {
            let forecast: Vec<f64> = realised.iter().map(|close| close + offset).collect();
            let error = weighted_rmse(&forecast, &realised).unwrap();
            prop_assert!((error - offset).abs() < 1e-6);
        }
    }
}
