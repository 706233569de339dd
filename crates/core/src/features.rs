//! Features: the input series of models, their windows and their scaling.
//!
//! A window ends at or before the start of the forecast and is filled from the past only, so a model
//! cannot see what it is asked to foresee. Extra columns carry, beside the time that a value is about,
//! the time at which it became known.

pub mod aggregate;
pub mod binary_file;
pub mod column;
mod rows;
pub mod scaler;
pub mod set;
pub mod spec;
pub mod table;
pub mod temporal;
pub mod window;

pub use aggregate::{
    Aggregation, CandleAggregation, aggregate, aggregate_candles, aggregate_step,
    aggregate_weighted, compact,
};
pub use column::{Column, ColumnError, Columns, Observation};
pub use scaler::{Scaler, ScalerError, ScalerPlan};
pub use set::{FeatureSet, FeatureSetError};
pub use spec::{ColumnName, FEATURE_FORMS, FeatureSpec, FeatureSpecError};
pub use table::FeatureTable;
pub use window::{FeatureError, Lookback, Window, build_window};

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of a feature; the numbers are those of the reference subnet and of its binary files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureId(pub u32);

impl FeatureId {
    /// Milliseconds since the Unix epoch.
    pub const EPOCH_MS: Self = Self(0);
    /// Time of the day, −1..1, UTC.
    pub const TIME_OF_DAY: Self = Self(100);
    /// Time of the week, −1 on Sunday 00:00 UTC, below 1.
    pub const TIME_OF_WEEK: Self = Self(101);
    /// Time of the month, −1..1, UTC.
    pub const TIME_OF_MONTH: Self = Self(102);
    /// Time of the year, −1..1, UTC.
    pub const TIME_OF_YEAR: Self = Self(103);
    /// First price of the candle.
    pub const OPEN: Self = Self(101_000);
    /// Last price of the candle.
    pub const CLOSE: Self = Self(101_001);
    /// Highest price of the candle.
    pub const HIGH: Self = Self(101_002);
    /// Lowest price of the candle.
    pub const LOW: Self = Self(101_003);
    /// Traded amount of the base asset.
    pub const VOLUME: Self = Self(101_004);
    /// Number of trades.
    pub const TRADE_COUNT: Self = Self(101_005);

    const NAMES: [(Self, &'static str); 11] = [
        (Self::EPOCH_MS, "epoch_ms"),
        (Self::TIME_OF_DAY, "time_of_day"),
        (Self::TIME_OF_WEEK, "time_of_week"),
        (Self::TIME_OF_MONTH, "time_of_month"),
        (Self::TIME_OF_YEAR, "time_of_year"),
        (Self::OPEN, "open"),
        (Self::CLOSE, "close"),
        (Self::HIGH, "high"),
        (Self::LOW, "low"),
        (Self::VOLUME, "volume"),
        (Self::TRADE_COUNT, "trade_count"),
    ];

    /// Returns the feature's name, if it is one that this crate can build.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(id, _)| *id == self).map(|(_, name)| *name)
    }

    /// Returns the feature of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    /// Tells whether the feature depends on time alone.
    pub const fn is_temporal(self) -> bool {
        self.0 <= Self::TIME_OF_YEAR.0
    }
}

impl fmt::Display for FeatureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        for (id, name) in FeatureId::NAMES {
            assert_eq!(FeatureId::from_name(name), Some(id));
            assert_eq!(id.to_string(), name);
        }
        assert_eq!(FeatureId(7).to_string(), "7");
        assert!(FeatureId::TIME_OF_DAY.is_temporal() && !FeatureId::OPEN.is_temporal());
    }
}
