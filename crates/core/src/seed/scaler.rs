//! The reference's feature scaler, in the width of its samples.
//!
//! The better one: [`crate::features::Scaler`], whose numbers belong to a checkpoint instead of to
//! the call before.

use indexmap::IndexMap;

use crate::features::FeatureId;
use crate::features::scaler::MinMax;
use crate::numeric::Real;
use crate::seed::SeedError;

/// Which of the reference's two scalers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalerKind {
    /// Close, high and low as one group; time features excluded.
    Model,
    /// Every feature on its own.
    Legacy,
}

const GROUP: [FeatureId; 3] = [FeatureId::CLOSE, FeatureId::HIGH, FeatureId::LOW];

/// A fitted scaler. `T` is `f32` or `f64`.
#[derive(Debug, Clone)]
pub struct SeedScaler<T> {
    maps: IndexMap<FeatureId, Option<MinMax<T>>>,
    group: Option<(T, T)>,
}

#[expect(private_bounds, reason = "the trait only lists arithmetic of f32 and f64")]
impl<T: Real> SeedScaler<T> {
    /// Fits to samples.
    ///
    /// # Errors
    /// [`SeedError::Key`] when a member of the group is missing, [`SeedError::Value`] for a value
    /// that is not finite or no values.
    ///
    /// Golden data: `features/scaler.json`.
    pub fn fit(samples: &IndexMap<FeatureId, Vec<T>>, kind: ScalerKind) -> Result<Self, SeedError> {
        let mut group = None;
        if kind == ScalerKind::Model {
            for feature in GROUP {
                let (low, high) = extremes(samples.get(&feature).ok_or(SeedError::Key)?)?;
                let (least, greatest) = group.unwrap_or((low, high));
                group = Some((
                    if low < least { low } else { least },
                    if high > greatest { high } else { greatest },
                ));
            }
        }
        let mut maps = IndexMap::new();
        for (feature, values) in samples {
            let map = match (kind, group) {
                (ScalerKind::Model, Some((least, greatest))) if GROUP.contains(feature) => {
                    Some(MinMax::fit(least, greatest))
                }
                (ScalerKind::Model, _) if feature.is_temporal() => None,
                _ => {
                    let (least, greatest) = extremes(values)?;
                    Some(MinMax::fit(least, greatest))
                }
            };
            maps.insert(*feature, map);
        }
        Ok(Self { maps, group })
    }

    /// Returns least and greatest value of the group.
    pub const fn group_range(&self) -> Option<(T, T)> {
        self.group
    }

    /// Returns the scaled values of one feature.
    ///
    /// # Errors
    /// [`SeedError::Key`] for a feature that was not fitted.
    pub fn scale(&self, feature: FeatureId, values: &[T]) -> Result<Vec<T>, SeedError> {
        let map = self.maps.get(&feature).ok_or(SeedError::Key)?;
        Ok(values.iter().map(|value| map.map_or(*value, |map| map.apply(*value))).collect())
    }

    /// Returns scaled values in the unit of the feature.
    ///
    /// # Errors
    /// [`SeedError::Runtime`] for a feature that is not scaled.
    pub fn unscale(&self, feature: FeatureId, scaled: &[T]) -> Result<Vec<T>, SeedError> {
        let map = self.map_of(feature)?;
        Ok(scaled.iter().map(|value| map.invert(*value)).collect())
    }

    /// Returns single-precision scaled values in the unit of the feature: computed in the width of
    /// the scaler, rounded after each operation.
    ///
    /// # Errors
    /// [`SeedError::Runtime`] for a feature that is not scaled.
    pub fn unscale_singles(
        &self,
        feature: FeatureId,
        scaled: &[f32],
    ) -> Result<Vec<f32>, SeedError> {
        let map = self.map_of(feature)?;
        let unscale = |value: &f32| {
            let shifted = f32::narrow((T::narrow(f64::from(*value)) - map.shift).widen());
            f32::narrow((T::narrow(f64::from(shifted)) / map.scale).widen())
        };
        Ok(scaled.iter().map(unscale).collect())
    }

    fn map_of(&self, feature: FeatureId) -> Result<MinMax<T>, SeedError> {
        self.maps.get(&feature).copied().flatten().ok_or(SeedError::Runtime)
    }
}

fn extremes<T: Real>(values: &[T]) -> Result<(T, T), SeedError> {
    let Some(first) = values.first() else { return Err(SeedError::Value) };
    let mut range = (*first, *first);
    for value in values {
        // NaN is passed over by the reference's fit; infinity is refused.
        if value.widen().is_infinite() {
            return Err(SeedError::Value);
        }
        if *value < range.0 {
            range.0 = *value;
        }
        if *value > range.1 {
            range.1 = *value;
        }
    }
    Ok(range)
}
