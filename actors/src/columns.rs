//! The columns of numbers beside the candles: reads their sources, keeps what was known when.
//!
//! Receives: its own timer. Sends: nothing; publishes the columns on the board, from where each window
//! takes them. Owns `ObservationRecord`s. A source that no stream uses is not read. A source that
//! cannot be read leaves its last values in place until they are too old for a window; the features
//! built on it are then missing, and the next model answers. On restart: what came from a network is
//! read from the store, the rest of it is asked for; files are read again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::{Clock, Column, ColumnName, Columns, Interval, Observation};
use forecastd_exchange::{CoinMetrics, SeriesConfig};
use forecastd_store::{Batch, ObservationRecord, Store};
use sha2::{Digest, Sha256};
use tracing::{debug, warn};

use crate::error::{ActorError, StepContext, with_causes};
use crate::guard;
use crate::node::Node;
use crate::settings::Settings;
use crate::vitals::Vitals;

mod read;
mod settings;

use read::{Failed, Stamp, client, known_after_ms, read_file, steps};

pub use read::read_column;
pub use settings::{AccessKey, ColumnOrigin, ColumnSettings};

/// Real time between two looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Least real time between two refreshes of one column, however fast the market's clock runs.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
/// Real time before a column that could not be read is tried again; doubles up to the greatest.
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_mins(10);
/// Failures in a row after which an operator must look.
const ALARM_FAILURES: u32 = 3;
/// Values that are asked for again at each refresh, since they may have been corrected.
const REVISITED: i64 = 12;
/// The same where values come at their own times.
const REVISITED_MS: i64 = 3_600_000;
/// Rows written in one batch.
const WRITE_CHUNK: usize = 500;

#[derive(Message)]
#[rtype(result = "()")]
struct Look;

/// What is known of one column.
#[derive(Debug)]
struct Entry {
    settings: ColumnSettings,
    values: Arc<Vec<Observation>>,
    /// Whether all of the past was read once: what is new after that became known when it came.
    is_complete: bool,
    is_busy: bool,
    failures: u32,
    /// Real time of the next refresh, ms since the epoch.
    due_ms: i64,
    /// The file that was read, as it was.
    file: Option<Stamp>,
}

/// The columns actor, see the module.
#[derive(Debug)]
pub struct ColumnReader {
    node: Node,
    vitals: Arc<Vitals>,
    entries: BTreeMap<ColumnName, Entry>,
    resume_after: Duration,
}

/// What a refresh needs to know.
struct Task {
    settings: ColumnSettings,
    values: Arc<Vec<Observation>>,
    is_complete: bool,
    file: Option<Stamp>,
    /// Own time from which on values are kept.
    from_ms: i64,
}

/// What a refresh gave.
struct Refreshed {
    values: Vec<Observation>,
    file: Option<Stamp>,
}

impl ColumnReader {
    /// Creates the actor; it looks at its sources after its start.
    pub const fn new(node: Node, vitals: Arc<Vitals>) -> Self {
        Self { node, vitals, entries: BTreeMap::new(), resume_after: Duration::ZERO }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let settings = self.node.settings.load_full();
        let used = used(&settings);
        let before = self.entries.len();
        let wanted = |name: &ColumnName| {
            settings.columns.iter().find(|column| column.name == *name && used.contains(name))
        };
        self.entries.retain(|name, entry| wanted(name) == Some(&entry.settings));
        if self.entries.len() < before {
            self.publish();
        }
        let now_ms = self.node.real.now_ms();
        for column in settings.columns.iter().filter(|column| used.contains(&column.name)) {
            let entry = self.entries.entry(column.name.clone()).or_insert_with(|| Entry {
                settings: column.clone(),
                values: Arc::default(),
                is_complete: false,
                is_busy: false,
                failures: 0,
                due_ms: now_ms,
                file: None,
            });
            if entry.is_busy || entry.due_ms > now_ms {
                continue;
            }
            entry.is_busy = true;
            let task = Task {
                settings: column.clone(),
                values: Arc::clone(&entry.values),
                is_complete: entry.is_complete,
                file: entry.file,
                from_ms: self.node.market.now_ms().saturating_sub(span_ms(&settings, column)),
            };
            let (store, market) = (self.node.store.clone(), Arc::clone(&self.node.market));
            let asked = column.clone();
            // The outcome is data here: a failed refresh must arm the next one too.
            let work = async move { Ok(refresh(&store, &market, task).await) };
            guard::spawn(self, ctx, "refreshing a column", work, move |actor, _, outcome| {
                actor.take(&asked, outcome);
                Ok(())
            });
        }
    }

