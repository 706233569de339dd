//! What an axon counts. Every request ends in exactly one of the outcomes.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Malformed,
    Blacklisted,
    Unverified,
    Replayed,
    TooLarge,
    Refused,
    TimedOut,
    Failed,
    Draining,
}

/// Numbers of requests since the start, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AxonCounters {
    /// Requests whose headers arrived; the sum of all others but those under way.
    pub requests: u64,
    /// Answered with what was asked for.
    pub answered: u64,
    /// Path, method, headers or body do not have the form of a synapse.
    pub malformed: u64,
    /// The handler does not admit the hotkey.
    pub blacklisted: u64,
    /// Signature or nonce missing, or the signature is wrong.
    pub unverified: u64,
    /// The nonce is used up, too old or too far ahead.
    pub replayed: u64,
    /// Headers or body over the limit.
    pub too_large: u64,
    /// The handler refused.
    pub refused: u64,
    /// The time was over before the answer was there.
    pub timed_out: u64,
    /// The handler panicked.
    pub failed: u64,
    /// Came while the axon was stopping.
    pub draining: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    answered: AtomicU64,
    malformed: AtomicU64,
    blacklisted: AtomicU64,
    unverified: AtomicU64,
    replayed: AtomicU64,
    too_large: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
    draining: AtomicU64,
}

impl Counters {
    pub(super) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Answered => &self.answered,
            Outcome::Malformed => &self.malformed,
            Outcome::Blacklisted => &self.blacklisted,
            Outcome::Unverified => &self.unverified,
            Outcome::Replayed => &self.replayed,
            Outcome::TooLarge => &self.too_large,
            Outcome::Refused => &self.refused,
            Outcome::TimedOut => &self.timed_out,
            Outcome::Failed => &self.failed,
            Outcome::Draining => &self.draining,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> AxonCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AxonCounters {
            requests: read(&self.requests),
            answered: read(&self.answered),
            malformed: read(&self.malformed),
            blacklisted: read(&self.blacklisted),
            unverified: read(&self.unverified),
            replayed: read(&self.replayed),
            too_large: read(&self.too_large),
            refused: read(&self.refused),
            timed_out: read(&self.timed_out),
            failed: read(&self.failed),
            draining: read(&self.draining),
        }
    }
}
