//! The hyperparameters, read in one request.

use forecastd_core::NetUid;
use subxt::Metadata;
use subxt::ext::scale_decode::DecodeAsType;

use crate::error::ChainError;
use crate::storage::{Values, has_item, subnet_key};
use crate::types::SubnetParams;

const TEMPO: &str = "Tempo";
const WEIGHTS_SET_RATE_LIMIT: &str = "WeightsSetRateLimit";
const COMMIT_REVEAL_ENABLED: &str = "CommitRevealWeightsEnabled";
const COMMIT_REVEAL_VERSION: &str = "CommitRevealWeightsVersion";
const REVEAL_PERIOD_EPOCHS: &str = "RevealPeriodEpochs";
const MIN_ALLOWED_WEIGHTS: &str = "MinAllowedWeights";
const MAX_WEIGHTS_LIMIT: &str = "MaxWeightsLimit";
const WEIGHTS_VERSION_KEY: &str = "WeightsVersionKey";
const SERVING_RATE_LIMIT: &str = "ServingRateLimit";
const MAX_ALLOWED_VALIDATORS: &str = "MaxAllowedValidators";
const STAKE_THRESHOLD: &str = "StakeThreshold";
const NEURON_COUNT: &str = "SubnetworkN";
/// Blocks, up to runtime 4xx.
const ACTIVITY_CUTOFF: &str = "ActivityCutoff";
/// Thousandths of the tempo, its successor in runtime 425.
const ACTIVITY_CUTOFF_FACTOR: &str = "ActivityCutoffFactorMilli";

const ITEMS: [&str; 12] = [
    TEMPO,
    WEIGHTS_SET_RATE_LIMIT,
    COMMIT_REVEAL_ENABLED,
    COMMIT_REVEAL_VERSION,
    REVEAL_PERIOD_EPOCHS,
    MIN_ALLOWED_WEIGHTS,
    MAX_WEIGHTS_LIMIT,
    WEIGHTS_VERSION_KEY,
    SERVING_RATE_LIMIT,
    MAX_ALLOWED_VALIDATORS,
    STAKE_THRESHOLD,
    NEURON_COUNT,
];

/// Storage keys of the hyperparameters in a runtime.
#[derive(Debug)]
pub(crate) struct ParamKeys(Vec<(&'static str, Vec<u8>)>);

impl ParamKeys {
    pub(crate) fn new(metadata: &Metadata, netuid: NetUid) -> Result<Self, ChainError> {
        let cutoff = if has_item(metadata, ACTIVITY_CUTOFF_FACTOR) {
            ACTIVITY_CUTOFF_FACTOR
        } else {
            ACTIVITY_CUTOFF
        };
        let keys = ITEMS
            .into_iter()
            .chain([cutoff])
            .map(|item| Ok((item, subnet_key(metadata, item, netuid)?)))
            .collect::<Result<_, ChainError>>()?;
        Ok(Self(keys))
    }

    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|(_, key)| key.clone()).collect()
    }

    fn find(&self, item: &str) -> Option<&[u8]> {
        self.0.iter().find(|(name, _)| *name == item).map(|(_, key)| key.as_slice())
    }
}

/// Decodes the hyperparameters from values read at the height `block`.
pub(crate) fn read_params(
    values: &Values<'_>,
    keys: &ParamKeys,
    block: u64,
) -> Result<SubnetParams, ChainError> {
    fn get<T: DecodeAsType>(
        values: &Values<'_>,
        keys: &ParamKeys,
        item: &str,
    ) -> Result<T, ChainError> {
        let key = keys.find(item).ok_or_else(|| ChainError::Incompatible {
            item: item.to_owned(),
            reason: "it was not asked for".to_owned(),
        })?;
        values.get(item, key)
    }
    let tempo: u16 = get(values, keys, TEMPO)?;
    let activity_cutoff = if keys.find(ACTIVITY_CUTOFF_FACTOR).is_some() {
        let factor_milli: u64 = get(values, keys, ACTIVITY_CUTOFF_FACTOR)?;
        factor_milli.saturating_mul(tempo.into()) / 1_000
    } else {
        get(values, keys, ACTIVITY_CUTOFF)?
    };
    Ok(SubnetParams {
        block,
        tempo,
        weights_set_rate_limit: get(values, keys, WEIGHTS_SET_RATE_LIMIT)?,
        commit_reveal_enabled: get(values, keys, COMMIT_REVEAL_ENABLED)?,
        commit_reveal_version: get(values, keys, COMMIT_REVEAL_VERSION)?,
        reveal_period_epochs: get(values, keys, REVEAL_PERIOD_EPOCHS)?,
        min_allowed_weights: get(values, keys, MIN_ALLOWED_WEIGHTS)?,
        max_weights_limit: get(values, keys, MAX_WEIGHTS_LIMIT)?,
        weights_version_key: get(values, keys, WEIGHTS_VERSION_KEY)?,
        serving_rate_limit: get(values, keys, SERVING_RATE_LIMIT)?,
        activity_cutoff,
        max_allowed_validators: get(values, keys, MAX_ALLOWED_VALIDATORS)?,
        stake_threshold: get(values, keys, STAKE_THRESHOLD)?,
        neuron_count: get(values, keys, NEURON_COUNT)?,
    })
}
