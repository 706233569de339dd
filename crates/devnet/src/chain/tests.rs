//! Checks of keys, encodings and payloads against the recorded vectors of independent tools.

use std::path::PathBuf;

use forecastd_core::Hotkey;
use parity_scale_codec::{DecodeAll, Encode};
use serde_json::Value;

use super::calls::{Call, ServeAxon, ServePrometheus};
use super::extrinsic::Extrinsic;
use super::runtime::{Runtime, recorded_key};
use super::types::{Era, NeuronInfoLite, to_hex};

/// Files of the group that concern a client only; its crate reads them.
const CLIENT_FILES: [&str; 3] = ["commit_reveal.json", "ss58.json", "weights.json"];
/// Files that the tests below read.
const READ_FILES: [&str; 6] = [
    "extrinsics.json",
    "ip.json",
    "real_runtime_results.json",
    "runtime_api.json",
    "scale_calls.json",
    "storage_keys.json",
];
/// Calls of `scale_calls.json` that the development chain does not execute.
const REFUSED_CALLS: [&str; 7] = [
    "batch_set_weights",
    "commit_mechanism_weights",
    "batch_commit_weights",
    "reveal_mechanism_weights",
    "batch_reveal_weights",
    "commit_timelocked_mechanism_weights",
    "transfer_keep_alive",
];

fn folder() -> PathBuf {
    let root = std::env::var_os("FORECASTD_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors")),
        PathBuf::from,
    );
    root.join("chain")
}

fn cases(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let cases = document["cases"].as_array().unwrap().clone();
    assert!(!cases.is_empty(), "{file} has no cases");
    cases
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
}

fn hash(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn integer(value: &Value) -> u128 {
    value.as_str().map_or_else(|| value.as_u64().unwrap().into(), |text| text.parse().unwrap())
}

fn integers<T: TryFrom<u128, Error: std::fmt::Debug>>(value: &Value) -> Vec<T> {
    value.as_array().unwrap().iter().map(|entry| integer(entry).try_into().unwrap()).collect()
}

#[test]
fn every_vector_file_is_known() {
    let mut found = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_known = READ_FILES.contains(&name.as_str())
            || CLIENT_FILES.contains(&name.as_str())
            || name == "README.md";
        assert!(is_known, "no test reads {name}");
        found += usize::from(READ_FILES.contains(&name.as_str()));
    }
    assert_eq!(found, READ_FILES.len());
}

#[test]
fn storage_keys_equal_the_recorded_ones() {
    for case in cases("storage_keys.json") {
        let parts: Vec<Vec<u8>> = case["params"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| match part.as_str() {
                Some(text) => text.parse::<Hotkey>().unwrap().as_bytes().to_vec(),
                None => u16::try_from(part.as_u64().unwrap()).unwrap().encode(),
            })
            .collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let (pallet, item) = (case["pallet"].as_str().unwrap(), case["item"].as_str().unwrap());
        assert_eq!(recorded_key(pallet, item, &parts), bytes(&case["key"]), "{pallet}.{item}");
    }
}

#[test]
fn recorded_calls_decode_to_their_arguments() {
    let runtime = Runtime::load().unwrap();
    for case in cases("scale_calls.json") {
        let (name, arguments) = (case["call"].as_str().unwrap(), &case["args"]);
        let call = Call::decode_all(&runtime, &bytes(&case["hex"]));
        if REFUSED_CALLS.contains(&name) {
            assert!(call.unwrap_err().contains("does not execute"), "{name}");
            continue;
        }
        let short = |key: &str| u16::try_from(integer(&arguments[key])).unwrap();
        let byte = |key: &str| u8::try_from(integer(&arguments[key])).unwrap();
        match call.unwrap() {
            Call::SetWeights(call) => {
                assert_eq!(call.netuid, short("netuid"));
                assert_eq!(call.uids, integers::<u16>(&arguments["dests"]));
                assert_eq!(call.values, integers::<u16>(&arguments["weights"]));
                assert_eq!(u128::from(call.version_key), integer(&arguments["version_key"]));
                assert_eq!(call.is_plain, name == "set_weights");
                let mechanism = if call.is_plain { 0 } else { byte("mecid") };
                assert_eq!(call.mechanism, mechanism);
            }
            Call::ServeAxon(call) => assert_eq!(
                call,
                ServeAxon {
                    netuid: short("netuid"),
                    version: u32::try_from(integer(&arguments["version"])).unwrap(),
                    ip: integer(&arguments["ip"]),
                    port: short("port"),
                    ip_type: byte("ip_type"),
                    protocol: byte("protocol"),
                    placeholder1: byte("placeholder1"),
                    placeholder2: byte("placeholder2"),
                }
            ),
            Call::ServePrometheus(call) => assert_eq!(
                call,
                ServePrometheus {
                    netuid: short("netuid"),
                    version: u32::try_from(integer(&arguments["version"])).unwrap(),
                    ip: integer(&arguments["ip"]),
                    port: short("port"),
                    ip_type: byte("ip_type"),
                }
            ),
            Call::BurnedRegister { netuid, hotkey } => {
                assert_eq!(netuid, short("netuid"));
                let expected: Hotkey = arguments["hotkey"].as_str().unwrap().parse().unwrap();
                assert_eq!(hotkey, *expected.as_bytes());
            }
            Call::Batch { calls, .. } => {
                let inner = arguments["calls"].as_array().unwrap();
                assert_eq!(calls.len(), inner.len());
                for (call, encoded) in calls.iter().zip(inner) {
                    assert_eq!(Call::decode_all(&runtime, &bytes(encoded)).as_ref(), Ok(call));
                }
            }
        }
    }
}

