//! The JSON-RPC methods, named and answered as a stock Substrate node does.

use std::sync::Arc;

use jsonrpsee::core::{RegisterMethodError, SubscriptionError};
use jsonrpsee::server::PendingSubscriptionSink;
use jsonrpsee::types::{ErrorObjectOwned, Params};

use jsonrpsee::RpcModule;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};

use super::ledger::Ledger;
use super::node::Node;
use super::pool::Status;
use super::runtime::Runtime;
use super::runtime_api::{self, ApiFailure};
use super::state::StateAt;
use super::types::{Hash, Header, to_hex};
use super::view::View;

/// What a client reads as the chain's name.
const CHAIN_NAME: &str = "forecastd development simulator (not the Bittensor chain)";
/// What a client reads as the node's name.
const NODE_NAME: &str = "forecastd development chain";
/// Most keys in one page and in one query.
const MAX_KEYS: usize = 1000;

type Answer = Result<Value, ErrorObjectOwned>;

/// Builds the table of methods.
pub(super) fn module(node: Arc<Node>) -> Result<RpcModule<Arc<Node>>, RegisterMethodError> {
    let mut module = RpcModule::new(node);
    chain_methods(&mut module)?;
    state_methods(&mut module)?;
    author_methods(&mut module)?;
    system_methods(&mut module)?;
    let mut names: Vec<&'static str> = module.method_names().collect();
    names.push("rpc_methods");
    names.sort_unstable();
    module.register_method("rpc_methods", move |_, _, _| json!({ "methods": names }))?;
    Ok(module)
}

fn method(
    module: &mut RpcModule<Arc<Node>>,
    name: &'static str,
    answer: fn(&Node, &Arguments) -> Answer,
) -> Result<(), RegisterMethodError> {
    module.register_method(name, move |params, node, _| -> Answer {
        answer(node, &Arguments::read(&params)?)
    })?;
    Ok(())
}

fn chain_methods(module: &mut RpcModule<Arc<Node>>) -> Result<(), RegisterMethodError> {
    method(module, "chain_getBlockHash", |node, arguments| {
        let inner = node.read();
        let hash_of = |height: &Value| -> Answer {
            let number = height_of(height)?.unwrap_or_else(|| inner.best());
            let hash = (number <= inner.best()).then(|| inner.hash_of(&node.runtime, number));
            Ok(json!(hash.flatten().map(|hash| to_hex(&hash))))
        };
        match arguments.0.first() {
            Some(Value::Array(heights)) => {
                if heights.len() > MAX_KEYS {
                    return Err(bad_params(format!("more than {MAX_KEYS} heights")));
                }
                heights.iter().map(hash_of).collect()
            }
            Some(height) => hash_of(height),
            None => hash_of(&Value::Null),
        }
    })?;
    method(module, "chain_getHeader", |node, arguments| {
        let inner = node.read();
        let number = arguments.hash(0)?.map_or(Some(inner.best()), |hash| inner.number_of(&hash));
        let block = number.and_then(|number| inner.block(number));
        Ok(json!(block.map(|block| block.header.to_json())))
    })?;
    method(module, "chain_getBlock", |node, arguments| {
        let inner = node.read();
        let number = arguments.hash(0)?.map_or(Some(inner.best()), |hash| inner.number_of(&hash));
        let block = number.and_then(|number| inner.block(number));
        Ok(json!(block.map(|block| {
            let extrinsics: Vec<String> =
                block.extrinsics.iter().map(|bytes| to_hex(bytes)).collect();
            let header = block.header.to_json();
            json!({ "block": { "header": header, "extrinsics": extrinsics }, "justifications": null })
        })))
    })?;
    method(module, "chain_getHead", |node, _| {
        let inner = node.read();
        Ok(json!(inner.hash_of(&node.runtime, inner.best()).map(|hash| to_hex(&hash))))
    })?;
    method(module, "chain_getFinalizedHead", |node, _| {
        let inner = node.read();
        Ok(json!(inner.hash_of(&node.runtime, inner.finalized()).map(|hash| to_hex(&hash))))
    })?;
    module.register_alias("chain_getFinalisedHead", "chain_getFinalizedHead")?;
    module.register_subscription(
        "chain_subscribeNewHeads",
        "chain_newHead",
        "chain_unsubscribeNewHeads",
        |_, pending, node, _| async move {
            let heads = node.best_heads();
            let first = {
                let inner = node.read();
                inner.block(inner.best()).map(|block| block.header.clone())
            };
            forward_heads(pending, first, heads).await
        },
    )?;
    module.register_subscription(
        "chain_subscribeFinalizedHeads",
        "chain_finalizedHead",
        "chain_unsubscribeFinalizedHeads",
        |_, pending, node, _| async move {
            let heads = node.finalized_heads();
            let first = {
                let inner = node.read();
                inner.block(inner.finalized()).map(|block| block.header.clone())
            };
            forward_heads(pending, first, heads).await
        },
    )?;
    for alias in ["chain_subscribeNewHead", "chain_subscribeAllHeads", "subscribe_newHead"] {
        module.register_alias(alias, "chain_subscribeNewHeads")?;
    }
    for alias in ["chain_unsubscribeNewHead", "chain_unsubscribeAllHeads", "unsubscribe_newHead"] {
        module.register_alias(alias, "chain_unsubscribeNewHeads")?;
    }
    Ok(())
}

