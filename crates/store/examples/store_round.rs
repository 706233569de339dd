//! Measures what a round of 256 miners costs the store: written and flushed step by step as a
//! validator does, then verified.
//!
//! `cargo run --release -p forecastd-store --example store_round -- [ROUNDS] [DIRECTORY]`
//! (default 300 rounds, in the system's directory for temporary files, removed afterwards).
#![expect(clippy::print_stdout, reason = "the figures are its output")]
#![expect(clippy::disallowed_methods, reason = "it measures the real time")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use forecastd_core::{Hotkey, NetUid, Role, RoundState, StreamId, Uid};
use forecastd_store::{
    AnswerRecord, AskedMiner, Batch, EmaHistoryRecord, EmaLine, EmaRecord, Identity, ResultRecord,
    RoundRecord, ScheduleRecord, ScoreLine, ScoredAnswerRecord, Store, StoreConfig, StoreError,
};

const MINERS: u16 = 256;
const SLOT_MS: i64 = 1_800_000;
/// Rounds between a question and its evaluation.
const IN_FLIGHT: i64 = 18;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let rounds: i64 = args.next().map_or(Ok(300), |text| text.parse())?;
    let path = args.next().map_or_else(
        || std::env::temp_dir().join(format!("forecastd-store-round-{}", std::process::id())),
        PathBuf::from,
    );
    let identity = Identity {
        network: "bench".to_owned(),
        netuid: NetUid(1),
        hotkey: Hotkey::from_bytes([1; 32]),
        role: Role::Validator,
    };
    let store = Store::open(StoreConfig::new(path.clone(), identity.clone()))?;
    let mut steps = [const { Vec::<Duration>::new() }; 5];
    for slot in 0..rounds {
        let [open, commit, pending, score, clear] = &mut steps;
        for (state, took) in [(RoundState::Opened, open), (RoundState::Committed, commit)] {
            let batch = Batch::new().put(&key(slot), &round(slot, state))?;
            timed(took, || store.write_blocking(batch))?;
        }
        let batch = pending_batch(slot)?;
        timed(pending, || store.write_blocking(batch))?;
        if slot >= IN_FLIGHT {
            let due = slot - IN_FLIGHT;
            let batch = scored_batch(due)?;
            timed(score, || store.write_blocking(batch))?;
            let batch = clearing_batch(due);
            timed(clear, || store.write_blocking(batch))?;
        }
    }
    let names = ["open", "commit", "answers", "score", "clear"];
    println!("{rounds} rounds of {MINERS} miners, written and flushed, ms a step:");
    for (name, took) in names.iter().zip(&mut steps) {
        took.sort_unstable();
        println!(
            "  {name:<8} p50 {:>6.2}  p99 {:>6.2}  max {:>6.2}",
            quantile_ms(took, 0.5),
            quantile_ms(took, 0.99),
            quantile_ms(took, 1.0)
        );
    }
    let started = Instant::now();
    let report = store.verify()?;
    let verified = started.elapsed();
    let stats = store.stats();
    println!(
        "verify {} rows in {:.0} ms, {} problems",
        report.rows,
        verified.as_secs_f64() * 1e3,
        report.problem_count
    );
    println!(
        "live {:.1} MB, hot {:.1} MB, cold {:.1} MB on disk",
        report.live_bytes as f64 / 1e6,
        stats.hot_bytes as f64 / 1e6,
        stats.cold_bytes as f64 / 1e6
    );
    store.close_blocking();
    let started = Instant::now();
    let store = Store::open(StoreConfig::new(path.clone(), identity))?;
    println!("reopened in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    store.close_blocking();
    std::fs::remove_dir_all(&path)?;
    Ok(())
}

fn timed(
    took: &mut Vec<Duration>,
    work: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let started = Instant::now();
    work()?;
    took.push(started.elapsed());
    Ok(())
}

fn quantile_ms(sorted: &[Duration], quantile: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index below the length"
    )]
    let index = (last as f64 * quantile).round() as usize;
    sorted.get(index).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}

fn stream() -> StreamId {
    StreamId("BTCUSD-5m".to_owned())
}

