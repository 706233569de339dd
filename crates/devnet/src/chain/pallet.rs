//! What the calls do: the checks of the pallet in their real order, and their effects.

use parity_scale_codec::Encode;

use super::calls::{BatchMode, Call, ServeAxon, ServePrometheus, SetWeights};
use super::events::Events;
use super::names::{EventName, Fault, Item};
use super::runtime::Runtime;
use super::state::Overlay;
use super::types::{Account, AxonInfo, PrometheusInfo};
use super::view::{View, Writer};

/// The root network, which takes no weights and no burned registrations.
const ROOT_NETUID: u16 = 0;
/// Distance of the storage indices of two mechanisms of a subnet.
const MECHANISM_STRIDE: u16 = 4096;
/// Interval registrations above this multiple of the target are refused.
const REGISTRATIONS_PER_INTERVAL_FACTOR: u16 = 3;

/// A call on its way through a block.
pub(super) struct Dispatch<'a, 's> {
    /// The runtime.
    pub(super) runtime: &'a Runtime,
    /// The state of the block.
    pub(super) overlay: &'a mut Overlay<'s>,
    /// The events of the block.
    pub(super) events: &'a mut Events,
    /// Number of the block.
    pub(super) block: u64,
}

impl<'s> Dispatch<'_, 's> {
    /// Executes `call` as `signer`. A failing call leaves no change and no event.
    pub(super) fn call(&mut self, signer: &Account, call: &Call) -> Result<(), Fault> {
        self.overlay.begin();
        let events = self.events.len();
        let result = match call {
            Call::SetWeights(arguments) => self.set_weights(signer, arguments),
            Call::ServeAxon(arguments) => self.serve_axon(signer, arguments),
            Call::ServePrometheus(arguments) => self.serve_prometheus(signer, arguments),
            Call::BurnedRegister { netuid, hotkey } => {
                self.burned_register(signer, *netuid, hotkey)
            }
            Call::Batch { mode, calls } => self.batch(signer, *mode, calls),
        };
        if result.is_ok() {
            self.overlay.commit();
        } else {
            self.overlay.roll_back();
            self.events.truncate(events);
        }
        result
    }

    fn view(&self) -> View<'_> {
        View::new(self.runtime, self.overlay)
    }

    fn emit(&mut self, event: EventName, fields: &impl Encode) {
        self.events.emit(self.runtime, event, fields);
    }

    fn writer(&mut self) -> Writer<'_, 's> {
        Writer { runtime: self.runtime, overlay: self.overlay }
    }

    fn batch(&mut self, signer: &Account, mode: BatchMode, calls: &[Call]) -> Result<(), Fault> {
        let mut has_failed = false;
        for (index, call) in (0_u32..).zip(calls) {
            match self.call(signer, call) {
                Ok(()) => self.emit(EventName::ItemCompleted, &()),
                Err(fault) => match mode {
                    BatchMode::AllOrNothing => return Err(fault),
                    BatchMode::StopAtFailure => {
                        let error = encode_fault(self.runtime, fault);
                        self.emit(EventName::BatchInterrupted, &(index, error));
                        return Ok(());
                    }
                    BatchMode::GoOn => {
                        has_failed = true;
                        let error = encode_fault(self.runtime, fault);
                        self.emit(EventName::ItemFailed, &error);
                    }
                },
            }
        }
        let end = if has_failed {
            EventName::BatchCompletedWithErrors
        } else {
            EventName::BatchCompleted
        };
        self.emit(end, &());
        Ok(())
    }

    fn set_weights(&mut self, hotkey: &Account, call: &SetWeights) -> Result<(), Fault> {
        let view = self.view();
        let netuid = call.netuid;
        let is_hidden: bool = view.of_subnet(Item::CommitRevealWeightsEnabled, netuid);
        ensure(!is_hidden, Fault::CommitRevealEnabled)?;
        ensure(netuid != ROOT_NETUID, Fault::CanNotSetRootNetworkWeights)?;
        ensure(call.uids.len() == call.values.len(), Fault::WeightVecNotEqualSize)?;
        ensure(view.subnet_exists(netuid), Fault::MechanismDoesNotExist)?;
        let mechanisms: u8 = view.of_subnet(Item::MechanismCountCurrent, netuid);
        ensure(call.mechanism < mechanisms, Fault::MechanismDoesNotExist)?;
        let neurons: u16 = view.of_subnet(Item::SubnetworkN, netuid);
        ensure(call.uids.len() <= usize::from(neurons), Fault::UidsLengthExceedUidsInSubNet)?;
        let uid = view.uid(netuid, hotkey).ok_or(Fault::HotKeyNotRegisteredInSubNet)?;
        ensure(has_min_stake(view, netuid, hotkey), Fault::NotEnoughStakeToSetWeights)?;
        let version_key: u64 = view.of_subnet(Item::WeightsVersionKey, netuid);
        ensure(
            version_key == 0 || call.version_key >= version_key,
            Fault::IncorrectWeightVersionKey,
        )?;
        let index = u16::from(call.mechanism) * MECHANISM_STRIDE + netuid;
        let last_update: u64 = view.of_uid(Item::LastUpdate, index, uid);
        let rate_limit: u64 = view.of_subnet(Item::WeightsSetRateLimit, netuid);
        ensure(
            last_update == 0 || self.block.saturating_sub(last_update) >= rate_limit,
            Fault::SettingWeightsTooFast,
        )?;
        let is_self_weight = call.uids == [uid];
        let owner: Account = view.of_subnet(Item::SubnetOwnerHotkey, netuid);
        let has_permit: bool = view.of_uid(Item::ValidatorPermit, netuid, uid);
        ensure(is_self_weight || has_permit || owner == *hotkey, Fault::NeuronNoValidatorPermit)?;
        let mut sorted = call.uids.clone();
        sorted.sort_unstable();
        ensure(sorted.windows(2).all(|pair| pair[0] != pair[1]), Fault::DuplicateUids)?;
        ensure(sorted.last().is_none_or(|last| *last < neurons), Fault::UidVecContainInvalidOne)?;
        let min_allowed: u16 = view.of_subnet(Item::MinAllowedWeights, netuid);
        ensure(
            is_self_weight || call.uids.len() >= usize::from(min_allowed.min(neurons)),
            Fault::WeightVecLengthIsLow,
        )?;
        let upscaled = max_upscale(&call.values);
        let max_limit: u16 = view.of_subnet(Item::MaxWeightsLimit, netuid);
        ensure(is_self_weight || is_max_limited(&upscaled, max_limit), Fault::MaxWeightExceeded)?;

        let weights: Vec<(u16, u16)> = call.uids.iter().copied().zip(upscaled).collect();
        let block = self.block;
        let mut writer = self.writer();
        writer.put(Item::Weights, &[&index.encode(), &uid.encode()], &weights);
        writer.put_of_uid(Item::LastUpdate, index, uid, block);
        self.emit(EventName::WeightsSet, &(index, uid));
        Ok(())
    }

    fn serve_axon(&mut self, hotkey: &Account, call: &ServeAxon) -> Result<(), Fault> {
        let view = self.view();
        ensure(view.subnet_exists(call.netuid), Fault::SubnetNotExists)?;
        check_serve_axon(view, hotkey, call, self.block)?;
        let axon = AxonInfo {
            block: self.block,
            version: call.version,
            ip: call.ip,
            port: call.port,
            ip_type: call.ip_type,
            protocol: call.protocol,
            placeholder1: call.placeholder1,
            placeholder2: call.placeholder2,
        };
        self.writer().put(Item::Axons, &[&call.netuid.encode(), hotkey], &axon);
        self.emit(EventName::AxonServed, &(call.netuid, hotkey));
        Ok(())
    }

    fn serve_prometheus(&mut self, hotkey: &Account, call: &ServePrometheus) -> Result<(), Fault> {
        let view = self.view();
        ensure(view.subnet_exists(call.netuid), Fault::SubnetNotExists)?;
        ensure(is_ip_type(call.ip_type), Fault::InvalidIpType)?;
        ensure(is_servable_ip(call.ip_type, call.ip), Fault::InvalidIpAddress)?;
        ensure(view.uid(call.netuid, hotkey).is_some(), Fault::HotKeyNotRegisteredInNetwork)?;
        let last = view.prometheus(call.netuid, hotkey).block;
        ensure(
            has_waited_to_serve(view, call.netuid, last, self.block),
            Fault::ServingRateLimitExceeded,
        )?;
        ensure(call.port != 0, Fault::InvalidPort)?;
        let prometheus = PrometheusInfo {
            block: self.block,
            version: call.version,
            ip: call.ip,
            port: call.port,
            ip_type: call.ip_type,
        };
        self.writer().put(Item::Prometheus, &[&call.netuid.encode(), hotkey], &prometheus);
        self.emit(EventName::PrometheusServed, &(call.netuid, hotkey));
        Ok(())
    }

    fn burned_register(
        &mut self,
        coldkey: &Account,
        netuid: u16,
        hotkey: &Account,
    ) -> Result<(), Fault> {
        let view = self.view();
        ensure(netuid != ROOT_NETUID, Fault::RegistrationNotPermittedOnRootSubnet)?;
        ensure(view.subnet_exists(netuid), Fault::SubnetNotExists)?;
        let is_open: bool = view.of_subnet(Item::NetworkRegistrationAllowed, netuid);
        ensure(is_open, Fault::SubNetRegistrationDisabled)?;
        let this_block: u16 = view.of_subnet(Item::RegistrationsThisBlock, netuid);
        let max_per_block: u16 = view.of_subnet(Item::MaxRegistrationsPerBlock, netuid);
        ensure(this_block < max_per_block, Fault::TooManyRegistrationsThisBlock)?;
        let this_interval: u16 = view.of_subnet(Item::RegistrationsThisInterval, netuid);
        ensure(
            has_interval_registrations_left(view, netuid),
            Fault::TooManyRegistrationsThisInterval,
        )?;
        ensure(view.uid(netuid, hotkey).is_none(), Fault::HotKeyAlreadyRegisteredInSubNet)?;
        let burn_rao: u64 = view.of_subnet(Item::Burn, netuid);
        let mut account = view.account(coldkey);
        let spendable = account.free.saturating_sub(self.runtime.existential_deposit());
        ensure(spendable >= burn_rao, Fault::NotEnoughBalanceToStake)?;
        let owner: Option<Account> = view.stored(Item::Owner, &[hotkey]);
        ensure(owner.is_none_or(|owner| owner == *coldkey), Fault::NonAssociatedColdKey)?;
        let neurons: u16 = view.of_subnet(Item::SubnetworkN, netuid);
        let max_neurons: u16 = view.of_subnet(Item::MaxAllowedUids, netuid);
        let burned: u16 = view.of_subnet(Item::BurnRegistrationsThisInterval, netuid);

        let block = self.block;
        let mut writer = self.writer();
        let uid = if neurons < max_neurons {
            writer.append_neuron(netuid, hotkey, block)
        } else {
            let uid = writer.uid_to_replace(netuid, block).ok_or(Fault::NoNeuronIdAvailable)?;
            writer.replace_neuron(netuid, uid, hotkey, block);
            uid
        };
        writer.create_hotkey_account(hotkey, coldkey);
        account.free -= burn_rao;
        writer.put(Item::Account, &[coldkey], &account);
        writer.put_of_subnet(Item::RegistrationsThisBlock, netuid, &(this_block + 1));
        writer.put_of_subnet(Item::RegistrationsThisInterval, netuid, &(this_interval + 1));
        writer.put_of_subnet(
            Item::BurnRegistrationsThisInterval,
            netuid,
            &burned.saturating_add(1),
        );
        self.emit(EventName::NeuronRegistered, &(netuid, uid, hotkey));
        Ok(())
    }
}

