//! Scaling, weighing and error of the reference validator.
//!
//! The better ones: [`crate::scoring::shares`] and [`crate::scoring::weighted_rmse`].

use crate::hotkey::Hotkey;
use crate::numeric::{mean_and_deviation, pairwise_sum, plain_sum, round_scaled};
use crate::scoring::{ScoreError, StepWeights, Volatility, step_weights};
use crate::seed::SeedError;

/// Decimal places of a share.
const SHARE_DECIMALS: i32 = 4;

/// The kind of number that the reference works with in this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKind {
    /// Array scalar: division by zero gives NaN; rounding multiplies, rounds half to even, divides.
    Array,
    /// Plain float: division by zero is an error; rounding is of the exact decimal value.
    Plain,
}

/// Least value by the rule of Python's `min`: a NaN in front wins, any other NaN is passed over.
fn python_min(values: &[f64]) -> f64 {
    let first = values.first().copied().unwrap_or(f64::NAN);
    values.iter().copied().fold(first, |best, next| if next < best { next } else { best })
}

/// Greatest value by the rule of Python's `max`.
fn python_max(values: &[f64]) -> f64 {
    let first = values.first().copied().unwrap_or(f64::NAN);
    values.iter().copied().fold(first, |best, next| if next > best { next } else { best })
}

/// Returns the weighted error with array broadcasting: one value stands for as many as needed.
///
/// # Errors
/// [`ScoreError::Length`] when the shapes do not fit.
///
/// Golden data: `scoring/weighted_rmse.json`, 1e-12 relative.
pub fn weighted_rmse(forecast: &[f64], realised: &[f64]) -> Result<f64, ScoreError> {
    let distances: Vec<f64> = match (forecast.len(), realised.len()) {
        (a, b) if a == b => return Ok(StepWeights::new(realised.len()).rmse(forecast, realised)),
        (1, _) => realised.iter().map(|real| forecast[0] - real).collect(),
        (_, 1) => forecast.iter().map(|expected| expected - realised[0]).collect(),
        (a, b) => return Err(ScoreError::Length { forecast: a, realised: b }),
    };
    // The weights have the length of the forecast and are broadcast against the distances too.
    let weights = step_weights(forecast.len());
    let weighted: Vec<f64> = match weights[..] {
        [weight] => distances.iter().map(|d| weight * (d * d)).collect(),
        _ => weights.iter().zip(&distances).map(|(weight, d)| weight * (d * d)).collect(),
    };
    Ok((pairwise_sum(&weighted) / pairwise_sum(&weights)).sqrt())
}

/// [`weighted_rmse`] after a check of the sizes.
///
/// # Errors
/// [`SeedError::IncorrectPredictionSize`] when lengths differ, or there are too few values.
pub fn score_response(forecast: &[f64], realised: &[f64]) -> Result<f64, SeedError> {
    if forecast.is_empty() || realised.len() < 2 || forecast.len() != realised.len() {
        return Err(SeedError::IncorrectPredictionSize);
    }
    Ok(StepWeights::new(realised.len()).rmse(forecast, realised))
}

/// Returns 1 for the least error, 0 for the greatest.
///
/// # Errors
/// [`SeedError::MinResponses`] below two scores; [`SeedError::ZeroDivision`] for equal
/// plain floats (array scalars give NaN).
///
/// Golden data: `scoring/simple_scale_scores.json`, exact.
pub fn simple_scale_scores(scores: &[f64], kind: NumberKind) -> Result<Vec<f64>, SeedError> {
    if scores.len() <= 1 {
        return Err(SeedError::MinResponses);
    }
    let (least, greatest) = (python_min(scores), python_max(scores));
    let spread = greatest - least;
    if kind == NumberKind::Plain && spread.abs() <= 0.0 {
        return Err(SeedError::ZeroDivision);
    }
    Ok(scores.iter().map(|score| 1.0 - (score - least) / spread).collect())
}

/// Returns 1 − e^(−1 / (s / average)); a perfect score counts as 1e-8.
///
/// # Errors
/// [`SeedError::ZeroDivision`] for an empty list.
///
/// Golden data: `scoring/scale_scores.json`, 1e-12 relative.
pub fn scale_scores(scores: &[f64]) -> Result<Vec<f64>, SeedError> {
    if scores.is_empty() {
        return Err(SeedError::ZeroDivision);
    }
    let average = plain_sum(scores) / scores.len() as f64;
    let scale = |score: &f64| {
        let relative = if score.abs() <= 0.0 { 1e-8 } else { *score } / average;
        1.0 - libm::pow(std::f64::consts::E, -1.0 / relative)
    };
    Ok(scores.iter().map(scale).collect())
}

