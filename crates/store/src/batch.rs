//! What is written together.

use std::collections::BTreeMap;

use crate::codec::{self, Value};
use crate::error::StoreError;
use crate::record::{Db, Record, row_key};

/// Largest sum of keys and values in a batch, bytes.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// Rows of one database that are written, or refused, as a whole.
///
/// Conditions are checked by the writer right before the rows are applied; there is one writer, so
/// nothing happens in between. A later operation on the same key replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) db: Option<Db>,
    /// New values by row key; `None` removes.
    pub(crate) rows: BTreeMap<Vec<u8>, Option<Value>>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) bytes: usize,
    failure: Option<StoreError>,
}

#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) row_key: Vec<u8>,
    pub(crate) must_exist: bool,
    pub(crate) record: &'static str,
    pub(crate) key: String,
}

impl Batch {
    /// Creates an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], [`StoreError::Key`], [`StoreError::TooLarge`] for the record,
    /// [`StoreError::Mixed`] when it lives in the other database.
    pub fn put<R: Record>(mut self, key: &R::Key, record: &R) -> Result<Self, StoreError> {
        let row_key = self.place::<R>(key)?;
        let value = codec::encode(&row_key, record)?;
        self.bytes += row_key.len() + value.len();
        self.rows.insert(row_key, Some(value));
        Ok(self)
    }

    /// Removes a row; one that does not exist is no error.
    ///
    /// A wrong key or database is reported by the write of the batch.
    #[must_use]
    pub fn remove<R: Record>(mut self, key: &R::Key) -> Self {
        match self.place::<R>(key) {
            Ok(row_key) => self.remove_row(row_key),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Refuses the whole batch with [`StoreError::Conflict`] when the row exists.
    ///
    /// A wrong key or database is reported by the write of the batch.
    #[must_use]
    pub fn require_absent<R: Record>(self, key: &R::Key) -> Self {
        self.require::<R>(key, false)
    }

    /// Refuses the whole batch with [`StoreError::Conflict`] when the row does not exist.
    ///
    /// A wrong key or database is reported by the write of the batch.
    #[must_use]
    pub fn require_present<R: Record>(self, key: &R::Key) -> Self {
        self.require::<R>(key, true)
    }

    /// Returns the number of rows that are written or removed.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Tells whether nothing is written or removed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the batch, or what went wrong while it was built.
    pub(crate) fn check(mut self) -> Result<Self, StoreError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.bytes > MAX_BATCH_BYTES {
            return Err(StoreError::TooLarge {
                what: "batch",
                bytes: self.bytes,
                limit: MAX_BATCH_BYTES,
            });
        }
        Ok(self)
    }

    /// Creates a batch of raw rows that come out of a checked export.
    pub(crate) fn raw(db: Db) -> Self {
        Self { db: Some(db), ..Self::default() }
    }

    pub(crate) fn put_row(&mut self, row_key: Vec<u8>, head: Vec<u8>) {
        self.bytes += row_key.len() + head.len();
        self.rows.insert(row_key, Some(Value { head, parts: Vec::new() }));
    }

    pub(crate) fn remove_row(&mut self, row_key: Vec<u8>) {
        self.bytes += row_key.len();
        self.rows.insert(row_key, None);
    }

    fn require<R: Record>(mut self, key: &R::Key, must_exist: bool) -> Self {
        match self.place::<R>(key) {
            Ok(row_key) => {
                let key = format!("{key:?}");
                self.conditions.push(Condition { row_key, must_exist, record: R::NAME, key });
            }
            Err(error) => self.fail(error),
        }
        self
    }

    fn place<R: Record>(&mut self, key: &R::Key) -> Result<Vec<u8>, StoreError> {
        if *self.db.get_or_insert(R::DB) != R::DB {
            return Err(StoreError::Mixed { record: R::NAME });
        }
        row_key::<R>(key).map_err(|reason| StoreError::Key { record: R::NAME, reason })
    }

    fn fail(&mut self, error: StoreError) {
        self.failure.get_or_insert(error);
    }
}
