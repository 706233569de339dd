//! The one connection of the client: endpoints in order, fail-over, reconnection.
//!
//! A connection is opened by the call that needs it. A call that finds it broken or late, or whose
//! node answers with an error while other endpoints are set, discards it; the next call (or the
//! next attempt of a read) goes to the next endpoint in order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use subxt::backend::LegacyBackend;
use subxt::config::substrate::H256;
use subxt::config::{PolkadotConfig, RpcConfigFor};
use subxt::utils::AccountId32;
use subxt::{ArcMetadata, Metadata, OnlineClient};
use subxt_rpcs::client::{JsonrpseeRpcClient, RpcClient, jsonrpsee_client};
use subxt_rpcs::{LegacyRpcMethods, RpcClientT};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::config::ChainConfig;
use crate::error::ChainError;
use crate::storage::{BATCH_KEYS, Values};

/// The raw methods of the node.
pub(crate) type Methods = LegacyRpcMethods<RpcConfigFor<PolkadotConfig>>;
/// The header type of the chain.
pub(crate) type Header = <PolkadotConfig as subxt::Config>::Header;

/// Counters of the chain client.
#[derive(Debug, Default)]
pub struct ChainMetrics {
    /// Connections opened.
    pub connections_total: AtomicU64,
    /// Attempts to connect that failed.
    pub connect_failures_total: AtomicU64,
    /// Connections discarded because they broke or an answer was late.
    pub connections_lost_total: AtomicU64,
    /// Reads that were tried again on another connection.
    pub read_retries_total: AtomicU64,
    /// Extrinsics handed to a node.
    pub extrinsics_submitted_total: AtomicU64,
    /// Extrinsics whose outcome was not seen.
    pub extrinsics_unknown_total: AtomicU64,
}

impl ChainMetrics {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// An open connection to one endpoint.
pub(crate) struct Connection {
    serial: u64,
    index: usize,
    pub(crate) endpoint: String,
    rpc: Arc<JsonrpseeRpcClient>,
    pub(crate) methods: Methods,
    pub(crate) client: OnlineClient<PolkadotConfig>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("serial", &self.serial)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Translates an error of the transport.
    pub(crate) fn error(&self, operation: &'static str, error: subxt_rpcs::Error) -> ChainError {
        let endpoint = self.endpoint.clone();
        match error {
            subxt_rpcs::Error::User(error) => {
                ChainError::Rpc { endpoint, operation, code: error.code, message: error.message }
            }
            subxt_rpcs::Error::Serialization(_)
            | subxt_rpcs::Error::Deserialization(_)
            | subxt_rpcs::Error::Decode(_) => {
                ChainError::Decode { what: operation.to_owned(), reason: error.to_string() }
            }
            error => ChainError::ConnectionLost { endpoint, operation, reason: error.to_string() },
        }
    }

    /// Reads the header of a block; of the best block when no hash is given.
    pub(crate) async fn header(
        &self,
        operation: &'static str,
        hash: Option<H256>,
    ) -> Result<Header, ChainError> {
        let header = self.methods.chain_get_header(hash).await;
        header.map_err(|error| self.error(operation, error))?.ok_or_else(|| ChainError::Rpc {
            endpoint: self.endpoint.clone(),
            operation,
            code: 0,
            message: "the node does not have the block".to_owned(),
        })
    }

    /// Returns the metadata of the runtime at a block, from the cache when its version is known.
    pub(crate) async fn at_block(
        &self,
        operation: &'static str,
        hash: H256,
        number: u64,
    ) -> Result<AtBlock, ChainError> {
        let at = self.client.at_block_hash_and_number(hash, number).await;
        at.map_err(|error| at_block_error(self, operation, error))
    }

    /// Opens a view of the last finalised block.
    pub(crate) async fn at_finalised(
        &self,
        operation: &'static str,
    ) -> Result<AtBlock, ChainError> {
        let at = self.client.at_current_block().await;
        at.map_err(|error| at_block_error(self, operation, error))
    }

