//! `forecastd history fetch`: page by page from an exchange, so that a kill at any instant costs
//! at most one page.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use forecastd_core::bars::{Bar, GapReport, Survey};
use forecastd_core::{Candle, Clock, Interval};
use forecastd_exchange::{CandleSource, Exchange, ExchangeError, FeedConfig};
use forecastd_history::{CandleWriter, FileKind};
use serde::Serialize;
use tokio::time::sleep;

use super::draft::{Draft, DraftHead, draft_path};
use super::progress::Progress;
use super::stored::{BarWriter, Written};
use super::{data_dir, misuse, must_not_exist, print_report, time};
use crate::cli::{GlobalArgs, HistoryFetchArgs};
use crate::clock::SystemClock;
use crate::exit::Exit;
use crate::output;
use crate::signals::Signals;

/// Intervals of one call. With the proof that the last one has closed they fill one page of the
/// exchanges with the longest pages.
const PAGE: i64 = 999;
/// Market time of one call where candles are built from trades: tens of requests.
const TRADES_PAGE_MS: i64 = 6 * 3_600_000;
/// Real time that the newest candle gets to settle before it is asked for.
const SETTLE_MS: i64 = 10_000;
/// Longest wait that an exchange may ask for before the command gives up.
const MAX_WAIT: Duration = Duration::from_mins(15);
/// Failures in a row after which the command gives up; with the pauses about five minutes.
const MAX_FAILURES: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// A market, and the candles to fetch of it.
#[derive(Debug)]
pub struct Wanted {
    /// Where from.
    pub exchange: Exchange,
    /// The exchange's client.
    pub source: Arc<dyn CandleSource>,
    /// Its name of the market.
    pub symbol: String,
    /// Length of a candle.
    pub interval: Interval,
    /// First open time.
    pub from_ms: i64,
    /// End, not included.
    pub to_ms: i64,
    /// Whether progress goes to standard error.
    pub tells_progress: bool,
    /// Before this time the exchange has no candles any more, ms; they are built from its trades.
    pub oldest_ms: AtomicI64,
}

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Fetched<'a> {
    exchange: &'a str,
    symbol: &'a str,
    #[serde(rename = "fetched")]
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<Written>,
    report: &'a GapReport,
}

/// Runs the command.
///
/// # Errors
/// What went wrong; everything fetched until then is kept.
pub async fn run(global: &GlobalArgs, arguments: &HistoryFetchArgs) -> anyhow::Result<Exit> {
    let mut signals = Signals::install().context("installing the signal handlers")?;
    let work = Box::pin(fetch(global, arguments));
    tokio::select! {
        biased;
        outcome = work => outcome,
        () = signals.stop() => {
            output::warning(&"stopped; the same command goes on where it was");
            Ok(Exit::Unfinished)
        }
    }
}

async fn fetch(global: &GlobalArgs, arguments: &HistoryFetchArgs) -> anyhow::Result<Exit> {
    let exchange = arguments.exchange;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // The stream knows the length of its candles.
    let mut writer = None;
    if let Some(stream) = &arguments.stream {
        let name = exchange.as_str();
        writer = Some(BarWriter::open(&data_dir(global)?, stream, name).await?);
    }
    let known = writer.as_ref().map(BarWriter::interval).transpose()?.flatten();
    let interval = arguments.interval.or(known).unwrap_or(Interval::FIVE_MINUTES);
    if let Some(known) = known.filter(|known| *known != interval) {
        return Err(misuse(&format!("the stream has candles of {known}, not {interval}")));
    }
    let default = exchange.default_config();
    let mut symbol = arguments.symbol.clone();
    if let Some(writer) = &mut writer {
        let chosen = writer.choose_market(exchange.as_str(), symbol.as_deref());
        symbol = chosen.map_err(|error| misuse(&error))?.or(symbol);
    }
    let config = FeedConfig {
        symbol: symbol.unwrap_or(default.symbol),
        rest_url: arguments.url.clone().unwrap_or(default.rest_url),
        interval,
        ..exchange.default_config()
    };
    let symbol = config.symbol.clone();
    let (_, source) =
        exchange.open(config, Arc::clone(&clock), 0).map_err(|error| misuse(&error))?;
    let newest_ms = interval.floor(clock.now_ms().saturating_sub(SETTLE_MS));
    let to_ms = arguments.to.map_or(newest_ms, |to| interval.ceil(to.ms)).min(newest_ms);
    let from_ms = interval.ceil(arguments.from.ms.max(0));
    if from_ms >= to_ms {
        let (from, to) = (time(from_ms), time(to_ms));
        return Err(misuse(&format!("no candle has closed between {from} and {to}")));
    }
    let tells_progress = true;
    let oldest_ms = AtomicI64::new(i64::MIN);
    let wanted =
        Wanted { exchange, source, symbol, interval, from_ms, to_ms, tells_progress, oldest_ms };
    let (fetched, report, stored) = match (writer, &arguments.out) {
        (Some(writer), _) => {
            let (fetched, report, stored) = into_store(&wanted, writer).await?;
            (fetched, report, Some(stored))
        }
        (None, Some(out)) => {
            let (fetched, report) = into_file(&wanted, out).await?;
            (fetched, report, None)
        }
        (None, None) => return Err(misuse(&"name a file with --out or a stream with --stream")),
    };
    let file = arguments.out.as_ref().map(|out| out.display().to_string());
    if arguments.json {
        let (exchange, symbol, report) = (exchange.as_str(), &*wanted.symbol, &report);
        let count = fetched;
        output::json(&Fetched { exchange, symbol, count, file, stored, report })?;
    } else {
        print_report(&report);
        if let Some(Written { added, replaced, kept }) = stored {
            output::line(&format_args!("{added} added, {replaced} replaced, {kept} kept"));
        }
        if let Some(file) = file {
            output::line(&format_args!("{fetched} fetched, {} in {file}", report.candles));
        }
    }
    // A caller that asked for a span must not take a part of it for the whole.
    Ok(if report.missing == 0 { Exit::Done } else { Exit::Unfinished })
}

