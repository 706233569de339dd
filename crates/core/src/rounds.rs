//! The life of a round: question, commitments, reveals, score.
//!
//! ```text
//!            commitments            reveals               scored
//!  OPENED ───────────────► COMMITTED ────────► PENDING ───────────► DONE
//!     │ none / too late        │ none / too late   │ no truth
//!     └────────────────────────┴───────────────────┴──────────────► EXPIRED
//! ```
//!
//! The state is stored after each step, so that a crash at any arrow resumes there. DONE and EXPIRED
//! are final: a round is scored at most once.

mod answers;
mod query_windows;
mod slots;

pub use answers::{AnswerCheck, RefusalReason, check_answer, check_commitment, shared_commitments};
pub use query_windows::{QueryKind, QueryWindows};
pub use slots::{
    due_at_ms, due_rounds, next_slot, next_slot_after, opens_until_ms, reveals_until_ms,
    slot_to_ask,
};

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a round stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundState {
    /// The commitments are being asked for.
    Opened,
    /// Commitments are stored, the values are asked for after the pause.
    Committed,
    /// Values are stored, the market has yet to show what comes true.
    Pending,
    /// Scored and folded into the averages.
    Done,
    /// Given up without a score; changed no average.
    Void {
        /// Why.
        reason: VoidReason,
    },
}

/// Why a round was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum VoidReason {
    /// Nobody committed.
    #[error("no miner sent a commitment")]
    NoCommitments,
    /// Nobody revealed values that could be used.
    #[error("no miner revealed a usable forecast")]
    NoReveals,
    /// The daemon was down while the round had to ask.
    #[error("the time to ask had passed")]
    Missed,
    /// The realised closes could not be had before the limit.
    #[error("no realised closes {waited_hours} hours after the round was due")]
    NoRealisedCloses {
        /// Hours that were waited.
        waited_hours: u64,
    },
    /// The exchange has too few candles of the horizon.
    #[error("{count} candles of the horizon do not exist at the exchange")]
    MissingCandles {
        /// How many are missing.
        count: usize,
    },
    /// An operator gave the round up.
    #[error("given up by the operator")]
    Operator,
}

/// What happens to a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundEvent {
    /// All commitments of the round are stored.
    CommitmentsStored {
        /// How many were accepted.
        accepted: usize,
    },
    /// All values of the round are stored.
    RevealsStored {
        /// How many were accepted.
        accepted: usize,
    },
    /// Scores and averages are stored, in the same transaction as this step.
    Scored,
    /// The round is given up.
    GivenUp {
        /// Why.
        reason: VoidReason,
    },
}

/// A step that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("round is {state}, `{event}` is not possible")]
pub struct TransitionError {
    /// Name of the state.
    pub state: &'static str,
    /// Name of the event.
    pub event: &'static str,
}

impl RoundState {
    /// Returns the name for logs and records.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Opened => "OPENED",
            Self::Committed => "COMMITTED",
            Self::Pending => "PENDING",
            Self::Done => "DONE",
            Self::Void { .. } => "EXPIRED",
        }
    }

    /// Tells whether the round still has to ask miners.
    pub const fn asks(&self) -> bool {
        matches!(self, Self::Opened | Self::Committed)
    }

    /// Tells whether nothing can happen to the round any more.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Done | Self::Void { .. })
    }
}

impl fmt::Display for RoundState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void { reason } => write!(f, "{}: {reason}", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

impl RoundEvent {
    const fn name(&self) -> &'static str {
        match self {
            Self::CommitmentsStored { .. } => "commitments stored",
            Self::RevealsStored { .. } => "reveals stored",
            Self::Scored => "scored",
            Self::GivenUp { .. } => "given up",
        }
    }
}

/// Returns the state after an event.
///
/// # Errors
/// [`TransitionError`] when the diagram has no such arrow; the round stays as it is.
pub fn step(state: &RoundState, event: RoundEvent) -> Result<RoundState, TransitionError> {
    let name = event.name();
    let next = match (state, event) {
        (RoundState::Opened, RoundEvent::CommitmentsStored { accepted: 0 }) => {
            RoundState::Void { reason: VoidReason::NoCommitments }
        }
        (RoundState::Opened, RoundEvent::CommitmentsStored { .. }) => RoundState::Committed,
        (RoundState::Committed, RoundEvent::RevealsStored { accepted: 0 }) => {
            RoundState::Void { reason: VoidReason::NoReveals }
        }
        (RoundState::Committed, RoundEvent::RevealsStored { .. }) => RoundState::Pending,
        (RoundState::Pending, RoundEvent::Scored) => RoundState::Done,
        (
            RoundState::Opened | RoundState::Committed | RoundState::Pending,
            RoundEvent::GivenUp { reason },
        ) => RoundState::Void { reason },
        _ => return Err(TransitionError { state: state.name(), event: name }),
    };
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn void(reason: VoidReason) -> RoundState {
        RoundState::Void { reason }
    }

    fn events() -> [RoundEvent; 6] {
        [
            RoundEvent::CommitmentsStored { accepted: 0 },
            RoundEvent::CommitmentsStored { accepted: 2 },
            RoundEvent::RevealsStored { accepted: 0 },
            RoundEvent::RevealsStored { accepted: 1 },
            RoundEvent::Scored,
            RoundEvent::GivenUp { reason: VoidReason::Missed },
        ]
    }

    #[test]
    fn the_diagram_has_exactly_these_arrows() {
        let missed = || Some(void(VoidReason::Missed));
        let table = [
            (
                RoundState::Opened,
                [
                    Some(void(VoidReason::NoCommitments)),
                    Some(RoundState::Committed),
                    None,
                    None,
                    None,
                    missed(),
                ],
            ),
            (
                RoundState::Committed,
                [
                    None,
                    None,
                    Some(void(VoidReason::NoReveals)),
                    Some(RoundState::Pending),
                    None,
                    missed(),
                ],
            ),
            (RoundState::Pending, [None, None, None, None, Some(RoundState::Done), missed()]),
            (RoundState::Done, [None, None, None, None, None, None]),
            (void(VoidReason::Operator), [None, None, None, None, None, None]),
        ];
        for (state, expected) in table {
            for (event, next) in events().into_iter().zip(expected) {
                assert_eq!(step(&state, event.clone()).ok(), next, "{state} {event:?}");
            }
        }
    }

    #[test]
    fn a_scored_round_cannot_be_scored_again() {
        let error = step(&RoundState::Done, RoundEvent::Scored).unwrap_err();
        assert_eq!(error.to_string(), "round is DONE, `scored` is not possible");
        assert!(RoundState::Done.is_final() && !RoundState::Pending.is_final());
    }

    #[test]
    fn states_are_stored_as_text() {
        let state = void(VoidReason::NoRealisedCloses { waited_hours: 48 });
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<RoundState>(&text).unwrap(), state);
        assert_eq!(
            state.to_string(),
            "EXPIRED: no realised closes 48 hours after the round was due"
        );
    }
}
