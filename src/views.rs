//! Read-only views of the store, for the operator's interface and for commands on a stopped
//! daemon: the same answers either way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use anyhow::Context as _;
use forecastd_actors::ledger::{self, Replay};
use forecastd_actors::node::Live;
use forecastd_actors::vitals::VitalsSnapshot;
use forecastd_chain::Metagraph;
use forecastd_core::{Hotkey, RoundState, StreamId, Uid};
use forecastd_store::{
    CandleRecord, EmaRecord, Record, ResultRecord, RoundRecord, ScoreLine, Store, WeightsOutcome,
    WeightsRecord,
};
use serde::{Deserialize, Serialize};

use crate::admin::{AdminState, Check};

/// Most rows of one answer.
pub const MAX_ROWS: usize = 1_000;
/// Results of a stream looked at for streaks and last scores; one day of half-hour rounds.
const RECENT_RESULTS: usize = 48;

/// The daemon at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: &'static str,
    /// Process id.
    pub pid: u32,
    /// `miner`, `validator` or `both`.
    pub role: &'static str,
    /// The node's hotkey.
    pub hotkey: Hotkey,
    /// Market time, ms since the epoch.
    pub market_ms: i64,
    /// Real time since the start, ms.
    pub uptime_ms: i64,
    /// Accepted configurations since the start.
    pub config_generation: u64,
    /// Refused configurations since the start.
    pub reload_failures: u64,
    /// Conditions of readiness.
    pub checks: Vec<Check>,
    /// Life signs of the actors.
    pub actors: Vec<VitalsSnapshot>,
    /// Feeds, candles, chain.
    pub live: Live,
    /// Bytes of the store's databases on disk.
    pub store: forecastd_store::StoreStats,
}

/// A round in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundRow {
    /// The stream.
    pub stream: StreamId,
    /// The wire's `request_uuid`.
    pub round_id: String,
    /// Its slot, ms since the epoch.
    pub start_ms: i64,
    /// When it is or was due.
    pub due_at_ms: i64,
    /// `opened`, `committed`, `pending`, `done` or `void`.
    pub state: String,
    /// Miners asked.
    pub asked: usize,
    /// Miners whose answer was accepted (scored, for a settled round).
    pub answered: usize,
    /// Why it is void.
    pub void_reason: Option<String>,
}

/// One miner's line of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundLine {
    /// Who.
    pub hotkey: Hotkey,
    /// Its slot then.
    pub uid: Uid,
    /// Weighted RMSE, quote currency.
    pub rmse: Option<f64>,
    /// Share of the round, 0..1.
    pub share: f64,
    /// Why it got no score.
    pub refusal: Option<String>,
}

/// A whole round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundView {
    /// The row of the list.
    #[serde(flatten)]
    pub row: RoundRow,
    /// Closes that came true; empty before the score.
    pub realised: Vec<f64>,
    /// How much the round moved the averages.
    pub importance: Option<f64>,
    /// All miners asked.
    pub miners: Vec<RoundLine>,
}

/// One hotkey's standing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// Who.
    pub hotkey: Hotkey,
    /// Its slot now.
    pub uid: Option<Uid>,
    /// Moving average of its shares; none when it was never scored.
    pub ema: Option<f64>,
    /// Rounds folded into the average.
    pub rounds: u64,
    /// Weight last set on the chain, 0..65535.
    pub weight: u16,
    /// Scores within the last day of rounds.
    pub scored: usize,
    /// Scores in a row up to the newest round.
    pub streak: usize,
    /// Weighted RMSE of its last scored round, quote currency.
    pub last_rmse: Option<f64>,
    /// Why its newest refused answer was refused.
    pub last_refusal: Option<String>,
}

/// One attempt to set weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsRow {
    /// Market time, ms since the epoch.
    pub at_ms: i64,
    /// Block.
    pub block: u64,
    /// Weights by uid, 0..65535.
    pub weights: Vec<(Uid, u16)>,
    /// `set`, `refused` or `unknown`.
    pub outcome: String,
    /// More about it.
    pub detail: String,
}

