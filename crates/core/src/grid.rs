//! The time grid: multiples of an interval since the Unix epoch.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Length of a candle, a whole number of milliseconds above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Interval(i64);

/// Why a number or text is not an interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// Zero, negative or longer than a week.
    #[error("interval is {0} ms, must be 1..604800000 ms")]
    OutOfRange(i64),
    /// The text is not a number with a unit.
    #[error("interval `{0}` is not a number with a unit, write for example 1m, 5m, 1h or 1d")]
    Text(String),
}

impl Interval {
    /// One minute.
    pub const MINUTE: Self = Self(60_000);
    /// Five minutes, the interval of the reference stream.
    pub const FIVE_MINUTES: Self = Self(300_000);
    /// Longest interval, one week.
    pub(crate) const MAX_MS: i64 = 7 * 24 * 3_600_000;

    /// Creates an interval of `ms` milliseconds.
    ///
    /// # Errors
    /// [`GridError::OutOfRange`] unless `1..=604_800_000`.
    pub const fn from_ms(ms: i64) -> Result<Self, GridError> {
        if ms >= 1 && ms <= Self::MAX_MS { Ok(Self(ms)) } else { Err(GridError::OutOfRange(ms)) }
    }

    /// Returns the length in milliseconds.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// Returns the last grid time at or before `at_ms`.
    pub const fn floor(self, at_ms: i64) -> i64 {
        at_ms - at_ms.rem_euclid(self.0)
    }

    /// Returns the first grid time at or after `at_ms`.
    pub const fn ceil(self, at_ms: i64) -> i64 {
        let floor = self.floor(at_ms);
        if floor == at_ms { floor } else { floor + self.0 }
    }

    /// Returns the first grid time strictly after `at_ms`.
    pub const fn next(self, at_ms: i64) -> i64 {
        self.floor(at_ms) + self.0
    }

    /// Tells whether `at_ms` lies on the grid.
    pub const fn is_aligned(self, at_ms: i64) -> bool {
        at_ms.rem_euclid(self.0) == 0
    }
}

impl TryFrom<i64> for Interval {
    type Error = GridError;

    fn try_from(ms: i64) -> Result<Self, GridError> {
        Self::from_ms(ms)
    }
}

impl From<Interval> for i64 {
    fn from(interval: Interval) -> Self {
        interval.0
    }
}

/// Units from the longest to the shortest, for reading and writing.
const UNITS: [(&str, i64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, ms) in UNITS {
            if self.0 % ms == 0 {
                return write!(f, "{}{unit}", self.0 / ms);
            }
        }
        write!(f, "{}ms", self.0)
    }
}

impl FromStr for Interval {
    type Err = GridError;

    fn from_str(text: &str) -> Result<Self, GridError> {
        let wrong = || GridError::Text(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, unit_ms) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let count: i64 = number.parse().map_err(|_| wrong())?;
        Self::from_ms(count.checked_mul(unit_ms).ok_or_else(wrong)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_times_around_the_epoch() {
        let five = Interval::FIVE_MINUTES;
        assert_eq!(five.floor(-1), -300_000);
        assert_eq!(five.ceil(-1), 0);
        assert_eq!(five.next(0), 300_000);
        assert!(five.is_aligned(0) && !five.is_aligned(1));
    }

    #[test]
    fn text_forms() {
        for text in ["1s", "1m", "5m", "4h", "1d", "250ms"] {
            assert_eq!(text.parse::<Interval>().unwrap().to_string(), text);
        }
        for text in ["", "5", "m", "0m", "-5m", "5 m", "9999999999999999d", "8d"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
    }
}
