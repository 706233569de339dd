//! Which trade ids were seen before, in bounded memory.
//!
//! Consecutive ids need no set: everything between the lowest and the highest one was seen, apart
//! from a short list of gaps, which also tells what was lost and when. Ids without order are kept
//! in two generations of a hash table, the older one thrown away when the younger one is full.

use super::NumberedTrade;

/// Most gaps that are remembered; the oldest is given up for lost when another one appears.
pub(super) const MAX_GAPS: usize = 256;

/// A run of consecutive ids that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdGap {
    /// First missing id.
    pub(super) first: u64,
    /// Last missing id.
    pub(super) last: u64,
    /// Time of the trade before the gap: the missing ones are not older.
    pub(super) after_ms: i64,
    /// Time of the trade after the gap: the missing ones are not younger.
    pub(super) before_ms: i64,
    /// Too old to be filled by trades that were only reordered: its trades are lost.
    pub(super) is_lost: bool,
}

impl IdGap {
    /// Returns how many ids are missing.
    pub(super) const fn count(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Tells whether one of the missing trades may lie in `from_ms..to_ms`.
    pub(super) const fn touches(&self, from_ms: i64, to_ms: i64) -> bool {
        self.after_ms < to_ms && self.before_ms >= from_ms
    }
}

/// What is known about an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It was not seen before.
    New,
    /// It was seen before, or is too old to tell.
    Before,
    /// The exchange counts from a lower number again: what was missed in between is unknown.
    Restarted,
}

/// Memory of the ids of one market.
#[derive(Debug)]
pub(super) enum SeenIds {
    /// Ids that rise by one.
    Consecutive(ConsecutiveIds),
    /// Ids without order.
    Unique(UniqueIds),
}

impl SeenIds {
    /// Takes the id where that is quickly done, and tells whether it was; otherwise ask
    /// [`Self::observe`].
    #[inline]
    pub(super) fn take_next(&mut self, trade: &NumberedTrade) -> bool {
        match self {
            Self::Consecutive(ids) => ids.take_next(trade),
            Self::Unique(ids) => ids.insert(trade.id),
        }
    }

    /// Takes the id of any trade. An id that was seen with a time after `newest_ms` is no duplicate.
    pub(super) fn observe(&mut self, trade: &NumberedTrade, newest_ms: i64) -> Seen {
        match self {
            Self::Consecutive(ids) => ids.observe(trade, newest_ms),
            Self::Unique(ids) => {
                if ids.insert(trade.id) {
                    Seen::New
                } else {
                    Seen::Before
                }
            }
        }
    }

    /// Returns the gaps, oldest first; none where ids have no order.
    pub(super) fn gaps(&self) -> &[IdGap] {
        match self {
            Self::Consecutive(ids) => &ids.gaps,
            Self::Unique(_) => &[],
        }
    }

    /// Returns the gaps to change them.
    pub(super) fn gaps_mut(&mut self) -> Option<&mut Vec<IdGap>> {
        match self {
            Self::Consecutive(ids) => Some(&mut ids.gaps),
            Self::Unique(_) => None,
        }
    }

    /// Returns the gap that was given up since the last call, for want of room.
    pub(super) const fn take_forgotten(&mut self) -> Option<IdGap> {
        match self {
            Self::Consecutive(ids) => ids.forgotten.take(),
            Self::Unique(_) => None,
        }
    }
}

/// Ids that rise by one: all of `lowest..next` were seen but those in the gaps.
#[derive(Debug)]
pub(super) struct ConsecutiveIds {
    lowest: u64,
    lowest_ms: i64,
    /// One after the highest; 0 before the first trade, which no fast path may take.
    next: u64,
    highest_ms: i64,
    has_begun: bool,
    /// In rising order of ids.
    gaps: Vec<IdGap>,
    forgotten: Option<IdGap>,
}

impl ConsecutiveIds {
    /// Creates an empty memory with room for every gap, so that it never grows.
    pub(super) fn new() -> Self {
        Self {
            lowest: 0,
            lowest_ms: 0,
            next: 0,
            highest_ms: 0,
            has_begun: false,
            gaps: Vec::with_capacity(MAX_GAPS + 1),
            forgotten: None,
        }
    }