/// Says whether a hotkey has the stake that setting weights takes.
pub(super) fn has_min_stake(view: View<'_>, netuid: u16, hotkey: &Account) -> bool {
    view.stake(netuid, hotkey) >= view.value::<u64>(Item::StakeThreshold, &[])
}

/// Says whether the subnet takes one more burned registration in this interval.
pub(super) fn has_interval_registrations_left(view: View<'_>, netuid: u16) -> bool {
    let this_interval: u16 = view.of_subnet(Item::RegistrationsThisInterval, netuid);
    let target: u16 = view.of_subnet(Item::TargetRegistrationsPerInterval, netuid);
    this_interval < target.saturating_mul(REGISTRATIONS_PER_INTERVAL_FACTOR)
}

/// Checks a `serve_axon`; the pool asks the same before it takes the transaction.
pub(super) fn check_serve_axon(
    view: View<'_>,
    hotkey: &Account,
    call: &ServeAxon,
    block: u64,
) -> Result<(), Fault> {
    ensure(view.uid(call.netuid, hotkey).is_some(), Fault::HotKeyNotRegisteredInNetwork)?;
    ensure(is_ip_type(call.ip_type), Fault::InvalidIpType)?;
    ensure(is_servable_ip(call.ip_type, call.ip), Fault::InvalidIpAddress)?;
    let last = view.axon(call.netuid, hotkey).block;
    ensure(has_waited_to_serve(view, call.netuid, last, block), Fault::ServingRateLimitExceeded)?;
    ensure(call.port != 0, Fault::InvalidPort)
}

