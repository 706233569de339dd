//! Records and stores for the tests.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use forecastd_core::bars::BarState;
use forecastd_core::{Candle, Hotkey, NetUid, Role, RoundState, StreamId, Uid};
use forecastd_store::*;

pub(crate) const SLOT_MS: i64 = 1_800_000;

pub(crate) fn identity() -> Identity {
    Identity {
        network: "dev".to_owned(),
        netuid: NetUid(2),
        hotkey: Hotkey::from_bytes([1; 32]),
        role: Role::Validator,
    }
}

pub(crate) fn config(path: &Path) -> StoreConfig {
    StoreConfig {
        cache_bytes: 4 << 20,
        reserve_bytes: 0,
        ..StoreConfig::new(path.to_owned(), identity())
    }
}

pub(crate) fn open(path: &Path) -> Store {
    Store::open(config(path)).unwrap()
}

pub(crate) fn stream() -> StreamId {
    StreamId("BTCUSD-5m".to_owned())
}

pub(crate) fn miner(number: u16) -> Hotkey {
    let mut key = [9; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    Hotkey::from_bytes(key)
}

pub(crate) fn candle(open_time_ms: i64) -> CandleRecord {
    let price = 60_000.0 + (open_time_ms % 977) as f64 / 7.0;
    CandleRecord {
        candle: Candle {
            open_time_ms,
            open: price,
            high: price + 1.0,
            low: price - 1.0,
            close: price + 0.1,
            volume: 0.3,
            trade_count: Some(12),
        },
        state: BarState::Complete,
        source: "binance".to_owned(),
        is_settled: false,
    }
}

/// Values of no pattern, so that nothing is saved by their likeness.
pub(crate) fn closes(seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..100)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            60_000.0 + (state >> 11) as f64 / 1e13
        })
        .collect()
}

pub(crate) fn commitment(number: u64) -> String {
    format!("{number:064x}")
}

pub(crate) fn round(slot: i64, miners: u16, state: RoundState) -> RoundRecord {
    let start_ms = slot * SLOT_MS;
    RoundRecord {
        round_id: format!("00000000-0000-4000-8000-{slot:012}"),
        start_ms,
        due_at_ms: start_ms + 100 * 300_000,
        state,
        asked: (0..miners)
            .map(|number| AskedMiner {
                hotkey: miner(number),
                uid: Uid(number),
                registered_at_block: 1_000,
                commitment: Some(commitment(u64::from(number))),
                refusal: None,
            })
            .collect(),
        opened_at_ms: start_ms,
        last_close: 60_000.5,
    }
}

pub(crate) fn answer(slot: i64, number: u16) -> AnswerRecord {
    let seed = slot.unsigned_abs() * 1_000 + u64::from(number);
    AnswerRecord { closes: closes(seed), commitment: commitment(seed) }
}

pub(crate) fn ema(sequence: u64, miners: u16) -> EmaRecord {
    let entries = (0..miners)
        .map(|number| EmaLine {
            hotkey: miner(number),
            value: 1.0 / f64::from(number + 3) / sequence as f64,
            rounds: sequence,
            registered_at_block: 1_000,
        })
        .collect();
    EmaRecord { sequence, entries }
}

pub(crate) fn result(slot: i64, sequence: u64, miners: u16) -> ResultRecord {
    let round = round(slot, 0, RoundState::Done);
    ResultRecord {
        round_id: round.round_id,
        start_ms: round.start_ms,
        due_at_ms: round.due_at_ms,
        settled_at_ms: round.due_at_ms + 1,
        sequence,
        previous_slot_ms: (sequence > 1).then(|| round.start_ms - SLOT_MS),
        realised: closes(slot.unsigned_abs()),
        importance: 0.7,
        scores: (0..miners)
            .map(|number| ScoreLine {
                hotkey: miner(number),
                uid: Uid(number),
                rmse: Some(100.0 + f64::from(number)),
                share: 1.0 / f64::from(miners),
                refusal: None,
            })
            .collect(),
        members: (0..miners).map(|number| (miner(number), 1_000)).collect(),
        settings: "{}".to_owned(),
        ema_digest: ema(sequence, miners).digest(),
        void_reason: None,
    }
}

/// The hot batch of a round whose answers have come in.
pub(crate) fn pending_batch(slot: i64, miners: u16) -> Batch {
    let key = (stream(), slot * SLOT_MS);
    let mut batch = Batch::new().put(&key, &round(slot, miners, RoundState::Pending)).unwrap();
    for number in 0..miners {
        let key = (stream(), slot * SLOT_MS, miner(number));
        batch = batch.put(&key, &answer(slot, number)).unwrap();
    }
    batch
}

/// The cold batch that settles a round.
pub(crate) fn scored_batch(slot: i64, sequence: u64, miners: u16) -> Batch {
    let key = (stream(), slot * SLOT_MS);
    let state = ema(sequence, miners);
    let history = EmaHistoryRecord { sequence, entries: state.entries.clone() };
    let schedule = ScheduleRecord { last_scored_sequence: sequence };
    let mut batch = Batch::new()
        .require_absent::<ResultRecord>(&key)
        .put(&key, &result(slot, sequence, miners))
        .and_then(|batch| batch.put(&stream(), &state))
        .and_then(|batch| batch.put(&key, &history))
        .and_then(|batch| batch.put(&stream(), &schedule))
        .unwrap();
    for number in 0..miners {
        let AnswerRecord { closes, commitment } = answer(slot, number);
        let key = (stream(), slot * SLOT_MS, miner(number));
        batch = batch.put(&key, &ScoredAnswerRecord { closes, commitment }).unwrap();
    }
    batch
}

/// The hot batch that clears a settled round.
pub(crate) fn clearing_batch(slot: i64, miners: u16) -> Batch {
    let batch = Batch::new().remove::<RoundRecord>(&(stream(), slot * SLOT_MS));
    (0..miners).fold(batch, |batch, number| {
        batch.remove::<AnswerRecord>(&(stream(), slot * SLOT_MS, miner(number)))
    })
}
