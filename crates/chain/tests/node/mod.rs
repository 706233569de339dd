//! A scripted node: real metadata, real JSON-RPC, answers by script.
//!
//! It checks nothing (the development chain of the devnet crate does), but can do what a sound
//! node cannot be made to do: answer late, never, or with garbage, and break off at will.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use forecastd_chain::hash::blake2_256;
use forecastd_chain::storage::storage_key;
use jsonrpsee::server::{Server, ServerHandle};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::{PendingSubscriptionSink, RpcModule};
use parity_scale_codec::{Compact, Encode};
use serde_json::{Value, json};
use subxt::Metadata;
use tokio::sync::watch;

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests");
const SPEC_VERSION: u32 = 393;
/// Height of the first best block; the finalised one lies [`FINALITY_LAG`] below.
pub(crate) const START: u32 = 1_000;
pub(crate) const FINALITY_LAG: u32 = 2;

/// What happens to a submitted extrinsic.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It is in the next block and succeeds.
    Succeed,
    /// It is in the next block and fails with this error of the subtensor pallet.
    Fail(&'static str),
    /// The submission is answered with an error.
    Refuse { code: i32, message: &'static str, data: &'static str },
    /// The pool takes it, then says this.
    Then(Value),
    /// The pool takes it and is silent.
    Silence,
    /// The submission is never answered.
    Hang,
}

/// What the node holds and was asked.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) metadata: Metadata,
    metadata_bytes: Vec<u8>,
    pub(crate) genesis: [u8; 32],
    pub(crate) storage: BTreeMap<String, Vec<u8>>,
    pub(crate) neurons: Vec<u8>,
    pub(crate) nonce: u32,
    pub(crate) fate: Fate,
    /// Methods that are never answered.
    pub(crate) hanging: Vec<&'static str>,
    /// Methods that are answered with an error.
    pub(crate) failing: Vec<&'static str>,
    /// Storage keys that a query is not answered for.
    pub(crate) passed_over: Vec<String>,
    /// Extrinsics that were submitted, oldest first.
    pub(crate) submitted: Vec<Vec<u8>>,
    /// Number of calls by method.
    pub(crate) calls: BTreeMap<String, usize>,
    bodies: BTreeMap<u32, (Vec<u8>, Vec<u8>)>,
}

pub(crate) struct Node {
    pub(crate) script: Arc<Mutex<Script>>,
    pub(crate) address: SocketAddr,
    best: watch::Sender<u32>,
    handle: ServerHandle,
}

struct Context {
    script: Arc<Mutex<Script>>,
    best: watch::Sender<u32>,
}

impl Script {
    pub(crate) fn new() -> Self {
        let metadata_bytes = fs::read(format!("{TESTS}/metadata/finney-min.scale")).unwrap();
        Self {
            metadata: Metadata::decode_from(&metadata_bytes).unwrap(),
            metadata_bytes,
            genesis: [0x11; 32],
            storage: BTreeMap::new(),
            neurons: vec![0],
            nonce: 0,
            fate: Fate::Succeed,
            hanging: Vec::new(),
            failing: Vec::new(),
            passed_over: Vec::new(),
            submitted: Vec::new(),
            calls: BTreeMap::new(),
            bodies: BTreeMap::new(),
        }
    }

    pub(crate) fn put(&mut self, item: &str, parts: Vec<scale_value::Value>, value: &impl Encode) {
        let key = storage_key(&self.metadata, "SubtensorModule", item, parts).unwrap();
        self.storage.insert(to_hex(key), value.encode());
    }

    fn state_call(&self, method: &str, input: &str) -> Result<Vec<u8>, ErrorObjectOwned> {
        Ok(match method {
            "Core_version" => {
                let apis: Vec<([u8; 8], u32)> = Vec::new();
                ("node-subtensor", "node-subtensor", 1_u32, SPEC_VERSION, 1_u32, apis, 1_u32, 1_u8)
                    .encode()
            }
            "Metadata_metadata_versions" => vec![14_u32, 15, 16, u32::MAX].encode(),
            "Metadata_metadata_at_version" => {
                assert_eq!(input, "0x10000000");
                Some(self.metadata_bytes.clone()).encode()
            }
            "AccountNonceApi_account_nonce" => self.nonce.encode(),
            "NeuronInfoRuntimeApi_get_neurons_lite" => {
                assert_eq!(input, "0x0800");
                self.neurons.clone()
            }
            other => return Err(error(4003, &format!("no runtime method {other}"))),
        })
    }

