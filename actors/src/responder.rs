//! Answers validators: freezes a forecast for each question and reveals exactly that one.
//!
//! Receives: [`Freeze`] and [`Reveal`] from the HTTP workers through the [`Desk`], bounded by the
//! mailbox and a deadline. Sends: nothing. Owns `FrozenRecord`s: a commitment is on disk before it
//! is answered, so the values that fit it can be revealed after a crash, and a validator that asks
//! twice gets the same. A hotkey may ask so many new questions an hour and no more. In memory are
//! only these counts; a restart begins them anew.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use async_trait::async_trait;
use forecastd_core::commitment::commitment;
use forecastd_core::{Forecast, Hotkey, StreamSpec};
use forecastd_store::{Batch, FrozenRecord, StoreError};
use forecastd_wire::{Caller, ForecastRequest, Refusal, Synapse, SynapseHandler};
use tracing::{info, warn};

use crate::error::{ActorError, StepContext};
use crate::events::Event;
use crate::guard;
use crate::node::Node;
use crate::quota::Quota;
use crate::vitals::Vitals;

/// Queries that wait for this actor. A subnet has at most 64 validators with a permit on most
/// chains; each asks twice a round.
const MAILBOX: usize = 256;
/// Longest time that an HTTP worker waits for this actor, real time.
const DESK_DEADLINE: Duration = Duration::from_secs(10);
/// Tries when the actor restarts with the question in its hands; the question is idempotent.
const DESK_TRIES: usize = 5;
/// Pause between these tries.
const DESK_PAUSE: Duration = Duration::from_millis(150);
/// How often a fresh forecast is looked for while a query waits.
const FRESH_POLL: Duration = Duration::from_millis(10);
/// Longest request id that is taken; the reference validator sends 36 characters.
const MAX_REQUEST_ID: usize = 64;

/// Freezes the stream's newest forecast for a validator's question. Sent by the HTTP workers;
/// the answer is the commitment.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<String, ActorError>")]
pub struct Freeze {
    /// Who asks, verified.
    pub validator: Hotkey,
    /// The question.
    pub request: ForecastRequest,
}

/// Asks for the values that were frozen; `None` when nothing was.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<Arc<[f64]>>, ActorError>")]
pub struct Reveal {
    /// Who asks, verified.
    pub validator: Hotkey,
    /// The question's id.
    pub request_uuid: String,
}

/// The responder, see the module.
#[derive(Debug)]
pub struct Responder {
    node: Node,
    vitals: Arc<Vitals>,
    quota: Quota,
}

impl Responder {
    /// Creates the actor.
    pub fn new(node: Node, vitals: Arc<Vitals>) -> Self {
        Self { node, vitals, quota: Quota::default() }
    }

    /// Counts a question that was not asked before.
    fn admit(&mut self, message: &Freeze) -> Result<(), ActorError> {
        let key = (message.validator, message.request.request_uuid.clone());
        if self.node.store.get::<FrozenRecord>(&key).step("looking a question up")?.is_some() {
            return Ok(());
        }
        let limit = self.node.settings.load().miner.max_questions;
        let now_ms = self.node.market.now_ms();
        let may_ask = self.quota.take(message.validator, now_ms, limit);
        may_ask.then_some(()).ok_or(ActorError::TooMany { limit })
    }
}

/// Waits until the forecast that starts at the last grid time is on the board; after `fresh_wait`
/// takes the newest one and moves it to that start.
async fn current_forecast(node: &Node, spec: &StreamSpec) -> Result<Forecast, ActorError> {
    let settings = node.settings.load_full();
    let wanted_ms = spec.interval.floor(node.market.now_ms());
    let waiting_since = tokio::time::Instant::now();
    loop {
        let newest = node.boards.forecasts.load().get(&spec.id).cloned();
        let is_fresh = newest.as_ref().is_some_and(|forecast| forecast.start_ms() >= wanted_ms);
        if is_fresh || waiting_since.elapsed() >= settings.miner.fresh_wait {
            let forecast = newest.ok_or(ActorError::NotReady("no forecast yet"))?;
            return realign(&forecast, spec, wanted_ms, settings.miner.max_age_candles);
        }
        tokio::time::sleep(FRESH_POLL).await;
    }
}

