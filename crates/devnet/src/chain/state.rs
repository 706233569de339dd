//! Key-value state with history, and the overlay in which a block is executed.
//!
//! Each key holds its versions by block, so that a read at a past block hash sees exactly the state
//! after that block. Versions older than [`HISTORY_BLOCKS`] are forgotten.

use std::collections::{BTreeMap, VecDeque};

/// Blocks whose state can still be read, counted from the best block. Stock nodes keep 256; at 20 ms
/// a block that would be 5 s, too short for a client on a busy machine.
pub(super) const HISTORY_BLOCKS: u64 = 2048;

/// What a block changed: `None` removes the key.
pub(super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The state of the chain after each of the last blocks.
#[derive(Debug, Default)]
pub(super) struct State {
    values: BTreeMap<Vec<u8>, Vec<Version>>,
    /// Keys by the block that wrote them, oldest first: what to look at when history is forgotten.
    written: VecDeque<(u64, Vec<Vec<u8>>)>,
}

#[derive(Debug)]
struct Version {
    block: u64,
    value: Option<Vec<u8>>,
}

/// Reads values by storage key.
pub(super) trait Storage {
    /// Returns the value under `key`.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
}

impl State {
    /// Returns the value of `key` after `block`.
    pub(super) fn get_at(&self, key: &[u8], block: u64) -> Option<&[u8]> {
        let versions = self.values.get(key)?;
        let newest = versions.iter().rev().find(|version| version.block <= block)?;
        newest.value.as_deref()
    }

    /// Returns up to `limit` keys with `prefix` that exist after `block`, in order, from the first
    /// one above `start_after`.
    pub(super) fn keys_at(
        &self,
        prefix: &[u8],
        block: u64,
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Vec<Vec<u8>> {
        let from = start_after.filter(|start| *start > prefix).unwrap_or(prefix);
        self.values
            .range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .filter(|key| start_after.is_none_or(|start| key.as_slice() > start))
            .filter(|key| self.get_at(key, block).is_some())
            .take(limit)
            .cloned()
            .collect()
    }

    /// Writes the changes of `block`, which must be newer than all before, and forgets old history.
    pub(super) fn apply(&mut self, block: u64, changes: Changes) {
        let mut keys = Vec::with_capacity(changes.len());
        for (key, value) in changes {
            let versions = self.values.entry(key.clone()).or_default();
            debug_assert!(versions.last().is_none_or(|last| last.block < block), "blocks in order");
            versions.push(Version { block, value });
            keys.push(key);
        }
        self.written.push_back((block, keys));
        self.forget_before(block.saturating_sub(HISTORY_BLOCKS));
    }

    /// Returns all keys and values after `block`.
    pub(super) fn snapshot(&self, block: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.values
            .keys()
            .filter_map(|key| Some((key.clone(), self.get_at(key, block)?.to_vec())))
            .collect()
    }

    /// Drops what only blocks before `oldest` could see.
    fn forget_before(&mut self, oldest: u64) {
        while self.written.front().is_some_and(|(block, _)| *block <= oldest) {
            let Some((_, keys)) = self.written.pop_front() else { return };
            for key in keys {
                let Some(versions) = self.values.get_mut(&key) else { continue };
                let seen = versions.iter().rposition(|version| version.block <= oldest);
                if let Some(seen) = seen {
                    versions.drain(..seen);
                }
                let is_gone =
                    versions.last().is_none_or(|last| last.value.is_none() && last.block <= oldest);
                if is_gone {
                    self.values.remove(&key);
                }
            }
        }
    }
}

/// The state after one block, read-only.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateAt<'a> {
    /// All history.
    pub(super) state: &'a State,
    /// The block after which to read.
    pub(super) block: u64,
}

impl Storage for StateAt<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state.get_at(key, self.block).map(<[u8]>::to_vec)
    }
}

/// Changes on top of a state, in layers that can be taken back one by one.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    base: StateAt<'a>,
    layers: Vec<Changes>,
}

impl<'a> Overlay<'a> {
    /// Starts without changes.
    pub(super) fn new(base: StateAt<'a>) -> Self {
        Self { base, layers: vec![Changes::new()] }
    }

