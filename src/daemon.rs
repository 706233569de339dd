//! One running node: store, key, chain, listeners and the actor tree, started and stopped in order.
//!
//! The tree can be restarted in place (SIGHUP): store, listeners and boards stay. A reload applies
//! live keys by one pointer swap, restarts the actors of the others, and names those that need a
//! restart of the tree.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use forecastd_actors::address_book::AddressBook;
use forecastd_actors::drain::Drain;
use forecastd_actors::events::{Event, EventSink};
use forecastd_actors::faults::Faults;
use forecastd_actors::node::{Boards, Node};
use forecastd_actors::responder::Desk;
use forecastd_actors::sources::Sources;
use forecastd_actors::tree::{Tree, TreeParts};
use forecastd_actors::vitals::VitalsRegistry;
use forecastd_chain::{AxonEndpoint, Chain, ChainConfig, Keypair, Subtensor};
use forecastd_core::{Clock, Role, Signer};
use forecastd_store::{Identity, Store, StoreConfig};
use forecastd_wire::{Axon, AxonConfig, Dendrite, DendriteConfig};
use tracing::{info, warn};

use crate::admin::{Admin, AdminState};
use crate::assemble;
use crate::config::{self, Config, ConfigDiff, ReloadClass};
use crate::exit::Exit;
use crate::streams;

/// Version that is published with the axon: `major·10⁶ + minor·10³ + patch`.
const AXON_VERSION: u32 = 10_005_000;
/// Protocol number of an axon that speaks over TCP.
const AXON_PROTOCOL: u8 = 4;
/// Longest wait for the actor thread at a restart in place.
const TREE_STOP: Duration = Duration::from_secs(10);

/// What a node gets from its surroundings, not from the file.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Short name for logs and events.
    pub name: Arc<str>,
    /// Which actors run.
    pub role: Role,
    /// The node's key.
    pub key: Arc<Keypair>,
    /// Market time.
    pub market: Arc<dyn Clock>,
    /// Real time.
    pub real: Arc<dyn Clock>,
    /// Where events go.
    pub events: EventSink,
    /// Whether to serve the operator's interface.
    pub with_admin: bool,
    /// Publish the bound address of the axon instead of a configured one (embedded networks).
    pub publish_bound: bool,
}

/// A start that failed, with the exit code that says why.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}")]
pub struct StartError {
    /// The code that the process should end with.
    pub exit: Exit,
    /// What happened.
    pub error: anyhow::Error,
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Keys that hold now.
    pub now: Vec<String>,
    /// Keys that hold after SIGHUP or a restart of the process.
    pub later: Vec<String>,
}

/// A running node.
#[derive(Debug)]
pub struct Daemon {
    node: Node,
    config: Config,
    environment: Environment,
    tree: Option<Tree>,
    axon: Option<Axon>,
    admin: Option<Admin>,
    state: Arc<AdminState>,
    address_file: PathBuf,
}

fn failed<T>(exit: Exit, result: anyhow::Result<T>) -> Result<T, StartError> {
    result.map_err(|error| StartError { exit, error })
}

