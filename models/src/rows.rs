//! From rows of features, of any list, to values that a network can learn from.
//!
//! Prices have no level that lasts, so each feature is first brought into a form that compares: the
//! close as its log return, other prices against the row's close, volumes as logarithms against the
//! mean of their window, times of a period as sine and cosine, all else as it is. Then mean and
//! standard deviation of the training span scale it. Nothing looks at another window.

use forecastd_core::{Candle, FeatureId, FeatureSet, FeatureSpec};
use serde::{Deserialize, Serialize};

use crate::features::Moments;

/// Rows of a window between two that are looked at for the statistics: the windows overlap.
const SAMPLE_EVERY: usize = 7;
/// Least unit of a feature, so that a constant one divides by no zero.
const LEAST_STD: f64 = 1e-12;

/// Mean and unit of one feature on the training span.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureScale {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, above zero.
    pub std: f64,
}

impl FeatureScale {
    /// For values that need no scaling.
    const NONE: Self = Self { mean: 0.0, std: 1.0 };

    /// Tells whether values can be scaled with it.
    pub(crate) fn is_usable(&self) -> bool {
        self.mean.is_finite() && self.std.is_finite() && self.std > 0.0
    }
}

/// What a feature becomes before it is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Return,
    AgainstClose,
    Activity,
    PerClose,
    Angle,
    Level,
}

fn form(feature: &FeatureSpec) -> Form {
    match feature {
        FeatureSpec::Plain(FeatureId::CLOSE) => Form::Return,
        FeatureSpec::Plain(FeatureId::VOLUME | FeatureId::TRADE_COUNT) => Form::Activity,
        FeatureSpec::Plain(
            FeatureId::TIME_OF_DAY
            | FeatureId::TIME_OF_WEEK
            | FeatureId::TIME_OF_MONTH
            | FeatureId::TIME_OF_YEAR,
        ) => Form::Angle,
        FeatureSpec::Macd(_) | FeatureSpec::MacdSignal(_) | FeatureSpec::MacdHistogram(_) => {
            Form::PerClose
        }
        price if price.is_price() => Form::AgainstClose,
        _ => Form::Level,
    }
}

/// Returns the number of values that one row of `set` becomes.
pub(crate) fn values_of(set: &FeatureSet) -> usize {
    set.names().iter().map(|name| if form(name) == Form::Angle { 2 } else { 1 }).sum()
}

/// The rows of one window with the candles that they belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// One candle a row, oldest first.
    pub(crate) candles: &'a [Candle],
    /// `[T, F]`, row after row.
    pub(crate) values: &'a [f64],
}

impl Rows<'_> {
    fn value(&self, set: &FeatureSet, row: usize, feature: usize) -> f64 {
        self.values[row * set.names().len() + feature]
    }

    /// Returns the mean of the logarithms of an activity, for other features 0.
    fn base(&self, set: &FeatureSet, feature: usize) -> f64 {
        if form(&set.names()[feature]) != Form::Activity {
            return 0.0;
        }
        let logs = (0..self.candles.len()).map(|row| self.value(set, row, feature).ln_1p());
        logs.sum::<f64>() / self.candles.len().max(1) as f64
    }

    /// Returns the feature in its form, not scaled; `base` comes from [`Self::base`].
    fn formed(&self, set: &FeatureSet, row: usize, feature: usize, base: f64) -> f64 {
        let value = self.value(set, row, feature);
        let candle = &self.candles[row];
        match form(&set.names()[feature]) {
            Form::Return => {
                // The close before the oldest candle is unknown.
                let before = row.checked_sub(1).map_or(candle.open, |row| self.candles[row].close);
                (value / before).ln()
            }
            Form::AgainstClose => value / candle.close - 1.0,
            Form::PerClose => value / candle.close,
            Form::Activity => value.ln_1p() - base,
            Form::Angle => value * std::f64::consts::PI,
            Form::Level => value,
        }
    }
}

/// Measures each feature of `set` on the training windows.
pub(crate) fn measure<'a>(
    set: &FeatureSet,
    windows: &(impl Iterator<Item = Rows<'a>> + Clone),
) -> Vec<FeatureScale> {
    let scale = |feature: usize| {
        if form(&set.names()[feature]) == Form::Angle {
            return FeatureScale::NONE;
        }
        let mut moments = Moments::default();
        for window in windows.clone() {
            let base = window.base(set, feature);
            for row in (0..window.candles.len()).step_by(SAMPLE_EVERY) {
                moments.add(window.formed(set, row, feature, base));
            }
        }
        FeatureScale { mean: moments.mean(), std: moments.std().max(LEAST_STD) }
    };
    (0..set.names().len()).map(scale).collect()
}

