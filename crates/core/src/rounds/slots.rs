//! When rounds begin and when they can be scored.

use std::time::Duration;

use crate::grid::Interval;
use crate::ids::RoundId;
use crate::stream::StreamSpec;

/// Returns the first round time strictly after `after_ms`.
pub const fn next_slot(after_ms: i64, every: Interval) -> i64 {
    every.next(after_ms)
}

/// Returns the first round time strictly after `after_ms` when rounds lie `offset` after each grid
/// time, so that streams need not all ask in the same second.
pub fn next_slot_after(after_ms: i64, every: Interval, offset: Duration) -> i64 {
    let offset_ms = i64::try_from(offset.as_millis()).unwrap_or(i64::MAX).rem_euclid(every.as_ms());
    every.next(after_ms.saturating_sub(offset_ms)).saturating_add(offset_ms)
}

/// Returns the time from which a round can be scored: its horizon is over and the exchanges had
/// `settle` to correct their last candles.
pub fn due_at_ms(spec: &StreamSpec, start_ms: i64, settle: Duration) -> i64 {
    let settle_ms = i64::try_from(settle.as_millis()).unwrap_or(i64::MAX);
    spec.end_ms(start_ms).saturating_add(settle_ms)
}

/// Returns the time from which the commitments of a slot are not asked for any more: a miner that
/// hears of the slot later answers with a forecast that starts one candle later.
pub const fn opens_until_ms(spec: &StreamSpec, slot_ms: i64) -> i64 {
    slot_ms.saturating_add(spec.interval.as_ms())
}

/// Returns the time from which the values of a slot are not asked for any more: what was committed
/// to is fixed, so being late harms nobody until miners forget.
pub const fn reveals_until_ms(spec: &StreamSpec, slot_ms: i64) -> i64 {
    slot_ms.saturating_add(spec.round_every.as_ms().saturating_mul(2))
}

/// Returns the slot to ask next: the running one while it can still be opened, or a later one; never
/// one that was asked, however the clock jumps.
pub fn slot_to_ask(spec: &StreamSpec, now_ms: i64, was_asked: impl Fn(i64) -> bool) -> i64 {
    let running_ms = spec.round_every.floor(now_ms);
    let mut slot_ms = if now_ms < opens_until_ms(spec, running_ms) {
        running_ms
    } else {
        spec.round_every.next(now_ms)
    };
    while was_asked(slot_ms) {
        slot_ms = spec.round_every.next(slot_ms);
    }
    slot_ms
}

/// Returns all rounds that are due, oldest first (equal times by id): after an outage none starves.
///
/// `pending`: id and due time of the rounds that wait for their score.
pub fn due_rounds<'a>(
    pending: impl IntoIterator<Item = (&'a RoundId, i64)>,
    now_ms: i64,
) -> Vec<RoundId> {
    let mut due: Vec<(i64, &RoundId)> = pending
        .into_iter()
        .filter(|(_, due_ms)| *due_ms <= now_ms)
        .map(|(id, due_ms)| (due_ms, id))
        .collect();
    due.sort_unstable();
    due.into_iter().map(|(_, id)| id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamId;

    fn spec() -> StreamSpec {
        StreamSpec {
            id: StreamId("BTCUSD-5m".to_owned()),
            interval: Interval::FIVE_MINUTES,
            horizon: 100,
            lookback: 500,
            round_every: Interval::from_ms(1_800_000).unwrap(),
            topic_id: 1,
            schema_id: 1,
        }
    }

    #[test]
    fn slots_lie_on_the_grid_and_strictly_later() {
        let every = spec().round_every;
        assert_eq!(next_slot(0, every), 1_800_000);
        assert_eq!(next_slot(1_799_999, every), 1_800_000);
        assert_eq!(next_slot(1_800_000, every), 3_600_000);
        let offset = Duration::from_secs(5);
        assert_eq!(next_slot_after(0, every, offset), 5_000);
        assert_eq!(next_slot_after(5_000, every, offset), 1_805_000);
    }

    #[test]
    fn no_slot_is_asked_late_or_twice() {
        let spec = spec();
        let never = |_: i64| false;
        assert_eq!(slot_to_ask(&spec, 1_800_000, never), 1_800_000);
        assert_eq!(slot_to_ask(&spec, 2_099_999, never), 1_800_000);
        assert_eq!(slot_to_ask(&spec, 2_100_000, never), 3_600_000);
        let asked = |slot_ms: i64| slot_ms <= 3_600_000;
        assert_eq!(slot_to_ask(&spec, 1_800_000, asked), 5_400_000, "the clock was set back");
        let future = |slot_ms: i64| slot_ms == 9_000_000;
        assert_eq!(slot_to_ask(&spec, 1_800_000, future), 1_800_000, "a slot asked too early");
        assert_eq!(slot_to_ask(&spec, 8_900_000, future), 10_800_000);
    }

    #[test]
    fn a_round_is_due_when_its_horizon_has_settled() {
        assert_eq!(due_at_ms(&spec(), 0, Duration::from_hours(1)), 30_000_000 + 3_600_000);
    }

    #[test]
    fn a_backlog_is_worked_off_oldest_first_and_completely() {
        let ids: Vec<RoundId> = ["c", "a", "b", "d"].map(|id| RoundId(id.to_owned())).into();
        let due_ms = [30, 20, 20, 99];
        let pending = || ids.iter().zip(due_ms);
        let names = |now_ms| {
            let due = due_rounds(pending(), now_ms);
            due.into_iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(names(30), ["a", "b", "c"]);
        assert_eq!(names(19), Vec::<String>::new());
    }
}
