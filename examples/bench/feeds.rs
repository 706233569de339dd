//! From Binance's raw trade messages to closed candles: in memory, and over a loopback WebSocket.
//!
//! Measured by `crates/exchange/examples/feeds` in a process of its own on one core; the sender has the
//! other. The peer is the parser of the crate `barter-data`, over the same messages between two of
//! our runs.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use crate::Programs;
use crate::network::Folder;
use crate::report::{Better, Figure, Peer};

const BENCH: &str = "feeds";
/// A page of recorded trades.
const PAGE: &str = "tests/fixtures/exchanges/binance/rest/aggtrades-1000-2020-01-02.json";
const MESSAGES: &str = "200000";
/// Trades a second that the goal names, and seconds of sending them.
const RATE: &str = "300000";
const SECONDS: &str = "10";
/// What runs a program on one core.
const FIRST_CORE: [&str; 3] = ["taskset", "-c", "0"];
const SECOND_CORE: &str = "taskset -c 1";

/// Measures and prints.
pub(crate) async fn run(programs: &Programs) -> anyhow::Result<()> {
    let folder = Folder::new(programs, "feeds")?;
    let file = folder.path().join("messages.jsonl");
    let page = programs.repository.join(PAGE);
    let page = page.to_str().context("the repository's path is no text")?;
    let messages = output(command(programs, &["messages", page, MESSAGES])).await?;
    std::fs::write(&file, messages).context("writing the messages")?;
    let file = file.to_str().context("the folder's path is no text")?;
    let before = figures(programs, &["memory", file]).await?;
    let peer = peer(file.as_ref()).await.map_err(|error| format!("{error:#}"));
    let after = figures(programs, &["memory", file]).await?;
    for (before, after) in before.iter().zip(&after) {
        // The slower of the two: what disturbed the peer may have disturbed one of them.
        let said = if number(before)? < number(after)? { before } else { after };
        let metric = text(said, "metric")?;
        for kind in ["parse", "parse and normalise"] {
            let peer = match &peer {
                Ok(lines) => measured(lines, kind)?,
                Err(reason) => Peer::Missing(reason.clone()),
            };
            print(said, &format!("{metric}, beside {kind}"), peer)?;
        }
    }
    for (rate, seconds) in [(RATE, SECONDS), ("0", SECONDS)] {
        for said in figures(programs, &["socket", file, rate, seconds]).await? {
            print(&said, text(&said, "metric")?, nobody())?;
        }
    }
    for said in figures(programs, &["frames", file, SECONDS]).await? {
        print(&said, text(&said, "metric")?, nobody())?;
    }
    Ok(())
}

fn nobody() -> Peer {
    Peer::Missing("no peer has such a path to measure alone".to_owned())
}

fn print(said: &Value, metric: &str, peer: Peer) -> anyhow::Result<()> {
    let unit = text(said, "unit")?;
    Figure {
        bench: BENCH,
        metric,
        value: number(said)?,
        unit,
        better: if unit.ends_with("/s") { Better::More } else { Better::Less },
        peer,
        conditions: text(said, "conditions")?.to_owned(),
    }
    .print()
}

fn command(programs: &Programs, arguments: &[&str]) -> Command {
    let [program, words @ ..] = FIRST_CORE;
    let mut command = Command::new(program);
    command.args(words).arg(programs.example("feeds")).args(arguments);
    command.env("FEEDS_SENDER", SECOND_CORE);
    command
}

async fn figures(programs: &Programs, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    lines(&output(command(programs, arguments)).await?)
}

async fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command.kill_on_drop(true).output().await.context("starting feeds")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "it ended badly: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

fn lines(output: &str) -> anyhow::Result<Vec<Value>> {
    let read = |line| serde_json::from_str(line).with_context(|| format!("reading {line}"));
    output.lines().map(read).collect()
}

fn text<'a>(said: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    said[name].as_str().with_context(|| format!("no {name}: {said}"))
}

fn number(said: &Value) -> anyhow::Result<f64> {
    said["value"].as_f64().with_context(|| format!("no value: {said}"))
}

/// Runs `barter-data`, which `scripts/bench` builds.
async fn peer(file: &Path) -> anyhow::Result<Vec<Value>> {
    let program = std::env::var_os("FORECASTD_BARTER_PEER").map(PathBuf::from);
    let program = program.context("scripts/peers/barter is not built")?;
    let [first, words @ ..] = FIRST_CORE;
    let mut command = Command::new(first);
    command.args(words).arg(program).arg(file);
    lines(&output(command).await?)
}

fn measured(lines: &[Value], kind: &str) -> anyhow::Result<Peer> {
    let said = lines.iter().find(|said| said["metric"] == *kind);
    let said = said.with_context(|| format!("the peer did not measure {kind}"))?;
    let name = format!("barter-data 0.13.0, BinanceTrade, {kind}, without candles");
    Ok(Peer::Measured { name, value: number(said)? })
}
