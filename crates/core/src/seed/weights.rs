//! The reference validator's pass from stored averages to weights.
//!
//! The better one: [`crate::weights::weight_shares`].

use crate::hotkey::Hotkey;
use crate::numeric::mean_and_deviation;
use crate::weights::yeo_johnson;

/// Exponent of the reference's transform.
pub const LAMBDA: f64 = 2000.0;
const FILTER_DEVIATIONS: f64 = 1.5;

/// Every step of one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightPass {
    /// Mean of all stored averages.
    pub mean: f64,
    /// Their population standard deviation.
    pub deviation: f64,
    /// Hotkeys strictly above this are kept.
    pub lower_bound: f64,
    /// Who is kept, in stored order.
    pub kept: Vec<Hotkey>,
    /// Transformed averages of the kept.
    pub transformed: Vec<f64>,
    /// Min-max scaled to 0..1; `None` when the pass fails and nothing is sent.
    pub scaled: Option<Vec<(Hotkey, f64)>>,
}

/// Runs the pass over averages in stored order.
///
/// Golden data: `weights/vali_set_weights.json`.
pub fn weight_pass(averages: &[(Hotkey, f64)]) -> WeightPass {
    let values: Vec<f64> = averages.iter().map(|(_, value)| *value).collect();
    let (mean, deviation) = mean_and_deviation(&values);
    let bound = mean - FILTER_DEVIATIONS * deviation;
    let lower_bound = if bound < 0.0 { 0.0 } else { bound };
    let above: Vec<&(Hotkey, f64)> =
        averages.iter().filter(|(_, value)| *value > lower_bound).collect();
    let kept: Vec<Hotkey> = above.iter().map(|(hotkey, _)| *hotkey).collect();
    let transformed: Vec<f64> =
        above.iter().map(|(_, value)| yeo_johnson(*value, LAMBDA)).collect();
    let scaled =
        min_max_scale(&transformed).map(|scaled| kept.iter().copied().zip(scaled).collect());
    WeightPass { mean, deviation, lower_bound, kept, transformed, scaled }
}

/// Scales to 0..1 as `x·scale + (0 − min·scale)`; a spread below 10 ulp of one counts as one. NaN is
/// passed over and stays NaN. `None` for an empty list or an infinity.
///
/// Golden data: `weights/min_max_scalar_list.json`, exact.
pub fn min_max_scale(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() || values.iter().any(|value| value.is_infinite()) {
        return None;
    }
    let least = values.iter().copied().fold(f64::NAN, f64::min);
    let greatest = values.iter().copied().fold(f64::NAN, f64::max);
    let spread = greatest - least;
    let scale = 1.0 / if spread < 10.0 * f64::EPSILON { 1.0 } else { spread };
    let shift = 0.0 - least * scale;
    Some(values.iter().map(|value| value * scale + shift).collect())
}
