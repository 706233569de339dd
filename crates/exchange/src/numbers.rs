//! The exchange's numbering of trades: what is told twice, and what never arrived.

use std::ops::RangeInclusive;

/// How far back a number may lie to count as a repeated trade (snapshots hold at most some hundred).
/// Further back the exchange began to count anew.
const MAX_REPEATED: u64 = 10_000;
/// How far ahead a number may lie to count as the one after lost trades: more than the busiest market
/// has in a day. Further ahead the exchange counts anew, or the message is damaged.
const MAX_LOST: u64 = 10_000_000;

/// Where a trade stands in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It was told before.
    Repeated,
    /// It follows the one before, or nothing can be said.
    Next,
    /// So many before it never arrived.
    AfterLost(u64),
    /// A number that has nothing to do with those before it.
    Anew,
}

/// What the exchange's word about its newest trade means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newest {
    /// Everything up to it arrived.
    Arrived,
    /// It did not arrive yet.
    OnItsWay,
    /// So many did not arrive since the exchange named them the last time.
    Lost(u64),
}

/// The position in the row of numbers, over all connections of a feed.
#[derive(Debug, Default)]
pub(crate) struct TradeNumbers {
    last: Option<u64>,
    /// What the exchange named before it arrived.
    owed: Option<u64>,
}

impl TradeNumbers {
    /// Takes the numbers that a message stands for.
    pub(crate) fn take(&mut self, numbers: &RangeInclusive<u64>) -> Place {
        let (start, end) = (*numbers.start(), *numbers.end());
        let Some(last) = self.last else {
            self.last = Some(end);
            return Place::Next;
        };
        if (last.saturating_sub(MAX_REPEATED)..=last).contains(&end) {
            return Place::Repeated;
        }
        self.last = Some(end);
        if end < last || start.saturating_sub(last) > MAX_LOST {
            self.owed = None;
            return Place::Anew;
        }
        match start.saturating_sub(last).saturating_sub(1) {
            0 => Place::Next,
            lost => Place::AfterLost(lost),
        }
    }

    /// Takes the number of the newest trade that the exchange knows of.
    ///
    /// One that is ahead may be on its way; it is lost when it has still not come by the next word.
    pub(crate) fn named(&mut self, number: u64) -> Newest {
        let Some(last) = self.last else {
            self.last = Some(number);
            return Newest::Arrived;
        };
        if number <= last || number - last > MAX_LOST {
            self.owed = None;
            return Newest::Arrived;
        }
        match self.owed.replace(number) {
            Some(owed) if owed > last => {
                self.last = Some(owed);
                Newest::Lost(owed - last)
            }
            _ => Newest::OnItsWay,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(last: u64) -> TradeNumbers {
        TradeNumbers { last: Some(last), owed: None }
    }

    #[test]
    fn holes_are_counted_and_repetitions_are_known() {
        let mut numbers = TradeNumbers::default();
        for (range, want) in [
            (50..=50, Place::Next),
            (51..=53, Place::Next),
            (53..=53, Place::Repeated),
            (50..=50, Place::Repeated),
            (57..=57, Place::AfterLost(3)),
            (56..=58, Place::Next),
        ] {
            assert_eq!(numbers.take(&range), want, "{range:?}");
        }
    }

    #[test]
    fn a_number_that_has_nothing_to_do_with_the_others_counts_no_losses() {
        for odd in [u64::MAX, 50_000_000 + MAX_LOST + 2, 7] {
            let mut numbers = after(50_000_000);
            assert_eq!(numbers.take(&(odd..=odd)), Place::Anew, "{odd}");
            // Back to the row at once, without a loss either.
            let back = numbers.take(&(50_000_001..=50_000_001));
            assert!(matches!(back, Place::Anew | Place::Next), "{odd}: {back:?}");
            assert_eq!(numbers.take(&(50_000_002..=50_000_002)), Place::Next);
        }
    }

    #[test]
    fn a_named_trade_is_lost_when_it_has_not_come_by_the_next_word() {
        let mut numbers = TradeNumbers::default();
        assert_eq!(numbers.named(10), Newest::Arrived, "the beginning");
        assert_eq!(numbers.named(10), Newest::Arrived);
        assert_eq!(numbers.named(12), Newest::OnItsWay);
        assert_eq!(numbers.take(&(11..=11)), Place::Next);
        assert_eq!(numbers.named(14), Newest::Lost(1), "number 12");
        assert_eq!(numbers.take(&(13..=13)), Place::Next);
        assert_eq!(numbers.take(&(14..=14)), Place::Next);
        assert_eq!(numbers.named(14), Newest::Arrived);
        assert_eq!(numbers.named(u64::MAX), Newest::Arrived, "absurd");
    }

    proptest! {
        #[test]
        fn every_trade_that_does_not_arrive_is_counted_once(
            arrives in prop::collection::vec((any::<bool>(), any::<bool>()), 1..200),
        ) {
            let mut numbers = after(0);
            let (mut lost, mut want, mut newest) = (0, 0, 0);
            for (arrived, is_named) in arrives {
                newest += 1;
                if arrived {
                    if let Place::AfterLost(count) = numbers.take(&(newest..=newest)) {
                        lost += count;
                    }
                } else {
                    want += 1;
                }
                if is_named && let Newest::Lost(count) = numbers.named(newest) {
                    lost += count;
                }
            }
            for _ in 0..2 {
                if let Newest::Lost(count) = numbers.named(newest) {
                    lost += count;
                }
            }
            prop_assert_eq!(lost, want);
        }
    }
}
