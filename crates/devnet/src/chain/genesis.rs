//! The first state of a development chain, and the settings that hold from each start on.

use parity_scale_codec::{Compact, Encode};

use super::DevChainConfig;
use super::names::Item;
use super::runtime::Runtime;
use super::view::Writer;

/// Burn of a registration at genesis, RAO: half a thousandth of a TAO, the least that real subnets ask.
const BURN_RAO: u64 = 500_000;
/// Registrations that the subnet aims at per interval; three times as many are let through.
const TARGET_REGISTRATIONS: u16 = 100;
/// Registrations in one block.
const MAX_REGISTRATIONS_PER_BLOCK: u16 = 100;

/// Writes what a fresh chain begins with.
pub(super) fn write_genesis(writer: &mut Writer<'_, '_>, config: &DevChainConfig) {
    let netuid = config.netuid.0;
    let version = writer.runtime.version().clone();
    writer.put(
        Item::LastRuntimeUpgrade,
        &[],
        &(Compact(version.spec_version), version.spec_name().to_owned()),
    );
    writer.put(Item::Number, &[], &0_u32);
    writer.put(Item::TotalNetworks, &[], &2_u16);
    for subnet in [0, netuid] {
        writer.put_of_subnet(Item::NetworksAdded, subnet, &true);
        writer.put_of_subnet(Item::NetworkRegisteredAt, subnet, &0_u64);
    }
    writer.put_of_subnet(Item::SubnetworkN, netuid, &0_u16);
    writer.put_of_subnet(Item::Burn, netuid, &BURN_RAO);
    writer.put_of_subnet(Item::TargetRegistrationsPerInterval, netuid, &TARGET_REGISTRATIONS);
    writer.put_of_subnet(Item::MaxRegistrationsPerBlock, netuid, &MAX_REGISTRATIONS_PER_BLOCK);
    apply_config(writer, config, 0);
}

/// Writes the settings, and gives a slot to each configured neuron that has none.
pub(super) fn apply_config(writer: &mut Writer<'_, '_>, config: &DevChainConfig, block: u64) {
    let netuid = config.netuid.0;
    writer.put_of_subnet(Item::Tempo, netuid, &config.tempo);
    writer.put_of_subnet(Item::WeightsSetRateLimit, netuid, &config.weights_set_rate_limit);
    writer.put_of_subnet(Item::CommitRevealWeightsEnabled, netuid, &config.commit_reveal);
    writer.put_of_subnet(Item::MinAllowedWeights, netuid, &config.min_allowed_weights);
    writer.put_of_subnet(Item::MaxWeightsLimit, netuid, &config.max_weights_limit);
    writer.put_of_subnet(Item::WeightsVersionKey, netuid, &config.weights_version_key);
    writer.put_of_subnet(Item::ServingRateLimit, netuid, &config.serving_rate_limit);
    writer.put_of_subnet(Item::MaxAllowedUids, netuid, &config.max_allowed_uids);
    writer.put_of_subnet(Item::ImmunityPeriod, netuid, &config.immunity_period);
    writer.put(Item::StakeThreshold, &[], &config.stake_threshold.0);
    for neuron in &config.genesis {
        let hotkey = neuron.hotkey.as_bytes();
        if writer.view().uid(netuid, hotkey).is_some() {
            continue;
        }
        let uid = writer.append_neuron(netuid, hotkey, block);
        // A fresh neuron counts as never having set weights, so that the first setting is not held
        // back by the rate limit.
        writer.put_of_uid(Item::LastUpdate, netuid, uid, 0_u64);
        writer.put_of_uid(Item::ValidatorPermit, netuid, uid, neuron.validator_permit);
        writer.create_hotkey_account(hotkey, &neuron.coldkey);
        writer.put(Item::TotalHotkeyAlpha, &[hotkey, &netuid.encode()], &neuron.stake.0);
        if neuron.balance.0 > 0 {
            writer.deposit(&neuron.coldkey, neuron.balance.0);
        }
    }
}

/// Returns the call bytes of `Timestamp.set`.
pub(super) fn timestamp_call(runtime: &Runtime, now_ms: u64) -> Vec<u8> {
    let mut call = runtime.call_indices(super::names::CallName::set).to_vec();
    Compact(now_ms).encode_to(&mut call);
    call
}
