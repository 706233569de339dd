//! A small network at real time: simulated exchange, development chain, and daemons on them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forecastd_chain::Keypair;
use forecastd_core::Signer as _;
use serde_json::Value;
use tokio::process::Command;

use crate::Programs;
use crate::process::{Running, free_address};

/// The shipped checkpoint, relative to the repository.
pub(crate) const CHECKPOINT: &str = "models/checkpoints/lstm-small";

/// The daemon's part in the network, with a development key each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Asks and scores.
    Validator,
    /// Forecasts with the trained model.
    Miner,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Miner => "miner",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Validator => "//Validator",
            Self::Miner => "//Miner",
        }
    }

    /// Returns its hotkey, SS58.
    pub(crate) fn hotkey(self) -> anyhow::Result<String> {
        Ok(Keypair::from_uri(self.key())?.hotkey().to_ss58())
    }
}

/// The running simulators and the folder of everything that the daemons write.
#[derive(Debug)]
pub(crate) struct Network {
    simulators: Running,
    addresses: Value,
    folder: Folder,
}

/// One daemon's files and addresses.
#[derive(Debug)]
pub(crate) struct Node {
    part: Part,
    config: PathBuf,
    log: PathBuf,
    /// The operator's interface.
    pub(crate) http: SocketAddr,
    /// The miner's server.
    pub(crate) axon: SocketAddr,
}

impl Network {
    /// Starts the simulators; the keys of all parts are registered, and `validators` (SS58) too.
    /// `peers` further miners answer a flat forecast.
    pub(crate) async fn start(
        programs: &Programs,
        validators: &[String],
        peers: usize,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(programs.example("network"));
        command.args(["--validator", Part::Validator.key(), "--miner", Part::Miner.key()]);
        for validator in validators {
            command.args(["--validator", validator]);
        }
        command.args(["--peers", &peers.to_string()]);
        let (simulators, addresses) =
            Running::start_saying(command).await.context("starting the simulators")?;
        Ok(Self { simulators, addresses, folder: Folder::new(programs, "network")? })
    }

    /// Writes the configuration of a daemon with free ports.
    pub(crate) async fn node(&self, programs: &Programs, part: Part) -> anyhow::Result<Node> {
        let folder = self.folder.0.join(part.name());
        std::fs::create_dir_all(&folder)?;
        let http = free_address([127, 0, 0, 1]).await?;
        // The chain refuses exactly 127.0.0.1 as an axon's address.
        let axon = free_address([127, 0, 0, 2]).await?;
        let address = |name: &str| {
            self.addresses[name].as_str().with_context(|| format!("the simulators named no {name}"))
        };
        let text = format!(
            r#"[network]
endpoints = ["{chain}"]
netuid = {netuid}
metagraph_every = "10s"
[wallet]
uri = "{key}"
[store]
path = "{data}"
[http]
listen = "{http}"
[[stream]]
id = "BTCUSD-5m"
round_every = "5m"
quorum = 1
[[feed]]
name = "binance"
stream = "BTCUSD-5m"
exchange = "binance"
ws_url = "{exchange_ws}"
rest_url = "{exchange_rest}"
[[model]]
name = "lstm-small"
stream = "BTCUSD-5m"
kind = "burn"
checkpoint = "{checkpoint}"
[[model]]
name = "last"
stream = "BTCUSD-5m"
kind = "last"
[miner]
listen = "{axon}"
external = "{axon}"
max_questions = 1000000
[validator]
allow_local_axons = true
reveal_after = "10s"
"#,
            chain = address("chain")?,
            netuid = self.addresses["netuid"],
            key = part.key(),
            data = folder.join("data").display(),
            exchange_ws = address("exchange_ws")?,
            exchange_rest = address("exchange_rest")?,
            checkpoint = programs.repository.join(CHECKPOINT).display(),
        );
        let config = folder.join("config.toml");
        std::fs::write(&config, text)?;
        Ok(Node { part, config, log: folder.join("output"), http, axon })
    }

    /// Stops the simulators and removes all files.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.simulators.stop().await
    }
}

impl Node {
    /// Starts the daemon.
    pub(crate) fn start(&self, programs: &Programs) -> anyhow::Result<Running> {
        let mut command = Command::new(&programs.forecastd);
        command.args(["run", self.part.name(), "--config"]).arg(&self.config);
        Running::start(command, &self.log)
    }
}

/// A folder for temporary files that is removed at the end.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Creates it where the programs were built: on a disk, while folders for temporary files are
    /// often in memory, where a flush costs nothing.
    pub(crate) fn new(programs: &Programs, name: &str) -> anyhow::Result<Self> {
        let path = programs.scratch().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies among the build's results.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
