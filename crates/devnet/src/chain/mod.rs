//! A development subtensor chain in this process, for tests and for the embedded network.
//!
//! It speaks Substrate's JSON-RPC over WebSocket and HTTP, on loopback only, and serves the real
//! Bittensor metadata (spec version 393) unchanged, so that a client needs no special case for it.
//!
//! What is real: storage keys and values, SCALE encodings, block hashes, sr25519 signatures over the
//! full payload with all transaction extensions, nonces, mortality, pool refusals with their error
//! codes, the checks of the executed calls in the runtime's order with its error indices, events,
//! rate limits, reads at past blocks. Executed are `set_weights`, `set_mechanism_weights` (mechanism
//! 0), `serve_axon`, `serve_prometheus`, `burned_register` and the three batch forms of `Utility`.
//!
//! What is not:
//! - no consensus and no authorship: one task makes a block each [`DevChainConfig::block_time`]; it
//!   is final after [`DevChainConfig::finality_delay_blocks`];
//! - the epoch is simpler than Yuma (see `epoch`): no bonds, and permits and stake never change;
//! - no fees and no staking; a registration burns its price from the coldkey and that is all;
//! - no commit-reveal of weights: with it switched on, weights are refused and cannot be committed;
//! - the state root is a hash over the changes, not a trie root, so there are no proofs;
//! - state is kept for the last 2048 blocks, blocks for the last 4096; a batch's calls are not
//!   checked by the pool, only when executed, as on the real chain;
//! - other calls are refused by the pool with code 1002, other runtime APIs with code 4003;
//! - the zero address is refused in `serve_axon`, which some runtime versions let pass;
//! - `state_getMetadata` gives V15, not V14.
//!
//! The data file, if there is one, is written before anybody hears of a block with transactions, and
//! each 256 blocks. After an unclean end the chain makes as many empty blocks as can have been lost,
//! so that no announced height comes twice.

mod calls;
mod epoch;
mod events;
mod extrinsic;
mod genesis;
mod ledger;
mod names;
mod neurons;
mod node;
mod pallet;
mod persist;
mod pool;
mod rpc;
mod runtime;
mod runtime_api;
mod state;
#[cfg(test)]
mod tests;
mod types;
mod view;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, Hotkey, NetUid, Rao, Uid};
use jsonrpsee::server::{Server, ServerConfig, ServerHandle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use node::{Intervention, Node};

/// Blocks between two writes of the data file while nothing happens.
const PERSIST_EVERY_BLOCKS: u64 = 256;
/// Shortest time between two blocks.
const MIN_BLOCK_TIME: Duration = Duration::from_millis(1);
/// Pause before a failed write of the data file is tried again.
const PERSIST_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a start waits for another chain to leave the data file.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two tries to get the data file.
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Open connections.
const MAX_CONNECTIONS: u32 = 512;
/// Largest request, bytes.
const MAX_REQUEST_BYTES: u32 = 4 * 1024 * 1024;
/// Largest answer, bytes: the metadata takes 630 kB.
const MAX_RESPONSE_BYTES: u32 = 16 * 1024 * 1024;

/// Settings of a development chain.
#[derive(Debug, Clone)]
pub struct DevChainConfig {
    /// Address to listen on; must be loopback. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Real time between two blocks, at least 1 ms; 12 s on the real chain.
    pub block_time: Duration,
    /// Blocks until a block is final; 0 = at once.
    pub finality_delay_blocks: u64,
    /// Where the state is kept over restarts; `None` = in memory only.
    pub data_file: Option<PathBuf>,
    /// The one subnet; not 0, which is the root network.
    pub netuid: NetUid,
    /// Epoch length, blocks.
    pub tempo: u16,
    /// Neurons that hold a slot from the start, in uid order. Ones that a continued chain lacks are
    /// added.
    pub genesis: Vec<GenesisNeuron>,
    /// Blocks between two settings of weights by a uid.
    pub weights_set_rate_limit: u64,
    /// Whether plain `set_weights` is refused.
    pub commit_reveal: bool,
    /// Least number of uids in a weight vector, capped by the number of neurons.
    pub min_allowed_weights: u16,
    /// Largest share of one weight, of 65535 = no limit.
    pub max_weights_limit: u16,
    /// Least `version_key`, 0 = any.
    pub weights_version_key: u64,
    /// Blocks between two `serve_axon` of a hotkey.
    pub serving_rate_limit: u64,
    /// Slots of the subnet.
    pub max_allowed_uids: u16,
    /// Blocks for which a new neuron cannot be replaced by a registration.
    pub immunity_period: u16,
    /// Least stake for setting weights.
    pub stake_threshold: Rao,
    /// Dates the blocks.
    pub clock: Arc<dyn Clock>,
}

/// A neuron that is there from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisNeuron {
    /// The neuron's key.
    pub hotkey: Hotkey,
    /// The owner's key.
    pub coldkey: [u8; 32],
    /// Alpha on the subnet.
    pub stake: Rao,
    /// Whether it may set weights that count.
    pub validator_permit: bool,
    /// Free TAO of the coldkey, added once a neuron.
    pub balance: Rao,
}

