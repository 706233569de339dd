//! `forecastd history fetch | import | export | verify`.

pub mod draft;
pub mod fetch;
mod files;
mod progress;
pub mod stored;
mod verify;

use std::path::{Path, PathBuf};

use forecastd_core::Interval;
use forecastd_core::bars::{GapReport, Run};

use crate::cli::{GlobalArgs, HistoryCommand, MissingFile};
use crate::commands::source::finish;
use crate::config::ConfigErrors;
use crate::exit::Exit;
use crate::output;

/// Gaps that are printed for people; `--json` has more.
const PRINTED_RUNS: usize = 10;

/// Runs the command to its end.
pub async fn run(global: &GlobalArgs, command: &HistoryCommand) -> Exit {
    let outcome = match command {
        HistoryCommand::Fetch(arguments) => fetch::run(global, arguments).await,
        HistoryCommand::Import(arguments) => files::import(global, arguments).await,
        HistoryCommand::Export(arguments) => files::export(global, arguments).await,
        HistoryCommand::Verify(arguments) => verify::run(global, arguments).await,
    };
    let Err(error) = &outcome else { return finish(outcome) };
    let exit = if error.is::<Misuse>() {
        Exit::Usage
    } else if error.is::<ConfigErrors>() {
        Exit::Config
    } else {
        return finish(outcome);
    };
    output::error(&format_args!("{error:#}"));
    exit
}

/// What was asked for cannot be done whatever the state of the world: exit code 64.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

fn misuse(error: &impl ToString) -> anyhow::Error {
    Misuse(error.to_string()).into()
}

/// Returns the data directory: the named one, or that of the configuration.
fn data_dir(global: &GlobalArgs) -> anyhow::Result<PathBuf> {
    if let Some(directory) = &global.data_dir {
        return Ok(directory.clone());
    }
    Ok(global.load(MissingFile::UseDefaults)?.config.store.path)
}

/// Refuses to replace a file.
fn must_not_exist(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(!path.exists(), "{} exists already, name another file", path.display());
    Ok(())
}

fn time(at_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms)
        .map_or_else(|| at_ms.to_string(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// Prints a gap report for people.
fn print_report(report: &GapReport) {
    let interval = Interval::from_ms(report.interval_ms).unwrap_or(Interval::FIVE_MINUTES);
    let span = |from_ms: Option<i64>, to_ms: Option<i64>| match (from_ms, to_ms) {
        (Some(from_ms), Some(to_ms)) => format!("{} .. {}", time(from_ms), time(to_ms)),
        _ => "nothing".to_owned(),
    };
    output::line(&format_args!(
        "{} of {} candles of {interval}, {:.3} % of {}",
        report.candles,
        report.expected,
        report.coverage_percent,
        span(report.from_ms, report.to_ms),
    ));
    print_runs("missing", report.missing, report.gaps, &report.missing_runs);
    let runs = report.flat_runs.len() as u64;
    print_runs("without a trade", report.flat, runs, &report.flat_runs);
    for (what, count) in [
        ("twice", report.duplicates),
        ("out of order", report.out_of_order),
        ("off the grid", report.off_grid),
        ("not readable or not sound", report.invalid),
    ] {
        if count > 0 {
            output::line(&format_args!("{count} rows {what}"));
        }
    }
}

fn print_runs(what: &str, count: u64, total: u64, runs: &[Run]) {
    if count == 0 {
        return;
    }
    output::line(&format_args!("{count} {what}, {total} runs"));
    for run in runs.iter().take(PRINTED_RUNS) {
        output::line(&format_args!(
            "  {} .. {}  {:>8}",
            time(run.from_ms),
            time(run.to_ms),
            run.count
        ));
    }
    if total > PRINTED_RUNS as u64 {
        output::line(&format_args!("  and {} more, see --json", total - PRINTED_RUNS as u64));
    }
}
