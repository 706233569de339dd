//! Asks all miners each slot: commitments first, the values a minute later.
//!
//! Receives: its own timers. Sends: [`RoundPending`] to the evaluator. Owns `RoundRecord`s up to
//! the state pending and writes `AnswerRecord`s. A round is on disk before the first miner is
//! asked; commitments are on disk before any value is asked for; accepted values and the state
//! pending are one transaction. On restart: a round that is still in its time goes on where it
//! stood (miners answer the same to the same request id); one whose time has passed becomes void
//! with the reason. Slots that passed unasked are skipped and reported, never made up for; no slot
//! is asked twice, whatever the clock does.
//!
//! [`RoundPending`]: crate::evaluator::RoundPending

mod ask;
mod round;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::rounds::{opens_until_ms, slot_to_ask};
use forecastd_core::{StreamId, StreamSpec};
use forecastd_store::{ResultRecord, RoundRecord};
use forecastd_wire::Dendrite;
use tracing::{info, warn};

use crate::error::{ActorError, StepContext};
use crate::events::Event;
use crate::guard;
use crate::node::Node;
use crate::settings::StreamSettings;
use crate::vitals::Vitals;

/// Pause before a slot is tried again that could not be opened, market time.
const OPEN_RETRY: Duration = Duration::from_secs(10);
/// Least and greatest real time of that pause.
const OPEN_RETRY_REAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Pause before the store is read again that could not be read, real time.
const READ_RETRY: Duration = Duration::from_secs(1);

#[derive(Message)]
#[rtype(result = "()")]
struct Begin;

#[derive(Clone, Message)]
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
    /// Why the running slot cannot be opened, so that it is said once.
    obstacle: Option<String>,
}

impl Query {
    /// Creates the actor; it asks with `dendrite`.
    pub const fn new(node: Node, vitals: Arc<Vitals>, dendrite: Arc<Dendrite>) -> Self {
        Self { node, vitals, dendrite, resume_after: Duration::ZERO, obstacle: None }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let settings = self.node.settings.load_full();
        let mut plans = Vec::new();
        // All is read before anything is begun: after a failed reading this runs again as a whole.
        for stream in &settings.streams {
            let spec = &stream.spec;
            let last_ms = last_slot(&self.node, &spec.id)?;
            let next_ms = self.next_slot(spec, None)?;
            plans.push((stream, unfinished_rounds(&self.node, &spec.id)?, last_ms, next_ms));
        }
        for (stream, rounds, last_ms, next_ms) in plans {
            let spec = &stream.spec;
            for record in rounds {
                info!(actor = "query", round = record.round_id, "going on with a round");
                self.run(ctx, stream.clone(), record, false);
            }
            if let Some(last_ms) = last_ms {
                skipped(&self.node, spec, last_ms + spec.round_every.as_ms(), next_ms);
            }
            self.arm(ctx, Slot { stream: spec.id.clone(), slot_ms: next_ms });
        }
        Ok(())
    }

    /// Returns the slot to ask next; `running` is one whose record may not be on disk yet.
    fn next_slot(&self, spec: &StreamSpec, running: Option<i64>) -> Result<i64, ActorError> {
        let now_ms = self.node.market.now_ms();
        let mut asked = asked_slots(&self.node, &spec.id, spec.round_every.floor(now_ms))?;
        asked.extend(running);
        Ok(slot_to_ask(spec, now_ms, |slot_ms| asked.contains(&slot_ms)))
    }

    fn arm(&self, ctx: &mut Context<Self>, slot: Slot) {
        let wait = self.node.market.real_duration_until(slot.slot_ms);
        ctx.run_later(wait, move |_, ctx| ctx.notify(slot));
    }

    fn run(
        &self,
        ctx: &mut Context<Self>,
        stream: StreamSettings,
        record: RoundRecord,
        is_new: bool,
    ) {
        let (node, dendrite) = (self.node.clone(), Arc::clone(&self.dendrite));
        let vitals = Arc::clone(&self.vitals);
        let work = self.node.drain.track(async move {
            let spec = &stream.spec;
            let record =
                if is_new { round::create(&node, spec, record).await? } else { Some(record) };
            let Some(record) = record else { return Ok(()) };
            round::run(&node, &vitals, &dendrite, spec, record).await
        });
        guard::spawn(self, ctx, "running a round", work, |_, _, ()| Ok(()));
    }

