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
