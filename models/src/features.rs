//! From a window to the network's input, and the statistics that scale it.
//!
//! A network with a list of features reads those, see [`crate::rows`]. One without reads what follows.
//! Several candles (a *patch*) form one step of the network, so that 500 candles take 125 steps.
//! One step holds, for each candle of its patch: log return, log volume against the window's mean,
//! log range; then sine and cosine of the time of day at which the patch closes. Each value is
//! scaled by statistics of the training span and clipped, so one wild candle cannot saturate all.

use forecastd_core::{Candle, Columns, FeatureTable, Interval};
use serde::{Deserialize, Serialize};

use crate::network::NetworkConfig;
use crate::rows::{self, FeatureScale, Rows};
use crate::split::Split;

/// Values that one candle adds to a step: return, volume, range.
pub const FEATURES_PER_CANDLE: usize = 3;
/// Values that a step has once: sine and cosine of the time of day.
pub const FEATURES_PER_STEP: usize = 2;
/// Greatest magnitude of a scaled feature, in standard deviations.
const CLIP: f64 = 8.0;
const DAY_MS: i64 = 86_400_000;

/// Statistics of the training span; part of the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// Standard deviation of a candle's log return.
    pub return_std: f64,
    /// Standard deviation of `ln(1 + volume)` against the mean of its window.
    pub volume_std: f64,
    /// Mean of a candle's `ln(high / low)`.
    pub range_mean: f64,
    /// Standard deviation of a candle's `ln(high / low)`.
    pub range_std: f64,
    /// Standard deviation of the log return from the start to a step of the horizon: the unit of
    /// the network's outputs.
    pub target_std: f64,
    /// Mean and unit of each listed feature, in the order of the list; empty for a network without a
    /// list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureScale>,
}

/// Candles, and the features that a network reads beside them.
#[derive(Debug)]
pub(crate) struct Material<'a> {
    pub(crate) candles: &'a [Candle],
    table: Option<FeatureTable>,
}

/// What a network sees of one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputWindow<'a> {
    pub(crate) candles: &'a [Candle],
    /// The features, `[T, F]`, of a network with a list of them.
    pub(crate) rows: Option<&'a [f64]>,
}

impl<'a> Material<'a> {
    pub(crate) fn new(
        candles: &'a [Candle],
        interval: Interval,
        columns: &Columns,
        network: &NetworkConfig,
    ) -> Self {
        let table = network.features.clone();
        let table = table.map(|set| FeatureTable::new(candles, interval, columns, set));
        Self { candles, table }
    }

    /// Drops the windows in which a feature has no value.
    pub(crate) fn keep_whole(&self, split: &mut Split, lookback: usize) {
        if let Some(table) = &self.table {
            let is_whole = |newest: &usize| table.is_whole(newest + 1 - lookback, *newest);
            split.training.retain(is_whole);
            split.validation.retain(is_whole);
        }
    }

    /// Returns the window whose newest candle is at `newest`; it is one that [`Self::keep_whole`] kept.
    pub(crate) fn window(&self, newest: usize, lookback: usize) -> InputWindow<'_> {
        let first = newest + 1 - lookback;
        let rows = self.table.as_ref().and_then(|table| table.rows(first, newest));
        InputWindow { candles: &self.candles[first..=newest], rows }
    }
}

impl Scaling {
    /// Returns the first value that is not finite or not above zero, by name.
    pub fn first_bad(&self) -> Option<(&'static str, f64)> {
        let feature = self.features.iter().find(|scale| !scale.is_usable());
        let feature = feature.map(|scale| ("features", scale.std));
        let own = [
            ("return_std", self.return_std),
            ("volume_std", self.volume_std),
            ("range_mean", self.range_mean),
            ("range_std", self.range_std),
            ("target_std", self.target_std),
        ]
        .into_iter()
        .find(|(_, value)| !value.is_finite() || *value <= 0.0);
        own.or(feature)
    }

