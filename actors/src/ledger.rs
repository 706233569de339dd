//! The validator's books: from a round in flight to its result, and back again for a replay.
//!
//! All that a result is computed from is written with it in one batch, so that [`replay`] can
//! compute it again from the store alone and compare bit for bit.

use std::collections::BTreeMap;
use std::time::Duration;

use forecastd_core::ema::{EmaEntry, EmaState};
use forecastd_core::evaluate::{MinerScore, RoundInput, RoundOutcome, score_round};
use forecastd_core::rounds::step;
use forecastd_core::settings::ScoringConfig;
use forecastd_core::{Hotkey, RoundEvent, StreamId, StreamSpec, VoidReason};
use forecastd_store::{
    AnswerRecord, BarRecord, Batch, CandleRecord, EmaHistoryRecord, EmaLine, EmaRecord,
    ForecastRecord, FrozenRecord, ObservationRecord, ResultRecord, RoundRecord, ScheduleRecord,
    ScoreLine, ScoredAnswerRecord, Store,
};

use crate::error::{ActorError, StepContext};
use crate::node::Node;
use crate::persist::persist;

/// Least and greatest hotkey, for ranges over all answers of a round.
const FIRST_HOTKEY: Hotkey = Hotkey::from_bytes([0; 32]);
const LAST_HOTKEY: Hotkey = Hotkey::from_bytes([0xff; 32]);
/// Frozen forecasts are only needed between commitment and reveal; this leaves days for disputes.
const FROZEN_RETENTION: Duration = Duration::from_hours(48);

/// A scored round, ready to be written.
#[derive(Debug)]
pub struct ScoredRound {
    /// Result, averages, history, schedule and answers; requires the result to be absent.
    pub batch: Batch,
    /// Number of miners with a score.
    pub scored: usize,
    /// The best miner and its weighted RMSE, quote currency.
    pub best: Option<(Hotkey, f64)>,
}

/// Moves a round along the diagram of [`forecastd_core::rounds`].
///
/// # Errors
/// The diagram has no such arrow: the record and the program disagree.
pub(crate) fn advance(record: &mut RoundRecord, event: RoundEvent) -> Result<(), ActorError> {
    record.state = step(&record.state, event).broken("moving a round on")?;
    Ok(())
}

/// Returns the stored averages as the core's state.
fn state_of(entries: &[EmaLine]) -> EmaState {
    EmaState(
        entries
            .iter()
            .map(|line| {
                let entry = EmaEntry {
                    value: line.value,
                    rounds: line.rounds,
                    registered_at_block: line.registered_at_block,
                };
                (line.hotkey, entry)
            })
            .collect(),
    )
}

fn lines_of(state: &EmaState) -> Vec<EmaLine> {
    state
        .0
        .iter()
        .map(|(hotkey, entry)| EmaLine {
            hotkey: *hotkey,
            value: entry.value,
            rounds: entry.rounds,
            registered_at_block: entry.registered_at_block,
        })
        .collect()
}

/// Returns the sequence of the last result of a stream and its slot if it was scored last.
struct Position {
    sequence: u64,
    previous_slot_ms: Option<i64>,
    ema: EmaState,
}

fn position(store: &Store, stream: &StreamId) -> Result<Position, ActorError> {
    let schedule = store.get::<ScheduleRecord>(stream).broken("reading the schedule")?;
    let ema = store.get::<EmaRecord>(stream).broken("reading the moving averages")?;
    let sequence = schedule.map_or(0, |schedule| schedule.last_scored_sequence);
    let previous_slot_ms = match &ema {
        Some(ema) => Some(slot_of(store, stream, ema.sequence)?),
        None => None,
    };
    let ema = ema.map_or_else(EmaState::default, |record| state_of(&record.entries));
    Ok(Position { sequence, previous_slot_ms, ema })
}

