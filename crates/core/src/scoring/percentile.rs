//! How unusual the market was during a round: the round's importance.

use super::ScoreError;
use super::tables::{MIN_MAX_RATIOS, STANDARD_DEVIATIONS_USD};
use crate::numeric::{Real, mean_and_deviation};

/// The two volatility measures of a round and their percentiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Volatility {
    /// Greatest over least close, no unit.
    pub ratio: f64,
    /// Population standard deviation of the closes, USD.
    pub deviation_usd: f64,
    /// Percentile of the ratio, 0.01..=1.
    pub ratio_percentile: f64,
    /// Percentile of the deviation, 0.01..=1.
    pub deviation_percentile: f64,
}

impl Volatility {
    /// Returns the geometric mean of both percentiles, 0.01..=1.
    pub fn importance(&self) -> f64 {
        (self.ratio_percentile * self.deviation_percentile).sqrt()
    }
}

/// Returns `(i + 1) / 100` of the first entry above `value`, 1 when none is (or it is NaN).
///
/// Golden data: `scoring/get_percentile.json`, exact.
pub fn percentile(table: &[f64], value: f64) -> f64 {
    let position = table.iter().position(|bound| value < *bound);
    position.map_or(1.0, |index| (index + 1) as f64 / 100.0)
}

/// Measures the volatility of realised closes.
///
/// # Errors
/// [`ScoreError::NoRealisedCloses`] or [`ScoreError::BadRealisedClose`].
///
/// Golden data: `scoring/geometric_mean_of_percentile.json`, kind of numbers `float64`.
pub fn volatility(realised: &[f64]) -> Result<Volatility, ScoreError> {
    if realised.is_empty() {
        return Err(ScoreError::NoRealisedCloses);
    }
    let bad = |value: &f64| !value.is_finite() || *value <= 0.0;
    if let Some(index) = realised.iter().position(bad) {
        return Err(ScoreError::BadRealisedClose { index, value: realised[index] });
    }
    Ok(measure(realised))
}

/// Returns the importance of a round, 0.01..=1: the geometric mean of two volatility percentiles.
///
/// # Errors
/// As [`volatility`].
pub fn importance(realised: &[f64]) -> Result<f64, ScoreError> {
    Ok(volatility(realised)?.importance())
}

/// Returns the importance of single-precision closes, without checks.
pub(crate) fn percentile_of_narrow(realised: &[f32]) -> f64 {
    measure(realised).importance()
}

/// Measures in the width of the values, without checks: NaN and zero give what they give.
pub(crate) fn measure<T: Real>(closes: &[T]) -> Volatility {
    // The first value stays unless a later one compares as better, so a NaN in front stays.
    let extreme = |is_better: fn(T, T) -> bool| {
        let better = |best, next| if is_better(next, best) { next } else { best };
        closes.iter().copied().reduce(better)
    };
    let ratio = match (extreme(|a, b| a > b), extreme(|a, b| a < b)) {
        (Some(greatest), Some(least)) => (greatest / least).widen(),
        _ => f64::NAN,
    };
    let deviation_usd = mean_and_deviation(closes).1.widen();
    Volatility {
        ratio,
        deviation_usd,
        ratio_percentile: percentile(&MIN_MAX_RATIOS, ratio),
        deviation_percentile: percentile(&STANDARD_DEVIATIONS_USD, deviation_usd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_never_are_zero_and_end_at_one() {
        assert!((percentile(&MIN_MAX_RATIOS, 0.0) - 0.01).abs() < 1e-15);
        assert!((percentile(&MIN_MAX_RATIOS, 2.0) - 1.0).abs() < 1e-15);
        // A value equal to a bound belongs to the next percentile.
        assert!((percentile(&MIN_MAX_RATIOS, MIN_MAX_RATIOS[0]) - 0.02).abs() < 1e-15);
    }

    #[test]
    fn closes_that_are_no_prices_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            assert!(matches!(
                importance(&[30_000.0, bad]),
                Err(ScoreError::BadRealisedClose { index: 1, .. })
            ));
        }
        assert_eq!(importance(&[]), Err(ScoreError::NoRealisedCloses));
    }

    #[test]
    fn a_flat_market_matters_least() {
        assert!((importance(&[30_000.0; 100]).unwrap() - 0.01).abs() < 1e-15);
    }
}
