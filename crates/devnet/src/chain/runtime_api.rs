//! Answers to `state_call`: the runtime APIs that clients of a subnet use.

use parity_scale_codec::{Compact, Decode, Encode};

use super::extrinsic::Extrinsic;
use super::names::Item;
use super::runtime::{Runtime, compact_length};
use super::types::{Account, DispatchInfo};
use super::view::View;

/// Why a runtime API gives no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiFailure {
    /// The development chain does not have it.
    Unknown,
    /// The arguments do not decode.
    Arguments(String),
}

/// Executes `method` with SCALE-encoded `arguments`; returns the SCALE answer.
pub(super) fn call(view: View<'_>, method: &str, arguments: &[u8]) -> Result<Vec<u8>, ApiFailure> {
    let mut input = arguments;
    match method {
        "Core_version" => Ok(view.runtime.encoded_version().to_vec()),
        "Metadata_metadata_versions" => Ok(Runtime::metadata_versions()),
        "Metadata_metadata_at_version" => {
            Ok(Runtime::metadata_at_version(read(&mut input, "version")?))
        }
        "Metadata_metadata" => {
            let bytes = Runtime::legacy_metadata();
            let mut answer = compact_length(bytes.len());
            answer.extend_from_slice(bytes);
            Ok(answer)
        }
        "AccountNonceApi_account_nonce" => {
            let account: Account = read(&mut input, "account")?;
            Ok(view.account(&account).nonce.encode())
        }
        "TransactionPaymentApi_query_info" => {
            let length = arguments.len().saturating_sub(4);
            let bytes = arguments.get(..length).unwrap_or_default();
            let extrinsic = Extrinsic::decode(view.runtime, bytes)
                .map_err(|failure| ApiFailure::Arguments(format!("{failure:?}")))?;
            // Weight and class as in the events; the fee is zero, since this chain charges none.
            let info = DispatchInfo::normal(extrinsic.call.pays_fee()).encode();
            let weight_and_class = info.get(..info.len() - 1).unwrap_or_default();
            Ok([weight_and_class, &0_u64.encode()].concat())
        }
        "NeuronInfoRuntimeApi_get_neurons_lite" => {
            Ok(view.neurons_lite(read(&mut input, "netuid")?).encode())
        }
        "NeuronInfoRuntimeApi_get_neuron_lite" => {
            let netuid = read(&mut input, "netuid")?;
            Ok(view.neuron_lite(netuid, read(&mut input, "uid")?).encode())
        }
        "SubnetInfoRuntimeApi_get_subnet_hyperparams" => {
            let netuid = read(&mut input, "netuid")?;
            let hyperparameters = view.subnet_exists(netuid).then(|| hyperparameters(view, netuid));
            let mut answer = vec![u8::from(hyperparameters.is_some())];
            answer.extend(hyperparameters.unwrap_or_default());
            Ok(answer)
        }
        _ => Err(ApiFailure::Unknown),
    }
}

/// Returns `SubnetHyperparams`, field by field in the order of the metadata.
fn hyperparameters(view: View<'_>, netuid: u16) -> Vec<u8> {
    let short = |item| Compact(view.of_subnet::<u16>(item, netuid)).encode();
    let long = |item| Compact(view.of_subnet::<u64>(item, netuid)).encode();
    let flag = |item| view.of_subnet::<bool>(item, netuid).encode();
    let (alpha_low, alpha_high): (u16, u16) = view.of_subnet(Item::AlphaValues, netuid);
    [
        short(Item::Rho),
        short(Item::Kappa),
        short(Item::ImmunityPeriod),
        short(Item::MinAllowedWeights),
        short(Item::MaxWeightsLimit),
        short(Item::Tempo),
        long(Item::MinDifficulty),
        long(Item::MaxDifficulty),
        long(Item::WeightsVersionKey),
        long(Item::WeightsSetRateLimit),
        short(Item::AdjustmentInterval),
        short(Item::ActivityCutoff),
        flag(Item::NetworkRegistrationAllowed),
        short(Item::TargetRegistrationsPerInterval),
        long(Item::MinBurn),
        long(Item::MaxBurn),
        long(Item::BondsMovingAverage),
        short(Item::MaxRegistrationsPerBlock),
        long(Item::ServingRateLimit),
        short(Item::MaxAllowedValidators),
        long(Item::AdjustmentAlpha),
        long(Item::Difficulty),
        long(Item::RevealPeriodEpochs),
        flag(Item::CommitRevealWeightsEnabled),
        Compact(alpha_high).encode(),
        Compact(alpha_low).encode(),
        flag(Item::LiquidAlphaOn),
    ]
    .concat()
}

fn read<T: Decode>(input: &mut &[u8], what: &str) -> Result<T, ApiFailure> {
    T::decode(input).map_err(|error| ApiFailure::Arguments(format!("{what}: {error}")))
}