/// Fetches into a file, by way of its draft. Returns how many candles were fetched now, and the
/// report on all of them. The future may be dropped at any point; another call goes on.
///
/// # Errors
/// The exchange or the disk fails; the file exists already.
pub async fn into_file(wanted: &Wanted, out: &Path) -> anyhow::Result<(u64, GapReport)> {
    FileKind::of(out).map_err(|error| misuse(&error))?;
    // With its draft beside it the end of an earlier run was cut off.
    if !draft_path(out).exists() {
        must_not_exist(out)?;
    }
    let head = DraftHead {
        exchange: wanted.exchange.as_str().to_owned(),
        symbol: wanted.symbol.clone(),
        interval_ms: wanted.interval.as_ms(),
        from_ms: wanted.from_ms,
    };
    let mut draft = Draft::open(out, &head)?;
    let before = draft.rows();
    if before > 0 && wanted.tells_progress {
        output::note(&format_args!(
            "going on behind {before} candles, at {}",
            time(draft.next_ms())
        ));
    }
    let total = intervals(wanted.interval, wanted.from_ms, wanted.to_ms);
    let done = intervals(wanted.interval, wanted.from_ms, draft.next_ms()).min(total);
    let mut progress = Progress::start(done, total, wanted.tells_progress);
    let mut at_ms = draft.next_ms();
    while at_ms < wanted.to_ms {
        let (candles, end_ms) = match wanted.page(at_ms, wanted.to_ms, &progress).await {
            Ok(page) => page,
            Err(error) => {
                // An empty draft would only stand in the way of the mended command.
                if draft.rows() == 0 {
                    draft.remove()?;
                }
                return Err(error);
            }
        };
        draft.append(&candles)?;
        progress.advance(intervals(wanted.interval, at_ms, end_ms));
        at_ms = end_ms;
    }
    drop(progress);
    let mut survey = Survey::new(wanted.interval);
    let mut writer = CandleWriter::create(out)?;
    for candle in draft.candles()? {
        let candle = candle?;
        if candle.open_time_ms < wanted.to_ms {
            survey.add(&candle).context("checking the draft")?;
            writer.push(&candle)?;
        }
    }
    writer.finish()?;
    let fetched = draft.rows() - before;
    draft.remove()?;
    Ok((fetched, survey.report(Some((wanted.from_ms, wanted.to_ms)))))
}

