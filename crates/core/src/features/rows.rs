//! One value of one feature: the only place where features are computed.

use super::temporal::temporal_value;
use super::{Columns, FeatureId, FeatureSet, FeatureSpec};
use crate::candle::Candle;
use crate::grid::Interval;
use crate::settings::Compatibility;

/// Candles without holes, and what else was known.
pub(super) struct Run<'a> {
    candles: &'a [Candle],
    closes: Vec<f64>,
    interval: Interval,
    columns: &'a Columns,
    indicators: Compatibility,
}

impl<'a> Run<'a> {
    /// `candles`: sound, each one interval after the one before.
    pub(super) fn new(
        candles: &'a [Candle],
        interval: Interval,
        columns: &'a Columns,
        set: &FeatureSet,
    ) -> Self {
        let closes = candles.iter().map(|candle| candle.close).collect();
        Self { candles, closes, interval, columns, indicators: set.indicators() }
    }

    /// Returns the value at the close of the candle at `index`, from nothing that was known later;
    /// `None` where there is none, as before the end of the warm-up.
    pub(super) fn value(&self, feature: &FeatureSpec, index: usize) -> Option<f64> {
        let candle = self.candles.get(index)?;
        let now_ms = candle.close_time_ms(self.interval);
        let value = match feature {
            FeatureSpec::Plain(id) => match *id {
                FeatureId::OPEN => Some(candle.open),
                FeatureId::CLOSE => Some(candle.close),
                FeatureId::HIGH => Some(candle.high),
                FeatureId::LOW => Some(candle.low),
                FeatureId::VOLUME => Some(candle.volume),
                FeatureId::TRADE_COUNT => candle.trade_count.map(|count| count as f64),
                temporal => temporal_value(temporal, now_ms),
            },
            FeatureSpec::Column(name) => {
                self.columns.get(name).and_then(|column| column.value_at(now_ms))
            }
            indicator => indicator.indicator(self.closes.get(..=index)?, self.indicators),
        };
        value.filter(|value| value.is_finite())
    }
}
