//! Merging several exchanges' candles of the same step, and short candles into longer ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::candle::Candle;
use crate::grid::Interval;
use crate::numeric::exact_sum;

/// How the values of several sources become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Exact sum divided by the number of sources.
    Mean,
    /// Middle value, the mean of both middle ones for an even number: one bad source cannot move it.
    Median,
    /// Greatest.
    Max,
    /// Least.
    Min,
    /// Exact sum.
    Sum,
    /// Mean in which a source counts as much as it traded; the plain mean where nothing was traded
    /// or no volume is known.
    VolumeWeighted,
}

/// How each field of candles is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CandleAggregation {
    /// First price.
    pub open: Aggregation,
    /// Highest price.
    pub high: Aggregation,
    /// Lowest price.
    pub low: Aggregation,
    /// Last price.
    pub close: Aggregation,
    /// Volume and number of trades.
    pub volume: Aggregation,
}

impl Default for CandleAggregation {
    fn default() -> Self {
        Self {
            open: Aggregation::Mean,
            high: Aggregation::Mean,
            low: Aggregation::Mean,
            close: Aggregation::Mean,
            volume: Aggregation::Sum,
        }
    }
}

/// Merges the values of several sources; `None` without a source or with a value that is not
/// finite. The order of the sources does not matter.
///
/// Golden data: `features/aggregator.json`.
pub fn aggregate(values: &[f64], rule: Aggregation) -> Option<f64> {
    aggregate_weighted(values, &[], rule)
}

/// Merges like [`aggregate`]; `volumes`, one a value and not negative, are the weights of
/// [`Aggregation::VolumeWeighted`].
///
/// `None` also where a needed volume is missing or not finite.
pub fn aggregate_weighted(values: &[f64], volumes: &[f64], rule: Aggregation) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let count = values.len();
    let merged = match rule {
        Aggregation::VolumeWeighted if !volumes.is_empty() => weighted_mean(values, volumes)?,
        Aggregation::Mean | Aggregation::VolumeWeighted => exact_sum(values) / count as f64,
        Aggregation::Sum => exact_sum(values),
        Aggregation::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Aggregation::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
        Aggregation::Median => {
            let mut sorted = values.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let upper = sorted[count / 2];
            if count % 2 == 1 { upper } else { f64::midpoint(sorted[count / 2 - 1], upper) }
        }
    };
    merged.is_finite().then_some(merged)
}

/// Returns the mean of finite values with the volumes as weights, never outside of the values.
fn weighted_mean(values: &[f64], volumes: &[f64]) -> Option<f64> {
    let is_weight = |volume: &f64| volume.is_finite() && *volume >= 0.0;
    if volumes.len() != values.len() || !volumes.iter().all(is_weight) {
        return None;
    }
    let total = exact_sum(volumes);
    if total <= 0.0 {
        return aggregate(values, Aggregation::Mean);
    }
    let products: Vec<f64> = values.iter().zip(volumes).map(|(v, weight)| v * weight).collect();
    // The quotient of two rounded sums may leave the values by a last bit.
    let least = aggregate(values, Aggregation::Min)?;
    let greatest = aggregate(values, Aggregation::Max)?;
    Some((exact_sum(&products) / total).clamp(least, greatest))
}

/// Merges the candles of several exchanges step by step, in rising order of time.
///
/// A step that one exchange lacks is merged from the others; a step that none has stays a gap.
/// High and low are widened where needed, so that a merged candle holds its open and close.
pub fn aggregate_candles(sources: &[&[Candle]], rules: &CandleAggregation) -> Vec<Candle> {
    let mut steps: BTreeMap<i64, Vec<&Candle>> = BTreeMap::new();
    for candle in sources.iter().copied().flatten() {
        steps.entry(candle.open_time_ms).or_default().push(candle);
    }
    steps.into_iter().filter_map(|(at_ms, parts)| aggregate_step(at_ms, &parts, rules)).collect()
}

/// Merges the candles of one step; `None` without a candle or with a value that is not finite.
pub fn aggregate_step(
    open_time_ms: i64,
    parts: &[&Candle],
    rules: &CandleAggregation,
) -> Option<Candle> {
    let volumes: Vec<f64> = parts.iter().map(|candle| candle.volume).collect();
    let mut values = Vec::with_capacity(parts.len());
    let mut field = |of: fn(&Candle) -> f64, rule| {
        values.clear();
        values.extend(parts.iter().map(|candle| of(candle)));
        aggregate_weighted(&values, &volumes, rule)
    };
    let open = field(|c| c.open, rules.open)?;
    let close = field(|c| c.close, rules.close)?;
    Some(Candle {
        open_time_ms,
        open,
        high: field(|c| c.high, rules.high)?.max(open).max(close),
        low: field(|c| c.low, rules.low)?.min(open).min(close),
        close,
        volume: field(|c| c.volume, rules.volume)?,
        trade_count: sum_of_counts(parts.iter().copied()),
    })
}

