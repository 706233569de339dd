//! How often a client may come, in real time. All clients share the loopback address.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many in a span that begins with the first one. Who comes oftener is refused until its end, or
/// for a penalty.
#[derive(Debug)]
pub(super) struct Window {
    limit: u32,
    span: Duration,
    penalty: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: u32,
    until: Instant,
}

/// What a [`Window`] says after one more came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) used: u32,
    pub(super) is_over: bool,
    /// Until it counts anew.
    pub(super) left: Duration,
}

impl Window {
    pub(super) fn new(limit: u32, span: Duration) -> Self {
        let state = Mutex::new(State { used: 0, until: Instant::now() });
        Self { limit, span, penalty: None, state }
    }

    pub(super) const fn with_penalty(mut self, penalty: Duration) -> Self {
        self.penalty = Some(penalty);
        self
    }

    /// Counts something of this weight.
    pub(super) fn add(&self, weight: u32) -> Count {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now >= state.until {
            *state = State { used: 0, until: now + self.span };
        }
        let was_over = state.used > self.limit;
        state.used = state.used.saturating_add(weight);
        let is_over = state.used > self.limit;
        if let Some(penalty) = self.penalty
            && is_over
            && !was_over
        {
            state.until = now + penalty;
        }
        Count { used: state.used, is_over, left: state.until.duration_since(now) }
    }
}

/// One in every `period` on average, `burst` at once.
#[derive(Debug)]
pub(super) struct Pace {
    period: Duration,
    burst: u32,
    /// When the ones that came would all be due, had they come one by one.
    due: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(period: Duration, burst: u32) -> Self {
        Self { period, burst, due: Mutex::new(Instant::now()) }
    }

    /// Takes a place; `false` when it came too early, which costs nothing.
    pub(super) fn take(&self) -> bool {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let next = (*due).max(now) + self.period;
        let has_room = next.duration_since(now) <= self.period * self.burst;
        if has_room {
            *due = next;
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_window_counts_anew_after_its_span() {
        let window = Window::new(3, Duration::from_mins(1));
        assert_eq!(window.add(2).used, 2);
        tokio::time::advance(Duration::from_secs(50)).await;
        let count = window.add(2);
        assert_eq!((count.used, count.is_over, count.left), (4, true, Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(window.add(1).used, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_penalty_lasts_longer_than_the_span() {
        let window = Window::new(1, Duration::from_secs(5)).with_penalty(Duration::from_mins(10));
        assert_eq!([window.add(1).is_over, window.add(1).is_over], [false, true]);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(window.add(1).is_over);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!window.add(1).is_over);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_allows_a_burst_and_then_one_a_period() {
        let pace = Pace::new(Duration::from_secs(1), 3);
        let burst: Vec<bool> = (0..5).map(|_| pace.take()).collect();
        assert_eq!(burst, [true, true, true, false, false]);
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!((pace.take(), pace.take()), (true, false));
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        let burst: Vec<bool> = (0..4).map(|_| pace.take()).collect();
        assert_eq!(burst, [true, true, true, false]);
    }
}
