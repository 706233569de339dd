//! Closed candles, as models and scores see them.

use forecastd_core::bars::BarState;
use forecastd_core::{Candle, StreamId};
use serde::{Deserialize, Serialize};

use super::next_stream;
use crate::record::{Dated, Db, InvalidRecord, Record, check_finite, check_text};

/// A closed candle, merged from the bars of the stream's feeds. Key: stream, open time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandleRecord {
    /// The values.
    pub candle: Candle,
    /// How much of its interval is known. A void one is filled flat from the past.
    pub state: BarState,
    /// The feeds that it was merged from, for example `binance,kraken`; empty for a void one.
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