/// Moves a forecast to a later start: past steps drop out, the last close is repeated at the end.
fn realign(
    forecast: &Forecast,
    spec: &StreamSpec,
    start_ms: i64,
    max_age_candles: u32,
) -> Result<Forecast, ActorError> {
    let age = (start_ms - forecast.start_ms()).max(0) / spec.interval.as_ms();
    if age > i64::from(max_age_candles) {
        return Err(ActorError::NotReady("the newest forecast is too old, candles are missing"));
    }
    let skip = usize::try_from(age).unwrap_or_default();
    let closes = forecast.closes();
    let last = closes.last().copied().ok_or(ActorError::NotReady("the forecast is empty"))?;
    let moved: Vec<f64> =
        closes.iter().skip(skip).copied().chain(std::iter::repeat_n(last, skip)).collect();
    Forecast::new(spec.id.clone(), start_ms, moved, spec.horizon, None)
        .step("moving the forecast to its start")
}

async fn freeze(node: Node, message: Freeze) -> Result<String, ActorError> {
    let Freeze { validator, request } = message;
    let key = (validator, request.request_uuid.clone());
    if let Some(known) = node.store.get::<FrozenRecord>(&key).step("looking a question up")? {
        return Ok(known.commitment);
    }
    let settings = node.settings.load_full();
    let stream = settings.streams.iter().find(|stream| stream.spec.id.0 == request.stream_id);
    let spec = &stream.ok_or(ActorError::NotReady("this miner does not forecast the stream"))?.spec;
    let forecast = current_forecast(&node, spec).await?;
    let hotkey = node.hotkey();
    let record = FrozenRecord {
        stream: spec.id.clone(),
        start_ms: forecast.start_ms(),
        closes: forecast.closes().to_vec(),
        commitment: commitment(&hotkey.to_ss58(), forecast.closes()),
        frozen_at_ms: node.market.now_ms(),
    };
    let batch = Batch::new().require_absent::<FrozenRecord>(&key);
    let batch = batch.put(&key, &record).step("encoding the frozen forecast")?;
    match node.store.write(batch).await {
        Ok(()) => Ok(record.commitment),
        // The same question came twice at once; the first one won and holds for both.
        Err(StoreError::Conflict { .. }) => {
            let known = node.store.get::<FrozenRecord>(&key).step("looking a question up")?;
            known.map(|known| known.commitment).ok_or(ActorError::NotReady("question was removed"))
        }
        Err(error) => Err(error).step("storing the frozen forecast"),
    }
}

impl Actor for Responder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Supervised for Responder {
    fn restarting(&mut self, _: &mut Self::Context) {
        // Nothing is kept in memory, so it may answer again at once; the budget still counts.
        guard::restarted(self);
    }
}

impl Handler<Freeze> for Responder {
    type Result = ResponseActFuture<Self, Result<String, ActorError>>;

    fn handle(&mut self, message: Freeze, ctx: &mut Self::Context) -> Self::Result {
        if let Err(error) = guard::run(self, ctx, "counting", |actor, _| actor.admit(&message)) {
            return Box::pin(actix::fut::err(error));
        }
        guard::run_async(self, "freezing", freeze(self.node.clone(), message), |_, _, answer| {
            Ok(answer)
        })
    }
}

impl Handler<Reveal> for Responder {
    type Result = Result<Option<Arc<[f64]>>, ActorError>;

    fn handle(&mut self, message: Reveal, ctx: &mut Self::Context) -> Self::Result {
        guard::run(self, ctx, "revealing", |actor, _| {
            let key = (message.validator, message.request_uuid);
            let frozen =
                actor.node.store.get::<FrozenRecord>(&key).step("looking a question up")?;
            Ok(frozen.map(|frozen| frozen.closes.into()))
        })
    }
}

crate::life_signs!(Responder);

/// The HTTP workers' way to the responder: admits callers from the published metagraph and hands
/// their questions on.
#[derive(Debug, Clone)]
pub struct Desk {
    node: Node,
}

impl Desk {
    /// Creates the desk of a miner.
    pub const fn new(node: Node) -> Self {
        Self { node }
    }

