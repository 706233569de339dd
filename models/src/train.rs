//! Training of the network: walk-forward split, early stopping, shrinkage on the validation span.
//!
//! The network learns corrections to the last close in log returns. After each epoch the validation
//! span decides twice: which epoch is kept, and by which factor its corrections are shrunk toward
//! zero. When nothing helps the factor is 0 and the model is the persistence baseline.
//!
//! Deterministic: all random draws come from one generator with the configured seed, and the tensor
//! engine runs on one thread. The same seed, candles and processor give the same weights.

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use forecastd_core::postprocess::PostprocessError;
use forecastd_core::{Candle, CandleError, ColumnName, Columns, FeatureSet, Interval, ScoreError};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointConfig, CheckpointError, FORMAT, check_name};
use crate::features::{Material, Scaling, write_input};
use crate::frozen::FreezeError;
use crate::network::{LstmNetwork, NetworkConfig, NetworkConfigError, dropout_masks};
use crate::sparse::{OUTPUT_POINTS, interpolation_weights};
use crate::split::{Split, SplitConfig, walk_forward};
use crate::validate::{Validation, validate};

/// Added to each window's mean squared error before the root, in squared output units: keeps the
/// gradient finite at a perfect forecast.
const LOSS_FLOOR: f32 = 1e-6;
/// The score weighs step i by `exp(-WEIGHT_DECAY · i)`; so does the loss.
const WEIGHT_DECAY: f64 = 0.001;
/// Greatest norm of one tensor's gradient.
const GRADIENT_NORM: f32 = 1.0;

/// How a network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Name of the checkpoint: a-z, 0-9 and `-`.
    pub name: String,
    /// Length of the candles, ms.
    #[serde(rename = "interval_ms")]
    pub interval: Interval,
    /// Closes in a forecast, 10..=1000.
    pub horizon: usize,
    /// The architecture.
    pub network: NetworkConfig,
    /// Seed of all random draws.
    pub seed: u64,
    /// Most passes over the training windows, 1..=1000.
    pub epochs: usize,
    /// Passes without a better validation ratio after which training stops, 1..=1000.
    pub patience: usize,
    /// Windows in one step of the optimiser, 1..=4096.
    pub batch: usize,
    /// Step size of the optimiser, above 0 and at most 1.
    pub learning_rate: f64,
    /// Decoupled weight decay of the optimiser, 0..=1.
    pub weight_decay: f32,
    /// Share of the candles, at the end, that validates; 0.01..=0.5.
    pub validation_fraction: f64,
    /// Distance between training windows, candles, 1..=10000.
    pub training_stride: usize,
    /// Distance between validation windows, candles, 1..=10000.
    pub validation_stride: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            name: "lstm-small".to_owned(),
            interval: Interval::FIVE_MINUTES,
            horizon: 100,
            network: NetworkConfig::default(),
            seed: 1,
            epochs: 8,
            patience: 3,
            batch: 128,
            learning_rate: 3e-4,
            weight_decay: 1e-2,
            validation_fraction: 0.1,
            training_stride: 10,
            validation_stride: 25,
        }
    }
}

impl TrainConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`TrainError`] names the first bad key.
    pub fn validate(&self) -> Result<(), TrainError> {
        check_name(&self.name)?;
        self.network.validate()?;
        let counts = [
            ("horizon", self.horizon, OUTPUT_POINTS..=1_000, "10..=1000"),
            ("epochs", self.epochs, 1..=1_000, "1..=1000"),
            ("patience", self.patience, 1..=1_000, "1..=1000"),
            ("batch", self.batch, 1..=4_096, "1..=4096"),
            ("training_stride", self.training_stride, 1..=10_000, "1..=10000"),
            ("validation_stride", self.validation_stride, 1..=10_000, "1..=10000"),
        ];
        for (key, value, allowed, range) in counts {
            if !allowed.contains(&value) {
                return Err(TrainError::Config { key, value: value as f64, range });
            }
        }
        let in_range = [
            ("learning_rate", self.learning_rate, f64::MIN_POSITIVE, 1.0, "0 < x <= 1"),
            ("weight_decay", f64::from(self.weight_decay), 0.0, 1.0, "0..=1"),
            ("validation_fraction", self.validation_fraction, 0.01, 0.5, "0.01..=0.5"),
        ];
        for (key, value, least, most, range) in in_range {
            if !(least..=most).contains(&value) {
                return Err(TrainError::Config { key, value, range });
            }
        }
        Ok(())
    }
}

