//! Scoring of one round as a pure function: the same input gives the same output bit for bit.
//!
//! ```text
//! answers ─check─► errors ─shares─┐
//! realised closes ─importance─────┼─► moving averages
//! prior averages ─membership──────┘
//! ```
//!
//! Rules of `Standard`: an unusable answer costs only its sender; a known miner without a usable
//! answer counts as share 0 and decays; a miner that was never scored stays unknown; a round
//! without any usable answer changes no average; whoever left the subnet is forgotten.

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};

use crate::ema::EmaState;
use crate::hotkey::Hotkey;
use crate::ids::StreamId;
use crate::numeric::to_f32;
use crate::rounds::RefusalReason;
use crate::scoring::{ScoreError, StepWeights, percentile_of_narrow, shares, volatility};
use crate::seed;
use crate::settings::{Compatibility, ScoringConfig};

/// Everything that the score of a round depends on, besides the prior averages and the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundInput {
    /// The stream that was forecast.
    pub stream: StreamId,
    /// The grid time after which the forecasts begin.
    pub start_ms: i64,
    /// Number of closes in a forecast.
    pub horizon: usize,
    /// The closes that really happened, oldest first, `horizon` of them.
    pub realised: Vec<f64>,
    /// The accepted forecasts, each hotkey once.
    pub answers: Vec<(Hotkey, Vec<f64>)>,
    /// The registered miners with the block of their registration.
    pub members: Vec<(Hotkey, u64)>,
}

/// The result of one miner in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MinerScore {
    /// Whose forecast it was.
    pub hotkey: Hotkey,
    /// Weighted root-mean-square error, quote currency.
    pub rmse: f64,
    /// Part of the round, 0..1.
    pub share: f64,
    /// 1 is the best; equal errors have equal ranks.
    pub rank: u32,
}

/// What scoring a round gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundOutcome {
    /// Scored miners, best first, ties by hotkey (in `Seed`: by order of arrival).
    pub scores: Vec<MinerScore>,
    /// Answers that could not be scored, with the reason.
    pub refused: Vec<(Hotkey, RefusalReason)>,
    /// How much the round moves the averages, 0.01..=1.
    pub importance: f64,
    /// Hotkeys that were forgotten because their registration is gone.
    pub dropped: Vec<Hotkey>,
    /// The averages after the round.
    pub ema: EmaState,
}

/// Scores a round and folds it into the averages.
///
/// # Errors
/// [`ScoreError`]; `prior` stays what it is. [`ScoreError::is_retryable`] tells whether waiting for
/// market data or the metagraph helps.
///
/// Golden data: `rounds/evaluate_round.json` with [`ScoringConfig::seed`].
pub fn score_round(
    input: &RoundInput,
    prior: &EmaState,
    config: &ScoringConfig,
) -> Result<RoundOutcome, ScoreError> {
    config.validate()?;
    if input.members.is_empty() {
        return Err(ScoreError::NoMembers);
    }
    let mut known = IndexSet::with_capacity(input.answers.len());
    if let Some((twice, _)) = input.answers.iter().find(|(hotkey, _)| !known.insert(*hotkey)) {
        return Err(ScoreError::DuplicateAnswer(*twice));
    }
    match config.compatibility {
        Compatibility::Standard => score_standard(input, prior, config),
        Compatibility::Seed => score_seed(input, prior, config),
    }
}

