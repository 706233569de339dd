//! The embedded network: simulators, misbehaving miners and the daemon's own nodes in one process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use forecastd_actors::events::{EventLine, EventSink};
use forecastd_chain::{AxonEndpoint, Chain as _, ChainConfig, Keypair, Subtensor};
use forecastd_core::{Clock, Rao, ScaledClock, Signer};
use forecastd_devnet::chain::{DevChain, DevChainConfig, GenesisNeuron};
use forecastd_devnet::exchange::SimExchange;
use forecastd_devnet::peers::{self, LiarKind, PeerHandle, PeerKind};
use forecastd_exchange::Exchange;
use forecastd_wire::AxonTarget;

use super::board::Names;
use super::exchanges;
use super::plan::{self, Member, Part, Simulators};
use super::progress::{Progress, ProgressFile};
use crate::clock::{SteadyClock, SystemClock};
use crate::config::{Config, DevMiner};
use crate::daemon::{Daemon, Environment};

/// The chain's state in the data directory.
const CHAIN_FILE: &str = "chain.bin";
/// Tries to publish a peer's axon; the chain makes blocks all the time.
const SERVE_TRIES: usize = 20;
/// Pause between them.
const SERVE_PAUSE: Duration = Duration::from_millis(250);
/// How late the late miner answers, real time; well over the floor of the time-outs.
const LATE: Duration = Duration::from_secs(3);
/// Time that a stopping misbehaving miner gives to answers under way.
const PEER_GRACE: Duration = Duration::from_millis(100);
/// Protocol and version that the misbehaving miners publish.
const PEER_VERSION: u32 = 10_005_000;

/// A reader of the reports.
type Reports = tokio::sync::broadcast::Receiver<Arc<EventLine>>;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Market time for one unit of real time.
    pub speed: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// Where everything is kept.
    pub data_dir: PathBuf,
}

/// A running embedded network.
#[derive(Debug)]
pub struct Network {
    /// The nodes that run the daemon's actors; the validator is the first.
    pub daemons: Vec<(Member, Daemon)>,
    /// Market time.
    pub market: Arc<dyn Clock>,
    /// Names by hotkey.
    pub names: Names,
    /// Reports of all nodes.
    pub events: EventSink,
    /// Their reader from before the first of them, until somebody takes it.
    pub reports: Option<Reports>,
    /// Addresses of the simulators.
    pub simulators: Simulators,
    /// Market time of the first start.
    pub began_ms: i64,
    /// Market time at which the recording ends.
    pub ends_ms: i64,
    progress: ProgressFile,
    state: Progress,
    peers: Vec<PeerHandle>,
    chain: DevChain,
    exchanges: BTreeMap<String, SimExchange>,
    options: Options,
}