/// Returns the slot of the result with this sequence: that of the newest history entry, unless its
/// retention is over or a clock was set back; then results are looked through from the newest back.
fn slot_of(store: &Store, stream: &StreamId, sequence: u64) -> Result<i64, ActorError> {
    let newest = store.last::<EmaHistoryRecord>(stream).broken("reading past averages")?;
    if let Some(((_, slot_ms), _)) = newest.filter(|(_, history)| history.sequence == sequence) {
        return Ok(slot_ms);
    }
    let range = (stream.clone(), i64::MIN)..(stream.clone(), i64::MAX);
    for row in store.scan::<ResultRecord>(range).rev() {
        let ((_, slot_ms), record) = row.broken("reading results")?;
        if record.sequence == sequence {
            return Ok(slot_ms);
        }
    }
    Err(ActorError::Broken {
        what: "reading results",
        source: format!("the result with sequence {sequence} is missing").into(),
    })
}

/// Returns the accepted answers of a round in flight, in the order of their hotkeys.
///
/// # Errors
/// The store cannot be read.
pub fn hot_answers(
    node: &Node,
    spec: &StreamSpec,
    record: &RoundRecord,
) -> Result<Vec<(Hotkey, AnswerRecord)>, ActorError> {
    let key = |hotkey| (spec.id.clone(), record.start_ms, hotkey);
    node.store
        .scan::<AnswerRecord>(key(FIRST_HOTKEY)..=key(LAST_HOTKEY))
        .map(|row| row.map(|((_, _, hotkey), answer)| (hotkey, answer)).step("reading answers"))
        .collect()
}

impl ScoredRound {
    /// Scores a round and prepares the one batch that makes it final.
    ///
    /// `members`: registered hotkeys with the block of their registration.
    ///
    /// # Errors
    /// The score cannot be computed or the store not read; nothing is written here.
    pub fn compute(
        node: &Node,
        spec: &StreamSpec,
        record: &RoundRecord,
        realised: Vec<f64>,
        members: Vec<(Hotkey, u64)>,
        answers: Vec<(Hotkey, AnswerRecord)>,
        config: &ScoringConfig,
    ) -> Result<Self, ActorError> {
        let before = position(&node.store, &spec.id)?;
        let input = RoundInput {
            stream: spec.id.clone(),
            start_ms: record.start_ms,
            horizon: spec.horizon,
            realised,
            answers: answers.iter().map(|(key, answer)| (*key, answer.closes.clone())).collect(),
            members,
        };
        let outcome = score_round(&input, &before.ema, config).step("scoring the round")?;
        let sequence = before.sequence + 1;
        let after = EmaRecord { sequence, entries: lines_of(&outcome.ema) };
        let result = ResultRecord {
            round_id: record.round_id.clone(),
            start_ms: record.start_ms,
            due_at_ms: record.due_at_ms,
            settled_at_ms: node.market.now_ms(),
            sequence,
            previous_slot_ms: before.previous_slot_ms,
            realised: input.realised,
            importance: outcome.importance,
            scores: score_lines(record, &outcome),
            members: input.members,
            settings: serde_json::to_string(config).step("encoding the scoring settings")?,
            ema_digest: after.digest(),
            void_reason: None,
        };
        let best = outcome.scores.first().map(|score| (score.hotkey, score.rmse));
        let mut batch = result_batch(spec, record.start_ms, &result)?
            .put(&spec.id, &after)
            .step("encoding the moving averages")?;
        let history = EmaHistoryRecord { sequence, entries: after.entries };
        let key = (spec.id.clone(), record.start_ms);
        batch = batch.put(&key, &history).step("encoding the moving averages")?;
        for (hotkey, answer) in answers {
            let key = (spec.id.clone(), record.start_ms, hotkey);
            let AnswerRecord { closes, commitment } = answer;
            let scored = ScoredAnswerRecord { closes, commitment };
            batch = batch.put(&key, &scored).step("encoding a scored answer")?;
        }
        Ok(Self { batch, scored: outcome.scores.len(), best })
    }
}

