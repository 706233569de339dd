//! The chain client against a scripted node on loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic")]

mod node;
mod sick_nodes;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forecastd_chain::{
    AxonEndpoint, Chain, ChainConfig, ChainError, Keypair, Retry, Subtensor, WeightsError, calls,
};
use forecastd_core::{NetUid, Signer, Uid};
use node::{FINALITY_LAG, Fate, Node, START, Script};
use scale_value::Value as Scale;
use serde_json::{Value, json};

const NETUID: NetUid = NetUid(8);
/// Long enough for a busy machine; only tests of deadlines use a shorter one.
const PATIENT: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(300);
const OWN_UID: u16 = 1;

fn config(nodes: &[&Node]) -> ChainConfig {
    let endpoints = nodes.iter().map(|node| node.endpoint()).collect();
    ChainConfig {
        call_timeout: PATIENT,
        inclusion_timeout: PATIENT,
        ..ChainConfig::new(endpoints, NETUID)
    }
}

async fn connect(node: &Node) -> Subtensor {
    Subtensor::connect(config(&[node])).await.unwrap()
}

fn alice() -> Arc<Keypair> {
    Arc::new(Keypair::from_uri("//Alice").unwrap())
}

fn number(value: u16) -> Scale {
    Scale::u128(value.into())
}

fn vector_neurons(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/chain/runtime_api.json");
    let document: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases = document["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == name).unwrap();
    hex::decode(case["output"].as_str().unwrap().strip_prefix("0x").unwrap()).unwrap()
}

/// A subnet of eight neurons in which //Alice has uid 1 and may set weights.
fn subnet() -> Script {
    let mut script = Script::new();
    script.neurons = vector_neurons("get_neurons_lite_3");
    script.put("SubnetworkN", vec![number(NETUID.0)], &8_u16);
    script.put("CommitRevealWeightsEnabled", vec![number(NETUID.0)], &false);
    script.put("MinAllowedWeights", vec![number(NETUID.0)], &2_u16);
    let last_updates = vec![0_u64, u64::from(START) - 100, 0];
    script.put("LastUpdate", vec![number(NETUID.0)], &last_updates);
    let hotkey = Scale::from_bytes(alice().hotkey().as_bytes());
    script.put("Uids", vec![number(NETUID.0), hotkey], &OWN_UID);
    script
}

fn weights() -> Vec<(Uid, u16)> {
    vec![(Uid(3), 65_535), (Uid(4), 32_768), (Uid(5), 1)]
}

fn axon() -> AxonEndpoint {
    AxonEndpoint { ip: "45.76.11.9".parse().unwrap(), port: 8091, protocol: 4, version: 10_001_000 }
}

#[tokio::test]
async fn the_metagraph_is_read_at_one_finalised_block() {
    let mut script = subnet();
    script.put("BlockAtRegistration", vec![number(NETUID.0), number(1)], &777_u64);
    let node = Node::start(script).await;
    let chain = connect(&node).await;
    let metagraph = chain.metagraph().await.unwrap();
    assert_eq!(metagraph.block, u64::from(START - FINALITY_LAG));
    assert_eq!(metagraph.block_hash, chain.head().await.unwrap().finalised_hash);
    assert_eq!(metagraph.neurons.len(), 3);
    let neuron = metagraph.by_uid(Uid(1)).unwrap();
    assert_eq!(neuron.registered_at_block, 777);
    assert_eq!(metagraph.by_uid(Uid(0)).unwrap().registered_at_block, 0);
    assert_eq!(metagraph.by_hotkey(&neuron.hotkey), Some(neuron));
    assert_eq!(metagraph.by_uid(Uid(0)).unwrap().axon, Some(axon()));
    node.stop().await;
}

#[tokio::test]
async fn metadata_is_fetched_once_per_runtime_version() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let calls_of_first = node.calls("state_call");
    chain.metagraph().await.unwrap();
    chain.metagraph().await.unwrap();
    // Two calls each: the runtime's version and the neurons.
    assert_eq!(node.calls("state_call"), calls_of_first + 4);
    node.stop().await;
}

