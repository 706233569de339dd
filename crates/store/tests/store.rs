//! The store through its public interface.
#![allow(missing_docs, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Bound, RangeBounds};

use common::*;
use forecastd_core::{Hotkey, NetUid, Role, RoundState, StreamId, VoidReason};
use forecastd_store::*;
use proptest::prelude::*;

#[test]
fn every_kind_of_record_comes_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let key = (stream(), 5 * SLOT_MS);
    let frozen = FrozenRecord {
        stream: stream(),
        start_ms: key.1,
        closes: closes(3),
        commitment: commitment(3),
        frozen_at_ms: 4,
    };
    let forecast = ForecastRecord { model: "lstm".to_owned(), closes: closes(4) };
    let weights = WeightsRecord {
        at_ms: 77,
        block: 900,
        uids: vec![0, 5],
        values: vec![65_535, 3],
        outcome: WeightsOutcome::Refused("setting weights too fast".to_owned()),
    };
    let void = round(6, 3, RoundState::Void { reason: VoidReason::Missed });
    let frozen_key = (miner(1), "5b1c7a9e-request".to_owned());
    {
        let store = open(dir.path());
        store.write_blocking(pending_batch(5, 3)).unwrap();
        store.write_blocking(scored_batch(5, 1, 3)).unwrap();
        let hot = Batch::new()
            .put(&(stream(), 300_000), &candle(300_000))
            .and_then(|batch| batch.put(&frozen_key, &frozen))
            .and_then(|batch| batch.put(&key, &forecast))
            .and_then(|batch| batch.put(&(stream(), void.start_ms), &void))
            .unwrap();
        store.write_blocking(hot).unwrap();
        store.write_blocking(Batch::new().put(&weights.at_ms, &weights).unwrap()).unwrap();
        store.close_blocking();
    }
    let store = open(dir.path());
    assert_eq!(store.get::<CandleRecord>(&(stream(), 300_000)).unwrap(), Some(candle(300_000)));
    assert_eq!(store.get::<RoundRecord>(&key).unwrap(), Some(round(5, 3, RoundState::Pending)));
    assert_eq!(store.get::<RoundRecord>(&(stream(), void.start_ms)).unwrap(), Some(void));
    let answer_key = (stream(), key.1, miner(2));
    assert_eq!(store.get::<AnswerRecord>(&answer_key).unwrap(), Some(answer(5, 2)));
    assert_eq!(store.get::<FrozenRecord>(&frozen_key).unwrap(), Some(frozen));
    assert_eq!(store.get::<ForecastRecord>(&key).unwrap(), Some(forecast));
    assert_eq!(store.get::<ResultRecord>(&key).unwrap(), Some(result(5, 1, 3)));
    let scored = store.get::<ScoredAnswerRecord>(&answer_key).unwrap().unwrap();
    assert_eq!(scored.closes, answer(5, 2).closes);
    assert_eq!(store.get::<EmaRecord>(&stream()).unwrap(), Some(ema(1, 3)));
    let history = store.get::<EmaHistoryRecord>(&key).unwrap().unwrap();
    assert_eq!(history.entries, ema(1, 3).entries);
    let schedule = store.get::<ScheduleRecord>(&stream()).unwrap().unwrap();
    assert_eq!(schedule.last_scored_sequence, 1);
    assert_eq!(store.get::<WeightsRecord>(&77).unwrap(), Some(weights));
    assert_eq!(store.count::<AnswerRecord>().unwrap(), 3);
    let report = store.verify().unwrap();
    assert!(report.is_ok(), "{report:?}");
    assert_eq!((report.rows, report.kinds.len()), (16, 11));
}