    /// Measures the training windows, the listed features of `network` included.
    pub(crate) fn of(
        material: &Material<'_>,
        windows: &[usize],
        network: &NetworkConfig,
        horizon: usize,
    ) -> Self {
        let mut scaling = Self::measure(material.candles, windows, network.lookback, horizon);
        if let Some(set) = &network.features {
            let rows = windows.iter().filter_map(|newest| {
                let InputWindow { candles, rows } = material.window(*newest, network.lookback);
                rows.map(|values| Rows { candles, values })
            });
            scaling.features = rows::measure(set, &rows);
        }
        scaling
    }

    /// Measures the training windows, named by the index of their newest candle.
    ///
    /// Reads no candle after the last horizon of `windows`. A constant series gets units of 1e-9,
    /// so that nothing divides by zero.
    pub fn measure(candles: &[Candle], windows: &[usize], lookback: usize, horizon: usize) -> Self {
        let mut returns = Moments::default();
        let mut volumes = Moments::default();
        let mut ranges = Moments::default();
        let mut targets = Moments::default();
        for newest in windows {
            let window = &candles[newest + 1 - lookback..=*newest];
            let mean_volume = mean_log_volume(window);
            // The windows overlap: a few candles of each are enough for the statistics.
            for index in (0..window.len()).step_by(7) {
                returns.add(log_return(window, index));
                volumes.add(window[index].volume.ln_1p() - mean_volume);
                ranges.add(log_range(&window[index]));
            }
            let last = candles[*newest].close;
            for candle in &candles[newest + 1..=newest + horizon] {
                targets.add((candle.close / last).ln());
            }
        }
        Self {
            return_std: returns.std().max(1e-9),
            volume_std: volumes.std().max(1e-9),
            range_mean: ranges.mean().max(1e-9),
            range_std: ranges.std().max(1e-9),
            target_std: targets.std().max(1e-9),
            features: Vec::new(),
        }
    }
}

/// Writes the scaled input of `network` for one window.
///
/// `put(step, feature, value)` receives each value of shape `[T, F]`, as the network defines them.
pub(crate) fn write_input(
    window: InputWindow<'_>,
    network: &NetworkConfig,
    interval: Interval,
    scaling: &Scaling,
    mut put: impl FnMut(usize, usize, f32),
) {
    let patch = network.patch;
    let (Some(set), Some(values)) = (&network.features, window.rows) else {
        return write_window(window.candles, patch, interval, scaling, put);
    };
    let width = rows::values_of(set);
    let rows = Rows { candles: window.candles, values };
    rows::write(rows, set, &scaling.features, |row, place, value| {
        put(row / patch, row % patch * width + place, clip(value));
    });
}

/// Returns the number of values in one step of `patch` candles.
pub const fn step_width(patch: usize) -> usize {
    patch * FEATURES_PER_CANDLE + FEATURES_PER_STEP
}