/// The result and the schedule after it; what every settled round writes.
fn result_batch(
    spec: &StreamSpec,
    slot_ms: i64,
    result: &ResultRecord,
) -> Result<Batch, ActorError> {
    let key = (spec.id.clone(), slot_ms);
    let schedule = ScheduleRecord { last_scored_sequence: result.sequence };
    Batch::new()
        .require_absent::<ResultRecord>(&key)
        .put(&key, result)
        .step("encoding the result")?
        .put(&spec.id, &schedule)
        .step("encoding the schedule")
}

fn score_lines(record: &RoundRecord, outcome: &RoundOutcome) -> Vec<ScoreLine> {
    let scores: BTreeMap<Hotkey, &MinerScore> =
        outcome.scores.iter().map(|score| (score.hotkey, score)).collect();
    let refused: BTreeMap<Hotkey, String> =
        outcome.refused.iter().map(|(hotkey, reason)| (*hotkey, reason.to_string())).collect();
    record
        .asked
        .iter()
        .map(|miner| {
            let score = scores.get(&miner.hotkey);
            ScoreLine {
                hotkey: miner.hotkey,
                uid: miner.uid,
                rmse: score.map(|score| score.rmse),
                share: score.map_or(0.0, |score| score.share),
                refusal: miner.refusal.clone().or_else(|| refused.get(&miner.hotkey).cloned()),
            }
        })
        .collect()
}

/// Prepares the batch that ends a round without scores; no average moves.
///
/// # Errors
/// The store cannot be read.
pub fn void_result(
    node: &Node,
    spec: &StreamSpec,
    record: &RoundRecord,
    reason: &VoidReason,
) -> Result<Batch, ActorError> {
    let before = position(&node.store, &spec.id)?;
    let ema_digest = node
        .store
        .get::<EmaRecord>(&spec.id)
        .step("reading the moving averages")?
        .map_or(0, |ema| ema.digest());
    let lines = record.asked.iter().map(|miner| ScoreLine {
        hotkey: miner.hotkey,
        uid: miner.uid,
        rmse: None,
        share: 0.0,
        refusal: miner.refusal.clone(),
    });
    let result = ResultRecord {
        round_id: record.round_id.clone(),
        start_ms: record.start_ms,
        due_at_ms: record.due_at_ms,
        settled_at_ms: node.market.now_ms(),
        sequence: before.sequence + 1,
        previous_slot_ms: before.previous_slot_ms,
        realised: Vec::new(),
        importance: 0.0,
        scores: lines.collect(),
        members: Vec::new(),
        settings: String::new(),
        ema_digest,
        void_reason: Some(reason.to_string()),
    };
    result_batch(spec, record.start_ms, &result)
}

/// Removes a settled round and its answers from the hot database. Repeating it does no harm.
///
/// # Errors
/// The store cannot be written.
pub async fn clear_hot(
    node: &Node,
    spec: &StreamSpec,
    record: &RoundRecord,
) -> Result<(), ActorError> {
    let mut batch = Batch::new().remove::<RoundRecord>(&(spec.id.clone(), record.start_ms));
    for (hotkey, _) in hot_answers(node, spec, record)? {
        batch = batch.remove::<AnswerRecord>(&(spec.id.clone(), record.start_ms, hotkey));
    }
    persist(node, batch).await.broken("clearing a settled round")
}