/// Why a development chain cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DevChainError {
    /// The chain has no protection, so it must not be reachable.
    #[error("development chain cannot listen on {0}, only loopback addresses are allowed")]
    NotLoopback(SocketAddr),
    /// The root network is no subnet.
    #[error("development chain cannot have netuid 0, choose another")]
    RootNetuid,
    /// The address is taken, or not this machine's.
    #[error("development chain cannot listen on {address}: {source}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The embedded metadata does not fit the code.
    #[error("embedded chain metadata {0}, rebuild with the right file")]
    Metadata(String),
    /// The table of RPC methods is inconsistent.
    #[error("rpc methods cannot be registered: {0}")]
    Methods(#[from] jsonrpsee::core::RegisterMethodError),
    /// The data file cannot be read.
    #[error("chain data file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data file cannot be written.
    #[error("chain data file {} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data file is not one, is cut or altered, or belongs to another chain.
    #[error("chain data file {} is not usable: {reason}; move it away to start a new chain", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another running chain has the data file.
    #[error("chain data file {} is in use by another chain, stop that one first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The task that makes blocks has ended by a panic.
    #[error("the block maker has ended unexpectedly: {0}")]
    BlockMaker(#[from] tokio::task::JoinError),
}

impl DevChainError {
    /// Says whether the same call can succeed later without a change by the operator.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Listen { .. } | Self::Write { .. } | Self::InUse { .. })
    }
}

impl DevChainConfig {
    /// Returns a chain in memory on a free port, with a block each 100 ms, and no rate limits.
    pub fn local(netuid: NetUid, clock: Arc<dyn Clock>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            block_time: Duration::from_millis(100),
            finality_delay_blocks: 0,
            data_file: None,
            netuid,
            tempo: 360,
            genesis: Vec::new(),
            weights_set_rate_limit: 0,
            commit_reveal: false,
            min_allowed_weights: 1,
            max_weights_limit: u16::MAX,
            weights_version_key: 0,
            serving_rate_limit: 0,
            max_allowed_uids: 256,
            immunity_period: 4096,
            stake_threshold: Rao(0),
            clock,
        }
    }
}

/// A running development chain; dropping it stops it and frees the port.
#[derive(Debug)]
pub struct DevChain {
    node: Arc<Node>,
    ws_url: String,
    address: SocketAddr,
    server: ServerHandle,
    stop: watch::Sender<bool>,
    block_maker: Option<JoinHandle<Result<(), DevChainError>>>,
}

