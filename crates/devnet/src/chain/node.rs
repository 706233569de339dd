//! The running chain: taking transactions in, and making and announcing the next block.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use forecastd_core::Hotkey;
use parity_scale_codec::Encode;
use sp_crypto_hashing::blake2_256;
use tokio::sync::broadcast;

use super::events::Events;
use super::extrinsic::{Extrinsic, bare_extrinsic};
use super::ledger::{BLOCK_HASH_COUNT, Block, Ledger, state_root};
use super::names::{EventName, Item};
use super::pallet::{Dispatch, encode_fault};
use super::persist::Saved;
use super::pool::{MAX_WAITING, Readiness, Refusal, Status, StatusSender, Waiting, validate};
use super::runtime::Runtime;
use super::state::{Overlay, StateAt};
use super::types::{Account, DispatchInfo, Era, Hash, Header};
use super::view::{View, Writer};
use super::{DevChainConfig, DevChainError, GenesisNeuron, epoch, genesis};

/// Most transactions in a block besides the inherent.
const MAX_TRANSACTIONS_PER_BLOCK: usize = 512;
/// Heads that a slow subscriber may lag behind before it misses some.
const HEADS_BUFFER: usize = 1024;

/// A change from outside of the chain's rules, for tests; done at the start of the next block.
#[derive(Debug, Clone)]
pub(super) enum Intervention {
    /// Gives the next free slot to a neuron.
    Register(GenesisNeuron),
    /// Gives a taken slot to another hotkey.
    Replace {
        /// The slot.
        uid: u16,
        /// Who gets it.
        hotkey: Hotkey,
        /// Who owns that hotkey.
        coldkey: Account,
    },
}

/// The chain and its runtime.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) runtime: Runtime,
    pub(super) config: DevChainConfig,
    inner: RwLock<Ledger>,
    best_heads: broadcast::Sender<Header>,
    finalized_heads: broadcast::Sender<Header>,
}

/// What making a block left to do.
#[derive(Debug)]
pub(super) struct Made {
    /// The block changed more than counters: it must be on disk before anybody hears of it.
    pub(super) must_persist: bool,
    number: u64,
    hash: Hash,
    included: Vec<StatusSender>,
}

impl Node {
    /// Makes a fresh chain, or continues the saved one.
    pub(super) fn new(config: DevChainConfig, saved: Option<Saved>) -> Result<Self, DevChainError> {
        let runtime = Runtime::load()?;
        let inner = match saved {
            Some(saved) => Ledger::restore(&runtime, &config, saved)?,
            None => Ledger::fresh(&runtime, &config),
        };
        Ok(Self {
            runtime,
            config,
            inner: RwLock::new(inner),
            best_heads: broadcast::channel(HEADS_BUFFER).0,
            finalized_heads: broadcast::channel(HEADS_BUFFER).0,
        })
    }

    /// Reads the chain. A panic elsewhere cannot leave it half-written: blocks are applied whole.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Ledger> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ledger> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the best blocks from the next one on.
    pub(super) fn best_heads(&self) -> broadcast::Receiver<Header> {
        self.best_heads.subscribe()
    }

    /// Follows the final blocks from the next one on.
    pub(super) fn finalized_heads(&self) -> broadcast::Receiver<Header> {
        self.finalized_heads.subscribe()
    }

    /// Plans a change for the next block.
    pub(super) fn intervene(&self, intervention: Intervention) {
        self.write().interventions.push(intervention);
    }