#[test]
fn a_conflict_writes_nothing_of_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.write_blocking(scored_batch(1, 1, 2)).unwrap();
    let error = store.write_blocking(scored_batch(1, 2, 5)).unwrap_err();
    assert!(
        matches!(&error, StoreError::Conflict { record: "result", exists: true, .. }),
        "{error}"
    );
    assert_eq!(store.get::<EmaRecord>(&stream()).unwrap().unwrap().sequence, 1);
    assert_eq!(store.count::<ScoredAnswerRecord>().unwrap(), 2);
    let missing = Batch::new()
        .require_present::<RoundRecord>(&(stream(), 0))
        .put(&(stream(), 0), &round(0, 1, RoundState::Committed))
        .unwrap();
    let error = store.write_blocking(missing).unwrap_err();
    assert!(matches!(error, StoreError::Conflict { record: "round", exists: false, .. }));
    assert_eq!(store.count::<RoundRecord>().unwrap(), 0);
    assert!(store.verify().unwrap().is_ok());
}

#[test]
fn batches_that_cannot_be_written_are_refused_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let hot = Batch::new().put(&(stream(), 0), &candle(0)).unwrap();
    let mixed = hot.clone().put(&stream(), &ema(1, 1)).unwrap_err();
    assert!(matches!(mixed, StoreError::Mixed { record: "moving averages" }));
    let mixed = hot.clone().remove::<EmaRecord>(&stream());
    assert!(matches!(store.write_blocking(mixed), Err(StoreError::Mixed { .. })));
    let mut broken = candle(0);
    broken.candle.close = f64::NAN;
    let error = Batch::new().put(&(stream(), 0), &broken).unwrap_err();
    assert_eq!(error.to_string(), "candle is refused: field `candle` is not finite at position 3");
    let long = StreamId("s".repeat(33));
    let error = Batch::new().put(&(long.clone(), 0), &candle(0)).unwrap_err();
    assert!(matches!(error, StoreError::Key { record: "candle", .. }));
    assert!(matches!(store.get::<CandleRecord>(&(long, 0)), Err(StoreError::Key { .. })));
    let big = (0..60).fold(Batch::new(), |batch, number| {
        let record = AnswerRecord { closes: vec![1.5; 12_000], ..answer(0, 0) };
        batch.put(&(stream(), 0, miner(number)), &record).unwrap()
    });
    let error = store.write_blocking(big).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { what: "batch", .. }), "{error}");
    store.write_blocking(Batch::new()).unwrap();
    assert_eq!(store.verify().unwrap().rows, 0, "nothing of all this was written");
}

#[test]
fn a_store_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close_blocking();
    let others = [
        Identity { network: "finney".to_owned(), ..identity() },
        Identity { netuid: NetUid(3), ..identity() },
        Identity { hotkey: Hotkey::from_bytes([2; 32]), ..identity() },
        Identity { role: Role::Miner, ..identity() },
    ];
    for other in others {
        let error = Store::open(StoreConfig { identity: other, ..config(dir.path()) }).unwrap_err();
        assert!(matches!(error, StoreError::Identity { .. }), "{error}");
        assert_eq!(error.exit_code(), 78);
    }
    let store = Store::open_existing(dir.path(), 1 << 20).unwrap();
    assert_eq!(store.identity(), &identity());
    store.close_blocking();
    open(dir.path()).close_blocking();
}

#[test]
fn a_store_must_exist_for_commands_and_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nothing");
    let error = Store::open_existing(&path, 1 << 20).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }) && error.exit_code() == 73);
    assert!(matches!(repair(&path, 1 << 20), Err(StoreError::Missing { .. })));
    assert!(!path.exists());
}

#[test]
fn a_directory_in_use_is_refused_at_once_and_free_after_closing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Store::open(config(dir.path())).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }) && error.exit_code() == 75);
    assert!(matches!(repair(dir.path(), 1 << 20), Err(StoreError::Locked { .. })));
    store.close_blocking();
    open(dir.path());
}

#[test]
fn a_directory_that_cannot_be_made_is_exit_code_73() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "in the way").unwrap();
    let error = Store::open(config(&dir.path().join("file").join("data"))).unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }) && error.exit_code() == 73, "{error}");
}

