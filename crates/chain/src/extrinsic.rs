//! Signed extrinsics of version 4.
//!
//! The node's metadata says which transaction extensions exist and in which order; those of
//! subtensor that subxt does not know carry no bytes and are left out.

use subxt::client::{ClientAtBlock, OfflineClientAtBlockT};
use subxt::config::substrate::H256;
use subxt::config::{PolkadotConfig, PolkadotExtrinsicParamsBuilder};
use subxt::error::ExtrinsicError;
use subxt::tx::{Payload, SignableTransaction};

use crate::calls::Call;
use crate::error::ChainError;
use crate::wallet::ChainSigner;

/// The blocks in which an extrinsic is valid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Era {
    /// Length, a power of two.
    pub(crate) period_blocks: u64,
    /// Height of the block from which it counts.
    pub(crate) block: u64,
    /// Hash of that block.
    pub(crate) block_hash: H256,
}

/// Encodes and signs a call; returns the bytes to submit.
pub(crate) fn sign<C: OfflineClientAtBlockT<PolkadotConfig>>(
    at: &ClientAtBlock<PolkadotConfig, C>,
    call: &Call,
    nonce: u64,
    era: Era,
    signer: &ChainSigner,
) -> Result<Vec<u8>, ChainError> {
    let incompatible = |error: ExtrinsicError| ChainError::Incompatible {
        item: format!("call {}.{}", call.pallet_name(), call.call_name()),
        reason: error.to_string(),
    };
    let mut signable = signable(at, call, nonce, era).map_err(incompatible)?;
    let signed = signable.sign(signer).map_err(incompatible)?;
    Ok(signed.into_encoded())
}

fn signable<'call, C: OfflineClientAtBlockT<PolkadotConfig>>(
    at: &ClientAtBlock<PolkadotConfig, C>,
    call: &'call Call,
    nonce: u64,
    era: Era,
) -> Result<SignableTransaction<'call, PolkadotConfig, C, Call>, ExtrinsicError> {
    // No tip: priority is fixed by class on this chain.
    let params = PolkadotExtrinsicParamsBuilder::<PolkadotConfig>::new()
        .nonce(nonce)
        .mortal_from_unchecked(era.period_blocks, era.block, era.block_hash)
        .tip(0)
        .build();
    at.tx().create_v4_signable_offline(call, params)
}

#[cfg(test)]
mod tests;