    fn open(&mut self, ctx: &mut Context<Self>, slot: &Slot) -> Result<(), ActorError> {
        let settings = self.node.settings.load_full();
        let Some(stream) = settings.stream(&slot.stream) else { return Ok(()) };
        let (spec, slot_ms) = (&stream.spec, slot.slot_ms);
        let now_ms = self.node.market.now_ms();
        if self.node.drain.has_begun() {
            return Ok(());
        }
        // Timers fire early when the clock is set back and late under load: the grid decides.
        if now_ms < slot_ms {
            self.arm(ctx, slot.clone());
            return Ok(());
        }
        if now_ms >= opens_until_ms(spec, slot_ms) {
            let next_ms = self.next_slot(spec, None)?;
            skipped(&self.node, spec, slot_ms, next_ms);
            self.arm(ctx, Slot { slot_ms: next_ms, ..slot.clone() });
            return Ok(());
        }
        match round::plan(&self.node, spec, slot_ms) {
            Ok(record) => {
                let next_ms = self.next_slot(spec, Some(slot_ms))?;
                self.obstacle = None;
                self.run(ctx, stream.clone(), record, true);
                self.arm(ctx, Slot { slot_ms: next_ms, ..slot.clone() });
            }
            Err(error) => {
                let obstacle = error.to_string();
                if self.obstacle.as_ref() != Some(&obstacle) {
                    warn!(actor = "query", %error, slot_ms, "round not opened yet");
                    self.obstacle = Some(obstacle);
                }
                let (least, most) = OPEN_RETRY_REAL;
                let pause = self.node.market.real_duration_of(OPEN_RETRY).clamp(least, most);
                let slot = slot.clone();
                ctx.run_later(pause, move |_, ctx| ctx.notify(slot));
            }
        }
        Ok(())
    }
}

fn unfinished_rounds(node: &Node, stream: &StreamId) -> Result<Vec<RoundRecord>, ActorError> {
    let mut unfinished = Vec::new();
    for row in node.store.scan_prefix::<RoundRecord>(stream) {
        let (_, record) = row.step("reading rounds")?;
        if record.state.asks() {
            unfinished.push(record);
        }
    }
    Ok(unfinished)
}

/// Returns the newest slot that was ever opened.
fn last_slot(node: &Node, stream: &StreamId) -> Result<Option<i64>, ActorError> {
    let open = node.store.last::<RoundRecord>(stream).step("reading rounds")?;
    let settled = node.store.last::<ResultRecord>(stream).step("reading results")?;
    let slot = |key: (StreamId, i64)| key.1;
    Ok(open.map(|(key, _)| slot(key)).max(settled.map(|(key, _)| slot(key))))
}

/// Returns the slots from `from_ms` on that were opened, settled or not.
fn asked_slots(node: &Node, stream: &StreamId, from_ms: i64) -> Result<BTreeSet<i64>, ActorError> {
    let range = || (stream.clone(), from_ms)..(stream.clone(), i64::MAX);
    let mut slots = BTreeSet::new();
    for row in node.store.scan::<RoundRecord>(range()) {
        let ((_, slot_ms), _) = row.step("reading rounds")?;
        slots.insert(slot_ms);
    }
    for row in node.store.scan::<ResultRecord>(range()) {
        let ((_, slot_ms), _) = row.step("reading results")?;
        slots.insert(slot_ms);
    }
    Ok(slots)
}

fn skipped(node: &Node, spec: &StreamSpec, from_ms: i64, until_ms: i64) {
    let count = u64::try_from((until_ms - from_ms) / spec.round_every.as_ms()).unwrap_or(0);
    if count > 0 {
        warn!(actor = "query", stream = %spec.id, count, "slots passed unasked");
        node.events.emit(Event::SlotsSkipped { stream: spec.id.clone(), count, from_ms });
    }
}

impl Actor for Query {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.resume_after, |_, ctx| ctx.notify(Begin));
    }
}

impl Supervised for Query {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.obstacle = None;
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<Begin> for Query {
    type Result = ();

    fn handle(&mut self, _: Begin, ctx: &mut Self::Context) {
        if let Err(error) = guard::run(self, ctx, "resuming rounds", Self::begin)
            && !error.is_fatal()
        {
            warn!(actor = "query", %error, "rounds not resumed yet");
            ctx.run_later(READ_RETRY, |_, ctx| ctx.notify(Begin));
        }
    }
}

impl Handler<Slot> for Query {
    type Result = ();

    fn handle(&mut self, slot: Slot, ctx: &mut Self::Context) {
        let outcome = guard::run(self, ctx, "opening a round", |actor, ctx| actor.open(ctx, &slot));
        if let Err(error) = outcome
            && !error.is_fatal()
        {
            warn!(actor = "query", %error, "slot not opened yet");
            ctx.run_later(READ_RETRY, move |_, ctx| ctx.notify(slot));
        }
    }
}

crate::life_signs!(Query);