/// Fetches what a store lacks.
async fn into_store(
    wanted: &Wanted,
    mut writer: BarWriter,
) -> anyhow::Result<(u64, GapReport, Written)> {
    let Wanted { interval, from_ms, to_ms, .. } = *wanted;
    let missing = writer.survey(interval, from_ms, to_ms)?.missing(from_ms, to_ms);
    let mut progress =
        Progress::start(0, missing.iter().map(|run| run.count).sum(), wanted.tells_progress);
    let mut fetched = 0;
    for run in missing {
        let mut at_ms = run.from_ms;
        while at_ms < run.to_ms {
            let (candles, end_ms) = wanted.page(at_ms, run.to_ms, &progress).await?;
            fetched += candles.len() as u64;
            for candle in candles {
                writer.push(Bar::backfilled(candle)).await?;
            }
            writer.flush().await?;
            progress.advance(intervals(interval, at_ms, end_ms));
            at_ms = end_ms;
        }
    }
    let report = writer.survey(interval, from_ms, to_ms)?.report(Some((from_ms, to_ms)));
    Ok((fetched, report, writer.finish().await?))
}

fn intervals(interval: Interval, from_ms: i64, to_ms: i64) -> u64 {
    u64::try_from((to_ms - from_ms) / interval.as_ms()).unwrap_or(0)
}

impl Wanted {
    /// Returns the candles of the next page of `at_ms..to_ms`, and its end.
    async fn page(
        &self,
        at_ms: i64,
        to_ms: i64,
        progress: &Progress,
    ) -> anyhow::Result<(Vec<Candle>, i64)> {
        let step_ms = self.interval.as_ms();
        let end_ms = at_ms.saturating_add(step_ms.saturating_mul(PAGE)).min(to_ms);
        let (mut failures, mut pause) = (0, FIRST_PAUSE);
        loop {
            let asked = if at_ms < self.oldest_ms.load(Ordering::Relaxed) {
                let page_ms = step_ms.max(self.interval.floor(TRADES_PAGE_MS));
                let end_ms = at_ms.saturating_add(page_ms).min(to_ms);
                let source = &self.source;
                let built =
                    source.candles_from_trades(&self.symbol, self.interval, at_ms, end_ms).await;
                built.map(|candles| (candles.unwrap_or_default(), end_ms))
            } else {
                let source = &self.source;
                let asked = source.candles(&self.symbol, self.interval, at_ms, end_ms).await;
                asked.map(|candles| (candles, end_ms))
            };
            let error = match asked {
                Ok(page) => return Ok(page),
                Err(ExchangeError::TooOld { oldest_ms, .. })
                    if at_ms < oldest_ms && self.has_trades(at_ms).await? =>
                {
                    if self.oldest_ms.swap(oldest_ms, Ordering::Relaxed) == i64::MIN {
                        progress.waiting(&format!(
                            "{} has no candles before {}: building them from its trades, which takes \
                             far longer",
                            self.exchange,
                            time(oldest_ms)
                        ));
                    }
                    continue;
                }
                Err(error) => error,
            };
            failures += 1;
            let wait = error.retry_after().unwrap_or(pause);
            if !error.is_retryable() || failures >= MAX_FAILURES || wait > MAX_WAIT {
                return Err(self.explain(error, at_ms));
            }
            let error = anyhow::Error::from(error);
            progress.waiting(&format!("{error:#}; trying again in {wait:?}"));
            sleep(wait).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Tells whether the exchange gives trades of long ago.
    async fn has_trades(&self, at_ms: i64) -> anyhow::Result<bool> {
        let (symbol, interval) = (&self.symbol, self.interval);
        let asked = self.source.candles_from_trades(symbol, interval, at_ms, at_ms).await;
        Ok(asked.map_err(|error| self.explain(error, at_ms))?.is_some())
    }

    fn explain(&self, error: ExchangeError, at_ms: i64) -> anyhow::Error {
        let exchange = self.exchange;
        if let ExchangeError::TooOld { oldest_ms, .. } = error {
            let (interval, oldest) = (self.interval, time(oldest_ms));
            let reach = self.source.reach().map_or_else(String::new, |reach| {
                format!("keeps about {reach} candles of each length and ")
            });
            return anyhow::anyhow!(
                "{exchange} {reach}has none of {interval} before {oldest}; begin with --from \
                 {oldest_iso}, take a longer --interval, or another exchange",
                oldest_iso = oldest.replace(' ', "T") + "Z",
            );
        }
        let is_misuse = matches!(
            error,
            ExchangeError::Config { .. }
                | ExchangeError::Refused { .. }
                | ExchangeError::UnknownSymbol { .. }
        );
        let at = time(at_ms);
        let context = if is_misuse {
            format!("fetching from {exchange} at {at}")
        } else {
            format!("fetching from {exchange} at {at}; the same command goes on there later")
        };
        anyhow::Error::from(error).context(context)
    }
}