/// Merges short candles into longer ones on the grid of `to`; each with the number of its parts.
///
/// `candles`: in rising order. First open, highest high, lowest low, last close, exact sum of the
/// volumes. The caller decides what to do with a candle that has fewer parts than fit.
pub fn compact(candles: &[Candle], to: Interval) -> Vec<(Candle, usize)> {
    let mut result = Vec::new();
    for group in candles.chunk_by(|a, b| to.floor(a.open_time_ms) == to.floor(b.open_time_ms)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let volumes: Vec<f64> = group.iter().map(|candle| candle.volume).collect();
        let merged = Candle {
            open_time_ms: to.floor(first.open_time_ms),
            open: first.open,
            high: group.iter().map(|candle| candle.high).fold(first.high, f64::max),
            low: group.iter().map(|candle| candle.low).fold(first.low, f64::min),
            close: last.close,
            volume: exact_sum(&volumes),
            trade_count: sum_of_counts(group.iter()),
        };
        result.push((merged, group.len()));
    }
    result
}

/// The sum, or nothing when one source does not tell.
fn sum_of_counts<'a>(mut candles: impl Iterator<Item = &'a Candle>) -> Option<u64> {
    candles.try_fold(0_u64, |sum, candle| Some(sum.saturating_add(candle.trade_count?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candle(open_time_ms: i64, close: f64, trade_count: Option<u64>) -> Candle {
        Candle {
            open_time_ms,
            open: close - 1.0,
            high: close + 2.0,
            low: close - 2.0,
            close,
            volume: 1.5,
            trade_count,
        }
    }

    #[test]
    fn every_rule_has_its_value() {
        let values = [4.0, 1.0, 10.0, 3.0];
        let merged = |rule| aggregate(&values, rule).unwrap();
        assert_eq!(merged(Aggregation::Mean).to_bits(), 4.5_f64.to_bits());
        assert_eq!(merged(Aggregation::Median).to_bits(), 3.5_f64.to_bits());
        assert_eq!(merged(Aggregation::Max).to_bits(), 10.0_f64.to_bits());
        assert_eq!(merged(Aggregation::Min).to_bits(), 1.0_f64.to_bits());
        assert_eq!(merged(Aggregation::Sum).to_bits(), 18.0_f64.to_bits());
        assert_eq!(merged(Aggregation::VolumeWeighted).to_bits(), 4.5_f64.to_bits());
        let weighted =
            |volumes: &[f64]| aggregate_weighted(&values, volumes, Aggregation::VolumeWeighted);
        assert_eq!(weighted(&[1.0, 0.0, 1.0, 0.0]), Some(7.0));
        assert_eq!(weighted(&[0.0; 4]), Some(4.5), "nothing was traded: the plain mean");
        for broken in [&[1.0][..], &[1.0, 1.0, 1.0, f64::NAN], &[1.0, 1.0, 1.0, -1.0]] {
            assert_eq!(weighted(broken), None, "{broken:?}");
        }
        assert_eq!(aggregate(&[], Aggregation::Mean), None);
        assert_eq!(aggregate(&[1.0, f64::NAN], Aggregation::Max), None);
        assert_eq!(aggregate(&[f64::MAX, f64::MAX], Aggregation::Sum), None);
    }

    #[test]
    fn a_missing_candle_is_merged_from_the_others() {
        let one = [candle(0, 100.0, Some(1)), candle(10, 102.0, Some(1))];
        let two = [candle(0, 104.0, Some(2))];
        let merged = aggregate_candles(&[&one, &two], &CandleAggregation::default());
        let seen: Vec<_> = merged.iter().map(|c| (c.open_time_ms, c.close, c.volume)).collect();
        assert_eq!(seen, [(0, 102.0, 3.0), (10, 102.0, 1.5)]);
        assert_eq!(merged[0].trade_count, Some(3));
    }

    #[test]
    fn minutes_become_five_minutes() {
        let minutes: Vec<Candle> =
            (0_u8..7).map(|i| candle(i64::from(i) * 60_000, f64::from(i) + 10.0, None)).collect();
        let merged = compact(&minutes, Interval::FIVE_MINUTES);
        assert_eq!(merged.len(), 2);
        let (first, parts) = merged[0];
        assert_eq!((first.open, first.high, first.low, first.close), (9.0, 16.0, 8.0, 14.0));
        assert_eq!((first.volume, first.trade_count, parts), (7.5, None, 5));
        assert_eq!((merged[1].0.open_time_ms, merged[1].1), (300_000, 2));
    }
}
