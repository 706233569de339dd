//! `forecastd history import` and `export`.

use std::path::Path;

use anyhow::Context as _;
use forecastd_core::Interval;
use forecastd_core::bars::{Bar, BarState, GapReport, Survey};
use forecastd_history::{CandleFile, CandleWriter, FileKind, Joiner, detect_interval};
use serde::Serialize;

use super::stored::{BarWriter, StoredBars, Written};
use super::{data_dir, misuse, must_not_exist, print_report};
use crate::cli::{GlobalArgs, HistoryExportArgs, HistoryImportArgs};
use crate::exit::Exit;
use crate::output;

/// Where joined candles go.
enum Target {
    File { writer: Box<CandleWriter>, keeps_partial: bool, left_out: u64 },
    Store(Box<BarWriter>),
}

impl Target {
    fn file(path: &Path, keeps_partial: bool) -> anyhow::Result<Self> {
        FileKind::of(path).map_err(|error| misuse(&error))?;
        must_not_exist(path)?;
        let writer = Box::new(CandleWriter::create(path)?);
        Ok(Self::File { writer, keeps_partial, left_out: 0 })
    }

    async fn push(&mut self, bar: Bar) -> anyhow::Result<()> {
        match self {
            Self::File { writer, keeps_partial, left_out } => {
                // A file of candles cannot say that one of them lacks a part.
                if bar.state.is_whole() || *keeps_partial {
                    writer.push(&bar.candle)?;
                } else {
                    *left_out += 1;
                }
                Ok(())
            }
            Self::Store(writer) => writer.push(bar).await,
        }
    }

    async fn finish(self) -> anyhow::Result<Outcome> {
        Ok(match self {
            Self::File { writer, left_out, .. } => {
                Outcome { candles: writer.finish()?, left_out, stored: None }
            }
            Self::Store(writer) => {
                let stored = writer.finish().await?;
                let candles = stored.added + stored.replaced + stored.kept;
                Outcome { candles, left_out: 0, stored: Some(stored) }
            }
        })
    }
}

/// What was written.
#[derive(Debug, Serialize)]
struct Outcome {
    candles: u64,
    left_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<Written>,
}

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Moved<'a> {
    interval_ms: i64,
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// On the candles that were read.
    report: &'a GapReport,
}

fn print(
    json: bool,
    interval: Interval,
    outcome: &Outcome,
    report: &GapReport,
) -> anyhow::Result<()> {
    if json {
        return output::json(&Moved { interval_ms: interval.as_ms(), outcome, report });
    }
    print_report(report);
    output::line(&format_args!("{} candles of {interval} written", outcome.candles));
    if outcome.left_out > 0 {
        output::line(&format_args!(
            "{} left out because a part of them is missing, see --keep-partial",
            outcome.left_out
        ));
    }
    if let Some(Written { added, replaced, kept }) = outcome.stored {
        output::line(&format_args!("{added} added, {replaced} replaced, {kept} kept"));
    }
    Ok(())
}

fn joiner(from: Interval, to: Interval) -> anyhow::Result<Joiner> {
    Joiner::new(from, to).map_err(|error| misuse(&error))
}

/// Reads a file into the store or into another file.
///
/// # Errors
/// The first faulty row; what comes before it is in the store, and no file is made.
pub(super) async fn import(
    global: &GlobalArgs,
    arguments: &HistoryImportArgs,
) -> anyhow::Result<Exit> {
    let from = match arguments.file_interval {
        Some(interval) => interval,
        None => detect_interval(&arguments.file)?,
    };
    let (mut target, known) = match (&arguments.stream, &arguments.out) {
        (Some(stream), _) => {
            let writer = BarWriter::open(&data_dir(global)?, stream, "import").await?;
            let known = writer.interval()?;
            (Target::Store(Box::new(writer)), known)
        }
        (None, Some(out)) => (Target::file(out, arguments.keep_partial)?, None),
        (None, None) => return Err(misuse(&"name a file with --out or a stream with --stream")),
    };
    let to = arguments.interval.or(known).unwrap_or(from);
    if let Some(known) = known.filter(|known| *known != to) {
        return Err(misuse(&format!("the stream has candles of {known}, not {to}")));
    }
    let mut joiner = joiner(from, to)?;
    let mut survey = Survey::new(from);
    for candle in CandleFile::open(&arguments.file)?.strict(from)? {
        let candle = candle?;
        survey.add(&candle).with_context(|| format!("reading {}", arguments.file.display()))?;
        if let Some(bar) = joiner.push(Bar::backfilled(candle))? {
            target.push(bar).await?;
        }
    }
    if let Some(bar) = joiner.finish()? {
        target.push(bar).await?;
    }
    let outcome = target.finish().await?;
    print(arguments.json, to, &outcome, &survey.report(None))?;
    Ok(Exit::Done)
}

/// Writes a stream's candles to a file.
///
/// # Errors
/// The stream is not known, its candles cannot be read, or the file cannot be written.
pub(super) async fn export(
    global: &GlobalArgs,
    arguments: &HistoryExportArgs,
) -> anyhow::Result<Exit> {
    let stored = StoredBars::open(&data_dir(global)?, &arguments.stream).await?;
    let from_ms = arguments.from.map_or(0, |time| time.ms);
    let to_ms = arguments.to.map_or(i64::MAX, |time| time.ms);
    let mut page = stored.page(from_ms, to_ms).await?;
    let from = page.interval_ms.map(Interval::from_ms).transpose()?;
    let from = from.or(arguments.interval).context(
        "the store does not know the length of the stream's candles, name it with --interval",
    )?;
    let to = arguments.interval.unwrap_or(from);
    let mut joiner = joiner(from, to)?;
    let mut target = Target::file(&arguments.out, arguments.keep_partial)?;
    let mut survey = Survey::new(from);
    loop {
        for bar in std::mem::take(&mut page.bars) {
            // A void one is nobody's price.
            if bar.state == BarState::Void {
                continue;
            }
            survey.add(&bar.candle).context("reading the stream's candles")?;
            if let Some(bar) = joiner.push(bar)? {
                target.push(bar).await?;
            }
        }
        let Some(next_ms) = page.next_ms else { break };
        page = stored.page(next_ms, to_ms).await?;
    }
    if let Some(bar) = joiner.finish()? {
        target.push(bar).await?;
    }
    let outcome = target.finish().await?;
    print(arguments.json, to, &outcome, &survey.report(None))?;
    Ok(Exit::Done)
}
