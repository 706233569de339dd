//! Models by configuration: a kind, a name and, for the network, a checkpoint directory.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use forecastd_core::FeatureSet;
use forecastd_core::postprocess::interpolate;
use serde::{Deserialize, Serialize};

use crate::baseline::{DRIFT_CANDLES, Drift, EMA_SPAN, Ema, Last};
use crate::checkpoint::{Checkpoint, CheckpointConfig, CheckpointError};
use crate::error::ModelError;
use crate::features::{InputWindow, write_input};
use crate::frozen::FrozenNetwork;
use crate::input::{Checked, Forecaster, ModelInput};

/// What a model is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// The last close stays.
    Last,
    /// The mean log return of the last [`DRIFT_CANDLES`] candles goes on.
    Drift,
    /// Flat at the exponential moving average, span [`EMA_SPAN`].
    Ema,
    /// The recurrent network of a checkpoint.
    Burn,
}

impl ModelKind {
    /// Returns the name in the configuration and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Drift => "drift",
            Self::Ema => "ema",
            Self::Burn => "burn",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A model of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name in logs, rounds and reports.
    pub name: String,
    /// What it is made of.
    pub kind: ModelKind,
    /// The checkpoint's directory; needed by [`ModelKind::Burn`], ignored by the others.
    #[serde(default)]
    pub checkpoint: Option<PathBuf>,
}

/// Builds the model that `spec` describes; its answers are checked for length and value.
///
/// # Errors
/// [`ModelError`] when the checkpoint is missing or unusable.
pub fn load(spec: &ModelSpec) -> Result<Box<dyn Forecaster>, ModelError> {
    let name = spec.name.clone();
    Ok(match spec.kind {
        ModelKind::Last => Box::new(Checked(Last::new(name))),
        ModelKind::Drift => Box::new(Checked(Drift::new(name, DRIFT_CANDLES))),
        ModelKind::Ema => Box::new(Checked(Ema::new(name, EMA_SPAN))),
        ModelKind::Burn => {
            let Some(directory) = &spec.checkpoint else {
                return Err(ModelError::NoCheckpoint { model: name });
            };
            let model = Checkpoint::load(directory)
                .and_then(|checkpoint| CheckpointForecaster::new(&name, &checkpoint))
                .map_err(|source| ModelError::Checkpoint { model: name, source })?;
            Box::new(Checked(model))
        }
    })
}

/// Returns the checkpoints below `directory`, by directory name, each with its configuration or the
/// reason why it cannot be used. Weights are not read.
///
/// # Errors
/// [`CheckpointError::Io`] when `directory` cannot be listed.
#[expect(clippy::type_complexity, reason = "a list of name and result needs no type of its own")]
pub fn list_checkpoints(
    directory: &Path,
) -> Result<Vec<(String, Result<CheckpointConfig, CheckpointError>)>, CheckpointError> {
    let io_error = |source| CheckpointError::Io { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, CheckpointConfig::read(&path)));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// The network of a checkpoint, ready to answer.
#[derive(Debug, Clone)]
pub struct CheckpointForecaster {
    name: String,
    network: FrozenNetwork,
    config: CheckpointConfig,
    /// Scratch, `[T, F]`.
    features: Vec<f32>,
    /// Scratch, the rows of the listed features.
    rows: Vec<f64>,
}

impl CheckpointForecaster {
    /// Creates the forecaster under `name`; copies the weights.
    ///
    /// # Errors
    /// [`CheckpointError`] when configuration or weights are unusable.
    pub fn new(name: impl Into<String>, checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let config = checkpoint.config.clone();
        config.validate()?;
        let network = FrozenNetwork::new(&checkpoint.network, &config.network)?;
        let features = vec![0.0; config.network.steps() * config.network.features()];
        Ok(Self { name: name.into(), network, config, features, rows: Vec::new() })
    }

    /// Returns the configuration of the checkpoint.
    pub const fn config(&self) -> &CheckpointConfig {
        &self.config
    }
}

impl Forecaster for CheckpointForecaster {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Option<&FeatureSet> {
        self.config.network.features.as_ref()
    }

    fn forecast(&mut self, input: &ModelInput) -> Result<Vec<f64>, ModelError> {
        let config = &self.config;
        if input.interval != config.interval {
            return Err(ModelError::Interval {
                model: self.name.clone(),
                trained: config.interval,
                asked: input.interval,
            });
        }
        if input.horizon != config.horizon {
            return Err(ModelError::Horizon {
                model: self.name.clone(),
                can: config.horizon,
                asked: input.horizon,
            });
        }
        let (network, scaling) = (&config.network, &config.scaling);
        let candles = input.window(&self.name, network.lookback)?;
        let mut rows = None;
        if let Some(set) = &network.features {
            input.feature_rows(&self.name, set, network.lookback, &mut self.rows)?;
            rows = Some(&self.rows[..]);
        }
        let (width, features) = (network.features(), &mut self.features);
        let window = InputWindow { candles, rows };
        write_input(window, network, input.interval, scaling, |step, at, value| {
            features[step * width + at] = value;
        });
        let unit = scaling.target_std * config.shrink;
        let corrections = self.network.forward(features).map(|output| f64::from(output) * unit);
        let last = input.last_close();
        let closes = interpolate(&corrections, input.horizon)?;
        Ok(closes.into_iter().map(|correction| last * correction.exp()).collect())
    }
}