fn state_methods(module: &mut RpcModule<Arc<Node>>) -> Result<(), RegisterMethodError> {
    method(module, "state_getStorage", |node, arguments| {
        let inner = node.read();
        let block = state_block(&inner, arguments.hash(1)?)?;
        let value = inner.state.get_at(&arguments.bytes(0)?, block);
        Ok(json!(value.map(to_hex)))
    })?;
    module.register_alias("state_getStorageAt", "state_getStorage")?;
    method(module, "state_getKeysPaged", |node, arguments| {
        let inner = node.read();
        let block = state_block(&inner, arguments.hash(3)?)?;
        let count = arguments.0.get(1).and_then(Value::as_u64).unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > MAX_KEYS {
            return Err(ErrorObjectOwned::owned(
                4002,
                format!("count exceeds maximum value. value: {count}, max: {MAX_KEYS}"),
                None::<()>,
            ));
        }
        let start_after = match arguments.0.get(2) {
            None | Some(Value::Null) => None,
            Some(_) => Some(arguments.bytes(2)?),
        };
        let keys = inner.state.keys_at(&arguments.bytes(0)?, block, start_after.as_deref(), count);
        Ok(keys.iter().map(|key| json!(to_hex(key))).collect())
    })?;
    method(module, "state_queryStorageAt", |node, arguments| {
        let inner = node.read();
        let block = state_block(&inner, arguments.hash(1)?)?;
        let Some(Value::Array(keys)) = arguments.0.first() else {
            return Err(bad_params("the first argument must be a list of keys"));
        };
        if keys.len() > MAX_KEYS {
            return Err(bad_params(format!("more than {MAX_KEYS} keys")));
        }
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            let bytes = hex_bytes(key)?;
            changes.push(json!([key, inner.state.get_at(&bytes, block).map(to_hex)]));
        }
        let hash = inner.hash_of(&node.runtime, block).map(|hash| to_hex(&hash));
        Ok(json!([{ "block": hash, "changes": changes }]))
    })?;
    method(module, "state_call", |node, arguments| {
        let inner = node.read();
        let block = state_block(&inner, arguments.hash(2)?)?;
        let name = arguments.text(0)?;
        let storage = StateAt { state: &inner.state, block };
        let view = View::new(&node.runtime, &storage);
        let answer = runtime_api::call(view, name, &arguments.bytes(1)?);
        answer.map(|bytes| json!(to_hex(&bytes))).map_err(|failure| {
            let text = match failure {
                ApiFailure::Unknown => format!("Exported method {name} is not found"),
                ApiFailure::Arguments(text) => format!("Execution failed: {text}"),
            };
            ErrorObjectOwned::owned(4003, format!("Client error: {text}"), None::<()>)
        })
    })?;
    module.register_alias("state_callAt", "state_call")?;
    method(module, "state_getRuntimeVersion", |node, arguments| {
        state_block(&node.read(), arguments.hash(0)?)?;
        Ok(node.runtime.version_json())
    })?;
    module.register_alias("chain_getRuntimeVersion", "state_getRuntimeVersion")?;
    method(module, "state_getMetadata", |_, _| Ok(json!(to_hex(Runtime::legacy_metadata()))))
}

fn author_methods(module: &mut RpcModule<Arc<Node>>) -> Result<(), RegisterMethodError> {
    method(module, "author_submitExtrinsic", |node, arguments| {
        let hash = node.submit(&arguments.bytes(0)?, None).map_err(|refusal| {
            tracing::debug!(?refusal, "a transaction was refused");
            refusal.to_rpc_error()
        })?;
        Ok(json!(to_hex(&hash)))
    })?;
    method(module, "author_pendingExtrinsics", |node, _| {
        Ok(node.waiting_extrinsics().iter().map(|bytes| json!(to_hex(bytes))).collect())
    })?;
    module.register_subscription(
        "author_submitAndWatchExtrinsic",
        "author_extrinsicUpdate",
        "author_unwatchExtrinsic",
        |params, pending, node, _| async move {
            let (watcher, statuses) = mpsc::unbounded_channel();
            let submitted = Arguments::read(&params)
                .and_then(|arguments| arguments.bytes(0))
                .and_then(|bytes| {
                    node.submit(&bytes, Some(watcher)).map_err(|refusal| {
                        tracing::debug!(?refusal, "a transaction was refused");
                        refusal.to_rpc_error()
                    })
                });
            match submitted {
                Ok(_) => forward_statuses(pending, statuses).await,
                Err(error) => {
                    pending.reject(error).await;
                    Ok(())
                }
            }
        },
    )?;
    Ok(())
}

