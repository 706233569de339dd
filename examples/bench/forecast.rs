//! One forecast of the shipped checkpoint, measured by `models/examples/forecast_bench.rs` in a
//! process of its own.

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use crate::Programs;
use crate::network::CHECKPOINT;
use crate::report::{Better, Figure, Peer};

/// Measures and prints.
pub(crate) async fn run(programs: &Programs) -> anyhow::Result<()> {
    let mut command = Command::new(programs.example("forecast_bench"));
    command.args(["data/btcusd-5m.csv.gz", CHECKPOINT]).current_dir(&programs.repository);
    let output = command.kill_on_drop(true).output().await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "forecast_bench ended badly: {errors}");
    for line in String::from_utf8(output.stdout)?.lines() {
        let said: Value = serde_json::from_str(line).with_context(|| format!("reading {line}"))?;
        let text = |name: &str| said[name].as_str().with_context(|| format!("no {name}: {line}"));
        Figure {
            bench: "forecast",
            metric: text("metric")?,
            value: said["value"].as_f64().with_context(|| format!("no value: {line}"))?,
            unit: text("unit")?,
            better: Better::Less,
            peer: Peer::Missing("neither Keras nor torch is installed".to_owned()),
            conditions: "shipped checkpoint, 500 candles to 100 closes, one thread".to_owned(),
        }
        .print()?;
    }
    Ok(())
}
