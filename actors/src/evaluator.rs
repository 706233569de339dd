//! Scores due rounds: all of them, oldest first, exactly once.
//!
//! Receives: [`RoundPending`] from the query actor (a hint; the store is the truth), its own timer.
//! Sends: [`RealisedRequest`] to the candle actor, [`ScoresUpdated`] to the weight setter. Owns
//! `ResultRecord`, `EmaRecord`, `EmaHistoryRecord`, `ScoredAnswerRecord`, `ScheduleRecord`, and
//! removes a round from the hot database once its result is on disk. Result, EMA and answers are
//! one transaction that requires the result to be absent, so a restart at any instant changes
//! nothing. A round whose closes do not settle within the wait limit becomes void with the reason;
//! until then it holds back the younger ones, which keeps the order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::realised::Realised;
use forecastd_core::{RoundEvent, RoundState, StreamSpec, VoidReason};
use forecastd_store::{Batch, ResultRecord, RoundRecord, StoreError};
use tracing::{info, warn};

use crate::candles::RealisedRequest;
use crate::error::{ActorError, StepContext};
use crate::events::Event;
use crate::guard;
use crate::ledger;
use crate::node::Node;
use crate::persist::persist;
use crate::settings::StreamSettings;
use crate::vitals::Vitals;
use crate::weights::ScoresUpdated;

/// Longest pause between two looks into the store, market time.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// Least real pause between two looks.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// Wait after the due time at which an operator must look, market time.
const OVERDUE_MS: i64 = 1_800_000;
/// Longest wait for the candle actor, which may have to ask an exchange.
const REALISED_DEADLINE: Duration = Duration::from_secs(30);

/// A round became pending. Sent by the query actor; lost hints do no harm.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct RoundPending {
    /// When it is due.
    pub due_at_ms: i64,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Look;

/// The evaluator, see the module.
#[derive(Debug)]
pub struct Evaluator {
    node: Node,
    vitals: Arc<Vitals>,
    resume_after: Duration,
}

impl Evaluator {
    /// Creates the actor; it looks into the store after its start.
    pub const fn new(node: Node, vitals: Arc<Vitals>) -> Self {
        Self { node, vitals, resume_after: Duration::ZERO }
    }
}

/// What a look at one stream came to.
enum Settled {
    /// The round got its result.
    Done,
    /// The oldest due round cannot be settled yet.
    Waiting,
}

/// Settles all due rounds of all streams, oldest first.
async fn settle_due(node: &Node, vitals: &Vitals) -> Result<(), ActorError> {
    let settings = node.settings.load_full();
    for stream in &settings.streams {
        let about = format!("evaluation of {}", stream.spec.id);
        let due = due_rounds(node, &stream.spec)?;
        if due.is_empty() {
            node.clear_alarm(&about);
        }
        for record in due {
            vitals.progress("settling a round", &*node.real);
            node.faults.strike(vitals.name());
            if node.drain.has_begun() {
                return Ok(());
            }
            let (round, due_at_ms) = (record.round_id.clone(), record.due_at_ms);
            match settle(node, stream, record).await? {
                Settled::Done => node.clear_alarm(&about),
                Settled::Waiting => {
                    let waits_ms = node.market.now_ms().saturating_sub(due_at_ms);
                    if waits_ms > OVERDUE_MS {
                        let minutes = waits_ms / 60_000;
                        let what = format!("round {round} is overdue for {minutes} min");
                        node.raise_alarm(&about, what);
                    }
                    break;
                }
            }
        }
    }
    let pending = node.store.count::<RoundRecord>().step("counting rounds")?;
    node.boards.update(|live| live.pending_rounds = pending);
    Ok(())
}

fn due_rounds(node: &Node, spec: &StreamSpec) -> Result<Vec<RoundRecord>, ActorError> {
    let range = (spec.id.clone(), i64::MIN)..(spec.id.clone(), i64::MAX);
    let mut due = Vec::new();
    let now_ms = node.market.now_ms();
    for row in node.store.scan::<RoundRecord>(range) {
        let (_, record) = row.step("reading rounds")?;
        if record.due_at_ms > now_ms {
            break;
        }
        due.push(record);
    }
    Ok(due)
}

async fn settle(
    node: &Node,
    stream: &StreamSettings,
    record: RoundRecord,
) -> Result<Settled, ActorError> {
    let spec = &stream.spec;
    let key = (spec.id.clone(), record.start_ms);
    if node.store.get::<ResultRecord>(&key).step("looking a result up")?.is_some() {
        // The result was written, then the process died: only the clearing is left.
        ledger::clear_hot(node, spec, &record).await?;
        return Ok(Settled::Done);
    }
    match &record.state {
        RoundState::Void { .. } => return void(node, spec, record).await,
        state if state.asks() => return give_up(node, spec, record, VoidReason::Missed).await,
        _ => {}
    }
    let wait = node.settings.load().validator.realised_wait;
    let gives_up_ms =
        record.due_at_ms.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    let is_last_call = node.market.now_ms() > gives_up_ms;
    let request =
        RealisedRequest { stream: spec.id.clone(), start_ms: record.start_ms, is_last_call };
    let realised = match node.book.ask(request, REALISED_DEADLINE).await {
        Ok(Ok(realised)) => realised,
        Ok(Err(error)) | Err(error) => {
            warn!(actor = "evaluator", round = record.round_id, %error, "realised closes not read");
            Realised::NotYet
        }
    };
    match realised {
        Realised::Settled { closes, .. } => score(node, spec, record, closes).await,
        Realised::Missing { count } => {
            give_up(node, spec, record, VoidReason::MissingCandles { count }).await
        }
        Realised::NotYet if is_last_call => {
            let waited_hours = wait.as_secs() / 3600;
            give_up(node, spec, record, VoidReason::NoRealisedCloses { waited_hours }).await
        }
        Realised::NotYet => Ok(Settled::Waiting),
    }
}

