//! What happens in a block before its transactions: counters, and once a tempo the epoch.
//!
//! The epoch is *not* Yuma consensus. It shares with it the stake-weighted clipping at kappa, so that
//! incentive, consensus, validator trust and dividends behave as a reader expects: agreement of the
//! stake majority pays, an outlier validator loses trust. It has no bonds, no liquid alpha, no child
//! keys; emission is written to the columns but not credited to stake; permits stay as they were
//! given at registration or genesis.

use super::names::Item;
use super::types::Account;
use super::view::{View, Writer};

/// Alpha that a subnet emits in a block, RAO.
const ALPHA_PER_BLOCK_RAO: u64 = 1_000_000_000;
/// Share of the emission that goes to miners, and the same to validators; the rest is the owner's.
const MINER_SHARE: f64 = 0.41;

/// Runs the hooks of `block` for a subnet.
pub(super) fn on_initialize(writer: &mut Writer<'_, '_>, netuid: u16, block: u64) {
    let view = writer.view();
    let registrations: u16 = view.of_subnet(Item::RegistrationsThisBlock, netuid);
    let last_adjustment: u64 = view.of_subnet(Item::LastAdjustmentBlock, netuid);
    let interval: u16 = view.of_subnet(Item::AdjustmentInterval, netuid);
    let tempo: u16 = view.of_subnet(Item::Tempo, netuid);
    let since_last_step: u64 = view.of_subnet(Item::BlocksSinceLastStep, netuid);
    if registrations > 0 {
        writer.put_of_subnet(Item::RegistrationsThisBlock, netuid, &0_u16);
    }
    if block.saturating_sub(last_adjustment) >= u64::from(interval) {
        writer.put_of_subnet(Item::LastAdjustmentBlock, netuid, &block);
        writer.put_of_subnet(Item::RegistrationsThisInterval, netuid, &0_u16);
        writer.put_of_subnet(Item::BurnRegistrationsThisInterval, netuid, &0_u16);
    }
    if is_epoch_block(netuid, tempo, block) {
        run_epoch(writer, netuid, tempo, block);
        writer.put_of_subnet(Item::BlocksSinceLastStep, netuid, &0_u64);
        writer.put_of_subnet(Item::LastMechansimStepBlock, netuid, &block);
    } else {
        writer.put_of_subnet(Item::BlocksSinceLastStep, netuid, &since_last_step.saturating_add(1));
    }
}

/// Says whether the subnet's epoch runs in `block`: when (block + netuid + 1) mod (tempo + 1) = 0.
pub(super) fn is_epoch_block(netuid: u16, tempo: u16, block: u64) -> bool {
    tempo > 0 && (block + u64::from(netuid) + 1).is_multiple_of(u64::from(tempo) + 1)
}

fn run_epoch(writer: &mut Writer<'_, '_>, netuid: u16, tempo: u16, block: u64) {
    let view = writer.view();
    let count: u16 = view.of_subnet(Item::SubnetworkN, netuid);
    let cutoff_blocks: u16 = view.of_subnet(Item::ActivityCutoff, netuid);
    let kappa = f64::from(view.of_subnet::<u16>(Item::Kappa, netuid)) / f64::from(u16::MAX);
    let last_updates: Vec<u64> = view.of_subnet(Item::LastUpdate, netuid);
    let active: Vec<bool> = last_updates
        .iter()
        .map(|last_update| last_update.saturating_add(u64::from(cutoff_blocks)) >= block)
        .collect();
    let validators = validators(view, netuid, count, &active);
    let outcome = outcome(&validators, usize::from(count), kappa);

    let emitted = ALPHA_PER_BLOCK_RAO as f64 * f64::from(tempo.saturating_add(1)) * MINER_SHARE;
    let emission: Vec<u64> = outcome
        .incentive
        .iter()
        .zip(&outcome.dividends)
        .map(|(incentive, dividend)| to_rao((incentive + dividend) * emitted))
        .collect();
    writer.put_of_subnet(Item::Active, netuid, &active);
    writer.put_of_subnet(Item::Incentive, netuid, &to_u16(&outcome.incentive));
    writer.put_of_subnet(Item::Consensus, netuid, &to_u16(&outcome.consensus));
    writer.put_of_subnet(Item::Dividends, netuid, &to_u16(&outcome.dividends));
    writer.put_of_subnet(Item::ValidatorTrust, netuid, &to_u16(&outcome.validator_trust));
    writer.put_of_subnet(Item::Emission, netuid, &emission);
}

/// A validator that takes part in the epoch.
struct Validator {
    uid: usize,
    /// Share of the taking-part stake.
    stake: f64,
    /// Share of its weight by uid, its own left out; sums to 1.
    weights: Vec<f64>,
}