/// Where training stands; after each step of the optimiser and each epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainProgress {
    /// Current pass, 1-based.
    pub epoch: usize,
    /// Most passes.
    pub epochs: usize,
    /// Finished steps of this pass.
    pub batch: usize,
    /// Steps of a pass.
    pub batches: usize,
    /// Mean loss of this pass so far, in units of the targets' standard deviation.
    pub loss: f64,
    /// The validation ratio to the last close, at the end of a pass.
    pub validation_ratio: Option<f64>,
}

/// What came out of a training; part of the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainReport {
    /// Open time of the first training candle, ms since the epoch.
    pub training_from_ms: i64,
    /// Open time of the first candle after the training span.
    pub training_to_ms: i64,
    /// Open time of the first validation candle.
    pub validation_from_ms: i64,
    /// Close time of the last validation candle.
    pub validation_to_ms: i64,
    /// Training windows.
    pub training_windows: usize,
    /// Validation windows.
    pub validation_windows: usize,
    /// Number of weights.
    pub parameters: usize,
    /// Seed of all random draws.
    pub seed: u64,
    /// Passes made.
    pub epochs_run: usize,
    /// The pass whose weights were kept, 1-based.
    pub best_epoch: usize,
    /// Mean training loss of each pass, in units of the targets' standard deviation.
    pub training_loss: Vec<f64>,
    /// Best validation ratio to the last close of each pass, each at its own shrink factor.
    pub validation_ratios: Vec<f64>,
    /// The ratio of the kept weights at the kept shrink factor.
    pub validation_ratio: f64,
    /// Its standard error.
    pub validation_ratio_se: Option<f64>,
    /// The kept shrink factor, 0..=1.
    pub shrink: f64,
}

