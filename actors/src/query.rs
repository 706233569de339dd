//! Asks all miners each slot: commitments first, the values a minute later.
//!
//! Receives: its own timers. Sends: [`RoundPending`] to the evaluator. Owns `RoundRecord`s up to
//! the state pending and writes `AnswerRecord`s. A round is on disk before the first miner is
//! asked; commitments are on disk before any value is asked for; accepted values and the state
//! pending are one transaction. On restart: a round that is still in its time goes on where it
//! stood (miners answer the same to the same request id); one whose time has passed becomes void
//! with the reason. Slots that passed unasked are skipped and reported, never made up for.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::rounds::{
    AnswerCheck, RefusalReason, check_answer, check_commitment, shared_commitments,
};
use forecastd_core::{Hotkey, StreamId, StreamSpec};
use forecastd_store::{AnswerRecord, AskedMiner, Batch, RoundRecord, RoundState};
use forecastd_wire::{AxonTarget, Dendrite, ForecastRequest, QueryError};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::{info, warn};

use crate::error::{ActorError, StepContext};
use crate::evaluator::RoundPending;
use crate::events::Event;
use crate::guard;
use crate::node::Node;
use crate::settings::StreamSettings;
use crate::vitals::Vitals;

/// Pause before a slot is tried again that could not be opened, real time.
const OPEN_RETRY: Duration = Duration::from_millis(250);

#[derive(Message)]
#[rtype(result = "()")]
struct Begin;

#[derive(Message)]
#[rtype(result = "()")]
struct Slot {
    stream: StreamId,
    slot_ms: i64,
}

/// The query actor, see the module.
#[derive(Debug)]
pub struct Query {
    node: Node,
    vitals: Arc<Vitals>,
    dendrite: Arc<Dendrite>,
    resume_after: Duration,
}

impl Query {
    /// Creates the actor; it asks with `dendrite`.
    pub const fn new(node: Node, vitals: Arc<Vitals>, dendrite: Arc<Dendrite>) -> Self {
        Self { node, vitals, dendrite, resume_after: Duration::ZERO }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let settings = self.node.settings.load_full();
        for stream in &settings.streams {
            let spec = &stream.spec;
            let rounds = stream_rounds(&self.node, &spec.id)?;
            for record in rounds.iter().filter(|record| is_unfinished(record)) {
                info!(actor = "query", round = record.round_id, "going on with a round");
                self.run(ctx, stream.clone(), record.clone());
            }
            let last_ms = rounds.last().map(|record| record.start_ms);
            self.arm(ctx, spec, first_slot(spec, self.node.market.now_ms(), last_ms, &self.node));
        }
        Ok(())
    }

    fn arm(&self, ctx: &mut Context<Self>, spec: &StreamSpec, slot_ms: i64) {
        let stream = spec.id.clone();
        ctx.run_later(self.node.market.real_duration_until(slot_ms), move |_, ctx| {
            ctx.notify(Slot { stream, slot_ms });
        });
    }

    fn run(&self, ctx: &mut Context<Self>, stream: StreamSettings, record: RoundRecord) {
        let (node, dendrite) = (self.node.clone(), Arc::clone(&self.dendrite));
        let vitals = Arc::clone(&self.vitals);
        let work = async move { run_round(&node, &vitals, &dendrite, &stream.spec, record).await };
        guard::spawn(self, ctx, "running a round", work, |_, _, ()| Ok(()));
    }

    fn open(&mut self, ctx: &mut Context<Self>, slot: Slot) -> Result<(), ActorError> {
        let Slot { stream, slot_ms } = slot;
        let settings = self.node.settings.load_full();
        let Some(stream) = settings.stream(&stream) else { return Ok(()) };
        let spec = &stream.spec;
        let now_ms = self.node.market.now_ms();
        // The timer may fire late under load: the grid decides, not the timer.
        let next_ms = spec.round_every.next(now_ms.max(slot_ms));
        if now_ms >= slot_ms + spec.round_every.as_ms() {
            let behind = spec.round_every.floor(now_ms);
            skipped(&self.node, spec, slot_ms, behind);
            self.arm(ctx, spec, behind);
            return Ok(());
        }
        match plan_round(&self.node, spec, slot_ms) {
            Ok(record) => {
                self.run(ctx, stream.clone(), record);
                self.arm(ctx, spec, next_ms);
            }
            Err(error) => {
                warn!(actor = "query", %error, slot_ms, "round not opened yet");
                let stream = spec.id.clone();
                ctx.run_later(OPEN_RETRY, move |_, ctx| ctx.notify(Slot { stream, slot_ms }));
            }
        }
        Ok(())
    }
}

