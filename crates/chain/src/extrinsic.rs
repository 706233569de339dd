//! Signed extrinsics of version 4.
//!
//! The node's metadata says which transaction extensions exist and in which order; those of
//! subtensor that subxt does not know carry no bytes and are left out.

use subxt::Config;
use subxt::client::{ClientAtBlock, OfflineClientAtBlockT};
use subxt::config::substrate::H256;
use subxt::config::{DefaultExtrinsicParamsBuilder, DefaultTransactionExtensions, HashFor};
use subxt::error::ExtrinsicError;
use subxt::tx::{SignableTransaction, Signer};

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
pub(crate) fn sign<T, C>(
    at: &ClientAtBlock<T, C>,
    call: &Call,
    nonce: u64,
    era: Era,
    signer: &ChainSigner,
) -> Result<Vec<u8>, ChainError>
where
    T: Config<TransactionExtensions = DefaultTransactionExtensions<T>>,
    HashFor<T>: From<H256>,
    C: OfflineClientAtBlockT<T>,
    ChainSigner: Signer<T>,
{
    let incompatible = |error: ExtrinsicError| ChainError::Incompatible {
        item: format!("call {}.{}", call.pallet_name(), call.call_name()),
        reason: error.to_string(),
    };
    let mut signable = signable(at, call, nonce, era).map_err(incompatible)?;
    let signed = signable.sign(signer).map_err(incompatible)?;
    Ok(signed.into_encoded())
}

/// Builds a call with its extensions; generic so that tests can set the genesis hash.
fn signable<'call, T, C>(
    at: &ClientAtBlock<T, C>,
    call: &'call Call,
    nonce: u64,
    era: Era,
) -> Result<SignableTransaction<'call, T, C, Call>, ExtrinsicError>
where
    T: Config<TransactionExtensions = DefaultTransactionExtensions<T>>,
    HashFor<T>: From<H256>,
    C: OfflineClientAtBlockT<T>,
{
    // No tip: priority is fixed by class on this chain.
    let params = DefaultExtrinsicParamsBuilder::<T>::new()
        .nonce(nonce)
        .mortal_from_unchecked(era.period_blocks, era.block, era.block_hash.into())
        .tip(0)
        .build();
    at.tx().create_v4_signable_offline(call, params)
}

#[cfg(test)]
mod tests;
