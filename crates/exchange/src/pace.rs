//! How fast a host may be asked. Exchanges count the requests of an address, so that all clients of one
//! host in this process share one pace: a client that is told to wait makes the others wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

/// The paces that are in use, by host and way there.
static PACES: Mutex<BTreeMap<String, Weak<Pace>>> = Mutex::new(BTreeMap::new());

/// The state of one host.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when the host refuses everything, and the status with which it said so.
    closed_until: Option<(Instant, u16)>,
    /// When the next request may go out.
    next_at: Option<Instant>,
    used_weight: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pace {
    /// Returns the pace of `host`, the same one as long as anybody uses it.
    pub(crate) fn of(host: &str) -> Arc<Self> {
        let mut paces = lock(&PACES);
        if let Some(pace) = paces.get(host).and_then(Weak::upgrade) {
            return pace;
        }
        paces.retain(|_, pace| pace.strong_count() > 0);
        let pace = Arc::<Self>::default();
        paces.insert(host.to_owned(), Arc::downgrade(&pace));
        pace
    }

    /// Takes the next place in the row of requests, which go out at least `gap` apart; `None` when it
    /// is now.
    pub(crate) fn reserve(&self, gap: Duration) -> Option<Instant> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let at = state.next_at.map_or(now, |next| next.max(now));
        state.next_at = Some(at + gap);
        (at > now).then_some(at)
    }

    /// Lets no request out for `wait`; those that are asked for wait instead of failing.
    pub(crate) fn hold(&self, wait: Duration) {
        let mut state = lock(&self.state);
        let until = Instant::now() + wait;
        state.next_at = Some(state.next_at.map_or(until, |next| next.max(until)));
    }

    /// Notes that the host refuses everything for `wait`.
    pub(crate) fn close(&self, wait: Duration, status: u16) {
        let mut state = lock(&self.state);
        let until = Instant::now() + wait;
        if state.closed_until.is_none_or(|(known, _)| known < until) {
            state.closed_until = Some((until, status));
        }
    }

    /// Returns for how long the host still refuses everything, and its status.
    pub(crate) fn closed_for(&self) -> Option<(Duration, u16)> {
        let mut state = lock(&self.state);
        let (until, status) = state.closed_until?;
        let wait = until.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            state.closed_until = None;
            return None;
        }
        Some((wait, status))
    }

    /// Notes the weight that the host counted in its running minute.
    pub(crate) fn set_used_weight(&self, weight: u32) {
        lock(&self.state).used_weight = weight;
    }

    /// Returns the weight of the host's running minute as its last answer told it.
    pub(crate) fn used_weight(&self) -> u32 {
        lock(&self.state).used_weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn requests_keep_their_distance() {
        let pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.reserve(SECOND), None);
        assert_eq!(pace.reserve(SECOND), Some(now + SECOND));
        assert_eq!(pace.reserve(SECOND), Some(now + 2 * SECOND));
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(pace.reserve(SECOND), None);
        pace.hold(30 * SECOND);
        pace.hold(SECOND);
        assert_eq!(pace.reserve(Duration::ZERO), Some(now + 35 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn all_clients_of_a_host_wait_together() {
        let (one, other) = (Pace::of("made.up:1"), Pace::of("made.up:1"));
        one.close(10 * SECOND, 429);
        // A shorter word does not shorten the ban.
        other.close(SECOND, 418);
        assert_eq!(other.closed_for(), Some((10 * SECOND, 429)));
        assert_eq!(Pace::of("made.up:2").closed_for(), None);
        tokio::time::advance(10 * SECOND).await;
        assert_eq!(one.closed_for(), None);
        // Nobody uses it: forgotten.
        one.close(10 * SECOND, 429);
        drop((one, other));
        assert_eq!(Pace::of("made.up:1").closed_for(), None);
    }
}
