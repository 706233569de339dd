//! Closed bars of each exchange, from which candles are merged.

use forecastd_core::StreamId;
use forecastd_core::bars::Bar;
use serde::{Deserialize, Serialize};

use super::next_stream;
use crate::record::{Dated, Db, InvalidRecord, Record, check_finite};

/// A closed bar of one feed, before it is merged with those of others. Key: stream, open time, name
/// of the feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BarRecord {
    /// Values and state.
    pub bar: Bar,
}

impl Record for BarRecord {
    const KIND: u8 = 6;
    const VERSION: u8 = 1;
    const DB: Db = Db::Hot;
    const NAME: &'static str = "bar";
    type Key = (StreamId, i64, String);

    fn validate(&self) -> Result<(), InvalidRecord> {
        let candle = &self.bar.candle;
        let values = [&candle.open, &candle.high, &candle.low, &candle.close, &candle.volume];
        check_finite("candle", values)
    }
}

impl Dated for BarRecord {
    fn dated_ms(key: &Self::Key, _: &Self) -> Option<i64> {
        Some(key.1)
    }

    fn next_group(key: &Self::Key) -> Option<Self::Key> {
        // The least text that may be a name.
        next_stream(&key.0).map(|stream| (stream, i64::MIN, "\u{1}".to_owned()))
    }
}
