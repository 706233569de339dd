//! Maps features to the range of a model and back.
//!
//! The numbers of a fitted scaler belong to the checkpoint (or to the window, when it is fitted anew
//! for each): it is serialisable.

use serde::{Deserialize, Serialize};

use super::{FeatureId, FeatureSpec, Window};
use crate::numeric::Real;

/// A spread below this many times the number type's epsilon counts as constant.
const CONSTANT_WITHIN_EPSILONS: f64 = 10.0;

/// Which features share a range and which are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalerPlan {
    /// Features that are scaled with the least and greatest value of the whole group.
    pub groups: Vec<Vec<FeatureSpec>>,
    /// Features that are passed through.
    pub excluded: Vec<FeatureSpec>,
}

impl Default for ScalerPlan {
    /// The prices as one group, time features excluded, everything else on its own.
    fn default() -> Self {
        Self {
            groups: vec![
                [FeatureId::OPEN, FeatureId::CLOSE, FeatureId::HIGH, FeatureId::LOW]
                    .map(FeatureSpec::Plain)
                    .to_vec(),
            ],
            excluded: [
                FeatureId::EPOCH_MS,
                FeatureId::TIME_OF_DAY,
                FeatureId::TIME_OF_WEEK,
                FeatureId::TIME_OF_MONTH,
                FeatureId::TIME_OF_YEAR,
            ]
            .map(FeatureSpec::Plain)
            .to_vec(),
        }
    }
}

impl ScalerPlan {
    /// Every feature on its own.
    pub const fn separate() -> Self {
        Self { groups: Vec::new(), excluded: Vec::new() }
    }
}

/// Why scaling is not possible.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScalerError {
    /// There is nothing to fit.
    #[error("the window is empty, nothing to fit a scaler to")]
    Empty,
    /// A value is NaN or infinite.
    #[error("feature {0} has a value that is not finite")]
    NotFinite(FeatureSpec),
    /// The scaler was fitted to other features.
    #[error("feature {0} was not there when the scaler was fitted")]
    UnknownFeature(FeatureSpec),
    /// A stored scaler cannot be used.
    #[error("scaler of feature {0} has a factor that is zero or not finite")]
    BadFactor(FeatureSpec),
}

/// A fitted linear map to −1..1: `scaled = value·scale + shift`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MinMax<T> {
    /// Factor.
    pub scale: T,
    /// Summand, in scaled units.
    pub shift: T,
}

#[expect(private_bounds, reason = "the trait only lists arithmetic of f32 and f64")]
impl<T: Real> MinMax<T> {
    /// Fits a map that takes `least` to −1 and `greatest` to 1. A constant is taken to −1.
    pub fn fit(least: T, greatest: T) -> Self {
        let spread = greatest - least;
        let limit = T::narrow(CONSTANT_WITHIN_EPSILONS) * T::EPSILON;
        let range = if spread < limit { T::narrow(1.0) } else { spread };
        let scale = T::narrow(2.0) / range;
        Self { scale, shift: T::narrow(-1.0) - least * scale }
    }

    /// Returns the scaled value.
    pub fn apply(&self, value: T) -> T {
        value * self.scale + self.shift
    }

    /// Returns the value of a scaled one.
    pub fn invert(&self, scaled: T) -> T {
        (scaled - self.shift) / self.scale
    }
}

/// A scaler for the columns of a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// One entry a column; `None` passes the feature through.
    columns: Vec<(FeatureSpec, Option<MinMax<f64>>)>,
}