    #[inline]
    fn take_next(&mut self, trade: &NumberedTrade) -> bool {
        let is_next = trade.id == self.next && self.has_begun;
        if is_next {
            self.next += 1;
            self.highest_ms = trade.time_ms;
        }
        is_next
    }

    fn observe(&mut self, trade: &NumberedTrade, newest_ms: i64) -> Seen {
        if !self.has_begun {
            self.begin(trade);
            return Seen::New;
        }
        if trade.id >= self.next {
            let gap = IdGap {
                first: self.next,
                last: trade.id.wrapping_sub(1),
                after_ms: self.highest_ms.min(trade.time_ms),
                before_ms: self.highest_ms.max(trade.time_ms),
                is_lost: false,
            };
            if trade.id > self.next {
                self.insert_gap(self.gaps.len(), gap);
            }
            self.next = trade.id + 1;
            self.highest_ms = trade.time_ms;
            return Seen::New;
        }
        let index = self.gaps.partition_point(|gap| gap.last < trade.id);
        if self.gaps.get(index).is_some_and(|gap| gap.first <= trade.id) {
            self.fill(index, trade);
            return Seen::New;
        }
        if trade.time_ms > newest_ms {
            self.gaps.clear();
            self.begin(trade);
            return Seen::Restarted;
        }
        if trade.id < self.lowest && self.gaps.len() < MAX_GAPS {
            self.extend_down(trade);
            return Seen::New;
        }
        Seen::Before
    }

    const fn begin(&mut self, trade: &NumberedTrade) {
        self.lowest = trade.id;
        self.lowest_ms = trade.time_ms;
        self.next = trade.id + 1;
        self.highest_ms = trade.time_ms;
        self.has_begun = true;
    }

    /// The first trades may be reordered like all others.
    fn extend_down(&mut self, trade: &NumberedTrade) {
        if trade.id + 1 < self.lowest {
            let gap = IdGap {
                first: trade.id + 1,
                last: self.lowest - 1,
                after_ms: trade.time_ms.min(self.lowest_ms),
                before_ms: trade.time_ms.max(self.lowest_ms),
                is_lost: false,
            };
            self.insert_gap(0, gap);
        }
        self.lowest = trade.id;
        self.lowest_ms = trade.time_ms;
    }

    fn fill(&mut self, index: usize, trade: &NumberedTrade) {
        let gap = self.gaps.remove(index);
        if trade.id < gap.last {
            let after_ms = trade.time_ms.min(gap.before_ms);
            self.gaps.insert(index, IdGap { first: trade.id + 1, after_ms, ..gap });
        }
        if trade.id > gap.first {
            let before_ms = trade.time_ms.max(gap.after_ms);
            self.insert_gap(index, IdGap { last: trade.id - 1, before_ms, ..gap });
        }
    }

    fn insert_gap(&mut self, index: usize, gap: IdGap) {
        self.gaps.insert(index, gap);
        if self.gaps.len() > MAX_GAPS {
            self.forgotten = Some(self.gaps.remove(0));
        }
    }
}

/// Ids without order: the last `capacity` to twice as many are remembered.
#[derive(Debug)]
pub(super) struct UniqueIds {
    young: Vec<u64>,
    old: Vec<u64>,
    capacity: usize,
    count: usize,
    /// Zero marks a free slot, so the id zero is remembered here, for ever.
    has_zero: bool,
}

/// 2^64 divided by the golden ratio: spreads neighbouring ids over the table.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl UniqueIds {
    /// Creates an empty memory of at least `capacity` ids; 32 to 64 bytes an id, never more.
    pub(super) fn new(capacity: usize) -> Self {
        // At most half full, so that a probe ends after a step or two.
        let slots = capacity.next_power_of_two() * 2;
        Self { young: vec![0; slots], old: vec![0; slots], capacity, count: 0, has_zero: false }
    }

    /// Remembers an id; tells whether it was not known.
    #[inline]
    fn insert(&mut self, id: u64) -> bool {
        if id == 0 {
            return !std::mem::replace(&mut self.has_zero, true);
        }
        let slot = slot_of(&self.young, id);
        if self.young[slot] == id || self.old[slot_of(&self.old, id)] == id {
            return false;
        }
        self.young[slot] = id;
        self.count += 1;
        if self.count == self.capacity {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.fill(0);
            self.count = 0;
        }
        true
    }
}

