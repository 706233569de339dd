//! Changed bytes, on disk and in rows: refused or noticed, never read as something else.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::*;
use forecastd_store::*;

fn fill(path: &Path) {
    let store = open(path);
    for slot in 0..40 {
        store.write_blocking(scored_batch(slot, slot.unsigned_abs() + 1, 6)).unwrap();
    }
    store.close_blocking();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Changes rows behind the store's back.
fn with_sled(path: &Path, change: impl FnOnce(&sled::Db)) {
    let db = sled::open(path.join("cold")).unwrap();
    change(&db);
    db.flush().unwrap();
    drop(db);
}

fn last_result_key(db: &sled::Db) -> sled::IVec {
    let mut results = db.scan_prefix([ResultRecord::KIND]);
    results.next_back().unwrap().unwrap().0
}

#[test]
fn a_changed_row_is_refused_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    with_sled(dir.path(), |db| {
        let key = last_result_key(db);
        let mut value = db.get(&key).unwrap().unwrap().to_vec();
        let middle = value.len() / 2;
        value[middle] ^= 1;
        db.insert(key, value).unwrap();
    });
    let store = open(dir.path());
    let error = store.get::<ResultRecord>(&(stream(), 39 * SLOT_MS)).unwrap_err();
    let is_checksum = matches!(error, StoreError::Record { problem: RecordProblem::Checksum, .. });
    assert!(is_checksum && error.exit_code() == 74, "{error}");
    let read: Vec<_> = store.scan::<ResultRecord>(..).collect();
    assert_eq!(read.len(), 40);
    assert_eq!(read.iter().filter(|row| row.is_ok()).count(), 39);
    let report = store.verify().unwrap();
    assert_eq!(report.problem_count, 1, "{report:?}");
    assert!(store.export(std::io::sink()).is_err(), "no backup of damaged rows");
}

#[test]
fn a_row_that_vanished_or_came_back_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let mut old = None;
    with_sled(dir.path(), |db| {
        let key = last_result_key(db);
        old = db.remove(&key).unwrap().map(|value| (key, value));
    });
    let store = open(dir.path());
    let report = store.verify().unwrap();
    let broken: Vec<_> = report.kinds.iter().filter(|kind| !kind.is_whole).collect();
    assert_eq!(broken.len(), 1, "{report:?}");
    assert_eq!((broken[0].rows, broken[0].expected_rows), (39, 40));
    assert_eq!(report.problems, ["cold: result has 39 rows, must be 40"]);
    store.close_blocking();
    // An older value of a row, valid by itself.
    with_sled(dir.path(), |db| {
        let (key, value) = old.take().unwrap();
        db.insert(key, value).unwrap();
        let first = db.scan_prefix([EmaRecord::KIND]).next().unwrap().unwrap();
        old = Some(first);
    });
    let store = open(dir.path());
    assert!(store.verify().unwrap().is_ok());
    let newer = Batch::new().put(&stream(), &ema(41, 6)).unwrap();
    store.write_blocking(newer).unwrap();
    assert!(store.verify().unwrap().is_ok());
    store.close_blocking();
    with_sled(dir.path(), |db| {
        let (key, value) = old.take().unwrap();
        db.insert(key, value).unwrap();
    });
    let report = open(dir.path()).verify().unwrap();
    assert_eq!(report.problems, ["cold: moving averages has other rows than were written"]);
}

#[test]
fn a_database_that_falls_back_is_refused_until_it_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let (now, before) = (dir.path().join("now"), dir.path().join("before"));
    fill(&now);
    copy(&now.join("cold"), &before);
    let store = open(&now);
    for slot in 40..43 {
        store.write_blocking(scored_batch(slot, slot.unsigned_abs() + 1, 6)).unwrap();
    }
    store.close_blocking();
    fs::remove_dir_all(now.join("cold")).unwrap();
    fs::rename(&before, now.join("cold")).unwrap();
    for _ in 0..2 {
        let error = Store::open(config(&now)).unwrap_err();
        let is_damage = matches!(error, StoreError::Damaged { db: Db::Cold, .. });
        assert!(is_damage && error.to_string().contains("3 acknowledged batches are missing"));
    }
    let report = repair(&now, 4 << 20).unwrap();
    assert!(report.lost_batches == 3 && report.verify.is_ok(), "{report:?}");
    assert_eq!(open(&now).count::<ResultRecord>().unwrap(), 40);
}

