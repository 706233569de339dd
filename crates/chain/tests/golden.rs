//! Parity with independent encoders: addresses, storage keys, calls, runtime API results.
//!
//! Cases of calls and APIs that this crate does not make yet are listed by name below; an unlisted
//! one fails. Signer payloads and extrinsics are compared beside the code that builds them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic")]

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use forecastd_chain::neurons::decode_neurons;
use forecastd_chain::storage::storage_key;
use forecastd_chain::{AxonEndpoint, Neuron, calls};
use forecastd_core::{Hotkey, NetUid, Rao, Uid};
use scale_value::Value as Scale;
use serde_json::Value;
use subxt::Metadata;

/// Files compared elsewhere: weights with the conversion, extrinsics beside the signing, the
/// timelock when commit-reveal of weights is built.
const ELSEWHERE: [&str; 4] = ["README.md", "weights.json", "extrinsics.json", "commit_reveal.json"];
const HERE: [&str; 6] = [
    "ip.json",
    "real_runtime_results.json",
    "runtime_api.json",
    "scale_calls.json",
    "ss58.json",
    "storage_keys.json",
];
const CALLS_MADE: [&str; 2] = ["set_weights", "serve_axon"];
const CALLS_LATER: [&str; 10] = [
    "set_mechanism_weights",
    "batch_set_weights",
    "commit_mechanism_weights",
    "batch_commit_weights",
    "reveal_mechanism_weights",
    "batch_reveal_weights",
    "commit_timelocked_mechanism_weights",
    "serve_prometheus",
    "burned_register",
    "force_batch",
];
/// A coldkey's call; this daemon never makes it.
const CALLS_NEVER: [&str; 1] = ["transfer_keep_alive"];
const NEURONS: &str = "NeuronInfoRuntimeApi_get_neurons_lite";
const APIS_LATER: [&str; 2] =
    ["SubnetInfoRuntimeApi_get_metagraph", "SubnetInfoRuntimeApi_get_subnet_hyperparams"];

fn tests_folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests"))
}

fn chain_folder() -> PathBuf {
    let vectors = std::env::var_os("FORECASTD_VECTORS");
    vectors.map_or_else(|| tests_folder().join("vectors"), PathBuf::from).join("chain")
}

fn cases(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(chain_folder().join(file)).unwrap();
    let document: Value = serde_json::from_str(&quote_large_integers(&text)).unwrap();
    let cases = document["cases"].as_array().unwrap().clone();
    assert!(!cases.is_empty(), "{file} has no cases");
    cases
}

/// Puts integers of more than 18 digits in quotes: the JSON parser would round them to floats.
fn quote_large_integers(json: &str) -> String {
    let mut quoted = String::with_capacity(json.len());
    let mut digits = String::new();
    let (mut in_text, mut escaped) = (false, false);
    for c in json.chars().chain(['\n']) {
        if !in_text && c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if digits.len() > 18 {
            quoted.extend(['"'].into_iter().chain(digits.drain(..)).chain(['"']));
        } else {
            quoted.extend(digits.drain(..));
        }
        if c == '"' && !escaped {
            in_text = !in_text;
        }
        escaped = in_text && c == '\\' && !escaped;
        quoted.push(c);
    }
    quoted
}

fn metadata() -> Metadata {
    let bytes = fs::read(tests_folder().join("metadata/finney-min.scale")).unwrap();
    Metadata::decode_from(&bytes).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value).strip_prefix("0x").unwrap()).unwrap()
}

/// Integers are JSON numbers or, when large, text.
fn integer(value: &Value) -> u128 {
    value.as_u64().map_or_else(|| text(value).parse().unwrap(), u128::from)
}

fn small<T: TryFrom<u128>>(value: &Value) -> T {
    T::try_from(integer(value)).unwrap_or_else(|_| panic!("{value} is out of range"))
}

