//! Calls of the subtensor pallet and the checks that spare a refused extrinsic.
//!
//! Arguments are given by name and encoded by the node's metadata, so that a call whose arguments
//! moved or changed is refused here and never signed.

use std::collections::BTreeSet;

use forecastd_core::{NetUid, Uid};
use scale_value::{Composite, Value};
use subxt::Metadata;
use subxt::ext::frame_decode::extrinsics::encode_call_data;
use subxt::tx::{DynamicPayload, dynamic};

use crate::axon::AxonEndpoint;
use crate::error::ChainError;
use crate::types::SubnetParams;

/// The pallet of everything that is specific to subtensor.
pub(crate) const PALLET: &str = "SubtensorModule";
const NO_LIMIT: u16 = u16::MAX;

/// A call with named arguments.
pub type Call = DynamicPayload<Composite<()>>;

/// Why the chain would refuse a weight vector, by the hyperparameters at the best block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// Nothing to set.
    #[error("weights are empty, at least one uid is needed")]
    Empty,
    /// All values are zero.
    #[error("weights are all zero, at least one must be above")]
    AllZero,
    /// A uid occurs twice.
    #[error("weights name uid {0} twice")]
    DuplicateUid(Uid),
    /// A uid that the subnet does not have.
    #[error("weights name uid {uid}, the subnet has {neuron_count} neurons: refresh the metagraph")]
    UnknownUid {
        /// The uid.
        uid: Uid,
        /// Number of neurons.
        neuron_count: u16,
    },
    /// Fewer uids than the subnet demands.
    #[error("weights name {count} uids, the subnet demands at least {least}")]
    TooFew {
        /// Uids given.
        count: usize,
        /// Uids demanded.
        least: u16,
    },
    /// One uid has too large a share.
    #[error("weight of uid {uid} is {value} of {sum}, the subnet allows a share of {limit}/65535")]
    AboveLimit {
        /// The uid.
        uid: Uid,
        /// Its weight.
        value: u16,
        /// Sum of all weights.
        sum: u64,
        /// The limit, value / 65535.
        limit: u16,
    },
    /// The hotkey has no slot.
    #[error("the signing hotkey is not registered in subnet {netuid}: register it")]
    NotRegistered {
        /// The subnet.
        netuid: NetUid,
    },
    /// Plain weights are refused on this subnet.
    #[error("the subnet takes weights by commit-reveal only, plain weights are refused")]
    CommitRevealEnabled,
    /// The version key is too low.
    #[error("version key {given} is below {least} which the subnet demands: upgrade this daemon")]
    VersionKey {
        /// The key given.
        given: u64,
        /// The key demanded.
        least: u64,
    },
    /// The rate limit has not passed.
    #[error(
        "weights were last set at block {last_update}, again from block {ready_at} (now {head})"
    )]
    TooSoon {
        /// Block of the last setting.
        last_update: u64,
        /// First block in which a setting is accepted.
        ready_at: u64,
        /// Height of the best block.
        head: u64,
    },
}

impl WeightsError {
    /// Returns whether waiting or rebuilding the weights from fresh chain state helps.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::UnknownUid { .. }
            | Self::TooFew { .. }
            | Self::AboveLimit { .. }
            | Self::CommitRevealEnabled
            | Self::TooSoon { .. } => true,
            Self::Empty
            | Self::AllZero
            | Self::DuplicateUid(_)
            | Self::NotRegistered { .. }
            | Self::VersionKey { .. } => false,
        }
    }
}

