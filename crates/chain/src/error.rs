//! What can go wrong between the daemon and the chain.

use std::time::Duration;

use crate::advice::{Advice, Retry, advice};
use crate::axon::AxonError;
use crate::calls::WeightsError;

/// Why a chain operation did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A setting that cannot work.
    #[error("chain setting `{key}` is {value}, {rule}")]
    Config {
        /// Name of the field of `ChainConfig`.
        key: &'static str,
        /// What it holds.
        value: String,
        /// What it must hold.
        rule: &'static str,
    },
    /// None of the endpoints could be connected.
    #[error("no chain endpoint can be used ({reasons}); check the network and the endpoints")]
    Unreachable {
        /// What happened at each endpoint.
        reasons: String,
    },
    /// The connection broke; the next call opens a new one.
    #[error("connection to {endpoint} was lost while {operation}: {reason}")]
    ConnectionLost {
        /// The endpoint.
        endpoint: String,
        /// What was going on.
        operation: &'static str,
        /// What happened.
        reason: String,
    },
    /// The node did not answer in time; the next call uses the next endpoint.
    #[error("{endpoint} took longer than {limit:?} while {operation}")]
    Timeout {
        /// The endpoint.
        endpoint: String,
        /// What was going on.
        operation: &'static str,
        /// The deadline that passed.
        limit: Duration,
    },
    /// The node answered a read with an error.
    #[error("{endpoint} answered error {code} while {operation}: {message}")]
    Rpc {
        /// The endpoint.
        endpoint: String,
        /// What was going on.
        operation: &'static str,
        /// JSON-RPC error code.
        code: i32,
        /// The node's words.
        message: String,
    },
    /// An endpoint belongs to another chain than the one that is set, or was connected first.
    #[error(
        "{endpoint} serves the chain with genesis {found}, expected {expected}: remove it from the \
         endpoints"
    )]
    WrongChain {
        /// The endpoint.
        endpoint: String,
        /// Genesis hash that is set, or that the first connection had.
        expected: String,
        /// Genesis hash found here.
        found: String,
    },
    /// The runtime's metadata lacks something or has it in another shape.
    #[error("the chain's metadata does not fit {item}: {reason}; a newer daemon may be needed")]
    Incompatible {
        /// Name in the metadata.
        item: String,
        /// What is wrong.
        reason: String,
    },
    /// The node's bytes make no sense.
    #[error("cannot decode {what} from the node: {reason}")]
    Decode {
        /// What was decoded.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The weights would be refused; nothing was sent.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The axon address would be refused; nothing was sent.
    #[error(transparent)]
    Axon(#[from] AxonError),
    /// The node refused the extrinsic before it entered the pool: it has no effect.
    #[error("the node refused the call with {name} ({code}: {message}); {}", advice(name).hint)]
    Refused {
        /// Name of the refusal: an error of the chain or a state of the pool.
        name: &'static str,
        /// JSON-RPC error code, mostly 1010.
        code: i32,
        /// The node's words.
        message: String,
    },
    /// The extrinsic is in a block and failed there.
    #[error("the call failed in block {block} with {pallet}.{name}; {}", advice(name).hint)]
    Failed {
        /// Pallet of the error; empty for an error of the runtime itself.
        pallet: String,
        /// Name of the error by the node's metadata.
        name: String,
        /// Height of the block.
        block: u64,
    },
    /// The extrinsic may or may not take effect.
    ///
    /// Look at the chain (last update, axon) before another attempt.
    #[error(
        "the outcome of extrinsic 0x{} is unknown: {reason}; look at the chain before trying again",
        hex::encode(extrinsic_hash)
    )]
    Unknown {
        /// BLAKE2b-256 of the extrinsic.
        extrinsic_hash: [u8; 32],
        /// Why it is unknown.
        reason: String,
    },
}

impl ChainError {
    /// Returns whether the same operation can succeed later without a change by the operator.
    ///
    /// [`ChainError::Unknown`] is *not* retryable as it stands: its effect must be looked up first.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::ConnectionLost { .. }
            | Self::Timeout { .. }
            | Self::Rpc { .. }
            | Self::Decode { .. } => true,
            Self::Weights(error) => error.is_retryable(),
            Self::Refused { .. } | Self::Failed { .. } => {
                self.advice().is_some_and(|advice| advice.retry == Retry::Later)
            }
            Self::Config { .. }
            | Self::WrongChain { .. }
            | Self::Incompatible { .. }
            | Self::Axon(_)
            | Self::Unknown { .. } => false,
        }
    }

    /// Returns whether the chain client cannot work at all before an operator acts.
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Config { .. } | Self::WrongChain { .. } | Self::Incompatible { .. })
    }

    /// Returns what a refusal of the chain asks for; `None` when the chain did not refuse.
    pub fn advice(&self) -> Option<Advice> {
        match self {
            Self::Refused { name, .. } => Some(advice(name)),
            Self::Failed { name, .. } => Some(advice(name)),
            _ => None,
        }
    }

    /// Returns whether the connection is of no more use.
    pub(crate) const fn is_connection(&self) -> bool {
        matches!(self, Self::ConnectionLost { .. } | Self::Timeout { .. })
    }
}