async fn score(
    node: &Node,
    spec: &StreamSpec,
    mut record: RoundRecord,
    realised: Vec<f64>,
) -> Result<Settled, ActorError> {
    let Some(metagraph) = node.boards.metagraph.load_full() else {
        return Ok(Settled::Waiting);
    };
    let own = node.hotkey();
    let members: Vec<_> = metagraph
        .neurons
        .iter()
        .filter(|neuron| neuron.hotkey != own)
        .map(|neuron| (neuron.hotkey, neuron.registered_at_block))
        .collect();
    let answers = ledger::hot_answers(node, spec, &record)?;
    if answers.is_empty() {
        return give_up(node, spec, record, VoidReason::NoReveals).await;
    }
    ledger::advance(&mut record, RoundEvent::Scored)?;
    let config = node.settings.load().validator.scoring.clone();
    let plan =
        ledger::ScoredRound::compute(node, spec, &record, realised, members, answers, &config)?;
    write_result(node, plan.batch).await?;
    info!(
        actor = "evaluator",
        round = record.round_id,
        start_ms = record.start_ms,
        scored = plan.scored,
        "round is scored"
    );
    let best = plan.best;
    node.events.emit(Event::RoundScored {
        stream: spec.id.clone(),
        round: record.round_id.clone(),
        start_ms: record.start_ms,
        scored: plan.scored,
        best: best.map(|(hotkey, _)| hotkey),
        best_rmse: best.map(|(_, rmse)| rmse),
    });
    ledger::clear_hot(node, spec, &record).await?;
    if let Err(error) = node.book.tell(ScoresUpdated) {
        // The weight setter looks by itself as well.
        warn!(actor = "evaluator", %error, "weight setter not told");
    }
    Ok(Settled::Done)
}

/// Writes a result. One that is there already is the same one, written before a restart.
async fn write_result(node: &Node, batch: Batch) -> Result<(), ActorError> {
    match persist(node, batch).await {
        Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error).broken("storing a result"),
    }
}

async fn give_up(
    node: &Node,
    spec: &StreamSpec,
    mut record: RoundRecord,
    reason: VoidReason,
) -> Result<Settled, ActorError> {
    ledger::advance(&mut record, RoundEvent::GivenUp { reason })?;
    void(node, spec, record).await
}

/// Writes the result of a round that ended without scores.
async fn void(node: &Node, spec: &StreamSpec, record: RoundRecord) -> Result<Settled, ActorError> {
    let RoundState::Void { reason } = &record.state else { return Ok(Settled::Waiting) };
    write_result(node, ledger::void_result(node, spec, &record, reason)?).await?;
    warn!(actor = "evaluator", round = record.round_id, %reason, "round is void");
    node.events.emit(Event::RoundVoid {
        stream: spec.id.clone(),
        round: record.round_id.clone(),
        start_ms: record.start_ms,
        reason: reason.to_string(),
    });
    ledger::clear_hot(node, spec, &record).await?;
    Ok(Settled::Done)
}

/// Returns the real time until the next look: the next due time, or the usual pause if sooner.
fn next_look(node: &Node) -> Duration {
    let now_ms = node.market.now_ms();
    let settings = node.settings.load();
    let streams: HashSet<_> = settings.streams.iter().map(|stream| &stream.spec.id).collect();
    let next_due = streams
        .into_iter()
        .filter_map(|stream| {
            let range = (stream.clone(), i64::MIN)..(stream.clone(), i64::MAX);
            let rows = node.store.scan::<RoundRecord>(range);
            rows.filter_map(Result::ok).map(|(_, record)| record.due_at_ms).find(|at| *at > now_ms)
        })
        .min();
    let usual = node.market.real_duration_of(LOOK_EVERY);
    let wait = next_due.map_or(usual, |at| node.market.real_duration_until(at).min(usual));
    wait.max(LEAST_PAUSE)
}

impl Actor for Evaluator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.resume_after, |_, ctx| ctx.notify(Look));
    }
}

impl Supervised for Evaluator {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<Look> for Evaluator {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        let (node, vitals) = (self.node.clone(), Arc::clone(&self.vitals));
        // An error that is no reason to restart is data here: the next look must be armed too.
        let drain = node.drain.clone();
        let work = drain.track(async move {
            match settle_due(&node, &vitals).await {
                Err(error) if !error.is_fatal() => {
                    warn!(actor = "evaluator", %error, "settling stopped, trying again");
                    Ok(())
                }
                outcome => outcome,
            }
        });
        guard::spawn(self, ctx, "settling due rounds", work, |actor, ctx, ()| {
            ctx.run_later(next_look(&actor.node), |_, ctx| ctx.notify(Look));
            Ok(())
        });
    }
}

impl Handler<RoundPending> for Evaluator {
    type Result = ();

    fn handle(&mut self, message: RoundPending, ctx: &mut Self::Context) {
        let noted = guard::run(self, ctx, "noting a round", |actor, _| {
            actor.node.boards.update(|live| live.pending_rounds += 1);
            Ok(message.due_at_ms)
        });
        drop(noted);
    }
}

crate::life_signs!(Evaluator);