#[tokio::test]
async fn the_head_tells_best_and_finalised_block_apart() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let first = chain.head().await.unwrap();
    assert_eq!(first.block, u64::from(START));
    assert_eq!(first.finalised_block, u64::from(START - FINALITY_LAG));
    assert_ne!(first.hash, first.finalised_hash);
    node.advance(FINALITY_LAG);
    assert_eq!(chain.head().await.unwrap().finalised_hash, first.hash);
    node.stop().await;
}

#[tokio::test]
async fn hyperparameters_come_from_storage_or_from_the_runtime_s_defaults() {
    let mut script = subnet();
    script.put("WeightsVersionKey", vec![number(NETUID.0)], &1_040_u64);
    script.put("ActivityCutoff", vec![number(NETUID.0)], &777_u16);
    let node = Node::start(script).await;
    let params = connect(&node).await.params().await.unwrap();
    assert_eq!(params.block, u64::from(START - FINALITY_LAG));
    assert_eq!(params.neuron_count, 8);
    assert_eq!(params.min_allowed_weights, 2);
    assert!(!params.commit_reveal_enabled);
    assert_eq!(params.weights_version_key, 1_040);
    assert_eq!(params.activity_cutoff, 777);
    // Defaults of runtime 393.
    assert_eq!(params.weights_set_rate_limit, 100);
    assert_eq!(params.commit_reveal_version, 4);
    assert_eq!(params.serving_rate_limit, 50);
    assert_eq!(params.max_weights_limit, 65_535);
    assert_eq!(node.calls("state_queryStorageAt"), 1);
    node.stop().await;
}

#[tokio::test]
async fn stored_weights_are_read_and_absent_ones_are_empty() {
    let mut script = subnet();
    let stored = vec![(0_u16, 65_535_u16), (7, 655)];
    script.put("Weights", vec![number(NETUID.0), number(1)], &stored);
    let node = Node::start(script).await;
    let chain = connect(&node).await;
    let weights = chain.weights_of(Uid(1)).await.unwrap();
    assert_eq!(weights, [(Uid(0), 65_535), (Uid(7), 655)]);
    assert_eq!(chain.weights_of(Uid(2)).await.unwrap(), []);
    node.stop().await;
}

#[tokio::test]
async fn weights_are_signed_with_a_fresh_nonce_and_reported_with_their_block() {
    let mut script = subnet();
    script.nonce = 5;
    let node = Node::start(script).await;
    let chain = connect(&node).await;
    let signer = alice().chain_signer();
    let submitted = chain.set_weights(&signer, &weights(), 7).await.unwrap();
    assert_eq!(submitted.block, u64::from(START) + 1);
    assert_eq!(submitted.block_hash, chain.head().await.unwrap().hash);

    let (extrinsic, call) = {
        let script = node.script();
        let [extrinsic] = script.submitted.as_slice() else { panic!("{:?}", script.submitted) };
        let call = calls::set_weights(NETUID, &weights(), 7);
        (extrinsic.clone(), calls::encode(&call, &script.metadata).unwrap())
    };
    assert_eq!(forecastd_chain::hash::blake2_256(&extrinsic), submitted.extrinsic_hash);
    // Behind the signature: era (2), nonce, tip, metadata hash mode, call.
    assert_eq!(extrinsic[extrinsic.len() - call.len()..], call);
    let extra = &extrinsic[101..extrinsic.len() - call.len()];
    let [era_low, era_high, nonce, tip, mode] = extra else { panic!("{extra:?}") };
    let era = u16::from_le_bytes([*era_low, *era_high]);
    // Period 32 = 2^5 is written as 4; the phase is the finalised block's place in it.
    assert_eq!(era & 0xf, 4);
    assert_eq!(u32::from(era >> 4), (START - FINALITY_LAG) % 32);
    assert_eq!((*nonce, *tip, *mode), (5 << 2, 0, 0));
    node.stop().await;
}

#[tokio::test]
async fn submissions_of_one_hotkey_wait_for_each_other() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let signer = alice().chain_signer();
    let (endpoint, weights) = (axon(), weights());
    let (served, set) =
        tokio::join!(chain.serve_axon(&signer, &endpoint), chain.set_weights(&signer, &weights, 0));
    let (served, set) = (served.unwrap(), set.unwrap());
    assert_ne!(served.block, set.block);
    let nonces: Vec<_> = node.script().submitted.iter().map(|bytes| nonce_of(bytes)).collect();
    assert_eq!(nonces, [0, 1]);
    node.stop().await;
}