/// Returns the SCALE `DispatchError::Module` of a fault.
pub(super) fn encode_fault(runtime: &Runtime, fault: Fault) -> [u8; 6] {
    let [pallet, error] = runtime.fault(fault);
    [3, pallet, error, 0, 0, 0]
}

const fn ensure(condition: bool, fault: Fault) -> Result<(), Fault> {
    if condition { Ok(()) } else { Err(fault) }
}

const fn is_ip_type(ip_type: u8) -> bool {
    matches!(ip_type, 4 | 6)
}

/// Says whether the chain takes an address. It refuses zero, the broadcast address, everything
/// beyond 32 bits in version 4, and exactly 127.0.0.1 and `::1`: private ranges and the rest of
/// 127.0.0.0/8 pass.
pub(super) const fn is_servable_ip(ip_type: u8, ip: u128) -> bool {
    const IPV4_BROADCAST: u128 = 0xffff_ffff;
    const IPV4_LOCALHOST: u128 = 0x7f00_0001;
    const IPV6_LOCALHOST: u128 = 1;
    if ip == 0 {
        return false;
    }
    match ip_type {
        4 => ip < IPV4_BROADCAST && ip != IPV4_LOCALHOST,
        6 => ip != u128::MAX && ip != IPV6_LOCALHOST,
        _ => true,
    }
}

