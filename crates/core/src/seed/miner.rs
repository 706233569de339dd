//! The reference miner's way from network outputs to forecasts, in single precision.
//!
//! The better one: [`crate::postprocess`], which refuses what is not finite instead of sending it
//! as 0, 1 or −1.

use indexmap::IndexMap;

use crate::features::FeatureId;
use crate::numeric::{Real, to_f32};
use crate::postprocess::{interpolate_between, sparse_indexes};
use crate::seed::SeedError;
use crate::seed::scaler::{ScalerKind, SeedScaler};

/// Forecast length of the reference.
const LENGTH: usize = 100;

/// Returns the outputs with NaN as 0 and infinities as 1 and −1.
pub fn sanitise(outputs: &[f32]) -> Vec<f32> {
    outputs
        .iter()
        .map(|value| match (value.is_nan(), value.is_infinite()) {
            (true, _) => 0.0,
            (_, true) => value.signum(),
            _ => *value,
        })
        .collect()
}

/// Returns `length` rows of `features` values each from `count` sparse rows.
///
/// # Errors
/// [`SeedError::Value`] when there are more sparse rows than steps or the outputs do not fit.
///
/// Golden data: `miner/predict_interpolation.json`, exact.
pub fn interpolate_rows(
    outputs: &[f32],
    count: usize,
    length: usize,
    features: usize,
) -> Result<Vec<Vec<f32>>, SeedError> {
    if features == 0 || outputs.len() != count * features {
        return Err(SeedError::Value);
    }
    let clean = sanitise(outputs);
    if count == length {
        return Ok(clean.chunks(features).map(<[f32]>::to_vec).collect());
    }
    let indexes = sparse_indexes(length, count).map_err(|_| SeedError::Value)?;
    if indexes.is_empty() {
        return Err(SeedError::Value);
    }
    let mut rows = vec![Vec::with_capacity(features); length];
    for feature in 0..features {
        let column: Vec<f64> =
            clean.iter().skip(feature).step_by(features).map(|value| f64::from(*value)).collect();
        let values = interpolate_between(&column, &indexes, length);
        for (row, value) in rows.iter_mut().zip(values) {
            row.push(to_f32(value));
        }
    }
    Ok(rows)
}

/// The rows for the network and the forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Scaled rows in the order of the features, single precision.
    pub model_input: Vec<Vec<f32>>,
    /// The forecast closes.
    pub closes: Vec<f32>,
}

/// Runs the reference's whole way from samples and network outputs to 100 closes. `T` is the width
/// of the samples.
///
/// # Errors
/// [`SeedError`] of the scaler and of the interpolation.
///
/// Golden data: `miner/get_predictions.json`.
#[expect(private_bounds, reason = "the trait only lists arithmetic of f32 and f64")]
pub fn get_predictions<T: Real>(
    samples: &IndexMap<FeatureId, Vec<T>>,
    kind: ScalerKind,
    outputs: &[f32],
    count: usize,
) -> Result<Prediction, SeedError> {
    let scaler = SeedScaler::fit(samples, kind)?;
    let mut columns = Vec::with_capacity(samples.len());
    for (feature, values) in samples {
        columns.push(scaler.scale(*feature, values)?);
    }
    let rows = columns.iter().map(Vec::len).min().unwrap_or(0);
    let narrow_row =
        |row: usize| columns.iter().map(|column| to_f32(column[row].widen())).collect::<Vec<_>>();
    let model_input = (0..rows).map(narrow_row).collect();
    let close = samples.get_index_of(&FeatureId::CLOSE);
    let last = close.and_then(|index| columns[index].last().copied());

    let curve: Vec<f32> =
        interpolate_rows(outputs, count, LENGTH, 1)?.into_iter().flatten().collect();
    let scaled = match (last, &curve[..]) {
        (Some(last), [first, ..]) if count == 1 => straight_line(*first, last),
        (Some(last), [first, second, ..]) => shifted(&curve, *first, *second, last.widen()),
        _ => curve,
    };
    let closes = scaler.unscale_singles(FeatureId::CLOSE, &scaled)?;
    Ok(Prediction { model_input, closes })
}

/// 100 equal increments from the last close towards the forecast, added one after the other.
fn straight_line<T: Real>(forecast: f32, last: T) -> Vec<f32> {
    let distance = T::narrow(f64::from(forecast)) - last;
    let increment = distance.widen() / LENGTH as f64;
    let mut value = last.widen();
    (0..LENGTH)
        .map(|_| {
            value += increment;
            to_f32(value)
        })
        .collect()
}

/// Shifts the curve so that its continuation one step back is the last close.
fn shifted(curve: &[f32], first: f32, second: f32, last: f64) -> Vec<f32> {
    let before = 2.0 * f64::from(first) - f64::from(second);
    let offset = to_f32(before - last);
    curve.iter().map(|value| value - offset).collect()
}
