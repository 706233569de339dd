//! A miner whose commitments are right and whose values are worthless.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use forecastd_core::Hotkey;
use forecastd_core::commitment::commitment;
use forecastd_wire::{Caller, ForecastRequest, Refusal, Synapse, SynapseHandler};

use super::MADE_UP_PRICE;

/// Rounds whose turn is remembered between commitment and reveal.
const REMEMBERED_ROUNDS: usize = 64;

/// What is wrong with a liar's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiarKind {
    /// One value is not a number.
    NotANumber,
    /// One value is infinite.
    Infinity,
    /// One value too few.
    WrongLength,
    /// The three above in turn, one a round.
    Alternating,
    /// Nothing, but they are not the values committed to.
    OtherValues,
}

const TURNS: [LiarKind; 3] = [LiarKind::NotANumber, LiarKind::Infinity, LiarKind::WrongLength];

pub(super) struct Liar {
    hotkey_text: String,
    kind: LiarKind,
    rounds: Mutex<Rounds>,
}

/// The kinds of lie of the last rounds, by `request_uuid`.
#[derive(Default)]
struct Rounds {
    known: VecDeque<(String, LiarKind)>,
    count: usize,
}

impl Rounds {
    fn kind_of(&mut self, round: &str) -> LiarKind {
        if let Some((_, kind)) = self.known.iter().find(|(known, _)| known == round) {
            return *kind;
        }
        let kind = TURNS[self.count % TURNS.len()];
        self.count += 1;
        if self.known.len() >= REMEMBERED_ROUNDS {
            self.known.pop_front();
        }
        self.known.push_back((round.to_owned(), kind));
        kind
    }
}

impl Liar {
    pub(super) fn new(hotkey: Hotkey, kind: LiarKind) -> Self {
        Self { hotkey_text: hotkey.to_ss58(), kind, rounds: Mutex::default() }
    }

    fn values(&self, request: &ForecastRequest) -> Vec<f64> {
        let mut values = vec![MADE_UP_PRICE; usize::try_from(request.prediction_size).unwrap_or(0)];
        let kind = match self.kind {
            LiarKind::Alternating => {
                let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
                rounds.kind_of(&request.request_uuid)
            }
            kind => kind,
        };
        let middle = values.len() / 2;
        match kind {
            LiarKind::WrongLength => drop(values.pop()),
            LiarKind::Infinity => values[middle] = f64::INFINITY,
            LiarKind::NotANumber => values[middle] = f64::NAN,
            LiarKind::OtherValues | LiarKind::Alternating => {}
        }
        values
    }
}

#[async_trait]
impl SynapseHandler for Liar {
    fn admit(&self, _: &Caller, _: Synapse) -> Result<(), String> {
        Ok(())
    }

    async fn commit(&self, _: &Caller, request: &ForecastRequest) -> Result<String, Refusal> {
        Ok(commitment(&self.hotkey_text, &self.values(request)))
    }

    async fn reveal(&self, _: &Caller, request: &ForecastRequest) -> Result<Arc<[f64]>, Refusal> {
        let mut values = self.values(request);
        if self.kind == LiarKind::OtherValues
            && let Some(first) = values.first_mut()
        {
            *first += 1.0;
        }
        Ok(values.into())
    }
}