#[test]
fn recorded_extrinsics_decode_and_give_the_recorded_payload() {
    let runtime = Runtime::load().unwrap();
    for case in cases("extrinsics.json") {
        let name = case["name"].as_str().unwrap();
        let encoded = bytes(&case["extrinsic"]);
        let extrinsic = Extrinsic::decode(&runtime, &encoded).unwrap();
        let signer: Hotkey = case["signer"].as_str().unwrap().parse().unwrap();
        assert_eq!(extrinsic.signer, *signer.as_bytes(), "{name}");
        assert_eq!(u64::from(extrinsic.nonce), case["nonce"].as_u64().unwrap(), "{name}");
        assert_eq!(to_hex(&extrinsic.hash), case["extrinsic_hash"].as_str().unwrap(), "{name}");
        if case["era"].is_string() {
            assert_eq!(extrinsic.era, Era::Immortal, "{name}");
        } else {
            let current = case["era"]["current"].as_u64().unwrap();
            let period = case["era"]["period"].as_u64().unwrap();
            assert_eq!(extrinsic.era, Era::Mortal { period, phase: current % period });
            assert_eq!(extrinsic.era.birth(current), current, "{name}");
        }
        let payload = extrinsic.payload(
            u32::try_from(case["spec_version"].as_u64().unwrap()).unwrap(),
            u32::try_from(case["transaction_version"].as_u64().unwrap()).unwrap(),
            &hash(&case["genesis_hash"]),
            &hash(&case["era_block_hash"]),
        );
        assert_eq!(to_hex(&payload), case["signer_payload"].as_str().unwrap(), "{name}");
        // The recorded signatures are made up.
        assert!(!extrinsic.is_signed_over(&payload), "{name}");
        for cut in 0..encoded.len().min(200) {
            assert!(Extrinsic::decode(&runtime, &encoded[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn neuron_rows_have_the_bytes_of_the_real_runtime() {
    let mut rows = 0;
    for file in ["runtime_api.json", "real_runtime_results.json"] {
        for case in cases(file) {
            if case["method"] != "NeuronInfoRuntimeApi_get_neurons_lite" {
                let known = [
                    "SubnetInfoRuntimeApi_get_metagraph",
                    "SubnetInfoRuntimeApi_get_subnet_hyperparams",
                ];
                assert!(known.contains(&case["method"].as_str().unwrap()));
                continue;
            }
            let recorded = bytes(&case["output"]);
            let neurons = Vec::<NeuronInfoLite>::decode_all(&mut &recorded[..]).unwrap();
            assert_eq!(neurons.encode(), recorded);
            let decoded = case["decoded"].as_array().unwrap();
            assert_eq!(neurons.len(), decoded.len());
            for (neuron, expected) in neurons.iter().zip(decoded) {
                let hotkey: Hotkey = expected["hotkey"].as_str().unwrap().parse().unwrap();
                assert_eq!(neuron.hotkey, *hotkey.as_bytes());
                assert_eq!(u64::from(neuron.uid), expected["uid"].as_u64().unwrap());
                assert_eq!(neuron.last_update, expected["last_update"].as_u64().unwrap());
                let port = u64::from(neuron.axon_info.port);
                assert_eq!(port, expected["axon_info"]["port"].as_u64().unwrap());
                rows += 1;
            }
        }
    }
    assert!(rows > 70);
}

#[test]
fn axon_addresses_are_accepted_as_recorded() {
    for case in cases("ip.json") {
        let ip_type = u8::try_from(case["ip_type"].as_u64().unwrap()).unwrap();
        assert_eq!(
            super::pallet::is_servable_ip(ip_type, integer(&case["value"])),
            case["chain_accepts_for_axon"].as_bool().unwrap(),
            "{}",
            case["text"]
        );
    }
}

#[test]
fn deeply_nested_batches_are_refused_without_harm() {
    let runtime = Runtime::load().unwrap();
    let [pallet, call] = runtime.call_indices(super::names::CallName::batch);
    let nested: Vec<u8> = std::iter::repeat_n([pallet, call, 4], 300_000).flatten().collect();
    assert!(Call::decode_all(&runtime, &nested).unwrap_err().contains("nest deeper"));
}
