//! The one place that reads the system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use forecastd_core::Clock;
use tokio::time::Instant;

/// Real time as the operating system tells it, UTC.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Returns the system's time; a clock set before 1970 counts as 1970.
    fn now_ms(&self) -> i64 {
        #[expect(
            clippy::disallowed_methods,
            reason = "everything else gets its time from this clock"
        )]
        let now = SystemTime::now();
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The system's time at its creation, counted on steadily: a corrected system clock does not move it.
/// The embedded network's market time runs on it, where a correction would count many hundredfold.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    began: Instant,
    began_ms: i64,
}

impl SteadyClock {
    /// Starts from the system's time.
    pub fn start() -> Self {
        Self { began: Instant::now(), began_ms: SystemClock.now_ms() }
    }
}

impl Clock for SteadyClock {
    fn now_ms(&self) -> i64 {
        let elapsed_ms = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.began_ms.saturating_add(elapsed_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_shows_a_plausible_year_and_does_not_stand_at_zero() {
        let first_ms = SystemClock.now_ms();
        assert!(first_ms > 1_700_000_000_000, "{first_ms}");
        assert!(SystemClock.now_ms() >= first_ms);
    }
}