#[test]
fn a_closed_store_answers_closed_through_every_handle() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let other = store.clone();
    store.close_blocking();
    store.close_blocking();
    assert!(matches!(other.get::<EmaRecord>(&stream()), Err(StoreError::Closed)));
    assert!(matches!(other.write_blocking(scored_batch(1, 1, 1)), Err(StoreError::Closed)));
    assert!(matches!(other.reopen_blocking(), Err(StoreError::Closed)));
    let mut rows = other.scan::<CandleRecord>(..);
    assert!(matches!(rows.next(), Some(Err(StoreError::Closed))));
    assert!(rows.next().is_none());
    assert!(other.stats().suspended.is_some());
}

#[test]
fn an_empty_hot_database_is_made_anew_but_an_empty_cold_one_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.write_blocking(scored_batch(1, 1, 1)).unwrap();
    store.close_blocking();
    fs::remove_dir_all(dir.path().join("hot")).unwrap();
    let store = open(dir.path());
    assert_eq!(store.count::<ResultRecord>().unwrap(), 1);
    store.close_blocking();
    fs::remove_dir_all(dir.path().join("cold")).unwrap();
    let error = Store::open(config(dir.path())).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { db: Db::Cold, .. }), "{error}");
    assert_eq!(error.exit_code(), 74);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_wait_together_share_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let tasks: Vec<_> = (0..400_i64)
        .map(|slot| {
            let store = store.clone();
            tokio::spawn(async move { store.write(pending_batch(slot, 2)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.count::<RoundRecord>().unwrap(), 400);
    assert_eq!(store.count::<AnswerRecord>().unwrap(), 800);
    let stats = store.stats();
    assert_eq!(stats.batches, 400);
    assert!(stats.flushes < stats.batches, "{stats:?}");
    assert!(stats.hot_bytes > 0 && stats.cold_bytes > 0 && stats.suspended.is_none());
    assert!(store.verify().unwrap().is_ok());
    store.close().await;
    assert!(matches!(store.write(Batch::new()).await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn of_writers_that_require_absence_at_once_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let tasks: Vec<_> = (0..50_u64)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = (miner(0), "same question".to_owned());
                let record = FrozenRecord {
                    stream: stream(),
                    start_ms: 0,
                    closes: closes(number),
                    commitment: commitment(number),
                    frozen_at_ms: 0,
                };
                let batch = Batch::new().require_absent::<FrozenRecord>(&key);
                store.write(batch.put(&key, &record).unwrap()).await.map(|()| number)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(number) => winners.push(number),
            Err(error) => assert!(matches!(error, StoreError::Conflict { .. }), "{error}"),
        }
    }
    let key = (miner(0), "same question".to_owned());
    let stored = store.get::<FrozenRecord>(&key).unwrap().unwrap();
    assert_eq!(winners.len(), 1);
    assert_eq!(stored.commitment, commitment(winners[0]));
}

#[tokio::test]
async fn retention_removes_the_old_and_keeps_what_is_not_settled() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let streams = [stream(), StreamId("BTCUSD-5m-b".to_owned()), StreamId("A".repeat(32))];
    for stream in &streams {
        let mut batch = Batch::new();
        for n in 0..1_300_i64 {
            batch = batch.put(&(stream.clone(), n * 300_000), &candle(n * 300_000)).unwrap();
        }
        store.write(batch).await.unwrap();
    }
    let removed = store.remove_older_than::<CandleRecord>(1_000 * 300_000).await.unwrap();
    assert_eq!(removed, 3_000);
    assert_eq!(store.count::<CandleRecord>().unwrap(), 900);
    for stream in &streams {
        let oldest = store.scan_prefix::<CandleRecord>(stream).next().unwrap().unwrap();
        assert_eq!(oldest.0.1, 1_000 * 300_000);
    }
    for (slot, state) in [(1, RoundState::Pending), (2, RoundState::Done), (9, RoundState::Done)] {
        let record = round(slot, 1, state);
        let batch = Batch::new().put(&(stream(), record.start_ms), &record).unwrap();
        store.write(batch).await.unwrap();
    }
    assert_eq!(store.remove_older_than::<RoundRecord>(9 * SLOT_MS).await.unwrap(), 1);
    let left: Vec<_> =
        store.scan::<RoundRecord>(..).map(|row| row.unwrap().0.1 / SLOT_MS).collect();
    assert_eq!(left, [1, 9]);
    assert!(store.verify().unwrap().is_ok());
}

#[test]
fn two_hundred_rounds_of_256_miners_stay_small_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // 18 rounds are in flight at a time: a horizon of 500 minutes and the time to settle.
    for slot in 0..200_i64 {
        store.write_blocking(pending_batch(slot, 256)).unwrap();
        if slot >= 18 {
            let due = slot - 18;
            store.write_blocking(scored_batch(due, due.unsigned_abs() + 1, 256)).unwrap();
            store.write_blocking(clearing_batch(due, 256)).unwrap();
        }
    }
    let live = store.verify().unwrap();
    assert!(live.is_ok(), "{live:?}");
    let stats = store.stats();
    println!(
        "live {} kB, hot {} kB, cold {} kB, longest flush {:?}",
        live.live_bytes / 1_000,
        stats.hot_bytes / 1_000,
        stats.cold_bytes / 1_000,
        stats.flush_longest
    );
    let disk = stats.hot_bytes + stats.cold_bytes;
    assert!(disk < 4 * live.live_bytes, "{disk} bytes on disk for {} live", live.live_bytes);
    assert!(stats.hot_bytes < 40_000_000, "hot keeps what was cleared: {stats:?}");
}

#[test]
fn long_rows_grow_shrink_and_vanish_with_all_their_parts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let parts = || {
        let report = store.verify().unwrap();
        assert!(report.is_ok(), "{report:?}");
        let parts = report.kinds.iter().find(|kind| kind.name.starts_with("parts"));
        parts.map_or(0, |kind| kind.rows)
    };
    let keys = [(stream(), 0, miner(0)), (stream(), 0, miner(1))];
    for (length, expected) in [(12_000, 16), (3_000, 4), (700, 0), (1_400, 1), (12_400, 16)] {
        let record = AnswerRecord { closes: vec![1.5; length], ..answer(0, 0) };
        for key in &keys {
            store.write_blocking(Batch::new().put(key, &record).unwrap()).unwrap();
            assert_eq!(store.get::<AnswerRecord>(key).unwrap().as_ref(), Some(&record));
        }
        let rows: Vec<_> = store.scan::<AnswerRecord>(..).map(|row| row.unwrap().1).collect();
        assert_eq!(rows, [record.clone(), record]);
        assert_eq!(parts(), 2 * expected);
    }
    for (key, left) in keys.iter().zip([16, 0]) {
        store.write_blocking(Batch::new().remove::<AnswerRecord>(key)).unwrap();
        assert_eq!(parts(), left);
    }
    assert_eq!(store.verify().unwrap().live_bytes, 0);
}

