//! Back-test: what models would have scored on recorded candles, against the last close.
//!
//! Every model sees the same windows and is scored as the subnet scores miners. The market's
//! volatility moves the score more than skill does, so the figure to read is the ratio to the
//! persistence baseline on the same windows, with its standard error.

use std::sync::Arc;

use forecastd_core::{
    Candle, Columns, FeatureSet, FeatureTable, Interval, ScoreError, StreamId, weighted_rmse,
};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::input::{Forecaster, MAX_HORIZON, ModelInput};
use crate::split::Gaps;

/// Which windows are scored.
#[derive(Debug, Clone, PartialEq)]
pub struct BacktestConfig {
    /// The stream that the models are asked for.
    pub stream: StreamId,
    /// Length of the candles.
    pub interval: Interval,
    /// Closes in a forecast.
    pub horizon: usize,
    /// Candles that a model sees.
    pub lookback: usize,
    /// First start of a forecast, ms since the epoch; from the first possible one when absent.
    pub from_ms: Option<i64>,
    /// No realised candle closes after this, ms since the epoch; to the end when absent.
    pub to_ms: Option<i64>,
    /// Distance between starts, candles; `horizon` makes the windows independent.
    pub stride: usize,
}

/// The scores of all models on the same windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BacktestReport {
    /// First start of a forecast, ms since the epoch.
    pub from_ms: i64,
    /// Close time of the last realised candle, ms since the epoch.
    pub to_ms: i64,
    /// Distance between starts, candles.
    pub stride: usize,
    /// Windows that were left out because they cross a gap or lack a feature.
    pub skipped_windows: usize,
    /// One entry a model, in the order given.
    pub models: Vec<ModelScore>,
}

/// One model's score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelScore {
    /// Name of the model.
    pub model: String,
    /// Mean weighted RMSE over the windows, quote currency; lower is better.
    pub weighted_rmse: f64,
    /// `weighted_rmse` over that of the persistence baseline on the same windows.
    pub ratio_to_last: f64,
    /// Standard error of `ratio_to_last`; absent with fewer than two windows. Overlap of windows is
    /// accounted for (Newey-West).
    pub ratio_se: Option<f64>,
    /// Share of the windows where the model beat the persistence baseline.
    pub win_rate: f64,
    /// Share of the windows with a forecast move whose sign at the last step came true.
    pub directional_accuracy: Option<f64>,
    /// Scored windows.
    pub windows: usize,
}

/// Why a back-test gives no report.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// A number of the configuration is out of range.
    #[error("back-test key `{key}` is {value}, must be {range}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value.
        value: usize,
        /// What is allowed.
        range: &'static str,
    },
    /// No window lies between the bounds.
    #[error(
        "no gap-free window of {lookback} + {horizon} candles with all features between the bounds"
    )]
    NoWindows {
        /// Candles that a model sees.
        lookback: usize,
        /// Closes in a forecast.
        horizon: usize,
    },
    /// A model failed on a window.
    #[error("back-test of `{model}` stopped at the start {start_ms} ms")]
    Model {
        /// Name of the model.
        model: String,
        /// Start of the forecast.
        start_ms: i64,
        /// What went wrong.
        #[source]
        source: Box<ModelError>,
    },
    /// A forecast cannot be scored.
    #[error("forecast of `{model}` for the start {start_ms} ms cannot be scored")]
    Score {
        /// Name of the model.
        model: String,
        /// Start of the forecast.
        start_ms: i64,
        /// What is wrong with it.
        #[source]
        source: ScoreError,
    },
}

/// Scores `models`, none of which needs an extra column, on `candles`, oldest first.
///
/// # Errors
/// As [`backtest_with`].
pub fn backtest(
    models: &mut [Box<dyn Forecaster>],
    candles: &[Candle],
    config: &BacktestConfig,
) -> Result<BacktestReport, BacktestError> {
    backtest_with(models, candles, &Columns::default(), config)
}

