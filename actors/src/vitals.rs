//! What the supervisor and the health pages know of an actor without asking it.
//!
//! Each actor writes here, anybody may read, nobody waits: the figures stay readable while an
//! actor is dead, hung or in its back-off.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forecastd_core::Clock;
use serde::Serialize;

/// How often an actor may die before its supervisor gives it up, and how long it waits between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Restarts allowed within `window`.
    pub budget: usize,
    /// Length of the sliding window, real time.
    pub window: Duration,
    /// Wait before the first restart; doubles with each further one in the window.
    pub backoff_min: Duration,
    /// Greatest wait.
    pub backoff_max: Duration,
    /// An actor that shows no progress for this long counts as hung.
    pub hang_limit: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            budget: 5,
            window: Duration::from_mins(1),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            hang_limit: Duration::from_secs(30),
        }
    }
}

/// The life signs of one actor.
#[derive(Debug)]
pub struct Vitals {
    name: String,
    essential: bool,
    restarts: AtomicU64,
    panics: AtomicU64,
    last_progress_ms: AtomicI64,
    degraded: AtomicBool,
    is_asked_for: AtomicBool,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    restarts_ms: VecDeque<i64>,
    step: &'static str,
    reason: String,
}

/// A copy of an actor's life signs for status pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VitalsSnapshot {
    /// The actor.
    pub name: String,
    /// Whether the process ends when this actor cannot be kept alive.
    pub essential: bool,
    /// Restarts since the process started.
    pub restarts: u64,
    /// Of these, caused by a panic.
    pub panics: u64,
    /// Last sign of progress, ms since the epoch, real time; 0 before the first.
    pub last_progress_ms: i64,
    /// Given up after its restart budget was spent.
    pub degraded: bool,
    /// What it did last.
    pub step: String,
    /// Why it was last restarted; empty when never.
    pub last_restart_reason: String,
}

impl Vitals {
    fn new(name: &str, essential: bool) -> Self {
        Self {
            name: name.to_owned(),
            essential,
            restarts: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            last_progress_ms: AtomicI64::new(0),
            degraded: AtomicBool::new(false),
            is_asked_for: AtomicBool::new(false),
            recent: Mutex::new(Recent::default()),
        }
    }

    /// The actor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the process ends when this actor cannot be kept alive.
    pub const fn is_essential(&self) -> bool {
        self.essential
    }

    /// Notes that the actor reached `step`.
    pub fn progress(&self, step: &'static str, real: &dyn Clock) {
        self.last_progress_ms.store(real.now_ms(), Ordering::Relaxed);
        self.recent().step = step;
    }

    /// Notes that somebody asks for the next restart: it is no failure, so it costs neither budget
    /// nor waiting.
    pub fn ask_for_restart(&self, reason: &str) {
        self.is_asked_for.store(true, Ordering::Release);
        self.failed(reason, false);
    }

    /// Notes a restart and returns how long the actor has to wait before it works again.
    pub fn restarted(&self, policy: &RestartPolicy, real: &dyn Clock) -> Duration {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        if self.is_asked_for.swap(false, Ordering::AcqRel) {
            return Duration::ZERO;
        }
        let now_ms = real.now_ms();
        let mut recent = self.recent();
        recent.restarts_ms.push_back(now_ms);
        forget_old(&mut recent.restarts_ms, policy, now_ms);
        let doublings = u32::try_from(recent.restarts_ms.len().saturating_sub(1)).unwrap_or(16);
        let factor = 1_u32.checked_shl(doublings.min(16)).unwrap_or(u32::MAX);
        policy.backoff_min.saturating_mul(factor).min(policy.backoff_max)
    }

