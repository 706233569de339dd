//! Merging of feature sources as the reference does it.
//!
//! The better one: [`crate::features::aggregate_candles`], where a source with a wrong count costs
//! only itself and the order of arrival does not matter.

use indexmap::IndexMap;

use crate::features::{Aggregation, FeatureId};
use crate::numeric::{exact_sum, plain_sum, to_f32};
use crate::seed::SeedError;

/// Samples of several features, all of one length.
pub type Samples = IndexMap<FeatureId, Vec<f64>>;

/// Merges the sources that answered in time; `wanted` are the features of all sources together.
///
/// `narrow`: results are single precision. A feature of one source only is passed through.
///
/// # Errors
/// [`SeedError::Runtime`] without a source, for a missing feature, a wrong count of any source, or
/// a result that is not finite.
///
/// Golden data: `features/aggregator.json`.
pub fn aggregate_sources(
    sources: &[Samples],
    wanted: &[FeatureId],
    rule_of: &dyn Fn(FeatureId) -> Aggregation,
    count: usize,
    narrow: bool,
) -> Result<Samples, SeedError> {
    let lengths = sources.iter().flat_map(IndexMap::values).map(Vec::len);
    if sources.is_empty() || lengths.into_iter().any(|length| length != count) {
        return Err(SeedError::Runtime);
    }
    let merged = match sources {
        [only] => {
            if wanted.iter().any(|feature| !only.contains_key(feature)) {
                return Err(SeedError::Runtime);
            }
            only.clone()
        }
        _ => merge(sources, wanted, rule_of, count, narrow)?,
    };
    if merged.values().flatten().any(|value| !value.is_finite()) {
        return Err(SeedError::Runtime);
    }
    Ok(merged)
}

fn merge(
    sources: &[Samples],
    wanted: &[FeatureId],
    rule_of: &dyn Fn(FeatureId) -> Aggregation,
    count: usize,
    narrow: bool,
) -> Result<Samples, SeedError> {
    let mut merged = Samples::new();
    for feature in wanted {
        let columns: Vec<&Vec<f64>> =
            sources.iter().filter_map(|source| source.get(feature)).collect();
        let values = match columns[..] {
            [] => return Err(SeedError::Runtime),
            [only] => only.clone(),
            _ => (0..count)
                .map(|index| {
                    let row: Vec<f64> = columns.iter().map(|column| column[index]).collect();
                    let value = merge_row(&row, rule_of(*feature));
                    if narrow { f64::from(to_f32(value)) } else { value }
                })
                .collect(),
        };
        merged.insert(*feature, values);
    }
    Ok(merged)
}

fn merge_row(row: &[f64], rule: Aggregation) -> f64 {
    // Exact sums do not hold what is not finite; the plain sum shows it.
    if row.iter().any(|value| !value.is_finite()) {
        return plain_sum(row);
    }
    match rule {
        Aggregation::Sum => plain_sum(row),
        Aggregation::Mean => exact_sum(row) / row.len() as f64,
        other => crate::features::aggregate(row, other).unwrap_or(f64::NAN),
    }
}