/// Returns the daemon's status.
pub fn status(state: &AdminState) -> Status {
    let node = &state.node;
    Status {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        role: node.role.as_str(),
        hotkey: node.hotkey(),
        market_ms: node.market.now_ms(),
        uptime_ms: node.real.now_ms() - state.started_ms,
        config_generation: node.settings.load().generation,
        reload_failures: state.reload_failures.load(std::sync::atomic::Ordering::Relaxed),
        checks: state.checks(),
        actors: node.vitals.snapshot(),
        live: node.boards.live(),
        store: node.store.stats(),
    }
}

const fn state_name(state: &RoundState) -> &'static str {
    match state {
        RoundState::Opened => "opened",
        RoundState::Committed => "committed",
        RoundState::Pending => "pending",
        RoundState::Done => "done",
        RoundState::Void { .. } => "void",
    }
}

fn pending_row(stream: StreamId, record: &RoundRecord) -> RoundRow {
    let void_reason = match &record.state {
        RoundState::Void { reason } => Some(reason.to_string()),
        _ => None,
    };
    let answered = |miner: &&forecastd_store::AskedMiner| {
        miner.commitment.is_some() && miner.refusal.is_none()
    };
    RoundRow {
        stream,
        round_id: record.round_id.clone(),
        start_ms: record.start_ms,
        due_at_ms: record.due_at_ms,
        state: state_name(&record.state).to_owned(),
        asked: record.asked.len(),
        answered: record.asked.iter().filter(answered).count(),
        void_reason,
    }
}

fn settled_row(stream: StreamId, record: &ResultRecord) -> RoundRow {
    RoundRow {
        stream,
        round_id: record.round_id.clone(),
        start_ms: record.start_ms,
        due_at_ms: record.due_at_ms,
        state: if record.void_reason.is_some() { "void" } else { "done" }.to_owned(),
        asked: record.scores.len(),
        answered: record.scores.iter().filter(|line| line.rmse.is_some()).count(),
        void_reason: record.void_reason.clone(),
    }
}

/// Returns the streams that have rows of a kind, each found by one look at the first of its rows.
fn streams_of<R: Record<Key = (StreamId, i64)>>(store: &Store) -> anyhow::Result<Vec<StreamId>> {
    let mut streams = Vec::new();
    let mut after = Bound::Unbounded;
    while let Some(row) = store.scan::<R>((after, Bound::Unbounded)).next() {
        let ((stream, _), _) = row?;
        after = Bound::Excluded((stream.clone(), i64::MAX));
        streams.push(stream);
    }
    Ok(streams)
}

/// Returns the streams that are asked for: the named one, or all that have something in the store.
fn chosen(store: &Store, stream: Option<&str>) -> anyhow::Result<Vec<StreamId>> {
    let mut known: BTreeSet<StreamId> = BTreeSet::new();
    known.extend(streams_of::<RoundRecord>(store)?);
    known.extend(streams_of::<ResultRecord>(store)?);
    let Some(name) = stream else { return Ok(known.into_iter().collect()) };
    // A stream that is fed but was never asked is known too, and has no rounds.
    known.extend(streams_of::<CandleRecord>(store)?);
    let wanted = StreamId(name.to_owned());
    if known.contains(&wanted) {
        return Ok(vec![wanted]);
    }
    let known: Vec<String> = known.into_iter().map(|stream| stream.0).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    anyhow::bail!("there is no stream `{name}` in the store; known streams: {known}")
}

/// Refuses a stream that has nothing in the store, and names those that have.
///
/// # Errors
/// There is no such stream, or the store cannot be read.
pub fn must_know(store: &Store, stream: &str) -> anyhow::Result<()> {
    chosen(store, Some(stream)).map(|_| ())
}

/// Returns the newest results of each of the streams, newest first.
fn newest_results(
    store: &Store,
    streams: &[StreamId],
    limit: usize,
) -> anyhow::Result<Vec<((StreamId, i64), ResultRecord)>> {
    let mut newest = Vec::new();
    for stream in streams {
        for row in store.scan_prefix::<ResultRecord>(stream).rev().take(limit) {
            newest.push(row?);
        }
    }
    newest.sort_by(|((a, a_ms), _), ((b, b_ms), _)| b_ms.cmp(a_ms).then(a.cmp(b)));
    Ok(newest)
}