    /// Notes why the actor is about to be restarted.
    pub fn failed(&self, reason: &str, by_panic: bool) {
        if by_panic {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
        reason.clone_into(&mut self.recent().reason);
    }

    /// Tells whether the restarts of the window exceed the budget.
    pub fn is_budget_spent(&self, policy: &RestartPolicy, real: &dyn Clock) -> bool {
        let mut recent = self.recent();
        forget_old(&mut recent.restarts_ms, policy, real.now_ms());
        recent.restarts_ms.len() > policy.budget
    }

    /// Tells whether there was progress once, but none within the limit.
    pub fn is_hung(&self, policy: &RestartPolicy, real: &dyn Clock) -> bool {
        self.is_silent_for(policy.hang_limit, real)
    }

    /// Tells whether there was progress once, but none within this span.
    pub fn is_silent_for(&self, span: Duration, real: &dyn Clock) -> bool {
        let last_ms = self.last_progress_ms.load(Ordering::Relaxed);
        let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        last_ms != 0 && real.now_ms().saturating_sub(last_ms) > span_ms
    }

    /// Marks the actor as given up.
    pub fn give_up(&self) {
        self.degraded.store(true, Ordering::Relaxed);
    }

    /// Returns a copy for status pages.
    pub fn snapshot(&self) -> VitalsSnapshot {
        let recent = self.recent();
        VitalsSnapshot {
            name: self.name.clone(),
            essential: self.essential,
            restarts: self.restarts.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            last_progress_ms: self.last_progress_ms.load(Ordering::Relaxed),
            degraded: self.degraded.load(Ordering::Relaxed),
            step: recent.step.to_owned(),
            last_restart_reason: recent.reason.clone(),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_old(restarts_ms: &mut VecDeque<i64>, policy: &RestartPolicy, now_ms: i64) {
    let window_ms = i64::try_from(policy.window.as_millis()).unwrap_or(i64::MAX);
    while restarts_ms.front().is_some_and(|at| now_ms.saturating_sub(*at) > window_ms) {
        restarts_ms.pop_front();
    }
}

/// The life signs of all actors of one tree. Survives restarts of the tree.
#[derive(Debug, Default)]
pub struct VitalsRegistry(Mutex<BTreeMap<String, Arc<Vitals>>>);

impl VitalsRegistry {
    /// Returns the life signs of `name`, creating them at the first call.
    pub fn of(&self, name: &str, essential: bool) -> Arc<Vitals> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let vitals = all.entry(name.to_owned());
        Arc::clone(vitals.or_insert_with(|| Arc::new(Vitals::new(name, essential))))
    }

    /// Returns a copy of all life signs, sorted by name.
    pub fn snapshot(&self) -> Vec<VitalsSnapshot> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().map(|vitals| vitals.snapshot()).collect()
    }

    /// Returns the sum of all restarts.
    pub fn restarts(&self) -> u64 {
        self.snapshot().iter().map(|vitals| vitals.restarts).sum()
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::ManualClock;

    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_ceiling_and_the_budget_recovers() {
        let clock = ManualClock::new(1_000_000);
        let policy = RestartPolicy { budget: 3, ..RestartPolicy::default() };
        let vitals = Vitals::new("query", true);
        let waits: Vec<u64> = (0..12)
            .map(|_| u64::try_from(vitals.restarted(&policy, &clock).as_millis()).unwrap())
            .collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 30_000);
        assert!(vitals.is_budget_spent(&policy, &clock));
        clock.advance(61_000);
        assert!(!vitals.is_budget_spent(&policy, &clock));
        assert_eq!(vitals.restarted(&policy, &clock), policy.backoff_min);
    }

    #[test]
    fn restarts_that_were_asked_for_cost_nothing() {
        let clock = ManualClock::new(1_000_000);
        let policy = RestartPolicy { budget: 3, ..RestartPolicy::default() };
        let vitals = Vitals::new("evaluator", true);
        for _ in 0..20 {
            vitals.ask_for_restart("its settings changed");
            assert_eq!(vitals.restarted(&policy, &clock), Duration::ZERO);
        }
        assert!(!vitals.is_budget_spent(&policy, &clock));
        assert_eq!(vitals.restarted(&policy, &clock), policy.backoff_min, "a failure counts");
        assert_eq!(vitals.snapshot().restarts, 21);
    }
}