/// Returns the shares of scaled scores: min-max, divided by the sum, rounded to four places.
///
/// # Errors
/// [`SeedError::Value`] for an empty list, [`SeedError::ZeroDivision`] for equal plain
/// floats.
///
/// Golden data: `scoring/weigh_miner_scores.json`, exact.
pub fn weigh_miner_scores(scores: &[f64], kind: NumberKind) -> Result<Vec<f64>, SeedError> {
    if scores.is_empty() {
        return Err(SeedError::Value);
    }
    if scores.len() == 1 {
        return Ok(vec![1.0]);
    }
    let (least, greatest) = (python_min(scores), python_max(scores));
    let spread = greatest - least;
    if kind == NumberKind::Plain && spread.abs() <= 0.0 {
        return Err(SeedError::ZeroDivision);
    }
    let scaled: Vec<f64> = scores.iter().map(|score| (score - least) / spread).collect();
    let total = plain_sum(&scaled);
    if kind == NumberKind::Plain && total.abs() <= 0.0 {
        return Err(SeedError::ZeroDivision);
    }
    let round = |share: f64| match kind {
        NumberKind::Array => round_scaled(share, SHARE_DECIMALS),
        NumberKind::Plain => round_decimal(share, 4),
    };
    Ok(scaled.iter().map(|score| round(score / total)).collect())
}

/// Rounds the exact decimal value, ties to even: what plain floats do.
pub fn round_decimal(value: f64, decimals: usize) -> f64 {
    if !value.is_finite() {
        return value;
    }
    format!("{value:.decimals$}").parse().unwrap_or(value)
}

/// Returns the shares of a round, best first, as the reference forms them from the errors.
///
/// # Errors
/// [`ScoreError::NoRealisedCloses`] when the list is empty.
pub fn round_shares(errors: &[(Hotkey, f64)]) -> Result<Vec<(Hotkey, f64)>, ScoreError> {
    let values: Vec<f64> = errors.iter().map(|(_, error)| *error).collect();
    let (_, deviation) = mean_and_deviation(&values);
    if deviation.abs() <= 0.0 {
        let share = 1.0 / values.len() as f64;
        return Ok(errors.iter().map(|(hotkey, _)| (*hotkey, share)).collect());
    }
    let failed = |_| ScoreError::NoRealisedCloses;
    let scaled = simple_scale_scores(&values, NumberKind::Array).map_err(failed)?;
    let mut board: Vec<(Hotkey, f64)> =
        errors.iter().map(|(hotkey, _)| *hotkey).zip(scaled).collect();
    python_sort_descending(&mut board);
    let sorted: Vec<f64> = board.iter().map(|(_, score)| *score).collect();
    let weighed = weigh_miner_scores(&sorted, NumberKind::Array).map_err(failed)?;
    Ok(board.into_iter().map(|(hotkey, _)| hotkey).zip(weighed).collect())
}

/// A stable insertion sort by `<` alone: with a NaN in the list it leaves the order that comparing
/// sorts of short lists leave.
fn python_sort_descending(board: &mut [(Hotkey, f64)]) {
    for end in 1..board.len() {
        let item = board[end];
        let (mut low, mut high) = (0, end);
        while low < high {
            let middle = usize::midpoint(low, high);
            if board[middle].1 < item.1 { high = middle } else { low = middle + 1 }
        }
        board[low..=end].rotate_right(1);
    }
}

/// Measures the volatility of closes in single precision, without checks.
///
/// Golden data: `scoring/geometric_mean_of_percentile.json`, kind of numbers `float32`.
pub fn volatility_of_singles(closes: &[f32]) -> Volatility {
    crate::scoring::measure(closes)
}

/// Measures the volatility of closes in double precision, without checks.
pub fn volatility_of_doubles(closes: &[f64]) -> Volatility {
    crate::scoring::measure(closes)
}

/// Returns the part of the steps with equal direction; the number of steps is the forecast's.
///
/// # Errors
/// [`SeedError::Index`] when fewer closes were realised, [`SeedError::ZeroDivision`] for one step.
///
/// Golden data: `scoring/directional_accuracy.json`, exact.
pub fn directional_accuracy(forecast: &[f64], realised: &[f64]) -> Result<f64, SeedError> {
    if realised.len() < forecast.len() {
        return Err(SeedError::Index);
    }
    if forecast.len() < 2 {
        return Err(SeedError::ZeroDivision);
    }
    let sign = |pair: &[f64]| {
        let change = pair[1] - pair[0];
        if change > 0.0 {
            1.0
        } else if change < 0.0 {
            -1.0
        } else {
            change * 0.0
        }
    };
    let steps = forecast.windows(2).zip(realised.windows(2));
    // The sign of NaN is NaN, which equals nothing.
    let hits =
        steps.filter(|(a, b)| sign(a).partial_cmp(&sign(b)) == Some(std::cmp::Ordering::Equal));
    Ok(hits.count() as f64 / (forecast.len() - 1) as f64)
}
