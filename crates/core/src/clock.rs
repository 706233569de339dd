//! The injected source of "now".
//!
//! Two kinds of time exist in a running daemon: *market time*, which the embedded network may run
//! hundreds of times faster than real time, and *real time*, in which signatures are dated and
//! sockets time out. Both are a [`Clock`]; who needs which says so in its constructor.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A source of the current time in milliseconds since the Unix epoch, UTC.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the current time of this clock, ms since the Unix epoch.
    fn now_ms(&self) -> i64;

    /// Returns the *real* time that passes until this clock shows `at_ms`; zero when it already does.
    ///
    /// Timers are armed with this, so that the same code runs at any speed.
    fn real_duration_until(&self, at_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(at_ms.saturating_sub(self.now_ms())).unwrap_or(0))
    }

    /// Returns the real time that a span of this clock takes.
    fn real_duration_of(&self, span: Duration) -> Duration {
        span
    }
}

/// A clock that stands still until it is told to move; for tests and replays.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Creates a clock that shows `now_ms`.
    pub const fn new(now_ms: i64) -> Self {
        Self(AtomicI64::new(now_ms))
    }

    /// Moves the clock to `now_ms`.
    pub fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    /// Moves the clock by `by_ms`.
    pub fn advance(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Market time that runs at a multiple of another clock.
#[derive(Debug, Clone)]
pub struct ScaledClock {
    base: Arc<dyn Clock>,
    base_start_ms: i64,
    start_ms: i64,
    speed: f64,
}

impl ScaledClock {
    /// Creates a clock that shows `start_ms` now and runs `speed` times as fast as `base`.
    ///
    /// `speed` must be finite and above zero; anything else counts as 1.
    pub fn new(base: Arc<dyn Clock>, start_ms: i64, speed: f64) -> Self {
        let base_start_ms = base.now_ms();
        let speed = if speed.is_finite() && speed > 0.0 { speed } else { 1.0 };
        Self { base, base_start_ms, start_ms, speed }
    }

    /// Returns how many times faster than its base this clock runs.
    pub const fn speed(&self) -> f64 {
        self.speed
    }
}

impl Clock for ScaledClock {
    fn now_ms(&self) -> i64 {
        let elapsed_ms = (self.base.now_ms() - self.base_start_ms) as f64;
        #[expect(clippy::cast_possible_truncation, reason = "saturates after 10^8 years")]
        let market_ms = (elapsed_ms * self.speed) as i64;
        self.start_ms.saturating_add(market_ms)
    }

    fn real_duration_until(&self, at_ms: i64) -> Duration {
        let ahead_ms = u64::try_from(at_ms.saturating_sub(self.now_ms())).unwrap_or(0);
        self.real_duration_of(Duration::from_millis(ahead_ms))
    }

    fn real_duration_of(&self, span: Duration) -> Duration {
        span.div_f64(self.speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_time_runs_faster_and_timers_shorter() {
        let base = Arc::new(ManualClock::new(1_000));
        let market = ScaledClock::new(base.clone(), 5_000_000, 600.0);
        assert_eq!(market.now_ms(), 5_000_000);
        base.advance(10);
        assert_eq!(market.now_ms(), 5_006_000);
        assert_eq!(market.real_duration_until(5_012_000), Duration::from_millis(10));
        assert_eq!(market.real_duration_until(0), Duration::ZERO);
    }
}
