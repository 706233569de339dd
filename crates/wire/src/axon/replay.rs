//! The memory that lets each signed request through once.
//!
//! A nonce is Unix time in nanoseconds. It is accepted when it is
//! 1. fresh: `now - window < nonce <= now + lead`, whatever version the caller claims;
//! 2. above the floor: the time at which this memory began, raised by whatever had to be forgotten;
//! 3. not yet accepted from this hotkey.
//!
//! The SDK instead keeps one last nonce for each hotkey *and uuid*, which a replayer escapes with a
//! fresh uuid, and which refuses requests that overtake each other. Here a hotkey keeps its last
//! few nonces; the oldest one that is forgotten becomes its floor. Because the memory begins at the
//! floor "now", a request that was accepted before a restart is refused after it, as long as its
//! sender's clock did not run ahead.

use std::collections::{BTreeMap, BTreeSet};

use forecastd_core::Hotkey;

const NS_PER_SEC: f64 = 1e9;

/// Why a nonce is refused; the texts of the first two are those of the SDK.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub(super) enum NonceError {
    #[error(
        "Nonce is too old: acceptable delta is {allowed_secs:.2} seconds but request was \
         {age_secs:.2} seconds old"
    )]
    TooOld { allowed_secs: f64, age_secs: f64 },
    #[error("Nonce is too old, a newer one was last processed")]
    Used,
    #[error(
        "Nonce is too far ahead: acceptable lead is {allowed_secs:.2} seconds but request was \
         {lead_secs:.2} seconds ahead"
    )]
    TooFarAhead { allowed_secs: f64, lead_secs: f64 },
}

/// The span around now in which nonces are accepted, nanoseconds.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "the unit belongs into the name")]
pub(super) struct Window {
    pub(super) now_ns: u64,
    pub(super) behind_ns: u64,
    pub(super) ahead_ns: u64,
}

#[derive(Debug)]
pub(super) struct ReplayMemory {
    hotkeys: BTreeMap<Hotkey, Seen>,
    /// Unknown hotkeys need a nonce above this.
    floor_ns: u64,
    max_hotkeys: usize,
    max_nonces: usize,
    /// No window reaches further back than this.
    max_behind_ns: u64,
}

#[derive(Debug)]
struct Seen {
    floor_ns: u64,
    accepted: BTreeSet<u64>,
}

impl Seen {
    fn newest(&self) -> u64 {
        self.accepted.last().copied().unwrap_or(self.floor_ns)
    }
}

impl ReplayMemory {
    pub(super) const fn new(
        begin_ns: u64,
        max_hotkeys: usize,
        max_nonces: usize,
        max_behind_ns: u64,
    ) -> Self {
        Self {
            hotkeys: BTreeMap::new(),
            // A request of the very millisecond of the start is new.
            floor_ns: begin_ns.saturating_sub(1),
            max_hotkeys,
            max_nonces,
            max_behind_ns,
        }
    }

    /// Tells whether `nonce` could be accepted, without keeping it.
    pub(super) fn check(
        &self,
        hotkey: &Hotkey,
        nonce: u64,
        window: Window,
    ) -> Result<(), NonceError> {
        let Window { now_ns, behind_ns, ahead_ns } = window;
        if nonce > now_ns.saturating_add(ahead_ns) {
            return Err(NonceError::TooFarAhead {
                allowed_secs: ahead_ns as f64 / NS_PER_SEC,
                lead_secs: (nonce - now_ns) as f64 / NS_PER_SEC,
            });
        }
        if nonce <= now_ns.saturating_sub(behind_ns) {
            return Err(NonceError::TooOld {
                allowed_secs: behind_ns as f64 / NS_PER_SEC,
                age_secs: now_ns.saturating_sub(nonce) as f64 / NS_PER_SEC,
            });
        }
        let used = match self.hotkeys.get(hotkey) {
            Some(seen) => nonce <= seen.floor_ns || seen.accepted.contains(&nonce),
            None => nonce <= self.floor_ns,
        };
        if used { Err(NonceError::Used) } else { Ok(()) }
    }

    /// Checks again and keeps the nonce; call it once the signature holds.
    pub(super) fn accept(
        &mut self,
        hotkey: &Hotkey,
        nonce: u64,
        window: Window,
    ) -> Result<(), NonceError> {
        self.check(hotkey, nonce, window)?;
        if !self.hotkeys.contains_key(hotkey) && self.hotkeys.len() >= self.max_hotkeys {
            self.make_room(window.now_ns);
        }
        let floor_ns = self.floor_ns;
        let seen = self
            .hotkeys
            .entry(*hotkey)
            .or_insert_with(|| Seen { floor_ns, accepted: BTreeSet::new() });
        seen.accepted.insert(nonce);
        while seen.accepted.len() > self.max_nonces {
            if let Some(oldest) = seen.accepted.pop_first() {
                seen.floor_ns = seen.floor_ns.max(oldest);
            }
        }
        Ok(())
    }

