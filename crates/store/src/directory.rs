//! The data directory on disk: `LOCK`, `reserve`, `hot/`, `cold/`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use crate::error::StoreError;
use crate::record::Db;

const LOCK_FILE: &str = "LOCK";
const RESERVE_FILE: &str = "reserve";
/// What sled calls a snapshot, and one that it has not finished writing.
const SNAPSHOT_PREFIX: &str = "snap.";
const UNFINISHED_SUFFIX: &str = ".generating";
/// Put before the name of a snapshot that is set aside, so that sled does not see it.
const ASIDE_PREFIX: &str = "aside.";

pub(crate) fn database(path: &Path, db: Db) -> PathBuf {
    path.join(db.as_str())
}

/// Tells whether a store was made here before.
pub(crate) fn holds_store(path: &Path) -> bool {
    database(path, Db::Cold).join("db").exists()
}

/// Creates the directory where needed and takes its lock; held as long as the file is open.
pub(crate) fn lock(path: &Path) -> Result<Arc<File>, StoreError> {
    fs::create_dir_all(path).map_err(|error| StoreError::directory(path, error))?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .map_err(|error| StoreError::directory(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Arc::new(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StoreError::directory(path, error)),
    }
}

/// Writes the reserve file where it is missing. Best effort: a store without reserve still works.
pub(crate) fn ensure_reserve(path: &Path, bytes: u64, floor_bytes: u64) {
    let reserve = path.join(RESERVE_FILE);
    let is_there = fs::metadata(&reserve).is_ok_and(|meta| meta.len() >= bytes);
    let free = fs2::available_space(path).unwrap_or(0);
    if bytes == 0 || is_there || free < bytes.saturating_add(floor_bytes) {
        return;
    }
    let write = || -> io::Result<()> {
        let mut file = File::create(&reserve)?;
        // Written out, not just extended: a sparse file reserves nothing.
        let block = vec![0_u8; 1 << 16];
        let mut left = bytes;
        while left > 0 {
            let step = left.min(block.len() as u64);
            file.write_all(block.get(..usize::try_from(step).unwrap_or(0)).unwrap_or(&[]))?;
            left -= step;
        }
        file.sync_all()
    };
    if let Err(error) = write() {
        warn!(%error, path = %reserve.display(), "reserve file not written");
        // A partly written reserve only takes the space that is missing.
        if let Err(error) = fs::remove_file(&reserve) {
            warn!(%error, path = %reserve.display(), "reserve file not removed");
        }
    }
}

/// Gives the reserve's space back; returns whether there was one.
pub(crate) fn release_reserve(path: &Path) -> bool {
    fs::remove_file(path.join(RESERVE_FILE)).is_ok()
}

/// Sets aside the snapshots that sled had not finished when the process died, and returns where
/// they are now.
///
/// sled takes the snapshot with the greatest name, an unfinished one too, and then fails to open
/// for ever. A snapshot is a cache of the log: the finished one before it, or none, serves as well.
pub(crate) fn set_aside_unfinished(directory: &Path) -> io::Result<Vec<PathBuf>> {
    set_aside(directory, |name| {
        name.starts_with(SNAPSHOT_PREFIX) && name.ends_with(UNFINISHED_SUFFIX)
    })
}

/// Sets all snapshots aside; sled then reads its whole log.
pub(crate) fn set_aside_snapshots(directory: &Path) -> io::Result<Vec<PathBuf>> {
    set_aside(directory, |name| name.starts_with(SNAPSHOT_PREFIX))
}

fn set_aside(directory: &Path, concerns: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut moved = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| concerns(name)) else {
            continue;
        };
        let mut target = directory.join(format!("{ASIDE_PREFIX}{name}"));
        let mut copy = 1_u32;
        while target.exists() {
            target = directory.join(format!("{ASIDE_PREFIX}{name}.{copy}"));
            copy += 1;
        }
        fs::rename(entry.path(), &target)?;
        moved.push(target);
    }
    moved.sort();
    Ok(moved)
}

/// Returns the bytes of all files below `directory`; what cannot be read counts as 0.
pub(crate) fn size_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_exclusive_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(StoreError::Locked { .. })));
        drop(first);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn only_unfinished_snapshots_are_set_aside_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["snap.00A", "snap.00B.generating", "aside.snap.00B.generating", "db"];
        for name in names {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let moved = set_aside_unfinished(dir.path()).unwrap();
        assert_eq!(moved, [dir.path().join("aside.snap.00B.generating.1")]);
        assert_eq!(fs::read_to_string(&moved[0]).unwrap(), "snap.00B.generating");
        assert!(dir.path().join("snap.00A").exists());
        assert_eq!(set_aside_snapshots(dir.path()).unwrap().len(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn the_reserve_takes_real_space_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        ensure_reserve(dir.path(), 100_000, 0);
        assert_eq!(size_bytes(dir.path()), 100_000);
        assert!(release_reserve(dir.path()));
        assert!(!release_reserve(dir.path()));
        ensure_reserve(dir.path(), 1_000, u64::MAX);
        assert_eq!(size_bytes(dir.path()), 0, "no reserve below the floor");
    }
}