impl Scaler {
    /// Fits a scaler to a window.
    ///
    /// Golden data: `features/scaler.json`.
    ///
    /// # Errors
    /// [`ScalerError::Empty`] or [`ScalerError::NotFinite`].
    pub fn fit(window: &Window, plan: &ScalerPlan) -> Result<Self, ScalerError> {
        if window.is_empty() {
            return Err(ScalerError::Empty);
        }
        let mut extremes = Vec::with_capacity(window.features.len());
        for feature in &window.features {
            let unknown = || ScalerError::UnknownFeature(feature.clone());
            let column = window.column(feature).ok_or_else(unknown)?;
            if column.iter().any(|value| !value.is_finite()) {
                return Err(ScalerError::NotFinite(feature.clone()));
            }
            let least = column.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            extremes.push((feature, least, greatest));
        }
        let fit = |feature: &FeatureSpec| {
            let group = plan.groups.iter().find(|group| group.contains(feature));
            let members = extremes.iter().filter(|(id, ..)| {
                *id == feature || group.is_some_and(|group| group.contains(*id))
            });
            let (least, greatest) = members
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, least, greatest)| {
                    (low.min(*least), high.max(*greatest))
                });
            MinMax::fit(least, greatest)
        };
        let columns = window
            .features
            .iter()
            .map(|id| (id.clone(), (!plan.excluded.contains(id)).then(|| fit(id))))
            .collect();
        Ok(Self { columns })
    }

    /// Checks a scaler that comes from a file.
    ///
    /// # Errors
    /// [`ScalerError::BadFactor`] for the first column that cannot be inverted.
    pub fn check(&self) -> Result<(), ScalerError> {
        for (feature, map) in &self.columns {
            let usable = |map: &MinMax<f64>| {
                map.scale.is_finite() && map.shift.is_finite() && map.scale.abs() > 0.0
            };
            if map.as_ref().is_some_and(|map| !usable(map)) {
                return Err(ScalerError::BadFactor(feature.clone()));
            }
        }
        Ok(())
    }

    /// Returns the scaled rows of a window, shape `[T, F]`, row after row.
    ///
    /// # Errors
    /// [`ScalerError::UnknownFeature`] when the window has a column that was not fitted.
    pub fn scale(&self, window: &Window) -> Result<Vec<f64>, ScalerError> {
        let maps = window
            .features
            .iter()
            .map(|feature| self.map_of(feature))
            .collect::<Result<Vec<_>, _>>()?;
        let scaled = window.rows.iter().zip(maps.iter().cycle());
        Ok(scaled.map(|(value, map)| map.map_or(*value, |map| map.apply(*value))).collect())
    }

    /// Returns one scaled value.
    ///
    /// # Errors
    /// [`ScalerError::UnknownFeature`].
    pub fn scale_value(&self, feature: &FeatureSpec, value: f64) -> Result<f64, ScalerError> {
        Ok(self.map_of(feature)?.map_or(value, |map| map.apply(value)))
    }

    /// Returns scaled values of one feature in its own unit.
    ///
    /// # Errors
    /// [`ScalerError::UnknownFeature`].
    pub fn unscale(&self, feature: &FeatureSpec, scaled: &[f64]) -> Result<Vec<f64>, ScalerError> {
        let map = self.map_of(feature)?;
        Ok(scaled.iter().map(|value| map.map_or(*value, |map| map.invert(*value))).collect())
    }

    fn map_of(&self, feature: &FeatureSpec) -> Result<Option<MinMax<f64>>, ScalerError> {
        let found = self.columns.iter().find(|(id, _)| id == feature);
        found.map(|(_, map)| *map).ok_or_else(|| ScalerError::UnknownFeature(feature.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grid::Interval;
    use crate::ids::StreamId;
    use crate::settings::Compatibility;

    fn window(features: &[FeatureId], rows: Vec<f64>) -> Window {
        Window {
            stream: StreamId("s".to_owned()),
            end_ms: 0,
            interval: Interval::MINUTE,
            features: features.iter().copied().map(FeatureSpec::Plain).collect(),
            indicators: Compatibility::Standard,
            rows,
            filled: 0,
            missing: Vec::new(),
        }
    }

    #[test]
    fn a_group_shares_its_range_and_excluded_features_pass_through() {
        let features =
            [FeatureId::CLOSE, FeatureId::HIGH, FeatureId::VOLUME, FeatureId::TIME_OF_DAY];
        let window = window(&features, vec![10.0, 20.0, 5.0, 0.3, 15.0, 30.0, 7.0, 0.4]);
        let scaler = Scaler::fit(&window, &ScalerPlan::default()).unwrap();
        assert_eq!(scaler.scale(&window).unwrap(), [-1.0, 0.0, -1.0, 0.3, -0.5, 1.0, 1.0, 0.4]);
        assert_eq!(scaler.unscale(&FeatureId::CLOSE.into(), &[0.0]).unwrap(), [20.0]);
        let text = serde_json::to_string(&scaler).unwrap();
        assert_eq!(serde_json::from_str::<Scaler>(&text).unwrap(), scaler);
        scaler.check().unwrap();
    }

    #[test]
    fn unknown_features_and_bad_numbers_are_errors() {
        let close = [FeatureId::CLOSE];
        let plan = ScalerPlan::separate();
        assert_eq!(Scaler::fit(&window(&close, vec![]), &plan), Err(ScalerError::Empty));
        assert_eq!(
            Scaler::fit(&window(&close, vec![1.0, f64::NAN]), &plan),
            Err(ScalerError::NotFinite(FeatureId::CLOSE.into()))
        );
        let scaler = Scaler::fit(&window(&close, vec![1.0, 2.0]), &plan).unwrap();
        assert_eq!(
            scaler.unscale(&FeatureId::LOW.into(), &[0.0]),
            Err(ScalerError::UnknownFeature(FeatureId::LOW.into()))
        );
        let stored: Scaler =
            serde_json::from_str(r#"{"columns":[["close",{"scale":0.0,"shift":1.0}]]}"#).unwrap();
        assert_eq!(stored.check(), Err(ScalerError::BadFactor(FeatureId::CLOSE.into())));
    }

    proptest! {
        #[test]
        fn scaling_and_back_is_the_identity(
            values in prop::collection::vec(1e3..1e5_f64, 2..50),
        ) {
            let window = window(&[FeatureId::CLOSE], values.clone());
            let scaler = Scaler::fit(&window, &ScalerPlan::default()).unwrap();
            let scaled = scaler.scale(&window).unwrap();
            prop_assert!(scaled.iter().all(|value| (-1.000_001..=1.000_001).contains(value)));
            let back = scaler.unscale(&FeatureId::CLOSE.into(), &scaled).unwrap();
            for (a, b) in values.iter().zip(back) {
                prop_assert!((a - b).abs() < 1e-6 * a);
            }
        }
    }
}
