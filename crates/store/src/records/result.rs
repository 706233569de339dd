//! Settled rounds: the result, everything it was computed from, and the moving averages.
//!
//! Scoring a round is one cold batch: result (required to be absent), answers, moving averages,
//! their history, schedule. With the history entry of the round before, the result can be
//! recomputed bit for bit.

use forecastd_core::{Hotkey, StreamId, Uid};
use serde::{Deserialize, Serialize};

use super::next_stream;
use crate::record::{Dated, Db, InvalidRecord, Record, check_finite, check_text};

/// Longest text form of the scoring settings, bytes.
const MAX_SETTINGS_BYTES: usize = 8_000;

/// One miner's line in a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreLine {
    /// Who.
    pub hotkey: Hotkey,
    /// The slot it held when it was asked.
    pub uid: Uid,
    /// Weighted root-mean-square error in quote currency; `None` without an accepted answer.
    pub rmse: Option<f64>,
    /// Its share of the round, 0..1.
    pub share: f64,
    /// Why it got no score.
    pub refusal: Option<String>,
}

/// The outcome of a round. Key: stream, slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// The wire's `request_uuid`.
    pub round_id: String,
    /// Start of the forecasts.
    pub start_ms: i64,
    /// When it was due.
    pub due_at_ms: i64,
    /// When it was settled.
    pub settled_at_ms: i64,
    /// Number of the result within its stream, from 1, without holes; void rounds count too.
    pub sequence: u64,
    /// Slot of the scored round whose history entry is the average before this one.
    pub previous_slot_ms: Option<i64>,
    /// The closes that came true, oldest first, quote currency; empty when void.
    pub realised: Vec<f64>,
    /// Weight of the round, from its volatility.
    pub importance: f64,
    /// All miners asked, in the order of the round.
    pub scores: Vec<ScoreLine>,
    /// The subnet's hotkeys at scoring and the block of their registration, in their order then.
    pub members: Vec<(Hotkey, u64)>,
    /// The scoring settings in force, as JSON.
    pub settings: String,
    /// [`EmaRecord::digest`] after this round.
    pub ema_digest: u32,
    /// Why the round has no scores.
    pub void_reason: Option<String>,
}

impl Record for ResultRecord {
    const KIND: u8 = 16;
    const VERSION: u8 = 1;
    const DB: Db = Db::Cold;
    const NAME: &'static str = "result";
    type Key = (StreamId, i64);

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_text("round_id", &self.round_id)?;
        check_finite("realised", &self.realised)?;
        check_finite("importance", [&self.importance])?;
        check_finite("scores.share", self.scores.iter().map(|line| &line.share))?;
        check_finite("scores.rmse", self.scores.iter().filter_map(|line| line.rmse.as_ref()))?;
        for line in &self.scores {
            check_text("scores.refusal", line.refusal.as_deref().unwrap_or_default())?;
        }
        if self.settings.len() > MAX_SETTINGS_BYTES {
            let rule = format!("is longer than {MAX_SETTINGS_BYTES} bytes");
            return Err(InvalidRecord { field: "settings", rule });
        }
        check_text("void_reason", self.void_reason.as_deref().unwrap_or_default())
    }
}

impl Dated for ResultRecord {
    fn dated_ms(key: &Self::Key, _: &Self) -> Option<i64> {
        Some(key.1)
    }

    fn next_group(key: &Self::Key) -> Option<Self::Key> {
        next_stream(&key.0).map(|stream| (stream, i64::MIN))
    }
}

/// An answer that a result was computed from. Key: stream, slot, miner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredAnswerRecord {
    /// The forecast closes, oldest first, quote currency.
    pub closes: Vec<f64>,
    /// The commitment that they matched, lower-case hex.
    pub commitment: String,
}

impl Record for ScoredAnswerRecord {
    const KIND: u8 = 17;
    const VERSION: u8 = 1;
    const DB: Db = Db::Cold;
    const NAME: &'static str = "scored answer";
    type Key = (StreamId, i64, Hotkey);

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_finite("closes", &self.closes)?;
        check_text("commitment", &self.commitment)
    }
}

impl Dated for ScoredAnswerRecord {
    fn dated_ms(key: &Self::Key, _: &Self) -> Option<i64> {
        Some(key.1)
    }
}

/// One miner's moving average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EmaLine {
    /// Who.
    pub hotkey: Hotkey,
    /// The average of its shares, 0..1.
    pub value: f64,
    /// Rounds folded in.
    pub rounds: u64,
    /// Block of the registration that the average belongs to.
    pub registered_at_block: u64,
}

/// The moving averages of a stream. Key: stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmaRecord {
    /// Sequence of the last result that was folded in.
    pub sequence: u64,
    /// All miners, in the order of the state they were taken from.
    pub entries: Vec<EmaLine>,
}

impl EmaRecord {
    /// Returns a checksum of all entries, order and bits of the floats included.
    pub fn digest(&self) -> u32 {
        let mut sum = crc32c::crc32c(&self.sequence.to_be_bytes());
        for entry in &self.entries {
            sum = crc32c::crc32c_append(sum, entry.hotkey.as_bytes());
            sum = crc32c::crc32c_append(sum, &entry.value.to_bits().to_be_bytes());
            sum = crc32c::crc32c_append(sum, &entry.rounds.to_be_bytes());
            sum = crc32c::crc32c_append(sum, &entry.registered_at_block.to_be_bytes());
        }
        sum
    }
}

impl Record for EmaRecord {
    const KIND: u8 = 18;
    const VERSION: u8 = 1;
    const DB: Db = Db::Cold;
    const NAME: &'static str = "moving averages";
    type Key = StreamId;

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_finite("entries.value", self.entries.iter().map(|entry| &entry.value))
    }
}

/// The moving averages after one round. Key: stream, slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmaHistoryRecord {
    /// Sequence of the round's result.
    pub sequence: u64,
    /// All miners, in the order of the state they were taken from.
    pub entries: Vec<EmaLine>,
}

impl Record for EmaHistoryRecord {
    const KIND: u8 = 19;
    const VERSION: u8 = 1;
    const DB: Db = Db::Cold;
    const NAME: &'static str = "past moving averages";
    type Key = (StreamId, i64);

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_finite("entries.value", self.entries.iter().map(|entry| &entry.value))
    }
}

impl Dated for EmaHistoryRecord {
    fn dated_ms(key: &Self::Key, _: &Self) -> Option<i64> {
        Some(key.1)
    }

    fn next_group(key: &Self::Key) -> Option<Self::Key> {
        next_stream(&key.0).map(|stream| (stream, i64::MIN))
    }
}

/// Where the numbering of a stream's results stands. Key: stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// Sequence of the last settled result.
    pub last_scored_sequence: u64,
}

impl Record for ScheduleRecord {
    const KIND: u8 = 21;
    const VERSION: u8 = 1;
    const DB: Db = Db::Cold;
    const NAME: &'static str = "schedule";
    type Key = StreamId;

    fn validate(&self) -> Result<(), InvalidRecord> {
        Ok(())
    }
}