    /// Checks a transaction and lets it wait for the next block; returns its hash.
    pub(super) fn submit(
        &self,
        bytes: &[u8],
        watcher: Option<StatusSender>,
    ) -> Result<Hash, Refusal> {
        let extrinsic = Extrinsic::decode(&self.runtime, bytes)?;
        let (genesis_hash, era_block_hash) = {
            let inner = self.read();
            let era_block_hash = inner
                .era_block_hash(&self.runtime, extrinsic.era, inner.best + 1)
                .ok_or(Refusal::AncientBirthBlock)?;
            (inner.genesis.hash, era_block_hash)
        };
        let version = self.runtime.version();
        let payload = extrinsic.payload(
            version.spec_version,
            version.transaction_version,
            &genesis_hash,
            &era_block_hash,
        );
        if !extrinsic.is_signed_over(&payload) {
            return Err(Refusal::BadProof);
        }

        let mut inner = self.write();
        let best = inner.best;
        let storage = StateAt { state: &inner.state, block: best };
        let view = View::new(&self.runtime, &storage);
        let mut readiness = validate(view, best + 1, &extrinsic)?;
        let hash = extrinsic.hash;
        if inner.waiting.iter().any(|waiting| waiting.extrinsic.hash == hash) {
            return Err(Refusal::AlreadyImported(hash));
        }
        let nonces: BTreeSet<u32> = inner
            .waiting
            .iter()
            .filter(|waiting| waiting.extrinsic.signer == extrinsic.signer)
            .map(|waiting| waiting.extrinsic.nonce)
            .collect();
        if nonces.contains(&extrinsic.nonce) {
            return Err(Refusal::TooLowPriority);
        }
        if inner.waiting.len() >= MAX_WAITING {
            return Err(Refusal::PoolFull);
        }
        let account_nonce = view.account(&extrinsic.signer).nonce;
        if (account_nonce..extrinsic.nonce).all(|nonce| nonces.contains(&nonce)) {
            readiness = Readiness::Ready;
        }
        let waiting = Waiting { extrinsic, era_block_hash, watcher };
        waiting.notify(match readiness {
            Readiness::Ready => Status::Ready,
            Readiness::Future => Status::Future,
        });
        inner.waiting.push(waiting);
        Ok(hash)
    }

    /// Returns the nonce for an account's next transaction, waiting ones counted.
    pub(super) fn next_nonce(&self, account: &Account) -> u32 {
        let inner = self.read();
        let storage = StateAt { state: &inner.state, block: inner.best };
        let mut nonce = View::new(&self.runtime, &storage).account(account).nonce;
        let waits = |nonce: u32| {
            inner.waiting.iter().any(|waiting| {
                waiting.extrinsic.signer == *account && waiting.extrinsic.nonce == nonce
            })
        };
        while waits(nonce) {
            nonce = nonce.saturating_add(1);
        }
        nonce
    }

    /// Returns the bytes of the waiting transactions.
    pub(super) fn waiting_extrinsics(&self) -> Vec<Vec<u8>> {
        self.read().waiting.iter().map(|entry| entry.extrinsic.bytes.clone()).collect()
    }

    /// Makes the next block out of the waiting transactions. Nobody sees it before
    /// [`Self::announce`].
    pub(super) fn make_block(&self, now_ms: i64) -> Made {
        let mut guard = self.write();
        let inner = &mut *guard;
        let parent = inner.head().clone();
        let number = parent.number() + 1;
        let waiting = std::mem::take(&mut inner.waiting);
        let interventions = std::mem::take(&mut inner.interventions);
        let mut must_persist = !interventions.is_empty();

        let mut events = Events::default();
        let mut overlay = Overlay::new(StateAt { state: &inner.state, block: parent.number() });
        let mut writer = Writer { runtime: &self.runtime, overlay: &mut overlay };
        let timestamp_ms = initialize(&mut writer, &parent, now_ms);
        epoch::on_initialize(&mut writer, self.config.netuid.0, number);
        for intervention in interventions {
            intervene(&mut writer, &self.config, number, &intervention);
        }

        events.enter_extrinsic(0);
        events.emit(&self.runtime, EventName::ExtrinsicSuccess, &DispatchInfo::mandatory());
        let inherent = genesis::timestamp_call(&self.runtime, timestamp_ms);
        let mut extrinsics = vec![bare_extrinsic(&inherent)];
        let (included, still_waiting) = self.execute_waiting(
            waiting,
            number,
            |era| inner.era_block_hash(&self.runtime, era, number),
            &mut overlay,
            &mut events,
            &mut extrinsics,
        );
        must_persist |= extrinsics.len() > 1;

        let mut writer = Writer { runtime: &self.runtime, overlay: &mut overlay };
        writer.put(Item::EventCount, &[], &u32::try_from(events.len()).unwrap_or(u32::MAX));
        overlay.put(self.runtime.key(Item::Events, &[]), events.encode());
        let changes = overlay.into_changes();
        let header = Header {
            parent_hash: parent.hash,
            number: parent.header.number.saturating_add(1),
            state_root: state_root(&parent.header.state_root, &changes),
            extrinsics_root: blake2_256(&extrinsics.encode()),
            digest: Vec::new(),
        };
        let block = Block::new(header, extrinsics);
        let hash = block.hash;
        inner.waiting = still_waiting;
        inner.append(block, changes);
        Made { must_persist, number, hash, included }
    }

