//! The record kinds of the daemon: the contract between its actors and its disk.
//!
//! | kind | record | database | key |
//! |---|---|---|---|
//! | 1 | [`CandleRecord`] | hot | stream, open time |
//! | 2 | [`RoundRecord`] | hot | stream, slot |
//! | 3 | [`AnswerRecord`] | hot | stream, slot, miner |
//! | 4 | [`FrozenRecord`] | hot | validator, request id |
//! | 5 | [`ForecastRecord`] | hot | stream, start |
//! | 6 | [`BarRecord`] | hot | stream, open time, feed |
//! | 8 | [`ObservationRecord`] | hot | series, own time, time known |
//! | 16 | [`ResultRecord`] | cold | stream, slot |
//! | 17 | [`ScoredAnswerRecord`] | cold | stream, slot, miner |
//! | 18 | [`EmaRecord`] | cold | stream |
//! | 19 | [`EmaHistoryRecord`] | cold | stream, slot |
//! | 20 | [`WeightsRecord`] | cold | time of the attempt |
//! | 21 | [`ScheduleRecord`] | cold | stream |
//! | 22 | [`StreamRecord`] | cold | stream |
//!
//! Numbers of kinds are never reused. All times are ms since the Unix epoch, UTC, market time.

mod bar;
mod candle;
mod miner;
mod observation;
mod result;
mod round;
mod stream;
mod weights;

use forecastd_core::StreamId;

pub use bar::BarRecord;
pub use candle::CandleRecord;
pub use miner::{ForecastRecord, FrozenRecord};
pub use observation::ObservationRecord;
pub use result::{
    EmaHistoryRecord, EmaLine, EmaRecord, ResultRecord, ScheduleRecord, ScoreLine,
    ScoredAnswerRecord,
};
pub use round::{AnswerRecord, AskedMiner, RoundRecord};
pub use stream::{Market, StreamRecord};
pub use weights::{WeightsOutcome, WeightsRecord};

use crate::codec;
use crate::error::StoreError;
use crate::key::MAX_STREAM_ID_BYTES;
use crate::record::{Db, Record};

/// What can be done with rows whose kind is known only at run time.
pub(crate) struct KindInfo {
    pub(crate) kind: u8,
    pub(crate) name: &'static str,
    pub(crate) db: Db,
    /// Decodes key and value and checks the values.
    pub(crate) check: fn(&[u8], &[u8]) -> Result<(), StoreError>,
}

const fn info<R: Record>() -> KindInfo {
    KindInfo { kind: R::KIND, name: R::NAME, db: R::DB, check: check::<R> }
}

fn check<R: Record>(row_key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    codec::decode_key::<R>(row_key)?;
    let record: R = codec::decode(row_key, value)?;
    record.validate().map_err(|reason| StoreError::Invalid { record: R::NAME, reason })
}

/// All kinds, in the order of their numbers.
pub(crate) const KINDS: [KindInfo; 14] = [
    info::<CandleRecord>(),
    info::<RoundRecord>(),
    info::<AnswerRecord>(),
    info::<FrozenRecord>(),
    info::<ForecastRecord>(),
    info::<BarRecord>(),
    info::<ObservationRecord>(),
    info::<ResultRecord>(),
    info::<ScoredAnswerRecord>(),
    info::<EmaRecord>(),
    info::<EmaHistoryRecord>(),
    info::<WeightsRecord>(),
    info::<ScheduleRecord>(),
    info::<StreamRecord>(),
];

/// Returns the least stream id above `stream`, where there is one of storable length.
fn next_stream(stream: &StreamId) -> Option<StreamId> {
    (stream.0.len() < MAX_STREAM_ID_BYTES).then(|| StreamId(format!("{}\u{1}", stream.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinct_and_sorted() {
        assert!(KINDS.windows(2).all(|pair| pair[0].kind < pair[1].kind));
        assert!(KINDS.iter().all(|kind| kind.kind > 0), "0 belongs to the store itself");
    }
}