/// Checks a weight vector by the rules of the chain's `set_weights`.
///
/// `own_uid`: the signer's slot; a lone weight on it is exempt from the minimum and the maximum.
///
/// # Errors
/// [`WeightsError`]: the first rule that is broken, in the order of the chain's own checks.
pub fn check_weights(
    weights: &[(Uid, u16)],
    version_key: u64,
    own_uid: Uid,
    params: &SubnetParams,
) -> Result<(), WeightsError> {
    if params.commit_reveal_enabled {
        return Err(WeightsError::CommitRevealEnabled);
    }
    if params.weights_version_key != 0 && version_key < params.weights_version_key {
        return Err(WeightsError::VersionKey {
            given: version_key,
            least: params.weights_version_key,
        });
    }
    if weights.is_empty() {
        return Err(WeightsError::Empty);
    }
    let mut seen = BTreeSet::new();
    for (uid, _) in weights {
        if !seen.insert(*uid) {
            return Err(WeightsError::DuplicateUid(*uid));
        }
        if uid.0 >= params.neuron_count {
            return Err(WeightsError::UnknownUid { uid: *uid, neuron_count: params.neuron_count });
        }
    }
    let sum: u64 = weights.iter().map(|(_, value)| u64::from(*value)).sum();
    if sum == 0 {
        return Err(WeightsError::AllZero);
    }
    if let [(uid, _)] = weights
        && *uid == own_uid
    {
        return Ok(());
    }
    let least = params.min_allowed_weights.min(params.neuron_count);
    if weights.len() < usize::from(least) {
        return Err(WeightsError::TooFew { count: weights.len(), least });
    }
    let limit = params.max_weights_limit;
    if limit != NO_LIMIT {
        let largest = weights.iter().max_by_key(|(_, value)| *value);
        if let Some((uid, value)) = largest
            && u64::from(*value) * u64::from(NO_LIMIT) > u64::from(limit) * sum
        {
            return Err(WeightsError::AboveLimit { uid: *uid, value: *value, sum, limit });
        }
    }
    Ok(())
}

/// Checks the rate limit for a setting that lands in the block after `head`.
///
/// # Errors
/// [`WeightsError::TooSoon`] with the first block that is late enough.
pub fn check_rate_limit(last_update: u64, rate_limit: u64, head: u64) -> Result<(), WeightsError> {
    let ready_at = last_update.saturating_add(rate_limit);
    if last_update == 0 || head.saturating_add(1) >= ready_at {
        Ok(())
    } else {
        Err(WeightsError::TooSoon { last_update, ready_at, head })
    }
}

/// Builds `set_weights` (mechanism 0).
pub fn set_weights(netuid: NetUid, weights: &[(Uid, u16)], version_key: u64) -> Call {
    let dests = weights.iter().map(|(uid, _)| number(uid.0)).collect::<Vec<_>>();
    let values = weights.iter().map(|(_, value)| number(*value)).collect::<Vec<_>>();
    call(
        "set_weights",
        vec![
            ("netuid", number(netuid.0)),
            ("dests", Value::unnamed_composite(dests)),
            ("weights", Value::unnamed_composite(values)),
            ("version_key", number(version_key)),
        ],
    )
}

/// Builds `serve_axon`.
pub fn serve_axon(netuid: NetUid, endpoint: &AxonEndpoint) -> Call {
    call(
        "serve_axon",
        vec![
            ("netuid", number(netuid.0)),
            ("version", number(endpoint.version)),
            ("ip", Value::u128(endpoint.ip_value())),
            ("port", number(endpoint.port)),
            ("ip_type", number(endpoint.ip_type())),
            ("protocol", number(endpoint.protocol)),
            ("placeholder1", number(0_u8)),
            ("placeholder2", number(0_u8)),
        ],
    )
}

/// Encodes a call by the metadata: pallet index, call index, arguments.
///
/// # Errors
/// [`ChainError::Incompatible`] when the runtime has no such call or other arguments.
pub fn encode(call: &Call, metadata: &Metadata) -> Result<Vec<u8>, ChainError> {
    encode_call_data(
        call.pallet_name(),
        call.call_name(),
        call.call_data(),
        metadata,
        metadata.types(),
    )
    .map_err(|error| ChainError::Incompatible {
        item: format!("call {}.{}", call.pallet_name(), call.call_name()),
        reason: error.to_string(),
    })
}

