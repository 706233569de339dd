//! The chain client: subxt with the legacy backend over one WebSocket connection.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use forecastd_core::{Hotkey, Uid};
use scale_value::Value;
use subxt::config::substrate::H256;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::debug;

use crate::axon::AxonEndpoint;
use crate::calls::{self, Call, PALLET, WeightsError, check_rate_limit, check_weights};
use crate::config::ChainConfig;
use crate::connection::{AtBlock, ChainMetrics, Connection, Connections, metadata_of};
use crate::error::ChainError;
use crate::heads::{BestBlocks, best_block};
use crate::neurons::{NEURONS_CALL, check_hotkeys, decode_neurons};
use crate::params::{ParamKeys, read_params};
use crate::storage::storage_key;
use crate::submit;
use crate::types::{Chain, Head, Metagraph, Submitted, SubnetParams};
use crate::wallet::ChainSigner;

/// A read is tried on this many connections at least, so that one lost connection does not show.
const MIN_READ_ATTEMPTS: usize = 2;

/// A subtensor chain at one or more endpoints.
///
/// Cheap to clone: clones share the connection. Submissions of one hotkey are made one after the
/// other, because each reads its nonce afresh.
#[derive(Debug, Clone)]
pub struct Subtensor {
    connections: Arc<Connections>,
    submissions: Arc<Mutex<BTreeMap<Hotkey, Arc<Mutex<()>>>>>,
}

impl Subtensor {
    /// Connects to the first endpoint that answers and reads the runtime's metadata.
    ///
    /// # Errors
    /// [`ChainError::Config`] for bad settings, [`ChainError::Unreachable`] when no endpoint
    /// answers, [`ChainError::Incompatible`] when the runtime is not understood.
    pub async fn connect(config: ChainConfig) -> Result<Self, ChainError> {
        let chain = Self::new(config)?;
        chain
            .read("reading metadata", |connection| async move {
                connection.at_finalised("reading metadata").await.map(|_| ())
            })
            .await?;
        Ok(chain)
    }

    /// Creates a client that connects with its first call.
    ///
    /// # Errors
    /// [`ChainError::Config`] for bad settings.
    pub fn new(config: ChainConfig) -> Result<Self, ChainError> {
        config.validate()?;
        Ok(Self { connections: Arc::new(Connections::new(config)), submissions: Arc::default() })
    }