/// Reads a nonce below 64 out of a short extrinsic with a mortal era.
fn nonce_of(extrinsic: &[u8]) -> u8 {
    extrinsic[103] >> 2
}

#[tokio::test]
async fn a_failure_in_the_block_is_named_by_the_node_s_metadata() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let signer = alice().chain_signer();
    for (name, retry) in
        [("SettingWeightsTooFast", Retry::Later), ("HotKeyNotRegisteredInSubNet", Retry::Never)]
    {
        node.script().fate = Fate::Fail(name);
        let error = chain.set_weights(&signer, &weights(), 0).await.unwrap_err();
        let ChainError::Failed { pallet, name: found, block } = &error else { panic!("{error}") };
        assert_eq!((pallet.as_str(), found.as_str()), ("SubtensorModule", name));
        assert_eq!(*block, chain.head().await.unwrap().block);
        assert_eq!(error.advice().unwrap().retry, retry);
        assert!(error.to_string().contains(name), "{error}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_before_the_pool_has_no_effect_and_is_named() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let signer = alice().chain_signer();
    for (code, message, data, expected, retryable) in [
        (1010, "Invalid Transaction", "\"Custom error: 6\"", "SettingWeightsTooFast", true),
        (
            1010,
            "Invalid Transaction",
            "{\"invalid\":{\"custom\":19}}",
            "HotKeyNotRegisteredInSubNet",
            false,
        ),
        (1010, "Invalid Transaction", "\"Transaction is outdated\"", "Stale", true),
        (1014, "Priority is too low: (1 vs 1)", "\"detail\"", "TooLowPriority", true),
    ] {
        node.script().fate = Fate::Refuse { code, message, data };
        let error = chain.serve_axon(&signer, &axon()).await.unwrap_err();
        assert!(matches!(&error, ChainError::Refused { name, .. } if *name == expected), "{error}");
        assert_eq!(error.is_retryable(), retryable, "{error}");
    }
    // The connection is as good as before.
    node.script().fate = Fate::Succeed;
    chain.serve_axon(&signer, &axon()).await.unwrap();
    assert_eq!(chain.metrics().connections_total.load(Ordering::Relaxed), 1);
    node.stop().await;
}

#[tokio::test]
async fn calls_that_the_chain_would_refuse_are_not_sent() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let signer = alice().chain_signer();

    let twice = [(Uid(3), 1), (Uid(3), 2)];
    let error = chain.set_weights(&signer, &twice, 0).await.unwrap_err();
    assert!(matches!(error, ChainError::Weights(WeightsError::DuplicateUid(Uid(3)))), "{error}");

    let stranger = Arc::new(Keypair::from_uri("//Bob").unwrap()).chain_signer();
    let error = chain.set_weights(&stranger, &weights(), 0).await.unwrap_err();
    let unregistered = WeightsError::NotRegistered { netuid: NETUID };
    assert!(matches!(&error, ChainError::Weights(found) if *found == unregistered), "{error}");

    node.script().put("WeightsSetRateLimit", vec![number(NETUID.0)], &102_u64);
    let error = chain.set_weights(&signer, &weights(), 0).await.unwrap_err();
    let too_soon = WeightsError::TooSoon {
        last_update: u64::from(START) - 100,
        ready_at: u64::from(START) + 2,
        head: u64::from(START),
    };
    assert!(matches!(&error, ChainError::Weights(found) if *found == too_soon), "{error}");
    assert!(error.is_retryable());

    node.script().put("CommitRevealWeightsEnabled", vec![number(NETUID.0)], &true);
    let error = chain.set_weights(&signer, &weights(), 0).await.unwrap_err();
    assert!(matches!(error, ChainError::Weights(WeightsError::CommitRevealEnabled)), "{error}");

    let unreachable = AxonEndpoint { ip: "127.0.0.1".parse().unwrap(), ..axon() };
    let error = chain.serve_axon(&signer, &unreachable).await.unwrap_err();
    assert!(matches!(error, ChainError::Axon(_)), "{error}");

    assert_eq!(node.script().submitted.len(), 0);
    node.stop().await;
}

