//! A disk that is full: refused with the cause, suspended, and whole again after space was freed.
//!
//! The child process limits the size of its files, which fails writes just as a full disk does.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::process::Command;

use common::*;
use forecastd_store::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CHILD: &str = "FORECASTD_STORE_FULL_CHILD";
const LIMIT_BYTES: u64 = 6 << 20;

fn limit_files(current: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
}

fn fill_up(path: &Path) {
    let store = Store::open(StoreConfig { reserve_bytes: 1 << 20, ..config(path) }).unwrap();
    limit_files(Some(LIMIT_BYTES));
    let mut acknowledged = 0;
    let cause = loop {
        match store.write_blocking(scored_batch(acknowledged, acknowledged.unsigned_abs() + 1, 64))
        {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1_000, "the limit must be reached");
    };
    assert!(matches!(cause, StoreError::Full { .. }), "{cause}");
    assert!(cause.is_retryable() && acknowledged > 10);
    let error = store.write_blocking(pending_batch(0, 1)).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "nothing is written meanwhile: {error}");
    let error = store.get::<EmaRecord>(&stream()).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "nothing is read meanwhile: {error}");
    assert!(store.stats().suspended.is_some());
    limit_files(None);
    store.reopen_blocking().unwrap();
    assert!(store.stats().suspended.is_none());
    let scored = i64::try_from(store.count::<ResultRecord>().unwrap()).unwrap();
    assert!(scored == acknowledged || scored == acknowledged + 1, "{scored}, {acknowledged}");
    let report = store.verify().unwrap();
    assert!(report.is_ok(), "{report:?}");
    for slot in 0..acknowledged {
        let stored = store.get::<ResultRecord>(&(stream(), slot * SLOT_MS)).unwrap();
        assert_eq!(stored, Some(result(slot, slot.unsigned_abs() + 1, 64)));
    }
    for slot in scored..scored + 20 {
        store.write_blocking(scored_batch(slot, slot.unsigned_abs() + 1, 64)).unwrap();
    }
    store.reopen_blocking().unwrap();
    assert!(store.verify().unwrap().is_ok());
    store.close_blocking();
    println!("survived after {acknowledged} rounds");
}

#[test]
fn everything_acknowledged_survives_a_full_disk() {
    if let Some(path) = std::env::var_os(CHILD) {
        fill_up(Path::new(&path));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The signal for a file over its limit would end the child before it sees the error.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "everything_acknowledged_survives_a_full_disk", "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("survived after"), "{text}\n{errors}");
}
