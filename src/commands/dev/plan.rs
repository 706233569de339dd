//! Who takes part in the embedded network, and with which configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use forecastd_chain::Keypair;
use forecastd_core::Role;
use forecastd_models::ModelKind;
use serde::{Deserialize, Serialize};

use super::exchanges;
use crate::config::{ByteSize, Config, DevMiner, ModelConfig, Network, Secret};

/// Where the embedded miners listen. The chain refuses exactly 127.0.0.1 as an axon's address, as
/// the real one does, so they use its neighbour on the same loopback network.
pub(super) const AXON_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Longest wait of a query for a fresh forecast, real time; well below the floor of the time-outs.
const FRESH_WAIT: Duration = Duration::from_millis(250);
/// Cache of each embedded node's databases.
const NODE_CACHE: ByteSize = ByteSize(8 << 20);
/// Stake of the embedded validator, RAO.
pub(super) const VALIDATOR_STAKE: u64 = 10_000_000_000_000;
/// Stake of an embedded miner, RAO.
pub(super) const MINER_STAKE: u64 = 1_000_000_000;

/// One neuron of the embedded network.
#[derive(Debug, Clone)]
pub struct Member {
    /// Name in events and on the leader board.
    pub name: String,
    /// Its development key.
    pub uri: String,
    /// What it does.
    pub part: Part,
}

/// What a neuron does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Validates, with the daemon's own actors.
    Validator,
    /// Mines with the daemon's own actors and this model first.
    Honest(DevMiner),
    /// Misbehaves.
    Hostile(DevMiner),
}

/// Returns the members: one validator, then the configured miners.
pub(super) fn members(miners: &[DevMiner]) -> Vec<Member> {
    let mut members = vec![Member {
        name: "validator".to_owned(),
        uri: "//Validator".to_owned(),
        part: Part::Validator,
    }];
    for (index, miner) in miners.iter().enumerate() {
        let part = match miner {
            DevMiner::Model | DevMiner::Last | DevMiner::Drift | DevMiner::Ema => {
                Part::Honest(*miner)
            }
            DevMiner::Copier | DevMiner::Liar | DevMiner::Silent | DevMiner::Late => {
                Part::Hostile(*miner)
            }
        };
        let twin = miners.iter().take(index).filter(|other| *other == miner).count();
        let name = match twin {
            0 => miner.as_str().to_owned(),
            twin => format!("{}-{}", miner.as_str(), twin + 1),
        };
        members.push(Member { name, uri: format!("//Miner//{index}"), part });
    }
    members
}

/// Returns the key of a registered validator that belongs to the copier.
///
/// # Errors
/// Never; a development key always derives.
pub(super) fn spy() -> anyhow::Result<Keypair> {
    Keypair::from_uri("//Spy").context("deriving the key //Spy")
}

impl Member {
    /// Returns the member's key.
    ///
    /// # Errors
    /// Never for the members of this module; a development key always derives.
    pub fn key(&self) -> anyhow::Result<Keypair> {
        Keypair::from_uri(&self.uri).with_context(|| format!("deriving the key {}", self.uri))
    }

    /// Returns the daemon's role of a member that runs the daemon's actors.
    pub const fn role(&self) -> Option<Role> {
        match self.part {
            Part::Validator => Some(Role::Validator),
            Part::Honest(_) => Some(Role::Miner),
            Part::Hostile(_) => None,
        }
    }
}

/// The addresses of the simulators.
#[derive(Debug, Clone)]
pub struct Simulators {
    /// The chain's WebSocket.
    pub chain: String,
    /// The exchanges, by market.
    pub exchanges: BTreeMap<String, ExchangeAddress>,
}

/// The addresses of a simulated exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeAddress {
    /// Its WebSocket.
    pub ws: String,
    /// Its REST interface.
    pub rest: String,
}

/// Returns the configuration of one member: the user's, with the simulators' addresses, a
/// directory and a free port of its own, and time limits that fit a fast clock.
pub(super) fn node_config(
    base: &Config,
    member: &Member,
    simulators: &Simulators,
    data_dir: &Path,
    checkpoints: &Path,
) -> Config {
    let mut config = base.clone();
    config.network.name = Network::Local;
    config.network.endpoints = vec![simulators.chain.clone()];
    config.wallet.uri = Secret::new(member.uri.clone());
    config.store.path = data_dir.join(&member.name);
    config.store.cache = NODE_CACHE;
    for feed in &mut config.feed {
        if let Some(address) = simulators.exchanges.get(&exchanges::market(feed)) {
            feed.ws_url = Some(address.ws.clone());
            feed.rest_url = Some(address.rest.clone());
        }
        feed.backoff_max = feed.backoff_max.min(Duration::from_secs(2));
    }
    config.model = models(base, member, checkpoints);
    config.miner.listen = SocketAddr::new(AXON_IP, 0);
    config.miner.external = None;
    config.miner.workers = 1;
    config.miner.fresh_wait = config.miner.fresh_wait.min(FRESH_WAIT);
    config.validator.allow_local_axons = true;
    config
}

/// Returns the member's models; the trained one is looked for in `checkpoints` when the
/// configured directory does not exist.
fn models(base: &Config, member: &Member, checkpoints: &Path) -> Vec<ModelConfig> {
    let Part::Honest(miner) = member.part else { return Vec::new() };
    let baseline = |kind: ModelKind, stream: &str| ModelConfig {
        name: kind.as_str().to_owned(),
        stream: stream.to_owned(),
        kind,
        checkpoint: None,
        ..ModelConfig::default()
    };
    let mut models = Vec::new();
    for stream in &base.stream {
        let kind = match miner {
            DevMiner::Drift => ModelKind::Drift,
            DevMiner::Ema => ModelKind::Ema,
            _ => ModelKind::Last,
        };
        if miner == DevMiner::Model {
            let own = base.model.iter().filter(|model| model.stream == stream.id);
            for model in own.filter(|model| model.kind == ModelKind::Burn) {
                let mut model = model.clone();
                let configured = model.checkpoint.clone().unwrap_or_default();
                if !configured.join("config.json").is_file()
                    && let Some(name) = configured.file_name()
                {
                    model.checkpoint = Some(checkpoints.join(name));
                }
                models.push(model);
            }
        }
        models.push(baseline(kind, &stream.id));
    }
    models
}
