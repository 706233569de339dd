//! The rows of the metagraph as the runtime hands them out.
//!
//! `NeuronInfoRuntimeApi_get_neurons_lite` is the cheapest read of a whole subnet. Fields are
//! matched by name with the node's metadata: fields that later runtimes add are skipped, a field
//! that went missing is an error.

use std::collections::BTreeSet;

use forecastd_core::{Hotkey, NetUid, Rao, Uid};
use parity_scale_codec::{Compact, Decode};
use subxt::Metadata;
use subxt::ext::frame_decode::runtime_apis::decode_runtime_api_response;
use subxt::ext::scale_decode::{DecodeAsType, IntoVisitor};
use subxt::utils::AccountId32;

use crate::axon::AxonEndpoint;
use crate::error::ChainError;
use crate::types::Neuron;

const API: &str = "NeuronInfoRuntimeApi";
const METHOD: &str = "get_neurons_lite";
/// Name of the call for `state_call`.
pub(crate) const NEURONS_CALL: &str = "NeuronInfoRuntimeApi_get_neurons_lite";
/// Mechanism storage indices are `mechanism * 4096 + netuid`; no subnet comes near as many neurons.
const MAX_NEURONS: u32 = 4_096;

#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct AxonInfo {
    version: u32,
    ip: u128,
    port: u16,
    ip_type: u8,
    protocol: u8,
}

#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct NeuronInfoLite {
    hotkey: AccountId32,
    coldkey: AccountId32,
    uid: u16,
    netuid: u16,
    active: bool,
    axon_info: AxonInfo,
    stake: Vec<(AccountId32, u64)>,
    incentive: u16,
    last_update: u64,
    validator_permit: bool,
}

/// Decodes the result of `get_neurons_lite`; the block of registration is left at 0.
///
/// Returns the neurons ordered by uid.
///
/// # Errors
/// [`ChainError::Decode`] when the bytes do not fit the metadata, hold more than 4096 neurons, a
/// neuron of another subnet, or a uid twice.
pub fn decode_neurons(
    metadata: &Metadata,
    netuid: NetUid,
    bytes: &[u8],
) -> Result<Vec<Neuron>, ChainError> {
    // The length is looked at first: nothing is allocated for a claim that cannot be true.
    let claimed =
        <Compact<u32>>::decode(&mut &*bytes).map_err(|error| decode_error(error.to_string()))?;
    if claimed.0 > MAX_NEURONS {
        return Err(decode_error(format!("{} neurons, at most {MAX_NEURONS}", claimed.0)));
    }
    let cursor = &mut &*bytes;
    let rows = decode_runtime_api_response(
        API,
        METHOD,
        cursor,
        metadata,
        metadata.types(),
        Vec::<NeuronInfoLite>::into_visitor(),
    )
    .map_err(|error| decode_error(error.to_string()))?;
    if !cursor.is_empty() {
        return Err(decode_error(format!("{} bytes are left over", cursor.len())));
    }
    let mut neurons = Vec::with_capacity(rows.len());
    for row in rows {
        if row.netuid != netuid.0 {
            return Err(decode_error(format!(
                "uid {} belongs to subnet {}, asked for {netuid}",
                row.uid, row.netuid
            )));
        }
        neurons.push(neuron(row));
    }
    neurons.sort_by_key(|neuron| neuron.uid);
    let twice = neurons.windows(2).find_map(|pair| match pair {
        [left, right] if left.uid == right.uid => Some(left.uid),
        _ => None,
    });
    match twice {
        Some(uid) => Err(decode_error(format!("uid {uid} occurs twice"))),
        None => Ok(neurons),
    }
}

/// Checks that each hotkey has one slot, on which everything that is kept by hotkey relies.
///
/// # Errors
/// [`ChainError::Decode`] names a hotkey that occurs twice.
pub fn check_hotkeys(neurons: &[Neuron]) -> Result<(), ChainError> {
    let mut seen = BTreeSet::new();
    match neurons.iter().find(|neuron| !seen.insert(neuron.hotkey)) {
        Some(neuron) => Err(decode_error(format!("hotkey {} occurs twice", neuron.hotkey))),
        None => Ok(()),
    }
}

fn neuron(row: NeuronInfoLite) -> Neuron {
    let axon = row.axon_info;
    // One pair in today's runtimes, one for each nominator in old ones.
    let stake = row.stake.iter().fold(0_u64, |sum, (_, amount)| sum.saturating_add(*amount));
    Neuron {
        uid: Uid(row.uid),
        hotkey: Hotkey::from_bytes(row.hotkey.0),
        coldkey: row.coldkey.0,
        axon: AxonEndpoint::from_chain(
            axon.ip,
            axon.ip_type,
            axon.port,
            axon.protocol,
            axon.version,
        ),
        stake: Rao(stake),
        validator_permit: row.validator_permit,
        last_update: row.last_update,
        registered_at_block: 0,
        incentive: row.incentive,
        active: row.active,
    }
}

fn decode_error(reason: String) -> ChainError {
    ChainError::Decode { what: NEURONS_CALL.to_owned(), reason }
}