fn call(name: &'static str, arguments: Vec<(&'static str, Value)>) -> Call {
    let arguments = arguments.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    dynamic(PALLET, name, Composite::Named(arguments))
}

fn number(value: impl Into<u128>) -> Value {
    Value::u128(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Uid = Uid(3);

    fn params() -> SubnetParams {
        SubnetParams {
            block: 1,
            tempo: 360,
            weights_set_rate_limit: 100,
            commit_reveal_enabled: false,
            commit_reveal_version: 4,
            reveal_period_epochs: 1,
            min_allowed_weights: 3,
            max_weights_limit: NO_LIMIT,
            weights_version_key: 0,
            serving_rate_limit: 50,
            activity_cutoff: 5_000,
            max_allowed_validators: 64,
            stake_threshold: 0,
            neuron_count: 8,
        }
    }

    fn check(weights: &[(u16, u16)], params: &SubnetParams) -> Result<(), WeightsError> {
        let weights: Vec<_> = weights.iter().map(|(uid, value)| (Uid(*uid), *value)).collect();
        check_weights(&weights, 5, OWN, params)
    }

    #[test]
    fn sound_weights_pass() {
        check(&[(0, 1), (1, 65_535), (7, 0)], &params()).unwrap();
        let even = SubnetParams { max_weights_limit: 21_845, ..params() };
        check(&[(0, 9), (1, 9), (7, 9)], &even).unwrap();
    }

    #[test]
    fn a_lone_weight_on_oneself_is_exempt_and_on_another_is_not() {
        let strict = SubnetParams { max_weights_limit: 100, ..params() };
        check(&[(OWN.0, 1)], &strict).unwrap();
        assert_eq!(check(&[(0, 1)], &strict), Err(WeightsError::TooFew { count: 1, least: 3 }));
    }

    #[test]
    fn the_minimum_is_capped_by_the_number_of_neurons() {
        let small = SubnetParams { neuron_count: 2, min_allowed_weights: 1024, ..params() };
        check(&[(0, 1), (1, 1)], &small).unwrap();
    }

    #[test]
    fn each_broken_rule_is_told() {
        assert_eq!(check(&[], &params()), Err(WeightsError::Empty));
        assert_eq!(check(&[(0, 0), (1, 0), (2, 0)], &params()), Err(WeightsError::AllZero));
        let twice = [(0, 1), (1, 1), (0, 2)];
        assert_eq!(check(&twice, &params()), Err(WeightsError::DuplicateUid(Uid(0))));
        assert_eq!(
            check(&[(0, 1), (1, 1), (8, 1)], &params()),
            Err(WeightsError::UnknownUid { uid: Uid(8), neuron_count: 8 })
        );
        let limited = SubnetParams { max_weights_limit: 32_767, ..params() };
        assert_eq!(
            check(&[(0, 2), (1, 1), (2, 1)], &limited),
            Err(WeightsError::AboveLimit { uid: Uid(0), value: 2, sum: 4, limit: 32_767 })
        );
        let committing = SubnetParams { commit_reveal_enabled: true, ..params() };
        assert_eq!(check(&[(OWN.0, 1)], &committing), Err(WeightsError::CommitRevealEnabled));
        let newer = SubnetParams { weights_version_key: 6, ..params() };
        assert_eq!(
            check(&[(OWN.0, 1)], &newer),
            Err(WeightsError::VersionKey { given: 5, least: 6 })
        );
    }

    #[test]
    fn the_rate_limit_counts_from_the_block_that_would_hold_the_call() {
        check_rate_limit(0, 100, 1).unwrap();
        check_rate_limit(50, 100, 149).unwrap();
        assert_eq!(
            check_rate_limit(50, 100, 148),
            Err(WeightsError::TooSoon { last_update: 50, ready_at: 150, head: 148 })
        );
        check_rate_limit(50, 0, 49).unwrap();
        assert!(check_rate_limit(u64::MAX, u64::MAX, 1).is_err());
    }
}
