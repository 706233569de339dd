//! Temporal features as the reference computes them.
//!
//! The better one: [`crate::features::temporal::temporal_value`], which also knows times before 1970
//! and steps that run backwards.

use crate::features::FeatureId;
use crate::features::temporal::{temporal_value, term, within_term};
use crate::seed::SeedError;

/// Returns one feature at `count` times; the month or year is looked up only when a time reaches
/// the end of the one before.
///
/// # Errors
/// [`SeedError::ZeroDivision`] for a month or year before 1970, [`SeedError::Value`] for a time that
/// the calendar does not hold.
///
/// Golden data: `features/temporal.json`, exact in f64.
pub fn temporal_samples(
    feature: FeatureId,
    start_ms: i64,
    interval_ms: i64,
    count: usize,
) -> Result<Vec<f64>, SeedError> {
    let has_terms = matches!(feature, FeatureId::TIME_OF_MONTH | FeatureId::TIME_OF_YEAR);
    let mut current = (0, 0);
    let mut at_ms = start_ms;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let value = if has_terms {
            if at_ms >= current.1 {
                current = term(feature, at_ms).ok_or(SeedError::Value)?;
            }
            if current.0 == current.1 {
                return Err(SeedError::ZeroDivision);
            }
            within_term(at_ms, current.0, current.1)
        } else {
            temporal_value(feature, at_ms).ok_or(SeedError::Value)?
        };
        values.push(value);
        at_ms = at_ms.checked_add(interval_ms).ok_or(SeedError::Value)?;
    }
    Ok(values)
}
