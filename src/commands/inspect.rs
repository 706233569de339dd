//! `status`, `rounds` and `scores`: ask the running daemon, or read the store of a stopped one.

use std::path::Path;

use crate::cli::RoundsListArgs;
use crate::commands::source::{Running, Source, finish};
use crate::exit::Exit;
use crate::output;
use crate::views;

/// `forecastd status`.
pub async fn status(data_dir: &Path, json: bool) -> Exit {
    let Some(daemon) = Running::find(data_dir).await else {
        output::error(&format_args!(
            "no daemon runs on {}; start one with `forecastd run`, or {}",
            data_dir.display(),
            super::NAME_THE_DIRECTORY
        ));
        return Exit::Unavailable;
    };
    let answer: anyhow::Result<serde_json::Value> = daemon.get("/api/v1/status").await;
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
    let checks = || status["checks"].as_array().into_iter().flatten();
    let failing: Vec<String> = checks()
        .filter(|check| check["ok"].as_bool() != Some(true))
        .map(|check| format!("{} ({})", text(&check["name"]), text(&check["detail"])))
        .collect();
    let ready = if failing.is_empty() { "yes".to_owned() } else { failing.join(", ") };
    let word = if failing.is_empty() { "ready" } else { "NOT ready" };
    output::line(&format_args!("{word:<18} {ready}"));
    let alarms = status["live"]["alarms"].as_object();
    for (about, what) in alarms.into_iter().flatten() {
        output::line(&format_args!("{:<18} {about}: {}", "ALARM", text(what)));
    }
    for check in checks() {
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
    let outcome = async { Source::open(data_dir).await?.rounds(stream, limit).await };
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
    let outcome = async { Source::open(data_dir).await?.round(id).await };
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
    let outcome = async { Source::open(data_dir).await?.replay(id).await };
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
    let outcome = async { Source::open(data_dir).await?.scores(stream).await };
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
