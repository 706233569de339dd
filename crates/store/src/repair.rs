//! Repair after sled refuses to open because of its snapshots, or has fallen back.
//!
//! A snapshot is a cache of the log, from which sled opens faster. One that is empty or cut makes
//! it refuse for ever. Repair sets all snapshots aside (renames, deletes nothing), opens, which
//! reads the whole log, and verifies every row. A database that has lost acknowledged batches is
//! accepted as it is; the report says how many are gone.

use std::path::PathBuf;

use serde::Serialize;

use crate::directory;
use crate::error::StoreError;
use crate::mark;
use crate::record::Db;
use crate::store::Store;
use crate::verify::VerifyReport;

/// What [`repair`] did.
#[derive(Debug, Clone, Serialize)]
pub struct RepairReport {
    /// Where the snapshots are now; may be deleted once the store works.
    pub set_aside: Vec<PathBuf>,
    /// Acknowledged batches that the databases have lost, cold and hot together.
    pub lost_batches: u64,
    /// What the rows are worth after that.
    pub verify: VerifyReport,
}

/// Sets sled's snapshots aside, opens the store and verifies it. The daemon must be stopped.
///
/// `cache_bytes` is the page cache of each database.
///
/// # Errors
/// [`StoreError::Locked`] while a daemon runs; [`StoreError::Missing`]; [`StoreError::Damaged`] when
/// the log itself is broken: then only a backup helps.
pub fn repair(path: impl Into<PathBuf>, cache_bytes: u64) -> Result<RepairReport, StoreError> {
    let path = path.into();
    if !directory::holds_store(&path) {
        return Err(StoreError::Missing { path });
    }
    let lock = directory::lock(&path)?;
    let mut set_aside = Vec::new();
    for db in Db::ALL {
        let directory = directory::database(&path, db);
        let moved = directory::set_aside_snapshots(&directory)
            .map_err(|error| StoreError::directory(&directory, error))?;
        set_aside.extend(moved);
    }
    let before = mark::read(&path);
    let aside = mark::set_aside(&path).map_err(|error| StoreError::directory(&path, error))?;
    set_aside.extend(aside);
    drop(lock);
    let store = Store::open_existing(path.clone(), cache_bytes)?;
    let verify = store.verify();
    store.close_blocking();
    let lost_batches = before.zip(mark::read(&path)).map_or(0, |(before, after)| {
        Db::ALL.into_iter().map(|db| before.get(db).saturating_sub(after.get(db))).sum()
    });
    Ok(RepairReport { set_aside, lost_batches, verify: verify? })
}
