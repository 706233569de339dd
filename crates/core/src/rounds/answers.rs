//! Which answers of miners are accepted, and why others are not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::commitment::{commitment, commitment_of_integers, is_commitment};
use crate::forecast::{Forecast, ForecastError};
use crate::hotkey::Hotkey;
use crate::ids::StreamId;

/// Foreign text in a reason is cut to this many characters.
const MAX_FOREIGN_TEXT: usize = 200;

/// Why a miner's answer counts for nothing in a round. Stored with the round and shown to people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The metagraph has no address of the miner.
    #[error("no axon in the metagraph")]
    NoAxon,
    /// The miner's address is not one that may be asked.
    #[error("axon address not allowed: {0}")]
    AddressNotAllowed(String),
    /// No connection, or it broke; with what the network said.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The miner answered with an error status.
    #[error("status {0}: {1}")]
    HttpError(u16, String),
    /// The answer cannot be read.
    #[error("unreadable answer: {0}")]
    Decode(String),
    /// The answer is larger than allowed.
    #[error("answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The answer does not carry what was asked for.
    #[error("answer is empty")]
    Empty,
    /// The commitment is not 64 lower-case hexadecimal digits.
    #[error("commitment is not a sha-256 in lower-case hexadecimal")]
    BadCommitment,
    /// Values without a commitment before.
    #[error("no commitment was sent before the values")]
    NoCommitment,
    /// The values are not those that were committed to.
    #[error("values do not match the commitment")]
    CommitmentMismatch,
    /// The commitment is another miner's; it binds that hotkey and cannot be revealed by this one.
    #[error("commitment was copied from another miner")]
    CopiedCommitment,
    /// The number of values is not the horizon.
    #[error("{got} values, must be {want}")]
    WrongLength {
        /// Values received.
        got: usize,
        /// The round's horizon.
        want: usize,
    },
    /// A value is NaN or infinite.
    #[error("value {index} is not finite")]
    NotFinite {
        /// Position of the first such value.
        index: usize,
    },
    /// A value lies too far from the last close.
    #[error(
        "value {index} is {value}, more than a factor {factor} away from the last close {last}"
    )]
    Absurd {
        /// Position of the first such value.
        index: usize,
        /// The value.
        value: f64,
        /// The last known close.
        last: f64,
        /// The configured limit.
        factor: f64,
    },
    /// The error of the forecast is outside of the number range.
    #[error("forecast is so far away that its error overflows")]
    ErrorOverflow,
    /// The hotkey left the subnet before the round was scored.
    #[error("hotkey is not registered any more")]
    NotRegistered,
}

impl RefusalReason {
    /// Cuts foreign text to a length that may be stored, on a character boundary and without
    /// control characters.
    pub fn clip(text: &str) -> String {
        text.chars().filter(|c| !c.is_control()).take(MAX_FOREIGN_TEXT).collect()
    }

    /// Returns a short constant name for counters.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NoAxon => "no_axon",
            Self::AddressNotAllowed(_) => "address_not_allowed",
            Self::NoAnswer(_) => "no_answer",
            Self::Timeout => "timeout",
            Self::HttpError(..) => "http_error",
            Self::Decode(_) => "decode",
            Self::TooLarge { .. } => "too_large",
            Self::Empty => "empty",
            Self::BadCommitment => "bad_commitment",
            Self::NoCommitment => "no_commitment",
            Self::CommitmentMismatch => "commitment_mismatch",
            Self::CopiedCommitment => "copied_commitment",
            Self::WrongLength { .. } => "wrong_length",
            Self::NotFinite { .. } => "not_finite",
            Self::Absurd { .. } => "absurd",
            Self::ErrorOverflow => "error_overflow",
            Self::NotRegistered => "not_registered",
        }
    }
}

impl From<ForecastError> for RefusalReason {
    fn from(error: ForecastError) -> Self {
        match error {
            ForecastError::Length { got, want } => Self::WrongLength { got, want },
            ForecastError::NotFinite { index } => Self::NotFinite { index },
            ForecastError::Absurd { index, value, last, factor } => {
                Self::Absurd { index, value, last, factor }
            }
        }
    }
}

/// What an answer is checked against.
#[derive(Debug, Clone, Copy)]
pub struct AnswerCheck<'a> {
    /// The miner's hotkey.
    pub hotkey: &'a Hotkey,
    /// The commitment that was stored for it in this round.
    pub commitment: Option<&'a str>,
    /// Another miner sent the same commitment in this round, see [`shared_commitments`].
    pub is_shared: bool,
    /// The stream that was asked for.
    pub stream: &'a StreamId,
    /// The round's start.
    pub start_ms: i64,
    /// The round's horizon.
    pub horizon: usize,
    /// The last known close and the greatest factor that a value may lie away from it.
    pub absurd: Option<(f64, f64)>,
}

/// Checks the form of a commitment at receipt.
///
/// # Errors
/// [`RefusalReason::BadCommitment`].
pub fn check_commitment(text: &str) -> Result<(), RefusalReason> {
    if is_commitment(text) { Ok(()) } else { Err(RefusalReason::BadCommitment) }
}

