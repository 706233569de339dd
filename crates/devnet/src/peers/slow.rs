//! Miners that answer too late, or refuse.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use forecastd_core::Hotkey;
use forecastd_core::commitment::commitment;
use forecastd_wire::{Caller, ForecastRequest, Refusal, Synapse, SynapseHandler};

use super::MADE_UP_PRICE;

/// Answers well-formed values after `delay` of real time. Its server, like any good one, gives up
/// when the caller's own time is over.
pub(super) struct Late {
    hotkey_text: String,
    delay: Duration,
}

impl Late {
    pub(super) fn new(hotkey: Hotkey, delay: Duration) -> Self {
        Self { hotkey_text: hotkey.to_ss58(), delay }
    }
}

fn values(request: &ForecastRequest) -> Vec<f64> {
    vec![MADE_UP_PRICE; usize::try_from(request.prediction_size).unwrap_or(0)]
}

#[async_trait]
impl SynapseHandler for Late {
    fn admit(&self, _: &Caller, _: Synapse) -> Result<(), String> {
        Ok(())
    }

    async fn commit(&self, _: &Caller, request: &ForecastRequest) -> Result<String, Refusal> {
        tokio::time::sleep(self.delay).await;
        Ok(commitment(&self.hotkey_text, &values(request)))
    }

    async fn reveal(&self, _: &Caller, request: &ForecastRequest) -> Result<Arc<[f64]>, Refusal> {
        tokio::time::sleep(self.delay).await;
        Ok(values(request).into())
    }
}

/// Refuses every caller before it is heard.
pub(super) struct Refuser;

#[async_trait]
impl SynapseHandler for Refuser {
    fn admit(&self, caller: &Caller, _: Synapse) -> Result<(), String> {
        Err(format!("{} is not wanted here", caller.hotkey))
    }

    async fn commit(&self, _: &Caller, _: &ForecastRequest) -> Result<String, Refusal> {
        Err(Refusal::unavailable("refused"))
    }

    async fn reveal(&self, _: &Caller, _: &ForecastRequest) -> Result<Arc<[f64]>, Refusal> {
        Err(Refusal::unavailable("refused"))
    }
}
