//! From the network's few outputs to one value for each step of the horizon.
//!
//! The network answers [`OUTPUT_POINTS`] values at spread steps (0, 11, 22, … 88, 99 for a horizon
//! of 100); the steps between are linear ([`forecastd_core::postprocess`]). The training loss needs
//! the same interpolation as a matrix.

use forecastd_core::postprocess::{PostprocessError, interpolate};

/// Number of values that the network answers. Source: the seed's model, ten of a hundred steps.
pub const OUTPUT_POINTS: usize = 10;

/// Returns the linear interpolation as a matrix, shape `[OUTPUT_POINTS, horizon]`, row-major: the
/// value of a step is the sum over the points of output times weight; each column sums to 1.
///
/// # Errors
/// [`PostprocessError::Count`] when `horizon` is below [`OUTPUT_POINTS`].
pub fn interpolation_weights(horizon: usize) -> Result<Vec<f64>, PostprocessError> {
    let mut weights = Vec::with_capacity(OUTPUT_POINTS * horizon);
    for point in 0..OUTPUT_POINTS {
        let mut outputs = [0.0; OUTPUT_POINTS];
        outputs[point] = 1.0;
        weights.extend(interpolate(&outputs, horizon)?);
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_gives_the_interpolation_of_any_outputs() {
        let outputs = [0.3, -1.0, 2.0, 0.0, 5.0, 4.0, -3.0, 1.0, 1.5, 9.0];
        for horizon in [10, 17, 23, 100, 288] {
            let weights = interpolation_weights(horizon).unwrap();
            let direct = interpolate(&outputs, horizon).unwrap();
            for (step, value) in direct.iter().enumerate() {
                let column = |point: usize| weights[point * horizon + step];
                let product: f64 = (0..OUTPUT_POINTS).map(|p| outputs[p] * column(p)).sum();
                assert!((product - value).abs() < 1e-12, "{horizon} {step}");
                let sum: f64 = (0..OUTPUT_POINTS).map(column).sum();
                assert!((sum - 1.0).abs() < 1e-12, "{horizon} {step}");
            }
        }
        assert!(interpolation_weights(9).is_err());
    }
}