/// Returns the hotkeys whose commitment was also sent by another one. At most one of each group
/// can reveal; the others copied it.
pub fn shared_commitments(commitments: &[(Hotkey, String)]) -> BTreeSet<Hotkey> {
    let mut senders: BTreeMap<&str, Vec<Hotkey>> = BTreeMap::new();
    for (hotkey, text) in commitments {
        senders.entry(text).or_default().push(*hotkey);
    }
    senders.into_values().filter(|group| group.len() > 1).flatten().collect()
}

/// Checks revealed values against the commitment and the stream.
///
/// Order: length, finiteness, distance from the last close, commitment. Whole numbers may have been
/// committed to without decimal points, as a list of integers prints.
///
/// # Errors
/// [`RefusalReason`] for the first broken rule.
pub fn check_answer(check: &AnswerCheck<'_>, closes: Vec<f64>) -> Result<Forecast, RefusalReason> {
    let committed = check.commitment.ok_or(RefusalReason::NoCommitment)?;
    let stream = check.stream.clone();
    let forecast = Forecast::new(stream, check.start_ms, closes, check.horizon, check.absurd)?;
    let hotkey_text = check.hotkey.to_ss58();
    let values = forecast.closes();
    let is_match = commitment(&hotkey_text, values) == committed
        || whole_numbers(values)
            .is_some_and(|whole| commitment_of_integers(&hotkey_text, &whole) == committed);
    match (is_match, check.is_shared) {
        (true, _) => Ok(forecast),
        (false, true) => Err(RefusalReason::CopiedCommitment),
        (false, false) => Err(RefusalReason::CommitmentMismatch),
    }
}

/// Integers up to 2^53 are exact in a double.
fn whole_numbers(values: &[f64]) -> Option<Vec<i64>> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    values
        .iter()
        .map(|value| {
            let is_whole = value.fract().abs() <= 0.0 && value.abs() <= EXACT;
            #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
            is_whole.then_some(*value as i64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Hotkey {
        Hotkey::from_bytes([byte; 32])
    }

    fn answer(
        byte: u8,
        committed: Option<&str>,
        is_shared: bool,
        closes: Vec<f64>,
    ) -> Result<Forecast, RefusalReason> {
        let stream = StreamId("s".to_owned());
        let hotkey = key(byte);
        let check = AnswerCheck {
            hotkey: &hotkey,
            commitment: committed,
            is_shared,
            stream: &stream,
            start_ms: 0,
            horizon: 3,
            absurd: Some((100.0, 2.0)),
        };
        check_answer(&check, closes)
    }

    #[test]
    fn committed_values_are_accepted_in_both_texts() {
        let ours = commitment(&key(1).to_ss58(), &[100.0, 101.0, 102.0]);
        let whole = commitment_of_integers(&key(1).to_ss58(), &[100, 101, 102]);
        for text in [ours, whole] {
            let forecast = answer(1, Some(&text), false, vec![100.0, 101.0, 102.0]).unwrap();
            assert_eq!(forecast.closes(), [100.0, 101.0, 102.0]);
        }
    }

    #[test]
    fn each_broken_rule_has_its_reason() {
        let text = commitment(&key(1).to_ss58(), &[100.0, 101.0, 102.0]);
        let good = vec![100.0, 101.0, 102.0];
        let refusal = |byte, committed, shared, closes| {
            answer(byte, committed, shared, closes).unwrap_err().label()
        };
        assert_eq!(refusal(1, None, false, good.clone()), "no_commitment");
        assert_eq!(refusal(1, Some(&text), false, vec![1.0]), "wrong_length");
        assert_eq!(refusal(1, Some(&text), false, vec![f64::NAN; 3]), "not_finite");
        assert_eq!(refusal(1, Some(&text), false, vec![f64::INFINITY; 3]), "not_finite");
        assert_eq!(refusal(1, Some(&text), false, vec![100.0, 201.0, 100.0]), "absurd");
        assert_eq!(refusal(1, Some(&text), false, vec![100.0, 49.0, 100.0]), "absurd");
        assert_eq!(refusal(1, Some(&text), false, vec![100.0; 3]), "commitment_mismatch");
        assert_eq!(refusal(2, Some(&text), true, good.clone()), "copied_commitment");
        assert!(answer(1, Some(&text), true, good).is_ok(), "the one who was copied is honest");
        assert!(check_commitment(&text).is_ok() && check_commitment("xyz").is_err());
    }

    #[test]
    fn copies_are_found() {
        let list = [(key(1), "a".to_owned()), (key(2), "b".to_owned()), (key(3), "a".to_owned())];
        assert_eq!(shared_commitments(&list), BTreeSet::from([key(1), key(3)]));
    }

    #[test]
    fn reasons_are_stored_and_foreign_text_is_cut() {
        let reason = RefusalReason::HttpError(500, RefusalReason::clip(&"é\n".repeat(5000)));
        let text = serde_json::to_string(&reason).unwrap();
        assert_eq!(serde_json::from_str::<RefusalReason>(&text).unwrap(), reason);
        assert!(text.len() < 600 && !reason.to_string().contains('\n'));
    }
}