    fn take(&mut self, asked: &ColumnSettings, outcome: Result<Refreshed, Failed>) {
        let now_ms = self.node.real.now_ms();
        // Reconfigured meanwhile: the next look begins anew.
        let Some(entry) = self.entries.get_mut(&asked.name).filter(|e| e.settings == *asked) else {
            return;
        };
        entry.is_busy = false;
        let about = format!("column {}", asked.name);
        let (pause, alarm) = match outcome {
            Ok(refreshed) => {
                entry.failures = 0;
                entry.is_complete = true;
                entry.values = Arc::new(refreshed.values);
                entry.file = refreshed.file;
                let pause = self.node.market.real_duration_of(asked.refresh_every);
                (pause.max(LEAST_PAUSE), too_old(&self.node, asked, &entry.values))
            }
            Err(Failed { error, wait, is_retryable }) => {
                warn!(actor = "columns", column = %asked.name, %error, "column not read");
                entry.failures = entry.failures.saturating_add(1);
                let doubled = RETRY.saturating_mul(1 << (entry.failures - 1).min(16));
                let what =
                    format!("cannot be read, its last values are used: {}", with_causes(&error));
                let is_due = !is_retryable || entry.failures >= ALARM_FAILURES;
                // What nobody changes by waiting is not asked for every few seconds.
                let pause = if is_retryable { doubled.min(RETRY_MAX) } else { RETRY_MAX };
                (pause.max(wait), is_due.then_some(what))
            }
        };
        entry.due_ms = now_ms.saturating_add(ms(pause));
        let is_failing = entry.failures > 0;
        match alarm {
            Some(what) => self.node.raise_alarm(&about, what),
            None if !is_failing => self.node.clear_alarm(&about),
            None => {}
        }
        if !is_failing {
            self.publish();
        }
    }

    fn publish(&self) {
        let mut columns = Columns::default();
        for (name, entry) in &self.entries {
            match Column::new(entry.values.to_vec(), ms(entry.settings.max_age)) {
                Ok(column) => columns.insert(name.clone(), Arc::new(column)),
                Err(error) => warn!(actor = "columns", column = %name, %error, "column left out"),
            }
        }
        self.node.boards.columns.store(Arc::new(columns));
    }
}

/// Returns the columns that some stream's features name.
fn used(settings: &Settings) -> BTreeSet<ColumnName> {
    settings.streams.iter().flat_map(|stream| stream.features.columns()).cloned().collect()
}

/// Returns how far back the values of a column are needed.
fn span_ms(settings: &Settings, column: &ColumnSettings) -> i64 {
    let uses = settings
        .streams
        .iter()
        .filter(|stream| stream.features.columns().any(|name| *name == column.name));
    let spans = uses.map(|stream| {
        let rows = i64::try_from(stream.spec.lookback).unwrap_or(i64::MAX).saturating_add(1);
        stream.spec.interval.as_ms().saturating_mul(rows)
    });
    spans.max().unwrap_or(0).saturating_add(ms(column.max_age))
}

/// Says that the newest value is too old to be used, if it is.
fn too_old(node: &Node, column: &ColumnSettings, values: &[Observation]) -> Option<String> {
    let Some(newest_ms) = values.iter().map(|value| value.at_ms).max() else {
        return Some("the source has no value of the needed time".to_owned());
    };
    let age_ms = node.market.now_ms().saturating_sub(newest_ms);
    (age_ms > ms(column.max_age))
        .then(|| format!("the newest value is {} s old, more than its `max_age`", age_ms / 1_000))
}

async fn refresh(store: &Store, market: &Arc<dyn Clock>, task: Task) -> Result<Refreshed, Failed> {
    match task.settings.origin.clone() {
        ColumnOrigin::File { path, column, every, publication_delay } => {
            let known_after_ms = known_after_ms(every, publication_delay);
            refresh_file(market, task, path, column, known_after_ms).await
        }
        ColumnOrigin::CoinMetrics { url, series, key, timeout } => {
            let client = client(url.as_deref(), key, timeout, Arc::clone(market))?;
            refresh_series(store, market, task, &client, &series).await
        }
    }
}