/// Starts a chain: reads the data file, listens, and makes blocks on the current tokio runtime.
///
/// # Errors
/// [`DevChainError`] says what the operator has to change.
pub async fn spawn(config: DevChainConfig) -> Result<DevChain, DevChainError> {
    if !config.listen.ip().is_loopback() {
        return Err(DevChainError::NotLoopback(config.listen));
    }
    if config.netuid.0 == 0 {
        return Err(DevChainError::RootNetuid);
    }
    let lock = match &config.data_file {
        Some(path) => Some(lock_data_file(path).await?),
        None => None,
    };
    let listen = config.listen;
    let node = Arc::new(tokio::task::spawn_blocking(move || start_node(config)).await??);

    let server_config = ServerConfig::builder()
        .max_connections(MAX_CONNECTIONS)
        .max_request_body_size(MAX_REQUEST_BYTES)
        .max_response_body_size(MAX_RESPONSE_BYTES)
        .set_tcp_no_delay(true)
        .build();
    let listen_error = |source| DevChainError::Listen { address: listen, source };
    let server =
        Server::builder().set_config(server_config).build(listen).await.map_err(listen_error)?;
    let address = server.local_addr().map_err(listen_error)?;
    let server = server.start(rpc::module(Arc::clone(&node))?);

    let (stop, stopped) = watch::channel(false);
    let block_maker = tokio::spawn(make_blocks(Arc::clone(&node), lock, stopped));
    tracing::info!(%address, netuid = %node.config.netuid, block = node.read().best(), "development chain is up");
    Ok(DevChain {
        node,
        ws_url: format!("ws://{address}"),
        address,
        server,
        stop,
        block_maker: Some(block_maker),
    })
}

impl DevChain {
    /// Returns the address for a client, `ws://127.0.0.1:<port>`.
    pub fn ws_url(&self) -> &str {
        &self.ws_url
    }

    /// Returns the address that the chain listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the height of the best block.
    pub fn block(&self) -> u64 {
        self.node.read().best()
    }

    /// Returns the height of the newest final block.
    pub fn finalized_block(&self) -> u64 {
        self.node.read().finalized()
    }

    /// Returns the weights that a uid has set, in the order in which it sent them.
    pub fn weights(&self, uid: Uid) -> Vec<(Uid, u16)> {
        self.at_best(|view, netuid| view.weights(netuid, uid.0))
            .into_iter()
            .map(|(uid, weight)| (Uid(uid), weight))
            .collect()
    }

    /// Returns the uid of a hotkey.
    pub fn uid(&self, hotkey: &Hotkey) -> Option<Uid> {
        self.at_best(|view, netuid| view.uid(netuid, hotkey.as_bytes())).map(Uid)
    }

    /// Returns the hotkey at a uid.
    pub fn hotkey(&self, uid: Uid) -> Option<Hotkey> {
        self.at_best(|view, netuid| view.hotkey(netuid, uid.0)).map(Hotkey::from_bytes)
    }

    /// Returns a uid's share of the miners' emission of the last epoch, of 65535.
    pub fn incentive(&self, uid: Uid) -> u16 {
        self.at_best(|view, netuid| view.of_uid(names::Item::Incentive, netuid, uid.0))
    }

    /// Gives the next free slot to a neuron, with the next block and without a transaction. A hotkey
    /// that is registered already stays as it is.
    pub fn register(&self, neuron: GenesisNeuron) {
        self.node.intervene(Intervention::Register(neuron));
    }

    /// Gives a taken slot to another hotkey with the next block, as a registration on a full subnet
    /// does: the old neuron's address, weights and scores are gone.
    pub fn replace(&self, uid: Uid, hotkey: Hotkey, coldkey: [u8; 32]) {
        self.node.intervene(Intervention::Replace { uid: uid.0, hotkey, coldkey });
    }

    /// Deregisters the neuron at a uid with the next block. A slot of a real subnet never becomes
    /// empty, so a hotkey that nobody has takes it; it is returned.
    pub fn deregister(&self, uid: Uid) -> Hotkey {
        let name = (b"deregistered", uid.0, self.block());
        let nobody = sp_crypto_hashing::blake2_256(&parity_scale_codec::Encode::encode(&name));
        self.replace(uid, Hotkey::from_bytes(nobody), nobody);
        Hotkey::from_bytes(nobody)
    }