fn is_unfinished(record: &RoundRecord) -> bool {
    matches!(record.state, RoundState::Opened | RoundState::Committed)
}

fn stream_rounds(node: &Node, stream: &StreamId) -> Result<Vec<RoundRecord>, ActorError> {
    let range = (stream.clone(), i64::MIN)..(stream.clone(), i64::MAX);
    let rows = node.store.scan::<RoundRecord>(range);
    rows.map(|row| row.map(|(_, record)| record).broken("reading rounds")).collect()
}

/// Returns the first slot to ask after a start: the running one while its commit phase may still
/// begin and it was not asked, otherwise the next.
fn first_slot(spec: &StreamSpec, now_ms: i64, last_ms: Option<i64>, node: &Node) -> i64 {
    let running_ms = spec.round_every.floor(now_ms);
    let reveal_after = node.settings.load().validator.reveal_after;
    let in_time = now_ms - running_ms < i64::try_from(reveal_after.as_millis()).unwrap_or(i64::MAX);
    let slot_ms = if in_time && last_ms.is_none_or(|last| last < running_ms) {
        running_ms
    } else {
        spec.round_every.next(now_ms)
    };
    if let Some(last_ms) = last_ms {
        skipped(node, spec, last_ms + spec.round_every.as_ms(), slot_ms);
    }
    slot_ms
}

fn skipped(node: &Node, spec: &StreamSpec, from_ms: i64, until_ms: i64) {
    let count = u64::try_from((until_ms - from_ms) / spec.round_every.as_ms()).unwrap_or(0);
    if count > 0 {
        warn!(actor = "query", stream = %spec.id, count, "slots passed unasked");
        node.events.emit(Event::SlotsSkipped { stream: spec.id.clone(), count, from_ms });
    }
}

/// Decides whom to ask. Nothing is written here.
fn plan_round(node: &Node, spec: &StreamSpec, slot_ms: i64) -> Result<RoundRecord, ActorError> {
    let metagraph = node.boards.metagraph.load_full();
    let metagraph = metagraph.ok_or(ActorError::NotReady("the chain has not been read yet"))?;
    let newest = node
        .boards
        .newest_candle(&spec.id)
        .ok_or(ActorError::NotReady("no closed candle is known yet"))?;
    let own = node.hotkey();
    let asked = metagraph
        .neurons
        .iter()
        .filter(|neuron| neuron.axon.is_some() && neuron.hotkey != own)
        .map(|neuron| AskedMiner {
            hotkey: neuron.hotkey,
            uid: neuron.uid,
            registered_at_block: neuron.registered_at_block,
            commitment: None,
            refusal: None,
        })
        .collect();
    let settle = node.settings.load().validator.settle_delay;
    Ok(RoundRecord {
        round_id: uuid::Uuid::new_v4().to_string(),
        start_ms: slot_ms,
        due_at_ms: forecastd_core::rounds::due_at_ms(spec, slot_ms, settle),
        state: RoundState::Opened,
        asked,
        opened_at_ms: node.market.now_ms(),
        last_close: newest.close,
    })
}