/// Returns the newest rounds, newest first.
///
/// # Errors
/// The store cannot be read, or has nothing of the named stream.
pub fn rounds(store: &Store, stream: Option<&str>, limit: usize) -> anyhow::Result<Vec<RoundRow>> {
    let streams = chosen(store, stream)?;
    let mut rows: BTreeMap<(i64, StreamId), RoundRow> = BTreeMap::new();
    for row in store.scan::<RoundRecord>(..) {
        let ((stream, slot_ms), record) = row?;
        if !streams.contains(&stream) {
            continue;
        }
        rows.insert((slot_ms, stream.clone()), pending_row(stream, &record));
    }
    for ((stream, slot_ms), record) in newest_results(store, &streams, limit)? {
        rows.insert((slot_ms, stream.clone()), settled_row(stream, &record));
    }
    Ok(rows.into_values().rev().take(limit).collect())
}

/// Returns one round by its id or the beginning of it.
///
/// # Errors
/// No or more than one round has such an id, or the store cannot be read.
pub fn round(store: &Store, id: &str) -> anyhow::Result<RoundView> {
    let mut found = Vec::new();
    for row in store.scan::<RoundRecord>(..) {
        let ((stream, _), record) = row?;
        if record.round_id.starts_with(id) {
            found.push(RoundView {
                row: pending_row(stream, &record),
                realised: Vec::new(),
                importance: None,
                miners: record.asked.into_iter().map(asked_line).collect(),
            });
        }
    }
    for row in store.scan::<ResultRecord>(..) {
        let ((stream, _), record) = row?;
        if record.round_id.starts_with(id) {
            found.retain(|known| known.row.round_id != record.round_id);
            found.push(RoundView {
                row: settled_row(stream, &record),
                realised: record.realised,
                importance: Some(record.importance),
                miners: record.scores.into_iter().map(score_line).collect(),
            });
        }
    }
    anyhow::ensure!(
        found.len() < 2,
        "{} rounds begin with `{id}`, give more of the id",
        found.len()
    );
    found.pop().with_context(|| format!("no round begins with `{id}`"))
}

fn asked_line(miner: forecastd_store::AskedMiner) -> RoundLine {
    let forecastd_store::AskedMiner { hotkey, uid, refusal, .. } = miner;
    RoundLine { hotkey, uid, rmse: None, share: 0.0, refusal }
}

fn score_line(line: ScoreLine) -> RoundLine {
    let ScoreLine { hotkey, uid, rmse, share, refusal } = line;
    RoundLine { hotkey, uid, rmse, share, refusal }
}

/// Replays one round, or all of them, from the stored inputs.
///
/// # Errors
/// No such round, or the store cannot be read.
pub fn replay(store: &Store, id: Option<&str>) -> anyhow::Result<Vec<Replay>> {
    let mut replays = Vec::new();
    for row in store.scan::<ResultRecord>(..) {
        let ((stream, slot_ms), record) = row?;
        if id.is_none_or(|id| record.round_id.starts_with(id)) {
            replays.push(ledger::replay(store, &stream, slot_ms, &record)?);
        }
    }
    if let Some(id) = id {
        anyhow::ensure!(!replays.is_empty(), "no settled round begins with `{id}`");
    }
    Ok(replays)
}

/// Returns the averages of the hotkeys with their rounds: of one stream as they are, of several as
/// the weights take them, the mean over the streams with a missing entry as zero.
///
/// Streams count that have candles, as those do that are fed; the averages of one that was taken
/// out of the configuration stay in the store.
fn averages(store: &Store, stream: Option<&str>) -> anyhow::Result<BTreeMap<Hotkey, (f64, u64)>> {
    let fed = streams_of::<CandleRecord>(store)?;
    let mut combined: BTreeMap<Hotkey, (f64, u64)> = BTreeMap::new();
    let mut with_average = 0;
    for row in store.scan::<EmaRecord>(..) {
        let (id, record) = row?;
        let is_wanted = match stream {
            Some(stream) => id.0 == stream,
            None => fed.is_empty() || fed.contains(&id),
        };
        if is_wanted {
            with_average += 1;
            for line in &record.entries {
                let sum = combined.entry(line.hotkey).or_default();
                *sum = (sum.0 + line.value, sum.1.max(line.rounds));
            }
        }
    }
    let streams = if stream.is_some() { 1 } else { fed.len().max(with_average) };
    if streams > 1 {
        for sum in combined.values_mut() {
            sum.0 /= streams as f64;
        }
    }
    Ok(combined)
}

