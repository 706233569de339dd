//! A network at real time for the daemon as its own process: the recorded market moved to now, and
//! a development chain.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use forecastd::clock::SystemClock;
use forecastd_chain::{AxonEndpoint, Chain as _, ChainConfig, Keypair, Subtensor};
use forecastd_core::{Candle, Clock as _, Interval, NetUid, Rao, Signer as _};
use forecastd_devnet::chain::{DevChain, DevChainConfig, GenesisNeuron};
use forecastd_devnet::exchange::{SimExchange, SimExchangeConfig, recording};
use forecastd_exchange::Exchange;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Only a broken build reaches this; a busy machine takes seconds.
pub(crate) const DEADLINE: Duration = Duration::from_mins(5);
const NETUID: NetUid = NetUid(8);

pub(crate) fn key(uri: &str) -> Keypair {
    Keypair::from_uri(uri).unwrap()
}

/// The recording, moved so that half of it lies before now. With another interval than the
/// recorded one the same prices follow each other faster or slower.
fn candles_around_now(interval: Interval) -> Vec<Candle> {
    let mut candles = recording::embedded().unwrap();
    let step_ms = interval.as_ms();
    let half = i64::try_from(candles.len() / 2).unwrap();
    let mut open_time_ms = interval.floor(SystemClock.now_ms()) - half * step_ms;
    for candle in &mut candles {
        candle.open_time_ms = open_time_ms;
        open_time_ms += step_ms;
    }
    candles
}

/// The simulators around a daemon.
pub(crate) struct Surroundings {
    pub(crate) exchange: SimExchange,
    pub(crate) chain: DevChain,
    interval: Interval,
}

impl Surroundings {
    /// Starts them; `//Alice` validates, the others mine.
    pub(crate) async fn start(interval: Interval, miners: &[&str]) -> Self {
        let clock = Arc::new(SystemClock);
        let candles = candles_around_now(interval).into();
        let config = SimExchangeConfig::new(Exchange::Binance, candles, interval, clock.clone());
        let exchange = forecastd_devnet::exchange::spawn(config).await.unwrap();
        let neuron = |uri: &str, validates: bool| GenesisNeuron {
            hotkey: key(uri).hotkey(),
            coldkey: *key(&format!("{uri}//cold")).hotkey().as_bytes(),
            stake: Rao(if validates { 10_000 * Rao::PER_TAO } else { Rao::PER_TAO }),
            validator_permit: validates,
            balance: Rao(0),
        };
        let mut genesis = vec![neuron("//Alice", true)];
        genesis.extend(miners.iter().map(|uri| neuron(uri, false)));
        let config = DevChainConfig { genesis, ..DevChainConfig::local(NETUID, clock) };
        let chain = forecastd_devnet::chain::spawn(config).await.unwrap();
        Self { exchange, chain, interval }
    }

    /// Publishes a miner's address on the chain.
    pub(crate) async fn serve(&self, uri: &str, address: SocketAddr) {
        let config = ChainConfig::new(vec![self.chain.ws_url().to_owned()], NETUID);
        let endpoint =
            AxonEndpoint { ip: address.ip(), port: address.port(), protocol: 4, version: 1 };
        let client = Subtensor::new(config).unwrap();
        client.serve_axon(&Arc::new(key(uri)).chain_signer(), &endpoint).await.unwrap();
    }

    /// Writes a configuration for the daemon with this key; `more` goes to the end.
    pub(crate) fn configure(&self, directory: &Path, uri: &str, more: &str) -> PathBuf {
        let checkpoint = concat!(env!("CARGO_MANIFEST_DIR"), "/models/checkpoints/lstm-small");
        let text = format!(
            r#"
[network]
name = "local"
endpoints = ["{chain}"]
netuid = 8
[wallet]
uri = "{uri}"
[[stream]]
id = "BTCUSD-5m"
interval = "{interval}"
round_every = "{interval}"
quorum = 1
[[feed]]
name = "binance"
stream = "BTCUSD-5m"
exchange = "binance"
ws_url = "{ws}"
rest_url = "{rest}"
[[model]]
name = "lstm-small"
stream = "BTCUSD-5m"
kind = "burn"
checkpoint = "{checkpoint}"
[store]
path = "{store}"
[http]
listen = "127.0.0.1:0"
{more}
"#,
            chain = self.chain.ws_url(),
            interval = self.interval,
            ws = self.exchange.ws_url,
            rest = self.exchange.rest_url,
            store = directory.join("data").display(),
        );
        let path = directory.join("config.toml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A program that says what it does in lines of JSON; killed when dropped.
pub(crate) struct Talker {
    pub(crate) process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talker {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Reads on to the first line that `wanted` picks.
    pub(crate) async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let read = async {
            let mut seen = Vec::new();
            while let Some(line) = self.lines.next_line().await.unwrap() {
                let event: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
                if wanted(&event) {
                    return event;
                }
                seen.push(line);
            }
            panic!("the program ended after: {}", seen.join("\n"));
        };
        tokio::time::timeout(DEADLINE, read).await.expect("the program says it in time")
    }

    /// Reads the next line; none at the end. A line that was cut off by a kill counts as the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let line = self.lines.next_line().await.unwrap()?;
        serde_json::from_str(&line).ok()
    }

    /// Keeps reading, so that the program never blocks on a full pipe.
    pub(crate) fn drain(self) -> Child {
        let Self { process, mut lines } = self;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        process
    }
}

/// The embedded network, as a process.
pub(crate) fn dev(data_dir: &Path, config: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forecastd"));
    command.args(["dev", "--json", "--data-dir"]).arg(data_dir).arg("--config").arg(config);
    command.args(more).env("FORECASTD__HTTP__LISTEN", "127.0.0.1:0").stderr(Stdio::null());
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Sends a signal such as `TERM` to a running process.
pub(crate) fn signal(process: &Child, name: &str) {
    let pid = process.id().unwrap().to_string();
    let status =
        std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// Asks for a graceful stop and expects it to be one.
pub(crate) async fn stop(mut process: Child) {
    signal(&process, "TERM");
    let ended = tokio::time::timeout(DEADLINE, process.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0), "a graceful stop");
}

/// Runs a command that prints JSON on a stopped or running daemon's data directory.
pub(crate) async fn ask(data_dir: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_forecastd"))
        .args(arguments)
        .args(["--json", "--data-dir"])
        .arg(data_dir)
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The daemon in a role.
pub(crate) fn daemon(role: &str, config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forecastd"));
    command.args(["run", role, "--json", "--config"]).arg(config).stderr(Stdio::null());
    command
}

/// Waits until the daemon that announced itself with `started` is ready.
pub(crate) async fn ready(started: &Value) {
    let url = format!("{}/readyz", started["http"].as_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let wait = async {
        while !client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the daemon gets ready");
}

/// A free port on the loopback address that the chain takes for an axon.
pub(crate) fn free_axon_address() -> SocketAddr {
    let ip = Ipv4Addr::new(127, 0, 0, 2);
    std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// Looks every few milliseconds until `done`; only a broken build reaches the deadline.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "never came: {what}");
}
