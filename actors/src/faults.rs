//! Fault points: a test or a chaos run arms an actor's name, and that actor panics at its next
//! guarded step. Unarmed, a strike costs one relaxed atomic load.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The armed fault points of one node.
#[derive(Debug, Default)]
pub struct Faults {
    any: AtomicBool,
    armed: Mutex<BTreeSet<String>>,
}

impl Faults {
    /// Makes the actor `name` panic at its next guarded step, once.
    pub fn arm(&self, name: &str) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.insert(name.to_owned());
        self.any.store(true, Ordering::Release);
    }

    /// Panics when `name` is armed.
    ///
    /// # Panics
    /// That is its purpose; callers run inside of the guard.
    pub fn strike(&self, name: &str) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = armed.remove(name);
        self.any.store(!armed.is_empty(), Ordering::Release);
        drop(armed);

        assert!(!hit, "fault point of {name} was armed");
    }
}
