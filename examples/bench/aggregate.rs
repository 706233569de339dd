//! Merging a year of five-minute bars of five exchanges, beside the same in pandas.
//!
//! Measured by `crates/core/examples/merge_year.rs` and `scripts/peers/aggregate.py`, each in a
//! process of its own.

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use crate::Programs;
use crate::network::Folder;
use crate::process::output_of;
use crate::report::{Better, Figure, Peer};

/// Relative difference of sums that is rounding.
const TOLERANCE: f64 = 1e-9;

/// Measures and prints.
pub(crate) async fn run(programs: &Programs) -> anyhow::Result<()> {
    let folder = Folder::new(programs, "aggregate")?;
    let mut command = Command::new(programs.example("merge_year"));
    command.arg(programs.repository.join("data/btcusd-5m.csv.gz")).arg(folder.path());
    let ours = output_of(command).await?;
    let peer = match peer(programs, &folder, &ours).await {
        Ok((name, value)) => Peer::Measured { name, value },
        Err(error) => Peer::Missing(format!("{error:#}")),
    };
    Figure {
        bench: "aggregate",
        metric: "merge a year of five exchanges p50",
        value: number(&ours, "p50_ms")?,
        unit: "ms",
        better: Better::Less,
        peer,
        conditions: format!(
            "{} bars in memory to {} settled ones; mean open and close, highest high, lowest low, \
             summed volume, quorum 2, without closes 2 % away from the median; five exchanges made of \
             {} recorded candles",
            ours["bars"], ours["count"], ours["recorded"]
        ),
    }
    .print()
}

/// Runs pandas over the same bars; it is only believed when it makes the same of them.
async fn peer(programs: &Programs, folder: &Folder, ours: &Value) -> anyhow::Result<(String, f64)> {
    let python = std::env::var("FORECASTD_PANDAS").context("no Python with pandas")?;
    let mut command = Command::new(python);
    command.arg(programs.repository.join("scripts/peers/aggregate.py")).arg(folder.path());
    let theirs = output_of(command).await?;
    for name in ["count", "open", "high", "low", "close", "volume"] {
        let (ours, theirs) = (number(ours, name)?, number(&theirs, name)?);
        let is_same = (ours - theirs).abs() <= TOLERANCE * ours.abs();
        anyhow::ensure!(is_same, "the sums of {name} differ: {ours} and {theirs}");
    }
    let name = theirs["name"].as_str().context("the peer has no name")?.to_owned();
    Ok((name, number(&theirs, "p50_ms")?))
}

fn number(said: &Value, name: &str) -> anyhow::Result<f64> {
    said[name].as_f64().with_context(|| format!("no {name} was said: {said}"))
}
