//! Acceptance of answers and choice of due rounds as the reference does them.
//!
//! The better ones: [`crate::rounds::check_answer`], which also refuses infinity and absurd values,
//! and [`crate::rounds::due_rounds`], which starves no round.

use crate::commitment::{commitment, commitment_of_integers};

/// Milliseconds after the end of a forecast until it is due.
const SETTLE_MS: i64 = 3_600_000;

/// Revealed values as they arrive.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Floats, single ones widened.
    Floats(Vec<f64>),
    /// Whole numbers.
    Integers(Vec<i64>),
    /// More than one dimension; `inner` is the length of the first row.
    Nested {
        /// Values in the first row.
        inner: usize,
        /// Whether the first value of some row is NaN (only looked at when rows have one value).
        has_nan: bool,
        /// Whether a row holds rows itself.
        is_deep: bool,
    },
}

/// Why the reference drops an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// No values.
    None,
    /// A NaN.
    Nan,
    /// Wrong count or more than one dimension.
    SizeOrShape,
    /// The commitment does not fit.
    HashMismatch,
    /// The check itself failed.
    OtherError,
}

impl Dropped {
    /// Returns the name in the recorded data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nan => "nan",
            Self::SizeOrShape => "size_or_shape",
            Self::HashMismatch => "hash_mismatch",
            Self::OtherError => "other_error",
        }
    }
}

/// Checks one answer in the reference's order: none, NaN, size and shape, commitment. Infinity passes.
///
/// # Errors
/// [`Dropped`].
///
/// Golden data: `rounds/collect_responses.json`, exact.
pub fn check_response(
    hotkey_text: &str,
    values: Option<&Values>,
    hash: Option<&str>,
    horizon: usize,
) -> Result<(), Dropped> {
    let (count, expected) = match values.ok_or(Dropped::None)? {
        Values::Nested { is_deep: false, inner: 1, has_nan } => {
            return Err(if *has_nan { Dropped::Nan } else { Dropped::SizeOrShape });
        }
        // Testing a row of several values for NaN fails.
        Values::Nested { .. } => return Err(Dropped::OtherError),
        Values::Floats(floats) => {
            if floats.iter().any(|value| value.is_nan()) {
                return Err(Dropped::Nan);
            }
            (floats.len(), commitment(hotkey_text, floats))
        }
        Values::Integers(whole) => (whole.len(), commitment_of_integers(hotkey_text, whole)),
    };
    if count != horizon {
        return Err(Dropped::SizeOrShape);
    }
    if hash == Some(expected.as_str()) { Ok(()) } else { Err(Dropped::HashMismatch) }
}

/// A stored forecast of one miner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredForecast {
    /// The round.
    pub request: String,
    /// The miner.
    pub miner: String,
    /// End of the forecast.
    pub end_ms: i64,
}

/// Returns the due rounds with their miners, newest first; of them the reference scores one each
/// half hour, so that a backlog starves the oldest.
///
/// Golden data: `rounds/due_requests.json`, exact.
pub fn due_requests(files: &[StoredForecast], now_ms: i64) -> Vec<(String, Vec<String>)> {
    let mut rounds: indexmap::IndexMap<&str, (i64, Vec<String>)> = indexmap::IndexMap::new();
    for file in files.iter().filter(|file| now_ms > file.end_ms.saturating_add(SETTLE_MS)) {
        let round = rounds.entry(&file.request).or_insert((file.end_ms, Vec::new()));
        round.1.push(file.miner.clone());
    }
    let mut due: Vec<(&str, (i64, Vec<String>))> = rounds.into_iter().collect();
    due.sort_by_key(|(_, (end_ms, _))| std::cmp::Reverse(*end_ms));
    due.into_iter()
        .map(|(request, (_, mut miners))| {
            miners.sort_unstable();
            (request.to_owned(), miners)
        })
        .collect()
}

/// Returns where the reference ends a forecast: one interval a value after its start.
pub const fn end_ms(start_ms: i64, horizon: i64) -> i64 {
    start_ms + horizon * 300_000
}
