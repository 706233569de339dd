//! How often each caller may ask for something that costs disk.

use std::collections::BTreeMap;
use std::time::Duration;

use forecastd_core::Hotkey;

/// Length of the window that is counted, market time.
const WINDOW: Duration = Duration::from_hours(1);
/// Callers that are remembered before those of past windows are forgotten; a subnet has at most a
/// few hundred hotkeys.
const REMEMBERED: usize = 1_024;

/// Counts the questions of each caller in the running window.
#[derive(Debug, Default)]
pub(crate) struct Quota(BTreeMap<Hotkey, Window>);

#[derive(Debug, Clone, Copy)]
struct Window {
    began_ms: i64,
    asked: u32,
}

impl Quota {
    /// Counts one more question; false when the caller has had `limit` of them in this window.
    pub(crate) fn take(&mut self, caller: Hotkey, now_ms: i64, limit: u32) -> bool {
        let window_ms = i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX);
        // A clock that was set back begins a new window as well.
        let is_over = |window: &Window| !(0..window_ms).contains(&(now_ms - window.began_ms));
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, window| !is_over(window));
        }
        let fresh = Window { began_ms: now_ms, asked: 0 };
        let window = self.0.entry(caller).or_insert(fresh);
        if is_over(window) {
            *window = fresh;
        }
        if window.asked >= limit {
            return false;
        }
        window.asked += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_its_own_allowance_and_gets_it_anew() {
        let [alice, bob] = [1, 2].map(|byte| Hotkey::from_bytes([byte; 32]));
        let mut quota = Quota::default();
        assert!((0..3).all(|_| quota.take(alice, 0, 3)));
        assert!(!quota.take(alice, 3_599_999, 3));
        assert!(quota.take(bob, 3_599_999, 3), "another caller is not its fault");
        assert!(quota.take(alice, 3_600_000, 3), "the next hour");
        assert!(quota.take(alice, -1, 3), "the clock was set back");
    }

    #[test]
    fn past_callers_are_forgotten() {
        let mut quota = Quota::default();
        for number in 0..5_000_u16 {
            let [high, low] = number.to_be_bytes();
            let mut key = [0; 32];
            (key[0], key[1]) = (high, low);
            quota.take(Hotkey::from_bytes(key), i64::from(number) * 10_000, 1);
        }
        assert!(quota.0.len() <= REMEMBERED);
    }
}
