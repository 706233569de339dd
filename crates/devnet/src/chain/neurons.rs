//! Slots of the subnet: giving a uid to a hotkey, replacing it, taking it away.

use parity_scale_codec::Encode;

use super::names::Item;
use super::types::Account;
use super::view::Writer;

/// Pruning score of a fresh neuron, as newer runtimes give to all.
const FRESH_PRUNING_SCORE: u16 = u16::MAX;

impl Writer<'_, '_> {
    /// Makes `coldkey` the owner of `hotkey` if the hotkey has none yet.
    pub(super) fn create_hotkey_account(&mut self, hotkey: &Account, coldkey: &Account) {
        if self.view().stored::<Account>(Item::Owner, &[hotkey]).is_some() {
            return;
        }
        self.put(Item::Owner, &[hotkey], coldkey);
        let mut owned: Vec<Account> = self.view().value(Item::OwnedHotkeys, &[coldkey]);
        if !owned.contains(hotkey) {
            owned.push(*hotkey);
            self.put(Item::OwnedHotkeys, &[coldkey], &owned);
        }
    }

    /// Gives the next free uid to `hotkey` and returns it.
    pub(super) fn append_neuron(&mut self, netuid: u16, hotkey: &Account, block: u64) -> u16 {
        let uid: u16 = self.view().of_subnet(Item::SubnetworkN, netuid);
        self.put_of_subnet(Item::SubnetworkN, netuid, &uid.saturating_add(1));
        self.fill_slot(netuid, uid, hotkey, block);
        uid
    }

    /// Gives the uid of the neuron that sits there now to `hotkey`. Nothing of the old neuron's
    /// score, weights or address stays.
    pub(super) fn replace_neuron(&mut self, netuid: u16, uid: u16, hotkey: &Account, block: u64) {
        let old_hotkey = self.view().hotkey(netuid, uid);
        if let Some(old_hotkey) = old_hotkey {
            self.remove(Item::Uids, &[&netuid.encode(), &old_hotkey]);
            self.remove(Item::IsNetworkMember, &[&old_hotkey, &netuid.encode()]);
            self.remove(Item::Axons, &[&netuid.encode(), &old_hotkey]);
            self.remove(Item::Prometheus, &[&netuid.encode(), &old_hotkey]);
        }
        self.remove(Item::Weights, &[&netuid.encode(), &uid.encode()]);
        self.fill_slot(netuid, uid, hotkey, block);
    }

    /// Writes the columns of a neuron that has just come.
    fn fill_slot(&mut self, netuid: u16, uid: u16, hotkey: &Account, block: u64) {
        self.put(Item::Keys, &[&netuid.encode(), &uid.encode()], hotkey);
        self.put(Item::Uids, &[&netuid.encode(), hotkey], &uid);
        self.put(Item::BlockAtRegistration, &[&netuid.encode(), &uid.encode()], &block);
        self.put(Item::IsNetworkMember, &[hotkey, &netuid.encode()], &true);
        self.put_of_uid(Item::Active, netuid, uid, true);
        self.put_of_uid(Item::LastUpdate, netuid, uid, block);
        self.put_of_uid(Item::PruningScores, netuid, uid, FRESH_PRUNING_SCORE);
        self.put_of_uid(Item::ValidatorPermit, netuid, uid, false);
        self.put_of_uid(Item::Emission, netuid, uid, 0_u64);
        for item in [
            Item::Rank,
            Item::Trust,
            Item::ValidatorTrust,
            Item::Consensus,
            Item::Incentive,
            Item::Dividends,
        ] {
            self.put_of_uid(item, netuid, uid, 0_u16);
        }
    }

    /// Adds to the free balance of an account, RAO; an account without any gains its provider.
    pub(super) fn deposit(&mut self, account: &Account, amount_rao: u64) {
        let mut info = self.view().account(account);
        info.free = info.free.saturating_add(amount_rao);
        if info.free >= self.runtime.existential_deposit() {
            info.providers = info.providers.max(1);
        }
        self.put(Item::Account, &[account], &info);
    }

    /// Returns the uid that a new neuron takes on a full subnet: the one with the least emission
    /// among those past their immunity period, the oldest on a tie.
    pub(super) fn uid_to_replace(&self, netuid: u16, block: u64) -> Option<u16> {
        let view = self.view();
        let count: u16 = view.of_subnet(Item::SubnetworkN, netuid);
        let immunity_blocks: u16 = view.of_subnet(Item::ImmunityPeriod, netuid);
        let owner: Account = view.of_subnet(Item::SubnetOwnerHotkey, netuid);
        (0..count)
            .filter(|uid| view.hotkey(netuid, *uid) != Some(owner))
            .filter_map(|uid| {
                let registered: u64 =
                    view.value(Item::BlockAtRegistration, &[&netuid.encode(), &uid.encode()]);
                let is_immune = block.saturating_sub(registered) < u64::from(immunity_blocks);
                let emission: u64 = view.of_uid(Item::Emission, netuid, uid);
                (!is_immune).then_some((emission, registered, uid))
            })
            .min()
            .map(|(_, _, uid)| uid)
    }
}