    fn header(&self, number: u32) -> ([u8; 32], Value) {
        // The genesis hash stands in for the state root: chains with another one differ throughout.
        let (parent, root) = ([9_u8; 32], self.genesis);
        let hash = blake2_256(&(parent, Compact(number), root, root, Compact(0_u32)).encode());
        let header = json!({
            "parentHash": to_hex(parent),
            "number": format!("{number:#x}"),
            "stateRoot": to_hex(root),
            "extrinsicsRoot": to_hex(root),
            "digest": { "logs": [] },
        });
        (hash, header)
    }

    fn number_of(&self, hash: &str, best: u32) -> Option<u32> {
        (START - 100..=best).find(|number| to_hex(self.header(*number).0) == hash)
    }

    fn include(&mut self, number: u32, extrinsic: Vec<u8>, failure: Option<&str>) {
        let system = self.metadata.pallet_by_name("System").unwrap();
        let variant = |name: &str| {
            let mut variants = system.event_variants().unwrap().iter();
            variants.find(|variant| variant.name == name).unwrap().index
        };
        // Weight (two compact numbers), class, fee.
        let info = (Compact(0_u64), Compact(0_u64), 0_u8, 0_u8);
        let apply = |index: u32| (0_u8, index);
        let no_topics: Vec<[u8; 32]> = Vec::new();
        let success = (system.event_index(), variant("ExtrinsicSuccess"), info);
        let mut events = Compact(2_u32).encode();
        events.extend((apply(0), success, &no_topics).encode());
        match failure {
            None => events.extend((apply(1), success, &no_topics).encode()),
            Some(name) => {
                let pallet = self.metadata.pallet_by_name("SubtensorModule").unwrap();
                let mut errors = pallet.error_variants().unwrap().iter();
                let error = errors.find(|error| error.name == name).unwrap().index;
                // DispatchError::Module is variant 3: pallet, then four bytes of the error.
                let module = (3_u8, pallet.error_index(), error, [0_u8; 3]);
                let failed = (system.event_index(), variant("ExtrinsicFailed"), module, info);
                events.extend((apply(1), failed, &no_topics).encode());
            }
        }
        self.bodies.insert(number, (extrinsic, events));
        self.nonce += 1;
    }
}