/// Returns the averages that weights are made of: of one stream as they are, of several the mean
/// over the streams, a stream without an entry counting as zero.
///
/// # Errors
/// The store cannot be read.
pub fn combined_ema(node: &Node) -> Result<EmaState, ActorError> {
    let settings = node.settings.load();
    let mut states = Vec::new();
    for stream in &settings.streams {
        let record = node.store.get::<EmaRecord>(&stream.spec.id);
        if let Some(record) = record.step("reading the moving averages")? {
            states.push(state_of(&record.entries));
        }
    }
    let streams = settings.streams.len() as f64;
    let mut states = states.into_iter();
    let Some(mut combined) = states.next() else { return Ok(EmaState::default()) };
    if settings.streams.len() == 1 {
        return Ok(combined);
    }
    for state in states {
        for (hotkey, entry) in state.0 {
            let sum = combined.0.entry(hotkey).or_insert(EmaEntry { value: 0.0, ..entry });
            sum.value += entry.value;
            sum.rounds = sum.rounds.max(entry.rounds);
        }
    }
    for entry in combined.0.values_mut() {
        entry.value /= streams;
    }
    Ok(combined)
}

/// What a replay of one result found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Replay {
    /// The stream.
    pub stream: StreamId,
    /// The round.
    pub round_id: String,
    /// Its slot.
    pub start_ms: i64,
    /// `same`, `void`, `different`, or `expired` when its inputs are past their retention.
    pub verdict: String,
    /// What differs.
    pub differences: Vec<String>,
}

/// Computes one result again from the stored inputs and compares bit for bit.
///
/// # Errors
/// The store cannot be read.
pub fn replay(
    store: &Store,
    stream: &StreamId,
    slot_ms: i64,
    result: &ResultRecord,
) -> Result<Replay, ActorError> {
    let verdict = |verdict: &'static str, differences: Vec<String>| Replay {
        stream: stream.clone(),
        round_id: result.round_id.clone(),
        start_ms: slot_ms,
        verdict: verdict.to_owned(),
        differences,
    };
    if result.void_reason.is_some() {
        return Ok(verdict("void", Vec::new()));
    }
    let prior = match result.previous_slot_ms {
        None => EmaState::default(),
        Some(previous) => {
            let key = (stream.clone(), previous);
            match store.get::<EmaHistoryRecord>(&key).step("reading the averages before")? {
                Some(history) => state_of(&history.entries),
                None => return Ok(verdict("expired", Vec::new())),
            }
        }
    };
    let key = |hotkey| (stream.clone(), slot_ms, hotkey);
    let mut answers = Vec::new();
    for row in store.scan::<ScoredAnswerRecord>(key(FIRST_HOTKEY)..=key(LAST_HOTKEY)) {
        let ((_, _, hotkey), answer) = row.step("reading scored answers")?;
        answers.push((hotkey, answer.closes));
    }
    if answers.is_empty() {
        return Ok(verdict("expired", Vec::new()));
    }
    let config: ScoringConfig =
        serde_json::from_str(&result.settings).step("reading the scoring settings")?;
    let input = RoundInput {
        stream: stream.clone(),
        start_ms: slot_ms,
        horizon: result.realised.len(),
        realised: result.realised.clone(),
        answers,
        members: result.members.clone(),
    };
    let outcome = score_round(&input, &prior, &config).step("scoring the round again")?;
    let differences = compare(result, &outcome);
    Ok(verdict(if differences.is_empty() { "same" } else { "different" }, differences))
}

fn compare(result: &ResultRecord, outcome: &RoundOutcome) -> Vec<String> {
    let mut differences = Vec::new();
    if result.importance.to_bits() != outcome.importance.to_bits() {
        differences.push(format!("importance {} != {}", result.importance, outcome.importance));
    }
    let after = EmaRecord { sequence: result.sequence, entries: lines_of(&outcome.ema) };
    if after.digest() != result.ema_digest {
        differences.push("moving averages".to_owned());
    }
    let again: BTreeMap<Hotkey, &MinerScore> =
        outcome.scores.iter().map(|score| (score.hotkey, score)).collect();
    for line in &result.scores {
        let rmse = again.get(&line.hotkey).map(|score| score.rmse);
        let share = again.get(&line.hotkey).map_or(0.0, |score| score.share);
        if line.rmse.map(f64::to_bits) != rmse.map(f64::to_bits) {
            differences.push(format!("{} RMSE {:?} != {rmse:?}", line.hotkey, line.rmse));
        }
        if line.share.to_bits() != share.to_bits() {
            differences.push(format!("{} share {} != {share}", line.hotkey, line.share));
        }
    }
    differences
}