/// Takes a round from its present state to pending or void; every step is durable before the next.
async fn run_round(
    node: &Node,
    vitals: &Vitals,
    dendrite: &Dendrite,
    spec: &StreamSpec,
    mut record: RoundRecord,
) -> Result<(), ActorError> {
    let settings = node.settings.load_full();
    let reveal_after_ms = i64::try_from(settings.validator.reveal_after.as_millis()).unwrap_or(0);
    let expires_ms = record.start_ms + spec.round_every.as_ms();
    if record.state == RoundState::Opened {
        if node.market.now_ms() >= expires_ms {
            return void(node, spec, record, "interrupted before the commitments were asked").await;
        }
        save(node, spec, &record).await?;
        node.events.emit(Event::RoundOpened {
            stream: spec.id.clone(),
            round: record.round_id.clone(),
            start_ms: record.start_ms,
            asked: record.asked.len(),
        });
        ask_commitments(node, dendrite, spec, &mut record).await;
        record.state = RoundState::Committed;
        save(node, spec, &record).await?;
    }
    node.faults.strike(vitals.name());
    let reveal_at_ms = record.start_ms + reveal_after_ms;
    tokio::time::sleep(node.market.real_duration_until(reveal_at_ms)).await;
    if node.market.now_ms() >= expires_ms + spec.round_every.as_ms() {
        return void(node, spec, record, "interrupted before the values were asked").await;
    }
    let answers = ask_values(node, dendrite, spec, &mut record).await;
    node.faults.strike(vitals.name());
    record.state = RoundState::Pending;
    let round_key = (spec.id.clone(), record.start_ms);
    let mut batch = Batch::new().put(&round_key, &record).step("encoding the round")?;
    for (hotkey, answer) in &answers {
        let key = (spec.id.clone(), record.start_ms, *hotkey);
        batch = batch.put(&key, answer).step("encoding an answer")?;
    }
    node.store.write(batch).await.broken("storing the answers")?;
    info!(actor = "query", round = record.round_id, answers = answers.len(), "round is pending");
    if let Err(error) = node.book.tell(RoundPending { due_at_ms: record.due_at_ms }) {
        // The evaluator looks into the store by itself as well.
        warn!(actor = "query", %error, "evaluator not told");
    }
    Ok(())
}

async fn save(node: &Node, spec: &StreamSpec, record: &RoundRecord) -> Result<(), ActorError> {
    let key = (spec.id.clone(), record.start_ms);
    let batch = Batch::new().put(&key, record).step("encoding the round")?;
    node.store.write(batch).await.broken("storing the round")
}

async fn void(
    node: &Node,
    spec: &StreamSpec,
    mut record: RoundRecord,
    reason: &str,
) -> Result<(), ActorError> {
    warn!(actor = "query", round = record.round_id, reason, "round is void");
    record.state = RoundState::Void(reason.to_owned());
    save(node, spec, &record).await
}

/// The question's wire form.
fn request(spec: &StreamSpec, record: &RoundRecord) -> ForecastRequest {
    ForecastRequest {
        request_uuid: record.round_id.clone(),
        stream_id: spec.id.0.clone(),
        topic_id: spec.topic_id,
        schema_id: spec.schema_id,
        feature_ids: vec![1.0, 2.0, 3.0, 4.0, 5.0],
        prediction_size: u32::try_from(spec.horizon).unwrap_or(u32::MAX),
    }
}

/// The address of a miner as the chain lists it now.
fn target(node: &Node, miner: &AskedMiner) -> Result<AxonTarget, RefusalReason> {
    let metagraph = node.boards.metagraph.load_full();
    let neuron = metagraph.as_ref().and_then(|metagraph| metagraph.by_hotkey(&miner.hotkey));
    let axon = neuron.and_then(|neuron| neuron.axon.as_ref()).ok_or(RefusalReason::NoAxon)?;
    if !node.settings.load().validator.allow_local_axons && !is_public(axon.ip) {
        return Err(RefusalReason::AddressNotAllowed(axon.ip.to_string()));
    }
    Ok(AxonTarget { hotkey: miner.hotkey, address: (axon.ip, axon.port).into() })
}

/// Tells whether an address from the chain may be asked outside of an embedded network.
fn is_public(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_unspecified()
                || ip.is_documentation()
                || ip.octets()[0] == 0
                || shared)
        }
        std::net::IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(
            || {
                !(ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_multicast()
                    || ip.is_unique_local()
                    || ip.is_unicast_link_local())
            },
            |mapped| is_public(mapped.into()),
        ),
    }
}

/// Returns the real time that a miner has for an answer.
fn timeout(node: &Node) -> Duration {
    let validator = &node.settings.load().validator;
    let scaled = node.market.real_duration_of(validator.query_timeout);
    scaled.max(validator.query_timeout_floor)
}

fn refusal(error: &QueryError) -> RefusalReason {
    match error {
        QueryError::Timeout { .. } => RefusalReason::Timeout,
        QueryError::Connect { reason, .. } => RefusalReason::NoAnswer(RefusalReason::clip(reason)),
        QueryError::Broken(reason) => RefusalReason::NoAnswer(RefusalReason::clip(reason)),
        QueryError::Status { code, message } => {
            RefusalReason::HttpError(*code, RefusalReason::clip(message))
        }
        QueryError::TooLarge { limit } => RefusalReason::TooLarge { limit_bytes: *limit },
        QueryError::NoAnswer { .. } => RefusalReason::Empty,
        QueryError::Values(error) => error.clone().into(),
        other => RefusalReason::Decode(RefusalReason::clip(&other.to_string())),
    }
}