    /// Writes `value` under `key`.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.write(key, Some(value));
    }

    /// Removes `key`.
    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.write(key, None);
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        if let Some(top) = self.layers.last_mut() {
            top.insert(key, value);
        }
    }

    /// Opens a layer: all later changes stand or fall together.
    pub(super) fn begin(&mut self) {
        self.layers.push(Changes::new());
    }

    /// Keeps the changes of the top layer.
    pub(super) fn commit(&mut self) {
        if self.layers.len() > 1
            && let Some(top) = self.layers.pop()
            && let Some(below) = self.layers.last_mut()
        {
            below.extend(top);
        }
    }

    /// Takes the changes of the top layer back.
    pub(super) fn roll_back(&mut self) {
        if self.layers.len() > 1 {
            self.layers.pop();
        }
    }

    /// Returns all changes. Layers that are still open count as kept.
    pub(super) fn into_changes(self) -> Changes {
        let mut changes = Changes::new();
        for layer in self.layers {
            changes.extend(layer);
        }
        changes
    }
}

impl Storage for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        for layer in self.layers.iter().rev() {
            if let Some(value) = layer.get(key) {
                return value.clone();
            }
        }
        self.base.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(entries: &[(&str, Option<&str>)]) -> Changes {
        entries
            .iter()
            .map(|(key, value)| (key.as_bytes().to_vec(), value.map(|v| v.as_bytes().to_vec())))
            .collect()
    }

    #[test]
    fn a_read_at_a_past_block_sees_that_block() {
        let mut state = State::default();
        state.apply(1, changes(&[("a", Some("one")), ("b", Some("x"))]));
        state.apply(2, changes(&[("a", Some("two"))]));
        state.apply(3, changes(&[("a", None), ("ab", Some("y"))]));
        assert_eq!(state.get_at(b"a", 0), None);
        assert_eq!(state.get_at(b"a", 1), Some(&b"one"[..]));
        assert_eq!(state.get_at(b"a", 2), Some(&b"two"[..]));
        assert_eq!(state.get_at(b"a", 9), None);
        assert_eq!(state.keys_at(b"a", 2, None, 10), [b"a".to_vec()]);
        assert_eq!(state.keys_at(b"a", 3, None, 10), [b"ab".to_vec()]);
        assert_eq!(state.keys_at(b"", 3, Some(b"ab"), 10), [b"b".to_vec()]);
    }

    #[test]
    fn forgotten_history_leaves_the_newest_value_and_no_removed_keys() {
        let mut state = State::default();
        state.apply(1, changes(&[("kept", Some("1")), ("removed", Some("1"))]));
        state.apply(2, changes(&[("kept", Some("2")), ("removed", None)]));
        for block in 3..HISTORY_BLOCKS + 10 {
            state.apply(block, changes(&[("number", Some("n"))]));
        }
        assert_eq!(state.get_at(b"kept", HISTORY_BLOCKS), Some(&b"2"[..]));
        assert_eq!(state.values[&b"kept".to_vec()].len(), 1);
        assert!(!state.values.contains_key(&b"removed"[..]));
        assert!(
            state.values[&b"number".to_vec()].len() <= usize::try_from(HISTORY_BLOCKS).unwrap() + 1
        );
    }

    #[test]
    fn a_rolled_back_layer_leaves_no_trace() {
        let mut state = State::default();
        state.apply(1, changes(&[("a", Some("one"))]));
        let mut overlay = Overlay::new(StateAt { state: &state, block: 1 });
        overlay.put(b"b".to_vec(), b"kept".to_vec());
        overlay.begin();
        overlay.remove(b"a".to_vec());
        overlay.put(b"b".to_vec(), b"lost".to_vec());
        assert_eq!(overlay.get(b"a"), None);
        overlay.roll_back();
        assert_eq!(overlay.get(b"a"), Some(b"one".to_vec()));
        overlay.begin();
        overlay.put(b"c".to_vec(), b"also kept".to_vec());
        overlay.commit();
        assert_eq!(
            overlay.into_changes(),
            changes(&[("b", Some("kept")), ("c", Some("also kept"))])
        );
    }
}
