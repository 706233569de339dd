//! The reference's older scaling of values; nothing of ours uses it.

use crate::commitment::python_float;
use crate::numeric::{pairwise_sum, round_scaled};

const SCALE_FACTOR: f64 = 100.0;
const SCALE_SHIFT: f64 = 0.495;
const SCALE_FACTOR_EXP: f64 = 0.0001;

/// Returns the characters behind the point of a float's Python text; `1e-05` has none.
pub fn count_decimal_places(number: f64) -> usize {
    python_float(number).split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

/// Returns least, greatest and `(v − min) / (max − min) / 100 + 0.495`; the range is used as given
/// only when both ends are.
pub fn scale_values(values: &[f64], range: (Option<f64>, Option<f64>)) -> (f64, f64, Vec<f64>) {
    let (least, greatest) = match range {
        (Some(least), Some(greatest)) => (least, greatest),
        _ => (
            values.iter().copied().fold(f64::INFINITY, f64::min),
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ),
    };
    let scale = |value: &f64| (value - least) / (greatest - least) / SCALE_FACTOR + SCALE_SHIFT;
    (least, greatest, values.iter().map(scale).collect())
}

/// Reverses [`scale_values`] and rounds.
pub fn unscale_values(least: f64, greatest: f64, decimals: i32, scaled: &[f64]) -> Vec<f64> {
    let unscale = |value: &f64| {
        let relative = (value - SCALE_SHIFT) * SCALE_FACTOR;
        round_scaled(relative * (greatest - least) + least, decimals)
    };
    scaled.iter().map(unscale).collect()
}

/// Returns the mean and `tanh(0.0001 · (v − mean))`.
pub fn scale_values_exp(values: &[f64]) -> (f64, Vec<f64>) {
    let mean = pairwise_sum(values) / values.len() as f64;
    (mean, values.iter().map(|value| libm::tanh(SCALE_FACTOR_EXP * (value - mean))).collect())
}

/// Reverses [`scale_values_exp`] and rounds.
pub fn unscale_values_exp(mean: f64, decimals: i32, scaled: &[f64]) -> Vec<f64> {
    let unscale =
        |value: &f64| round_scaled(mean + (1.0 / SCALE_FACTOR_EXP) * libm::atanh(*value), decimals);
    scaled.iter().map(unscale).collect()
}

/// Least, greatest and decimal places of each row, and the scaled rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScaledRows {
    /// Least value of each row.
    pub least: Vec<f64>,
    /// Greatest value of each row.
    pub greatest: Vec<f64>,
    /// Decimal places of the first value of each row.
    pub decimals: Vec<usize>,
    /// Scaled rows.
    pub rows: Vec<Vec<f64>>,
}

/// Scales each row on its own; with `has_times` the first row is passed through.
pub fn scale_rows(rows: &[Vec<f64>], has_times: bool) -> ScaledRows {
    let mut scaled = ScaledRows::default();
    for (index, row) in rows.iter().enumerate() {
        if has_times && index == 0 {
            scaled.rows.push(row.clone());
            continue;
        }
        let (least, greatest, values) = scale_values(row, (None, None));
        scaled.least.push(least);
        scaled.greatest.push(greatest);
        scaled.decimals.push(row.first().map_or(0, |first| count_decimal_places(*first)));
        scaled.rows.push(values);
    }
    scaled
}
