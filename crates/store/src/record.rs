//! What a record kind has to say about itself.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::{KeyError, LAYOUT, StoreKey};

/// One of the two databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Db {
    /// Short-lived bulk.
    Hot,
    /// What is kept.
    Cold,
}

impl Db {
    /// Both, in the order in which they are opened and written.
    pub const ALL: [Self; 2] = [Self::Cold, Self::Hot];

    /// The name of its directory.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
        }
    }
}

impl fmt::Display for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind of row.
///
/// Fields are encoded with postcard in their order of declaration: a change of fields is a new
/// `VERSION`, and [`Record::upgrade`] reads the old ones.
pub trait Record: Serialize + DeserializeOwned + Clone + Send + 'static {
    /// First byte of the keys; never reused. 0 belongs to the store itself.
    const KIND: u8;
    /// Version of the value's fields.
    const VERSION: u8;
    /// Where it lives.
    const DB: Db;
    /// Name in messages and reports.
    const NAME: &'static str;
    /// What finds it.
    type Key: StoreKey;

    /// Checks the values before they are written: all floats finite, all texts bounded.
    ///
    /// # Errors
    /// [`InvalidRecord`] names the field and the broken rule.
    fn validate(&self) -> Result<(), InvalidRecord>;

    /// Reads the fields of an older version; `None` when that version is unknown.
    fn upgrade(_version: u8, _payload: &[u8]) -> Option<Self> {
        None
    }
}

/// A record kind that grows old.
pub trait Dated: Record {
    /// The time that retention looks at; `None` when this row must stay whatever its age.
    fn dated_ms(key: &Self::Key, record: &Self) -> Option<i64>;

    /// Where rows are ordered by time within a group (a stream): the least key of the next group.
    /// Lets retention pass over the young rows of a group unread.
    fn next_group(_key: &Self::Key) -> Option<Self::Key> {
        None
    }
}

/// A value that must never be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {rule}")]
pub struct InvalidRecord {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub rule: String,
}

/// Longest free text in a record (reasons, names), bytes.
pub(crate) const MAX_NOTE_BYTES: usize = 1_000;

pub(crate) fn check_finite<'a>(
    field: &'static str,
    values: impl IntoIterator<Item = &'a f64>,
) -> Result<(), InvalidRecord> {
    match values.into_iter().position(|value| !value.is_finite()) {
        Some(index) => {
            Err(InvalidRecord { field, rule: format!("is not finite at position {index}") })
        }
        None => Ok(()),
    }
}

pub(crate) fn check_text(field: &'static str, text: &str) -> Result<(), InvalidRecord> {
    if text.len() > MAX_NOTE_BYTES {
        let rule = format!("has {} bytes, must be at most {MAX_NOTE_BYTES}", text.len());
        return Err(InvalidRecord { field, rule });
    }
    Ok(())
}

/// Returns the bytes of a row's key.
pub(crate) fn row_key<R: Record>(key: &R::Key) -> Result<Vec<u8>, KeyError> {
    let mut out = kind_prefix::<R>();
    key.encode(&mut out)?;
    Ok(out)
}

/// Returns the bytes that the keys of a kind begin with.
pub(crate) fn kind_prefix<R: Record>() -> Vec<u8> {
    let mut out = Vec::with_capacity(80);
    out.extend_from_slice(&[R::KIND, LAYOUT]);
    out
}
