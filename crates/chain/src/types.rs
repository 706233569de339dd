//! What the daemon sees of the chain, and the trait that actors depend on.

use std::fmt;

use async_trait::async_trait;
use forecastd_core::{Hotkey, NetUid, Rao, Uid};
use serde::{Deserialize, Serialize};

use crate::axon::AxonEndpoint;
use crate::error::ChainError;
use crate::wallet::ChainSigner;

/// One row of the metagraph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neuron {
    /// The slot.
    pub uid: Uid,
    /// Key that signs for the neuron.
    pub hotkey: Hotkey,
    /// Public key of the owner.
    pub coldkey: [u8; 32],
    /// Where it answers; `None` when it does not serve.
    pub axon: Option<AxonEndpoint>,
    /// Total alpha on this subnet, RAO.
    pub stake: Rao,
    /// May set weights that count.
    pub validator_permit: bool,
    /// Block of the last weight setting (or commit, where weights are committed).
    pub last_update: u64,
    /// Block in which the slot was taken; a larger one at the same uid means a new owner.
    pub registered_at_block: u64,
    /// Share of the miners' reward, value / 65535.
    pub incentive: u16,
    /// The chain counts the neuron as active.
    pub active: bool,
}

/// Snapshot of all neurons of the subnet, all columns read at one finalised block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metagraph {
    /// Height of the block that was read.
    pub block: u64,
    /// Hash of the block that was read.
    pub block_hash: [u8; 32],
    /// The subnet.
    pub netuid: NetUid,
    /// The neurons, ordered by uid, each uid and each hotkey once.
    pub neurons: Vec<Neuron>,
}

impl Metagraph {
    /// Finds the neuron of a hotkey.
    pub fn by_hotkey(&self, hotkey: &Hotkey) -> Option<&Neuron> {
        self.neurons.iter().find(|neuron| neuron.hotkey == *hotkey)
    }

    /// Finds the neuron in a slot.
    pub fn by_uid(&self, uid: Uid) -> Option<&Neuron> {
        let index = self.neurons.binary_search_by_key(&uid, |neuron| neuron.uid).ok()?;
        self.neurons.get(index)
    }
}

/// Hyperparameters that bind a weight setter and a server of an axon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetParams {
    /// Height of the block that was read.
    pub block: u64,
    /// Length of an epoch, blocks.
    pub tempo: u16,
    /// Least number of blocks between two settings of one uid.
    pub weights_set_rate_limit: u64,
    /// Plain `set_weights` is refused, weights are committed first.
    pub commit_reveal_enabled: bool,
    /// Version of the commit-reveal protocol for weights.
    pub commit_reveal_version: u16,
    /// Epochs between the commit and the reveal of weights.
    pub reveal_period_epochs: u64,
    /// Least number of uids in a weight vector (capped by the number of neurons).
    pub min_allowed_weights: u16,
    /// Largest share of one uid, value / 65535; 65535 means no limit.
    pub max_weights_limit: u16,
    /// Least version key of a weight setting; 0 means any.
    pub weights_version_key: u64,
    /// Least number of blocks between two `serve_axon` of one hotkey.
    pub serving_rate_limit: u64,
    /// Blocks after which a validator that set no weights counts as inactive.
    pub activity_cutoff: u64,
    /// Number of validators with a permit.
    pub max_allowed_validators: u16,
    /// Least stake weight to set weights.
    pub stake_threshold: u64,
    /// Number of neurons.
    pub neuron_count: u16,
}

/// The newest block and the newest block that cannot be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Height of the best block: for schedules and rate limits.
    pub block: u64,
    /// Hash of the best block.
    pub hash: [u8; 32],
    /// Height of the last finalised block: for everything that is kept.
    pub finalised_block: u64,
    /// Hash of the last finalised block.
    pub finalised_hash: [u8; 32],
}

/// An extrinsic that is in a block of the best chain and succeeded there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Height of the block that holds it.
    pub block: u64,
    /// Hash of that block.
    pub block_hash: [u8; 32],
    /// BLAKE2b-256 of the extrinsic.
    pub extrinsic_hash: [u8; 32],
}

/// One subnet of a subtensor chain.
///
/// Every method has a deadline, and may be dropped half-way: a read leaves nothing behind, a
/// dropped submission may still take effect, like [`ChainError::Unknown`].
#[async_trait]
pub trait Chain: Send + Sync + fmt::Debug {
    /// Reads the heights and hashes of the best and of the last finalised block.
    ///
    /// # Errors
    /// [`ChainError`]; retry when [`ChainError::is_retryable`].
    async fn head(&self) -> Result<Head, ChainError>;

    /// Reads all neurons at the last finalised block.
    ///
    /// # Errors
    /// [`ChainError`]; retry when [`ChainError::is_retryable`].
    async fn metagraph(&self) -> Result<Metagraph, ChainError>;

    /// Reads the hyperparameters at the last finalised block.
    ///
    /// # Errors
    /// [`ChainError`]; retry when [`ChainError::is_retryable`].
    async fn params(&self) -> Result<SubnetParams, ChainError>;

    /// Reads the weights that a uid has set, as stored (max-upscaled), at the last finalised block.
    ///
    /// # Errors
    /// [`ChainError`]; retry when [`ChainError::is_retryable`].
    async fn weights_of(&self, uid: Uid) -> Result<Vec<(Uid, u16)>, ChainError>;

    /// Returns for how many blocks after its signing a transaction can be included.
    fn mortality_blocks(&self) -> u64;

    /// Announces where this neuron answers.
    ///
    /// # Errors
    /// [`ChainError::Axon`] before anything is sent, [`ChainError::Refused`] and
    /// [`ChainError::Failed`] by the chain, [`ChainError::Unknown`] when the outcome was not seen:
    /// then look at the metagraph before another attempt.
    async fn serve_axon(
        &self,
        signer: &ChainSigner,
        endpoint: &AxonEndpoint,
    ) -> Result<Submitted, ChainError>;

    /// Sets the weights of the signer's uid (mechanism 0).
    ///
    /// # Errors
    /// [`ChainError::Weights`] when the chain's own rules, read at the best block, forbid it
    /// already; otherwise as [`Chain::serve_axon`]. After [`ChainError::Unknown`] look at
    /// [`Neuron::last_update`] before another attempt.
    async fn set_weights(
        &self,
        signer: &ChainSigner,
        weights: &[(Uid, u16)],
        version_key: u64,
    ) -> Result<Submitted, ChainError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neuron(uid: u16) -> Neuron {
        Neuron {
            uid: Uid(uid),
            hotkey: Hotkey::from_bytes([u8::try_from(uid).unwrap(); 32]),
            coldkey: [0; 32],
            axon: None,
            stake: Rao(0),
            validator_permit: false,
            last_update: 0,
            registered_at_block: 0,
            incentive: 0,
            active: true,
        }
    }

    #[test]
    fn neurons_are_found_by_slot_and_by_key() {
        let metagraph = Metagraph {
            block: 1,
            block_hash: [0; 32],
            netuid: NetUid(8),
            neurons: vec![neuron(0), neuron(2), neuron(7)],
        };
        assert_eq!(metagraph.by_uid(Uid(2)).unwrap().uid, Uid(2));
        assert_eq!(metagraph.by_uid(Uid(1)), None);
        assert_eq!(metagraph.by_hotkey(&Hotkey::from_bytes([7; 32])).unwrap().uid, Uid(7));
        assert_eq!(metagraph.by_hotkey(&Hotkey::from_bytes([1; 32])), None);
    }
}