impl Daemon {
    /// Starts a node: store, listeners, actor tree. A chain or exchange that is down does not
    /// prevent it.
    ///
    /// # Errors
    /// [`StartError`] with the exit code of the failed step.
    pub async fn start(config: Config, environment: Environment) -> Result<Self, StartError> {
        let store = open_store(&config, &environment).await?;
        failed(Exit::Config, streams::check(&store, &config))?;
        failed(Exit::Store, streams::note(&store, &config).await)?;
        let chain = failed(Exit::Config, chain(&config))?;
        let node = Node {
            name: Arc::clone(&environment.name),
            role: environment.role,
            key: Arc::clone(&environment.key),
            market: Arc::clone(&environment.market),
            real: Arc::clone(&environment.real),
            store,
            chain,
            settings: Arc::new(ArcSwap::from_pointee(assemble::settings(&config, 1))),
            boards: Arc::new(Boards::default()),
            book: Arc::new(AddressBook::default()),
            sources: Arc::new(Sources::default()),
            vitals: Arc::new(VitalsRegistry::default()),
            events: environment.events.clone(),
            faults: Arc::new(Faults::default()),
            drain: Drain::default(),
        };
        let state = Arc::new(AdminState {
            node: node.clone(),
            started_ms: environment.real.now_ms(),
            stopping: AtomicBool::new(false),
            reload_failures: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let axon = if environment.role.is_miner() {
            let bound = start_axon(&config, &node).await;
            Some(bound.map_err(|error| StartError { exit: bind_exit(&error), error })?)
        } else {
            None
        };
        let admin = if environment.with_admin {
            let started = Admin::start(&config.http, Arc::clone(&state));
            Some(started.map_err(|error| StartError { exit: bind_exit(&error), error })?)
        } else {
            None
        };
        let address_file = config.store.path.join("forecastd.address.json");
        let mut daemon =
            Self { node, config, environment, tree: None, axon, admin, state, address_file };
        failed(Exit::DataDir, daemon.write_address_file())?;
        failed(Exit::Internal, daemon.start_tree().await)?;
        Ok(daemon)
    }

    /// The node.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The configuration that holds.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The address of the operator's interface.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// The address that the miner's axon is bound to.
    pub fn axon_address(&self) -> Option<SocketAddr> {
        self.axon.as_ref().map(Axon::address)
    }

    /// Returns the actor's name when the tree gave up by itself.
    pub fn has_given_up(&mut self) -> Option<String> {
        self.tree.as_mut()?.has_given_up()
    }

    /// Resolves with the actor's name when the tree gave up by itself.
    pub async fn gave_up(&mut self) -> String {
        match &mut self.tree {
            Some(tree) => tree.gave_up().await,
            None => std::future::pending().await,
        }
    }

    /// Applies a configuration that differs by `diff`: live keys at once, actors restarted for the
    /// others; keys that need more are reported and left as they are.
    pub async fn reload(&mut self, new: Config, diff: &ConfigDiff) -> Applied {
        let mut applied = Applied::default();
        let mut actors = Vec::new();
        for change in &diff.changes {
            match change.class {
                ReloadClass::Live => applied.now.push(change.key.clone()),
                ReloadClass::Part(actor) => {
                    applied.now.push(change.key.clone());
                    actors.push(actor_name(actor));
                }
                ReloadClass::Start => applied.later.push(change.key.clone()),
            }
        }
        self.config = diff.apply_without_start(&self.config, &new);
        self.publish_settings();
        let generation = self.node.settings.load().generation;
        actors.sort_unstable();
        actors.dedup();
        if let Some(tree) = &self.tree {
            for actor in actors {
                if let Err(error) = tree.restart_actor(actor, "its settings changed").await {
                    warn!(actor, %error, "actor not restarted after a reload");
                }
            }
        }
        self.node.clear_alarm("configuration");
        let detail = applied.now.clone();
        self.node.events.emit(Event::Reload { generation, accepted: true, detail });
        applied
    }

    /// Notes that a changed file was refused.
    pub fn reload_refused(&self, errors: Vec<String>) {
        self.state.reload_failures.fetch_add(1, Ordering::Relaxed);
        let generation = self.node.settings.load().generation;
        self.node.raise_alarm("configuration", format!("refused: {}", errors.join("; ")));
        self.node.events.emit(Event::Reload { generation, accepted: false, detail: errors });
    }

    /// Restarts the actor tree in place under a whole new configuration; returns the keys that need
    /// a new process and keep their old values: whom the store belongs to, where it is, and the
    /// operator's listener.
    ///
    /// The public listener is bound first, and only when its settings changed: when that fails,
    /// nothing has happened. When the tree cannot be started, it is started as it was.
    ///
    /// # Errors
    /// What failed. [`Daemon::is_running`] tells whether the old tree is back.
    pub async fn restart(&mut self, mut new: Config) -> anyhow::Result<Vec<String>> {
        let later = keep_process_keys(&self.config, &mut new);
        streams::check(&self.node.store, &new)?;
        let chain = chain(&new)?;
        streams::note(&self.node.store, &new).await?;
        self.rebind_axon(&new).await?;
        if let Some(tree) = self.tree.take() {
            tree.stop(TREE_STOP).await;
        }
        let old = std::mem::replace(&mut self.config, new);
        let old_chain = std::mem::replace(&mut self.node.chain, chain);
        self.publish_settings();
        self.node.clear_alarm("configuration");
        self.node.events.emit(Event::Restart {
            target: "tree".to_owned(),
            reason: "restart asked for".to_owned(),
        });
        if let Err(error) = self.start_tree().await {
            warn!(%error, "the actor tree does not start, going back to the configuration before");
            self.config = old;
            self.node.chain = old_chain;
            self.publish_settings();
            self.start_tree().await.context("starting the actor tree as it was")?;
            return Err(error);
        }
        self.write_address_file()?;
        Ok(later)
    }

    /// Tells whether the actor tree runs.
    pub const fn is_running(&self) -> bool {
        self.tree.is_some()
    }

    fn publish_settings(&self) {
        let generation = self.node.settings.load().generation + 1;
        self.node.settings.store(Arc::new(assemble::settings(&self.config, generation)));
    }

    /// Binds the public listener anew when its settings changed.
    async fn rebind_axon(&mut self, new: &Config) -> anyhow::Result<()> {
        if self.axon.is_none() || axon_config(new) == axon_config(&self.config) {
            return Ok(());
        }
        if new.miner.listen != self.config.miner.listen {
            let bound = start_axon(new, &self.node).await?;
            if let Some(old) = self.axon.replace(bound) {
                old.stop(assemble::AXON_GRACE).await;
            }
            return Ok(());
        }
        // The same port: the old one has to go first.
        if let Some(old) = self.axon.take() {
            old.stop(assemble::AXON_GRACE).await;
        }
        match start_axon(new, &self.node).await {
            Ok(bound) => self.axon = Some(bound),
            Err(error) => {
                self.axon = Some(start_axon(&self.config, &self.node).await?);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Stops in order: no new requests, actors, store. True when everything was finished in time.
    pub async fn stop(mut self) -> bool {
        self.state.stopping.store(true, Ordering::Relaxed);
        let limit = self.config.supervision.stop_timeout;
        if let Some(axon) = self.axon.take() {
            axon.stop(assemble::AXON_GRACE.min(limit / 4)).await;
        }
        let mut graceful = true;
        if let Some(tree) = self.tree.take() {
            graceful &= tree.stop(limit / 2).await;
        }
        if let Some(admin) = self.admin.take() {
            admin.stop().await;
        }
        // Before the lock is given back: afterwards it may be a successor's.
        if let Err(error) = std::fs::remove_file(&self.address_file) {
            warn!(%error, path = %self.address_file.display(), "address file not removed");
        }
        self.node.store.close().await;
        info!(node = %self.node.name, graceful, "stopped");
        graceful
    }

    async fn start_tree(&mut self) -> anyhow::Result<()> {
        let dendrite = if self.environment.role.is_validator() {
            let config = DendriteConfig {
                max_in_flight: self.config.validator.concurrency,
                body_bytes: usize::try_from(self.config.validator.max_answer.bytes())
                    .unwrap_or(usize::MAX),
                ..DendriteConfig::default()
            };
            let signer: Arc<dyn Signer> = Arc::clone(&self.node.key) as _;
            let real = Arc::clone(&self.node.real);
            Some(Arc::new(Dendrite::new(signer, real, config).context("preparing the client")?))
        } else {
            None
        };
        let parts = TreeParts { dendrite, serve: self.published_axon() };
        self.tree = Some(Tree::start(self.node.clone(), parts).await?);
        Ok(())
    }

    fn published_axon(&self) -> Option<AxonEndpoint> {
        let bound = self.axon.as_ref()?.address();
        let address =
            if self.environment.publish_bound { Some(bound) } else { self.config.miner.external };
        address.map(|address| endpoint(address.ip(), address.port()))
    }

    /// Writes pid and addresses for commands that ask a running daemon.
    fn write_address_file(&self) -> anyhow::Result<()> {
        let content = serde_json::json!({
            "pid": std::process::id(),
            "http": self.admin_address().map(|address| address.to_string()),
            "axon": self.axon_address().map(|address| address.to_string()),
            "hotkey": self.node.hotkey().to_ss58(),
        });
        write_atomically(&self.address_file, content.to_string().as_bytes())
            .with_context(|| format!("writing {}", self.address_file.display()))
    }
}

/// A port that somebody has may be free later; an address that cannot be bound is a wrong one.
fn bind_exit(error: &anyhow::Error) -> Exit {
    let is_taken = error.chain().any(|cause| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::AddrInUse)
    });
    if is_taken { Exit::InUse } else { Exit::Config }
}

/// The actor behind a reload class of the configuration.
fn actor_name(part: &'static str) -> &'static str {
    match part {
        "model_pool" => "forecaster",
        other => other,
    }
}

const fn endpoint(ip: IpAddr, port: u16) -> AxonEndpoint {
    AxonEndpoint { ip, port, protocol: AXON_PROTOCOL, version: AXON_VERSION }
}

async fn open_store(config: &Config, environment: &Environment) -> Result<Store, StartError> {
    let identity = Identity {
        network: config.network.name.to_string(),
        netuid: config.network.net_uid(),
        hotkey: environment.key.hotkey(),
        role: environment.role,
    };
    let mut store_config = StoreConfig::new(config.store.path.clone(), identity);
    store_config.cache_bytes = config.store.cache.bytes();
    store_config.floor_bytes = config.store.floor.bytes();
    let opened = tokio::task::spawn_blocking(move || Store::open(store_config)).await;
    match opened {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(error)) => {
            let exit = Exit::from_code(error.exit_code()).unwrap_or(Exit::Store);
            Err(StartError { exit, error: error.into() })
        }
        Err(error) => Err(StartError { exit: Exit::Internal, error: error.into() }),
    }
}

/// Makes the chain's client; it connects when it is first asked.
fn chain(config: &Config) -> anyhow::Result<Arc<dyn Chain>> {
    let mut chain = ChainConfig::new(config.network.node_urls(), config.network.net_uid());
    chain.call_timeout = config.network.call_timeout;
    chain.mortality_blocks = config.network.mortality_blocks;
    Ok(Arc::new(Subtensor::new(chain).context("checking the chain's settings")?))
}

/// Gives the keys that only a new process can change their old values, and returns those that
/// differed.
fn keep_process_keys(old: &Config, new: &mut Config) -> Vec<String> {
    let needs_process = |key: &str| {
        let whole = ["network.name", "network.netuid", "store.path", "store.cache"];
        whole.contains(&key) || key.starts_with("wallet.") || key.starts_with("http.")
    };
    let changes = config::diff(old, new).changes.into_iter().map(|change| change.key);
    let later = changes.filter(|key| needs_process(key)).collect();
    new.network.name.clone_from(&old.network.name);
    new.network.netuid = old.network.netuid;
    new.store.path.clone_from(&old.store.path);
    new.store.cache = old.store.cache;
    new.wallet.clone_from(&old.wallet);
    new.http.clone_from(&old.http);
    later
}

fn axon_config(config: &Config) -> AxonConfig {
    let miner = &config.miner;
    let mut axon =
        AxonConfig { listen: miner.listen, workers: miner.workers, ..AxonConfig::default() };
    axon.nonce_window = miner.nonce_window;
    axon.limits.body_bytes = usize::try_from(miner.max_body.bytes()).unwrap_or(usize::MAX);
    axon.limits.connections = miner.max_connections;
    axon.limits.request_timeout = miner.request_timeout;
    axon
}

async fn start_axon(config: &Config, node: &Node) -> anyhow::Result<Axon> {
    let signer: Arc<dyn Signer> = Arc::clone(&node.key) as _;
    let desk = Arc::new(Desk::new(node.clone()));
    Axon::spawn(axon_config(config), signer, Arc::clone(&node.real), desk)
        .await
        .with_context(|| format!("listening on {} (config key miner.listen)", config.miner.listen))
}

/// Replaces a file as a whole: readers see the old or the new content.
///
/// # Errors
/// Any I/O error; the old content stays.
pub fn write_atomically(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, content)?;
    std::fs::File::open(&draft)?.sync_all()?;
    std::fs::rename(&draft, path)
}