fn has_waited_to_serve(view: View<'_>, netuid: u16, last: u64, block: u64) -> bool {
    let limit: u64 = view.of_subnet(Item::ServingRateLimit, netuid);
    limit == 0 || last == 0 || block.saturating_sub(last) >= limit
}

/// Scales values so that the largest becomes 65535: proportional vectors become equal.
///
/// The order of multiplication and division is the chain's, in fixed point with 32 fractional bits,
/// so that the last bit agrees.
fn max_upscale(values: &[u16]) -> Vec<u16> {
    const HALF: u64 = 1 << 31;
    const DIVIDE_FIRST_ABOVE: u64 = 32_768;
    const TARGET: u64 = u16::MAX as u64;
    let max = u64::from(values.iter().copied().max().unwrap_or(0));
    if max == 0 {
        return values.to_vec();
    }
    values
        .iter()
        .map(|value| {
            let value = u64::from(*value);
            let scaled = if max > DIVIDE_FIRST_ABOVE {
                value * ((TARGET << 32) / max)
            } else {
                ((value * TARGET) << 32) / max
            };
            u16::try_from((scaled + HALF) >> 32).unwrap_or(u16::MAX)
        })
        .collect()
}

/// Says whether the largest share of the sum is within `max_limit` / 65535, in the chain's fixed
/// point.
fn is_max_limited(values: &[u16], max_limit: u16) -> bool {
    let sum: u64 = values.iter().map(|value| u64::from(*value)).sum();
    let max = u64::from(values.iter().copied().max().unwrap_or(0));
    let largest_share = (max << 32).checked_div(sum).unwrap_or(0);
    max_limit == u16::MAX || largest_share <= (u64::from(max_limit) << 32) / u64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_upscaled_as_on_the_real_runtime() {
        assert_eq!(max_upscale(&[100, 50, 1]), [65535, 32768, 655]);
        assert_eq!(max_upscale(&[65535, 32768, 1]), [65535, 32768, 1]);
        assert_eq!(max_upscale(&[0, 0]), [0, 0]);
        assert_eq!(max_upscale(&[]), [0; 0]);
        assert_eq!(max_upscale(&[2, 4, 6]), max_upscale(&[1, 2, 3]));
    }

    #[test]
    fn the_largest_share_is_limited() {
        assert!(is_max_limited(&[65535, 65535], 32768));
        assert!(!is_max_limited(&[65535, 65534], 32767));
        assert!(is_max_limited(&[65535], u16::MAX));
        assert!(is_max_limited(&[], 1));
    }
}