#[test]
fn every_file_of_the_folder_is_known() {
    let mut names: Vec<String> = fs::read_dir(chain_folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut known: Vec<&str> = HERE.iter().chain(&ELSEWHERE).copied().collect();
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn addresses_match_and_bad_ones_are_refused() {
    let (mut good, mut bad) = (0, 0);
    for case in cases("ss58.json") {
        let address = text(&case["ss58"]);
        if case["valid"] == false {
            bad += 1;
            assert!(address.parse::<Hotkey>().is_err(), "{address}");
        } else {
            good += 1;
            let key = Hotkey::from_bytes(bytes(&case["public_key"]).try_into().unwrap());
            assert_eq!(key.to_ss58(), address);
            assert_eq!(address.parse::<Hotkey>(), Ok(key));
        }
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}

#[test]
fn axon_addresses_match() {
    for case in cases("ip.json") {
        let ip: IpAddr = text(&case["text"]).parse().unwrap();
        let axon = AxonEndpoint { ip, port: 8091, protocol: 4, version: 1 };
        assert_eq!(u128::from(axon.ip_type()), integer(&case["ip_type"]), "{ip}");
        assert_eq!(axon.ip_value(), integer(&case["value"]), "{ip}");
        assert_eq!(hex(axon.ip_value().to_le_bytes()), text(&case["scale_u128_le"]), "{ip}");
        assert_eq!(Value::Bool(axon.check().is_ok()), case["chain_accepts_for_axon"], "{ip}");
    }
}

#[test]
fn storage_keys_match() {
    let metadata = metadata();
    for case in cases("storage_keys.json") {
        let parts = case["params"].as_array().unwrap().iter().map(|part| match part {
            Value::String(address) => {
                Scale::from_bytes(address.parse::<Hotkey>().unwrap().as_bytes())
            }
            number => Scale::u128(integer(number)),
        });
        let (pallet, item) = (text(&case["pallet"]), text(&case["item"]));
        let key = storage_key(&metadata, pallet, item, parts.collect()).unwrap();
        assert_eq!(hex(key), text(&case["key"]), "{pallet}.{item}");
    }
}

#[test]
fn a_storage_item_that_the_runtime_lacks_is_a_clear_error() {
    let error = storage_key(&metadata(), "SubtensorModule", "NoSuchItem", Vec::new()).unwrap_err();
    assert!(error.is_fatal() && !error.is_retryable());
    assert!(error.to_string().contains("SubtensorModule.NoSuchItem"), "{error}");
}

#[test]
fn calls_match_byte_for_byte() {
    let metadata = metadata();
    let mut made = 0;
    for case in cases("scale_calls.json") {
        let (name, call) = (text(&case["name"]), text(&case["call"]));
        let args = &case["args"];
        let built = match call {
            "set_weights" => {
                let list = |key: &str| args[key].as_array().unwrap().clone();
                let weights: Vec<_> = list("dests")
                    .iter()
                    .zip(&list("weights"))
                    .map(|(uid, value)| (Uid(small(uid)), small(value)))
                    .collect();
                let netuid = NetUid(small(&args["netuid"]));
                calls::set_weights(netuid, &weights, small(&args["version_key"]))
            }
            "serve_axon" => {
                assert_eq!((&args["placeholder1"], &args["placeholder2"]), (&0.into(), &0.into()));
                let axon = AxonEndpoint {
                    ip: text(&args["ip_text"]).parse().unwrap(),
                    port: small(&args["port"]),
                    protocol: small(&args["protocol"]),
                    version: small(&args["version"]),
                };
                assert_eq!(u128::from(axon.ip_type()), integer(&args["ip_type"]), "{name}");
                calls::serve_axon(NetUid(small(&args["netuid"])), &axon)
            }
            other => {
                let known = CALLS_LATER.contains(&other) || CALLS_NEVER.contains(&other);
                assert!(known, "{name}: unknown call {other}");
                continue;
            }
        };
        assert!(CALLS_MADE.contains(&call));
        made += 1;
        assert_eq!(hex(calls::encode(&built, &metadata).unwrap()), text(&case["hex"]), "{name}");
    }
    assert!(made >= 7, "{made} calls compared");
}

/// Compares a decoded neuron with the vector's columns.
fn assert_neuron(neuron: &Neuron, expected: &Value, name: &str) {
    let name = format!("{name}, uid {}", neuron.uid);
    assert_eq!(u128::from(neuron.uid.0), integer(&expected["uid"]), "{name}");
    assert_eq!(neuron.hotkey.to_ss58(), text(&expected["hotkey"]), "{name}");
    let coldkey = Hotkey::from_bytes(neuron.coldkey).to_ss58();
    assert_eq!(coldkey, text(&expected["coldkey"]), "{name}");
    let stakes = expected["stake"].as_array().unwrap();
    let stake: u128 = stakes.iter().map(|pair| integer(&pair[1])).sum();
    assert_eq!(neuron.stake, Rao(u64::try_from(stake).unwrap()), "{name}");
    assert_eq!(Value::Bool(neuron.validator_permit), expected["validator_permit"], "{name}");
    assert_eq!(Value::Bool(neuron.active), expected["active"], "{name}");
    assert_eq!(u128::from(neuron.last_update), integer(&expected["last_update"]), "{name}");
    assert_eq!(u128::from(neuron.incentive), integer(&expected["incentive"]), "{name}");
    let axon = &expected["axon_info"];
    match neuron.axon {
        None => assert_eq!(axon["port"], 0, "{name}"),
        Some(endpoint) => {
            assert_eq!(endpoint.ip_value(), integer(&axon["ip"]), "{name}");
            assert_eq!(u128::from(endpoint.ip_type()), integer(&axon["ip_type"]), "{name}");
            assert_eq!(u128::from(endpoint.port), integer(&axon["port"]), "{name}");
            assert_eq!(u128::from(endpoint.protocol), integer(&axon["protocol"]), "{name}");
            assert_eq!(u128::from(endpoint.version), integer(&axon["version"]), "{name}");
        }
    }
}

fn assert_neurons_of(file: &str) {
    let metadata = metadata();
    let mut compared = 0;
    for case in cases(file) {
        let method = text(&case["method"]);
        if method != NEURONS {
            assert!(APIS_LATER.contains(&method), "{file}: unknown method {method}");
            continue;
        }
        let input = bytes(&case["input"]);
        let netuid = NetUid(u16::from_le_bytes(input.try_into().unwrap()));
        let neurons = decode_neurons(&metadata, netuid, &bytes(&case["output"])).unwrap();
        let expected = case["decoded"].as_array().unwrap();
        assert_eq!(neurons.len(), expected.len());
        for (neuron, expected) in neurons.iter().zip(expected) {
            assert_neuron(neuron, expected, file);
        }
        compared += 1;
    }
    assert!(compared > 0, "{file} has no neurons");
}

#[test]
fn neurons_made_up_by_another_encoder_decode() {
    assert_neurons_of("runtime_api.json");
}

#[test]
fn neurons_of_a_real_runtime_decode() {
    assert_neurons_of("real_runtime_results.json");
}

fn three_neurons() -> Vec<u8> {
    let cases = cases("runtime_api.json");
    bytes(&cases.iter().find(|case| case["name"] == "get_neurons_lite_3").unwrap()["output"])
}

#[test]
fn damaged_results_are_refused_and_never_panic() {
    let metadata = metadata();
    let sound = three_neurons();
    let decode = |bytes: &[u8]| decode_neurons(&metadata, NetUid(8), bytes);
    decode(&sound).unwrap();
    for length in 0..sound.len() {
        assert!(decode(&sound[..length]).is_err(), "cut to {length} bytes");
    }
    let mut longer = sound.clone();
    longer.push(0);
    assert!(decode(&longer).unwrap_err().to_string().contains("left over"));
    // A claim of 2^30 - 1 neurons.
    let error = decode(&[0xfe, 0xff, 0xff, 0xff]).unwrap_err();
    assert!(error.to_string().contains("at most 4096"), "{error}");
    assert!(decode_neurons(&metadata, NetUid(9), &sound).is_err(), "another subnet's neurons");
    for position in 0..sound.len() {
        let mut changed = sound.clone();
        changed[position] ^= 0xff;
        // Most changes make other values, some an error; none may panic.
        drop(decode(&changed));
    }
}

#[test]
fn a_neuron_twice_is_refused() {
    let metadata = metadata();
    // The same three rows twice under a length of six (compact encoding: times four).
    let three = three_neurons();
    assert_eq!(three[0], 3 << 2);
    let mut twice = vec![6 << 2];
    twice.extend_from_slice(&three[1..]);
    twice.extend_from_slice(&three[1..]);
    let error = decode_neurons(&metadata, NetUid(8), &twice).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}
