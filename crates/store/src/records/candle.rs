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
    /// A score was computed from it, or from its absence: it does not change any more.
    pub is_settled: bool,
}

impl Record for CandleRecord {
    const KIND: u8 = 1;
    const VERSION: u8 = 2;
    const DB: Db = Db::Hot;
    const NAME: &'static str = "candle";
    type Key = (StreamId, i64);

    fn validate(&self) -> Result<(), InvalidRecord> {
        let Candle { open, high, low, close, volume, .. } = &self.candle;
        check_finite("candle", [open, high, low, close, volume])?;
        check_text("source", &self.source)
    }

    fn upgrade(version: u8, payload: &[u8]) -> Option<Self> {
        if version != 1 {
            return None;
        }
        let (candle, state, source) = postcard::from_bytes(payload).ok()?;
        Some(Self { candle, state, source, is_settled: false })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candle_from_before_settlements_is_read_as_one_that_may_change() {
        let candle = Candle {
            open_time_ms: 300_000,
            open: 1.0,
            high: 3.0,
            low: 0.5,
            close: 2.0,
            volume: 7.0,
            trade_count: Some(3),
        };
        let payload = postcard::to_allocvec(&(candle, BarState::Backfilled, "binance")).unwrap();
        let record = CandleRecord::upgrade(1, &payload).unwrap();
        let source = "binance".to_owned();
        let want = CandleRecord { candle, state: BarState::Backfilled, source, is_settled: false };
        assert_eq!(record, want);
        assert_eq!(CandleRecord::upgrade(0, &payload), None);
    }
}
