//! Requests a second and latency of the axon, with valid signatures over loopback.
//!
//! One load driver (`crates/wire/examples/load.rs`) asks three servers one after another: our axon
//! with a forecast that is always ready, the Python SDK's axon with the same, and a whole miner,
//! which writes each commitment to disk before it answers. Driver and server share the cores.

use std::net::SocketAddr;

use anyhow::Context as _;
use forecastd_core::Signer as _;
use forecastd_wire::LocalSigner;
use serde_json::Value;
use tokio::process::Command;

use crate::Programs;
use crate::network::{Network, Part};
use crate::process::{Running, output_of};
use crate::python::PythonAxon;
use crate::report::{Better, Figure, Peer};

const BENCH: &str = "responder";
/// More than is answered in [`SECONDS`], unless the server is faster than all of them.
const REQUESTS: u32 = 60_000;
/// Well below the freshness window of 34 s, signing included.
const SECONDS: u32 = 10;
const LANES: u8 = 16;
const WORKERS: u32 = 2;

const SYNAPSES: [&str; 2] = ["commit", "reveal"];

/// What one run of the driver found.
struct Load {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_cpu_ms: f64,
    requests: u64,
}

/// Measures and prints.
pub(crate) async fn run(programs: &Programs) -> anyhow::Result<()> {
    let peers = match peer_loads(programs).await {
        Ok(peers) => peers.map(Ok),
        Err(error) => SYNAPSES.map(|_| Err(format!("{error:#}"))),
    };
    let mut command = Command::new(programs.example("load"));
    command.args(["serve", "--workers", &WORKERS.to_string()]);
    let (process, said) = Running::start_saying(command).await?;
    let address = said["address"].as_str().context("no address")?.parse()?;
    let hotkey = said["hotkey"].as_str().context("no hotkey")?;
    for (synapse, peer) in SYNAPSES.into_iter().zip(&peers) {
        let load = ask(programs, &process, address, hotkey, synapse).await?;
        let detail = format!("axon with {WORKERS} workers and a ready forecast");
        print(synapse, &load, peer, &detail)?;
    }
    process.stop().await?;
    whole_miner(programs).await
}

/// Asks the Python axon.
async fn peer_loads(programs: &Programs) -> anyhow::Result<[(String, Load); 2]> {
    let name = programs.python.axon().map_err(anyhow::Error::msg)?;
    let axon = PythonAxon::start(programs).await?;
    let [commit, reveal] = SYNAPSES;
    let commit = ask(programs, &axon.process, axon.address, &axon.hotkey, commit).await?;
    let reveal = ask(programs, &axon.process, axon.address, &axon.hotkey, reveal).await?;
    axon.process.stop().await?;
    Ok([(name.clone(), commit), (name, reveal)])
}

/// The same questions to `forecastd run miner`.
async fn whole_miner(programs: &Programs) -> anyhow::Result<()> {
    let network = Network::start(programs, &driver_hotkeys()?, 0).await?;
    let node = network.node(programs, Part::Miner).await?;
    let mut process = node.start(programs)?;
    process.until_ready(node.http).await?;
    let hotkey = Part::Miner.hotkey()?;
    for synapse in SYNAPSES {
        let load = ask(programs, &process, node.axon, &hotkey, synapse).await?;
        let detail = "whole miner, commitments on disk before the answer, 2 axon workers";
        let peer = Err("the original keeps nothing on disk".to_owned());
        print(&format!("miner {synapse}"), &load, &peer, detail)?;
    }
    Figure {
        bench: BENCH,
        metric: "miner peak memory after the load",
        value: process.memory()?.peak,
        unit: "MB",
        better: Better::Less,
        peer: Peer::Missing("the memory bench has one".to_owned()),
        conditions: "whole miner, after both runs above, default cache sizes".to_owned(),
    }
    .print()?;
    process.stop().await?;
    network.stop().await
}

/// The driver's keys, which a whole miner has to know as validators'; see its source.
fn driver_hotkeys() -> anyhow::Result<Vec<String>> {
    (1..=LANES)
        .map(|lane| Ok(LocalSigner::from_mini_secret(&[lane; 32])?.hotkey().to_ss58()))
        .collect()
}

async fn ask(
    programs: &Programs,
    server: &Running,
    address: SocketAddr,
    hotkey: &str,
    synapse: &str,
) -> anyhow::Result<Load> {
    let mut command = Command::new(programs.example("load"));
    command.args(["--address", &address.to_string(), "--hotkey", hotkey, "--synapse", synapse]);
    command.args(["--requests", &REQUESTS.to_string(), "--seconds", &SECONDS.to_string()]);
    command.args(["--lanes", &LANES.to_string()]);
    let cpu_before = server.cpu_seconds().await?;
    let said = output_of(command).await.with_context(|| format!("load driver, {synapse}"))?;
    let cpu = server.cpu_seconds().await? - cpu_before;
    load_of(&said, cpu).with_context(|| format!("reading {said}"))
}

fn load_of(said: &Value, cpu_seconds: f64) -> anyhow::Result<Load> {
    let number = |name: &str| said[name].as_f64().with_context(|| format!("no {name}"));
    let requests = said["requests"].as_u64().context("no requests")?;
    // A refusal is cheap: a rate with refusals in it says nothing.
    anyhow::ensure!(
        said["statuses"]["200"].as_u64() == Some(requests) && requests > 0,
        "not every answer was 200 with its value"
    );
    Ok(Load {
        per_second: number("per_second")?,
        p50_ms: number("p50_ms")?,
        p99_ms: number("p99_ms")?,
        server_cpu_ms: cpu_seconds * 1e3 / requests as f64,
        requests,
    })
}

fn print(
    what: &str,
    load: &Load,
    peer: &Result<(String, Load), String>,
    detail: &str,
) -> anyhow::Result<()> {
    type Pick = fn(&Load) -> f64;
    let figures: [(&str, &str, Better, Pick); 4] = [
        ("requests per second", "1/s", Better::More, |load| load.per_second),
        ("p50", "ms", Better::Less, |load| load.p50_ms),
        ("p99", "ms", Better::Less, |load| load.p99_ms),
        ("server CPU per request", "ms", Better::Less, |load| load.server_cpu_ms),
    ];
    for (name, unit, better, pick) in figures {
        let peer = match peer {
            Ok((name, peer)) => Peer::Measured { name: name.clone(), value: pick(peer) },
            Err(reason) => Peer::Missing(reason.clone()),
        };
        Figure {
            bench: BENCH,
            metric: &format!("{what} {name}"),
            value: pick(load),
            unit,
            better,
            peer,
            conditions: format!(
                "{detail}; {} signed requests of {LANES} validators over loopback, driver on the same cores",
                load.requests
            ),
        }
        .print()?;
    }
    Ok(())
}