#[tokio::test]
async fn an_extrinsic_that_the_pool_lets_go_has_an_unknown_outcome() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let signer = alice().chain_signer();
    let hash = node::to_hex([3; 32]);
    for status in [json!("dropped"), json!("invalid"), json!({ "usurped": hash })] {
        node.script().fate = Fate::Then(status.clone());
        let error = chain.serve_axon(&signer, &axon()).await.unwrap_err();
        assert!(matches!(error, ChainError::Unknown { .. }), "{status}: {error}");
        assert!(!error.is_retryable(), "its effect must be looked up first");
    }
    assert_eq!(chain.metrics().extrinsics_unknown_total.load(Ordering::Relaxed), 3);
    node.stop().await;
}

#[tokio::test]
async fn a_silent_pool_is_left_after_the_deadline() {
    let node = Node::start(subnet()).await;
    let config = ChainConfig { inclusion_timeout: SHORT, ..config(&[&node]) };
    let chain = Subtensor::connect(config).await.unwrap();
    node.script().fate = Fate::Silence;
    let error = chain.serve_axon(&alice().chain_signer(), &axon()).await.unwrap_err();
    let ChainError::Unknown { extrinsic_hash, reason } = &error else { panic!("{error}") };
    assert!(reason.contains("no block within 300ms"), "{reason}");
    let submitted = node.script().submitted[0].clone();
    assert_eq!(forecastd_chain::hash::blake2_256(&submitted), *extrinsic_hash);
    node.stop().await;
}

#[tokio::test]
async fn a_submission_without_an_answer_has_an_unknown_outcome() {
    let node = Node::start(subnet()).await;
    // Reads are fast on loopback, so the short deadline bites at the submission only.
    let config = ChainConfig { call_timeout: Duration::from_secs(3), ..config(&[&node]) };
    let chain = Subtensor::connect(config).await.unwrap();
    node.script().fate = Fate::Hang;
    let error = chain.serve_axon(&alice().chain_signer(), &axon()).await.unwrap_err();
    assert!(matches!(error, ChainError::Unknown { .. }), "{error}");
    assert_eq!(chain.metrics().connections_lost_total.load(Ordering::Relaxed), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_connection_lost_while_watching_leaves_the_outcome_unknown() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    node.script().fate = Fate::Silence;
    let signer = alice().chain_signer();
    let endpoint = axon();
    let submission = chain.serve_axon(&signer, &endpoint);
    let script = node.script.clone();
    let breaking = async {
        while script.lock().unwrap().submitted.is_empty() {
            tokio::task::yield_now().await;
        }
        node.stop().await;
    };
    let (outcome, ()) = tokio::join!(submission, breaking);
    assert!(matches!(outcome.unwrap_err(), ChainError::Unknown { .. }));
}

#[tokio::test]
async fn reads_survive_a_restart_of_the_node() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let before = chain.metagraph().await.unwrap();
    let address = node.address;
    node.stop().await;
    let error = chain.metagraph().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let node = Node::start_at(subnet(), address).await;
    assert_eq!(chain.metagraph().await.unwrap(), before);
    // The runtime is the same, its metadata is not fetched again.
    let asked_for = node.script().calls.get("state_call").copied().unwrap_or_default();
    assert_eq!(asked_for, 2, "version and neurons");
    node.stop().await;
}

