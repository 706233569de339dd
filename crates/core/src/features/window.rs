//! The lookback window of a model.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::rows::Run;
use super::{Columns, FeatureSet, FeatureSpec};
use crate::candle::{Candle, CandleError};
use crate::grid::Interval;
use crate::ids::StreamId;
use crate::realised::fill_from_past;
use crate::settings::Compatibility;
use crate::stream::StreamSpec;

/// Most rows of a window; protects memory against a wrong configuration.
pub const MAX_ROWS: usize = 100_000;

/// The feature vectors of consecutive steps, oldest first.
///
/// Row `i` of `T` belongs to the candle that closes at `end_ms − (T − 1 − i)·interval`; nothing in
/// it was known later than that moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The stream that the candles belong to.
    pub stream: StreamId,
    /// Closing time of the newest candle: the earliest possible start of a forecast.
    pub end_ms: i64,
    /// Spacing of the rows.
    pub interval: Interval,
    /// The columns.
    pub features: Vec<FeatureSpec>,
    /// Which definition of the indicators they have.
    pub indicators: Compatibility,
    /// Values, row after row, shape `[T, F]`, all finite.
    pub rows: Vec<f64>,
    /// Rows without a candle of their own: flat at the close before.
    pub filled: usize,
    /// Wanted features that have no value in some row, and so no column.
    pub missing: Vec<FeatureSpec>,
}

/// A window with the candles that it was built from.
#[derive(Debug, Clone, PartialEq)]
pub struct Lookback {
    /// The features.
    pub window: Window,
    /// One candle a row, oldest first, without holes.
    pub candles: Vec<Candle>,
}

/// Why no window can be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FeatureError {
    /// The end is not on the stream's time grid.
    #[error("window end {end_ms} ms is not on the grid of {interval}")]
    OffGrid {
        /// The refused end.
        end_ms: i64,
        /// The stream's interval.
        interval: Interval,
    },
    /// There is no candle at or before the first needed one.
    #[error("no candle at or before {needed_ms} ms, backfill the history of the stream")]
    NoHistory {
        /// Closing time of the first row.
        needed_ms: i64,
    },
    /// The candles are not in rising order of time.
    #[error("candle at {0} ms is not younger than the one before")]
    Unsorted(i64),
    /// A candle has values that no market has.
    #[error(transparent)]
    Candle(#[from] CandleError),
    /// No rows were asked for, or too many.
    #[error("window of {rows} rows, must be 1..=100000 rows, warm-up included")]
    Size {
        /// Rows asked for.
        rows: usize,
    },
}

impl Window {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.features.len().max(1)
    }

    /// Tells whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns one row, shape `[F]`; `None` behind the end.
    pub fn row(&self, index: usize) -> Option<&[f64]> {
        self.rows.chunks_exact(self.features.len().max(1)).nth(index)
    }

    /// Returns where a feature stands in a row; `None` when the window has no such feature.
    pub fn position(&self, feature: &FeatureSpec) -> Option<usize> {
        self.features.iter().position(|known| known == feature)
    }

    /// Returns one column, shape `[T]`; `None` when the window has no such feature.
    pub fn column(&self, feature: &FeatureSpec) -> Option<Vec<f64>> {
        let index = self.position(feature)?;
        Some(self.rows.iter().skip(index).step_by(self.features.len()).copied().collect())
    }
}