fn refuse(node: &Node, round: &str, miner: &mut AskedMiner, reason: &RefusalReason) {
    let text = reason.to_string();
    node.events.emit(Event::Refusal {
        round: round.to_owned(),
        hotkey: miner.hotkey,
        reason: text.clone(),
    });
    miner.refusal = Some(text);
}

async fn ask_commitments(
    node: &Node,
    dendrite: &Dendrite,
    spec: &StreamSpec,
    record: &mut RoundRecord,
) {
    let (request, timeout) = (request(spec, record), timeout(node));
    let (request, round) = (&request, record.round_id.clone());
    let mut asks: FuturesUnordered<_> = record
        .asked
        .iter_mut()
        .map(|miner| async move {
            let answer = match target(node, miner) {
                Ok(target) => {
                    let commitment = dendrite.commit(&target, request, timeout).await;
                    commitment.map_err(|error| refusal(&error))
                }
                Err(reason) => Err(reason),
            };
            (miner, answer)
        })
        .collect();
    while let Some((miner, answer)) = asks.next().await {
        let answer = answer.and_then(|text| check_commitment(&text).map(|()| text));
        match answer {
            Ok(commitment) => {
                miner.commitment = Some(commitment);
                node.events.emit(Event::Commitment { round: round.clone(), hotkey: miner.hotkey });
            }
            Err(reason) => refuse(node, &round, miner, &reason),
        }
    }
}

async fn ask_values(
    node: &Node,
    dendrite: &Dendrite,
    spec: &StreamSpec,
    record: &mut RoundRecord,
) -> Vec<(Hotkey, AnswerRecord)> {
    let (request, timeout) = (request(spec, record), timeout(node));
    let (request, round) = (&request, record.round_id.clone());
    let factor = node.settings.load().validator.absurd_factor;
    let sane = Some((record.last_close, factor));
    let commitments: Vec<(Hotkey, String)> = record
        .asked
        .iter()
        .filter_map(|miner| Some((miner.hotkey, miner.commitment.clone()?)))
        .collect();
    let shared = shared_commitments(&commitments);
    let mut asks: FuturesUnordered<_> = record
        .asked
        .iter_mut()
        .filter(|miner| miner.commitment.is_some() && miner.refusal.is_none())
        .map(|miner| async move {
            let answer = match target(node, miner) {
                Ok(target) => {
                    let revealed = dendrite.reveal(&target, request, timeout).await;
                    revealed.map_err(|error| refusal(&error))
                }
                Err(reason) => Err(reason),
            };
            (miner, answer)
        })
        .collect();
    let mut accepted = Vec::new();
    while let Some((miner, answer)) = asks.next().await {
        let commitment = miner.commitment.clone().unwrap_or_default();
        let answer = answer.and_then(|revealed| {
            let check = AnswerCheck {
                hotkey: &miner.hotkey,
                commitment: Some(&commitment),
                is_shared: shared.contains(&miner.hotkey),
                stream: &spec.id,
                start_ms: record.start_ms,
                horizon: spec.horizon,
                absurd: sane,
            };
            check_answer(&check, revealed.values)
        });
        match answer {
            Ok(forecast) => {
                node.events.emit(Event::Reveal { round: round.clone(), hotkey: miner.hotkey });
                let closes = forecast.closes().to_vec();
                accepted.push((miner.hotkey, AnswerRecord { closes, commitment }));
            }
            Err(reason) => refuse(node, &round, miner, &reason),
        }
    }
    accepted
}

impl Actor for Query {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.resume_after, |_, ctx| ctx.notify(Begin));
    }
}

impl Supervised for Query {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<Begin> for Query {
    type Result = ();

    fn handle(&mut self, _: Begin, ctx: &mut Self::Context) {
        if let Err(error) = guard::run(self, ctx, "resuming rounds", Self::begin) {
            warn!(actor = "query", %error, "rounds cannot be resumed");
        }
    }
}

impl Handler<Slot> for Query {
    type Result = ();

    fn handle(&mut self, message: Slot, ctx: &mut Self::Context) {
        let outcome =
            guard::run(self, ctx, "opening a round", |actor, ctx| actor.open(ctx, message));
        if let Err(error) = outcome {
            warn!(actor = "query", %error, "slot not opened");
        }
    }
}

crate::life_signs!(Query);
