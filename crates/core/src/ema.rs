//! The moving average of each hotkey's shares: the long memory of a validator.
//!
//! The state is an ordered map. `Standard` keeps it sorted by hotkey, so that no sum depends on who
//! joined first; `Seed` keeps the order of arrival, on which the reference's sums depend.

use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};

use crate::hotkey::Hotkey;
use crate::numeric::{pairwise_sum, plain_sum};
use crate::scoring::ScoreError;
use crate::settings::{Compatibility, NewMinerStart, ScoringConfig};

/// What is remembered of one hotkey.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EmaEntry {
    /// Moving average of the shares, 0..1.
    pub value: f64,
    /// Rounds folded in since the hotkey appeared, those without an answer included.
    pub rounds: u64,
    /// Block of the registration that this memory belongs to.
    pub registered_at_block: u64,
}

/// The moving averages of a stream's miners, keyed by hotkey, never by uid.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EmaState(pub IndexMap<Hotkey, EmaEntry>);

/// Returns α·`current` + (1 − α)·`previous` with α = 2 / (`length` + 1).
///
/// Golden data: `scoring/basic_ema.json`, exact.
pub fn basic_ema(current: f64, previous: f64, length: u32) -> f64 {
    let alpha = 2.0 / (f64::from(length) + 1.0);
    alpha * current + (1.0 - alpha) * previous
}

/// Returns the average after a round of the given importance: the share is first blended with the
/// average by importance, then folded in.
pub fn fold_share(previous: f64, share: f64, importance: f64, length: u32) -> f64 {
    basic_ema((previous + share * importance) / (1.0 + importance), previous, length)
}

impl EmaState {
    /// Returns the average of a hotkey; `None` when it was never scored (unknown is not zero).
    pub fn value(&self, hotkey: &Hotkey) -> Option<f64> {
        self.0.get(hotkey).map(|entry| entry.value)
    }

    /// Returns the hotkeys with their entries, best first, ties by hotkey.
    pub fn leader_board(&self) -> Vec<(Hotkey, EmaEntry)> {
        let mut board: Vec<_> = self.0.iter().map(|(hotkey, entry)| (*hotkey, *entry)).collect();
        board.sort_by(|a, b| b.1.value.total_cmp(&a.1.value).then(a.0.cmp(&b.0)));
        board
    }

    /// Drops hotkeys that are not registered any more and those that registered anew: whoever
    /// takes over a uid, or comes back to one, begins without a past. Returns who was dropped.
    pub fn retain_members(&mut self, members: &[(Hotkey, u64)]) -> Vec<Hotkey> {
        let blocks: IndexMap<&Hotkey, u64> = members.iter().map(|(key, at)| (key, *at)).collect();
        let mut dropped = Vec::new();
        self.0.retain(|hotkey, entry| {
            let stays = blocks.get(hotkey) == Some(&entry.registered_at_block);
            if !stays {
                dropped.push(*hotkey);
            }
            stays
        });
        dropped
    }

    /// Checks that every stored average is a finite number of at least zero.
    ///
    /// # Errors
    /// [`ScoreError::BadAverage`] for the first that is not.
    pub fn check(&self) -> Result<(), ScoreError> {
        let bad = |entry: &EmaEntry| !entry.value.is_finite() || entry.value < 0.0;
        match self.0.iter().find(|(_, entry)| bad(entry)) {
            Some((hotkey, entry)) => {
                Err(ScoreError::BadAverage { hotkey: *hotkey, value: entry.value })
            }
            None => Ok(()),
        }
    }