/// Removes what the retention no longer covers; returns the number of removed rows.
///
/// # Errors
/// The store cannot be read or written.
pub async fn forget_old(node: &Node) -> Result<usize, ActorError> {
    let retention = node.settings.load().retention;
    let before = |span: Duration| {
        node.market.now_ms().saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
    };
    let store = &node.store;
    let what = "removing old records";
    // A round that waits for its evaluation needs its candles however old they are; one of a stream
    // that is not configured any more waits for nothing.
    let mut kept_ms = before(retention);
    let settings = node.settings.load();
    for row in store.scan::<RoundRecord>(..) {
        let ((stream, start_ms), _) = row.step(what)?;
        if let Some(stream) = settings.stream(&stream) {
            kept_ms = kept_ms.min(start_ms - stream.spec.interval.as_ms());
        }
    }
    let mut removed = store.remove_older_than::<CandleRecord>(kept_ms).await.step(what)?;
    removed += store.remove_older_than::<ObservationRecord>(kept_ms).await.step(what)?;
    removed += store.remove_older_than::<BarRecord>(kept_ms).await.step(what)?;
    removed += store.remove_older_than::<ForecastRecord>(kept_ms).await.step(what)?;
    removed += store.remove_older_than::<ScoredAnswerRecord>(kept_ms).await.step(what)?;
    removed += store.remove_older_than::<EmaHistoryRecord>(kept_ms).await.step(what)?;
    let frozen_ms = before(FROZEN_RETENTION.min(retention));
    removed += store.remove_older_than::<FrozenRecord>(frozen_ms).await.step(what)?;
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forecastd_core::bars::Bar;
    use forecastd_core::{Candle, ManualClock, RoundState};

    use super::*;
    use crate::testing;

    const STEP_MS: i64 = 300_000;

    fn bar(step: i64) -> BarRecord {
        let candle = Candle {
            open_time_ms: step * STEP_MS,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 1.0,
            trade_count: None,
        };
        BarRecord { bar: Bar::backfilled(candle) }
    }

    /// Opens a round of `stream` at this step and returns how many of ten old bars are forgotten.
    async fn forgotten_with_a_round_of(stream: &str, step: i64) -> usize {
        let directory = tempfile::tempdir().unwrap();
        // The retention of these settings is a day, 288 steps.
        let clock = Arc::new(ManualClock::new(1_000 * STEP_MS));
        let node = testing::node(directory.path(), &clock);
        let mut batch = Batch::new();
        for old in 100..110 {
            let key = (testing::spec().id, old * STEP_MS, "binance".to_owned());
            batch = batch.put(&key, &bar(old)).unwrap();
        }
        let round = RoundRecord {
            round_id: "r".to_owned(),
            start_ms: step * STEP_MS,
            due_at_ms: (step + 4) * STEP_MS,
            state: RoundState::Pending,
            asked: Vec::new(),
            opened_at_ms: step * STEP_MS,
            last_close: 1.0,
        };
        batch = batch.put(&(StreamId(stream.to_owned()), round.start_ms), &round).unwrap();
        node.store.write(batch).await.unwrap();
        forget_old(&node).await.unwrap()
    }

    #[tokio::test]
    async fn what_a_waiting_round_needs_is_kept_and_nothing_for_a_stream_that_is_gone() {
        assert_eq!(forgotten_with_a_round_of("BTCUSD-5m", 900).await, 10);
        assert_eq!(forgotten_with_a_round_of("BTCUSD-5m", 105).await, 4);
        assert_eq!(forgotten_with_a_round_of("GONE", 105).await, 10);
    }
}