/// Builds the window of `spec.lookback` rows that ends at `end_ms`, for training, back-tests and live
/// forecasts alike.
///
/// `candles`: in rising order, from `set.warm_up()` candles before the first row on where there are as
/// many; those that close after `end_ms` are not looked at. A missing candle becomes a flat one at the
/// close before, never after. A feature that lacks a value in some row, as without its warm-up, gets
/// no column and is named in [`Window::missing`], so that it costs nobody who does not need it.
///
/// # Errors
/// [`FeatureError`]; with [`FeatureError::NoHistory`] a backfill helps.
pub fn build_window(
    candles: &[Candle],
    columns: &Columns,
    spec: &StreamSpec,
    set: &FeatureSet,
    end_ms: i64,
) -> Result<Lookback, FeatureError> {
    let rows = spec.lookback;
    let wanted = rows.saturating_add(set.warm_up());
    if rows == 0 || wanted > MAX_ROWS {
        return Err(FeatureError::Size { rows });
    }
    let mut run = without_holes(candles, spec.interval, rows..=wanted, end_ms)?;
    let warm_up = run.candles.len() - rows;
    let source = Run::new(&run.candles, spec.interval, columns, set);
    let (mut features, mut missing, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for feature in set.names() {
        let column: Option<Vec<f64>> =
            (warm_up..warm_up + rows).map(|index| source.value(feature, index)).collect();
        match column {
            Some(column) => {
                features.push(feature.clone());
                values.push(column);
            }
            None => missing.push(feature.clone()),
        }
    }
    let row = |index: usize| values.iter().filter_map(move |column| column.get(index)).copied();
    let window = Window {
        stream: spec.id.clone(),
        end_ms,
        interval: spec.interval,
        indicators: set.indicators(),
        rows: (0..rows).flat_map(row).collect(),
        filled: rows - run.found_from(warm_up),
        features,
        missing,
    };
    debug_assert_eq!(window.rows.len(), rows * window.features.len());
    Ok(Lookback { window, candles: run.candles.split_off(warm_up) })
}

/// Candles on each step of a span.
struct Filled {
    candles: Vec<Candle>,
    /// Open times of those that are real, rising.
    found_ms: Vec<i64>,
}

impl Filled {
    /// Counts the real candles from the one at `index` on.
    fn found_from(&self, index: usize) -> usize {
        let from_ms = self.candles.get(index).map_or(i64::MAX, |candle| candle.open_time_ms);
        self.found_ms.len() - self.found_ms.partition_point(|open_ms| *open_ms < from_ms)
    }
}

/// Returns the candles whose last one closes at `end_ms`, holes filled from the past: as many of
/// `count` as there are.
fn without_holes(
    candles: &[Candle],
    interval: Interval,
    count: RangeInclusive<usize>,
    end_ms: i64,
) -> Result<Filled, FeatureError> {
    if !interval.is_aligned(end_ms) {
        return Err(FeatureError::OffGrid { end_ms, interval });
    }
    if let Some(pair) = candles.windows(2).find(|pair| pair[0].open_time_ms >= pair[1].open_time_ms)
    {
        return Err(FeatureError::Unsorted(pair[1].open_time_ms));
    }
    let first_of = |count: usize| {
        let span_ms = interval.as_ms().saturating_mul(i64::try_from(count).unwrap_or(i64::MAX));
        end_ms.saturating_sub(span_ms)
    };
    let oldest_ms = candles.first().map_or(i64::MAX, |candle| interval.ceil(candle.open_time_ms));
    let first_ms = first_of(*count.end()).max(oldest_ms).min(first_of(*count.start()));
    // The newest candle that opens at or before the first step stands for it, or before it.
    let begin = candles.partition_point(|candle| candle.open_time_ms <= first_ms);
    let end = candles.partition_point(|candle| candle.open_time_ms < end_ms);
    let needed_ms = first_ms.saturating_add(interval.as_ms());
    let first = begin.checked_sub(1).and_then(|index| candles.get(index));
    let first = first.ok_or(FeatureError::NoHistory { needed_ms })?;
    let later = candles.get(begin..end).unwrap_or_default();
    for candle in std::iter::once(first).chain(later) {
        candle.validate(interval)?;
    }
    let is_real = first.open_time_ms == first_ms;
    let first = if is_real { *first } else { first.flat_after(first_ms) };
    let found: Vec<Candle> = std::iter::once(first).chain(later.iter().copied()).collect();
    let (filled, _) = fill_from_past(interval, &found, first_ms, end_ms);
    debug_assert!(count.contains(&filled.len()));
    let found_ms =
        found.iter().skip(usize::from(!is_real)).map(|candle| candle.open_time_ms).collect();
    Ok(Filled { candles: filled, found_ms })
}

#[cfg(test)]
mod tests;
