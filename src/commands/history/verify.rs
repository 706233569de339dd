//! `forecastd history verify`: what a file or a stream lacks.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use forecastd_core::Interval;
use forecastd_core::bars::{BarState, GapReport, MAX_LISTED, Survey};
use forecastd_history::{CandleFile, HistoryError, Row, detect_interval};
use serde::Serialize;

use super::stored::StoredBars;
use super::{data_dir, misuse, print_report};
use crate::cli::{GlobalArgs, HistoryVerifyArgs};
use crate::exit::Exit;
use crate::output;

/// Faulty rows that are printed for people.
const PRINTED_FAULTS: usize = 20;

/// What was found, for programs.
#[derive(Debug, Serialize)]
struct Verified {
    is_ok: bool,
    report: GapReport,
    /// The first faulty rows with their places, at most [`MAX_LISTED`].
    faults: Vec<String>,
    /// Candles of a stream by how much of them is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    states: BTreeMap<&'static str, u64>,
}

/// Runs the command.
///
/// # Errors
/// The file or the stream cannot be read.
pub(super) async fn run(
    global: &GlobalArgs,
    arguments: &HistoryVerifyArgs,
) -> anyhow::Result<Exit> {
    let span = arguments.from.zip(arguments.to).map(|(from, to)| (from.ms, to.ms));
    let verified = match (&arguments.file, &arguments.stream) {
        (Some(file), _) => verify_file(file, arguments.interval, span)?,
        (None, Some(stream)) => {
            let stored = StoredBars::open(&data_dir(global)?, stream).await?;
            verify_stream(&stored, arguments.interval, span).await?
        }
        (None, None) => return Err(misuse(&"name a file, or a stream with --stream")),
    };
    if arguments.json {
        output::json(&verified)?;
    } else {
        for fault in verified.faults.iter().take(PRINTED_FAULTS) {
            output::line(fault);
        }
        if verified.faults.len() > PRINTED_FAULTS {
            output::line(&"and more faulty rows, see --json");
        }
        print_report(&verified.report);
        for (state, count) in &verified.states {
            output::line(&format_args!("{count} {state}"));
        }
    }
    Ok(if verified.is_ok { Exit::Done } else { Exit::Unfinished })
}

fn verify_file(
    path: &Path,
    interval: Option<Interval>,
    span: Option<(i64, i64)>,
) -> anyhow::Result<Verified> {
    let interval = match interval {
        Some(interval) => interval,
        None => detect_interval(path)?,
    };
    let mut survey = Survey::new(interval);
    let mut faults = Vec::new();
    let mut note = |fault: HistoryError| {
        if faults.len() < MAX_LISTED {
            faults.push(fault.to_string());
        }
    };
    for row in CandleFile::open(path)? {
        match row {
            Ok(Row { place, candle }) => {
                if let Err(finding) = survey.add(&candle) {
                    note(HistoryError::Row { file: path.display().to_string(), place, finding });
                }
            }
            Err(error) if error.is_row() => {
                survey.add_unreadable();
                note(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let report = survey.report(span);
    Ok(Verified { is_ok: report.is_clean(), report, faults, states: BTreeMap::new() })
}

async fn verify_stream(
    stored: &StoredBars,
    interval: Option<Interval>,
    span: Option<(i64, i64)>,
) -> anyhow::Result<Verified> {
    let (from_ms, to_ms) = span.unwrap_or((0, i64::MAX));
    let mut page = stored.page(from_ms, to_ms).await?;
    let known = page.interval_ms.map(Interval::from_ms).transpose()?;
    let interval = interval.or(known).context(
        "the store does not know the length of the stream's candles, name it with --interval",
    )?;
    let mut survey = Survey::new(interval);
    let mut faults = Vec::new();
    let mut states = BTreeMap::new();
    loop {
        for bar in std::mem::take(&mut page.bars) {
            let name = match bar.state {
                BarState::Complete => "complete",
                BarState::Backfilled => "backfilled",
                BarState::Partial => "partial",
                BarState::Void => "void",
            };
            *states.entry(name).or_default() += 1;
            // What is filled flat from the past is missing all the same.
            if bar.state == BarState::Void {
                continue;
            }
            if let Err(finding) = survey.add(&bar.candle)
                && faults.len() < MAX_LISTED
            {
                faults.push(finding.to_string());
            }
        }
        let Some(next_ms) = page.next_ms else { break };
        page = stored.page(next_ms, to_ms).await?;
    }
    let report = survey.report(span);
    let is_ok = report.is_clean() && !states.contains_key("partial");
    Ok(Verified { is_ok, report, faults, states })
}
