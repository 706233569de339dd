//! Where the market clock of an embedded network stands, kept on disk so that it can go on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::plan::ExchangeAddress;
use crate::daemon::write_atomically;

/// The file in the data directory.
const FILE: &str = "network.json";
/// Layout of the file.
const VERSION: u32 = 2;

/// The state of the network as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    version: u32,
    /// Market time at which the network began.
    pub began_ms: i64,
    /// Market time at the last save.
    pub market_ms: i64,
    /// Addresses of the simulators, for other programs on this machine.
    pub chain: String,
    /// The simulated exchanges, by market.
    pub exchanges: BTreeMap<String, ExchangeAddress>,
    /// The miners' ports by name. A continued network takes them again: its validator asks at once,
    /// where the chain says, and new addresses take blocks to get there.
    #[serde(default)]
    pub axon_ports: BTreeMap<String, u16>,
}

/// Reads and writes the state.
#[derive(Debug)]
pub(super) struct ProgressFile {
    path: PathBuf,
}

impl ProgressFile {
    /// Uses the file in `data_dir`.
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE) }
    }

    /// Returns the saved state, or none for a new network.
    ///
    /// # Errors
    /// The file is there but cannot be understood.
    pub(super) fn load(&self) -> anyhow::Result<Option<Progress>> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| self.path.display().to_string()),
        };
        let progress: Progress = serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged, remove it to begin anew", self.path.display())
        })?;
        anyhow::ensure!(
            progress.version == VERSION,
            "{} has version {}, this program knows {VERSION}",
            self.path.display(),
            progress.version
        );
        Ok(Some(progress))
    }

    /// Saves the state.
    ///
    /// # Errors
    /// Any I/O error; the old state stays.
    pub(super) fn save(&self, progress: &Progress) -> anyhow::Result<()> {
        write_atomically(&self.path, serde_json::to_string_pretty(progress)?.as_bytes())
            .with_context(|| format!("saving {}", self.path.display()))
    }
}

impl Progress {
    /// Creates the state of a network that begins at `began_ms`.
    pub(super) fn new(began_ms: i64) -> Self {
        Self {
            version: VERSION,
            began_ms,
            market_ms: began_ms,
            chain: String::new(),
            exchanges: BTreeMap::new(),
            axon_ports: BTreeMap::new(),
        }
    }
}