    /// Executes the waiting transactions that are ready; returns the watchers of the included ones
    /// and the transactions that wait on.
    fn execute_waiting(
        &self,
        mut waiting: Vec<Waiting>,
        block: u64,
        era_block_hash: impl Fn(Era) -> Option<Hash>,
        overlay: &mut Overlay<'_>,
        events: &mut Events,
        extrinsics: &mut Vec<Vec<u8>>,
    ) -> (Vec<StatusSender>, Vec<Waiting>) {
        // By nonce, so that one pass includes a row of transactions of the same account; the sort
        // keeps the order of arrival otherwise.
        waiting.sort_by_key(|entry| entry.extrinsic.nonce);
        let mut included = Vec::new();
        let mut still_waiting = Vec::new();
        for entry in waiting {
            let extrinsic = &entry.extrinsic;
            let readiness = if era_block_hash(extrinsic.era) == Some(entry.era_block_hash) {
                validate(View::new(&self.runtime, overlay), block, extrinsic)
            } else {
                Err(Refusal::BadProof)
            };
            match readiness {
                Err(refusal) => {
                    tracing::debug!(?refusal, "a waiting transaction became invalid");
                    entry.notify(Status::Invalid);
                }
                Ok(Readiness::Ready) if extrinsics.len() <= MAX_TRANSACTIONS_PER_BLOCK => {
                    let index = u32::try_from(extrinsics.len()).unwrap_or(u32::MAX);
                    self.execute(extrinsic, index, block, overlay, events);
                    extrinsics.push(extrinsic.bytes.clone());
                    included.extend(entry.watcher);
                }
                Ok(_) => still_waiting.push(entry),
            }
        }
        (included, still_waiting)
    }

    fn execute(
        &self,
        extrinsic: &Extrinsic,
        index: u32,
        block: u64,
        overlay: &mut Overlay<'_>,
        events: &mut Events,
    ) {
        events.enter_extrinsic(index);
        let runtime = &self.runtime;
        let mut writer = Writer { runtime, overlay };
        let mut account = writer.view().account(&extrinsic.signer);
        account.nonce = account.nonce.saturating_add(1);
        writer.put(Item::Account, &[&extrinsic.signer], &account);
        let result =
            Dispatch { runtime, overlay, events, block }.call(&extrinsic.signer, &extrinsic.call);
        let info = DispatchInfo::normal(extrinsic.call.pays_fee());
        match result {
            Ok(()) => events.emit(runtime, EventName::ExtrinsicSuccess, &info),
            Err(fault) => {
                tracing::debug!(fault = fault.name(), block, "a call failed");
                let fields = (encode_fault(runtime, fault), info);
                events.emit(runtime, EventName::ExtrinsicFailed, &fields);
            }
        }
    }

