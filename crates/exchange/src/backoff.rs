//! Rising, jittered pauses between attempts.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Doubles from `min` to `max`; each pause is drawn from the upper half of its step, so that many
/// clients that lost the same host do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    step: Duration,
    random: SmallRng,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, step: min, random: SmallRng::seed_from_u64(seed) }
    }

    /// Returns the next pause and doubles the one after it.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.step.mul_f64(self.random.random_range(0.5..=1.0));
        self.step = self.step.saturating_mul(2).min(self.max);
        pause
    }

    /// Starts again from the shortest pause.
    pub(crate) const fn reset(&mut self) {
        self.step = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_rise_to_the_ceiling_and_reset() {
        let (min, max) = (Duration::from_millis(500), Duration::from_mins(1));
        let mut backoff = Backoff::new(min, max, 7);
        let mut ceiling = min;
        for _ in 0..20 {
            let pause = backoff.next_pause();
            assert!(pause >= ceiling / 2 && pause <= ceiling, "{pause:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(max);
        }
        backoff.reset();
        assert!(backoff.next_pause() <= min);
    }

    #[test]
    fn two_seeds_differ() {
        let new = |seed| Backoff::new(Duration::from_secs(1), Duration::from_secs(9), seed);
        assert_ne!(new(1).next_pause(), new(2).next_pause());
        assert_eq!(new(1).next_pause(), new(1).next_pause());
    }
}
