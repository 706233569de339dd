//! The calls that the development chain executes, decoded from a signed extrinsic.

use parity_scale_codec::{Decode, Encode};

use super::names::CallName;
use super::runtime::Runtime;
use super::types::Account;

/// Deepest nesting of batches; the limit keeps foreign bytes from exhausting the stack.
const MAX_BATCH_DEPTH: usize = 8;
/// Most calls in one batch, as the runtime's `batched_calls_limit` (10922).
const MAX_BATCH_CALLS: usize = 10_922;

/// A call with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// Weights of a validator.
    SetWeights(SetWeights),
    /// Address of a neuron's server.
    ServeAxon(ServeAxon),
    /// Address of a neuron's metrics.
    ServePrometheus(ServePrometheus),
    /// Takes a slot for a hotkey; signed by the coldkey.
    BurnedRegister {
        /// Subnet.
        netuid: u16,
        /// The hotkey that gets the slot.
        hotkey: Account,
    },
    /// Several calls in one.
    Batch {
        /// What a failing call means for the others.
        mode: BatchMode,
        /// The calls in order.
        calls: Vec<Self>,
    },
}

/// What a failing call means for the rest of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchMode {
    /// `batch`: stop there, keep what was done.
    StopAtFailure,
    /// `batch_all`: take everything back.
    AllOrNothing,
    /// `force_batch`: go on.
    GoOn,
}

/// Arguments of `set_weights` and `set_mechanism_weights`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetWeights {
    pub(super) netuid: u16,
    pub(super) mechanism: u8,
    pub(super) uids: Vec<u16>,
    pub(super) values: Vec<u16>,
    pub(super) version_key: u64,
    /// The form without mechanism, whose minimum stake is checked before the pool already.
    pub(super) is_plain: bool,
}

/// Arguments of `serve_axon`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct ServeAxon {
    pub(super) netuid: u16,
    pub(super) version: u32,
    pub(super) ip: u128,
    pub(super) port: u16,
    pub(super) ip_type: u8,
    pub(super) protocol: u8,
    pub(super) placeholder1: u8,
    pub(super) placeholder2: u8,
}

/// Arguments of `serve_prometheus`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct ServePrometheus {
    pub(super) netuid: u16,
    pub(super) version: u32,
    pub(super) ip: u128,
    pub(super) port: u16,
    pub(super) ip_type: u8,
}

impl Call {
    /// Decodes a call that fills `bytes` to the end.
    pub(super) fn decode_all(runtime: &Runtime, bytes: &[u8]) -> Result<Self, String> {
        let mut input = bytes;
        let call = Self::decode_one(runtime, &mut input, MAX_BATCH_DEPTH)?;
        if input.is_empty() {
            Ok(call)
        } else {
            Err(format!("{} bytes after the call", input.len()))
        }
    }

    /// Says whether the call is free for its sender.
    pub(super) fn pays_fee(&self) -> bool {
        match self {
            Self::SetWeights(_) | Self::ServeAxon(_) | Self::ServePrometheus(_) => false,
            Self::BurnedRegister { .. } => true,
            Self::Batch { calls, .. } => calls.iter().any(Self::pays_fee),
        }
    }

    fn decode_one(runtime: &Runtime, input: &mut &[u8], depth: usize) -> Result<Self, String> {
        let indices: [u8; 2] = read(input, "call index")?;
        let Some(name) = runtime.call(indices) else {
            return Err(format!(
                "the development chain does not execute call {} of pallet {}",
                indices[1], indices[0]
            ));
        };
        match name {
            CallName::set => Err("Timestamp.set is an inherent and cannot be sent".into()),
            CallName::set_weights | CallName::set_mechanism_weights => {
                let is_plain = name == CallName::set_weights;
                Ok(Self::SetWeights(SetWeights {
                    netuid: read(input, "netuid")?,
                    mechanism: if is_plain { 0 } else { read(input, "mecid")? },
                    uids: read(input, "dests")?,
                    values: read(input, "weights")?,
                    version_key: read(input, "version_key")?,
                    is_plain,
                }))
            }
            CallName::serve_axon => Ok(Self::ServeAxon(read(input, "axon")?)),
            CallName::serve_prometheus => Ok(Self::ServePrometheus(read(input, "prometheus")?)),
            CallName::burned_register => Ok(Self::BurnedRegister {
                netuid: read(input, "netuid")?,
                hotkey: read(input, "hotkey")?,
            }),
            CallName::batch => Self::decode_batch(runtime, input, depth, BatchMode::StopAtFailure),
            CallName::batch_all => {
                Self::decode_batch(runtime, input, depth, BatchMode::AllOrNothing)
            }
            CallName::force_batch => Self::decode_batch(runtime, input, depth, BatchMode::GoOn),
        }
    }

    fn decode_batch(
        runtime: &Runtime,
        input: &mut &[u8],
        depth: usize,
        mode: BatchMode,
    ) -> Result<Self, String> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(format!("batches nest deeper than {MAX_BATCH_DEPTH}"));
        };
        let count = read::<parity_scale_codec::Compact<u32>>(input, "number of calls")?.0;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > MAX_BATCH_CALLS {
            return Err(format!("batch has {count} calls, at most {MAX_BATCH_CALLS} are allowed"));
        }
        let mut calls = Vec::new();
        for _ in 0..count {
            calls.push(Self::decode_one(runtime, input, depth)?);
        }
        Ok(Self::Batch { mode, calls })
    }
}

fn read<T: Decode>(input: &mut &[u8], what: &str) -> Result<T, String> {
    T::decode(input).map_err(|error| format!("{what} does not decode: {error}"))
}
