//! The high-water mark: how many batches of each database were acknowledged, kept beside them.
//!
//! sled takes a broken record in its log for the end of the log and goes on with an older state that
//! fits together in itself. Each database therefore counts its batches, and the file `mark` holds
//! the counts that were durable: a database that opens with a lower count has lost acknowledged
//! batches and is refused. The mark is written after the flush and not forced to disk: it may be
//! behind, never ahead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::codec::{self, RecordProblem};
use crate::key::LAYOUT;
use crate::ledger::OWN_KIND;
use crate::record::Db;

const FILE: &str = "mark";
const COUNT: u8 = 2;
const VERSION: u8 = 1;

/// Batches applied to each database since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    cold: u64,
    hot: u64,
}

impl Counts {
    pub(crate) const fn get(self, db: Db) -> u64 {
        match db {
            Db::Cold => self.cold,
            Db::Hot => self.hot,
        }
    }

    pub(crate) const fn set(&mut self, db: Db, count: u64) {
        match db {
            Db::Cold => self.cold = count,
            Db::Hot => self.hot = count,
        }
    }
}

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
}

impl Mark {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(file(path))?;
        Ok(Self { file })
    }

    pub(crate) fn write(&mut self, counts: Counts) {
        let body = encode(counts);
        let write = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(&body));
        if let Err(error) = write {
            // An old mark checks less, it never refuses a good store.
            warn!(%error, "mark file not written");
        }
    }
}

/// Reads the mark; `None` where there is none, or where it was cut by a power loss.
pub(crate) fn read(path: &Path) -> Option<Counts> {
    let body = fs::read(file(path)).ok()?;
    let (cold, rest) = body.split_first_chunk::<8>()?;
    let (hot, _) = rest.split_first_chunk::<8>()?;
    let counts = Counts { cold: u64::from_be_bytes(*cold), hot: u64::from_be_bytes(*hot) };
    (encode(counts) == body).then_some(counts)
}

/// Sets the mark aside, so that whatever opens next is accepted; returns where it is now.
pub(crate) fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let aside = path.join(format!("aside.{FILE}"));
    match fs::rename(file(path), &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) const fn count_key() -> [u8; 3] {
    [OWN_KIND, LAYOUT, COUNT]
}

/// Returns the value of a database's own count.
pub(crate) fn encode_count(count: u64) -> Vec<u8> {
    codec::frame(&count_key(), VERSION, &count.to_be_bytes())
}

pub(crate) fn decode_count(value: &[u8]) -> Result<u64, RecordProblem> {
    match codec::unframe(&count_key(), value)? {
        (VERSION, fields) => fields
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| RecordProblem::Length(value.len())),
        (version, _) => Err(RecordProblem::Version(version)),
    }
}

fn file(path: &Path) -> PathBuf {
    path.join(FILE)
}

fn encode(counts: Counts) -> Vec<u8> {
    let mut body = counts.cold.to_be_bytes().to_vec();
    body.extend_from_slice(&counts.hot.to_be_bytes());
    body.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        let counts = Counts { cold: 7, hot: u64::MAX };
        let mut mark = Mark::open(dir.path()).unwrap();
        mark.write(Counts::default());
        mark.write(counts);
        assert_eq!(read(dir.path()), Some(counts));
        let whole = fs::read(file(dir.path())).unwrap();
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            fs::write(file(dir.path()), &broken).unwrap();
            assert_eq!(read(dir.path()), None);
        }
        assert_eq!(decode_count(&encode_count(5)), Ok(5));
    }
}
