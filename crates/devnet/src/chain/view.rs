//! Typed reads and writes of the pallet's storage items.

use parity_scale_codec::{Decode, Encode};

use super::names::Item;
use super::runtime::Runtime;
use super::state::{Overlay, Storage};
use super::types::{Account, AccountInfo, AxonInfo, NeuronInfoLite, PrometheusInfo};

/// Typed reads at one block.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// The runtime, for keys and defaults.
    pub(super) runtime: &'a Runtime,
    /// Where to read.
    pub(super) storage: &'a dyn Storage,
}

impl<'a> View<'a> {
    /// Reads at `storage`.
    pub(super) fn new(runtime: &'a Runtime, storage: &'a dyn Storage) -> Self {
        Self { runtime, storage }
    }

    /// Returns the stored value, without the metadata's default.
    pub(super) fn stored<T: Decode>(&self, item: Item, parts: &[&[u8]]) -> Option<T> {
        let bytes = self.storage.get(&self.runtime.key(item, parts))?;
        let value = T::decode(&mut &bytes[..]);
        debug_assert!(value.is_ok(), "{item:?} holds bytes of another type");
        value.ok()
    }

    /// Returns the stored value, the metadata's default, or the type's zero.
    pub(super) fn value<T: Decode + Default>(&self, item: Item, parts: &[&[u8]]) -> T {
        self.stored(item, parts).unwrap_or_else(|| {
            let default = self.runtime.default_value(item);
            default.and_then(|bytes| T::decode(&mut &bytes[..]).ok()).unwrap_or_default()
        })
    }

    /// Returns a value that each subnet has.
    pub(super) fn of_subnet<T: Decode + Default>(&self, item: Item, netuid: u16) -> T {
        self.value(item, &[&netuid.encode()])
    }

    /// Returns one entry of a subnet's column, zero where the column is too short.
    pub(super) fn of_uid<T: Decode + Default + Copy>(
        &self,
        item: Item,
        netuid: u16,
        uid: u16,
    ) -> T {
        entry(&self.of_subnet::<Vec<T>>(item, netuid), uid)
    }

    /// Says whether the subnet exists.
    pub(super) fn subnet_exists(&self, netuid: u16) -> bool {
        self.of_subnet(Item::NetworksAdded, netuid)
    }

    /// Returns the uid of a hotkey.
    pub(super) fn uid(&self, netuid: u16, hotkey: &Account) -> Option<u16> {
        self.stored(Item::Uids, &[&netuid.encode(), hotkey])
    }

    /// Returns the hotkey at a uid.
    pub(super) fn hotkey(&self, netuid: u16, uid: u16) -> Option<Account> {
        self.stored(Item::Keys, &[&netuid.encode(), &uid.encode()])
    }

    /// Returns the stake of a hotkey on the subnet, alpha RAO.
    pub(super) fn stake(&self, netuid: u16, hotkey: &Account) -> u64 {
        self.value(Item::TotalHotkeyAlpha, &[hotkey, &netuid.encode()])
    }

    /// Returns where a hotkey serves; all zero when it does not.
    pub(super) fn axon(&self, netuid: u16, hotkey: &Account) -> AxonInfo {
        self.stored(Item::Axons, &[&netuid.encode(), hotkey]).unwrap_or_default()
    }

    /// Returns where a hotkey serves its metrics; all zero when it does not.
    pub(super) fn prometheus(&self, netuid: u16, hotkey: &Account) -> PrometheusInfo {
        self.stored(Item::Prometheus, &[&netuid.encode(), hotkey]).unwrap_or_default()
    }

    /// Returns the weights that a uid has set.
    pub(super) fn weights(&self, netuid: u16, uid: u16) -> Vec<(u16, u16)> {
        self.value(Item::Weights, &[&netuid.encode(), &uid.encode()])
    }

    /// Returns nonce and balance of an account.
    pub(super) fn account(&self, account: &Account) -> AccountInfo {
        self.stored(Item::Account, &[account]).unwrap_or_else(|| {
            let default = self.runtime.default_value(Item::Account).unwrap_or_default();
            AccountInfo::decode(&mut &*default).unwrap_or(AccountInfo {
                nonce: 0,
                consumers: 0,
                providers: 0,
                sufficients: 0,
                free: 0,
                reserved: 0,
                frozen: 0,
                flags: 1 << 127,
            })
        })
    }

    /// Returns the row of a uid as the runtime API gives it.
    pub(super) fn neuron_lite(&self, netuid: u16, uid: u16) -> Option<NeuronInfoLite> {
        Columns::read(self, netuid).row(self, netuid, uid)
    }

