//! Attempts to set weights on the chain.

use serde::{Deserialize, Serialize};

use crate::record::{Dated, Db, InvalidRecord, Record, check_text};

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WeightsOutcome {
    /// The chain has them.
    Set,
    /// The chain refused, for this reason.
    Refused(String),
    /// It is not known whether the chain has them.
    Unknown(String),
}

/// One attempt to set weights. Key: its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsRecord {
    /// When.
    pub at_ms: i64,
    /// The block of inclusion, or the newest known one.
    pub block: u64,
    /// Whom, in the order sent.
    pub uids: Vec<u16>,
    /// How much, in the order of `uids`, the greatest is 65535.
    pub values: Vec<u16>,
    /// What came of it.
    pub outcome: WeightsOutcome,
}

impl Record for WeightsRecord {
    const KIND: u8 = 20;
    const VERSION: u8 = 1;
    const DB: Db = Db::Cold;
    const NAME: &'static str = "weights";
    type Key = i64;

    fn validate(&self) -> Result<(), InvalidRecord> {
        if self.uids.len() != self.values.len() {
            let rule = format!("has {} items for {} uids", self.values.len(), self.uids.len());
            return Err(InvalidRecord { field: "values", rule });
        }
        match &self.outcome {
            WeightsOutcome::Set => Ok(()),
            WeightsOutcome::Refused(reason) | WeightsOutcome::Unknown(reason) => {
                check_text("outcome", reason)
            }
        }
    }
}

impl Dated for WeightsRecord {
    fn dated_ms(key: &Self::Key, _: &Self) -> Option<i64> {
        Some(*key)
    }
}