    /// Stops the chain: no more blocks, state on disk, connections closed, port free.
    ///
    /// # Errors
    /// [`DevChainError::Write`] when the last state could not be written.
    pub async fn stop(mut self) -> Result<(), DevChainError> {
        self.stop.send_replace(true);
        let result = match self.block_maker.take() {
            Some(block_maker) => block_maker.await?,
            None => Ok(()),
        };
        // Stopping fails only when the server has stopped already.
        self.server.stop().ok();
        self.server.clone().stopped().await;
        result
    }

    fn at_best<T>(&self, read: impl FnOnce(view::View<'_>, u16) -> T) -> T {
        let inner = self.node.read();
        let storage = state::StateAt { state: &inner.state, block: inner.best() };
        read(view::View::new(&self.node.runtime, &storage), self.node.config.netuid.0)
    }
}

impl Drop for DevChain {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.server.stop().ok();
    }
}

/// Takes the right to write the data file, waiting a little for a chain that is just being dropped.
async fn lock_data_file(path: &Path) -> Result<persist::Lock, DevChainError> {
    let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
    loop {
        if let Some(lock) = persist::lock(path)? {
            return Ok(lock);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(DevChainError::InUse { path: path.to_owned() });
        }
        tokio::time::sleep(LOCK_RETRY_PAUSE).await;
    }
}

/// Reads the data file and makes up for blocks that may have been lost.
fn start_node(config: DevChainConfig) -> Result<Node, DevChainError> {
    let saved = match &config.data_file {
        Some(path) => persist::load(path)?,
        None => None,
    };
    let lost_blocks = match &saved {
        Some(saved) if !saved.is_clean => PERSIST_EVERY_BLOCKS,
        _ => 0,
    };
    let node = Node::new(config, saved)?;
    for _ in 0..lost_blocks {
        let made = node.make_block(node.config.clock.now_ms());
        node.announce(made);
    }
    if let Some(path) = &node.config.data_file {
        persist::save(path, &node.to_saved(false))?;
    }
    Ok(node)
}

/// Makes a block each block time until told to stop, then writes the data file. The lock is held as
/// long as anything can be written.
async fn make_blocks(
    node: Arc<Node>,
    lock: Option<persist::Lock>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), DevChainError> {
    let mut timer = tokio::time::interval(node.config.block_time.max(MIN_BLOCK_TIME));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer.tick().await; // the first tick comes at once
    let mut unsaved_blocks = 0;
    loop {
        tokio::select! {
            biased;
            // The sender is gone when the chain has been dropped.
            _ = stopped.wait_for(|is_stopped| *is_stopped) => break,
            _ = timer.tick() => {}
        }
        let made = node.make_block(node.config.clock.now_ms());
        unsaved_blocks += 1;
        if made.must_persist || unsaved_blocks >= PERSIST_EVERY_BLOCKS {
            while let Err(error) = save(&node, false).await {
                tracing::error!(%error, "no further blocks until the chain's state can be written");
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|is_stopped| *is_stopped) => return Err(error),
                    () = tokio::time::sleep(PERSIST_RETRY_PAUSE) => {}
                }
            }
            unsaved_blocks = 0;
        }
        node.announce(made);
    }
    node.drop_waiting();
    let result = save(&node, true).await;
    drop(lock);
    result
}

async fn save(node: &Arc<Node>, is_clean: bool) -> Result<(), DevChainError> {
    if node.config.data_file.is_none() {
        return Ok(());
    }
    let node = Arc::clone(node);
    tokio::task::spawn_blocking(move || match &node.config.data_file {
        Some(path) => persist::save(path, &node.to_saved(is_clean)),
        None => Ok(()),
    })
    .await?
}
