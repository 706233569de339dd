//! What has happened on the chain: blocks, states, heights; and what waits for the next block.

use std::collections::{HashMap, VecDeque};

use parity_scale_codec::Encode;
use sp_crypto_hashing::blake2_256;

use super::names::Item;
use super::node::Intervention;
use super::persist::Saved;
use super::pool::{StatusSender, Waiting};
use super::runtime::Runtime;
use super::state::{Changes, HISTORY_BLOCKS, Overlay, State, StateAt};
use super::types::{Era, Hash, Header};
use super::view::{View, Writer};
use super::{DevChainConfig, DevChainError, genesis};

/// Blocks whose header and body are kept.
const KEPT_BLOCKS: usize = 4096;
/// Entries of `System.BlockHash`, as on the real chain.
pub(super) const BLOCK_HASH_COUNT: u64 = 2400;

/// A made block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) header: Header,
    pub(super) hash: Hash,
    /// Bytes of the extrinsics, the inherent first.
    pub(super) extrinsics: Vec<Vec<u8>>,
}

impl Block {
    /// Puts header and body together.
    pub(super) fn new(header: Header, extrinsics: Vec<Vec<u8>>) -> Self {
        Self { hash: header.hash(), header, extrinsics }
    }

    /// Returns the height.
    pub(super) fn number(&self) -> u64 {
        u64::from(self.header.number)
    }
}

/// The chain's data and what waits to get in. `blocks` may end one block after `best`: it is made, but not yet safe on disk.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) state: State,
    pub(super) genesis: Block,
    /// The newest blocks without gap, oldest first; never empty.
    blocks: VecDeque<Block>,
    numbers: HashMap<Hash, u64>,
    /// First block whose state can be read.
    oldest_state: u64,
    pub(super) best: u64,
    pub(super) finalized: u64,
    pub(super) waiting: Vec<Waiting>,
    pub(super) interventions: Vec<Intervention>,
    /// Watched transactions in blocks that are not final, oldest first.
    pub(super) unfinal: VecDeque<(u64, Hash, StatusSender)>,
}

impl Ledger {
    /// Makes a chain that has only its genesis.
    pub(super) fn fresh(runtime: &Runtime, config: &DevChainConfig) -> Self {
        let empty = State::default();
        let mut overlay = Overlay::new(StateAt { state: &empty, block: 0 });
        genesis::write_genesis(&mut Writer { runtime, overlay: &mut overlay }, config);
        let changes = overlay.into_changes();
        // The moment of creation goes into the root, so that two chains never share a genesis hash.
        let created = blake2_256(&config.clock.now_ms().encode());
        let header = Header {
            parent_hash: [0; 32],
            number: 0,
            state_root: state_root(&created, &changes),
            extrinsics_root: [0; 32],
            digest: Vec::new(),
        };
        let genesis = Block::new(header, Vec::new());
        Self::starting_at(genesis.clone(), genesis, changes)
    }

    /// Continues a saved chain under the settings of this start.
    pub(super) fn restore(
        runtime: &Runtime,
        config: &DevChainConfig,
        saved: Saved,
    ) -> Result<Self, DevChainError> {
        let path = config.data_file.clone().unwrap_or_default();
        if saved.netuid != config.netuid.0 {
            let reason = format!("it is of subnet {}, not {}", saved.netuid, config.netuid);
            return Err(DevChainError::Damaged { path, reason });
        }
        let spec_version = runtime.version().spec_version;
        if saved.spec_version != spec_version {
            let reason = format!("it is of spec {}, not {spec_version}", saved.spec_version);
            return Err(DevChainError::Damaged { path, reason });
        }
        let genesis = Block::new(saved.genesis, Vec::new());
        let head = Block::new(saved.head, Vec::new());
        let number = head.number();
        let mut state = State::default();
        let stored = saved.state.into_iter().map(|(key, value)| (key, Some(value))).collect();
        state.apply(0, stored);
        let mut overlay = Overlay::new(StateAt { state: &state, block: 0 });
        genesis::apply_config(&mut Writer { runtime, overlay: &mut overlay }, config, number);
        let mut changes: Changes =
            state.snapshot(0).into_iter().map(|(key, value)| (key, Some(value))).collect();
        changes.extend(overlay.into_changes());
        Ok(Self::starting_at(genesis, head, changes))
    }