    /// Reads many storage values at one block; absent ones are left out.
    ///
    /// A node names each key that it was asked for, absent ones with null. One that is passed over
    /// is an error: it must not read as the default of the runtime.
    pub(crate) async fn storage<'metadata>(
        &self,
        operation: &'static str,
        metadata: &'metadata Metadata,
        hash: H256,
        keys: &[Vec<u8>],
    ) -> Result<Values<'metadata>, ChainError> {
        let mut values = BTreeMap::new();
        let mut answered = BTreeSet::new();
        for batch in keys.chunks(BATCH_KEYS) {
            let batch = batch.iter().map(Vec::as_slice);
            let sets = self.methods.state_query_storage_at(batch, Some(hash)).await;
            for set in sets.map_err(|error| self.error(operation, error))? {
                for (key, value) in set.changes {
                    if let Some(value) = value {
                        values.insert(key.0.clone(), value.0);
                    }
                    answered.insert(key.0);
                }
            }
        }
        let passed_over = keys.iter().filter(|key| !answered.contains(*key)).count();
        if passed_over > 0 {
            return Err(ChainError::Rpc {
                endpoint: self.endpoint.clone(),
                operation,
                code: 0,
                message: format!("{passed_over} of {} storage keys are not answered", keys.len()),
            });
        }
        Ok(Values::new(metadata, values))
    }

    /// Reads the next free nonce of an account at a block.
    pub(crate) async fn nonce(
        &self,
        operation: &'static str,
        account: &AccountId32,
        hash: H256,
    ) -> Result<u64, ChainError> {
        let call = "AccountNonceApi_account_nonce";
        let bytes = self.methods.state_call(call, Some(&account.0), Some(hash)).await;
        let bytes = bytes.map_err(|error| self.error(operation, error))?;
        if let Ok(bytes) = <[u8; 4]>::try_from(bytes.as_slice()) {
            Ok(u32::from_le_bytes(bytes).into())
        } else if let Ok(bytes) = <[u8; 8]>::try_from(bytes.as_slice()) {
            Ok(u64::from_le_bytes(bytes))
        } else {
            Err(ChainError::Decode {
                what: call.to_owned(),
                reason: format!("{} bytes, must be 4 or 8", bytes.len()),
            })
        }
    }

    fn is_open(&self) -> bool {
        self.rpc.is_connected()
    }
}

/// A block of the chain as subxt sees it: hash, runtime version, metadata.
pub(crate) type AtBlock = subxt::client::OnlineClientAtBlock<PolkadotConfig>;

fn at_block_error(
    connection: &Connection,
    operation: &'static str,
    error: subxt::error::OnlineClientAtBlockError,
) -> ChainError {
    use subxt::error::{BackendError, OnlineClientAtBlockError as AtBlockError, RpcError};
    match error {
        AtBlockError::CannotGetCurrentBlock { reason }
        | AtBlockError::CannotGetBlockHash { reason, .. }
        | AtBlockError::CannotGetBlockHeader { reason, .. }
        | AtBlockError::CannotGetSpecVersion { reason, .. } => match reason {
            BackendError::Rpc(RpcError::ClientError(error)) => connection.error(operation, error),
            error => ChainError::ConnectionLost {
                endpoint: connection.endpoint.clone(),
                operation,
                reason: error.to_string(),
            },
        },
        AtBlockError::BlockNotFound { .. } | AtBlockError::BlockHeaderNotFound { .. } => {
            ChainError::Rpc {
                endpoint: connection.endpoint.clone(),
                operation,
                code: 0,
                message: error.to_string(),
            }
        }
        // The transport's error is only a text here; a lost connection shows in the next call.
        AtBlockError::CannotGetMetadata { .. } | AtBlockError::CannotDecodeSpecVersion { .. } => {
            ChainError::Decode {
                what: "the runtime's metadata".to_owned(),
                reason: error.to_string(),
            }
        }
        error => ChainError::Incompatible {
            item: "the runtime's metadata".to_owned(),
            reason: error.to_string(),
        },
    }
}

#[derive(Debug, Default)]
struct State {
    current: Option<Arc<Connection>>,
    /// Endpoint to try first when a connection is needed.
    next: usize,
    serial: u64,
    genesis: Option<H256>,
}

/// Opens, shares and replaces the connection.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) config: ChainConfig,
    pub(crate) metrics: ChainMetrics,
    /// Keeps the decoded metadata over reconnections, keyed by runtime version.
    subxt_config: PolkadotConfig,
    state: Mutex<State>,
}

impl Connections {
    pub(crate) fn new(config: ChainConfig) -> Self {
        let state = State { genesis: config.genesis.map(H256), ..State::default() };
        Self {
            config,
            metrics: ChainMetrics::default(),
            // Types of old relay chain blocks: megabytes that are of no use here.
            subxt_config: PolkadotConfig::builder().use_historic_types(false).build(),
            state: Mutex::new(state),
        }
    }