/// Returns the standing of all known hotkeys, best average first.
///
/// # Errors
/// The store cannot be read, or has nothing of the named stream.
pub fn scores(
    store: &Store,
    stream: Option<&str>,
    metagraph: Option<&Metagraph>,
) -> anyhow::Result<Vec<ScoreRow>> {
    let streams = chosen(store, stream)?;
    let mut rows: BTreeMap<Hotkey, ScoreRow> = BTreeMap::new();
    for neuron in metagraph.iter().flat_map(|metagraph| &metagraph.neurons) {
        entry(&mut rows, neuron.hotkey).uid = Some(neuron.uid);
    }
    for (hotkey, (value, rounds)) in averages(store, stream)? {
        let row = entry(&mut rows, hotkey);
        row.ema = Some(value);
        row.rounds = rounds;
    }
    let recent = newest_results(store, &streams, RECENT_RESULTS)?;
    let mut broken: BTreeSet<Hotkey> = BTreeSet::new();
    for (_, result) in recent.iter().filter(|(_, result)| result.void_reason.is_none()) {
        for line in &result.scores {
            let row = entry(&mut rows, line.hotkey);
            if row.uid.is_none() && metagraph.is_none() {
                row.uid = Some(line.uid);
            }
            if let Some(rmse) = line.rmse {
                row.scored += 1;
                row.last_rmse.get_or_insert(rmse);
                if !broken.contains(&line.hotkey) {
                    row.streak += 1;
                }
            } else {
                broken.insert(line.hotkey);
                if row.last_refusal.is_none() {
                    row.last_refusal.clone_from(&line.refusal);
                }
            }
        }
    }
    let last_set = weights(store, MAX_ROWS)?.into_iter().find(|row| row.outcome == "set");
    for (uid, value) in last_set.into_iter().flat_map(|row| row.weights) {
        if let Some(row) = rows.values_mut().find(|row| row.uid == Some(uid)) {
            row.weight = value;
        }
    }
    let mut rows: Vec<ScoreRow> = rows.into_values().collect();
    rows.sort_by(|a, b| {
        let value = |row: &ScoreRow| row.ema.unwrap_or(-1.0);
        value(b).total_cmp(&value(a)).then(a.hotkey.cmp(&b.hotkey))
    });
    Ok(rows)
}

fn entry(rows: &mut BTreeMap<Hotkey, ScoreRow>, hotkey: Hotkey) -> &mut ScoreRow {
    rows.entry(hotkey).or_insert_with(|| ScoreRow {
        hotkey,
        uid: None,
        ema: None,
        rounds: 0,
        weight: 0,
        scored: 0,
        streak: 0,
        last_rmse: None,
        last_refusal: None,
    })
}

/// Returns the newest attempts to set weights, newest first.
///
/// # Errors
/// The store cannot be read.
pub fn weights(store: &Store, limit: usize) -> anyhow::Result<Vec<WeightsRow>> {
    let rows = store.scan::<WeightsRecord>(..).rev().take(limit);
    rows.map(|row| {
        let (_, record) = row?;
        let (outcome, detail) = match record.outcome {
            WeightsOutcome::Set => ("set", String::new()),
            WeightsOutcome::Refused(reason) => ("refused", reason),
            WeightsOutcome::Unknown(reason) => ("unknown", reason),
        };
        Ok(WeightsRow {
            at_ms: record.at_ms,
            block: record.block,
            weights: record.uids.into_iter().map(Uid).zip(record.values).collect(),
            outcome: outcome.to_owned(),
            detail,
        })
    })
    .collect()
}
