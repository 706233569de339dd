//! Forecast models: baselines, the recurrent network, its training, back-tests and the worker pool.
//!
//! Owns everything that knows tensors. A model sees a gap-free window of candles, and the features
//! that it was trained on, which end at the forecast's start ([`ModelInput`]) and answers one close for each step of the horizon; nothing
//! after the start can reach it. Every answer is checked for length and finiteness before it leaves.
//!
//! Invariants: no wall clock and no network. Weights live in the Burn module
//! ([`network::LstmNetwork`]); the packed copy that answers requests ([`frozen::FrozenNetwork`]) is
//! derived from it and agrees with it within `1e-5`. A checkpoint from outside is bounded in size
//! and checked in shape and value before it is used.

pub mod backtest;
pub mod baseline;
mod card;
pub mod checkpoint;
pub mod error;
pub mod features;
pub mod forecaster;
pub mod frozen;
pub mod input;
pub mod network;
pub mod pool;
pub mod rows;
pub mod sparse;
pub mod split;
pub mod train;
mod validate;

pub use backtest::{
    BacktestConfig, BacktestError, BacktestReport, ModelScore, backtest, backtest_with,
};
pub use checkpoint::{Checkpoint, CheckpointConfig, CheckpointError};
pub use error::ModelError;
pub use forecaster::{CheckpointForecaster, ModelKind, ModelSpec, list_checkpoints, load};
pub use input::{Forecaster, ModelInput};
pub use network::NetworkConfig;
pub use pool::{ModelFactory, ModelPool, PoolConfig, PoolError, PoolStartError, PoolStats};
pub use train::{TrainConfig, TrainError, TrainProgress, TrainReport, train, train_with};
