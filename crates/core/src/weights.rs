//! From moving averages to the weights that a validator sets on the chain.
//!
//! `Standard`: `w = ((1 + x)^λ − 1) / ((1 + x_max)^λ − 1)`, the Yeo-Johnson transform relative to the
//! best miner, computed through exponents of differences so that nothing overflows. It is zero for
//! an average of zero, rises with the average and never gives NaN. `Seed`: the reference's pass,
//! which sends nothing for one miner, zeros for equal miners and fails above an average of 0.426.

use crate::ema::EmaState;
use crate::hotkey::Hotkey;
use crate::ids::Uid;
use crate::numeric::{mean_and_deviation, pairwise_sum};
use crate::seed;
use crate::settings::{Compatibility, WeightConfig};

/// Largest weight on the chain.
const FULL_WEIGHT: f64 = 65_535.0;

/// Returns the Yeo-Johnson transform of `x` with a fixed λ.
///
/// May overflow to infinity for large λ; [`weight_shares`] does not.
/// Golden data: `weights/yeojohnson.json`, 1e-10 relative.
pub fn yeo_johnson(x: f64, lambda: f64) -> f64 {
    if x >= 0.0 {
        if lambda.abs() < f64::EPSILON {
            return libm::log1p(x);
        }
        return libm::expm1(lambda * libm::log1p(x)) / lambda;
    }
    let mirrored = 2.0 - lambda;
    if mirrored.abs() > f64::EPSILON {
        -libm::expm1(mirrored * libm::log1p(-x)) / mirrored
    } else {
        -libm::log1p(-x)
    }
}

/// Returns the weight of each hotkey that gets one, in the order of `ema`.
///
/// `Standard`: finite, above zero, sum 1 within rounding; a better average never has the lower
/// weight. Empty when no average is above zero (or a stored number or setting is unusable): then
/// nothing must be sent. `Seed`: 0..1 by min-max as the reference sends them, empty when its pass
/// fails.
pub fn weight_shares(ema: &EmaState, config: &WeightConfig) -> Vec<(Hotkey, f64)> {
    if config.validate().is_err() {
        return Vec::new();
    }
    let averages: Vec<(Hotkey, f64)> =
        ema.0.iter().map(|(hotkey, entry)| (*hotkey, entry.value)).collect();
    match config.compatibility {
        Compatibility::Standard => standard_shares(&averages, config),
        Compatibility::Seed => seed::weights::weight_pass(&averages).scaled.unwrap_or_default(),
    }
}

fn standard_shares(averages: &[(Hotkey, f64)], config: &WeightConfig) -> Vec<(Hotkey, f64)> {
    if averages.iter().any(|(_, value)| !value.is_finite()) {
        return Vec::new();
    }
    // Sorted, so that the result does not depend on the order of the map.
    let mut values: Vec<f64> = averages.iter().map(|(_, value)| value.max(0.0)).collect();
    values.sort_unstable_by(f64::total_cmp);
    let best = values.last().copied().unwrap_or(0.0);
    let (mean, deviation) = mean_and_deviation(&values);
    if best <= 0.0 || !mean.is_finite() || mean <= 0.0 || !deviation.is_finite() {
        return Vec::new();
    }
    // Rounding of the mean must not decide whether equal miners are kept: the best always is.
    let bound = (mean - config.filter_deviations * deviation).min(best * (1.0 - 1e-9));
    let lambda = if config.reference_mean > 0.0 {
        config.lambda * (config.reference_mean / mean)
    } else {
        config.lambda
    };
    let top = lambda * libm::log1p(best);
    let scaled: Vec<(Hotkey, f64)> = averages
        .iter()
        .filter(|(_, value)| *value > 0.0 && *value > bound)
        .map(|(hotkey, value)| (*hotkey, relative_weight(lambda * libm::log1p(*value), top)))
        .filter(|(_, weight)| *weight > 0.0)
        .collect();
    let mut parts: Vec<f64> = scaled.iter().map(|(_, weight)| *weight).collect();
    parts.sort_unstable_by(f64::total_cmp);
    let total = pairwise_sum(&parts);
    scaled.into_iter().map(|(hotkey, weight)| (hotkey, weight / total)).collect()
}

/// (e^`exponent` − 1) / (e^`top` − 1) for 0 < `exponent` <= `top`, without computing either power.
fn relative_weight(exponent: f64, top: f64) -> f64 {
    if !top.is_finite() {
        return if exponent.is_finite() { 0.0 } else { 1.0 };
    }
    let falls_short = libm::exp(exponent - top);
    (falls_short * (libm::expm1(-exponent) / libm::expm1(-top))).clamp(0.0, 1.0)
}

/// Looks the hotkeys up in the metagraph; those that are not registered are left out.
pub fn assign_uids(shares: &[(Hotkey, f64)], metagraph: &[(Hotkey, Uid)]) -> Vec<(Uid, f64)> {
    let uids: indexmap::IndexMap<&Hotkey, Uid> =
        metagraph.iter().map(|(hotkey, uid)| (hotkey, *uid)).collect();
    shares.iter().filter_map(|(hotkey, share)| Some((*uids.get(hotkey)?, *share))).collect()
}

