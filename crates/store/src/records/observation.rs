//! Values of extra columns that came from a network: what a restart would have to ask for again, and
//! when each became known, which nobody could tell later.

use serde::{Deserialize, Serialize};

use crate::record::{Dated, Db, InvalidRecord, Record, check_finite};

/// One value. Key: the series, the value's own time, the time at which it became known; a correction
/// is a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ObservationRecord {
    /// The value.
    pub value: f64,
}

impl Record for ObservationRecord {
    const KIND: u8 = 8;
    const VERSION: u8 = 1;
    const DB: Db = Db::Hot;
    const NAME: &'static str = "observation";
    type Key = (String, i64, i64);

    fn validate(&self) -> Result<(), InvalidRecord> {
        check_finite("value", [&self.value])
    }
}

impl Dated for ObservationRecord {
    fn dated_ms(key: &Self::Key, _: &Self) -> Option<i64> {
        Some(key.1)
    }
}