    /// Returns the settings.
    pub fn config(&self) -> &ChainConfig {
        &self.connections.config
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &ChainMetrics {
        &self.connections.metrics
    }

    /// Returns the endpoint in use, connecting when there is none.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`] when no endpoint answers.
    pub async fn endpoint(&self) -> Result<String, ChainError> {
        Ok(self.connections.get().await?.endpoint.clone())
    }

    /// Subscribes to new best blocks.
    ///
    /// `idle_limit`: longest wait for a block before the connection counts as lost, real time.
    ///
    /// # Errors
    /// [`ChainError`]; retry when [`ChainError::is_retryable`].
    pub async fn best_blocks(&self, idle_limit: Duration) -> Result<BestBlocks, ChainError> {
        let operation = "subscribing to best blocks";
        let (connection, subscription) = self
            .read(operation, |connection| async move {
                let subscription = connection.methods.chain_subscribe_new_heads().await;
                let subscription =
                    subscription.map_err(|error| connection.error(operation, error))?;
                Ok((connection, subscription))
            })
            .await?;
        Ok(BestBlocks {
            connections: self.connections.clone(),
            connection,
            subscription,
            idle_limit,
            last: None,
        })
    }

    /// Runs a read with the deadline of a call, once more on another connection when one is lost, or
    /// when the node answers with an error and there is another endpoint to ask.
    async fn read<T, F, Fut>(&self, operation: &'static str, read: F) -> Result<T, ChainError>
    where
        F: Fn(Arc<Connection>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, ChainError>> + Send,
        T: Send,
    {
        let config = &self.connections.config;
        let attempts = config.endpoints.len().max(MIN_READ_ATTEMPTS);
        let mut attempt = 1;
        loop {
            let connection = self.connections.get().await?;
            let outcome = timeout(config.call_timeout, read(connection.clone())).await;
            let outcome = outcome.unwrap_or_else(|_| {
                Err(ChainError::Timeout {
                    endpoint: connection.endpoint.clone(),
                    operation,
                    limit: config.call_timeout,
                })
            });
            match outcome {
                Err(error)
                    if error.is_connection()
                        || (config.endpoints.len() > 1
                            && matches!(error, ChainError::Rpc { .. })) =>
                {
                    self.connections.discard(&connection).await;
                    if attempt == attempts {
                        return Err(error);
                    }
                    attempt += 1;
                    ChainMetrics::count(&self.metrics().read_retries_total);
                    debug!(%error, attempt, "chain read is tried again");
                }
                outcome => return outcome,
            }
        }
    }

    /// Signs, sends and watches a call.
    async fn submit(&self, signer: &ChainSigner, call: Call) -> Result<Submitted, ChainError> {
        let mortality_blocks = self.config().mortality_blocks;
        let (connection, prepared) = self
            .read("preparing an extrinsic", |connection| {
                let (call, signer) = (call.clone(), signer.clone());
                async move {
                    let prepared =
                        submit::prepare(connection.clone(), call, signer, mortality_blocks).await?;
                    Ok((connection, prepared))
                }
            })
            .await?;
        submit::send(&self.connections, &connection, &prepared, signer.hotkey()).await
    }

    /// Returns the lock under which a hotkey's submissions are made.
    async fn submission_lock(&self, hotkey: Hotkey) -> Arc<Mutex<()>> {
        self.submissions.lock().await.entry(hotkey).or_default().clone()
    }

    /// Checks a weight setting by the chain's rules as they stand at the best block.
    async fn check_weight_setting(
        &self,
        hotkey: Hotkey,
        weights: &[(Uid, u16)],
        version_key: u64,
    ) -> Result<(), ChainError> {
        let netuid = self.config().netuid;
        let (params, slot) = self
            .read("checking weights", |connection| async move {
                let operation = "checking weights";
                let best = best_block(&connection.header(operation, None).await?);
                let at = connection.at_block(operation, H256(best.hash), best.block).await?;
                let metadata = metadata_of(&at);
                let param_keys = ParamKeys::new(&metadata, netuid)?;
                let uid_parts = vec![number(netuid.0), Value::from_bytes(hotkey.as_bytes())];
                let uid_key = storage_key(&metadata, PALLET, "Uids", uid_parts)?;
                let update_key =
                    storage_key(&metadata, PALLET, "LastUpdate", vec![number(netuid.0)])?;
                let mut keys = param_keys.keys();
                keys.extend([uid_key.clone(), update_key.clone()]);
                let values =
                    connection.storage(operation, &metadata, H256(best.hash), &keys).await?;
                let params = read_params(&values, &param_keys, best.block)?;
                let uid: Option<u16> = values.find("Uids", &uid_key)?;
                let updates: Vec<u64> = values.get("LastUpdate", &update_key)?;
                let slot = uid.map(|uid| {
                    (Uid(uid), updates.get(usize::from(uid)).copied().unwrap_or_default())
                });
                Ok((params, slot))
            })
            .await?;
        let (own_uid, last_update) = slot.ok_or(WeightsError::NotRegistered { netuid })?;
        check_weights(weights, version_key, own_uid, &params)?;
        check_rate_limit(last_update, params.weights_set_rate_limit, params.block)?;
        Ok(())
    }
}

#[async_trait]
impl Chain for Subtensor {
    fn mortality_blocks(&self) -> u64 {
        self.config().mortality_blocks
    }

    async fn head(&self) -> Result<Head, ChainError> {
        let operation = "reading the head";
        self.read(operation, |connection| async move {
            let finalised = connection.methods.chain_get_finalized_head().await;
            let finalised_hash = finalised.map_err(|error| connection.error(operation, error))?;
            let finalised = connection.header(operation, Some(finalised_hash)).await?;
            let best = best_block(&connection.header(operation, None).await?);
            Ok(Head {
                block: best.block,
                hash: best.hash,
                finalised_block: best_block(&finalised).block,
                finalised_hash: finalised_hash.0,
            })
        })
        .await
    }

    async fn metagraph(&self) -> Result<Metagraph, ChainError> {
        let operation = "reading the metagraph";
        let netuid = self.config().netuid;
        self.read(operation, |connection| async move {
            let at = connection.at_finalised(operation).await?;
            let metadata = metadata_of(&at);
            let hash = at.block_hash();
            let input = netuid.0.to_le_bytes();
            let bytes = connection.methods.state_call(NEURONS_CALL, Some(&input), Some(hash)).await;
            let bytes = bytes.map_err(|error| connection.error(operation, error))?;
            let mut neurons = decode_neurons(&metadata, netuid, &bytes)?;
            check_hotkeys(&neurons)?;

            let item = "BlockAtRegistration";
            let keys = neurons
                .iter()
                .map(|neuron| {
                    let parts = vec![number(netuid.0), number(neuron.uid.0)];
                    storage_key(&metadata, PALLET, item, parts)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let values = connection.storage(operation, &metadata, hash, &keys).await?;
            for (neuron, key) in neurons.iter_mut().zip(&keys) {
                neuron.registered_at_block = values.get(item, key)?;
            }
            Ok(Metagraph { block: at.block_number(), block_hash: hash.0, netuid, neurons })
        })
        .await
    }

    async fn params(&self) -> Result<SubnetParams, ChainError> {
        let operation = "reading hyperparameters";
        let netuid = self.config().netuid;
        self.read(operation, |connection| async move {
            let at = connection.at_finalised(operation).await?;
            let metadata = metadata_of(&at);
            let keys = ParamKeys::new(&metadata, netuid)?;
            let values =
                connection.storage(operation, &metadata, at.block_hash(), &keys.keys()).await?;
            read_params(&values, &keys, at.block_number())
        })
        .await
    }

    async fn weights_of(&self, uid: Uid) -> Result<Vec<(Uid, u16)>, ChainError> {
        let operation = "reading weights";
        let netuid = self.config().netuid;
        self.read(operation, |connection| async move {
            let at: AtBlock = connection.at_finalised(operation).await?;
            let metadata = metadata_of(&at);
            let parts = vec![number(netuid.0), number(uid.0)];
            let key = storage_key(&metadata, PALLET, "Weights", parts)?;
            let keys = [key];
            let values = connection.storage(operation, &metadata, at.block_hash(), &keys).await?;
            let [key] = &keys;
            let weights: Vec<(u16, u16)> = values.get("Weights", key)?;
            Ok(weights.into_iter().map(|(uid, value)| (Uid(uid), value)).collect())
        })
        .await
    }

    async fn serve_axon(
        &self,
        signer: &ChainSigner,
        endpoint: &AxonEndpoint,
    ) -> Result<Submitted, ChainError> {
        endpoint.check()?;
        let lock = self.submission_lock(signer.hotkey()).await;
        let _turn = lock.lock().await;
        self.submit(signer, calls::serve_axon(self.config().netuid, endpoint)).await
    }

    async fn set_weights(
        &self,
        signer: &ChainSigner,
        weights: &[(Uid, u16)],
        version_key: u64,
    ) -> Result<Submitted, ChainError> {
        let lock = self.submission_lock(signer.hotkey()).await;
        let _turn = lock.lock().await;
        self.check_weight_setting(signer.hotkey(), weights, version_key).await?;
        self.submit(signer, calls::set_weights(self.config().netuid, weights, version_key)).await
    }
}

fn number(value: u16) -> Value {
    Value::u128(value.into())
}
