//! From the start of the process to a miner that is ready, with an existing data directory.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Programs;
use crate::network::{Folder, Network, Node, Part};
use crate::process::{Running, free_address};
use crate::python;
use crate::report::{Better, Figure, Peer, quantile_ms};

const BENCH: &str = "restart";
/// Starts of the daemon after each kind of end.
const STARTS: usize = 10;
/// Starts of the peer, which takes seconds.
const PEER_STARTS: usize = 5;

/// Times of the starts of one kind.
#[derive(Default)]
struct Starts {
    listening: Vec<Duration>,
    ready: Vec<Duration>,
}

/// Measures and prints.
pub(crate) async fn run(programs: &Programs) -> anyhow::Result<()> {
    let peer = match peer_starts(programs).await {
        Ok((name, value)) => Peer::Measured { name: format!("{name}, start to listening"), value },
        Err(error) => Peer::Missing(format!("{error:#}")),
    };
    let network = Network::start(programs, &[], 0).await?;
    let node = network.node(programs, Part::Miner).await?;
    // The first start makes the data directory and backfills the candles.
    let mut first = node.start(programs)?;
    let created = first.until_ready(node.http).await?;
    first.stop().await?;
    figure("first start to ready", vec![created], 0.5, peer.clone(), 1)?;
    for (end, is_killed) in [("stop", false), ("kill -9", true)] {
        let starts = starts(programs, &node, is_killed).await?;
        let listening = format!("start to axon listening after {end} p50");
        let ready = format!("start to ready after {end}");
        figure(&listening, starts.listening, 0.5, peer.clone(), STARTS)?;
        figure(&format!("{ready} p50"), starts.ready.clone(), 0.5, peer.clone(), STARTS)?;
        figure(&format!("{ready} greatest"), starts.ready, 1.0, peer.clone(), STARTS)?;
    }
    network.stop().await
}

async fn starts(programs: &Programs, node: &Node, is_killed: bool) -> anyhow::Result<Starts> {
    let end = |process: Running| async move {
        if is_killed { process.kill().await } else { process.stop().await }
    };
    // What is measured is a start after this kind of end.
    let mut before = node.start(programs)?;
    before.until_ready(node.http).await?;
    end(before).await?;
    let mut starts = Starts::default();
    for _ in 0..STARTS {
        let mut process = node.start(programs)?;
        starts.listening.push(process.until_listening(node.axon).await?);
        starts.ready.push(process.until_ready(node.http).await?);
        end(process).await?;
    }
    Ok(starts)
}

/// Returns the Python axon's name and how long it takes to listen, ms.
async fn peer_starts(programs: &Programs) -> anyhow::Result<(String, f64)> {
    let name = programs.python.axon().map_err(anyhow::Error::msg)?;
    let folder = Folder::new(programs, "peer")?;
    let mut times = Vec::new();
    for _ in 0..PEER_STARTS {
        let address: SocketAddr = free_address([127, 0, 0, 1]).await?;
        let command = python::miner_command(programs, address);
        let mut process = Running::start(command, &folder.path().join("output"))?;
        times.push(process.until_listening(address).await?);
        process.stop().await?;
    }
    Ok((name, quantile_ms(&mut times, 0.5)))
}

fn figure(
    metric: &str,
    mut samples: Vec<Duration>,
    share: f64,
    peer: Peer,
    count: usize,
) -> anyhow::Result<()> {
    Figure {
        bench: BENCH,
        metric,
        value: quantile_ms(&mut samples, share),
        unit: "ms",
        better: Better::Less,
        peer,
        conditions: format!(
            "forecastd run miner with the trained model; samples: {count}; development chain and \
             simulated exchange on loopback; ready: /readyz is 200 (chain read, candles there, \
             forecast made)"
        ),
    }
    .print()
}