    /// Makes a block the best one and tells everybody who waits for it.
    pub(super) fn announce(&self, made: Made) {
        let mut inner = self.write();
        inner.best = made.number;
        let finalized = made.number.saturating_sub(self.config.finality_delay_blocks);
        let is_newly_final = finalized > inner.finalized;
        inner.finalized = inner.finalized.max(finalized);
        for watcher in made.included {
            send(&watcher, Status::InBlock(made.hash));
            inner.unfinal.push_back((made.number, made.hash, watcher));
        }
        while let Some((number, _, _)) = inner.unfinal.front()
            && *number <= inner.finalized
            && let Some((_, hash, watcher)) = inner.unfinal.pop_front()
        {
            send(&watcher, Status::Finalized(hash));
        }
        let best = inner.header_of(made.number).cloned();
        let finalized = inner.header_of(inner.finalized).filter(|_| is_newly_final).cloned();
        drop(inner);
        // A send fails when nobody listens, which is fine.
        if let Some(header) = best {
            self.best_heads.send(header).ok();
        }
        if let Some(header) = finalized {
            self.finalized_heads.send(header).ok();
        }
    }

    /// Tells the watchers of waiting transactions that nothing will come any more.
    pub(super) fn drop_waiting(&self) {
        for entry in std::mem::take(&mut self.write().waiting) {
            entry.notify(Status::Dropped);
        }
    }

    /// Returns what the data file shall hold now.
    pub(super) fn to_saved(&self, is_clean: bool) -> Saved {
        let inner = self.read();
        let head = inner.head();
        Saved {
            netuid: self.config.netuid.0,
            spec_version: self.runtime.version().spec_version,
            genesis: inner.genesis.header.clone(),
            head: head.header.clone(),
            is_clean,
            state: inner.state.snapshot(head.number()),
        }
    }
}

/// Writes the system items of a new block; returns its timestamp, ms since the Unix epoch.
fn initialize(writer: &mut Writer<'_, '_>, parent: &Block, now_ms: i64) -> u64 {
    let number = parent.header.number.saturating_add(1);
    writer.put(Item::Number, &[], &number);
    writer.put(Item::ParentHash, &[], &parent.hash);
    writer.put(Item::BlockHash, &[&parent.header.number.encode()], &parent.hash);
    // The genesis hash stays for ever.
    if let Some(old) = parent.number().checked_sub(BLOCK_HASH_COUNT).filter(|old| *old > 0) {
        let old = u32::try_from(old).unwrap_or(u32::MAX);
        writer.remove(Item::BlockHash, &[&old.encode()]);
    }
    let last_ms: u64 = writer.view().value(Item::Now, &[]);
    // Time never stands still on a chain, even when the clock does.
    let timestamp_ms = u64::try_from(now_ms).unwrap_or(0).max(last_ms + 1);
    writer.put(Item::Now, &[], &timestamp_ms);
    timestamp_ms
}

fn intervene(
    writer: &mut Writer<'_, '_>,
    config: &DevChainConfig,
    block: u64,
    intervention: &Intervention,
) {
    let netuid = config.netuid.0;
    match intervention {
        Intervention::Register(neuron) => {
            let hotkey = neuron.hotkey.as_bytes();
            if writer.view().uid(netuid, hotkey).is_some() {
                return;
            }
            let uid = writer.append_neuron(netuid, hotkey, block);
            writer.put_of_uid(Item::ValidatorPermit, netuid, uid, neuron.validator_permit);
            writer.create_hotkey_account(hotkey, &neuron.coldkey);
            writer.put(Item::TotalHotkeyAlpha, &[hotkey, &netuid.encode()], &neuron.stake.0);
            writer.deposit(&neuron.coldkey, neuron.balance.0);
        }
        Intervention::Replace { uid, hotkey, coldkey } => {
            let count: u16 = writer.view().of_subnet(Item::SubnetworkN, netuid);
            let is_member = writer.view().uid(netuid, hotkey.as_bytes()).is_some();
            if *uid < count && !is_member {
                writer.replace_neuron(netuid, *uid, hotkey.as_bytes(), block);
                writer.create_hotkey_account(hotkey.as_bytes(), coldkey);
            }
        }
    }
}

fn send(watcher: &StatusSender, status: Status) {
    if watcher.send(status).is_err() {
        tracing::trace!(?status, "watcher has left");
    }
}