/// Why a training gives no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A number of the configuration is out of range.
    #[error("training key `{key}` is {value}, must be {range}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// The architecture is out of range.
    #[error("training describes no usable network")]
    Network(#[from] NetworkConfigError),
    /// A candle breaks a rule of candles.
    #[error("training data holds a bad candle")]
    Candle(#[from] CandleError),
    /// The candles are not in the order of time.
    #[error("candle at {found_ms} ms does not come after {previous_ms} ms, sort the data")]
    Order {
        /// Open time of the candle before.
        previous_ms: i64,
        /// Open time of the candle.
        found_ms: i64,
    },
    /// Too few gap-free windows.
    #[error(
        "{candles} candles give {training} training and {validation} validation windows, each needs \
         at least 2; use more data, and columns that cover it"
    )]
    TooFewWindows {
        /// Candles given.
        candles: usize,
        /// Training windows found.
        training: usize,
        /// Validation windows found.
        validation: usize,
    },
    /// A feature names a column that was not given.
    #[error("feature column({0}) has no column of this name")]
    NoColumn(ColumnName),
    /// The loss became NaN or infinite.
    #[error("training diverged in epoch {epoch} at batch {batch}, lower the learning rate")]
    Diverged {
        /// The pass, 1-based.
        epoch: usize,
        /// The step within it, 1-based.
        batch: usize,
    },
    /// The trained weights cannot be used.
    #[error("training gave unusable weights, lower the learning rate")]
    Weights(#[from] FreezeError),
    /// The network's outputs cannot become a forecast.
    #[error("training gave unusable outputs, lower the learning rate")]
    Postprocess(#[from] PostprocessError),
    /// A validation window cannot be scored.
    #[error("validation window cannot be scored")]
    Score(#[from] ScoreError),
    /// The checkpoint cannot be made.
    #[error("training gives no valid checkpoint")]
    Checkpoint(#[from] CheckpointError),
}

/// Trains a network on `candles`, oldest first; gaps are allowed and never crossed. For networks whose
/// features need no extra column.
///
/// # Errors
/// As [`train_with`].
pub fn train(
    config: &TrainConfig,
    candles: &[Candle],
    progress: &mut dyn FnMut(TrainProgress),
) -> Result<(Checkpoint, TrainReport), TrainError> {
    train_with(config, candles, &Columns::default(), progress)
}

/// Trains a network on `candles` and `columns`.
///
/// Runs on the calling thread for minutes; `progress` is called after each step.
///
/// # Errors
/// [`TrainError`]; nothing is written to disk either way.
pub fn train_with(
    config: &TrainConfig,
    candles: &[Candle],
    columns: &Columns,
    progress: &mut dyn FnMut(TrainProgress),
) -> Result<(Checkpoint, TrainReport), TrainError> {
    config.validate()?;
    check_candles(candles, config.interval)?;
    let network_config = &config.network;
    let mut needed = network_config.features.iter().flat_map(FeatureSet::columns);
    if let Some(missing) = needed.find(|name| columns.get(name).is_none()) {
        return Err(TrainError::NoColumn(missing.clone()));
    }
    let material = Material::new(candles, config.interval, columns, network_config);
    let split = split(config, &material)?;
    let scaling = Scaling::of(&material, &split.training, network_config, config.horizon);
    let data = TrainingData::new(config, &material, &scaling)?;

    let mut random = StdRng::seed_from_u64(config.seed);
    let device = Device::flex().autodiff();
    let mut network = LstmNetwork::new(network_config, &mut random, &device);
    let mut optimizer = AdamWConfig::new()
        .with_weight_decay(config.weight_decay)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(GRADIENT_NORM)))
        .init();

    let mut best: Option<(usize, LstmNetwork, Validation)> = None;
    let mut training_loss = Vec::new();
    let mut validation_ratios = Vec::new();
    let mut order = split.training.clone();
    let batches = order.len().div_ceil(config.batch);
    for epoch in 1..=config.epochs {
        order.shuffle(&mut random);
        let mut loss_sum = 0.0;
        let mut seen = 0;
        for (index, windows) in order.chunks(config.batch).enumerate() {
            let batch = index + 1;
            let masks = dropout_masks(network_config, windows.len(), &mut random, &device);
            let output = network.forward(data.steps(windows, &device), masks.as_deref());
            let loss = data.loss(output, windows, &device);
            let value = loss.clone().try_into_scalar::<f32>().map_or(f64::NAN, f64::from);
            if !value.is_finite() {
                return Err(TrainError::Diverged { epoch, batch });
            }
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            network = optimizer.step(config.learning_rate, network, gradients);
            loss_sum += value * windows.len() as f64;
            seen += windows.len();
            let loss = loss_sum / seen as f64;
            let (epochs, validation_ratio) = (config.epochs, None);
            progress(TrainProgress { epoch, epochs, batch, batches, loss, validation_ratio });
        }
        let loss = loss_sum / seen.max(1) as f64;
        let outcome = validate(&network, config, &material, &split.validation, &scaling)?;
        training_loss.push(loss);
        validation_ratios.push(outcome.ratio);
        progress(TrainProgress {
            epoch,
            epochs: config.epochs,
            batch: batches,
            batches,
            loss,
            validation_ratio: Some(outcome.ratio),
        });
        match &best {
            Some((best_epoch, _, kept)) if outcome.ratio >= kept.ratio => {
                if epoch - best_epoch >= config.patience {
                    break;
                }
            }
            _ => best = Some((epoch, network.valid(), outcome)),
        }
    }
    let Some((best_epoch, network, kept)) = best else {
        return Err(TrainError::Config { key: "epochs", value: 0.0, range: "1..=1000" });
    };
    let open_ms = |index: usize| candles[index].open_time_ms;
    let report = TrainReport {
        training_from_ms: open_ms(0),
        training_to_ms: open_ms(split.validation_from),
        validation_from_ms: open_ms(split.validation_from),
        validation_to_ms: candles[candles.len() - 1].close_time_ms(config.interval),
        training_windows: split.training.len(),
        validation_windows: split.validation.len(),
        parameters: network_config.parameters(),
        seed: config.seed,
        epochs_run: training_loss.len(),
        best_epoch,
        training_loss,
        validation_ratios,
        validation_ratio: kept.ratio,
        validation_ratio_se: kept.standard_error,
        shrink: kept.shrink,
    };
    let config = CheckpointConfig {
        format: FORMAT,
        name: config.name.clone(),
        interval: config.interval,
        horizon: config.horizon,
        network: network_config.clone(),
        scaling,
        shrink: kept.shrink,
        training: report.clone(),
        evaluations: Vec::new(),
        record_sha256: String::new(),
    };
    config.validate()?;
    Ok((Checkpoint { config, network }, report))
}

/// Checks that every candle is sound and later than the one before.
fn check_candles(candles: &[Candle], interval: Interval) -> Result<(), TrainError> {
    for candle in candles {
        candle.validate(interval)?;
    }
    match candles.windows(2).find(|pair| pair[1].open_time_ms <= pair[0].open_time_ms) {
        None => Ok(()),
        Some(pair) => Err(TrainError::Order {
            previous_ms: pair[0].open_time_ms,
            found_ms: pair[1].open_time_ms,
        }),
    }
}

fn split(config: &TrainConfig, material: &Material<'_>) -> Result<Split, TrainError> {
    let sizes = SplitConfig {
        lookback: config.network.lookback,
        horizon: config.horizon,
        validation_fraction: config.validation_fraction,
        training_stride: config.training_stride,
        validation_stride: config.validation_stride,
    };
    let mut split = walk_forward(material.candles, config.interval, &sizes);
    material.keep_whole(&mut split, config.network.lookback);
    if split.training.len() < 2 || split.validation.len() < 2 {
        return Err(TrainError::TooFewWindows {
            candles: material.candles.len(),
            training: split.training.len(),
            validation: split.validation.len(),
        });
    }
    Ok(split)
}

/// Turns windows into tensors and outputs into a loss.
struct TrainingData<'a> {
    config: &'a TrainConfig,
    material: &'a Material<'a>,
    scaling: &'a Scaling,
    /// `[P, horizon]`: sparse outputs to steps.
    interpolation: Vec<f32>,
    /// Weight of each step, summing to 1.
    step_weights: Vec<f32>,
}

