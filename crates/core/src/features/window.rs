//! The lookback window of a model.

use serde::{Deserialize, Serialize};

use super::FeatureId;
use super::temporal::temporal_value;
use crate::candle::{Candle, CandleError};
use crate::grid::Interval;
use crate::ids::StreamId;
use crate::stream::StreamSpec;

/// Most rows of a window; protects memory against a wrong configuration.
pub const MAX_ROWS: usize = 100_000;

/// The feature vectors of consecutive steps, oldest first.
///
/// Row `i` of `T` belongs to the candle that closes at `end_ms − (T − 1 − i)·interval`; nothing in
/// it is younger than that moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The stream that the candles belong to.
    pub stream: StreamId,
    /// Closing time of the newest candle: the earliest possible start of a forecast.
    pub end_ms: i64,
    /// Spacing of the rows.
    pub interval: Interval,
    /// The columns.
    pub features: Vec<FeatureId>,
    /// Values, row after row, shape `[T, F]`, all finite.
    pub rows: Vec<f64>,
    /// Rows without a candle of their own: flat at the close before.
    pub filled: usize,
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
    /// There is no candle at or before the first row.
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
    /// A feature cannot be built from candles and time.
    #[error("feature {0} is unknown, use one of the names in the documentation")]
    Unknown(FeatureId),
    /// A feature has no value at this time.
    #[error("feature {feature} has no value at {at_ms} ms")]
    NoValue {
        /// The feature.
        feature: FeatureId,
        /// The time of the row.
        at_ms: i64,
    },
    /// No rows or no columns were asked for, or too many.
    #[error(
        "window of {rows} rows and {columns} columns, must be 1..=100000 rows and some columns"
    )]
    Size {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
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

    /// Returns one column, shape `[T]`; `None` when the window has no such feature.
    pub fn column(&self, feature: FeatureId) -> Option<Vec<f64>> {
        let index = self.features.iter().position(|id| *id == feature)?;
        Some(self.rows.iter().skip(index).step_by(self.features.len()).copied().collect())
    }
}

/// Builds the window of `spec.lookback` rows that ends at `end_ms`.
///
/// `candles`: in rising order; those that close after `end_ms` are not looked at. A missing candle
/// becomes a flat one at the close before, never after.
///
/// # Errors
/// [`FeatureError`]; with [`FeatureError::NoHistory`] a backfill helps.
pub fn build_window(
    candles: &[Candle],
    spec: &StreamSpec,
    features: &[FeatureId],
    end_ms: i64,
) -> Result<Window, FeatureError> {
    let (rows, columns) = (spec.lookback, features.len());
    if rows == 0 || columns == 0 || rows > MAX_ROWS {
        return Err(FeatureError::Size { rows, columns });
    }
    let interval = spec.interval;
    if !interval.is_aligned(end_ms) {
        return Err(FeatureError::OffGrid { end_ms, interval });
    }
    if let Some(unknown) = features.iter().find(|id| id.name().is_none()) {
        return Err(FeatureError::Unknown(*unknown));
    }
    if let Some(pair) = candles.windows(2).find(|pair| pair[0].open_time_ms >= pair[1].open_time_ms)
    {
        return Err(FeatureError::Unsorted(pair[1].open_time_ms));
    }
    let span = interval.as_ms().saturating_mul(i64::try_from(rows).unwrap_or(i64::MAX));
    let first_open_ms = end_ms.saturating_sub(span);
    // The newest candle that opens at or before the first row stands for it, or before it.
    let after = candles.partition_point(|candle| candle.open_time_ms <= first_open_ms);
    let mut next = after;
    let mut current = match after.checked_sub(1).and_then(|index| candles.get(index)) {
        Some(candle) => *candle,
        None => {
            return Err(FeatureError::NoHistory { needed_ms: first_open_ms + interval.as_ms() });
        }
    };
    let mut window = Window {
        stream: spec.id.clone(),
        end_ms,
        interval,
        features: features.to_vec(),
        rows: Vec::with_capacity(rows * columns),
        filled: 0,
    };
    let mut open_time_ms = first_open_ms;
    while open_time_ms < end_ms {
        if let Some(candle) = candles.get(next).filter(|c| c.open_time_ms <= open_time_ms) {
            current = *candle;
            next += 1;
        }
        current.validate(interval)?;
        if current.open_time_ms < open_time_ms {
            current = current.flat_after(open_time_ms);
            window.filled += 1;
        }
        for feature in features {
            window.rows.push(value_of(&current, *feature, open_time_ms + interval.as_ms())?);
        }
        open_time_ms += interval.as_ms();
    }
    debug_assert_eq!(window.rows.len(), rows * columns);
    Ok(window)
}

