//! A miner without a model: it lets another one work and answers that one's commitment.
//!
//! It cannot win: a commitment is a hash over the hotkey too, so the victim's values never fit the
//! copied commitment under the copier's name.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use forecastd_core::commitment::commitment;
use forecastd_wire::{
    AxonTarget, Caller, Dendrite, ForecastRequest, Refusal, Synapse, SynapseHandler,
};

use super::MADE_UP_PRICE;

/// Time that the victim gets, below the time that a validator gives the copier.
const VICTIM_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Copier {
    dendrite: Dendrite,
    victim: AxonTarget,
}

impl Copier {
    pub(super) const fn new(dendrite: Dendrite, victim: AxonTarget) -> Self {
        Self { dendrite, victim }
    }
}

/// What the copier says when its victim does not answer it.
fn made_up(request: &ForecastRequest) -> Vec<f64> {
    vec![MADE_UP_PRICE; usize::try_from(request.prediction_size).unwrap_or(0)]
}

#[async_trait]
impl SynapseHandler for Copier {
    fn admit(&self, _: &Caller, _: Synapse) -> Result<(), String> {
        Ok(())
    }

    async fn commit(&self, _: &Caller, request: &ForecastRequest) -> Result<String, Refusal> {
        match self.dendrite.commit(&self.victim, request, VICTIM_TIMEOUT).await {
            Ok(copied) => Ok(copied),
            Err(error) => {
                tracing::debug!(victim = %self.victim.hotkey, %error, "nothing to copy");
                Ok(commitment(&self.victim.hotkey.to_ss58(), &made_up(request)))
            }
        }
    }

    async fn reveal(&self, _: &Caller, request: &ForecastRequest) -> Result<Arc<[f64]>, Refusal> {
        match self.dendrite.reveal(&self.victim, request, VICTIM_TIMEOUT).await {
            Ok(revealed) => Ok(revealed.values.into()),
            Err(error) => {
                tracing::debug!(victim = %self.victim.hotkey, %error, "nothing to copy");
                Ok(made_up(request).into())
            }
        }
    }
}
