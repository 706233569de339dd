//! From the raw outputs of a network to the closes of a forecast.
//!
//! ```text
//! sparse outputs ─interpolate─► one value a step ─anchor_to_last─► starts at the last close
//! ```
//!
//! Outputs that are NaN or infinite are refused; the caller falls back to its next model.

/// Why outputs cannot become a forecast.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostprocessError {
    /// More outputs than steps, or none.
    #[error("{count} outputs for {length} steps, must be 1..={length}")]
    Count {
        /// Outputs of the network.
        count: usize,
        /// Steps of the forecast.
        length: usize,
    },
    /// An output is NaN or infinite.
    #[error("network output {index} is not finite")]
    NotFinite {
        /// Position of the first such output.
        index: usize,
    },
}

/// Returns the steps that `count` sparse outputs stand for: the first is 0, the last `length - 1`,
/// between them multiples of `length / (count - 1)` rounded down. One output stands for step 0.
///
/// Golden data: `miner/sparse_indexes.json`, exact.
///
/// # Errors
/// [`PostprocessError::Count`] when there are more outputs than steps.
pub fn sparse_indexes(length: usize, count: usize) -> Result<Vec<usize>, PostprocessError> {
    if count > length {
        return Err(PostprocessError::Count { count, length });
    }
    match count {
        0 => Ok(Vec::new()),
        1 => Ok(vec![0]),
        _ => {
            let spacing = length / (count - 1);
            let mut indexes: Vec<usize> = (0..count - 1).map(|index| index * spacing).collect();
            indexes.push(length - 1);
            Ok(indexes)
        }
    }
}

/// Returns one value a step by linear interpolation between the sparse outputs; one output is flat.
///
/// Golden data: `miner/predict_interpolation.json`, exact after rounding to single precision.
///
/// # Errors
/// [`PostprocessError`] when the count does not fit or an output is not finite.
pub fn interpolate(outputs: &[f64], length: usize) -> Result<Vec<f64>, PostprocessError> {
    if let Some(index) = outputs.iter().position(|value| !value.is_finite()) {
        return Err(PostprocessError::NotFinite { index });
    }
    if outputs.is_empty() {
        return Err(PostprocessError::Count { count: 0, length });
    }
    let indexes = sparse_indexes(length, outputs.len())?;
    Ok(interpolate_between(outputs, &indexes, length))
}

/// The interpolation itself; `indexes` rise and belong to `outputs`.
pub(crate) fn interpolate_between(outputs: &[f64], indexes: &[usize], length: usize) -> Vec<f64> {
    if outputs.len() == length {
        return outputs.to_vec();
    }
    let mut segment = 0;
    let mut values = Vec::with_capacity(length);
    for step in 0..length {
        while segment + 1 < indexes.len() && indexes[segment + 1] <= step {
            segment += 1;
        }
        let (x0, y0) = (indexes[segment], outputs[segment]);
        let value = match (indexes.get(segment + 1), outputs.get(segment + 1)) {
            (Some(x1), Some(y1)) if step > x0 => {
                let slope = (y1 - y0) / (x1 - x0) as f64;
                slope * (step - x0) as f64 + y0
            }
            _ => y0,
        };
        values.push(value);
    }
    values
}

/// Shifts a curve so that its straight continuation one step before the first value is `last`.
///
/// Without a second value the curve begins at `last`.
pub fn anchor_to_last(values: &[f64], last: f64) -> Vec<f64> {
    let Some(first) = values.first() else { return Vec::new() };
    let before = values.get(1).map_or(*first, |second| 2.0 * first - second);
    let offset = before - last;
    values.iter().map(|value| value - offset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_steps_of_the_reference_model() {
        assert_eq!(sparse_indexes(100, 10).unwrap(), [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]);
        assert!(sparse_indexes(3, 4).is_err());
    }

    #[test]
    fn interpolation_meets_its_points() {
        let outputs = [1.0, 3.0, -1.0];
        let values = interpolate(&outputs, 11).unwrap();
        for (index, output) in sparse_indexes(11, 3).unwrap().into_iter().zip(outputs) {
            assert!((values[index] - output).abs() < 1e-12);
        }
        assert_eq!(interpolate(&[2.0], 3).unwrap(), [2.0; 3]);
    }

    #[test]
    fn outputs_that_are_no_numbers_are_refused() {
        assert_eq!(interpolate(&[0.0, f64::NAN], 9), Err(PostprocessError::NotFinite { index: 1 }));
        assert_eq!(interpolate(&[f64::INFINITY], 9), Err(PostprocessError::NotFinite { index: 0 }));
        assert!(interpolate(&[], 9).is_err() && interpolate(&[0.0; 10], 9).is_err());
    }

    #[test]
    fn an_anchored_curve_continues_the_last_close() {
        let anchored = anchor_to_last(&[10.0, 12.0, 15.0], 100.0);
        assert_eq!(anchored, [102.0, 104.0, 107.0]);
        assert_eq!(anchor_to_last(&[5.0], 7.0), [7.0]);
        assert!(anchor_to_last(&[], 7.0).is_empty());
    }
}