/// Scores `models` on `candles`, oldest first, and `columns`.
///
/// Windows in which a feature of some model has no value are left out for all of them.
///
/// # Errors
/// [`BacktestError`]; the first window on which a model fails ends the test.
pub fn backtest_with(
    models: &mut [Box<dyn Forecaster>],
    candles: &[Candle],
    columns: &Columns,
    config: &BacktestConfig,
) -> Result<BacktestReport, BacktestError> {
    let tables = Tables::new(models, candles, columns, config);
    let (starts, skipped_windows) = windows(candles, &tables, config)?;
    let mut last_scores = Vec::with_capacity(starts.len());
    let mut tallies: Vec<Tally> = models.iter().map(|_| Tally::default()).collect();
    for newest in &starts {
        let last = candles[*newest].close;
        let ahead = &candles[newest + 1..=newest + config.horizon];
        let realised: Vec<f64> = ahead.iter().map(|candle| candle.close).collect();
        let start_ms = candles[*newest].close_time_ms(config.interval);
        let first = newest + 1 - config.lookback;
        let mut input = ModelInput {
            stream: config.stream.clone(),
            start_ms,
            interval: config.interval,
            horizon: config.horizon,
            candles: candles[first..=*newest].into(),
            features: None,
        };
        let score = |model: &str, forecast: &[f64]| {
            weighted_rmse(forecast, &realised).map_err(|source| BacktestError::Score {
                model: model.to_owned(),
                start_ms,
                source,
            })
        };
        last_scores.push(score("last", &vec![last; config.horizon])?);
        for (model, tally) in models.iter_mut().zip(&mut tallies) {
            let table = model.needs().and_then(|set| tables.of(set));
            let window = table.and_then(|table| table.window(&config.stream, first, *newest));
            input.features = window.map(Arc::new);
            let forecast = model.forecast(&input).map_err(|source| BacktestError::Model {
                model: model.name().to_owned(),
                start_ms,
                source: Box::new(source),
            })?;
            tally.scores.push(score(model.name(), &forecast)?);
            tally.add_direction(last, &forecast, &realised);
        }
    }
    let lag = config.horizon.div_ceil(config.stride) - 1;
    let scores = models.iter().zip(tallies).map(|(model, tally)| {
        let ratio = compare(&tally.scores, &last_scores, lag);
        ModelScore {
            model: model.name().to_owned(),
            weighted_rmse: mean(&tally.scores),
            ratio_to_last: ratio.ratio,
            ratio_se: ratio.standard_error,
            win_rate: ratio.win_rate,
            directional_accuracy: (tally.moves > 0)
                .then(|| tally.right as f64 / tally.moves as f64),
            windows: tally.scores.len(),
        }
    });
    let close_ms = |index: usize| candles[index].close_time_ms(config.interval);
    Ok(BacktestReport {
        from_ms: starts.first().map_or(0, |newest| close_ms(*newest)),
        to_ms: starts.last().map_or(0, |newest| close_ms(newest + config.horizon)),
        stride: config.stride,
        skipped_windows,
        models: scores.collect(),
    })
}

/// The features of all models, each set once.
struct Tables(Vec<FeatureTable>);

impl Tables {
    fn new(
        models: &[Box<dyn Forecaster>],
        candles: &[Candle],
        columns: &Columns,
        config: &BacktestConfig,
    ) -> Self {
        let mut tables = Self(Vec::new());
        for set in models.iter().filter_map(|model| model.needs()) {
            if tables.of(set).is_none() {
                let table = FeatureTable::new(candles, config.interval, columns, set.clone());
                tables.0.push(table);
            }
        }
        tables
    }

    fn of(&self, set: &FeatureSet) -> Option<&FeatureTable> {
        self.0.iter().find(|table| table.set() == set)
    }

    fn is_whole(&self, first: usize, last: usize) -> bool {
        self.0.iter().all(|table| table.is_whole(first, last))
    }
}

/// Scores against the reference's scores on the same windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    pub(crate) ratio: f64,
    pub(crate) standard_error: Option<f64>,
    pub(crate) win_rate: f64,
}

/// Compares `scores` with `reference`, in the order of time; `lag`: how many windows onward the
/// windows overlap.
///
/// A reference of zero (a market that never moved) gives a ratio of 1 when equal, else infinity.
pub(crate) fn compare(scores: &[f64], reference: &[f64], lag: usize) -> Comparison {
    let (mean_score, mean_reference) = (mean(scores), mean(reference));
    let ratio = if mean_reference > 0.0 {
        mean_score / mean_reference
    } else if mean_score > 0.0 {
        f64::INFINITY
    } else {
        1.0
    };
    let won = scores.iter().zip(reference).filter(|(score, last)| score < last).count();
    let differences: Vec<f64> = scores.iter().zip(reference).map(|(a, b)| a - b).collect();
    Comparison {
        ratio,
        standard_error: (mean_reference > 0.0 && scores.len() > 1)
            .then(|| standard_error(&differences, lag) / mean_reference),
        win_rate: won as f64 / scores.len().max(1) as f64,
    }
}