/// Writes the scaled features of one window.
///
/// `window`: oldest first, its length a multiple of `patch`. `put(step, feature, value)` receives
/// each value of shape `[T, F]`, T = `window.len() / patch`, F = [`step_width`].
pub fn write_window(
    window: &[Candle],
    patch: usize,
    interval: Interval,
    scaling: &Scaling,
    mut put: impl FnMut(usize, usize, f32),
) {
    let mean_volume = mean_log_volume(window);
    for (index, candle) in window.iter().enumerate() {
        let (step, place) = (index / patch, index % patch);
        let values = [
            log_return(window, index) / scaling.return_std,
            (candle.volume.ln_1p() - mean_volume) / scaling.volume_std,
            (log_range(candle) - scaling.range_mean) / scaling.range_std,
        ];
        for (feature, value) in values.into_iter().enumerate() {
            put(step, place * FEATURES_PER_CANDLE + feature, clip(value));
        }
        if place + 1 == patch {
            let of_day_ms = candle.close_time_ms(interval).rem_euclid(DAY_MS);
            let angle = of_day_ms as f64 / DAY_MS as f64 * std::f64::consts::TAU;
            put(step, patch * FEATURES_PER_CANDLE, clip(angle.sin()));
            put(step, patch * FEATURES_PER_CANDLE + 1, clip(angle.cos()));
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "clipped to ±8, f32 keeps seven digits")]
fn clip(value: f64) -> f32 {
    value.clamp(-CLIP, CLIP) as f32
}

/// The log return of a candle; the oldest one, whose predecessor is unknown, against its own open.
fn log_return(window: &[Candle], index: usize) -> f64 {
    let before = index.checked_sub(1).map_or(window[index].open, |previous| window[previous].close);
    (window[index].close / before).ln()
}

fn log_range(candle: &Candle) -> f64 {
    (candle.high / candle.low).ln()
}

fn mean_log_volume(window: &[Candle]) -> f64 {
    window.iter().map(|candle| candle.volume.ln_1p()).sum::<f64>() / window.len().max(1) as f64
}

/// Running mean and variance (Welford's form, which does not cancel).
#[derive(Debug, Default)]
pub(crate) struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    pub(crate) const fn mean(&self) -> f64 {
        self.mean
    }

    pub(crate) fn std(&self) -> f64 {
        if self.count > 0.0 { (self.squares / self.count).sqrt() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tests::input_of;

    const UNITS: Scaling = Scaling {
        return_std: 0.01,
        volume_std: 1.0,
        range_mean: 1e-9,
        range_std: 0.01,
        target_std: 0.01,
        features: Vec::new(),
    };

    fn features(window: &[Candle], patch: usize) -> Vec<Vec<f32>> {
        let mut rows = vec![vec![f32::NAN; step_width(patch)]; window.len() / patch];
        write_window(window, patch, Interval::FIVE_MINUTES, &UNITS, |step, feature, value| {
            rows[step][feature] = value;
        });
        rows
    }

    #[test]
    fn every_feature_of_every_step_is_written_once_and_finite() {
        let closes: Vec<f64> = (0..12).map(|i| 100.0 + f64::from(i)).collect();
        let rows = features(&input_of(&closes, 1).candles, 4);
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().flatten().all(|value| value.is_finite()));
    }

    #[test]
    fn returns_are_scaled_and_clipped() {
        let rows = features(&input_of(&[100.0, 101.0, 10_000.0], 1).candles, 1);
        assert_eq!(rows[0][0].to_bits(), 0.0_f32.to_bits());
        assert!((f64::from(rows[1][0]) - (1.01_f64).ln() / 0.01).abs() < 1e-6);
        assert_eq!(rows[2][0].to_bits(), 8.0_f32.to_bits());
    }

    #[test]
    fn a_level_shift_of_price_and_a_factor_of_volume_change_nothing() {
        let closes = [100.0, 101.0, 99.0, 102.0];
        let scaled = closes.map(|close| close * 700.0);
        assert_eq!(
            features(&input_of(&closes, 1).candles, 2).len(),
            features(&input_of(&scaled, 1).candles, 2).len()
        );
        for (a, b) in features(&input_of(&closes, 1).candles, 2)
            .iter()
            .flatten()
            .zip(features(&input_of(&scaled, 1).candles, 2).iter().flatten())
        {
            assert!((a - b).abs() < 1e-5);
        }
    }

    #[test]
    fn the_time_of_day_is_that_of_the_patchs_close() {
        let mut candles = input_of(&[1.0, 1.0], 1).candles.to_vec();
        candles[1].open_time_ms = 6 * 3_600_000 - 300_000;
        let rows = features(&candles, 2);
        assert!((rows[0][6] - 1.0).abs() < 1e-6 && rows[0][7].abs() < 1e-6);
    }

    #[test]
    fn scaling_of_a_constant_series_stays_usable() {
        let candles = input_of(&[5.0; 20], 1).candles;
        let scaling = Scaling::measure(&candles, &[9, 12], 5, 4);
        assert_eq!(scaling.first_bad(), None);
    }
}
