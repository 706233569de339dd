//! Durable state: typed records in two sled databases behind one writer.
//!
//! ```text
//!  actors ── write(Batch) ──► bounded queue ──► writer thread ── apply, apply, … flush ──► answers
//!     │                                              │
//!     └── get / scan / last (caller's thread) ──► hot │ cold      one lock file for both
//! ```
//!
//! * **hot** holds short-lived bulk (candles, rounds in flight, their answers), **cold** what is kept
//!   (results, moving averages, weights). Mixed in one database the small rows would pin the space
//!   of the bulk. A [`Batch`] touches one database and is atomic there; a step that needs both
//!   writes cold first and clears hot afterwards, and repeats after a crash.
//! * **Nothing is acknowledged before it is on disk**: [`Store::write`] resolves after the flush.
//!   Batches that wait at the same time share one flush.
//! * **Reads** run on the caller's thread and may see a batch some milliseconds before it is
//!   durable. Who tells the outside world about a row must have its own write of it acknowledged,
//!   a [`StoreError::Conflict`] included: that one is answered after the flush as well.
//! * **Rows are checked**: each value carries a version and a CRC-32C over its key and content, and a
//!   ledger row for each kind counts the rows and sums their checksums, so that
//!   [`Store::verify`] sees a changed row and a row that vanished. A mark beside the databases tells
//!   on opening when one of them has fallen back behind what was acknowledged.
//! * **An I/O error suspends the store**: reads and writes answer with its cause until
//!   [`Store::reopen`] succeeds. Everything acknowledged is still there then.
//! * Panics inside of sled are contained and become [`StoreError::Damaged`].
//!
//! Limits: values [`MAX_VALUE_BYTES`], batches [`MAX_BATCH_BYTES`], one process a directory, local
//! file systems only. No clock is read: times in records come from their writers.

#![warn(clippy::indexing_slicing)]

mod batch;
mod codec;
mod databases;
mod directory;
mod error;
mod identity;
mod key;
mod ledger;
mod mark;
mod record;
pub mod records;
mod repair;
mod retention;
mod scan;
mod store;
mod transfer;
mod verify;
mod writer;

pub use batch::{Batch, MAX_BATCH_BYTES};
pub use codec::{MAX_VALUE_BYTES, RecordProblem};
pub use databases::is_contained;
pub use error::StoreError;
pub use identity::{Identity, SCHEMA};
pub use key::{KeyError, KeyPart, KeyPrefix, MAX_STREAM_ID_BYTES, MAX_TEXT_KEY_BYTES, StoreKey};
pub use record::{Dated, Db, InvalidRecord, Record};
pub use records::{
    AnswerRecord, AskedMiner, BarRecord, CandleRecord, EmaHistoryRecord, EmaLine, EmaRecord,
    ForecastRecord, FrozenRecord, Market, ObservationRecord, ResultRecord, RoundRecord,
    ScheduleRecord, ScoreLine, ScoredAnswerRecord, StreamRecord, WeightsOutcome, WeightsRecord,
};
pub use repair::{RepairReport, repair};
pub use scan::Scan;
pub use store::{Store, StoreConfig, StoreStats};
pub use transfer::{ExportReport, import, restore};
pub use verify::{KindReport, VerifyReport};
