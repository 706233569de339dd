//! One line in the log for all that is dropped in a minute.

use std::collections::BTreeMap;

use forecastd_exchange::DropClass;

/// Real time between two lines.
const LOG_EVERY_MS: i64 = 60_000;

/// What was dropped since the last line.
#[derive(Debug, Default)]
pub(super) struct Drops {
    counts: BTreeMap<DropClass, u64>,
    logged_ms: Option<i64>,
}

impl Drops {
    /// Adds up; returns the line that is due, such as `3 invalid, 1 binary`.
    pub(super) fn add(&mut self, class: DropClass, count: u64, now_ms: i64) -> Option<String> {
        let total = self.counts.entry(class).or_default();
        *total = total.saturating_add(count);
        if self.logged_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < LOG_EVERY_MS) {
            return None;
        }
        self.logged_ms = Some(now_ms);
        let counts = std::mem::take(&mut self.counts);
        let parts: Vec<String> =
            counts.iter().map(|(class, count)| format!("{count} {class}")).collect();
        Some(parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_one_line_a_minute_and_nothing_is_forgotten() {
        let mut drops = Drops::default();
        assert_eq!(drops.add(DropClass::Invalid, 1, 5), Some("1 invalid".to_owned()));
        for at_ms in 6..1_000 {
            assert_eq!(drops.add(DropClass::Overflow, 2, at_ms), None);
        }
        assert_eq!(drops.add(DropClass::Invalid, 1, 60_004), None);
        let line = drops.add(DropClass::Overflow, 1, 60_005).unwrap();
        assert_eq!(line, "1 invalid, 1989 overflow");
    }
}
