//! kill -9 at random instants: nothing acknowledged is lost, no batch is torn.
//!
//! The test starts itself again as a child, which writes rounds and prints the number of each batch
//! after it was acknowledged. The parent kills it, opens the store and compares.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::*;
use forecastd_core::RoundState;
use forecastd_store::*;

const CHILD: &str = "FORECASTD_STORE_CRASH_CHILD";
const KILLS: u64 = 25;
const MINERS: u16 = 120;

/// Each slot writes a hot batch, then a cold one, then clears the hot one of some slots before.
fn write_for_ever(path: &Path) {
    let store = open(path);
    let done = store.last::<ResultRecord>(&stream()).unwrap();
    let mut slot = done.map_or(0, |(key, _)| key.1 / SLOT_MS + 1);
    let mut out = std::io::stdout().lock();
    // What was scored but not cleared when the last child died is cleared now.
    let left: Vec<_> =
        store.scan::<RoundRecord>(..).map(|row| row.unwrap().0.1 / SLOT_MS).collect();
    for old in left.into_iter().filter(|old| *old < slot - 5) {
        store.write_blocking(clearing_batch(old, MINERS)).unwrap();
        writeln!(out, "clear {old}").unwrap();
    }
    loop {
        store.write_blocking(pending_batch(slot, MINERS)).unwrap();
        writeln!(out, "hot {slot}").unwrap();
        store.write_blocking(scored_batch(slot, slot.unsigned_abs() + 1, MINERS)).unwrap();
        writeln!(out, "cold {slot}").unwrap();
        if slot >= 5 {
            store.write_blocking(clearing_batch(slot - 5, MINERS)).unwrap();
            writeln!(out, "clear {}", slot - 5).unwrap();
        }
        slot += 1;
    }
}

/// What the child had acknowledged when it died.
#[derive(Debug, Default)]
struct Acknowledged {
    hot: i64,
    cold: i64,
    cleared: i64,
}

impl Acknowledged {
    fn read(&mut self, line: &str) {
        let Some((step, slot)) = line.split_once(' ') else {
            return;
        };
        let Ok(slot) = slot.parse::<i64>() else {
            return;
        };
        match step {
            "hot" => self.hot = slot + 1,
            "cold" => self.cold = slot + 1,
            "clear" => self.cleared = slot + 1,
            _ => {}
        }
    }
}

fn check(store: &Store, acknowledged: &Acknowledged) {
    let report = store.verify().unwrap();
    assert!(report.is_ok(), "{report:?}");
    let results: Vec<_> = store.scan::<ResultRecord>(..).map(Result::unwrap).collect();
    let scored = i64::try_from(results.len()).unwrap();
    assert!(
        scored == acknowledged.cold || scored == acknowledged.cold + 1,
        "{scored} results, {acknowledged:?}"
    );
    for (number, (key, record)) in results.iter().enumerate() {
        let slot = i64::try_from(number).unwrap();
        assert_eq!(record, &result(slot, slot.unsigned_abs() + 1, MINERS), "slot {slot}");
        let answers = store.scan_prefix::<ScoredAnswerRecord>(key).count();
        assert_eq!(answers, usize::from(MINERS), "slot {slot} is torn");
    }
    let state = store.get::<EmaRecord>(&stream()).unwrap();
    assert_eq!(state.map_or(0, |state| state.sequence), scored.unsigned_abs());
    for slot in acknowledged.cleared + 1..acknowledged.hot {
        let key = (stream(), slot * SLOT_MS);
        let stored = store.get::<RoundRecord>(&key).unwrap();
        assert_eq!(stored, Some(round(slot, MINERS, RoundState::Pending)), "slot {slot}");
    }
    for row in store.scan::<RoundRecord>(..) {
        let (key, _) = row.unwrap();
        let slot = key.1 / SLOT_MS;
        assert!(slot >= acknowledged.cleared, "slot {slot} came back, {acknowledged:?}");
        assert_eq!(store.scan_prefix::<AnswerRecord>(&key).count(), usize::from(MINERS));
    }
    assert_eq!(store.count::<RoundRecord>().unwrap() * usize::from(MINERS), {
        store.count::<AnswerRecord>().unwrap()
    });
}

/// The child's end of the test below; does nothing when it is run as a test.
#[test]
fn child_writes_until_it_is_killed() {
    if let Some(path) = std::env::var_os(CHILD) {
        write_for_ever(Path::new(&path));
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    let mut random = std::process::id();
    for _ in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Killed after so many lines, the child being anywhere after that; at 0 while it opens.
        let lines_to_read = usize::try_from(random >> 16).unwrap() % 90;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref().take(lines_to_read) {
            acknowledged.read(&line.unwrap());
        }
        // Some work of unknown length, so that the kill does not follow a line at once.
        std::hint::black_box((0..u64::from(random >> 8)).fold(0_u64, |sum, n| sum ^ n));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            acknowledged.read(&line.unwrap());
        }
        let store = open(dir.path());
        check(&store, &acknowledged);
        store.close_blocking();
    }
    assert!(acknowledged.cold > 100, "the child must have worked: {acknowledged:?}");
    println!("{KILLS} kills, {acknowledged:?}");
}

#[test]
fn a_snapshot_that_was_being_written_does_not_keep_the_store_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.write_blocking(scored_batch(0, 1, 4)).unwrap();
    store.close_blocking();
    let unfinished = dir.path().join("cold/snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&unfinished, b"cut").unwrap();
    let store = open(dir.path());
    assert_eq!(store.get::<ResultRecord>(&(stream(), 0)).unwrap(), Some(result(0, 1, 4)));
    assert!(store.verify().unwrap().is_ok());
    assert!(!unfinished.exists());
    assert!(dir.path().join("cold/aside.snap.FFFFFFFFFFFFFFFF.generating").exists());
}

#[test]
fn an_empty_snapshot_is_damage_until_the_repair_sets_it_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for slot in 0..30 {
        store.write_blocking(scored_batch(slot, slot.unsigned_abs() + 1, 8)).unwrap();
    }
    let before = store.verify().unwrap();
    store.close_blocking();
    fs::write(dir.path().join("cold/snap.FFFFFFFFFFFFFFFF"), b"").unwrap();
    for _ in 0..2 {
        let error = Store::open(config(dir.path())).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { db: Db::Cold, .. }), "{error}");
        assert_eq!(error.exit_code(), 74);
    }
    let report = repair(dir.path(), 4 << 20).unwrap();
    assert!(report.set_aside.iter().all(|file| file.exists()));
    assert_eq!(report.verify, before, "the log alone gives every row back");
    let store = open(dir.path());
    assert_eq!(store.verify().unwrap(), before);
}
