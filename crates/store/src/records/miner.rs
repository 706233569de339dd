//! What a miner remembers: its forecasts, and those it has promised to a validator.

use forecastd_core::{Hotkey, StreamId};
use serde::{Deserialize, Serialize};

use super::next_stream;
use crate::record::{Dated, Db, InvalidRecord, Record, check_finite, check_text};

/// The forecast behind a commitment. Key: the validator's hotkey, its request id.
///
/// On disk before the commitment is answered: after a restart the same values are revealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrozenRecord {
    /// What was asked.
    pub stream: StreamId,
    /// Start of the forecast.
    pub start_ms: i64,
    /// The forecast closes, oldest first, quote currency.
    pub closes: Vec<f64>,
    /// The commitment, lower-case hex.
    pub commitment: String,
    /// When it was frozen.
    pub frozen_at_ms: i64,
}

impl Record for FrozenRecord {
    const KIND: u8 = 4;
    const VERSION: u8 = 1;
    const DB: Db = Db::Hot;
    const NAME: &'static str = "frozen forecast";
    type Key = (Hotkey, String);

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_text("stream", &self.stream.0)?;
        check_finite("closes", &self.closes)?;
        check_text("commitment", &self.commitment)
    }
}

impl Dated for FrozenRecord {
    fn dated_ms(_: &Self::Key, record: &Self) -> Option<i64> {
        Some(record.frozen_at_ms)
    }
}

/// The newest forecast of a model. Key: stream, start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForecastRecord {
    /// Name of the model.
    pub model: String,
    /// The forecast closes, oldest first, quote currency.
    pub closes: Vec<f64>,
}

impl Record for ForecastRecord {
    const KIND: u8 = 5;
    const VERSION: u8 = 1;
    const DB: Db = Db::Hot;
    const NAME: &'static str = "forecast";
    type Key = (StreamId, i64);

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_text("model", &self.model)?;
        check_finite("closes", &self.closes)
    }
}

impl Dated for ForecastRecord {
    fn dated_ms(key: &Self::Key, _: &Self) -> Option<i64> {
        Some(key.1)
    }

    fn next_group(key: &Self::Key) -> Option<Self::Key> {
        next_stream(&key.0).map(|stream| (stream, i64::MIN))
    }
}
