//! Rounds in flight: whom a validator asked and what it was answered.

use forecastd_core::{Hotkey, RoundState, StreamId, Uid};
use serde::{Deserialize, Serialize};

use super::next_stream;
use crate::record::{Dated, Db, InvalidRecord, Record, check_finite, check_text};

/// One miner in a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedMiner {
    /// Who.
    pub hotkey: Hotkey,
    /// The slot it held when it was asked.
    pub uid: Uid,
    /// When it took that slot.
    pub registered_at_block: u64,
    /// Its commitment, lower-case hex.
    pub commitment: Option<String>,
    /// Why it gets no score.
    pub refusal: Option<String>,
}

/// One question to all miners, until it is scored. Key: stream, slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// The wire's `request_uuid`.
    pub round_id: String,
    /// Start of the forecasts.
    pub start_ms: i64,
    /// When it may be scored.
    pub due_at_ms: i64,
    /// Where it stands.
    pub state: RoundState,
    /// Whom it asks.
    pub asked: Vec<AskedMiner>,
    /// When it was opened.
    pub opened_at_ms: i64,
    /// The last close known then, against which absurd answers are told.
    pub last_close: f64,
}

impl Record for RoundRecord {
    const KIND: u8 = 2;
    const VERSION: u8 = 1;
    const DB: Db = Db::Hot;
    const NAME: &'static str = "round";
    type Key = (StreamId, i64);

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_text("round_id", &self.round_id)?;
        check_finite("last_close", [&self.last_close])?;
        for miner in &self.asked {
            check_text("asked.commitment", miner.commitment.as_deref().unwrap_or_default())?;
            check_text("asked.refusal", miner.refusal.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Dated for RoundRecord {
    /// A round that is not settled stays: only its settling may remove it.
    fn dated_ms(key: &Self::Key, record: &Self) -> Option<i64> {
        record.state.is_final().then_some(key.1)
    }

    fn next_group(key: &Self::Key) -> Option<Self::Key> {
        next_stream(&key.0).map(|stream| (stream, i64::MIN))
    }
}

/// An accepted answer of a round in flight. Key: stream, slot, miner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// The forecast closes, oldest first, quote currency.
    pub closes: Vec<f64>,
    /// The commitment that they match, lower-case hex.
    pub commitment: String,
}

impl Record for AnswerRecord {
    const KIND: u8 = 3;
    const VERSION: u8 = 1;
    const DB: Db = Db::Hot;
    const NAME: &'static str = "answer";
    type Key = (StreamId, i64, Hotkey);

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_finite("closes", &self.closes)?;
        check_text("commitment", &self.commitment)
    }
}

impl Dated for AnswerRecord {
    fn dated_ms(key: &Self::Key, _: &Self) -> Option<i64> {
        Some(key.1)
    }
}
