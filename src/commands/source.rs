//! Where a command's answers come from: the running daemon, or the store of a stopped one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use forecastd_actors::ledger::Replay;
use forecastd_store::{Store, StoreError};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::exit::Exit;
use crate::output;
use crate::views::{self, RoundRow, RoundView, ScoreRow};

/// Name of the file with the running daemon's addresses.
pub const ADDRESS_FILE: &str = "forecastd.address.json";
/// Cache of each database while a command reads them, bytes.
pub const READ_CACHE: u64 = 32 << 20;
/// Longest wait for the running daemon; a replay of everything takes its time.
const DEADLINE: Duration = Duration::from_mins(2);
/// Longest wait for a connection: the daemon is on this machine.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest wait until the daemon has said who it is; it may be busy.
const PROBE: Duration = Duration::from_secs(10);

/// What the daemon writes beside its store.
#[derive(Debug, Deserialize)]
struct AddressFile {
    pid: u32,
    hotkey: String,
    http: Option<String>,
}

/// What the daemon says of itself.
#[derive(Debug, Deserialize)]
struct Who {
    pid: u32,
    hotkey: String,
}

/// The interface of a running daemon.
#[derive(Debug)]
pub struct Running {
    base: String,
    client: reqwest::Client,
}

/// Where the answers come from.
#[derive(Debug)]
pub enum Source {
    /// A running daemon.
    Running(Running),
    /// The store of a stopped one.
    Stopped(Box<Store>),
}

/// Returns the node's own directory: that of an embedded network is its validator's.
pub fn node_dir(data_dir: &Path) -> PathBuf {
    let validator = data_dir.join("validator");
    if validator.is_dir() { validator } else { data_dir.to_owned() }
}

impl Running {
    /// Finds the daemon that runs on the data directory.
    ///
    /// After a kill the address file stays and the port may be somebody else's by now: who answers
    /// must be the process and the hotkey that the file names.
    pub async fn find(data_dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(node_dir(data_dir).join(ADDRESS_FILE)).ok()?;
        let file: AddressFile = serde_json::from_str(&text).ok()?;
        let base = format!("http://{}", file.http?);
        let client = reqwest::Client::builder().connect_timeout(CONNECT).no_proxy().build().ok()?;
        let answer =
            client.get(format!("{base}/api/v1/status")).timeout(PROBE).send().await.ok()?;
        let who: Who = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        (who.pid == file.pid && who.hotkey == file.hotkey).then_some(Self { base, client })
    }

    /// Asks for a path of the interface.
    ///
    /// # Errors
    /// The daemon does not answer, or what it says is wrong.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let request = self.client.get(format!("{}{path}", self.base)).timeout(DEADLINE);
        let answer = request.send().await?;
        let is_ok = answer.status().is_success();
        let body = answer.text().await?;
        if !is_ok {
            let error: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            anyhow::bail!("{}", error["error"].as_str().unwrap_or(&body));
        }
        serde_json::from_str(&body).context("reading the daemon's answer")
    }
}

impl Source {
    /// Finds the daemon or opens the store.
    ///
    /// # Errors
    /// There is no store, it is damaged, or a process that does not answer holds it.
    pub async fn open(data_dir: &Path) -> anyhow::Result<Self> {
        if let Some(running) = Running::find(data_dir).await {
            return Ok(Self::Running(running));
        }
        let directory = node_dir(data_dir);
        let opened =
            tokio::task::spawn_blocking(move || Store::open_existing(directory, READ_CACHE));
        Ok(Self::Stopped(Box::new(opened.await??)))
    }

    /// Returns the newest rounds.
    ///
    /// # Errors
    /// As [`views::rounds`].
    pub async fn rounds(self, stream: Option<&str>, limit: usize) -> anyhow::Result<Vec<RoundRow>> {
        match self {
            Self::Running(daemon) => {
                let stream = stream.map_or_else(String::new, |stream| format!("&stream={stream}"));
                daemon.get(&format!("/api/v1/rounds?limit={limit}{stream}")).await
            }
            Self::Stopped(store) => views::rounds(&store, stream, limit),
        }
    }

    /// Returns one round.
    ///
    /// # Errors
    /// As [`views::round`].
    pub async fn round(self, id: &str) -> anyhow::Result<RoundView> {
        match self {
            Self::Running(daemon) => daemon.get(&format!("/api/v1/rounds/{id}")).await,
            Self::Stopped(store) => views::round(&store, id),
        }
    }

    /// Computes one round again, or all of them.
    ///
    /// # Errors
    /// As [`views::replay`].
    pub async fn replay(self, id: Option<&str>) -> anyhow::Result<Vec<Replay>> {
        match self {
            Self::Running(daemon) => {
                let path = id.map_or_else(
                    || "/api/v1/replay".to_owned(),
                    |id| format!("/api/v1/rounds/{id}/replay"),
                );
                daemon.get(&path).await
            }
            Self::Stopped(store) => views::replay(&store, id),
        }
    }

    /// Returns every miner's standing.
    ///
    /// # Errors
    /// As [`views::scores`].
    pub async fn scores(self, stream: Option<&str>) -> anyhow::Result<Vec<ScoreRow>> {
        match self {
            Self::Running(daemon) => {
                let query = stream.map_or_else(String::new, |stream| format!("?stream={stream}"));
                daemon.get(&format!("/api/v1/scores{query}")).await
            }
            Self::Stopped(store) => views::scores(&store, stream, None),
        }
    }
}

/// Turns an outcome into an exit code, with the error and what to do on standard error.
pub fn finish(outcome: anyhow::Result<Exit>) -> Exit {
    outcome.unwrap_or_else(|error| {
        let store = error.chain().find_map(|cause| cause.downcast_ref::<StoreError>());
        if let Some(StoreError::Missing { .. }) = store {
            output::error(&format_args!("{error:#}; {}", super::NAME_THE_DIRECTORY));
        } else {
            output::error(&format_args!("{error:#}"));
        }
        store.and_then(|store| Exit::from_code(store.exit_code())).unwrap_or(Exit::Unfinished)
    })
}
