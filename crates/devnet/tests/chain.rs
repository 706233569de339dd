//! The development chain as an independent client sees it: subxt over its legacy backend.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Hotkey, ManualClock, NetUid, Rao, Uid};
use forecastd_devnet::chain::{DevChain, DevChainConfig, DevChainError, GenesisNeuron, spawn};
use subxt::backend::LegacyBackend;
use subxt::config::PolkadotExtrinsicParamsBuilder;
use subxt::dynamic::{self, Value};
use subxt::tx::TransactionStatus;
use subxt::{OnlineClient, PolkadotConfig};
use subxt_rpcs::RpcClient;
use subxt_rpcs::client::rpc_params;
use subxt_signer::sr25519::{Keypair, dev};

const NETUID: u16 = 8;
const PATIENCE: Duration = Duration::from_mins(1);

type Client = OnlineClient<PolkadotConfig>;
/// Signer, weights, version key, and the error that they end with.
type RefusedCase<'a> = (&'a Keypair, &'a [(u16, u16)], u64, &'a str);

fn hotkey(pair: &Keypair) -> Hotkey {
    Hotkey::from_bytes(pair.public_key().0)
}

fn neuron(pair: &Keypair, stake_tao: u64, validator_permit: bool) -> GenesisNeuron {
    GenesisNeuron {
        hotkey: hotkey(pair),
        coldkey: dev::ferdie().public_key().0,
        stake: Rao(stake_tao * Rao::PER_TAO),
        validator_permit,
        balance: Rao(10 * Rao::PER_TAO),
    }
}

/// Alice (uid 0) validates, Bob (1), Charlie (2) and Dave (3) mine, Eve has no slot, Ferdie owns.
fn config() -> DevChainConfig {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    DevChainConfig {
        block_time: Duration::from_millis(20),
        genesis: vec![
            neuron(&dev::alice(), 1000, true),
            neuron(&dev::bob(), 0, false),
            neuron(&dev::charlie(), 0, false),
            neuron(&dev::dave(), 0, false),
        ],
        ..DevChainConfig::local(NetUid(NETUID), clock)
    }
}

async fn connect(chain: &DevChain) -> (Client, RpcClient) {
    let rpc = RpcClient::from_insecure_url(chain.ws_url()).await.unwrap();
    let backend = LegacyBackend::builder().build(rpc.clone());
    (Client::from_backend(Arc::new(backend)).await.unwrap(), rpc)
}

fn set_weights(weights: &[(u16, u16)], version_key: u64) -> dynamic_call::Call {
    let (uids, values): (Vec<u16>, Vec<u16>) = weights.iter().copied().unzip();
    dynamic_call::new("set_weights", (NETUID, uids, values, version_key))
}

fn serve_axon(ip: u128, port: u16) -> dynamic_call::Call {
    dynamic_call::new("serve_axon", (NETUID, 10_005_000_u32, ip, port, 4_u8, 4_u8, 0_u8, 0_u8))
}

/// Calls of the pallet with arguments of any types.
mod dynamic_call {
    use subxt::dynamic::Value;
    use subxt::tx::{DynamicPayload, dynamic};

    pub(super) type Call = DynamicPayload<Vec<Value>>;

    pub(super) fn new(name: &str, arguments: impl Arguments) -> Call {
        dynamic("SubtensorModule", name, arguments.values())
    }

    pub(super) trait Arguments {
        fn values(self) -> Vec<Value>;
    }

    impl Arguments for (u16, Vec<u16>, Vec<u16>, u64) {
        fn values(self) -> Vec<Value> {
            let list = |values: Vec<u16>| Value::unnamed_composite(values.into_iter().map(value));
            vec![value(self.0), list(self.1), list(self.2), value(self.3)]
        }
    }

    impl Arguments for (u16, u8, Vec<u16>, Vec<u16>, u64) {
        fn values(self) -> Vec<Value> {
            let mut values = (self.0, self.2, self.3, self.4).values();
            values.insert(1, value(self.1));
            values
        }
    }

