//! Resident memory of one validator and one miner after their first round.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::Instant;

use crate::Programs;
use crate::network::{Network, Part};
use crate::process::{Memory, get, output_of};
use crate::python::PythonAxon;
use crate::report::{Better, Figure, Peer};

const BENCH: &str = "memory";
/// Miners besides the measured one: with it and the validator a full subnet of 256.
const PEERS: usize = 254;
/// A slot comes every five minutes, its values ten seconds later.
const ROUND_LIMIT: Duration = Duration::from_mins(7);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Measures and prints.
pub(crate) async fn run(programs: &Programs) -> anyhow::Result<()> {
    let peer = peer(programs).await.map_err(|error| format!("{error:#}"));
    let network = Network::start(programs, &[], PEERS).await?;
    let miner_node = network.node(programs, Part::Miner).await?;
    let validator_node = network.node(programs, Part::Validator).await?;
    let mut miner = miner_node.start(programs)?;
    miner.until_ready(miner_node.http).await?;
    let mut validator = validator_node.start(programs)?;
    validator.until_ready(validator_node.http).await?;
    let (asked, answered) = first_round(validator_node.http).await?;
    let detail = format!("after its first round, {asked} miners asked, {answered} accepted");
    let published = "published for the original: 90 MB without torch, 575 MB with it";
    let peer_reason = Err("no Python validator was run".to_owned());
    print("validator", validator.memory()?, &peer_reason, &detail)?;
    let detail = format!("after its first forecast and round, trained model; {published}");
    print("miner", miner.memory()?, &peer, &detail)?;
    validator.stop().await?;
    miner.stop().await?;
    network.stop().await
}

/// Waits for the first round's values and returns how many miners were asked and accepted.
async fn first_round(http: SocketAddr) -> anyhow::Result<(u64, u64)> {
    let begun = Instant::now();
    loop {
        let (_, body) = get(http, "/api/v1/rounds").await?;
        let rounds: Value = serde_json::from_str(&body).context("reading the rounds")?;
        let rows = rounds.as_array().context("the rounds are no list")?;
        if let Some(row) = rows.iter().find(|row| row["state"] == "pending") {
            let count = |name: &str| row[name].as_u64().with_context(|| format!("no {name}"));
            return Ok((count("asked")?, count("answered")?));
        }
        anyhow::ensure!(begun.elapsed() < ROUND_LIMIT, "no round was asked, the last are {body}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns the memory of the Python axon after a commit and a reveal.
async fn peer(programs: &Programs) -> anyhow::Result<(String, Memory)> {
    let name = programs.python.axon().map_err(anyhow::Error::msg)?;
    let axon = PythonAxon::start(programs).await?;
    let mut command = Command::new(programs.example("load"));
    command.args(["--address", &axon.address.to_string(), "--hotkey", &axon.hotkey]);
    command.args(["--synapse", "reveal", "--requests", "2", "--lanes", "1"]);
    output_of(command).await?;
    let memory = axon.process.memory()?;
    axon.process.stop().await?;
    Ok((format!("{name}, canned forecast, numpy stand-in for torch, no model"), memory))
}

fn print(
    who: &str,
    memory: Memory,
    peer: &Result<(String, Memory), String>,
    detail: &str,
) -> anyhow::Result<()> {
    type Pick = fn(&Memory) -> f64;
    let figures: [(&str, Pick); 2] =
        [("resident", |memory| memory.resident), ("peak", |memory| memory.peak)];
    for (name, pick) in figures {
        let peer = match peer {
            Ok((name, memory)) => Peer::Measured { name: name.clone(), value: pick(memory) },
            Err(reason) => Peer::Missing(reason.clone()),
        };
        Figure {
            bench: BENCH,
            metric: &format!("{who} {name}"),
            value: pick(&memory),
            unit: "MB",
            better: Better::Less,
            peer,
            conditions: format!("forecastd run {who}, default cache sizes, {detail}"),
        }
        .print()?;
    }
    Ok(())
}