    /// Returns the open connection, or opens one, trying each endpoint once.
    ///
    /// The lock is held while connecting on purpose: one caller connects, the others wait for it.
    pub(crate) async fn get(&self) -> Result<Arc<Connection>, ChainError> {
        let mut state = self.state.lock().await;
        if let Some(connection) = state.current.take() {
            if connection.is_open() {
                state.current = Some(connection.clone());
                return Ok(connection);
            }
            // Closed while idle, such as by a node's restart: the same endpoint is tried first.
            ChainMetrics::count(&self.metrics.connections_lost_total);
            state.next = connection.index;
            debug!(endpoint = %connection.endpoint, "chain connection was closed while idle");
        }
        let endpoints = &self.config.endpoints;
        let start = state.next;
        let mut reasons = Vec::new();
        let mut wrong_chain = None;
        for offset in 0..endpoints.len() {
            let index = (start + offset) % endpoints.len();
            let Some(endpoint) = endpoints.get(index) else { continue };
            state.serial += 1;
            let opened = timeout(
                self.config.call_timeout,
                self.open(state.serial, index, endpoint, state.genesis),
            )
            .await;
            let error = match opened {
                Ok(Ok(connection)) => {
                    ChainMetrics::count(&self.metrics.connections_total);
                    info!(%endpoint, "chain connected");
                    let connection = Arc::new(connection);
                    state.genesis = Some(connection.client.genesis_hash());
                    state.next = index;
                    state.current = Some(connection.clone());
                    return Ok(connection);
                }
                Ok(Err(error)) => error,
                Err(_) => ChainError::Timeout {
                    endpoint: endpoint.clone(),
                    operation: "connecting",
                    limit: self.config.call_timeout,
                },
            };
            ChainMetrics::count(&self.metrics.connect_failures_total);
            warn!(%endpoint, %error, "chain endpoint cannot be used");
            reasons.push(format!("{endpoint}: {error}"));
            if matches!(error, ChainError::WrongChain { .. }) {
                wrong_chain = Some(error);
            }
        }
        match wrong_chain {
            // Waiting for an endpoint that is merely down may help; a wrong one stays wrong.
            Some(error) if endpoints.len() == 1 => Err(error),
            _ => Err(ChainError::Unreachable { reasons: reasons.join("; ") }),
        }
    }

    /// Stops using a connection; the next one goes to the next endpoint in order.
    pub(crate) async fn discard(&self, connection: &Connection) {
        let mut state = self.state.lock().await;
        if state.current.as_ref().is_some_and(|current| current.serial == connection.serial) {
            ChainMetrics::count(&self.metrics.connections_lost_total);
            state.current = None;
            state.next = (connection.index + 1) % self.config.endpoints.len().max(1);
        }
    }

    async fn open(
        &self,
        serial: u64,
        index: usize,
        endpoint: &str,
        genesis: Option<H256>,
    ) -> Result<Connection, ChainError> {
        let lost = |reason: String| ChainError::ConnectionLost {
            endpoint: endpoint.to_owned(),
            operation: "connecting",
            reason,
        };
        let rpc = jsonrpsee_client(endpoint).await.map_err(|error| lost(error.to_string()))?;
        let rpc = Arc::new(rpc);
        let rpc_client = rpc_client(rpc.clone());
        // The legacy backend by name: the default one is led astray by nodes that announce newer
        // methods without serving them in full.
        let backend = LegacyBackend::<PolkadotConfig>::builder().build(rpc_client.clone());
        let client =
            OnlineClient::from_backend_with_config(self.subxt_config.clone(), Arc::new(backend))
                .await
                .map_err(|error| lost(error.to_string()))?;
        let found = client.genesis_hash();
        match genesis {
            Some(expected) if expected != found => Err(ChainError::WrongChain {
                endpoint: endpoint.to_owned(),
                expected: format!("{expected:?}"),
                found: format!("{found:?}"),
            }),
            _ => Ok(Connection {
                serial,
                index,
                endpoint: endpoint.to_owned(),
                rpc,
                methods: LegacyRpcMethods::new(rpc_client),
                client,
            }),
        }
    }
}

fn rpc_client(rpc: Arc<impl RpcClientT>) -> RpcClient {
    RpcClient::new(rpc)
}

/// Returns the metadata of a block as an owned handle.
pub(crate) fn metadata_of(at: &AtBlock) -> ArcMetadata {
    at.metadata()
}