fn score_standard(
    input: &RoundInput,
    prior: &EmaState,
    config: &ScoringConfig,
) -> Result<RoundOutcome, ScoreError> {
    prior.check()?;
    if input.realised.len() != input.horizon {
        return Err(ScoreError::Horizon { got: input.realised.len(), want: input.horizon });
    }
    let importance = volatility(&input.realised)?.importance();
    let members: IndexSet<Hotkey> = input.members.iter().map(|(hotkey, _)| *hotkey).collect();

    let mut answers: Vec<&(Hotkey, Vec<f64>)> = input.answers.iter().collect();
    answers.sort_unstable_by_key(|(hotkey, _)| *hotkey);
    let steps = StepWeights::new(input.horizon);
    let mut accepted = Vec::with_capacity(answers.len());
    let mut refused = Vec::new();
    for (hotkey, closes) in answers {
        if !members.contains(hotkey) {
            refused.push((*hotkey, RefusalReason::NotRegistered));
            continue;
        }
        match steps.checked_rmse(closes, &input.realised) {
            Ok(rmse) => accepted.push((*hotkey, rmse)),
            Err(ScoreError::Length { forecast, realised }) => {
                refused
                    .push((*hotkey, RefusalReason::WrongLength { got: forecast, want: realised }));
            }
            Err(ScoreError::NotFinite { index }) => {
                refused.push((*hotkey, RefusalReason::NotFinite { index }));
            }
            Err(ScoreError::Overflow) => refused.push((*hotkey, RefusalReason::ErrorOverflow)),
            Err(other) => return Err(other),
        }
    }

    let mut ema = prior.clone();
    let dropped = ema.retain_members(&input.members);
    let errors: Vec<f64> = accepted.iter().map(|(_, rmse)| *rmse).collect();
    let pairs: Vec<(Hotkey, f64)> =
        accepted.iter().zip(shares(&errors)).map(|((hotkey, _), share)| (*hotkey, share)).collect();
    if !pairs.is_empty() {
        ema.fold(&pairs, importance, &registration(&input.members), config)?;
    }
    let mut scores: Vec<(Hotkey, f64, f64)> = accepted
        .iter()
        .zip(&pairs)
        .map(|((key, rmse), (_, share))| (*key, *rmse, *share))
        .collect();
    scores.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    Ok(RoundOutcome { scores: ranked(&scores), refused, importance, dropped, ema })
}

/// The reference's order of work: only NaN and a wrong count are refused, shares are rounded to
/// four places and the closes are narrowed to single precision.
fn score_seed(
    input: &RoundInput,
    prior: &EmaState,
    config: &ScoringConfig,
) -> Result<RoundOutcome, ScoreError> {
    let mut ema = prior.clone();
    let dropped = ema.retain_members(&input.members);
    let narrow: Vec<f32> = input.realised.iter().map(|close| to_f32(*close)).collect();
    let realised: Vec<f64> = narrow.iter().map(|close| f64::from(*close)).collect();
    let mut accepted = Vec::new();
    let mut refused = Vec::new();
    for (hotkey, closes) in &input.answers {
        if let Some(index) = closes.iter().position(|value| value.is_nan()) {
            refused.push((*hotkey, RefusalReason::NotFinite { index }));
        } else if closes.len() != realised.len() {
            let reason = RefusalReason::WrongLength { got: closes.len(), want: realised.len() };
            refused.push((*hotkey, reason));
        } else {
            accepted.push((*hotkey, seed::scoring::weighted_rmse(closes, &realised)?));
        }
    }
    let importance = percentile_of_narrow(&narrow);
    if accepted.is_empty() {
        return Ok(RoundOutcome { scores: Vec::new(), refused, importance, dropped, ema });
    }
    let pairs = seed::scoring::round_shares(&accepted)?;
    ema.fold(&pairs, importance, &registration(&input.members), config)?;
    let rmse_of = |hotkey: &Hotkey| {
        accepted.iter().find(|(key, _)| key == hotkey).map_or(f64::NAN, |(_, rmse)| *rmse)
    };
    let scores: Vec<_> =
        pairs.iter().map(|(hotkey, share)| (*hotkey, rmse_of(hotkey), *share)).collect();
    Ok(RoundOutcome { scores: ranked(&scores), refused, importance, dropped, ema })
}

fn registration(members: &[(Hotkey, u64)]) -> impl Fn(&Hotkey) -> u64 {
    move |hotkey| members.iter().find(|(key, _)| key == hotkey).map_or(0, |(_, block)| *block)
}

/// Numbers rows that are sorted best first.
fn ranked(rows: &[(Hotkey, f64, f64)]) -> Vec<MinerScore> {
    let mut rank = 0;
    let mut last: Option<u64> = None;
    let mut position = 0;
    let mut scores = Vec::with_capacity(rows.len());
    for (hotkey, rmse, share) in rows {
        position += 1;
        if last != Some(rmse.to_bits()) {
            rank = position;
            last = Some(rmse.to_bits());
        }
        scores.push(MinerScore { hotkey: *hotkey, rmse: *rmse, share: *share, rank });
    }
    scores
}

#[cfg(test)]
mod tests;
