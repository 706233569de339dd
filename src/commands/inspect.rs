//! `status`, `rounds` and `scores`: ask the running daemon, or read the store of a stopped one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use forecastd_actors::ledger::Replay;
use forecastd_store::Store;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cli::RoundsListArgs;
use crate::exit::Exit;
use crate::output;
use crate::views::{self, RoundRow, RoundView, ScoreRow};

/// Name of the file with the running daemon's addresses.
pub const ADDRESS_FILE: &str = "forecastd.address.json";
/// Cache of each database while a command reads them, bytes.
const READ_CACHE: u64 = 32 << 20;
/// Longest wait for the running daemon; a replay of everything takes its time.
const DEADLINE: Duration = Duration::from_mins(2);

#[derive(Debug, Deserialize)]
struct AddressFile {
    http: Option<String>,
}

/// Where the answers come from.
enum Source {
    /// The interface of a running daemon.
    Running { base: String, client: reqwest::Client },
    /// The store of a stopped one.
    Stopped(Box<Store>),
}

/// Returns the node's own directory: that of an embedded network is its validator's.
fn node_dir(data_dir: &Path) -> PathBuf {
    let validator = data_dir.join("validator");
    if validator.is_dir() { validator } else { data_dir.to_owned() }
}

async fn running(directory: &Path) -> Option<Source> {
    let text = std::fs::read_to_string(directory.join(ADDRESS_FILE)).ok()?;
    let addresses: AddressFile = serde_json::from_str(&text).ok()?;
    let base = format!("http://{}", addresses.http?);
    let client = reqwest::Client::builder().timeout(DEADLINE).no_proxy().build().ok()?;
    let alive = client.get(format!("{base}/healthz")).send().await.is_ok();
    alive.then_some(Source::Running { base, client })
}

async fn source(data_dir: &Path) -> anyhow::Result<Source> {
    let directory = node_dir(data_dir);
    if let Some(source) = running(&directory).await {
        return Ok(source);
    }
    let opened =
        tokio::task::spawn_blocking(move || Store::open_existing(directory, READ_CACHE)).await?;
    Ok(Source::Stopped(Box::new(opened?)))
}

impl Source {
    async fn get<T: DeserializeOwned>(
        base: &str,
        client: &reqwest::Client,
        path: &str,
    ) -> anyhow::Result<T> {
        let answer = client.get(format!("{base}{path}")).send().await?;
        let is_ok = answer.status().is_success();
        let body = answer.text().await?;
        if !is_ok {
            let error: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            anyhow::bail!("{}", error["error"].as_str().unwrap_or(&body));
        }
        serde_json::from_str(&body).context("reading the daemon's answer")
    }

    async fn rounds(self, stream: Option<&str>, limit: usize) -> anyhow::Result<Vec<RoundRow>> {
        match self {
            Self::Running { base, client } => {
                let stream = stream.map_or_else(String::new, |stream| format!("&stream={stream}"));
                Self::get(&base, &client, &format!("/api/v1/rounds?limit={limit}{stream}")).await
            }
            Self::Stopped(store) => views::rounds(&store, stream, limit),
        }
    }

    async fn round(self, id: &str) -> anyhow::Result<RoundView> {
        match self {
            Self::Running { base, client } => {
                Self::get(&base, &client, &format!("/api/v1/rounds/{id}")).await
            }
            Self::Stopped(store) => views::round(&store, id),
        }
    }

    async fn replay(self, id: Option<&str>) -> anyhow::Result<Vec<Replay>> {
        match self {
            Self::Running { base, client } => {
                let path = id.map_or_else(
                    || "/api/v1/replay".to_owned(),
                    |id| format!("/api/v1/rounds/{id}/replay"),
                );
                Self::get(&base, &client, &path).await
            }
            Self::Stopped(store) => views::replay(&store, id),
        }
    }

    async fn scores(self, stream: Option<&str>) -> anyhow::Result<Vec<ScoreRow>> {
        match self {
            Self::Running { base, client } => {
                let query = stream.map_or_else(String::new, |stream| format!("?stream={stream}"));
                Self::get(&base, &client, &format!("/api/v1/scores{query}")).await
            }
            Self::Stopped(store) => views::scores(&store, stream, None),
        }
    }
}

/// Turns an outcome into an exit code, with the error on standard error.
fn finish(outcome: anyhow::Result<Exit>) -> Exit {
    outcome.unwrap_or_else(|error| {
        output::error(&format_args!("{error:#}"));
        let store = error.downcast_ref::<forecastd_store::StoreError>();
        store.and_then(|store| Exit::from_code(store.exit_code())).unwrap_or(Exit::Unfinished)
    })
}

/// `forecastd status`.
pub async fn status(data_dir: &Path, json: bool) -> Exit {
    let Some(Source::Running { base, client }) = running(&node_dir(data_dir)).await else {
        output::error(&format_args!(
            "no daemon runs on {}; start one with `forecastd run`, or name another --data-dir",
            data_dir.display()
        ));
        return Exit::Unavailable;
    };
    let answer: anyhow::Result<serde_json::Value> =
        Source::get(&base, &client, "/api/v1/status").await;
    finish(answer.and_then(|status| {
        if json {
            output::json(&status)?;
        } else {
            print_status(&status);
        }
        Ok(Exit::Done)
    }))
}

