//! What is forecast: one market, one interval, one horizon.

use serde::{Deserialize, Serialize};

use crate::grid::Interval;
use crate::ids::StreamId;

/// The constants of one forecast stream, from configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSpec {
    /// Name, also the wire's `stream_id`.
    pub id: StreamId,
    /// Candle length and spacing of the forecast closes.
    pub interval: Interval,
    /// Number of closes in a forecast.
    pub horizon: usize,
    /// Number of past candles that a model sees.
    pub lookback: usize,
    /// Spacing of the rounds.
    pub round_every: Interval,
    /// The wire's `topic_id`.
    pub topic_id: i64,
    /// The wire's `schema_id`.
    pub schema_id: i64,
}

impl StreamSpec {
    /// Returns the time of forecast step `step` (0-based): the closing time of the candle whose
    /// close it forecasts. Step 0 closes one interval after `start_ms`.
    pub fn step_time_ms(&self, start_ms: i64, step: usize) -> i64 {
        let steps = i64::try_from(step).unwrap_or(i64::MAX).saturating_add(1);
        start_ms.saturating_add(self.interval.as_ms().saturating_mul(steps))
    }

    /// Returns the time at which the last forecast step closes.
    pub fn end_ms(&self, start_ms: i64) -> i64 {
        self.step_time_ms(start_ms, self.horizon.saturating_sub(1))
    }
}
