//! The numbers that an operator may set for scoring and weights, with their ranges.

use serde::{Deserialize, Serialize};

/// Which behaviour is used where the reference subnet is known to be wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compatibility {
    /// The better behaviour.
    #[default]
    Standard,
    /// The reference subnet's behaviour, bit for bit, its faults included. For parity tests and
    /// for a validator that must agree with validators of the reference software.
    Seed,
}

/// Where the moving average of a hotkey begins that was never scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewMinerStart {
    /// At zero: standing has to be earned, and registering anew gains nothing.
    #[default]
    Zero,
    /// At the plain average of the known miners, as in the reference subnet.
    Average,
}

/// Settings of scoring and of the moving average.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScoringConfig {
    /// Which behaviour to use where the reference subnet is wrong.
    pub compatibility: Compatibility,
    /// Length of the moving average in rounds, `1..=100_000`; α = 2 / (length + 1).
    pub ema_length: u32,
    /// Start value of a new hotkey; `Seed` compatibility always uses the average.
    pub new_miner_start: NewMinerStart,
}

/// Settings of the transform from moving averages to weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeightConfig {
    /// Which behaviour to use where the reference subnet is wrong.
    pub compatibility: Compatibility,
    /// Exponent λ of the Yeo-Johnson transform, `1..=100_000`: larger pays the best more.
    pub lambda: f64,
    /// Mean average at which `lambda` applies as it stands, `0..=1`; λ is scaled by
    /// `reference_mean / mean`, so that few miners (large averages) do not turn the payment into
    /// "winner takes all". The default is the mean share in a full subnet of 250 miners; 0 turns
    /// the scaling off. `Seed` compatibility does not scale.
    pub reference_mean: f64,
    /// Miners must lie above mean − this many standard deviations, `0..=10`.
    pub filter_deviations: f64,
}

/// A setting outside of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("setting `{key}` is {value}, must be {allowed}")]
pub struct SettingError {
    /// Name of the key.
    pub key: &'static str,
    /// The refused value as text.
    pub value: String,
    /// The range, for people.
    pub allowed: &'static str,
}

impl Default for ScoringConfig {
    fn default() -> Self {
        Self {
            compatibility: Compatibility::Standard,
            ema_length: 48,
            new_miner_start: NewMinerStart::Zero,
        }
    }
}

impl Default for WeightConfig {
    fn default() -> Self {
        Self {
            compatibility: Compatibility::Standard,
            lambda: 2000.0,
            reference_mean: 0.004,
            filter_deviations: 1.5,
        }
    }
}

impl ScoringConfig {
    /// Returns the defaults with every behaviour of the reference subnet.
    pub fn seed() -> Self {
        Self {
            compatibility: Compatibility::Seed,
            new_miner_start: NewMinerStart::Average,
            ..Self::default()
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`SettingError`] for the first value outside of its range.
    pub fn validate(&self) -> Result<(), SettingError> {
        if (1..=100_000).contains(&self.ema_length) {
            return Ok(());
        }
        Err(SettingError {
            key: "ema_length",
            value: self.ema_length.to_string(),
            allowed: "1..=100000 rounds",
        })
    }
}

impl WeightConfig {
    /// Returns the defaults with every behaviour of the reference subnet.
    pub fn seed() -> Self {
        Self { compatibility: Compatibility::Seed, ..Self::default() }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`SettingError`] for the first value outside of its range; NaN is outside of every range.
    pub fn validate(&self) -> Result<(), SettingError> {
        let checks = [
            ("lambda", self.lambda, 1.0, 100_000.0, "1..=100000"),
            ("reference_mean", self.reference_mean, 0.0, 1.0, "0..=1"),
            ("filter_deviations", self.filter_deviations, 0.0, 10.0, "0..=10"),
        ];
        for (key, value, least, most, allowed) in checks {
            if !(least..=most).contains(&value) {
                return Err(SettingError { key, value: value.to_string(), allowed });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bad_values_are_named() {
        ScoringConfig::default().validate().unwrap();
        WeightConfig::default().validate().unwrap();
        let error = ScoringConfig { ema_length: 0, ..ScoringConfig::seed() }.validate();
        assert_eq!(
            error.unwrap_err().to_string(),
            "setting `ema_length` is 0, must be 1..=100000 rounds"
        );
        for lambda in [f64::NAN, 0.5, f64::INFINITY, -1.0] {
            let config = WeightConfig { lambda, ..WeightConfig::default() };
            assert_eq!(config.validate().unwrap_err().key, "lambda");
        }
    }

    #[test]
    fn configuration_text_round_trips() {
        let config = ScoringConfig::seed();
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains("\"seed\"") && text.contains("\"average\""), "{text}");
        assert_eq!(serde_json::from_str::<ScoringConfig>(&text).unwrap(), config);
        assert!(serde_json::from_str::<WeightConfig>(r#"{"lamda": 3}"#).is_err());
    }
}
