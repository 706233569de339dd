//! Nonces of our own requests: Unix nanoseconds that never repeat and always grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forecastd_core::Clock;

const NS_PER_MS: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct NonceSource {
    clock: Arc<dyn Clock>,
    last: AtomicU64,
    /// Sub-millisecond part, by chance: two processes with one hotkey should not pick equal nonces.
    offset_ns: u64,
}

impl NonceSource {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self { clock, last: AtomicU64::new(0), offset_ns: random % NS_PER_MS }
    }

    /// Returns a nonce above all earlier ones, also when the clock stands still or goes back.
    pub(super) fn next(&self) -> u64 {
        let now_ms = u64::try_from(self.clock.now_ms()).unwrap_or(0);
        let now = now_ms.saturating_mul(NS_PER_MS).saturating_add(self.offset_ns);
        let grow = |last: u64| Some(now.max(last.saturating_add(1)));
        match self.last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, grow) {
            Ok(last) | Err(last) => now.max(last.saturating_add(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::ManualClock;

    use super::*;

    #[test]
    fn nonces_grow_when_the_clock_stands_or_goes_back() {
        let clock = Arc::new(ManualClock::new(1_795_000_000_000));
        let source = NonceSource::new(clock.clone());
        let first = source.next();
        assert_eq!(first / NS_PER_MS, 1_795_000_000_000);
        assert_eq!(source.next(), first + 1);
        clock.set(1_000);
        assert_eq!(source.next(), first + 2);
        clock.set(1_795_000_000_005);
        assert!(source.next() >= first + 5 * NS_PER_MS);
    }
}