    /// Folds one round in: `shares` are moved towards their share, all other known hotkeys decay.
    ///
    /// `registered_at`: block of the registration of a hotkey that is seen for the first time.
    /// Golden data: `scoring/update_weights_sequences.json`, 1e-12 relative.
    ///
    /// # Errors
    /// [`ScoreError::AverageOverflow`] when an average would become NaN (or infinite, in
    /// `Standard`); the state is then unchanged.
    pub fn fold(
        &mut self,
        shares: &[(Hotkey, f64)],
        importance: f64,
        registered_at: &dyn Fn(&Hotkey) -> u64,
        config: &ScoringConfig,
    ) -> Result<(), ScoreError> {
        let seed = config.compatibility == Compatibility::Seed;
        let start = self.start_value(config);
        let scored: IndexSet<&Hotkey> = shares.iter().map(|(hotkey, _)| hotkey).collect();
        let mut next = self.0.clone();
        for (hotkey, entry) in &mut next {
            if !scored.contains(hotkey) {
                entry.value = fold_share(entry.value, 0.0, importance, config.ema_length);
                entry.rounds = entry.rounds.saturating_add(1);
            }
        }
        for (hotkey, share) in shares {
            let entry = next.entry(*hotkey).or_insert_with(|| EmaEntry {
                value: start,
                rounds: 0,
                registered_at_block: registered_at(hotkey),
            });
            entry.value = fold_share(entry.value, *share, importance, config.ema_length);
            entry.rounds = entry.rounds.saturating_add(1);
        }
        let bad = |value: f64| value.is_nan() || (!seed && value.is_infinite());
        if let Some((hotkey, _)) = next.iter().find(|(_, entry)| bad(entry.value)) {
            return Err(ScoreError::AverageOverflow(*hotkey));
        }
        if !seed {
            next.sort_unstable_keys();
        }
        self.0 = next;
        Ok(())
    }

    fn start_value(&self, config: &ScoringConfig) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        let values: Vec<f64> = self.0.values().map(|entry| entry.value).collect();
        if config.compatibility == Compatibility::Seed {
            return plain_sum(&values) / values.len() as f64;
        }
        match config.new_miner_start {
            NewMinerStart::Zero => 0.0,
            NewMinerStart::Average => pairwise_sum(&values) / values.len() as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Hotkey {
        Hotkey::from_bytes([byte; 32])
    }

    fn entry(value: f64, registered_at_block: u64) -> EmaEntry {
        EmaEntry { value, rounds: 3, registered_at_block }
    }

    #[test]
    fn recycled_slots_and_deregistered_hotkeys_inherit_nothing() {
        let mut state = EmaState::default();
        state.0.insert(key(1), entry(0.5, 10));
        state.0.insert(key(2), entry(0.4, 10));
        state.0.insert(key(3), entry(0.3, 10));
        let dropped = state.retain_members(&[(key(1), 10), (key(2), 99), (key(4), 99)]);
        assert_eq!(dropped, [key(2), key(3)]);
        assert_eq!(state.0.keys().collect::<Vec<_>>(), [&key(1)]);
    }

    #[test]
    fn newcomers_start_at_zero_or_at_the_average() {
        let mut prior = EmaState::default();
        prior.0.insert(key(1), entry(0.5, 0));
        for (start, above) in [(NewMinerStart::Zero, false), (NewMinerStart::Average, true)] {
            let config = ScoringConfig { new_miner_start: start, ..ScoringConfig::default() };
            let mut state = prior.clone();
            state.fold(&[(key(2), 0.0)], 1.0, &|_| 7, &config).unwrap();
            assert_eq!(state.value(&key(2)).unwrap() > 0.4, above);
            assert_eq!(state.0[&key(2)].registered_at_block, 7);
        }
    }

    #[test]
    fn state_survives_json_in_its_order() {
        let mut state = EmaState::default();
        state.0.insert(key(9), entry(0.5, 1));
        state.0.insert(key(1), entry(0.25, 2));
        let text = serde_json::to_string(&state).unwrap();
        let back: EmaState = serde_json::from_str(&text).unwrap();
        assert!(back.0.iter().eq(state.0.iter()));
    }

    #[test]
    fn a_failed_fold_changes_nothing() {
        let mut state = EmaState::default();
        state.0.insert(key(1), entry(0.5, 0));
        let before = state.clone();
        let result = state.fold(&[(key(2), f64::NAN)], 0.5, &|_| 0, &ScoringConfig::default());
        assert_eq!(result, Err(ScoreError::AverageOverflow(key(2))));
        assert_eq!(state, before);
    }
}
