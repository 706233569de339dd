//! What `scripts/bench` runs: measures the daemon and, beside it, the Python originals.
//!
//! ```text
//! bench [round | responder | restart | memory | forecast | feeds | aggregate]
//! ```
//! Prints one JSON object a line on standard output, nothing else; see `docs/benchmarks.md`. It
//! expects the working directory to be the repository and `forecastd` and the other examples to be
//! built beside it.

mod aggregate;
mod feeds;
mod forecast;
mod memory;
mod network;
mod process;
mod python;
mod report;
mod responder;
mod restart;
mod round;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use forecastd::output;

use crate::python::Python;

/// All benches in the order in which they run without a name.
const NAMES: [&str; 7] =
    ["round", "responder", "restart", "memory", "forecast", "feeds", "aggregate"];

/// Where the programs under test are.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The daemon.
    pub(crate) forecastd: PathBuf,
    /// Folder of the examples of all crates.
    examples: PathBuf,
    /// The repository.
    pub(crate) repository: PathBuf,
    /// The peers' interpreter.
    pub(crate) python: Python,
}

impl Programs {
    async fn find() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("finding this program")?;
        let examples = own.parent().context("this program has no folder")?.to_owned();
        let forecastd = examples.parent().context("no folder of programs")?.join("forecastd");
        anyhow::ensure!(
            forecastd.is_file(),
            "{} is missing, run scripts/bench, which builds it",
            forecastd.display()
        );
        let repository = std::env::current_dir().context("reading the working directory")?;
        Ok(Self { forecastd, examples, repository, python: Python::find().await })
    }

    /// Returns the folder for what the benches write.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.examples.join("bench-files")
    }

    /// Returns the path of another example.
    pub(crate) fn example(&self, name: &str) -> PathBuf {
        self.examples.join(name)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = named.iter().find(|name| !NAMES.contains(&name.as_str())) {
        output::error(&format!("no bench is named {unknown}, there are {}", NAMES.join(", ")));
        return ExitCode::from(64);
    }
    let programs = match Programs::find().await {
        Ok(programs) => programs,
        Err(error) => {
            output::error(&format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for name in NAMES {
        if !named.is_empty() && !named.iter().any(|wanted| wanted == name) {
            continue;
        }
        // One bench that cannot run leaves the others their turn.
        if let Err(error) = Box::pin(run(name, &programs)).await {
            output::error(&format!("{name}: {error:#}"));
            code = ExitCode::FAILURE;
        }
    }
    code
}

async fn run(name: &str, programs: &Programs) -> anyhow::Result<()> {
    match name {
        "round" => round::run(programs).await,
        "responder" => responder::run(programs).await,
        "restart" => restart::run(programs).await,
        "memory" => memory::run(programs).await,
        "forecast" => forecast::run(programs).await,
        "feeds" => feeds::run(programs).await,
        "aggregate" => aggregate::run(programs).await,
        _ => bail!("is not a bench"),
    }
}
