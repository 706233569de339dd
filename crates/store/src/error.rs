//! What can go wrong in the store, and what that means for the process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::RecordProblem;
use crate::key::KeyError;
use crate::record::{Db, InvalidRecord};

/// An error of the store. Cheap to clone, since one failed flush answers many writers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be created or is not writable.
    #[error("data directory {} cannot be used: {source}; create it or correct its owner and mode", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another process has the directory open.
    #[error("data directory {} is in use by another process, stop that one first", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// There is no store where one must exist.
    #[error("data directory {} holds no store, check the path", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The store was made for another network, subnet, hotkey or role.
    #[error(
        "store belongs to {what} {stored}, the configuration says {given}; use another data directory"
    )]
    Identity {
        /// Which part differs.
        what: &'static str,
        /// What the store was made for.
        stored: String,
        /// What was asked for.
        given: String,
    },
    /// A newer program wrote the store.
    #[error("store has schema {found}, this program knows up to {known}; run the newer program")]
    SchemaNewer {
        /// Schema of the store.
        found: u32,
        /// Newest schema this program reads.
        known: u32,
    },
    /// A database is broken. Nothing was deleted.
    #[error(
        "{db} database is damaged: {detail}; nothing was deleted, run `forecastd store repair` or restore a backup"
    )]
    Damaged {
        /// Which one.
        db: Db,
        /// What was seen.
        detail: String,
    },
    /// One row is broken; others may be read.
    #[error("{record} {key} is damaged: {problem}; run `forecastd store verify`")]
    Record {
        /// The record's name.
        record: &'static str,
        /// Its key.
        key: String,
        /// What was seen.
        problem: RecordProblem,
    },
    /// No space is left. The store is suspended until it is reopened.
    #[error("no space left while {what}: {detail}; free some space, the store then goes on")]
    Full {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        detail: String,
    },
    /// Reading or writing failed. The store is suspended until it is reopened.
    #[error("store failed while {what}: {detail}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        detail: String,
    },
    /// A condition of the batch does not hold; nothing was written.
    #[error("{record} {key} {}, nothing was written", if *exists { "exists already" } else { "does not exist" })]
    Conflict {
        /// The record's name.
        record: &'static str,
        /// Its key.
        key: String,
        /// Whether the row exists, against the condition.
        exists: bool,
    },
    /// A batch holds records of both databases.
    #[error("batch mixes hot and cold records ({record}), write cold first and hot afterwards")]
    Mixed {
        /// The record that does not fit.
        record: &'static str,
    },
    /// A value or a batch is too large.
    #[error("{what} has {bytes} bytes, must be at most {limit}")]
    TooLarge {
        /// Name of the record, or "batch".
        what: &'static str,
        /// Its encoded size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A record holds a value that must never be stored.
    #[error("{record} is refused: {reason}")]
    Invalid {
        /// The record's name.
        record: &'static str,
        /// The broken rule.
        #[source]
        reason: InvalidRecord,
    },
    /// A key cannot be encoded.
    #[error("key of {record} is refused: {reason}")]
    Key {
        /// The record's name.
        record: &'static str,
        /// The broken rule.
        #[source]
        reason: KeyError,
    },
    /// An exported file is not readable.
    #[error("export file is refused: {detail}")]
    Export {
        /// What was seen.
        detail: String,
    },
    /// The store was closed.
    #[error("store is closed")]
    Closed,
}

impl StoreError {
    /// Tells whether the same call may succeed later, after [`Store::reopen`] where the store was
    /// suspended.
    ///
    /// [`Store::reopen`]: crate::Store::reopen
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Io { .. } | Self::Locked { .. })
    }

    /// Tells whether the process cannot go on with this store.
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Directory { .. }
                | Self::Missing { .. }
                | Self::Identity { .. }
                | Self::SchemaNewer { .. }
        )
    }

    /// Returns the exit code of a process that ends for this reason.
    ///
    /// A store of another identity or a newer schema is 78 (configuration), so that a service
    /// manager does not restart for ever; what only a wrong program can cause is 70.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Directory { .. } | Self::Missing { .. } => 73,
            Self::Damaged { .. }
            | Self::Record { .. }
            | Self::Full { .. }
            | Self::Io { .. }
            | Self::Export { .. } => 74,
            Self::Locked { .. } => 75,
            Self::Identity { .. } | Self::SchemaNewer { .. } => 78,
            Self::Conflict { .. }
            | Self::Mixed { .. }
            | Self::TooLarge { .. }
            | Self::Invalid { .. }
            | Self::Key { .. }
            | Self::Closed => 70,
        }
    }

    pub(crate) fn directory(path: &Path, source: io::Error) -> Self {
        if is_full(source.kind()) {
            return Self::Full { what: "preparing the data directory", detail: source.to_string() };
        }
        Self::Directory { path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn io(what: &'static str, error: &io::Error) -> Self {
        let detail = error.to_string();
        if is_full(error.kind()) { Self::Full { what, detail } } else { Self::Io { what, detail } }
    }

    pub(crate) fn sled(db: Db, what: &'static str, error: &sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => Self::io(what, error),
            other => Self::Damaged { db, detail: format!("{what}: {other}") },
        }
    }
}

/// A file over its size limit or quota is as much "no space" as a full disk.
const fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_operators_table() {
        let path = PathBuf::from("data");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(StoreError::directory(&path, denied).exit_code(), 73);
        assert_eq!(StoreError::Locked { path }.exit_code(), 75);
        let full = StoreError::io("flushing", &io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, StoreError::Full { .. }) && full.is_retryable());
        assert_eq!(full.exit_code(), 74);
        assert_eq!(StoreError::SchemaNewer { found: 2, known: 1 }.exit_code(), 78);
    }

    #[test]
    fn errors_say_what_to_do() {
        let conflict =
            StoreError::Conflict { record: "result", key: "(\"BTC\", 5)".to_owned(), exists: true };
        assert_eq!(conflict.to_string(), "result (\"BTC\", 5) exists already, nothing was written");
    }
}