fn system_methods(module: &mut RpcModule<Arc<Node>>) -> Result<(), RegisterMethodError> {
    method(module, "system_chain", |_, _| Ok(json!(CHAIN_NAME)))?;
    method(module, "system_chainType", |_, _| Ok(json!("Development")))?;
    method(module, "system_name", |_, _| Ok(json!(NODE_NAME)))?;
    method(module, "system_version", |_, _| {
        Ok(json!(concat!(env!("CARGO_PKG_VERSION"), "-simulator")))
    })?;
    method(module, "system_properties", |_, _| {
        Ok(json!({ "ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO" }))
    })?;
    method(module, "system_health", |_, _| {
        Ok(json!({ "peers": 0, "isSyncing": false, "shouldHavePeers": false }))
    })?;
    method(module, "system_accountNextIndex", |node, arguments| {
        let account = forecastd_core::Hotkey::from_ss58(arguments.text(0)?)
            .map_err(|error| bad_params(error.to_string()))?;
        Ok(json!(node.next_nonce(account.as_bytes())))
    })?;
    module.register_alias("account_nextIndex", "system_accountNextIndex")
}

async fn forward_heads(
    pending: PendingSubscriptionSink,
    first: Option<Header>,
    mut heads: broadcast::Receiver<Header>,
) -> Result<(), SubscriptionError> {
    let sink = pending.accept().await?;
    let mut last_sent = None;
    if let Some(header) = first {
        last_sent = Some(header.number);
        sink.send(to_raw_value(&header.to_json())?).await?;
    }
    loop {
        let header = tokio::select! {
            biased;
            () = sink.closed() => return Ok(()),
            header = heads.recv() => header,
        };
        match header {
            // The first head may be in the channel as well.
            Ok(header) if last_sent.is_some_and(|last| header.number <= last) => {}
            Ok(header) => {
                last_sent = Some(header.number);
                sink.send(to_raw_value(&header.to_json())?).await?;
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "a head subscriber is too slow and misses heads");
            }
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

async fn forward_statuses(
    pending: PendingSubscriptionSink,
    mut statuses: mpsc::UnboundedReceiver<Status>,
) -> Result<(), SubscriptionError> {
    let sink = pending.accept().await?;
    loop {
        let status = tokio::select! {
            biased;
            () = sink.closed() => return Ok(()),
            status = statuses.recv() => status,
        };
        let Some(status) = status else { return Ok(()) };
        let (message, is_last) = match status {
            Status::Future => (json!("future"), false),
            Status::Ready => (json!("ready"), false),
            Status::InBlock(hash) => (json!({ "inBlock": to_hex(&hash) }), false),
            Status::Finalized(hash) => (json!({ "finalized": to_hex(&hash) }), true),
            Status::Invalid => (json!("invalid"), true),
            Status::Dropped => (json!("dropped"), true),
        };
        sink.send(to_raw_value(&message)?).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Returns the block at whose state to read: the one with `hash`, else the best.
fn state_block(inner: &Ledger, hash: Option<Hash>) -> Result<u64, ErrorObjectOwned> {
    let Some(hash) = hash else { return Ok(inner.best()) };
    let discarded = |text: &str| {
        let text = format!("Client error: UnknownBlock: {text} {}", to_hex(&hash));
        ErrorObjectOwned::owned(4003, text, None::<()>)
    };
    let number = inner.number_of(&hash).ok_or_else(|| discarded("Header was not found:"))?;
    if inner.has_state(number) { Ok(number) } else { Err(discarded("State already discarded for")) }
}

/// Positional parameters; missing ones count as null.
struct Arguments(Vec<Value>);

impl Arguments {
    fn read(params: &Params<'_>) -> Result<Self, ErrorObjectOwned> {
        // No parameters at all read as null.
        params.parse::<Option<Vec<Value>>>().map(|values| Self(values.unwrap_or_default()))
    }

    fn text(&self, index: usize) -> Result<&str, ErrorObjectOwned> {
        let text = self.0.get(index).and_then(Value::as_str);
        text.ok_or_else(|| bad_params(format!("argument {index} must be a text")))
    }

    fn bytes(&self, index: usize) -> Result<Vec<u8>, ErrorObjectOwned> {
        let value = self.0.get(index);
        value.ok_or_else(|| bad_params(format!("argument {index} is missing"))).and_then(hex_bytes)
    }

    fn hash(&self, index: usize) -> Result<Option<Hash>, ErrorObjectOwned> {
        match self.0.get(index) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let bytes = hex_bytes(value)?;
                Hash::try_from(bytes).map(Some).map_err(|bytes| {
                    bad_params(format!("a hash has 32 bytes, not {}", bytes.len()))
                })
            }
        }
    }
}

/// Reads hex with or without `0x`: Python clients leave it out.
fn hex_bytes(value: &Value) -> Result<Vec<u8>, ErrorObjectOwned> {
    let text = value.as_str().ok_or_else(|| bad_params("hex text expected"))?;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits).map_err(|error| bad_params(format!("hex text expected: {error}")))
}

/// Reads a block height: a number, or hex with `0x`; null means the best block.
fn height_of(value: &Value) -> Result<Option<u64>, ErrorObjectOwned> {
    let height = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => {
            text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok())
        }
        _ => None,
    };
    height.map(Some).ok_or_else(|| bad_params("a block height is expected"))
}

fn bad_params(text: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32602, format!("Invalid params: {}", text.into()), None::<()>)
}