fn key(slot: i64) -> (StreamId, i64) {
    (stream(), slot * SLOT_MS)
}

fn miner(number: u16) -> Hotkey {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    Hotkey::from_bytes(bytes)
}

fn commitment(slot: i64, number: u16) -> String {
    format!("{:064x}", slot.unsigned_abs() * 1_000 + u64::from(number))
}

/// Closes of no pattern, so that nothing is saved by their likeness.
fn closes(slot: i64, number: u16) -> Vec<f64> {
    let mut state = (slot.unsigned_abs() * 1_000 + u64::from(number)) << 1 | 1;
    (0..100)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            60_000.0 + (state >> 11) as f64 / 1e13
        })
        .collect()
}

fn round(slot: i64, state: RoundState) -> RoundRecord {
    let has_commitments = state != RoundState::Opened;
    RoundRecord {
        round_id: format!("00000000-0000-4000-8000-{slot:012}"),
        start_ms: slot * SLOT_MS,
        due_at_ms: slot * SLOT_MS + 100 * 300_000,
        state,
        asked: (0..MINERS)
            .map(|number| AskedMiner {
                hotkey: miner(number),
                uid: Uid(number),
                registered_at_block: 1_000,
                commitment: has_commitments.then(|| commitment(slot, number)),
                refusal: None,
            })
            .collect(),
        opened_at_ms: slot * SLOT_MS,
        last_close: 60_000.5,
    }
}

fn pending_batch(slot: i64) -> Result<Batch, StoreError> {
    let mut batch = Batch::new().put(&key(slot), &round(slot, RoundState::Pending))?;
    for number in 0..MINERS {
        let record =
            AnswerRecord { closes: closes(slot, number), commitment: commitment(slot, number) };
        batch = batch.put(&(stream(), slot * SLOT_MS, miner(number)), &record)?;
    }
    Ok(batch)
}

fn scored_batch(slot: i64) -> Result<Batch, StoreError> {
    let sequence = slot.unsigned_abs() + 1;
    let entries: Vec<EmaLine> = (0..MINERS)
        .map(|number| EmaLine {
            hotkey: miner(number),
            value: 1.0 / f64::from(number + 3) / sequence as f64,
            rounds: sequence,
            registered_at_block: 1_000,
        })
        .collect();
    let state = EmaRecord { sequence, entries: entries.clone() };
    let result = ResultRecord {
        round_id: round(slot, RoundState::Done).round_id,
        start_ms: slot * SLOT_MS,
        due_at_ms: slot * SLOT_MS + 100 * 300_000,
        settled_at_ms: slot * SLOT_MS + 101 * 300_000,
        sequence,
        previous_slot_ms: (sequence > 1).then_some((slot - 1) * SLOT_MS),
        realised: closes(slot, 0),
        importance: 0.7,
        scores: (0..MINERS)
            .map(|number| ScoreLine {
                hotkey: miner(number),
                uid: Uid(number),
                rmse: Some(100.0 + f64::from(number)),
                share: 1.0 / f64::from(MINERS),
                refusal: None,
            })
            .collect(),
        members: (0..MINERS).map(|number| (miner(number), 1_000)).collect(),
        settings: "{}".to_owned(),
        ema_digest: state.digest(),
        void_reason: None,
    };
    let schedule = ScheduleRecord { last_scored_sequence: sequence };
    let mut batch = Batch::new()
        .require_absent::<ResultRecord>(&key(slot))
        .put(&key(slot), &result)?
        .put(&stream(), &state)?
        .put(&key(slot), &EmaHistoryRecord { sequence, entries })?
        .put(&stream(), &schedule)?;
    for number in 0..MINERS {
        let record = ScoredAnswerRecord {
            closes: closes(slot, number),
            commitment: commitment(slot, number),
        };
        batch = batch.put(&(stream(), slot * SLOT_MS, miner(number)), &record)?;
    }
    Ok(batch)
}

fn clearing_batch(slot: i64) -> Batch {
    let batch = Batch::new().remove::<RoundRecord>(&key(slot));
    (0..MINERS).fold(batch, |batch, number| {
        batch.remove::<AnswerRecord>(&(stream(), slot * SLOT_MS, miner(number)))
    })
}
