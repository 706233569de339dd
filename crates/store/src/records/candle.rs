//! Closed candles, the memory of the feeds.

use forecastd_core::{Candle, StreamId};
use serde::{Deserialize, Serialize};

use super::next_stream;
use crate::record::{Dated, Db, InvalidRecord, Record, check_finite, check_text};

/// How a candle came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CandleState {
    /// All its trades, or the exchange's closed candle, were received live.
    Complete,
    /// Fetched afterwards by REST.
    Backfilled,
    /// Built from less than all of its trades.
    Partial,
    /// No source has it; filled flat from the past.
    Void,
}

/// A closed candle. Key: stream, open time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandleRecord {
    /// The values.
    pub candle: Candle,
    /// How it came to be.
    pub state: CandleState,
    /// The exchange, for example `binance`.
    pub source: String,
}

impl Record for CandleRecord {
    const KIND: u8 = 1;
    const VERSION: u8 = 1;
    const DB: Db = Db::Hot;
    const NAME: &'static str = "candle";
    type Key = (StreamId, i64);

    fn validate(&self) -> Result<(), InvalidRecord> {
        let Candle { open, high, low, close, volume, .. } = &self.candle;
        check_finite("candle", [open, high, low, close, volume])?;
        check_text("source", &self.source)
    }
}

impl Dated for CandleRecord {
    fn dated_ms(key: &Self::Key, _: &Self) -> Option<i64> {
        Some(key.1)
    }

    fn next_group(key: &Self::Key) -> Option<Self::Key> {
        next_stream(&key.0).map(|stream| (stream, i64::MIN))
    }
}