fn value_of(candle: &Candle, feature: FeatureId, at_ms: i64) -> Result<f64, FeatureError> {
    let value = match feature {
        FeatureId::OPEN => Some(candle.open),
        FeatureId::CLOSE => Some(candle.close),
        FeatureId::HIGH => Some(candle.high),
        FeatureId::LOW => Some(candle.low),
        FeatureId::VOLUME => Some(candle.volume),
        FeatureId::TRADE_COUNT => candle.trade_count.map(|count| count as f64),
        temporal => temporal_value(temporal, at_ms),
    };
    value.ok_or(FeatureError::NoValue { feature, at_ms })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: i64 = 300_000;

    fn spec(lookback: usize) -> StreamSpec {
        StreamSpec {
            id: StreamId("BTCUSD-5m".to_owned()),
            interval: Interval::FIVE_MINUTES,
            horizon: 100,
            lookback,
            round_every: Interval::from_ms(1_800_000).unwrap(),
            topic_id: 1,
            schema_id: 1,
        }
    }

    fn candle(index: i64) -> Candle {
        let close = 40_000.0 + index as f64;
        Candle {
            open_time_ms: index * STEP,
            open: close - 0.5,
            high: close + 1.0,
            low: close - 1.0,
            close,
            volume: 2.0,
            trade_count: Some(3),
        }
    }

    fn closes(candles: &[Candle], lookback: usize, end: i64) -> Result<Vec<f64>, FeatureError> {
        let window = build_window(candles, &spec(lookback), &[FeatureId::CLOSE], end * STEP)?;
        Ok(window.rows)
    }

    #[test]
    fn the_newest_row_closes_at_the_end() {
        let candles: Vec<Candle> = (0..20).map(candle).collect();
        let features = [FeatureId::CLOSE, FeatureId::EPOCH_MS, FeatureId::VOLUME];
        let window = build_window(&candles, &spec(3), &features, 10 * STEP).unwrap();
        assert_eq!(window.len(), 3);
        assert_eq!(window.row(2).unwrap(), [40_009.0, 10.0 * STEP as f64, 2.0]);
        assert_eq!(window.column(FeatureId::CLOSE).unwrap(), [40_007.0, 40_008.0, 40_009.0]);
        assert_eq!(window.filled, 0);
    }

    #[test]
    fn a_gap_is_filled_from_the_past_and_never_from_the_future() {
        let candles: Vec<Candle> =
            (0..20).filter(|index| ![5, 6, 9].contains(index)).map(candle).collect();
        let rows = closes(&candles, 6, 10).unwrap();
        assert_eq!(rows, [40_004.0, 40_004.0, 40_004.0, 40_007.0, 40_008.0, 40_008.0]);
        let features = [FeatureId::VOLUME, FeatureId::HIGH];
        let window = build_window(&candles, &spec(2), &features, 7 * STEP).unwrap();
        assert_eq!(window.rows, [0.0, 40_004.0, 0.0, 40_004.0]);
        assert_eq!(window.filled, 2);
    }

    #[test]
    fn missing_history_unsorted_and_off_grid_candles_are_errors() {
        let candles: Vec<Candle> = (5..20).map(candle).collect();
        assert_eq!(closes(&candles, 6, 10), Err(FeatureError::NoHistory { needed_ms: 5 * STEP }));
        assert!(closes(&candles, 5, 10).is_ok());
        let mut unsorted = candles.clone();
        unsorted.swap(3, 4);
        assert!(matches!(closes(&unsorted, 5, 10), Err(FeatureError::Unsorted(_))));
        let mut broken = candles.clone();
        broken[2].close = f64::NAN;
        assert!(matches!(closes(&broken, 5, 10), Err(FeatureError::Candle(_))));
        let result = build_window(&candles, &spec(2), &[FeatureId::CLOSE], 10 * STEP + 1);
        assert!(matches!(result, Err(FeatureError::OffGrid { .. })));
        let result = build_window(&candles, &spec(2), &[FeatureId(9)], 10 * STEP);
        assert_eq!(result, Err(FeatureError::Unknown(FeatureId(9))));
    }

    proptest! {
        #[test]
        fn what_happens_after_the_end_changes_nothing(
            missing in prop::collection::btree_set(1_i64..40, 0..15),
            end in 12_i64..38,
            lookback in 1_usize..10,
            factor in 0.1..10.0_f64,
        ) {
            let candles: Vec<Candle> =
                (0..40).filter(|index| !missing.contains(index)).map(candle).collect();
            let mut changed = candles.clone();
            for later in changed.iter_mut().filter(|c| c.open_time_ms >= end * STEP) {
                later.close *= factor;
            }
            let known: Vec<Candle> =
                candles.iter().copied().filter(|c| c.open_time_ms < end * STEP).collect();
            let rows = closes(&candles, lookback, end).unwrap();
            prop_assert_eq!(&rows, &closes(&changed, lookback, end).unwrap());
            prop_assert_eq!(&rows, &closes(&known, lookback, end).unwrap());
        }
    }
}