    impl Arguments for (u16, u32, u128, u16, u8, u8, u8, u8) {
        fn values(self) -> Vec<Value> {
            vec![
                value(self.0),
                value(self.1),
                value(self.2),
                value(self.3),
                value(self.4),
                value(self.5),
                value(self.6),
                value(self.7),
            ]
        }
    }

    impl Arguments for (u16, [u8; 32]) {
        fn values(self) -> Vec<Value> {
            vec![value(self.0), Value::from_bytes(self.1)]
        }
    }

    fn value(number: impl Into<u128>) -> Value {
        Value::u128(number.into())
    }
}

/// Sends a call and returns the names of its events, or what refused or failed it.
async fn send(
    client: &Client,
    call: &dynamic_call::Call,
    signer: &Keypair,
) -> Result<Vec<String>, String> {
    let mut transactions = client.tx().await.unwrap();
    let progress = transactions
        .sign_and_submit_then_watch_default(call, signer)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let events = tokio::time::timeout(PATIENCE, progress.wait_for_finalized_success())
        .await
        .expect("the transaction is final in time")
        .map_err(|error| error.to_string())?;
    Ok(events
        .iter()
        .map(|event| {
            let event = event.unwrap();
            format!("{}.{}", event.pallet_name(), event.event_name())
        })
        .collect())
}

async fn stored(client: &Client, item: &str, keys: Vec<Value>) -> Option<Value> {
    let address = dynamic::storage::<Vec<Value>, Value>("SubtensorModule", item);
    let block = client.at_current_block().await.unwrap();
    let value = block.storage().try_fetch(address, keys).await.unwrap()?;
    Some(value.decode().unwrap().remove_context())
}

