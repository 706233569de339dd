//! The subtensor chain: metagraph, hyperparameters, `serve_axon`, `set_weights`, and the keys that
//! sign for a neuron.
//!
//! Everything is encoded and decoded by the metadata that the node serves, so that moved indices
//! and added fields of a newer runtime do no harm. Limits: plain weights of mechanism 0 only (a
//! subnet with commit-reveal of weights is refused with a typed error), and hotkeys in plain files
//! only.
//!
//! Needs a tokio runtime with I/O and time.

#![warn(clippy::indexing_slicing)]

pub mod advice;
pub mod axon;
pub mod calls;
pub mod config;
mod connection;
pub mod error;
mod extrinsic;
pub mod hash;
mod heads;
pub mod neurons;
mod params;
pub mod storage;
mod submit;
mod subtensor;
pub mod types;
pub mod wallet;

pub use advice::{Advice, Retry};
pub use axon::{AxonEndpoint, AxonError};
pub use calls::WeightsError;
pub use config::ChainConfig;
pub use connection::ChainMetrics;
pub use error::ChainError;
pub use heads::{BestBlock, BestBlocks};
pub use subtensor::Subtensor;
pub use types::{Chain, Head, Metagraph, Neuron, Submitted, SubnetParams};
pub use wallet::{ChainSigner, Keypair, Wallet, WalletError};