#[test]
fn a_long_row_is_read_whole_while_it_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = (stream(), 0, miner(0));
    let record = |n: u32| {
        let length = 700 * (1 + n as usize % 9);
        AnswerRecord { closes: vec![f64::from(n); length], ..answer(0, 0) }
    };
    store.write_blocking(Batch::new().put(&key, &record(0)).unwrap()).unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..300 {
                store.write_blocking(Batch::new().put(&key, &record(n)).unwrap()).unwrap();
            }
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
            let got = store.get::<AnswerRecord>(&key).unwrap().unwrap();
            let scanned = store.scan::<AnswerRecord>(..).next().unwrap().unwrap().1;
            for read in [got, scanned] {
                let first = read.closes[0].to_bits();
                assert!(read.closes.iter().all(|close| close.to_bits() == first));
            }
        }
    });
}

#[test]
fn an_export_restores_every_row_and_compacts() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let file = dir.path().join("backup");
    let store = open(&from);
    for slot in 0..20 {
        store.write_blocking(pending_batch(slot, 120)).unwrap();
        store.write_blocking(scored_batch(slot, slot.unsigned_abs() + 1, 120)).unwrap();
    }
    let report = store.export(fs::File::create(&file).unwrap()).unwrap();
    assert_eq!(report.bytes, fs::metadata(&file).unwrap().len());
    let before = store.verify().unwrap();
    let imported = import(&config(&to), fs::File::open(&file).unwrap()).unwrap();
    assert_eq!(imported, report);
    let copy = open(&to);
    assert_eq!(copy.verify().unwrap(), before);
    for row in store.scan::<ResultRecord>(..) {
        let (key, record) = row.unwrap();
        assert_eq!(copy.get::<ResultRecord>(&key).unwrap(), Some(record));
    }
    let again = import(&config(&to), fs::File::open(&file).unwrap()).unwrap_err();
    assert!(matches!(again, StoreError::Export { .. }), "an existing directory is left alone");
}