fn validators(view: View<'_>, netuid: u16, count: u16, active: &[bool]) -> Vec<Validator> {
    let permits: Vec<bool> = view.of_subnet(Item::ValidatorPermit, netuid);
    let mut found = Vec::new();
    for ((uid, has_permit), is_active) in (0..count).zip(permits).zip(active) {
        if !has_permit || !is_active {
            continue;
        }
        let index = usize::from(uid);
        let hotkey: Account = view.hotkey(netuid, uid).unwrap_or_default();
        let mut weights = vec![0.0; usize::from(count)];
        for (target, weight) in view.weights(netuid, uid) {
            if target != uid
                && let Some(entry) = weights.get_mut(usize::from(target))
            {
                *entry = f64::from(weight);
            }
        }
        let sum: f64 = weights.iter().sum();
        let stake = view.stake(netuid, &hotkey) as f64;
        if sum > 0.0 && stake > 0.0 {
            for weight in &mut weights {
                *weight /= sum;
            }
            found.push(Validator { uid: index, stake, weights });
        }
    }
    let total: f64 = found.iter().map(|validator| validator.stake).sum();
    for validator in &mut found {
        validator.stake /= total;
    }
    found
}

/// Columns of an epoch; each is zero or sums to 1, but for consensus and trust, which lie in 0..1.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    incentive: Vec<f64>,
    consensus: Vec<f64>,
    dividends: Vec<f64>,
    validator_trust: Vec<f64>,
}

fn outcome(validators: &[Validator], count: usize, kappa: f64) -> Outcome {
    let mut result = Outcome {
        incentive: vec![0.0; count],
        consensus: vec![0.0; count],
        dividends: vec![0.0; count],
        validator_trust: vec![0.0; count],
    };
    for uid in 0..count {
        let consensus = majority_weight(validators, uid, kappa);
        let rank: f64 = validators
            .iter()
            .map(|validator| validator.stake * validator.weights[uid].min(consensus))
            .sum();
        result.consensus[uid] = consensus;
        result.incentive[uid] = rank;
    }
    normalise(&mut result.incentive);
    for validator in validators {
        let clipped = |uid: usize| validator.weights[uid].min(result.consensus[uid]);
        let trust: f64 = (0..count).map(clipped).sum();
        let earned: f64 = (0..count).map(|uid| clipped(uid) * result.incentive[uid]).sum();
        result.validator_trust[validator.uid] = trust;
        result.dividends[validator.uid] = validator.stake * earned;
    }
    normalise(&mut result.dividends);
    result
}

/// Returns the largest weight for `uid` that validators with more than `kappa` of the stake give.
fn majority_weight(validators: &[Validator], uid: usize, kappa: f64) -> f64 {
    let mut given: Vec<(f64, f64)> =
        validators.iter().map(|validator| (validator.weights[uid], validator.stake)).collect();
    given.sort_by(|left, right| right.0.total_cmp(&left.0));
    let mut support = 0.0;
    for (weight, stake) in given {
        support += stake;
        if support > kappa {
            return weight;
        }
    }
    0.0
}

fn normalise(values: &mut [f64]) {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        for value in values.iter_mut() {
            *value /= sum;
        }
    }
}

fn to_u16(shares: &[f64]) -> Vec<u16> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..1")]
    let convert = |share: &f64| (share.clamp(0.0, 1.0) * f64::from(u16::MAX)) as u16;
    shares.iter().map(convert).collect()
}

fn to_rao(amount: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let rao = amount.max(0.0) as u64;
    rao
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validator(uid: usize, stake: f64, weights: &[f64]) -> Validator {
        Validator { uid, stake, weights: weights.to_vec() }
    }

    #[test]
    fn epochs_run_every_tempo_plus_one_blocks() {
        let epochs: Vec<u64> = (0..60).filter(|block| is_epoch_block(8, 20, *block)).collect();
        assert_eq!(epochs, [12, 33, 54]);
        assert!(!is_epoch_block(8, 0, 5));
    }

    #[test]
    fn one_validator_pays_by_its_weights() {
        let result = outcome(&[validator(0, 1.0, &[0.0, 0.75, 0.25])], 3, 0.5);
        assert_eq!(result.incentive, [0.0, 0.75, 0.25]);
        assert_eq!(result.validator_trust, [1.0, 0.0, 0.0]);
        assert_eq!(result.dividends, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_minority_cannot_pay_its_friend() {
        let honest = [0.0, 0.0, 1.0, 0.0];
        let selfish = [0.0, 0.0, 0.0, 1.0];
        let result = outcome(&[validator(0, 0.7, &honest), validator(1, 0.3, &selfish)], 4, 0.5);
        assert_eq!(result.incentive, [0.0, 0.0, 1.0, 0.0]);
        assert_eq!(result.validator_trust, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(result.dividends, [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn without_weights_everything_is_zero() {
        let result = outcome(&[], 2, 0.5);
        assert_eq!(result.incentive, [0.0, 0.0]);
        assert_eq!(result.dividends, [0.0, 0.0]);
    }
}