/// Writes the scaled values of one window; `put(row, place, value)` receives each value of a row.
pub(crate) fn write(
    rows: Rows<'_>,
    set: &FeatureSet,
    scales: &[FeatureScale],
    mut put: impl FnMut(usize, usize, f64),
) {
    let mut place = 0;
    for (feature, scale) in scales.iter().enumerate().take(set.names().len()) {
        let base = rows.base(set, feature);
        let is_angle = form(&set.names()[feature]) == Form::Angle;
        for row in 0..rows.candles.len() {
            let value = rows.formed(set, row, feature, base);
            if is_angle {
                put(row, place, value.sin());
                put(row, place + 1, value.cos());
            } else {
                put(row, place, (value - scale.mean) / scale.std);
            }
        }
        place += if is_angle { 2 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::{Columns, Compatibility, FeatureTable, Interval, StreamId};

    use super::*;
    use crate::input::tests::input_of;

    fn set(names: &[&str]) -> FeatureSet {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        FeatureSet::new(names, Compatibility::Standard).unwrap()
    }

    fn table(candles: &[Candle], set: &FeatureSet) -> FeatureTable {
        FeatureTable::new(candles, Interval::FIVE_MINUTES, &Columns::default(), set.clone())
    }

    fn written(rows: Rows<'_>, set: &FeatureSet, scales: &[FeatureScale]) -> Vec<Vec<f64>> {
        let mut out = vec![vec![f64::NAN; values_of(set)]; rows.candles.len()];
        write(rows, set, scales, |row, place, value| out[row][place] = value);
        out
    }

    #[test]
    fn every_form_compares_and_fills_its_place_once() {
        let closes: Vec<f64> = (0..60).map(|i| 100.0 + f64::from((i * 7) % 11)).collect();
        let candles = input_of(&closes, 1).candles;
        let set =
            set(&["close", "time_of_day", "high", "ema(2)", "macd(2,3,2)", "rsi(2)", "volume"]);
        assert_eq!(values_of(&set), 8);
        let table = table(&candles, &set);
        let rows = Rows { candles: &candles[40..], values: table.rows(40, 59).unwrap() };
        let out = written(rows, &set, &[FeatureScale::NONE; 7]);
        assert!(out.iter().flatten().all(|value| value.is_finite()));
        let window = table.window(&StreamId("s".into()), 40, 59).unwrap();
        let of = |row: usize, name: &str| window.column(&name.parse().unwrap()).unwrap()[row];
        let row = &out[5];
        let close = candles[45].close;
        assert!((row[0] - (close / candles[44].close).ln()).abs() < 1e-15);
        let angle = of(5, "time_of_day") * std::f64::consts::PI;
        assert_eq!((row[1], row[2]), (angle.sin(), angle.cos()));
        assert!(row[3].abs() < 1e-15, "the high is the close here");
        assert!((row[4] - (of(5, "ema(2)") / close - 1.0)).abs() < 1e-15);
        assert!((row[5] - of(5, "macd(2,3,2)") / close).abs() < 1e-15);
        assert_eq!(row[6].to_bits(), of(5, "rsi(2)").to_bits());
        assert!(row[7].abs() < 1e-15, "the volume is its mean here");
    }

    #[test]
    fn scales_are_mean_and_deviation_of_what_is_written() {
        let closes: Vec<f64> = (0..400).map(|i| 100.0 + f64::from((i * 37) % 101)).collect();
        let candles = input_of(&closes, 1).candles;
        let set = set(&["rsi(2)", "close", "time_of_week"]);
        let table = table(&candles, &set);
        let windows = || {
            (60..400).step_by(7).map(|newest| Rows {
                candles: &candles[newest - 6..=newest],
                values: table.rows(newest - 6, newest).unwrap(),
            })
        };
        let scales = measure(&set, &windows());
        assert_eq!(scales[2], FeatureScale::NONE);
        let all: Vec<f64> = windows().map(|window| written(window, &set, &scales)[0][0]).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let square = all.iter().map(|value| value * value).sum::<f64>() / all.len() as f64;
        assert!(mean.abs() < 1e-9 && (square - 1.0).abs() < 1e-9, "{mean} {square}");
        let flat = input_of(&[5.0; 60], 1).candles;
        let table =
            FeatureTable::new(&flat, Interval::FIVE_MINUTES, &Columns::default(), set.clone());
        let rows = Rows { candles: &flat[40..], values: table.rows(40, 59).unwrap() };
        assert!(measure(&set, &std::iter::once(rows)).iter().all(FeatureScale::is_usable));
    }
}