impl Network {
    /// Starts everything and publishes the misbehaving miners' axons.
    ///
    /// # Errors
    /// The data directory, a port or a node cannot be used.
    pub async fn start(base: &Config, options: Options) -> anyhow::Result<Self> {
        let data_dir = &options.data_dir;
        std::fs::create_dir_all(data_dir)
            .with_context(|| format!("creating the data directory {}", data_dir.display()))?;
        let recordings = exchanges::recordings(base)?;
        let progress = ProgressFile::new(data_dir);
        let mut state = match progress.load()? {
            Some(state) => state,
            None => Progress::new(base.dev.start.ms),
        };
        let ends_ms = exchanges::check_span(base, &recordings, &state)?;

        let real: Arc<dyn Clock> = Arc::new(SystemClock);
        let steady: Arc<dyn Clock> = Arc::new(SteadyClock::start());
        let market: Arc<dyn Clock> =
            Arc::new(ScaledClock::new(steady, state.market_ms, options.speed));
        let events = EventSink::new(Arc::clone(&market), "network".into());
        let reports = Some(events.subscribe());
        let members = plan::members(&base.dev.miners);
        let exchanges = exchanges::start(base, &recordings, &market).await?;
        let chain = start_chain(base, &members, data_dir, &market).await?;
        let simulators = Simulators {
            chain: chain.ws_url().to_owned(),
            exchanges: exchanges::addresses(&exchanges),
        };
        state.chain.clone_from(&simulators.chain);
        state.exchanges.clone_from(&simulators.exchanges);
        progress.save(&state)?;

        let checkpoints = crate::assets::checkpoints(data_dir)?;
        let mut names = BTreeMap::new();
        for member in &members {
            names.insert(member.key()?.hotkey(), member.name.clone());
        }
        let mut daemons = Vec::new();
        for member in &members {
            let Some(role) = member.role() else { continue };
            let mut config = plan::node_config(base, member, &simulators, data_dir, &checkpoints);
            config.http.listen = match member.part {
                Part::Validator => free_or_any(config.http.listen),
                _ => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            };
            config.miner.listen = axon_listen(&state, &member.name);
            let environment = Environment {
                name: member.name.as_str().into(),
                role,
                key: Arc::new(member.key()?),
                market: Arc::clone(&market),
                real: Arc::clone(&real),
                events: events.for_node(member.name.as_str().into()),
                with_admin: member.part == Part::Validator,
                publish_bound: true,
            };
            let daemon = Daemon::start(config, environment).await;
            let daemon = daemon.with_context(|| format!("starting {}", member.name))?;
            daemons.push((member.clone(), daemon));
        }
        let victim = daemons
            .iter()
            .find(|(member, _)| matches!(member.part, Part::Honest(_)))
            .and_then(|(_, daemon)| {
                let address = daemon.axon_address()?;
                Some(AxonTarget { hotkey: daemon.node().hotkey(), address })
            });
        let spy: Arc<dyn Signer> = Arc::new(plan::spy()?);
        let mut hostile = Vec::new();
        for member in &members {
            let Part::Hostile(kind) = member.part else { continue };
            let Some(kind) = peer_kind(kind, victim.as_ref(), &spy) else { continue };
            let listen = axon_listen(&state, &member.name);
            let peer = start_peer(member, kind, listen, base, &simulators, &real).await?;
            state.axon_ports.insert(member.name.clone(), peer.address().port());
            hostile.push(peer);
        }
        for (member, daemon) in &daemons {
            if let Some(address) = daemon.axon_address() {
                state.axon_ports.insert(member.name.clone(), address.port());
            }
        }
        progress.save(&state)?;
        let began_ms = state.began_ms;
        Ok(Self {
            daemons,
            market,
            names,
            events,
            reports,
            simulators,
            began_ms,
            ends_ms,
            progress,
            state,
            peers: hostile,
            chain,
            exchanges,
            options,
        })
    }

    /// Returns the configuration of a member under another base configuration. Its listeners stay
    /// what they are: they are the network's, not the file's.
    ///
    /// # Errors
    /// The checkpoints cannot be unpacked.
    pub fn config_of(&self, base: &Config, member: &Member) -> anyhow::Result<Config> {
        let data_dir = &self.options.data_dir;
        let checkpoints = crate::assets::checkpoints(data_dir)?;
        let mut config = plan::node_config(base, member, &self.simulators, data_dir, &checkpoints);
        let running = self.daemons.iter().find(|(known, _)| known.name == member.name);
        if let Some((_, daemon)) = running {
            config.miner.listen = daemon.config().miner.listen;
            config.http.listen = daemon.config().http.listen;
        }
        Ok(config)
    }

    /// Saves where the market clock stands.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_progress(&mut self) -> anyhow::Result<()> {
        self.state.market_ms = self.market.now_ms();
        self.progress.save(&self.state)
    }

    /// Returns the simulator of an exchange that the configuration reads.
    pub fn exchange(&self, exchange: Exchange) -> Option<&SimExchange> {
        let of = format!("{exchange} ");
        self.exchanges.iter().find(|(market, _)| market.starts_with(&of)).map(|(_, sim)| sim)
    }

    /// Returns the validator.
    pub fn validator(&self) -> Option<&Daemon> {
        self.daemons.first().map(|(_, daemon)| daemon)
    }

    /// Stops everything in order. True when every node finished in time.
    pub async fn stop(mut self) -> bool {
        let saved = self.save_progress();
        if let Err(error) = &saved {
            tracing::warn!(%error, "market time not saved");
        }
        for peer in self.peers {
            peer.stop(PEER_GRACE).await;
        }
        let mut graceful = saved.is_ok();
        for (_, daemon) in self.daemons {
            graceful &= daemon.stop().await;
        }
        if let Err(error) = self.chain.stop().await {
            tracing::warn!(%error, "development chain not stopped cleanly");
            graceful = false;
        }
        for exchange in self.exchanges.into_values() {
            exchange.stop().await;
        }
        graceful
    }
}