    fn starting_at(genesis: Block, head: Block, content: Changes) -> Self {
        let number = head.number();
        let mut state = State::default();
        state.apply(number, content);
        let numbers = HashMap::from([(genesis.hash, 0), (head.hash, number)]);
        Self {
            state,
            genesis,
            blocks: VecDeque::from([head]),
            numbers,
            oldest_state: number,
            best: number,
            finalized: number,
            waiting: Vec::new(),
            interventions: Vec::new(),
            unfinal: VecDeque::new(),
        }
    }

    /// Returns the newest made block, announced or not.
    #[expect(clippy::expect_used, reason = "constructed with a block, and trimming leaves many")]
    pub(super) fn head(&self) -> &Block {
        self.blocks.back().expect("a chain has at least one block")
    }

    /// Adds the block that follows the head, and forgets the oldest.
    pub(super) fn append(&mut self, block: Block, changes: Changes) {
        let number = block.number();
        self.state.apply(number, changes);
        self.numbers.insert(block.hash, number);
        self.blocks.push_back(block);
        if self.blocks.len() > KEPT_BLOCKS
            && let Some(old) = self.blocks.pop_front()
            && old.number() > 0
        {
            self.numbers.remove(&old.hash);
        }
        self.oldest_state = self.oldest_state.max(number.saturating_sub(HISTORY_BLOCKS));
    }

    /// Returns the height of the best block.
    pub(super) const fn best(&self) -> u64 {
        self.best
    }

    /// Returns the height of the newest final block.
    pub(super) const fn finalized(&self) -> u64 {
        self.finalized
    }

    /// Returns an announced block by height.
    pub(super) fn block(&self, number: u64) -> Option<&Block> {
        if number > self.best {
            return None;
        }
        self.block_or_unannounced(number)
    }

    fn block_or_unannounced(&self, number: u64) -> Option<&Block> {
        if number == 0 {
            return Some(&self.genesis);
        }
        let first = self.blocks.front()?.number();
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.blocks.get(index)
    }

    /// Returns the header of an announced block.
    pub(super) fn header_of(&self, number: u64) -> Option<&Header> {
        self.block(number).map(|block| &block.header)
    }

    /// Returns the height of an announced block.
    pub(super) fn number_of(&self, hash: &Hash) -> Option<u64> {
        self.numbers.get(hash).copied().filter(|number| *number <= self.best)
    }

    /// Says whether the state after a block can still be read.
    pub(super) const fn has_state(&self, number: u64) -> bool {
        number >= self.oldest_state && number <= self.best
    }

    /// Returns a block hash by height, from the blocks or from `System.BlockHash`.
    pub(super) fn hash_of(&self, runtime: &Runtime, number: u64) -> Option<Hash> {
        if let Some(block) = self.block_or_unannounced(number) {
            return Some(block.hash);
        }
        let height = u32::try_from(number).ok()?;
        let storage = StateAt { state: &self.state, block: self.head().number() };
        View::new(runtime, &storage).stored(Item::BlockHash, &[&height.encode()])
    }

    /// Returns the hash that a transaction with `era` signs over when it goes into `block`.
    pub(super) fn era_block_hash(&self, runtime: &Runtime, era: Era, block: u64) -> Option<Hash> {
        let birth = era.birth(block);
        let is_known = birth < block && (birth == 0 || block - birth <= BLOCK_HASH_COUNT);
        if is_known { self.hash_of(runtime, birth) } else { None }
    }
}

/// Returns the hash that stands for the state: a chain over all changes, not a trie root.
pub(super) fn state_root(parent: &Hash, changes: &Changes) -> Hash {
    blake2_256(&(parent, changes.iter().collect::<Vec<_>>()).encode())
}