#[test]
fn a_cut_or_changed_export_restores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("from"));
    store.write_blocking(scored_batch(1, 1, 3)).unwrap();
    let file = dir.path().join("backup");
    store.export(fs::File::create(&file).unwrap()).unwrap();
    let whole = fs::read(&file).unwrap();
    let to = dir.path().join("to");
    let stranger = Identity { network: "finney".to_owned(), ..identity() };
    let other = StoreConfig { identity: stranger, ..config(&to) };
    assert!(matches!(import(&other, whole.as_slice()), Err(StoreError::Identity { .. })));
    let step = whole.len() / 40;
    for at in (0..whole.len()).step_by(step) {
        import(&config(&to), &whole[..at]).unwrap_err();
        let mut changed = whole.clone();
        changed[at] ^= 4;
        import(&config(&to), changed.as_slice()).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }
    import(&config(&to), whole.as_slice()).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize, i64),
    Remove(usize, i64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..3_usize, -20..20_i64);
    prop_oneof![
        6 => place.clone().prop_map(|(stream, at)| Step::Put(stream, at)),
        3 => place.prop_map(|(stream, at)| Step::Remove(stream, at)),
        1 => Just(Step::Reopen),
    ]
}

fn bound() -> impl Strategy<Value = Bound<(usize, i64)>> {
    let place = (0..3_usize, -21..21_i64);
    prop_oneof![
        place.clone().prop_map(Bound::Included),
        place.prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The store against an ordered map: any writes, any range, from both ends.
    #[test]
    fn scans_agree_with_an_ordered_map(
        steps in prop::collection::vec(step(), 1..120),
        ranges in prop::collection::vec((bound(), bound(), any::<u32>()), 12),
    ) {
        let names = ["BTC", "BTC-5m", "ETH"].map(|name| StreamId(name.to_owned()));
        let key = |(stream, at): (usize, i64)| (names[stream].clone(), at);
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut model = BTreeMap::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(stream, at) => {
                    let record = candle(i64::try_from(n).unwrap());
                    let batch = Batch::new().put(&key((stream, at)), &record).unwrap();
                    store.write_blocking(batch).unwrap();
                    model.insert(key((stream, at)), record);
                }
                Step::Remove(stream, at) => {
                    let batch = Batch::new().remove::<CandleRecord>(&key((stream, at)));
                    store.write_blocking(batch).unwrap();
                    model.remove(&key((stream, at)));
                }
                Step::Reopen => {
                    store.close_blocking();
                    store = open(dir.path());
                }
            }
        }
        for (from, to, turns) in ranges {
            let range = (from.map(key), to.map(key));
            let mut expected: std::collections::VecDeque<_> = model
                .iter()
                .filter(|(key, _)| range.contains(*key))
                .map(|(key, record)| (key.clone(), record.clone()))
                .collect();
            let mut rows = store.scan::<CandleRecord>(range);
            for turn in 0..=model.len() {
                if turns >> (turn % 32) & 1 == 0 {
                    prop_assert_eq!(rows.next().map(Result::unwrap), expected.pop_front());
                } else {
                    prop_assert_eq!(rows.next_back().map(Result::unwrap), expected.pop_back());
                }
            }
        }
        for name in &names {
            let newest = model.iter().rfind(|(key, _)| key.0 == *name);
            let newest = newest.map(|(key, record)| (key.clone(), record.clone()));
            prop_assert_eq!(store.last::<CandleRecord>(name).unwrap(), newest);
        }
        prop_assert_eq!(store.count::<CandleRecord>().unwrap(), model.len());
        prop_assert!(store.verify().unwrap().is_ok());
    }
}
