//! Signer payloads and whole extrinsics against those of an independent encoder.

use std::path::PathBuf;
use std::sync::Arc;

use forecastd_core::{Hotkey, NetUid, Signer, Uid};
use serde_json::Value;
use subxt::config::substrate::SpecVersionForRange;
use subxt::utils::MultiSignature;
use subxt::{Metadata, OfflineClient, SubstrateConfig};

use super::*;
use crate::calls;
use crate::wallet::Keypair;

fn root(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests")).join(folder)
}

fn vectors(file: &str) -> Value {
    let folder = std::env::var_os("FORECASTD_VECTORS").map_or_else(|| root("vectors"), Into::into);
    let text = std::fs::read_to_string(folder.join("chain").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn cases(vectors: &Value) -> &Vec<Value> {
    let cases = vectors["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().strip_prefix("0x").unwrap()).unwrap()
}

fn hash(value: &Value) -> H256 {
    H256(bytes(value).try_into().unwrap())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// The settings of the generic configuration can fix the genesis hash; addresses and extensions
/// are encoded by the metadata all the same.
fn client(
    case: &Value,
) -> ClientAtBlock<SubstrateConfig, impl OfflineClientAtBlockT<SubstrateConfig>> {
    let bytes = std::fs::read(root("metadata/finney-min.scale")).unwrap();
    let metadata = Arc::new(Metadata::decode_from(&bytes).unwrap());
    let spec_version = u32::try_from(number(&case["spec_version"])).unwrap();
    let config = SubstrateConfig::builder()
        .set_genesis_hash(hash(&case["genesis_hash"]))
        .set_metadata_for_spec_versions([(spec_version, metadata)])
        .set_spec_version_for_block_ranges([SpecVersionForRange {
            block_range: 0..u64::MAX,
            spec_version,
            transaction_version: u32::try_from(number(&case["transaction_version"])).unwrap(),
        }])
        .build();
    OfflineClient::new_with_config(config).at_block(0_u64).unwrap()
}

fn call(name: &str) -> Call {
    let vectors = vectors("scale_calls.json");
    let case = cases(&vectors).iter().find(|case| case["name"] == name).unwrap();
    let u16s = |key: &str| {
        let list = case["args"][key].as_array().unwrap();
        list.iter().map(|value| u16::try_from(number(value)).unwrap()).collect::<Vec<_>>()
    };
    let weights: Vec<_> = u16s("dests").into_iter().map(Uid).zip(u16s("weights")).collect();
    let netuid = NetUid(u16::try_from(number(&case["args"]["netuid"])).unwrap());
    calls::set_weights(netuid, &weights, number(&case["args"]["version_key"]))
}

#[test]
fn signer_payloads_and_extrinsics_match_the_vectors() {
    let vectors = vectors("extrinsics.json");
    for case in cases(&vectors) {
        let name = case["name"].as_str().unwrap();
        let call = call(case["call"].as_str().unwrap());
        let client = client(case);
        let mut params = DefaultExtrinsicParamsBuilder::<SubstrateConfig>::new()
            .nonce(number(&case["nonce"]))
            .tip(number(&case["tip"]).into());
        let mortal = case["era"].is_object();
        if mortal {
            params = params.mortal_from_unchecked(
                number(&case["era"]["period"]),
                number(&case["era"]["current"]),
                hash(&case["era_block_hash"]),
            );
        } else {
            assert_eq!(case["era"], "00", "{name}: unknown era");
        }
        let mut built = client.tx().create_v4_signable_offline(&call, params.build()).unwrap();
        let payload = built.signer_payload().unwrap();
        assert_eq!(hex::encode(&payload), hex::encode(bytes(&case["signer_payload"])), "{name}");

        // Where the vector has the daemon's own shape, the daemon's own function must agree.
        if mortal && case["tip"] == 0 {
            let era = Era {
                period_blocks: number(&case["era"]["period"]),
                block: number(&case["era"]["current"]),
                block_hash: hash(&case["era_block_hash"]),
            };
            let ours = signable(&client, &call, number(&case["nonce"]), era).unwrap();
            assert_eq!(ours.signer_payload().unwrap(), payload, "{name}");
        }

        let account: Hotkey = case["signer"].as_str().unwrap().parse().unwrap();
        let signature = MultiSignature::Sr25519(bytes(&case["signature"]).try_into().unwrap());
        let account = subxt::utils::AccountId32(*account.as_bytes());
        let signed = built.sign_with_account_and_signature(&account, &signature).unwrap();
        assert_eq!(hex::encode(signed.encoded()), hex::encode(bytes(&case["extrinsic"])), "{name}");
        let hash = crate::hash::blake2_256(signed.encoded());
        assert_eq!(hash.to_vec(), bytes(&case["extrinsic_hash"]), "{name}");
    }
}

#[test]
fn a_signed_extrinsic_carries_a_signature_of_its_payload() {
    let vectors = vectors("extrinsics.json");
    let client = client(&cases(&vectors)[0]);
    let keypair = Arc::new(Keypair::from_uri("//Alice").unwrap());
    let call = call("set_weights_3");
    let era = Era { period_blocks: 128, block: 1_000, block_hash: H256([7; 32]) };
    let extrinsic = sign(&client, &call, 3, era, &keypair.chain_signer()).unwrap();
    let payload = signable(&client, &call, 3, era).unwrap().signer_payload().unwrap();
    // Length prefix (2), version (1), address kind (1), account (32), signature kind (1).
    let account: [u8; 32] = extrinsic[4..36].try_into().unwrap();
    let signature: [u8; 64] = extrinsic[37..101].try_into().unwrap();
    assert_eq!(Hotkey::from_bytes(account), keypair.hotkey());
    assert!(subxt_signer::sr25519::verify(
        &subxt_signer::sr25519::Signature(signature),
        payload,
        &subxt_signer::sr25519::PublicKey(account),
    ));
}