    async fn ask<M>(&self, message: M) -> Result<M::Result, Refusal>
    where
        M: Message + Clone + Send + 'static,
        M::Result: Send,
    {
        let mut tries = 0;
        loop {
            match self.node.book.ask(message.clone(), DESK_DEADLINE).await {
                Ok(answer) => return Ok(answer),
                Err(error) if tries < DESK_TRIES && !matches!(error, ActorError::Deadline(_)) => {
                    tries += 1;
                    warn!(actor = "responder", %error, "question not taken, trying again");
                    tokio::time::sleep(DESK_PAUSE).await;
                }
                Err(error) => return Err(Refusal::unavailable(error.to_string())),
            }
        }
    }
}

fn check_request(request: &ForecastRequest) -> Result<(), Refusal> {
    let length = request.request_uuid.len();
    if length == 0 || length > MAX_REQUEST_ID {
        return Err(Refusal::bad_request(format!(
            "request_uuid has {length} characters, must have 1..{MAX_REQUEST_ID}"
        )));
    }
    Ok(())
}

fn refuse(error: &ActorError) -> Refusal {
    match error {
        ActorError::TooMany { .. } => Refusal::new(429, error.to_string()),
        _ => Refusal::unavailable(error.to_string()),
    }
}

#[async_trait]
impl SynapseHandler for Desk {
    fn admit(&self, caller: &Caller, _synapse: Synapse) -> Result<(), String> {
        let settings = self.node.settings.load();
        let miner = &settings.miner;
        if miner.deny.contains(&caller.hotkey) {
            return Err("hotkey is on the deny list".to_owned());
        }
        if miner.allow.contains(&caller.hotkey) {
            return Ok(());
        }
        let metagraph = self.node.boards.metagraph.load();
        let Some(metagraph) = metagraph.as_ref() else {
            return Err("the chain has not been read yet, ask again later".to_owned());
        };
        let Some(neuron) = metagraph.by_hotkey(&caller.hotkey) else {
            return Err("hotkey is not registered in the subnet".to_owned());
        };
        if miner.require_permit && !neuron.validator_permit {
            return Err("hotkey has no validator permit".to_owned());
        }
        if neuron.stake < miner.min_stake {
            return Err(format!("stake is below {} TAO", miner.min_stake.as_tao()));
        }
        Ok(())
    }

    async fn commit(&self, caller: &Caller, request: &ForecastRequest) -> Result<String, Refusal> {
        check_request(request)?;
        let message = Freeze { validator: caller.hotkey, request: request.clone() };
        let commitment = self.ask(message).await?.map_err(|error| refuse(&error))?;
        info!(actor = "responder", validator = %caller.hotkey.short(), round = request.request_uuid, "committed");
        let (round, hotkey) = (request.request_uuid.clone(), caller.hotkey);
        self.node.events.emit(Event::Commitment { round, hotkey });
        Ok(commitment)
    }

    async fn reveal(
        &self,
        caller: &Caller,
        request: &ForecastRequest,
    ) -> Result<Arc<[f64]>, Refusal> {
        check_request(request)?;
        let round = request.request_uuid.clone();
        let message = Reveal { validator: caller.hotkey, request_uuid: round.clone() };
        let values = self.ask(message).await?.map_err(|error| refuse(&error))?;
        let values = values.ok_or_else(|| {
            Refusal::bad_request("no commitment was given for this request_uuid".to_owned())
        })?;
        self.node.events.emit(Event::Reveal { round, hotkey: caller.hotkey });
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::{Interval, StreamId};

    use super::*;

    fn spec() -> StreamSpec {
        StreamSpec {
            id: StreamId("BTCUSD-5m".to_owned()),
            interval: Interval::FIVE_MINUTES,
            horizon: 4,
            lookback: 10,
            round_every: Interval::from_ms(1_800_000).unwrap(),
            topic_id: 1,
            schema_id: 1,
        }
    }

    #[test]
    fn an_older_forecast_is_moved_in_time_and_a_much_older_one_refused() {
        let spec = spec();
        let closes = vec![1.0, 2.0, 3.0, 4.0];
        let forecast = Forecast::new(spec.id.clone(), 0, closes, 4, None).unwrap();
        let moved = realign(&forecast, &spec, 600_000, 3).unwrap();
        assert_eq!((moved.start_ms(), moved.closes()), (600_000, &[3.0, 4.0, 4.0, 4.0][..]));
        assert_eq!(realign(&forecast, &spec, 0, 0).unwrap(), forecast);
        assert!(realign(&forecast, &spec, 1_200_000, 3).is_err());
    }
}