#[tokio::test]
async fn endpoints_are_tried_in_order() {
    let (first, second) = (Node::start(subnet()).await, Node::start(subnet()).await);
    let chain = Subtensor::connect(config(&[&first, &second])).await.unwrap();
    assert_eq!(chain.endpoint().await.unwrap(), first.endpoint());
    assert_eq!(second.calls("chain_getBlockHash"), 0);
    first.stop().await;
    // One call, although the connection under it is gone.
    chain.head().await.unwrap();
    assert_eq!(chain.endpoint().await.unwrap(), second.endpoint());
    second.stop().await;
    let error = chain.head().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_left_for_the_next() {
    let mut script = subnet();
    script.hanging = vec!["state_queryStorageAt"];
    let (stuck, sound) = (Node::start(script).await, Node::start(subnet()).await);
    let config = ChainConfig { call_timeout: Duration::from_secs(3), ..config(&[&stuck, &sound]) };
    let chain = Subtensor::connect(config).await.unwrap();
    assert_eq!(chain.endpoint().await.unwrap(), stuck.endpoint());
    chain.params().await.unwrap();
    assert_eq!(chain.endpoint().await.unwrap(), sound.endpoint());
    assert_eq!(chain.metrics().read_retries_total.load(Ordering::Relaxed), 1);
    stuck.stop().await;
    sound.stop().await;
}

#[tokio::test]
async fn a_port_that_never_speaks_is_left_after_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("ws://{}", listener.local_addr().unwrap());
    let node = Node::start(subnet()).await;
    let mut config = ChainConfig { call_timeout: Duration::from_secs(3), ..config(&[&node]) };
    config.endpoints.insert(0, mute);
    let chain = Subtensor::connect(config).await.unwrap();
    assert_eq!(chain.endpoint().await.unwrap(), node.endpoint());
    assert_eq!(chain.metrics().connect_failures_total.load(Ordering::Relaxed), 1);
    node.stop().await;
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_refused() {
    let first = Node::start(subnet()).await;
    let mut other = subnet();
    other.genesis = [0x22; 32];
    let other = Node::start(other).await;
    let chain = Subtensor::connect(config(&[&first, &other])).await.unwrap();
    first.stop().await;
    // The right one may come back, so this is not the end.
    let error = chain.head().await.unwrap_err();
    assert!(error.is_retryable() && !error.is_fatal(), "{error}");
    assert!(error.to_string().contains("serves the chain with genesis 0x2222"), "{error}");

    let pinned = ChainConfig { genesis: Some([0x11; 32]), ..config(&[&other]) };
    let error = Subtensor::connect(pinned).await.unwrap_err();
    assert!(matches!(error, ChainError::WrongChain { .. }), "{error}");
    assert!(error.is_fatal() && !error.is_retryable());
    other.stop().await;
}

#[tokio::test]
async fn garbage_from_the_node_is_a_clear_error() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    node.script().neurons = vec![4, 1, 2, 3];
    let error = chain.metagraph().await.unwrap_err();
    assert!(matches!(error, ChainError::Decode { .. }), "{error}");
    // 70 slots that two hotkeys share.
    node.script().neurons = vector_neurons("get_neurons_lite_70");
    let error = chain.metagraph().await.unwrap_err();
    assert!(error.to_string().contains("occurs twice"), "{error}");
    node.script().put("Tempo", vec![number(NETUID.0)], &1_u8);
    let error = chain.params().await.unwrap_err();
    assert!(error.to_string().contains("SubtensorModule.Tempo"), "{error}");
    node.script().put("Tempo", vec![number(NETUID.0)], &1_u32);
    assert!(chain.params().await.unwrap_err().to_string().contains("left over"));
    // The connection is not to blame.
    assert_eq!(chain.metrics().connections_total.load(Ordering::Relaxed), 1);
    node.stop().await;
}

#[tokio::test]
async fn best_blocks_are_followed_without_repetition_until_the_connection_is_lost() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let mut blocks = chain.best_blocks(PATIENT).await.unwrap();
    assert_eq!(blocks.next().await.unwrap().block, u64::from(START));
    node.repeat();
    node.advance(1);
    let next = blocks.next().await.unwrap();
    assert_eq!(next.block, u64::from(START) + 1);
    assert_eq!(next.hash, chain.head().await.unwrap().hash);
    node.stop().await;
    let error = blocks.next().await.unwrap_err();
    assert!(matches!(error, ChainError::ConnectionLost { .. }), "{error}");
}

#[tokio::test]
async fn a_chain_that_stands_still_is_told() {
    let node = Node::start(subnet()).await;
    let chain = connect(&node).await;
    let mut blocks = chain.best_blocks(SHORT).await.unwrap();
    blocks.next().await.unwrap();
    let error = blocks.next().await.unwrap_err();
    assert!(matches!(error, ChainError::Timeout { .. }), "{error}");
    node.stop().await;
}

#[tokio::test]
async fn bad_settings_are_refused_before_anything_is_connected() {
    let error = Subtensor::connect(ChainConfig::new(vec![], NETUID)).await.unwrap_err();
    assert!(matches!(error, ChainError::Config { key: "endpoints", .. }), "{error}");
}
