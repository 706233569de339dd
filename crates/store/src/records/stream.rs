//! What a stream's id stands for in this store.

use forecastd_core::StreamId;
use serde::{Deserialize, Serialize};

use crate::record::{Db, InvalidRecord, Record, check_text};

/// The meaning of a stream's candles, rounds and averages. Key: stream. Written once: rows of one
/// meaning must never be read with another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Candle length, ms.
    pub interval_ms: i64,
    /// Closes in a forecast.
    pub horizon: usize,
    /// The exchange, for example `binance`.
    pub exchange: String,
    /// The exchange's name of the pair.
    pub symbol: String,
}

impl Record for StreamRecord {
    const KIND: u8 = 22;
    const VERSION: u8 = 1;
    const DB: Db = Db::Cold;
    const NAME: &'static str = "stream";
    type Key = StreamId;

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_text("exchange", &self.exchange)?;
        check_text("symbol", &self.symbol)
    }
}