/// Returns the integers for the chain: relative to the greatest weight, times 65535, rounded half
/// to even, zeros dropped, in the order given.
///
/// Weights that are negative, NaN or infinite are left out; an empty result must not be sent.
pub fn to_u16(weights: &[(Uid, f64)]) -> Vec<(Uid, u16)> {
    let usable = |weight: f64| weight.is_finite() && weight > 0.0;
    let greatest =
        weights.iter().map(|(_, weight)| *weight).filter(|w| usable(*w)).fold(0.0, f64::max);
    let mut result = Vec::with_capacity(weights.len());
    for (uid, weight) in weights.iter().filter(|(_, weight)| usable(*weight)) {
        let scaled = (weight / greatest * FULL_WEIGHT).round_ties_even();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number in 0..=65535 by construction"
        )]
        let value = scaled as u16;
        if value > 0 {
            result.push((*uid, value));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ema::EmaEntry;

    fn state(values: &[f64]) -> EmaState {
        let entry = |value| EmaEntry { value, rounds: 1, registered_at_block: 0 };
        EmaState(
            (0_u8..).zip(values).map(|(i, v)| (Hotkey::from_bytes([i; 32]), entry(*v))).collect(),
        )
    }

    fn standard(values: &[f64]) -> Vec<f64> {
        let shares = weight_shares(&state(values), &WeightConfig::default());
        shares.into_iter().map(|(_, share)| share).collect()
    }

    #[test]
    fn one_equal_zero_and_no_miners_have_defined_weights() {
        assert_eq!(standard(&[]), Vec::<f64>::new());
        assert_eq!(standard(&[0.0, 0.0]), Vec::<f64>::new());
        assert_eq!(standard(&[0.004]), [1.0]);
        for value in [1e-300, 0.001, 0.1, 0.9, 1.0] {
            assert_eq!(standard(&[value; 4]), [0.25; 4], "{value}");
        }
        // Three times 0.1 has a mean that is not 0.1.
        assert_eq!(standard(&[0.1; 3]).len(), 3);
    }

    #[test]
    fn averages_above_the_overflow_of_the_reference_are_weighed() {
        for config in [
            WeightConfig::default(),
            WeightConfig { reference_mean: 0.0, ..WeightConfig::default() },
        ] {
            let shares = weight_shares(&state(&[0.9, 0.89999, 0.5]), &config);
            assert!(shares.iter().all(|(_, share)| share.is_finite()));
            assert!(shares[0].1 > shares[1].1);
        }
        assert!(yeo_johnson(0.9, 2000.0).is_infinite());
    }

    #[test]
    fn few_miners_do_not_turn_into_winner_takes_all() {
        let weights = standard(&[0.55, 0.42, 0.03]);
        let integers = to_u16(&[(Uid(0), weights[0]), (Uid(1), weights[1])]);
        assert_eq!(integers.len(), 2, "the second of three is paid: {weights:?}");
    }

    #[test]
    fn a_nan_in_the_state_sends_nothing() {
        assert!(standard(&[0.1, f64::NAN]).is_empty());
        assert!(
            weight_shares(
                &state(&[0.1]),
                &WeightConfig { lambda: f64::NAN, ..WeightConfig::default() }
            )
            .is_empty()
        );
    }

    #[test]
    fn integers_are_scaled_to_the_greatest_and_zeros_dropped() {
        let weights = [(Uid(3), 0.5), (Uid(1), 0.25), (Uid(9), 1e-9), (Uid(2), f64::NAN)];
        assert_eq!(to_u16(&weights), [(Uid(3), 65_535), (Uid(1), 32_768)]);
        assert_eq!(to_u16(&[(Uid(0), 0.0), (Uid(1), -1.0)]), []);
        // 0.5 / 65535 lies half-way between 0 and 1: to even, so dropped.
        assert_eq!(to_u16(&[(Uid(0), 131_070.0), (Uid(1), 1.0)]), [(Uid(0), 65_535)]);
    }

    #[test]
    fn unregistered_hotkeys_get_no_uid() {
        let keys = [Hotkey::from_bytes([1; 32]), Hotkey::from_bytes([2; 32])];
        let got = assign_uids(&[(keys[0], 0.4), (keys[1], 0.6)], &[(keys[1], Uid(17))]);
        assert_eq!(got, [(Uid(17), 0.6)]);
    }

    proptest! {
        #[test]
        fn weights_are_finite_sum_to_one_and_rise_with_the_average(
            values in prop::collection::vec(0.0..1.0_f64, 1..256),
            lambda in 1.0..100_000.0_f64,
            reference_mean in 0.0..1.0_f64,
        ) {
            let config = WeightConfig { lambda, reference_mean, ..WeightConfig::default() };
            let ema = state(&values);
            let shares = weight_shares(&ema, &config);
            let total: f64 = shares.iter().map(|(_, share)| share).sum();
            prop_assert!(shares.is_empty() || (total - 1.0).abs() < 1e-9);
            let share_of = |hotkey: &Hotkey| {
                shares.iter().find(|(key, _)| key == hotkey).map_or(0.0, |(_, share)| *share)
            };
            let mut board = ema.leader_board();
            board.reverse();
            for pair in board.windows(2) {
                let (low, high) = (share_of(&pair[0].0), share_of(&pair[1].0));
                prop_assert!(low.is_finite() && high.is_finite());
                prop_assert!(high >= low * (1.0 - 1e-12), "{low} {high}");
            }
        }

        #[test]
        fn no_state_whatever_gives_nan(values in prop::collection::vec(any::<f64>(), 0..20)) {
            for config in [WeightConfig::default(), WeightConfig::seed()] {
                for (_, share) in weight_shares(&state(&values), &config) {
                    prop_assert!(!share.is_nan());
                }
            }
        }
    }
}