/// Returns the slot that holds the id, or the free one where it belongs.
#[inline]
fn slot_of(table: &[u64], id: u64) -> usize {
    let mask = table.len() - 1;
    let mut slot = (id.wrapping_mul(SPREAD) >> 32) as usize & mask;
    while table[slot] != 0 && table[slot] != id {
        slot = (slot + 1) & mask;
    }
    slot
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn trade(id: u64, time_ms: i64) -> NumberedTrade {
        NumberedTrade { time_ms, id, price: 1.0, size: 1.0 }
    }

    #[test]
    fn a_jump_leaves_a_gap_that_reordered_trades_fill() {
        let mut ids = ConsecutiveIds::new();
        for (id, time_ms) in [(10, 100), (14, 140)] {
            assert_eq!(ids.observe(&trade(id, time_ms), i64::MAX), Seen::New);
        }
        let gap = ids.gaps[0];
        assert_eq!((gap.first, gap.last, gap.after_ms, gap.before_ms), (11, 13, 100, 140));
        assert_eq!(ids.observe(&trade(12, 120), i64::MAX), Seen::New);
        let ranges: Vec<_> = ids.gaps.iter().map(|gap| (gap.first, gap.last)).collect();
        assert_eq!(ranges, [(11, 11), (13, 13)]);
        assert_eq!((ids.gaps[0].before_ms, ids.gaps[1].after_ms), (120, 120));
        assert_eq!(ids.observe(&trade(12, 120), i64::MAX), Seen::Before);
        assert_eq!(ids.observe(&trade(8, 80), i64::MAX), Seen::New, "before the first one seen");
        assert_eq!(ids.gaps.len(), 3);
        for id in [9, 11, 13] {
            assert_eq!(ids.observe(&trade(id, 90), i64::MAX), Seen::New);
        }
        assert!(ids.gaps.is_empty());
    }

    #[test]
    fn a_known_id_with_a_younger_time_is_a_restart() {
        let mut ids = ConsecutiveIds::new();
        for id in 1000..1010 {
            ids.observe(&trade(id, 100), 100);
        }
        assert_eq!(ids.observe(&trade(1, 101), 100), Seen::Restarted);
        assert_eq!(ids.observe(&trade(2, 102), 101), Seen::New);
        assert!(ids.gaps.is_empty());
    }

    #[test]
    fn the_oldest_gap_is_given_up_when_there_are_too_many() {
        let mut ids = ConsecutiveIds::new();
        let count = u64::try_from(MAX_GAPS).unwrap() + 2;
        for id in 0..count {
            ids.observe(&trade(id * 2, 0), i64::MAX);
        }
        assert_eq!(ids.gaps.len(), MAX_GAPS);
        assert_eq!(ids.forgotten.map(|gap| gap.first), Some(1));
        assert_eq!(ids.observe(&trade(1, 0), i64::MAX), Seen::Before, "cannot be told any more");
        assert_eq!(ids.observe(&trade(3, 0), i64::MAX), Seen::New);
    }

    #[test]
    fn unique_ids_are_remembered_for_at_least_the_capacity() {
        let mut ids = UniqueIds::new(100);
        assert!(ids.insert(0) && !ids.insert(0));
        for id in 1..1000_u64 {
            assert!(ids.insert(id * 7919));
            for back in id.saturating_sub(99).max(1)..=id {
                assert!(!ids.insert(back * 7919), "{back} of {id}");
            }
        }
        assert!(ids.insert(7919), "forgotten after twice the capacity");
    }

    proptest! {
        #[test]
        fn consecutive_ids_agree_with_a_set(order in prop::collection::vec(0_u64..120, 1..300)) {
            let mut ids = ConsecutiveIds::new();
            let mut set = HashSet::new();
            for id in order {
                let is_new = ids.observe(&trade(id, 0), i64::MAX) == Seen::New;
                prop_assert_eq!(is_new, set.insert(id));
            }
        }
    }
}