impl<'a> TrainingData<'a> {
    #[expect(clippy::cast_possible_truncation, reason = "weights 0..=1, seven digits are plenty")]
    fn new(
        config: &'a TrainConfig,
        material: &'a Material<'a>,
        scaling: &'a Scaling,
    ) -> Result<Self, PostprocessError> {
        let to_f32 = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Ok(Self {
            config,
            material,
            scaling,
            interpolation: to_f32(interpolation_weights(config.horizon)?),
            step_weights: to_f32(step_weights(config.horizon)),
        })
    }

    /// Returns the inputs of `windows` as T leaves `[B, F]`.
    fn steps(&self, windows: &[usize], device: &Device) -> Vec<Tensor<2>> {
        let network = &self.config.network;
        let (steps, width, batch) = (network.steps(), network.features(), windows.len());
        let mut values = vec![vec![0.0; batch * width]; steps];
        for (row, newest) in windows.iter().enumerate() {
            let window = self.material.window(*newest, network.lookback);
            let interval = self.config.interval;
            write_input(window, network, interval, self.scaling, |step, at, value| {
                values[step][row * width + at] = value;
            });
        }
        values
            .into_iter()
            .map(|step| Tensor::from_data(TensorData::new(step, [batch, width]), device))
            .collect()
    }

    /// Returns the loss of `output`, `[B, P]`: the mean over the windows of the weighted root mean
    /// squared error of the log returns, as the subnet scores closes. Shape `[1]`.
    fn loss(&self, output: Tensor<2>, windows: &[usize], device: &Device) -> Tensor<1> {
        let (horizon, candles) = (self.config.horizon, self.material.candles);
        let mut realised = Vec::with_capacity(windows.len() * horizon);
        for newest in windows {
            let last = candles[*newest].close;
            let ahead = &candles[newest + 1..=newest + horizon];
            #[expect(clippy::cast_possible_truncation, reason = "a few standard deviations")]
            realised.extend(
                ahead.iter().map(|c| ((c.close / last).ln() / self.scaling.target_std) as f32),
            );
        }
        let shape = [windows.len(), horizon];
        let realised = Tensor::<2>::from_data(TensorData::new(realised, shape), device);
        let interpolation = TensorData::new(self.interpolation.clone(), [OUTPUT_POINTS, horizon]);
        let weights = TensorData::new(self.step_weights.clone(), [horizon, 1]);
        let forecast = output.matmul(Tensor::from_data(interpolation, device)); // [B, horizon]
        let error = forecast - realised; // [B, horizon]
        let squared = (error.clone() * error).matmul(Tensor::from_data(weights, device)); // [B, 1]
        (squared + LOSS_FLOOR).sqrt().mean() // [1]
    }
}

/// Returns the weight of each step in the loss, the same as in the score, summing to 1.
fn step_weights(horizon: usize) -> Vec<f64> {
    let raw: Vec<f64> = (0..horizon).map(|step| (-WEIGHT_DECAY * step as f64).exp()).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