    /// Returns all rows of a subnet, by uid.
    pub(super) fn neurons_lite(&self, netuid: u16) -> Vec<NeuronInfoLite> {
        let columns = Columns::read(self, netuid);
        let count: u16 = self.of_subnet(Item::SubnetworkN, netuid);
        (0..count).filter_map(|uid| columns.row(self, netuid, uid)).collect()
    }
}

/// The columns of a subnet, decoded once for all rows.
struct Columns {
    active: Vec<bool>,
    rank: Vec<u16>,
    emission: Vec<u64>,
    incentive: Vec<u16>,
    consensus: Vec<u16>,
    trust: Vec<u16>,
    validator_trust: Vec<u16>,
    dividends: Vec<u16>,
    last_update: Vec<u64>,
    validator_permit: Vec<bool>,
    pruning_score: Vec<u16>,
}

impl Columns {
    fn read(view: &View<'_>, netuid: u16) -> Self {
        Self {
            active: view.of_subnet(Item::Active, netuid),
            rank: view.of_subnet(Item::Rank, netuid),
            emission: view.of_subnet(Item::Emission, netuid),
            incentive: view.of_subnet(Item::Incentive, netuid),
            consensus: view.of_subnet(Item::Consensus, netuid),
            trust: view.of_subnet(Item::Trust, netuid),
            validator_trust: view.of_subnet(Item::ValidatorTrust, netuid),
            dividends: view.of_subnet(Item::Dividends, netuid),
            last_update: view.of_subnet(Item::LastUpdate, netuid),
            validator_permit: view.of_subnet(Item::ValidatorPermit, netuid),
            pruning_score: view.of_subnet(Item::PruningScores, netuid),
        }
    }

    fn row(&self, view: &View<'_>, netuid: u16, uid: u16) -> Option<NeuronInfoLite> {
        let hotkey = view.hotkey(netuid, uid)?;
        let coldkey: Account = view.value(Item::Owner, &[&hotkey]);
        Some(NeuronInfoLite {
            hotkey,
            coldkey,
            uid,
            netuid,
            active: entry(&self.active, uid),
            axon_info: view.axon(netuid, &hotkey),
            prometheus_info: view.prometheus(netuid, &hotkey),
            stake: vec![(coldkey, view.stake(netuid, &hotkey).into())],
            rank: entry(&self.rank, uid),
            emission: entry(&self.emission, uid),
            incentive: entry(&self.incentive, uid),
            consensus: entry(&self.consensus, uid),
            trust: entry(&self.trust, uid),
            validator_trust: entry(&self.validator_trust, uid),
            dividends: entry(&self.dividends, uid),
            last_update: entry(&self.last_update, uid),
            validator_permit: entry(&self.validator_permit, uid),
            pruning_score: entry(&self.pruning_score, uid),
        })
    }
}

/// Returns a column's entry, zero where the column is too short.
fn entry<T: Copy + Default>(column: &[T], uid: u16) -> T {
    column.get(usize::from(uid)).copied().unwrap_or_default()
}

/// Typed writes into the block that is being made.
pub(super) struct Writer<'a, 's> {
    /// The runtime, for keys.
    pub(super) runtime: &'a Runtime,
    /// Where to write.
    pub(super) overlay: &'a mut Overlay<'s>,
}

impl Writer<'_, '_> {
    /// Returns the reads of the same state.
    pub(super) fn view(&self) -> View<'_> {
        View::new(self.runtime, self.overlay)
    }

    /// Writes a value.
    pub(super) fn put(&mut self, item: Item, parts: &[&[u8]], value: &impl Encode) {
        self.overlay.put(self.runtime.key(item, parts), value.encode());
    }

    /// Removes a value.
    pub(super) fn remove(&mut self, item: Item, parts: &[&[u8]]) {
        self.overlay.remove(self.runtime.key(item, parts));
    }

    /// Writes a value that each subnet has.
    pub(super) fn put_of_subnet(&mut self, item: Item, netuid: u16, value: &impl Encode) {
        self.put(item, &[&netuid.encode()], value);
    }

    /// Writes one entry of a subnet's column, growing the column with zeros up to it.
    pub(super) fn put_of_uid<T: Encode + Decode + Default + Clone>(
        &mut self,
        item: Item,
        netuid: u16,
        uid: u16,
        value: T,
    ) {
        let mut column: Vec<T> = self.view().of_subnet(item, netuid);
        if column.len() <= usize::from(uid) {
            column.resize(usize::from(uid) + 1, T::default());
        }
        if let Some(entry) = column.get_mut(usize::from(uid)) {
            *entry = value;
        }
        self.put_of_subnet(item, netuid, &column);
    }
}
