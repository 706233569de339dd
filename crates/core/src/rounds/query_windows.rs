//! The minutes of an hour in which a miner answers which query.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

const MINUTE_MS: i64 = 60_000;
const MINUTES_IN_HOUR: i64 = 60;

/// What a validator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryKind {
    /// The commitment.
    Commitment,
    /// The values behind it.
    Reveal,
}

/// The minutes (UTC) in which queries are answered; an empty list answers at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryWindows {
    /// Minutes for commitments, 0..=59.
    pub commitment_minutes: BTreeSet<u8>,
    /// Minutes for reveals, 0..=59.
    pub reveal_minutes: BTreeSet<u8>,
}

impl Default for QueryWindows {
    fn default() -> Self {
        Self {
            commitment_minutes: BTreeSet::from([0, 30]),
            reveal_minutes: BTreeSet::from([1, 2, 3, 31, 32, 33]),
        }
    }
}

impl QueryWindows {
    /// Windows that are always open.
    pub const fn always() -> Self {
        Self { commitment_minutes: BTreeSet::new(), reveal_minutes: BTreeSet::new() }
    }

    /// Tells whether a query is answered at `now_ms`.
    ///
    /// Golden data: `misc/request_windows.json`, exact.
    pub fn is_open(&self, kind: QueryKind, now_ms: i64) -> bool {
        let minutes = match kind {
            QueryKind::Commitment => &self.commitment_minutes,
            QueryKind::Reveal => &self.reveal_minutes,
        };
        let minute = now_ms.div_euclid(MINUTE_MS).rem_euclid(MINUTES_IN_HOUR);
        minutes.is_empty() || minutes.iter().any(|open| i64::from(*open) == minute)
    }

    /// Returns the first minute that does not exist, for a configuration error.
    pub fn first_bad_minute(&self) -> Option<u8> {
        self.commitment_minutes.iter().chain(&self.reveal_minutes).copied().find(|m| *m > 59)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_minute_of_the_hour() {
        let windows = QueryWindows::default();
        let at = |minute: i64| 1_709_251_200_000 + minute * MINUTE_MS + 59_999;
        let open = |kind| (0..60).filter(|m| windows.is_open(kind, at(*m))).collect::<Vec<_>>();
        assert_eq!(open(QueryKind::Commitment), [0, 30]);
        assert_eq!(open(QueryKind::Reveal), [1, 2, 3, 31, 32, 33]);
        assert!(QueryWindows::always().is_open(QueryKind::Reveal, at(17)));
        assert_eq!(windows.first_bad_minute(), None);
    }
}