/// Asks for what is not known yet, and for the newest values again.
async fn refresh_series(
    store: &Store,
    market: &Arc<dyn Clock>,
    task: Task,
    client: &CoinMetrics,
    series: &SeriesConfig,
) -> Result<Refreshed, Failed> {
    let id = series_id(series);
    let mut values =
        if task.is_complete { task.values.to_vec() } else { stored(store, &id, task.from_ms)? };
    values.retain(|value| value.at_ms >= task.from_ms);
    let revisited_ms = series.every.map_or(REVISITED_MS, |every| every.as_ms() * REVISITED);
    let newest_ms = values.iter().map(|value| value.at_ms).max();
    let from_ms = newest_ms
        .map_or(task.from_ms, |newest_ms| newest_ms.saturating_sub(revisited_ms).max(task.from_ms));
    let now_ms = market.now_ms();
    for (from_ms, to_ms) in steps(series, from_ms.max(0), now_ms) {
        let told = client.series(series, from_ms, to_ms).await?;
        let news = news(&values, &told, task.is_complete.then_some(now_ms));
        write(store, &id, &news).await?;
        debug!(actor = "columns", column = %task.settings.name, count = news.len(), "values read");
        values.extend(news);
    }
    Ok(Refreshed { values, file: None })
}

async fn refresh_file(
    market: &Arc<dyn Clock>,
    task: Task,
    path: PathBuf,
    column: String,
    known_after_ms: i64,
) -> Result<Refreshed, Failed> {
    let known = task.file;
    let read =
        tokio::task::spawn_blocking(move || read_file(&path, &column, known_after_ms, known));
    let read = read.await.step("reading a column's file")??;
    let mut values = task.values.to_vec();
    values.retain(|value| value.at_ms >= task.from_ms);
    let Some((file, mut told)) = read else { return Ok(Refreshed { values, file: known }) };
    told.retain(|value| value.at_ms >= task.from_ms);
    let news = news(&values, &told, task.is_complete.then(|| market.now_ms()));
    values.extend(news);
    Ok(Refreshed { values, file: Some(file) })
}

/// Returns what is new in `told`: values that were not known, and corrections.
///
/// `now_ms`: absent for the first reading, whose values became known as their source says. Later
/// ones became known when they came, since nobody had them before.
fn news(known: &[Observation], told: &[Observation], now_ms: Option<i64>) -> Vec<Observation> {
    let mut newest: BTreeMap<i64, Observation> = BTreeMap::new();
    for value in known {
        let slot = newest.entry(value.at_ms).or_insert(*value);
        if value.known_ms >= slot.known_ms {
            *slot = *value;
        }
    }
    let mut news = Vec::new();
    for value in told {
        let before = newest.get(&value.at_ms);
        if before.is_some_and(|before| before.value.to_bits() == value.value.to_bits()) {
            continue;
        }
        // A correction cannot have been known before what it corrects.
        let floor_ms = before.map_or(i64::MIN, |before| before.known_ms);
        let known_ms = value.known_ms.max(now_ms.unwrap_or(i64::MIN)).max(floor_ms);
        news.push(Observation { known_ms, ..*value });
    }
    news
}

/// Returns the text under which the values of a series are stored: another series under the same
/// name of a column must never be read as this one.
fn series_id(series: &SeriesConfig) -> String {
    let every_ms = series.every.map_or(0, Interval::as_ms);
    let SeriesConfig { endpoint, of, metric, .. } = series;
    let text = format!("coinmetrics {endpoint} {of} {metric} {every_ms}");
    let digest = Sha256::digest(text.as_bytes());
    hex::encode(digest.get(..16).unwrap_or_default())
}

fn stored(store: &Store, id: &str, from_ms: i64) -> Result<Vec<Observation>, ActorError> {
    let range = (id.to_owned(), from_ms, i64::MIN)..(id.to_owned(), i64::MAX, i64::MAX);
    let rows = store.scan::<ObservationRecord>(range);
    rows.map(|row| {
        let ((_, at_ms, known_ms), record) = row.step("reading a column's values")?;
        Ok(Observation { at_ms, known_ms, value: record.value })
    })
    .collect()
}

async fn write(store: &Store, id: &str, values: &[Observation]) -> Result<(), ActorError> {
    for chunk in values.chunks(WRITE_CHUNK) {
        let mut batch = Batch::new();
        for value in chunk {
            let key = (id.to_owned(), value.at_ms, value.known_ms);
            let record = ObservationRecord { value: value.value };
            batch = batch.put(&key, &record).step("encoding a column's value")?;
        }
        store.write(batch).await.step("storing a column's values")?;
    }
    Ok(())
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Actor for ColumnReader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.resume_after, |_, ctx| {
            ctx.notify(Look);
            ctx.run_interval(LOOK_EVERY, |_, ctx| ctx.notify(Look));
        });
    }
}

impl Supervised for ColumnReader {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.entries.clear();
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<Look> for ColumnReader {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        if let Err(error) = guard::run(self, ctx, "looking at columns", |actor, ctx| {
            actor.look(ctx);
            Ok(())
        }) {
            warn!(actor = "columns", %error, "columns cannot be looked at");
        }
    }
}

crate::life_signs!(ColumnReader);

#[cfg(test)]
mod tests;