/// Returns `wanted`, or any port of its address when another network on this machine has it.
fn free_or_any(wanted: SocketAddr) -> SocketAddr {
    match std::net::TcpListener::bind(wanted) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            tracing::info!(%wanted, "port is in use, taking a free one");
            SocketAddr::new(wanted.ip(), 0)
        }
        // Another failure is explained where the listener is started.
        _ => wanted,
    }
}

/// Returns the address that a miner had before, or any port of it.
fn axon_listen(state: &Progress, name: &str) -> SocketAddr {
    let port = state.axon_ports.get(name).copied().unwrap_or(0);
    free_or_any(SocketAddr::new(plan::AXON_IP, port))
}

async fn start_chain(
    base: &Config,
    members: &[Member],
    data_dir: &Path,
    market: &Arc<dyn Clock>,
) -> anyhow::Result<DevChain> {
    let mut genesis = Vec::new();
    for member in members {
        let is_validator = member.part == Part::Validator;
        let stake = if is_validator { plan::VALIDATOR_STAKE } else { plan::MINER_STAKE };
        let coldkey = Keypair::from_uri(&format!("{}//cold", member.uri))?;
        genesis.push(GenesisNeuron {
            hotkey: member.key()?.hotkey(),
            coldkey: *coldkey.hotkey().as_bytes(),
            stake: Rao(stake),
            validator_permit: is_validator,
            balance: Rao(0),
        });
    }
    // A validator that asks nobody: the copier asks with its key, or no miner would answer.
    genesis.push(GenesisNeuron {
        hotkey: plan::spy()?.hotkey(),
        coldkey: [9; 32],
        stake: Rao(plan::MINER_STAKE),
        validator_permit: true,
        balance: Rao(0),
    });
    let config = DevChainConfig {
        block_time: base.dev.block_time,
        data_file: Some(data_dir.join(CHAIN_FILE)),
        tempo: base.dev.tempo,
        genesis,
        weights_set_rate_limit: base.dev.weights_rate_limit,
        ..DevChainConfig::local(base.network.net_uid(), Arc::clone(market))
    };
    forecastd_devnet::chain::spawn(config).await.context("starting the development chain")
}

fn peer_kind(
    kind: DevMiner,
    victim: Option<&AxonTarget>,
    spy: &Arc<dyn Signer>,
) -> Option<PeerKind> {
    match kind {
        DevMiner::Copier => victim
            .map(|victim| PeerKind::Copier { victim: *victim, asks_as: Some(Arc::clone(spy)) }),
        DevMiner::Liar => Some(PeerKind::Liar(LiarKind::Alternating)),
        DevMiner::Silent => Some(PeerKind::Silent),
        DevMiner::Late => Some(PeerKind::Late { delay: LATE }),
        _ => None,
    }
}

async fn start_peer(
    member: &Member,
    kind: PeerKind,
    listen: SocketAddr,
    base: &Config,
    simulators: &Simulators,
    real: &Arc<dyn Clock>,
) -> anyhow::Result<PeerHandle> {
    let key = Arc::new(member.key()?);
    let signer: Arc<dyn Signer> = Arc::clone(&key) as _;
    let peer = peers::spawn(kind, listen, signer, Arc::clone(real))
        .await
        .with_context(|| format!("starting the miner {}", member.name))?;
    let endpoint = AxonEndpoint {
        ip: peer.address().ip(),
        port: peer.address().port(),
        protocol: 4,
        version: PEER_VERSION,
    };
    let config = ChainConfig::new(vec![simulators.chain.clone()], base.network.net_uid());
    let chain = Subtensor::new(config)?;
    let mut tries = 0;
    loop {
        match chain.serve_axon(&key.chain_signer(), &endpoint).await {
            Ok(_) => return Ok(peer),
            Err(error) if tries < SERVE_TRIES => {
                tries += 1;
                tracing::debug!(%error, name = member.name, "axon not served yet");
                tokio::time::sleep(SERVE_PAUSE).await;
            }
            Err(error) => return Err(error).context("publishing a miner's axon"),
        }
    }
}