/// Newey-West standard error of the mean with Bartlett weights up to `lag`; the plain one at 0.
fn standard_error(values: &[f64], lag: usize) -> f64 {
    let count = values.len() as f64;
    let centre = mean(values);
    let covariance = |shift: usize| -> f64 {
        let pairs = values.iter().zip(values.iter().skip(shift));
        pairs.map(|(a, b)| (a - centre) * (b - centre)).sum()
    };
    let mut variance = covariance(0);
    for shift in 1..=lag.min(values.len().saturating_sub(1)) {
        let weight = 1.0 - shift as f64 / (lag as f64 + 1.0);
        variance += 2.0 * weight * covariance(shift);
    }
    (variance.max(0.0) / (count - 1.0) / count).sqrt()
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// What is collected of one model.
#[derive(Debug, Default)]
struct Tally {
    scores: Vec<f64>,
    moves: usize,
    right: usize,
}

impl Tally {
    fn add_direction(&mut self, last: f64, forecast: &[f64], realised: &[f64]) {
        let move_of = |closes: &[f64]| closes.last().map_or(0.0, |close| close - last);
        let (expected, happened) = (move_of(forecast), move_of(realised));
        if expected != 0.0 {
            self.moves += 1;
            self.right += usize::from(expected * happened > 0.0);
        }
    }
}

/// Returns the windows by their newest candle, and how many were left out for a gap.
fn windows(
    candles: &[Candle],
    tables: &Tables,
    config: &BacktestConfig,
) -> Result<(Vec<usize>, usize), BacktestError> {
    let bounded = [
        ("horizon", config.horizon, 1..=MAX_HORIZON, "1..=10000"),
        ("lookback", config.lookback, 1..=100_000, "1..=100000"),
        ("stride", config.stride, 1..=100_000, "1..=100000"),
    ];
    for (key, value, allowed, range) in bounded {
        if !allowed.contains(&value) {
            return Err(BacktestError::Config { key, value, range });
        }
    }
    let close_ms = |candle: &Candle| candle.close_time_ms(config.interval);
    let from_ms = config.from_ms.unwrap_or(i64::MIN);
    let first = candles.partition_point(|candle| close_ms(candle) < from_ms);
    let to_ms = config.to_ms.unwrap_or(i64::MAX);
    let end = candles.partition_point(|candle| close_ms(candle) <= to_ms);
    let gaps = Gaps::new(candles, config.interval);
    let mut starts = Vec::new();
    let mut skipped = 0;
    let range = first.max(config.lookback - 1)..end.saturating_sub(config.horizon);
    for newest in range.step_by(config.stride) {
        let oldest = newest + 1 - config.lookback;
        if gaps.is_whole(oldest, newest + config.horizon) && tables.is_whole(oldest, newest) {
            starts.push(newest);
        } else {
            skipped += 1;
        }
    }
    if starts.is_empty() {
        let (lookback, horizon) = (config.lookback, config.horizon);
        return Err(BacktestError::NoWindows { lookback, horizon });
    }
    Ok((starts, skipped))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::baseline::{Drift, Last};
    use crate::input::tests::input_of;

    fn config(horizon: usize, lookback: usize, stride: usize) -> BacktestConfig {
        BacktestConfig {
            stream: StreamId("BTCUSD-5m".into()),
            interval: Interval::FIVE_MINUTES,
            horizon,
            lookback,
            from_ms: None,
            to_ms: None,
            stride,
        }
    }

    fn models() -> Vec<Box<dyn Forecaster>> {
        vec![Box::new(Last::new("last")), Box::new(Drift::new("drift", 5))]
    }

    #[test]
    fn a_trend_is_won_by_drift_and_last_is_its_own_reference() {
        let closes: Vec<f64> = (0..200).map(|step| 100.0 * 1.001_f64.powi(step)).collect();
        let candles = input_of(&closes, 1).candles;
        let report = backtest(&mut models(), &candles, &config(10, 5, 10)).unwrap();
        let [last, drift] = &report.models[..] else { panic!("two models") };
        assert_eq!((last.ratio_to_last, last.ratio_se), (1.0, Some(0.0)));
        assert_eq!(last.directional_accuracy, None);
        assert!(drift.ratio_to_last < 1e-9 && drift.win_rate > 0.999);
        assert_eq!(drift.directional_accuracy, Some(1.0));
        assert_eq!(drift.windows, 19);
    }

    #[test]
    fn windows_with_a_gap_are_left_out_and_bounds_hold() {
        let mut candles = input_of(&[100.0; 60], 1).candles.to_vec();
        candles.remove(30);
        let close_ms = |index: usize| candles[index].close_time_ms(Interval::FIVE_MINUTES);
        let bounds = BacktestConfig {
            from_ms: Some(close_ms(10)),
            to_ms: Some(close_ms(50)),
            ..config(5, 5, 1)
        };
        let report = backtest(&mut models(), &candles, &bounds).unwrap();
        assert_eq!((report.from_ms, report.to_ms), (close_ms(10), close_ms(50)));
        assert_eq!(report.models[0].windows + report.skipped_windows, 36);
        assert_eq!(report.skipped_windows, 9);
        let nothing = BacktestConfig { from_ms: Some(i64::MAX), ..config(5, 5, 1) };
        let refused = backtest(&mut models(), &candles, &nothing);
        assert!(matches!(refused, Err(BacktestError::NoWindows { .. })));
        let zero = config(5, 5, 0);
        assert!(matches!(
            backtest(&mut models(), &candles, &zero),
            Err(BacktestError::Config { key: "stride", .. })
        ));
    }

    #[test]
    fn overlap_widens_the_standard_error() {
        // Runs of five equal random values: the effective sample is a fifth.
        let mut random = StdRng::seed_from_u64(1);
        let values: Vec<f64> = (0..60).flat_map(|_| [random.random_range(-1.0..1.0); 5]).collect();
        assert!(standard_error(&values, 4) > 1.5 * standard_error(&values, 0));
    }

    #[test]
    fn a_failing_model_names_itself_and_the_window() {
        let candles = input_of(&[100.0; 30], 1).candles;
        let mut models: Vec<Box<dyn Forecaster>> = vec![Box::new(Drift::new("drift", 9))];
        let error = backtest(&mut models, &candles, &config(5, 5, 5)).unwrap_err();
        assert!(matches!(error, BacktestError::Model { ref model, .. } if model == "drift"));
    }
}
