//! The features of a window, as a checked list.

use serde::{Deserialize, Serialize};

use super::{ColumnName, FeatureId, FeatureSpec};
use crate::settings::Compatibility;

/// Most features of one set.
pub const MAX_FEATURES: usize = 64;

/// Features in the order of their columns, each once, and which definition of the indicators holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct FeatureSet {
    names: Vec<FeatureSpec>,
    indicators: Compatibility,
}

/// Why a list is no set of features.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureSetError {
    /// There are none, or too many.
    #[error("list has {0} features, must have 1..=64")]
    Count(usize),
    /// A feature is listed twice.
    #[error("feature {0} is listed twice")]
    Twice(FeatureSpec),
    /// A number stands for no feature that can be built.
    #[error("feature {0} is unknown, use one of the names in the documentation")]
    Unknown(FeatureId),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    names: Vec<FeatureSpec>,
    #[serde(default)]
    indicators: Compatibility,
}

impl FeatureSet {
    /// Creates a set; the order is that of the columns.
    ///
    /// # Errors
    /// [`FeatureSetError`].
    pub fn new(
        names: Vec<FeatureSpec>,
        indicators: Compatibility,
    ) -> Result<Self, FeatureSetError> {
        if names.is_empty() || names.len() > MAX_FEATURES {
            return Err(FeatureSetError::Count(names.len()));
        }
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(FeatureSetError::Twice(name.clone()));
            }
            if let FeatureSpec::Plain(id) = name
                && id.name().is_none()
            {
                return Err(FeatureSetError::Unknown(*id));
            }
        }
        Ok(Self { names, indicators })
    }

    /// Returns the seven features of the reference subnet: close, high, low, volume and where the
    /// close lies in its day, week and month.
    pub fn reference() -> Self {
        let ids = [
            FeatureId::CLOSE,
            FeatureId::HIGH,
            FeatureId::LOW,
            FeatureId::VOLUME,
            FeatureId::TIME_OF_DAY,
            FeatureId::TIME_OF_WEEK,
            FeatureId::TIME_OF_MONTH,
        ];
        Self { names: ids.map(FeatureSpec::Plain).to_vec(), indicators: Compatibility::Standard }
    }

    /// Returns the features, in the order of their columns.
    pub fn names(&self) -> &[FeatureSpec] {
        &self.names
    }

    /// Returns which definition of the indicators holds.
    pub const fn indicators(&self) -> Compatibility {
        self.indicators
    }

    /// Returns the number of candles before the first row that the values need.
    pub fn warm_up(&self) -> usize {
        self.names.iter().map(FeatureSpec::warm_up).max().unwrap_or(0)
    }

    /// Returns the extra columns that the features need.
    pub fn columns(&self) -> impl Iterator<Item = &ColumnName> {
        self.names.iter().filter_map(FeatureSpec::column)
    }
}

impl TryFrom<Unchecked> for FeatureSet {
    type Error = FeatureSetError;

    fn try_from(set: Unchecked) -> Result<Self, FeatureSetError> {
        Self::new(set.names, set.indicators)
    }
}

impl From<FeatureSet> for Unchecked {
    fn from(set: FeatureSet) -> Self {
        Self { names: set.names, indicators: set.indicators }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_each_feature_once() {
        let names = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let set = |texts| FeatureSet::new(names(texts), Compatibility::Standard);
        assert_eq!(set(&[]), Err(FeatureSetError::Count(0)));
        let twice = FeatureSetError::Twice("rsi(14)".parse().unwrap());
        assert_eq!(set(&["rsi(14)", "close", "rsi( 14 )"]), Err(twice));
        let many: Vec<FeatureSpec> =
            (2..67).map(|length| format!("rsi({length})").parse().unwrap()).collect();
        assert_eq!(
            FeatureSet::new(many, Compatibility::Seed),
            Err(FeatureSetError::Count(MAX_FEATURES + 1))
        );
        let unknown = FeatureSet::new(vec![FeatureId(7).into()], Compatibility::Seed);
        assert_eq!(unknown, Err(FeatureSetError::Unknown(FeatureId(7))));
        let set = set(&["close", "rsi(14)", "ema(20)", "column(oi)"]).unwrap();
        assert_eq!(set.warm_up(), 140);
        assert_eq!(set.columns().map(ColumnName::as_str).collect::<Vec<_>>(), ["oi"]);
        assert_eq!(FeatureSet::reference().warm_up(), 0);
        assert_eq!(FeatureSet::reference().names().len(), 7);
    }

    #[test]
    fn a_set_survives_json_and_bad_ones_do_not_get_in() {
        let text = r#"{"names":["close","rsi(14)"],"indicators":"seed"}"#;
        let set: FeatureSet = serde_json::from_str(text).unwrap();
        assert_eq!(set.indicators(), Compatibility::Seed);
        assert_eq!(serde_json::to_string(&set).unwrap(), text);
        for bad in [
            r#"{"names":[]}"#,
            r#"{"names":["close","close"]}"#,
            r#"{"names":["clos"]}"#,
            r#"{"names":["close"],"indicator":"seed"}"#,
        ] {
            assert!(serde_json::from_str::<FeatureSet>(bad).is_err(), "{bad}");
        }
    }
}