    /// Forgets hotkeys whose nonces are all stale; if there are none, the one that has been silent
    /// for longest. Raises the floor so that their nonces stay refused, also when the clock was
    /// ahead and comes back.
    fn make_room(&mut self, now_ns: u64) {
        let stale = now_ns.saturating_sub(self.max_behind_ns);
        let floor_ns = &mut self.floor_ns;
        self.hotkeys.retain(|_, seen| {
            let is_kept = seen.newest() > stale;
            if !is_kept {
                *floor_ns = (*floor_ns).max(seen.newest());
            }
            is_kept
        });
        if self.hotkeys.len() < self.max_hotkeys {
            return;
        }
        let quietest = self.hotkeys.iter().map(|(hotkey, seen)| (seen.newest(), *hotkey)).min();
        if let Some((newest, hotkey)) = quietest {
            self.floor_ns = self.floor_ns.max(newest);
            self.hotkeys.remove(&hotkey);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEC: u64 = 1_000_000_000;
    const START: u64 = 1_795_000_000 * SEC;

    fn hotkey(id: u8) -> Hotkey {
        Hotkey::from_bytes([id; 32])
    }

    fn window(now_ns: u64) -> Window {
        Window { now_ns, behind_ns: 16 * SEC, ahead_ns: 4 * SEC }
    }

    fn memory() -> ReplayMemory {
        ReplayMemory::new(START, 3, 4, 64 * SEC)
    }

    #[test]
    fn a_nonce_is_accepted_once_and_may_be_overtaken() {
        let mut memory = memory();
        let now = START + 100 * SEC;
        for nonce in [now, now - 3, now - 1] {
            memory.accept(&hotkey(1), nonce, window(now)).unwrap();
            assert_eq!(memory.accept(&hotkey(1), nonce, window(now)), Err(NonceError::Used));
            memory.accept(&hotkey(2), nonce, window(now)).unwrap();
        }
    }

    #[test]
    fn the_window_is_open_at_its_old_end_and_closed_at_its_new_one() {
        let memory = memory();
        let now = START + 100 * SEC;
        let check = |nonce| memory.check(&hotkey(1), nonce, window(now));
        assert_eq!(check(now - 16 * SEC + 1), Ok(()));
        assert_eq!(
            check(now - 16 * SEC).unwrap_err().to_string(),
            "Nonce is too old: acceptable delta is 16.00 seconds but request was 16.00 seconds old"
        );
        assert_eq!(check(now + 4 * SEC), Ok(()));
        assert!(matches!(check(now + 4 * SEC + 1), Err(NonceError::TooFarAhead { .. })));
        assert!(matches!(check(u64::MAX), Err(NonceError::TooFarAhead { .. })));
        assert!(matches!(check(0), Err(NonceError::TooOld { .. })));
    }

    #[test]
    fn what_was_signed_before_the_start_is_refused() {
        let mut memory = memory();
        assert_eq!(memory.check(&hotkey(1), START - 1, window(START)), Err(NonceError::Used));
        memory.accept(&hotkey(1), START, window(START)).unwrap();
    }

    #[test]
    fn a_full_memory_forgets_without_letting_replays_through() {
        let mut memory = memory();
        let now = START + 100 * SEC;
        for id in 0..4 {
            memory.accept(&hotkey(id), now + u64::from(id), window(now)).unwrap();
        }
        assert_eq!(memory.hotkeys.len(), 3);
        assert_eq!(memory.check(&hotkey(0), now, window(now)), Err(NonceError::Used));
        memory.accept(&hotkey(0), now + 5, window(now)).unwrap();
        // Stale hotkeys go first.
        let later = now + 100 * SEC;
        memory.accept(&hotkey(9), later - 10 * SEC, window(later)).unwrap();
        assert_eq!(memory.hotkeys.len(), 1);
    }

    #[test]
    fn a_clock_that_jumps_ahead_and_comes_back_lets_no_replay_through() {
        let mut memory = memory();
        let now = START + 100 * SEC;
        for id in 0..3 {
            memory.accept(&hotkey(id), now, window(now)).unwrap();
        }
        // After the jump all three are stale, and are forgotten for a fourth.
        let ahead = now + 3600 * SEC;
        memory.accept(&hotkey(9), ahead, window(ahead)).unwrap();
        assert_eq!(memory.hotkeys.len(), 1);
        for id in 0..3 {
            assert_eq!(memory.check(&hotkey(id), now, window(now)), Err(NonceError::Used));
            assert_eq!(memory.check(&hotkey(id), now + 1, window(now)), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn nothing_is_ever_accepted_twice(
            steps in prop::collection::vec((0_u8..6, 0_u64..40, 0_u64..3), 1..400),
        ) {
            let mut memory = memory();
            let mut accepted = BTreeSet::new();
            let mut now = START;
            for (id, back, forward) in steps {
                now += forward * SEC / 4;
                let nonce = now + 4 * SEC - back * SEC / 4;
                if memory.accept(&hotkey(id), nonce, window(now)).is_ok() {
                    prop_assert!(accepted.insert((id, nonce)), "{id} {nonce} accepted twice");
                }
                prop_assert!(memory.hotkeys.len() <= 3);
                prop_assert!(memory.hotkeys.values().all(|seen| seen.accepted.len() <= 4));
            }
        }
    }
}
