//! What a [`super::BarBuilder`] is told, what it tells, and the bounds of both.

use serde::{Deserialize, Serialize};

use super::Bar;
use crate::grid::Interval;

/// Most bars that are open at once.
pub const MAX_OPEN_BARS: usize = 64;
/// Longest wait, in bars: the youngest bar and the one where the wait began need places too.
const MOST_WAITS: i64 = 62;

/// Most empty bars in a row; after a longer silence the builder begins anew.
pub const MAX_EMPTY_RUN: i64 = 100_000;
/// Most ids without order that can be remembered; 32 to 64 bytes each.
pub const MAX_REMEMBERED: usize = 1 << 24;

/// What the ids of trades tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdRule {
    /// They rise by one with each trade, so a jump means lost trades.
    Consecutive,
    /// They only differ.
    Unique {
        /// How many are remembered at least, to know duplicates; memory is 32 to 64 bytes each.
        remembered: usize,
    },
}

/// How bars are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarRules {
    /// Length of a bar.
    pub interval: Interval,
    /// What the ids tell.
    pub ids: IdRule,
    /// How much older than the youngest one a trade may arrive; 0 where the exchange keeps order.
    pub reorder_ms: i64,
    /// How long after its end a bar without a later trade waits for late ones.
    pub grace_ms: i64,
    /// How far in front of the clock the time of a trade may lie; a younger one is refused.
    pub ahead_ms: i64,
}

impl BarRules {
    /// Returns the rules for an exchange that keeps the order: 3 s of grace, one minute ahead.
    pub const fn in_order(interval: Interval, ids: IdRule) -> Self {
        Self { interval, ids, reorder_ms: 0, grace_ms: 3_000, ahead_ms: 60_000 }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`BarRuleError`] names the value and the bound.
    pub fn validate(&self) -> Result<(), BarRuleError> {
        let most_ms = self.interval.as_ms().saturating_mul(MOST_WAITS);
        for (name, value_ms) in [("reorder_ms", self.reorder_ms), ("grace_ms", self.grace_ms)] {
            if !(0..=most_ms).contains(&value_ms) {
                return Err(BarRuleError::Wait { name, value_ms, most_ms });
            }
        }
        if !(0..=Interval::MAX_MS).contains(&self.ahead_ms) {
            return Err(BarRuleError::Ahead(self.ahead_ms));
        }
        match self.ids {
            IdRule::Unique { remembered } if !(1..=MAX_REMEMBERED).contains(&remembered) => {
                Err(BarRuleError::Remembered(remembered))
            }
            _ => Ok(()),
        }
    }
}

/// Which bound the rules break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BarRuleError {
    /// More bars would be open than there is room for.
    #[error("{name} is {value_ms} ms, must be 0..{most_ms} ms for this interval")]
    Wait {
        /// Name of the key.
        name: &'static str,
        /// Its value.
        value_ms: i64,
        /// The greatest allowed one.
        most_ms: i64,
    },
    /// Negative or longer than a week.
    #[error("ahead_ms is {0} ms, must be 0..604800000 ms")]
    Ahead(i64),
    /// No ids or too many.
    #[error("remembered is {0} ids, must be 1..16777216")]
    Remembered(usize),
}

/// What became of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TradeOutcome {
    /// It counts.
    Applied,
    /// Its id was seen before, or is too old to tell.
    Duplicate,
    /// Its bar is closed.
    Late,
    /// A number is out of bounds, or the time is too far ahead of the clock.
    Refused,
}

/// What the builder tells; times in milliseconds since 1970, ranges without their end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BarEvent {
    /// A bar is closed. Bars come in rising order of time without holes.
    Closed(Bar),
    /// The link was down and is up again; told once for each outage.
    Outage {
        /// When it went down.
        from_ms: i64,
        /// When it came up.
        to_ms: i64,
    },
    /// Bars that were given out as closed may lack trades after all: fetch them again.
    Doubted {
        /// Open time of the first doubted bar.
        from_ms: i64,
        /// Open time of the first bar after them.
        to_ms: i64,
    },
    /// Nothing came for more than [`MAX_EMPTY_RUN`] bars: no bars were made of that time.
    Skipped {
        /// Open time of the first bar that was not made.
        from_ms: i64,
        /// From here on bars are made again.
        to_ms: i64,
    },
}

/// What happened since the builder was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BarCounters {
    /// Trades that count.
    pub applied: u64,
    /// Trades seen before.
    pub duplicates: u64,
    /// Trades of bars that were closed.
    pub late: u64,
    /// Trades with numbers out of bounds or too far ahead of the clock.
    pub refused: u64,
    /// Trades that are missing between consecutive ids and were not merely reordered.
    pub lost: u64,
    /// Outages of the link that are over.
    pub outages: u64,
    /// Times the exchange began to count from a lower id.
    pub id_restarts: u64,
}
