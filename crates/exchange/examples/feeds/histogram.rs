//! Counts durations in fixed memory.

use std::time::Duration;

/// Longest duration that is told apart; what lasts longer counts as this.
const LIMIT_US: usize = 1_000_000;

/// Durations by the microsecond.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; LIMIT_US + 1], total: 0 }
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        let at = usize::try_from(duration.as_micros()).unwrap_or(LIMIT_US).min(LIMIT_US);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
            self.total += 1;
        }
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Returns the duration in ms below or at which `share` of all lie.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let mut left = self.total as f64 * share;
        for (at, count) in self.counts.iter().enumerate() {
            left -= f64::from(*count);
            if left <= 0.0 {
                return at as f64 / 1e3;
            }
        }
        f64::NAN
    }
}
