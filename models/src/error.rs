//! Why a model gives no forecast.

use forecastd_core::postprocess::PostprocessError;
use forecastd_core::{CandleError, FeatureSpec, Interval};

use crate::checkpoint::CheckpointError;

/// Why a model gives no forecast. Costs this forecast only.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The window holds fewer candles than the model looks back.
    #[error("model `{model}` needs {need} candles, the window has {got}")]
    ShortWindow {
        /// Name of the model.
        model: String,
        /// Candles the model looks back.
        need: usize,
        /// Candles in the window.
        got: usize,
    },
    /// A candle of the window breaks a rule of candles.
    #[error("window holds a bad candle, fix the feed")]
    Candle(#[from] CandleError),
    /// The window has a hole, an overlap, or does not end at the forecast's start.
    #[error("window expects a candle that opens at {expected_ms} ms, found {found_ms} ms")]
    Gap {
        /// Open time that should have come.
        expected_ms: i64,
        /// Open time that came.
        found_ms: i64,
    },
    /// The checkpoint was trained for another candle length.
    #[error("model `{model}` was trained on {trained} candles, asked for {asked}")]
    Interval {
        /// Name of the model.
        model: String,
        /// Candle length of the checkpoint.
        trained: Interval,
        /// Candle length of the request.
        asked: Interval,
    },
    /// The horizon is zero, too long, or not the one of the checkpoint.
    #[error("model `{model}` forecasts {can} steps, asked for {asked}")]
    Horizon {
        /// Name of the model.
        model: String,
        /// The greatest (baselines) or only (checkpoints) number of steps it can give.
        can: usize,
        /// Number of steps asked for.
        asked: usize,
    },
    /// The window lacks a feature that the model was trained on.
    #[error("model `{model}` needs feature {feature}, which {reason}")]
    Feature {
        /// Name of the model.
        model: String,
        /// The feature.
        feature: FeatureSpec,
        /// Why it is not there, and what to do.
        reason: &'static str,
    },
    /// The features of the window are not those of its candles.
    #[error("features of the window do not belong to its candles: {0}")]
    Features(&'static str),
    /// The model answered the wrong number of values.
    #[error("model `{model}` gave {got} values, must be {want}")]
    OutputLength {
        /// Name of the model.
        model: String,
        /// Number of values given.
        got: usize,
        /// The horizon.
        want: usize,
    },
    /// The model answered NaN, infinity, zero or a negative price.
    #[error("model `{model}` gave {value} at step {index}, must be a finite price above zero")]
    OutputValue {
        /// Name of the model.
        model: String,
        /// First such step, 0-based.
        index: usize,
        /// The value.
        value: f64,
    },
    /// The network's outputs cannot become a forecast.
    #[error("network outputs cannot become a forecast")]
    Postprocess(#[from] PostprocessError),
    /// A model of kind `burn` names no checkpoint directory.
    #[error("model `{model}` has kind burn but no checkpoint, set its checkpoint directory")]
    NoCheckpoint {
        /// Name of the model.
        model: String,
    },
    /// The checkpoint cannot be used.
    #[error("model `{model}` cannot be loaded")]
    Checkpoint {
        /// Name of the model.
        model: String,
        /// What is wrong with it.
        #[source]
        source: CheckpointError,
    },
}

impl ModelError {
    /// Tells whether the same request may succeed later without a change of configuration.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::ShortWindow { .. } | Self::Candle(_) | Self::Gap { .. } | Self::Feature { .. }
        )
    }
}
