//! Scores a network on the validation span and chooses its shrink factor there.

use forecastd_core::postprocess::interpolate;
use forecastd_core::{ScoreError, weighted_rmse};

use crate::backtest::compare;
use crate::features::{Material, Scaling, write_input};
use crate::frozen::FrozenNetwork;
use crate::network::LstmNetwork;
use crate::train::{TrainConfig, TrainError};

/// Shrink factors that are tried: 0, 1/20, … 1.
const SHRINK_STEPS: u32 = 20;

/// The best that the validation span allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validation {
    /// Mean weighted RMSE over that of the last close; at most 1, since a factor of 0 is tried.
    pub(crate) ratio: f64,
    /// Standard error of the ratio.
    pub(crate) standard_error: Option<f64>,
    /// The factor on the corrections that gives it.
    pub(crate) shrink: f64,
}

/// Runs the windows (named by their newest candle) and returns the best shrink factor's score.
///
/// Scores prices, not returns, as the subnet does. Equal scores keep the smaller factor.
pub(crate) fn validate(
    network: &LstmNetwork,
    config: &TrainConfig,
    material: &Material<'_>,
    windows: &[usize],
    scaling: &Scaling,
) -> Result<Validation, TrainError> {
    let (architecture, candles) = (&config.network, material.candles);
    let mut frozen = FrozenNetwork::new(network, architecture)?;
    let width = architecture.features();
    let mut features = vec![0.0; architecture.steps() * width];
    let mut corrections = Vec::with_capacity(windows.len());
    for newest in windows {
        let window = material.window(*newest, architecture.lookback);
        write_input(window, architecture, config.interval, scaling, |step, at, value| {
            features[step * width + at] = value;
        });
        let outputs = frozen.forward(&features).map(|value| f64::from(value) * scaling.target_std);
        corrections.push(interpolate(&outputs, config.horizon)?);
    }
    let scores = |shrink: f64| -> Result<Vec<f64>, ScoreError> {
        let score = |(newest, correction): (&usize, &Vec<f64>)| {
            let last = candles[*newest].close;
            let forecast: Vec<f64> =
                correction.iter().map(|value| last * (value * shrink).exp()).collect();
            let ahead = &candles[newest + 1..=newest + config.horizon];
            let realised: Vec<f64> = ahead.iter().map(|candle| candle.close).collect();
            weighted_rmse(&forecast, &realised)
        };
        windows.iter().zip(&corrections).map(score).collect()
    };
    let lag = config.horizon.div_ceil(config.validation_stride) - 1;
    let reference = scores(0.0)?;
    let mut best = Validation { ratio: 1.0, standard_error: Some(0.0), shrink: 0.0 };
    for step in 1..=SHRINK_STEPS {
        let shrink = f64::from(step) / f64::from(SHRINK_STEPS);
        let outcome = compare(&scores(shrink)?, &reference, lag);
        if outcome.ratio < best.ratio {
            let (ratio, standard_error) = (outcome.ratio, outcome.standard_error);
            best = Validation { ratio, standard_error, shrink };
        }
    }
    Ok(best)
}