#[test]
fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    with_sled(dir.path(), |db| {
        let (key, value) = db.first().unwrap().unwrap();
        let json = String::from_utf8(value[6..].to_vec()).unwrap();
        let newer = json.replace("\"schema\":1", "\"schema\":2");
        assert_ne!(json, newer);
        let sum = crc32c::crc32c(&key);
        let sum = crc32c::crc32c_append(sum, &value[..2]);
        let sum = crc32c::crc32c_append(sum, newer.as_bytes());
        let framed = [&value[..2], &sum.to_be_bytes()[..], newer.as_bytes()].concat();
        db.insert(key, framed).unwrap();
    });
    let error = Store::open(config(dir.path())).unwrap_err();
    assert!(matches!(error, StoreError::SchemaNewer { found: 2, known: 1 }), "{error}");
    assert_eq!(error.exit_code(), 78);
}

/// Bit rot in the database's file: each outcome is allowed but a wrong value that passes.
///
/// sled panics on some of these; the panics must stay inside. It may also hang in threads of its
/// own, so each case runs in a child process with a limit.
#[test]
fn flipped_bits_never_give_a_wrong_value() {
    const CHILD: &str = "FORECASTD_STORE_FLIP_CHILD";
    if let Some(path) = std::env::var_os(CHILD) {
        println!("{}", judge(Path::new(&path)));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    fill(&whole);
    let size = fs::metadata(whole.join("cold/db")).unwrap().len();
    let mut outcomes = BTreeMap::<String, usize>::new();
    let mut random = 12_345_u64;
    for case in 0..25 {
        let path = dir.path().join(format!("case-{case}"));
        copy(&whole, &path);
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bytes = fs::read(path.join("cold/db")).unwrap();
        let at = usize::try_from((random >> 16) % size).unwrap();
        // The last case is the untouched copy: the judge must find nothing there.
        let is_control = case == 24;
        if !is_control {
            bytes[at] ^= 1 << (random >> 13 & 7);
        }
        fs::write(path.join("cold/db"), bytes).unwrap();
        let output = std::process::Command::new("timeout")
            .args(["-k", "1", "20"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "flipped_bits_never_give_a_wrong_value", "--nocapture"])
            .env(CHILD, &path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let outcome = ["refused", "noticed", "whole", "WRONG"]
            .into_iter()
            .find(|word| text.lines().any(|line| line == *word))
            .map_or_else(|| format!("ended with {:?}", output.status.code()), str::to_owned);
        assert_ne!(outcome, "WRONG", "byte {at} of {size}: {text}");
        if is_control {
            assert_eq!(outcome, "whole", "{text}");
        }
        *outcomes.entry(outcome).or_default() += 1;
    }
    assert!(outcomes.contains_key("refused"), "the flips must reach something: {outcomes:?}");
    println!("{outcomes:?}");
    let contained: usize =
        ["refused", "noticed", "whole"].iter().filter_map(|o| outcomes.get(*o)).sum();
    assert!(contained >= 20, "panics or hangs get out: {outcomes:?}");
}

/// Opens a store in which a bit was flipped.
fn judge(path: &Path) -> &'static str {
    let Ok(store) = Store::open(config(path)) else {
        return "refused";
    };
    for row in store.scan::<ResultRecord>(..) {
        let Ok((key, record)) = row else { continue };
        let slot = key.1 / SLOT_MS;
        if record != result(slot, slot.unsigned_abs() + 1, 6) {
            return "WRONG";
        }
    }
    for row in store.scan::<ScoredAnswerRecord>(..) {
        let Ok((key, record)) = row else { continue };
        let number = u16::from_be_bytes([key.2.as_bytes()[0], key.2.as_bytes()[1]]);
        if record.closes != answer(key.1 / SLOT_MS, number).closes {
            return "WRONG";
        }
    }
    let is_complete = store.scan::<ResultRecord>(..).flatten().count() == 40
        && store.scan::<ScoredAnswerRecord>(..).flatten().count() == 240
        && store.get::<EmaRecord>(&stream()).is_ok_and(|state| state == Some(ema(40, 6)));
    match store.verify() {
        Ok(report) if report.is_ok() && is_complete => "whole",
        // Rows are missing or old and nothing says so.
        Ok(report) if report.is_ok() => "WRONG",
        _ => "noticed",
    }
}