impl Node {
    pub(crate) async fn start(script: Script) -> Self {
        Self::start_at(script, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(script: Script, address: SocketAddr) -> Self {
        let server = Server::builder().build(address).await.unwrap();
        let address = server.local_addr().unwrap();
        let script = Arc::new(Mutex::new(script));
        let best = watch::Sender::new(START);
        let handle = server.start(module(Context { script: script.clone(), best: best.clone() }));
        Self { script, address, best, handle }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(crate) fn calls(&self, method: &str) -> usize {
        self.script().calls.get(method).copied().unwrap_or_default()
    }

    /// Makes empty blocks.
    pub(crate) fn advance(&self, blocks: u32) {
        self.best.send_modify(|best| *best += blocks);
    }

    /// Announces the best block once more.
    pub(crate) fn repeat(&self) {
        self.best.send_modify(|_| {});
    }

    /// Breaks all connections off and closes the port.
    pub(crate) async fn stop(self) {
        self.handle.stop().unwrap();
        self.handle.stopped().await;
    }
}

fn module(context: Context) -> RpcModule<Context> {
    let mut module = RpcModule::new(context);
    method(&mut module, "chain_getBlockHash", |context, params| {
        let number: Option<u32> = params.sequence().next().unwrap();
        let script = context.script.lock().unwrap();
        let best = *context.best.borrow();
        Ok(match number {
            Some(0) => json!(to_hex(script.genesis)),
            Some(number) if number > best => Value::Null,
            number => json!(to_hex(script.header(number.unwrap_or(best)).0)),
        })
    });
    method(&mut module, "chain_getFinalizedHead", |context, _| {
        let number = *context.best.borrow() - FINALITY_LAG;
        Ok(json!(to_hex(context.script.lock().unwrap().header(number).0)))
    });
    method(&mut module, "chain_getHeader", |context, params| {
        let hash: Option<String> = params.sequence().optional_next().unwrap();
        let script = context.script.lock().unwrap();
        let best = *context.best.borrow();
        let number = hash.map_or(Some(best), |hash| script.number_of(&hash, best));
        Ok(number.map_or(Value::Null, |number| script.header(number).1))
    });
    method(&mut module, "chain_getBlock", |context, params| {
        let hash: String = params.one().unwrap();
        let script = context.script.lock().unwrap();
        let number = script.number_of(&hash, *context.best.borrow()).unwrap();
        let mut extrinsics = vec!["0x280403000b00".to_owned()];
        extrinsics.extend(script.bodies.get(&number).map(|(extrinsic, _)| to_hex(extrinsic)));
        let block = json!({ "header": script.header(number).1, "extrinsics": extrinsics });
        Ok(json!({ "block": block, "justifications": null }))
    });
    method(&mut module, "state_call", |context, params| {
        let (name, input, hash): (String, String, String) = params.parse().unwrap();
        let script = context.script.lock().unwrap();
        let known = script.number_of(&hash, *context.best.borrow());
        known.ok_or_else(|| error(4003, "unknown block"))?;
        script.state_call(&name, &input).map(|bytes| json!(to_hex(bytes)))
    });
    method(&mut module, "state_getStorage", |context, params| {
        let (key, hash): (String, String) = params.parse().unwrap();
        let script = context.script.lock().unwrap();
        let number = script.number_of(&hash, *context.best.borrow()).unwrap();
        let events = storage_key(&script.metadata, "System", "Events", Vec::new()).unwrap();
        assert_eq!(key, to_hex(events), "only events are read one by one");
        let events = script.bodies.get(&number).map(|(_, events)| to_hex(events));
        Ok(json!(events))
    });
    method(&mut module, "state_queryStorageAt", |context, params| {
        let (keys, hash): (Vec<String>, String) = params.parse().unwrap();
        let script = context.script.lock().unwrap();
        assert!(script.number_of(&hash, *context.best.borrow()).is_some());
        let changes: Vec<_> = keys
            .iter()
            .filter(|key| !script.passed_over.contains(key))
            .map(|key| json!([key, script.storage.get(key).map(to_hex)]))
            .collect();
        Ok(json!([{ "block": hash, "changes": changes }]))
    });
    module
        .register_subscription(
            "chain_subscribeNewHeads",
            "chain_newHead",
            "chain_unsubscribeNewHeads",
            |_, pending, context, _| follow(pending, context),
        )
        .unwrap();
    module
        .register_subscription(
            "author_submitAndWatchExtrinsic",
            "author_extrinsicUpdate",
            "author_unwatchExtrinsic",
            |params, pending, context, _| submit(params.one().unwrap(), pending, context),
        )
        .unwrap();
    module
}

fn method(
    module: &mut RpcModule<Context>,
    name: &'static str,
    answer: fn(&Context, Params<'static>) -> Result<Value, ErrorObjectOwned>,
) {
    module
        .register_async_method(name, move |params, context, _| async move {
            let (hangs, fails) = {
                let mut script = context.script.lock().unwrap();
                *script.calls.entry(name.to_owned()).or_default() += 1;
                (script.hanging.contains(&name), script.failing.contains(&name))
            };
            if hangs {
                std::future::pending::<()>().await;
            }
            if fails {
                return Err(error(-32_005, "too many requests"));
            }
            answer(&context, params)
        })
        .unwrap();
}

async fn follow(pending: PendingSubscriptionSink, context: Arc<Context>) {
    let Ok(sink) = pending.accept().await else { return };
    let mut best = context.best.subscribe();
    loop {
        let number = *best.borrow_and_update();
        let header = context.script.lock().unwrap().header(number).1;
        if sink.send(raw(&header)).await.is_err() || best.changed().await.is_err() {
            return;
        }
    }
}

async fn submit(extrinsic: String, pending: PendingSubscriptionSink, context: Arc<Context>) {
    let extrinsic = hex::decode(extrinsic.strip_prefix("0x").unwrap()).unwrap();
    let fate = {
        let mut script = context.script.lock().unwrap();
        script.submitted.push(extrinsic.clone());
        script.fate.clone()
    };
    let failure = match &fate {
        Fate::Refuse { code, message, data } => {
            let data: Value = serde_json::from_str(data).unwrap();
            pending.reject(ErrorObjectOwned::owned(*code, *message, Some(data))).await;
            return;
        }
        Fate::Hang => return std::future::pending().await,
        Fate::Fail(name) => Some(*name),
        _ => None,
    };
    let Ok(sink) = pending.accept().await else { return };
    // Stock nodes say "ready", others {"ready":null}: both are sent.
    for status in [json!("ready"), json!({ "ready": null }), json!({ "broadcast": ["peer"] })] {
        sink.send(raw(&status)).await.unwrap();
    }
    match fate {
        Fate::Then(status) => sink.send(raw(&status)).await.unwrap(),
        Fate::Silence => std::future::pending().await,
        _ => {
            let hash = {
                let mut script = context.script.lock().unwrap();
                let number = *context.best.borrow() + 1;
                script.include(number, extrinsic, failure);
                context.best.send_replace(number);
                to_hex(script.header(number).0)
            };
            sink.send(raw(&json!({ "inBlock": hash }))).await.unwrap();
        }
    }
}

fn raw(value: &Value) -> Box<serde_json::value::RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn error(code: i32, message: &str) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message, None::<()>)
}

pub(crate) fn to_hex(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}
