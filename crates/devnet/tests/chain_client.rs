//! The daemon's own chain client against the development chain, from connection to weights.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may panic")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use forecastd_chain::{
    AxonEndpoint, Chain, ChainConfig, ChainError, Keypair, Subtensor, WeightsError,
};
use forecastd_core::{ManualClock, NetUid, Rao, Signer, Uid};
use forecastd_devnet::chain::{DevChain, DevChainConfig, GenesisNeuron, spawn};

const NETUID: NetUid = NetUid(8);
const MINERS: u16 = 6;

fn key(uri: &str) -> Arc<Keypair> {
    Arc::new(Keypair::from_uri(uri).unwrap())
}

fn config() -> DevChainConfig {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let owner = *key("//Owner").hotkey().as_bytes();
    let neuron = |uri: &str, stake, validator_permit| GenesisNeuron {
        hotkey: key(uri).hotkey(),
        coldkey: owner,
        stake: Rao(stake),
        validator_permit,
        balance: Rao(0),
    };
    let mut genesis = vec![neuron("//Validator", 1000 * Rao::PER_TAO, true)];
    genesis.extend((0..MINERS).map(|index| neuron(&format!("//Miner//{index}"), 0, false)));
    DevChainConfig {
        block_time: Duration::from_millis(20),
        finality_delay_blocks: 2,
        tempo: 20,
        genesis,
        ..DevChainConfig::local(NETUID, clock)
    }
}

async fn connect(chain: &DevChain) -> Subtensor {
    let config = ChainConfig::new(vec![chain.ws_url().to_owned()], NETUID);
    Subtensor::connect(config).await.unwrap()
}

/// Waits until the client's reads, which are of final blocks, include `block`.
async fn until_final(client: &Subtensor, block: u64) {
    let wait = async {
        while client.head().await.unwrap().finalised_block < block {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("blocks become final");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miner_serves_and_a_validator_sets_weights() {
    let chain = spawn(config()).await.unwrap();
    let client = connect(&chain).await;
    let before = client.metagraph().await.unwrap();
    assert_eq!(before.neurons.len(), usize::from(MINERS) + 1);
    assert!(before.neurons[0].validator_permit);
    assert_eq!(before.neurons[0].stake, Rao(1000 * Rao::PER_TAO));
    assert_eq!(before.by_hotkey(&key("//Miner//2").hotkey()).unwrap().uid, Uid(3));
    assert!(before.neurons.iter().all(|neuron| neuron.axon.is_none()));

    let endpoint = AxonEndpoint {
        ip: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
        port: 8091,
        protocol: 4,
        version: 10_005_000,
    };
    let served = client.serve_axon(&key("//Miner//0").chain_signer(), &endpoint).await.unwrap();
    until_final(&client, served.block).await;
    let metagraph = client.metagraph().await.unwrap();
    assert_eq!(metagraph.by_uid(Uid(1)).unwrap().axon.as_ref(), Some(&endpoint));

    let validator = key("//Validator").chain_signer();
    let weights = [(Uid(1), 100), (Uid(2), 50), (Uid(3), 1)];
    let submitted = client.set_weights(&validator, &weights, 0).await.unwrap();
    until_final(&client, submitted.block).await;
    let stored = [(Uid(1), 65535), (Uid(2), 32768), (Uid(3), 655)];
    assert_eq!(client.weights_of(Uid(0)).await.unwrap(), stored);
    let metagraph = client.metagraph().await.unwrap();
    assert_eq!(metagraph.by_uid(Uid(0)).unwrap().last_update, submitted.block);

    until_final(&client, submitted.block + 21).await;
    let metagraph = client.metagraph().await.unwrap();
    let incentive = |uid| metagraph.by_uid(Uid(uid)).unwrap().incentive;
    assert!(incentive(1) > incentive(2) && incentive(2) > incentive(3) && incentive(3) > 0);
    chain.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_are_read_as_configured() {
    let chain = spawn(DevChainConfig {
        weights_set_rate_limit: 77,
        min_allowed_weights: 3,
        max_weights_limit: 4000,
        weights_version_key: 11,
        serving_rate_limit: 5,
        ..config()
    })
    .await
    .unwrap();
    let client = connect(&chain).await;
    let params = client.params().await.unwrap();
    assert_eq!(params.tempo, 20);
    assert_eq!(params.weights_set_rate_limit, 77);
    assert_eq!(params.min_allowed_weights, 3);
    assert_eq!(params.max_weights_limit, 4000);
    assert_eq!(params.weights_version_key, 11);
    assert_eq!(params.serving_rate_limit, 5);
    assert_eq!(params.neuron_count, MINERS + 1);
    assert!(!params.commit_reveal_enabled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_reach_the_caller_with_their_names() {
    let chain = spawn(DevChainConfig { serving_rate_limit: 1_000_000, ..config() }).await.unwrap();
    let client = connect(&chain).await;
    let endpoint = AxonEndpoint {
        ip: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
        port: 8091,
        protocol: 4,
        version: 1,
    };
    let error = client.serve_axon(&key("//Nobody").chain_signer(), &endpoint).await.unwrap_err();
    assert!(error.to_string().contains("HotKeyNotRegisteredInNetwork"), "{error}");
    let miner = key("//Miner//0").chain_signer();
    client.serve_axon(&miner, &endpoint).await.unwrap();
    let error = client.serve_axon(&miner, &endpoint).await.unwrap_err();
    assert!(error.to_string().contains("ServingRateLimitExceeded"), "{error}");
    let error = client.set_weights(&miner, &[(Uid(2), 1)], 0).await.unwrap_err();
    assert!(
        error.to_string().contains("permit") || error.to_string().contains("Permit"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_weights_are_a_typed_error() {
    let chain = spawn(DevChainConfig { commit_reveal: true, ..config() }).await.unwrap();
    let client = connect(&chain).await;
    let validator = key("//Validator").chain_signer();
    let error = client.set_weights(&validator, &[(Uid(1), 1)], 0).await.unwrap_err();
    assert!(matches!(error, ChainError::Weights(WeightsError::CommitRevealEnabled)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_survives_a_restart_of_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let persistent =
        DevChainConfig { data_file: Some(folder.path().join("chain.bin")), ..config() };
    let chain = spawn(persistent.clone()).await.unwrap();
    let listen = chain.address();
    let client = connect(&chain).await;
    let validator = key("//Validator").chain_signer();
    let submitted = client.set_weights(&validator, &[(Uid(1), 9)], 0).await.unwrap();
    drop(chain);

    let again = DevChainConfig { listen, ..persistent };
    let chain = loop {
        match spawn(again.clone()).await {
            Ok(chain) => break chain,
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    let reads = async {
        loop {
            match client.metagraph().await {
                Ok(metagraph) => break metagraph,
                Err(error) if error.is_retryable() => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let metagraph = tokio::time::timeout(Duration::from_mins(1), reads).await.unwrap();
    assert!(metagraph.block >= submitted.block);
    assert_eq!(metagraph.by_uid(Uid(0)).unwrap().last_update, submitted.block);
    client.set_weights(&validator, &[(Uid(2), 9)], 0).await.unwrap();
    chain.stop().await.unwrap();
}