fn print_status(status: &serde_json::Value) {
    let text =
        |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for key in
        ["version", "role", "hotkey", "pid", "uptime_ms", "config_generation", "reload_failures"]
    {
        output::line(&format_args!("{key:<18} {}", text(&status[key])));
    }
    for check in status["checks"].as_array().into_iter().flatten() {
        let mark = if check["ok"].as_bool() == Some(true) { "ok" } else { "NOT OK" };
        output::line(&format_args!(
            "{:<18} {mark} {}",
            text(&check["name"]),
            text(&check["detail"])
        ));
    }
    for actor in status["actors"].as_array().into_iter().flatten() {
        output::line(&format_args!(
            "  {:<24} restarts {:<3} {} {}",
            text(&actor["name"]),
            text(&actor["restarts"]),
            text(&actor["step"]),
            if actor["degraded"].as_bool() == Some(true) { "GIVEN UP" } else { "" },
        ));
    }
}

/// `forecastd rounds list`.
pub async fn rounds(data_dir: &Path, arguments: &RoundsListArgs) -> Exit {
    let limit = arguments.limit.min(views::MAX_ROWS);
    let stream = arguments.stream.as_deref();
    let outcome = async { source(data_dir).await?.rounds(stream, limit).await };
    finish(outcome.await.and_then(|rows| {
        if arguments.json {
            output::json(&rows)?;
            return Ok(Exit::Done);
        }
        output::line(&"start (UTC)          round     state      asked  answered  reason");
        for row in rows {
            output::line(&format_args!(
                "{}  {}  {:<9} {:>6} {:>9}  {}",
                time(row.start_ms),
                row.round_id.get(..8).unwrap_or(&row.round_id),
                row.state,
                row.asked,
                row.answered,
                row.void_reason.unwrap_or_default(),
            ));
        }
        Ok(Exit::Done)
    }))
}

fn time(at_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms)
        .map_or_else(|| at_ms.to_string(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// `forecastd rounds show ID`.
pub async fn round(data_dir: &Path, id: &str, json: bool) -> Exit {
    let outcome = async { source(data_dir).await?.round(id).await };
    finish(outcome.await.and_then(|view| {
        if json {
            output::json(&view)?;
            return Ok(Exit::Done);
        }
        let row = &view.row;
        output::line(&format_args!("round {} of {}: {}", row.round_id, row.stream, row.state));
        output::line(&format_args!("start {}, due {}", time(row.start_ms), time(row.due_at_ms)));
        if let Some(importance) = view.importance {
            output::line(&format_args!("importance {importance}"));
        }
        output::line(&"   uid  hotkey        RMSE      share  refusal");
        for miner in &view.miners {
            output::line(&format_args!(
                "{:>6}  {}  {:>9}  {:>9.4}  {}",
                miner.uid,
                miner.hotkey.short(),
                miner.rmse.map_or_else(|| "-".to_owned(), |rmse| format!("{rmse:.2}")),
                miner.share,
                miner.refusal.as_deref().unwrap_or_default(),
            ));
        }
        Ok(Exit::Done)
    }))
}

/// `forecastd rounds replay ID` and `--all`: exit 1 on a difference.
pub async fn replay(data_dir: &Path, id: Option<&str>, json: bool) -> Exit {
    let outcome = async { source(data_dir).await?.replay(id).await };
    finish(outcome.await.and_then(|replays| {
        let count = |verdict: &str| replays.iter().filter(|r| r.verdict == verdict).count();
        let different = count("different");
        if json {
            output::json(&replays)?;
        } else {
            for replay in replays.iter().filter(|replay| replay.verdict == "different") {
                output::line(&format_args!(
                    "round {} differs: {}",
                    replay.round_id,
                    replay.differences.join("; ")
                ));
            }
            output::line(&format_args!(
                "{} rounds: {} same, {} void, {} past retention, {different} different",
                replays.len(),
                count("same"),
                count("void"),
                count("expired"),
            ));
        }
        Ok(if different == 0 { Exit::Done } else { Exit::Unfinished })
    }))
}

/// `forecastd scores`.
pub async fn scores(data_dir: &Path, stream: Option<&str>, json: bool) -> Exit {
    let outcome = async { source(data_dir).await?.scores(stream).await };
    finish(outcome.await.and_then(|rows| {
        if json {
            output::json(&rows)?;
            return Ok(Exit::Done);
        }
        output::line(&"hotkey    uid      EMA   weight  scored  streak  last RMSE  last refusal");
        for row in rows {
            let number = |value: Option<f64>, digits: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            output::line(&format_args!(
                "{} {:>4} {:>8} {:>8} {:>7} {:>7} {:>10}  {}",
                row.hotkey.short(),
                row.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string()),
                number(row.ema, 5),
                row.weight,
                row.scored,
                row.streak,
                number(row.last_rmse, 2),
                row.last_refusal.unwrap_or_default(),
            ));
        }
        Ok(Exit::Done)
    }))
}
