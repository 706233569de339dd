//! The peers' interpreter, and which of them it can run.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::process::Command;

use crate::Programs;
use crate::process::{Running, free_address};

/// A development key of the original's miner.
const PEER_KEY: &str = "//Bob";

/// What Python is there.
#[derive(Debug)]
pub(crate) struct Python {
    interpreter: String,
    /// numpy's version.
    numpy: Option<String>,
    /// The SDK's version.
    sdk: Option<String>,
}

impl Python {
    /// Looks for numpy and the SDK in `FORECASTD_PYTHON`, which `scripts/bench` sets, or `python3`.
    pub(crate) async fn find() -> Self {
        let interpreter =
            std::env::var("FORECASTD_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let numpy = version(&interpreter, "numpy").await;
        let sdk = version(&interpreter, "bittensor").await;
        Self { interpreter, numpy, sdk }
    }

    /// Returns the scoring peer's name, or why there is none.
    pub(crate) fn scoring(&self) -> Result<String, String> {
        match &self.numpy {
            Some(version) => Ok(format!("the Python original's scoring, numpy {version}")),
            None => Err("no python3 with numpy".to_owned()),
        }
    }

    /// Returns the name of the SDK's server, or why there is none.
    pub(crate) fn axon(&self) -> Result<String, String> {
        match &self.sdk {
            Some(version) => Ok(format!("the Python SDK's axon, bittensor {version}")),
            None => Err("no Python with bittensor, see scripts/interop-venv".to_owned()),
        }
    }

    /// Returns a command that runs a script of the repository.
    pub(crate) fn script(&self, path: &Path) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.arg(path);
        command
    }
}

async fn version(interpreter: &str, package: &str) -> Option<String> {
    let script = format!("import importlib.metadata as m; print(m.version('{package}'))");
    let mut command = Command::new(interpreter);
    let output = command.args(["-c", &script]).stderr(Stdio::null()).output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The real Python axon, answering.
#[derive(Debug)]
pub(crate) struct PythonAxon {
    /// Its process.
    pub(crate) process: Running,
    /// Where it listens.
    pub(crate) address: std::net::SocketAddr,
    /// Its hotkey, SS58.
    pub(crate) hotkey: String,
}

/// Returns a command that starts the original's miner on `address`, with the small stand-in for
/// torch.
pub(crate) fn miner_command(programs: &Programs, address: std::net::SocketAddr) -> Command {
    let folder = programs.repository.join("tests/interop");
    let mut command = programs.python.script(&folder.join("legacy_miner.py"));
    command
        .args(["--port", &address.port().to_string(), "--bind", &address.ip().to_string()])
        .args(["--uri", PEER_KEY])
        .env("PYTHONPATH", folder.join("torch_shim"));
    command
}

impl PythonAxon {
    /// Starts it and waits until it says that it listens.
    pub(crate) async fn start(programs: &Programs) -> anyhow::Result<Self> {
        let address = free_address([127, 0, 0, 1]).await?;
        let (mut process, said) = Running::start_saying(miner_command(programs, address)).await?;
        process.until_listening(address).await?;
        let hotkey = said["hotkey"].as_str().context("the peer names no hotkey")?.to_owned();
        Ok(Self { process, address, hotkey })
    }
}