async fn after_block(chain: &DevChain, block: u64) {
    let wait = async {
        while chain.block() <= block {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("blocks are made");
}

fn numbers(values: &[(u16, u16)]) -> Value {
    Value::unnamed_composite(values.iter().map(|(uid, weight)| {
        Value::unnamed_composite([Value::u128((*uid).into()), Value::u128((*weight).into())])
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_set_by_a_validator_are_stored_upscaled_with_their_event() {
    let chain = spawn(config()).await.unwrap();
    let (client, _) = connect(&chain).await;
    let events = send(&client, &set_weights(&[(1, 100), (2, 50), (3, 1)], 0), &dev::alice()).await;
    assert_eq!(events.unwrap(), ["SubtensorModule.WeightsSet", "System.ExtrinsicSuccess"]);
    let expected = [(1, 65535), (2, 32768), (3, 655)];
    let keys = vec![Value::u128(NETUID.into()), Value::u128(0)];
    assert_eq!(stored(&client, "Weights", keys).await, Some(numbers(&expected)));
    assert_eq!(chain.weights(Uid(0)), expected.map(|(uid, weight)| (Uid(uid), weight)));
    chain.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_break_a_rule_fail_with_the_real_error() {
    let chain = spawn(DevChainConfig {
        weights_set_rate_limit: 1_000_000,
        weights_version_key: 5,
        min_allowed_weights: 2,
        max_weights_limit: 40_000,
        ..config()
    })
    .await
    .unwrap();
    let (client, _) = connect(&chain).await;
    let (alice, bob, eve) = (dev::alice(), dev::bob(), dev::eve());
    let half = [(1, 1), (2, 1)];
    let cases: &[RefusedCase<'_>] = &[
        (&eve, &half, 5, "HotKeyNotRegisteredInSubNet"),
        (&bob, &half, 5, "NeuronNoValidatorPermit"),
        (&alice, &half, 4, "IncorrectWeightVersionKey"),
        (&alice, &[(1, 1), (1, 2)], 5, "DuplicateUids"),
        (&alice, &[(1, 1), (4, 1)], 5, "UidVecContainInvalidOne"),
        (&alice, &[(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)], 5, "UidsLengthExceedUidsInSubNet"),
        (&alice, &[(1, 1)], 5, "WeightVecLengthIsLow"),
        (&alice, &[(1, 9), (2, 1)], 5, "MaxWeightExceeded"),
    ];
    for (signer, weights, version_key, error) in cases {
        let failure = send(&client, &set_weights(weights, *version_key), signer).await.unwrap_err();
        assert!(failure.contains(error), "{error}: {failure}");
    }
    let uneven = dynamic_call::new("set_weights", (NETUID, vec![1, 2], vec![1], 5));
    assert!(send(&client, &uneven, &alice).await.unwrap_err().contains("WeightVecNotEqualSize"));
    // A subnet that does not exist counts as one with hidden weights, by the default of the item.
    let elsewhere = dynamic_call::new("set_weights", (77, vec![1], vec![1], 5));
    assert!(send(&client, &elsewhere, &alice).await.unwrap_err().contains("CommitRevealEnabled"));
    let mechanism = dynamic_call::new("set_mechanism_weights", (NETUID, 1, vec![1], vec![1], 5));
    assert!(send(&client, &mechanism, &alice).await.unwrap_err().contains("MechanismDoesNotExist"));
    // A failed call moves nothing: the first good one is not held back, the second is.
    assert_eq!(chain.weights(Uid(0)), []);
    send(&client, &set_weights(&half, 5), &alice).await.unwrap();
    let too_fast = send(&client, &set_weights(&half, 5), &alice).await.unwrap_err();
    assert!(too_fast.contains("SettingWeightsTooFast"), "{too_fast}");
    // A lone weight for oneself needs no permit.
    send(&client, &set_weights(&[(1, 7)], 5), &bob).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_weights_refuse_the_plain_call() {
    let chain = spawn(DevChainConfig { commit_reveal: true, ..config() }).await.unwrap();
    let (client, _) = connect(&chain).await;
    let failure = send(&client, &set_weights(&[(1, 1)], 0), &dev::alice()).await.unwrap_err();
    assert!(failure.contains("CommitRevealEnabled"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_refuses_as_a_stock_node_does() {
    let chain = spawn(DevChainConfig {
        stake_threshold: Rao(1),
        serving_rate_limit: 1_000_000,
        ..config()
    })
    .await
    .unwrap();
    let other = spawn(config()).await.unwrap();
    let (client, rpc) = connect(&chain).await;
    let (other_client, _) = connect(&other).await;
    let (alice, bob) = (dev::alice(), dev::bob());
    let call = set_weights(&[(1, 1)], 0);
    let sign = async |client: &Client, nonce: u64, mortal: u64| {
        let params = PolkadotExtrinsicParamsBuilder::<PolkadotConfig>::new().nonce(nonce);
        let params = if mortal == 0 { params.immortal() } else { params.mortal(mortal) };
        let mut transactions = client.tx().await.unwrap();
        let signed = transactions.create_signed(&call, &alice, params.build()).await.unwrap();
        signed.into_encoded()
    };
    let submit = async |bytes: &[u8]| {
        let text = format!("0x{}", hex::encode(bytes));
        rpc.request::<String>("author_submitExtrinsic", rpc_params![text])
            .await
            .map_err(|error| format!("{error:?}"))
    };

    let good = sign(&client, 0, 128).await;
    let mut forged = good.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1; // the version key
    let refusal = submit(&forged).await.unwrap_err();
    assert!(refusal.contains("1010") && refusal.contains("bad signature"), "{refusal}");
    let refusal = submit(&sign(&other_client, 0, 0).await).await.unwrap_err();
    assert!(refusal.contains("bad signature"), "another genesis: {refusal}");

    submit(&good).await.unwrap();
    let included = chain.block() + 1;
    after_block(&chain, included).await;
    let refusal = submit(&good).await.unwrap_err();
    assert!(refusal.contains("1010") && refusal.contains("outdated"), "{refusal}");

    // Eight blocks later an era of four is over.
    let mortal = sign(&client, 1, 4).await;
    after_block(&chain, chain.block() + 8).await;
    let refusal = submit(&mortal).await.unwrap_err();
    let is_dead = refusal.contains("bad signature") || refusal.contains("ancient birth block");
    assert!(is_dead, "{refusal}");

    let refusal = submit(&[4, 4]).await.unwrap_err();
    assert!(refusal.contains("1011") || refusal.contains("1001"), "{refusal}");
    assert!(submit(&[0xff]).await.unwrap_err().contains("1001"));

    // Bob has no stake at all.
    let refusal = send(&client, &call, &bob).await.unwrap_err();
    assert!(refusal.contains("Custom error: 1\""), "{refusal}");
    for (signer, ip, port, code) in [
        (dev::eve(), 0x7f00_0002, 8091, 10),
        (bob.clone(), 0x7f00_0001, 8091, 11),
        (bob.clone(), 0, 8091, 11),
        (bob.clone(), 0x7f00_0002, 0, 13),
    ] {
        let refusal = send(&client, &serve_axon(ip, port), &signer).await.unwrap_err();
        assert!(refusal.contains(&format!("Custom error: {code}\"")), "{code}: {refusal}");
    }
    send(&client, &serve_axon(0x7f00_0002, 8091), &bob).await.unwrap();
    let refusal = send(&client, &serve_axon(0x7f00_0002, 8092), &bob).await.unwrap_err();
    assert!(refusal.contains("Custom error: 12\""), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_of_one_account_wait_for_their_turn() {
    let chain =
        spawn(DevChainConfig { block_time: Duration::from_millis(300), ..config() }).await.unwrap();
    let (client, rpc) = connect(&chain).await;
    let alice = dev::alice();
    let mut signed = Vec::new();
    for nonce in 0..3_u64 {
        let weights = [(1, u16::try_from(nonce).unwrap() + 1), (2, 65535)];
        let params = PolkadotExtrinsicParamsBuilder::<PolkadotConfig>::new().nonce(nonce).build();
        let mut transactions = client.tx().await.unwrap();
        let call = set_weights(&weights, 0);
        signed.push(transactions.create_signed(&call, &alice, params).await.unwrap());
    }
    let late = signed[2].submit_and_watch().await.unwrap();
    let middle = signed[1].submit_and_watch().await.unwrap();
    let twice = signed[1].submit().await.unwrap_err();
    assert!(format!("{twice:?}").contains("1013"), "{twice:?}");
    let first = signed[0].submit_and_watch().await.unwrap();
    let account = hotkey(&alice).to_ss58();
    let next: u64 = rpc.request("system_accountNextIndex", rpc_params![account]).await.unwrap();
    assert_eq!(next, 3);
    for progress in [first, middle, late] {
        let done = tokio::time::timeout(PATIENCE, progress.wait_for_finalized_success()).await;
        done.expect("final in time").unwrap();
    }
    assert_eq!(chain.weights(Uid(0)), [(Uid(1), 3), (Uid(2), 65535)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_come_in_order_and_finality_lags_by_the_configured_blocks() {
    let chain = spawn(DevChainConfig { finality_delay_blocks: 3, ..config() }).await.unwrap();
    let (client, _) = connect(&chain).await;
    after_block(&chain, 4).await;
    let mut transactions = client.tx().await.unwrap();
    let call = set_weights(&[(1, 1)], 0);
    let mut progress =
        transactions.sign_and_submit_then_watch_default(&call, &dev::alice()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(status) = progress.next().await {
        match status.unwrap() {
            TransactionStatus::Validated => seen.push("ready"),
            TransactionStatus::InBestBlock(_) => {
                assert!(chain.finalized_block() < chain.block());
                seen.push("in block");
            }
            TransactionStatus::InFinalizedBlock(_) => seen.push("final"),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(seen, ["ready", "in block", "final"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_at_a_block_hash_see_that_block() {
    let chain = spawn(config()).await.unwrap();
    let (client, rpc) = connect(&chain).await;
    let before = client.at_current_block().await.unwrap();
    send(&client, &serve_axon(0x7f00_0002, 8091), &dev::bob()).await.unwrap();
    let after = client.at_current_block().await.unwrap();
    let address = || dynamic::storage::<Vec<Value>, Value>("SubtensorModule", "Axons");
    let keys = || vec![Value::u128(NETUID.into()), Value::from_bytes(dev::bob().public_key().0)];
    assert!(before.storage().try_fetch(address(), keys()).await.unwrap().is_none());
    assert!(after.storage().try_fetch(address(), keys()).await.unwrap().is_some());

    // The same by the paged walk over a map, and by the number that System.Number holds.
    let keys_address = dynamic::storage::<Vec<Value>, Value>("SubtensorModule", "Keys");
    let mut entries =
        after.storage().iter(keys_address, vec![Value::u128(NETUID.into())]).await.unwrap();
    let mut count = 0;
    while let Some(entry) = entries.next().await {
        entry.unwrap();
        count += 1;
    }
    assert_eq!(count, 4);
    let number = dynamic::storage::<Vec<Value>, u32>("System", "Number");
    let stored = after.storage().fetch(number, Vec::new()).await.unwrap().decode_as::<u32>();
    assert_eq!(u64::from(stored.unwrap()), after.block_number());

    let unknown = format!("0x{}", "11".repeat(32));
    let refusal = rpc
        .request::<Option<String>>("state_getStorage", rpc_params!["0x00", unknown])
        .await
        .unwrap_err();
    assert!(refusal.to_string().contains("4003"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_block_streams_are_followed() {
    let chain = spawn(DevChainConfig { finality_delay_blocks: 2, ..config() }).await.unwrap();
    let (client, _) = connect(&chain).await;
    let mut best = client.stream_best_blocks().await.unwrap();
    let mut finalized = client.stream_blocks().await.unwrap();
    let mut last = None;
    for _ in 0..10 {
        let block = best.next().await.unwrap().unwrap();
        assert!(last.is_none_or(|last| block.number() == last + 1));
        last = Some(block.number());
        let final_block = finalized.next().await.unwrap().unwrap();
        assert!(final_block.number() + 2 <= chain.block().max(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coldkey_registers_a_hotkey_and_pays_for_it() {
    let chain = spawn(DevChainConfig { max_allowed_uids: 5, ..config() }).await.unwrap();
    let (client, _) = connect(&chain).await;
    let eve = hotkey(&dev::eve());
    let register =
        |pair: &Keypair| dynamic_call::new("burned_register", (NETUID, pair.public_key().0));
    let balance = async || {
        let address = dynamic::storage::<Vec<Value>, Value>("System", "Account");
        let block = client.at_current_block().await.unwrap();
        let keys = vec![Value::from_bytes(dev::ferdie().public_key().0)];
        block.storage().fetch(address, keys).await.unwrap().bytes()[16..24].to_vec()
    };
    let rich = u64::from_le_bytes(balance().await.try_into().unwrap());
    assert_eq!(rich, 40 * Rao::PER_TAO);
    let events = send(&client, &register(&dev::eve()), &dev::ferdie()).await.unwrap();
    assert_eq!(events[0], "SubtensorModule.NeuronRegistered");
    assert_eq!(chain.uid(&eve), Some(Uid(4)));
    let left = u64::from_le_bytes(balance().await.try_into().unwrap());
    assert_eq!(rich - left, 500_000);
    let again = send(&client, &register(&dev::eve()), &dev::ferdie()).await.unwrap_err();
    assert!(again.contains("HotKeyAlreadyRegisteredInSubNet"), "{again}");
    // Full, and everybody is immune.
    let full = send(&client, &register(&dev::one()), &dev::ferdie()).await.unwrap_err();
    assert!(full.contains("NoNeuronIdAvailable"), "{full}");
    let poor = send(&client, &register(&dev::two()), &dev::eve()).await.unwrap_err();
    assert!(poor.contains("NotEnoughBalanceToStake"), "{poor}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_slot_inherits_nothing() {
    let chain = spawn(config()).await.unwrap();
    let (client, _) = connect(&chain).await;
    send(&client, &serve_axon(0x7f00_0002, 8091), &dev::bob()).await.unwrap();
    send(&client, &set_weights(&[(1, 7)], 0), &dev::bob()).await.unwrap();
    let eve = hotkey(&dev::eve());
    chain.replace(Uid(1), eve, dev::ferdie().public_key().0);
    after_block(&chain, chain.block() + 1).await;
    assert_eq!(chain.hotkey(Uid(1)), Some(eve));
    assert_eq!(chain.uid(&hotkey(&dev::bob())), None);
    assert_eq!(chain.weights(Uid(1)), []);
    for pair in [dev::bob(), dev::eve()] {
        let keys = vec![Value::u128(NETUID.into()), Value::from_bytes(pair.public_key().0)];
        assert_eq!(stored(&client, "Axons", keys).await, None);
    }
    let nobody = chain.deregister(Uid(2));
    after_block(&chain, chain.block() + 1).await;
    assert_eq!(chain.hotkey(Uid(2)), Some(nobody));
    chain.register(neuron(&dev::one(), 5, true));
    after_block(&chain, chain.block() + 1).await;
    assert_eq!(chain.uid(&hotkey(&dev::one())), Some(Uid(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_pays_by_the_weights() {
    let chain = spawn(DevChainConfig { tempo: 5, ..config() }).await.unwrap();
    let (client, _) = connect(&chain).await;
    send(&client, &set_weights(&[(1, 30), (2, 10)], 0), &dev::alice()).await.unwrap();
    after_block(&chain, chain.block() + 6).await;
    let share = |uid| f64::from(chain.incentive(Uid(uid))) / 65535.0;
    assert!((share(1) - 0.75).abs() < 1e-4, "{}", share(1));
    assert!((share(2) - 0.25).abs() < 1e-4, "{}", share(2));
    assert_eq!(chain.incentive(Uid(3)), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_stop_roll_back_or_go_on() {
    let chain = spawn(config()).await.unwrap();
    let (client, _) = connect(&chain).await;
    let alice = dev::alice();
    let inner = |uid: u128, weight: u128| {
        let list = |value| Value::unnamed_composite([Value::u128(value)]);
        let call = Value::named_variant(
            "set_weights",
            [
                ("netuid", Value::u128(NETUID.into())),
                ("dests", list(uid)),
                ("weights", list(weight)),
                ("version_key", Value::u128(0)),
            ],
        );
        Value::unnamed_variant("SubtensorModule", [call])
    };
    let batch = |name: &str| {
        let calls = [inner(1, 1), inner(99, 1), inner(2, 1)];
        subxt::tx::dynamic("Utility", name, vec![Value::unnamed_composite(calls)])
    };
    let failure = send(&client, &batch("batch_all"), &alice).await.unwrap_err();
    assert!(failure.contains("UidVecContainInvalidOne"), "{failure}");
    assert_eq!(chain.weights(Uid(0)), []);
    let events = send(&client, &batch("batch"), &alice).await.unwrap();
    assert!(events.contains(&"Utility.BatchInterrupted".to_owned()), "{events:?}");
    assert_eq!(chain.weights(Uid(0)), [(Uid(1), 65535)]);
    let events = send(&client, &batch("force_batch"), &alice).await.unwrap();
    assert!(events.contains(&"Utility.BatchCompletedWithErrors".to_owned()), "{events:?}");
    assert_eq!(chain.weights(Uid(0)), [(Uid(2), 65535)]);
}

fn persistent(path: &Path) -> DevChainConfig {
    DevChainConfig { data_file: Some(path.to_owned()), ..config() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_continues_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.bin");
    let chain = spawn(persistent(&path)).await.unwrap();
    let (client, _) = connect(&chain).await;
    let genesis = client.genesis_hash();
    send(&client, &set_weights(&[(1, 1)], 0), &dev::alice()).await.unwrap();
    let clean_end = chain.block();
    chain.stop().await.unwrap();

    let mut grown = persistent(&path);
    grown.genesis.push(neuron(&dev::eve(), 3, true));
    let chain = spawn(grown).await.unwrap();
    assert!(chain.block() >= clean_end);
    assert_eq!(chain.weights(Uid(0)), [(Uid(1), 65535)]);
    assert_eq!(chain.uid(&hotkey(&dev::eve())), Some(Uid(4)));
    let (client, _) = connect(&chain).await;
    assert_eq!(client.genesis_hash(), genesis);
    send(&client, &set_weights(&[(2, 1)], 0), &dev::alice()).await.unwrap();
    // Dropping is as good as stopping; the next start waits for the last write.
    let seen = chain.block();
    drop(chain);
    let chain = spawn(persistent(&path)).await.unwrap();
    assert!(chain.block() >= seen, "{} after {seen}", chain.block());
    assert_eq!(chain.weights(Uid(0)), [(Uid(2), 65535)]);
    let error = spawn(persistent(&path)).await.unwrap_err();
    assert!(matches!(error, DevChainError::InUse { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_that_was_announced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.bin");
    let chain = spawn(persistent(&path)).await.unwrap();
    let (client, _) = connect(&chain).await;
    for round in 0..10_u16 {
        let progress = {
            let mut transactions = client.tx().await.unwrap();
            let call = set_weights(&[(1, round + 1), (2, 100)], 0);
            transactions.sign_and_submit_then_watch_default(&call, &dev::alice()).await.unwrap()
        };
        let mut progress = progress;
        while let Some(status) = progress.next().await {
            if matches!(status.unwrap(), TransactionStatus::InBestBlock(_)) {
                break;
            }
        }
        // What a kill at this moment would leave on the disk.
        let killed = folder.path().join(format!("killed-{round}.bin"));
        let seen = chain.block();
        std::fs::copy(&path, &killed).unwrap();
        let stored = chain.weights(Uid(0));
        let continued = spawn(persistent(&killed)).await.unwrap();
        assert_eq!(continued.weights(Uid(0)), stored);
        assert!(continued.block() >= seen, "{} after {seen}", continued.block());
        let (again, _) = connect(&continued).await;
        assert_eq!(again.genesis_hash(), client.genesis_hash());
        continued.stop().await.unwrap();
        after_block(&chain, chain.block()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_settings_and_files_are_named() {
    let public = DevChainConfig { listen: "0.0.0.0:0".parse().unwrap(), ..config() };
    assert!(matches!(spawn(public).await, Err(DevChainError::NotLoopback(_))));
    let root = DevChainConfig::local(NetUid(0), Arc::new(ManualClock::new(0)));
    assert!(matches!(spawn(root).await, Err(DevChainError::RootNetuid)));

    let chain = spawn(config()).await.unwrap();
    let taken = DevChainConfig { listen: chain.address(), ..config() };
    assert!(matches!(spawn(taken).await, Err(DevChainError::Listen { .. })));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.bin");
    std::fs::write(&path, b"no chain at all").unwrap();
    let error = spawn(persistent(&path)).await.unwrap_err();
    assert!(error.to_string().contains("is not usable"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"no chain at all");
    std::fs::remove_file(&path).unwrap();
    spawn(persistent(&path)).await.unwrap().stop().await.unwrap();
    let other = DevChainConfig { netuid: NetUid(9), ..persistent(&path) };
    let error = spawn(other).await.unwrap_err();
    assert!(error.to_string().contains("subnet 8, not 9"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_chain_frees_its_port() {
    let chain = spawn(config()).await.unwrap();
    let address = chain.address();
    let (client, _) = connect(&chain).await;
    chain.stop().await.unwrap();
    assert!(client.at_current_block().await.is_err());
    let again = spawn(DevChainConfig { listen: address, ..config() }).await.unwrap();
    assert_eq!(again.address(), address);
}
