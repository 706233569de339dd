//! Puts the miners' weights on the chain and makes sure that they got there.
//!
//! Receives: [`ScoresUpdated`] from the evaluator (a hint), its own timer. Sends: nothing. Owns
//! `WeightsRecord`s: each attempt with its outcome. Weights come from the stored EMA and are mapped
//! to uids with the metagraph of the same moment; a uid whose owner changed since gets nothing of
//! its predecessor's. Nothing scored means nothing set. An attempt is on disk as unknown before it is
//! sent; after an unknown outcome nothing is sent until the chain's `LastUpdate` has moved or the
//! submission is dead. On restart: looks at the chain first.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_chain::{ChainError, Metagraph, SubnetParams};
use forecastd_core::Uid;
use forecastd_core::weights::{to_u16, weight_shares};
use forecastd_store::{Batch, WeightsOutcome, WeightsRecord};
use tracing::{error, info, warn};

use crate::error::{ActorError, StepContext};
use crate::events::Event;
use crate::guard;
use crate::ledger;
use crate::node::Node;
use crate::persist::persist;
use crate::vitals::Vitals;

/// Least real pause between two looks at the chain.
const LEAST_PAUSE: Duration = Duration::from_millis(500);
/// Tempos without weights on the chain after which an alarm is raised.
const ALARM_TEMPOS: u64 = 2;

/// The EMA changed. Sent by the evaluator; lost hints do no harm.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ScoresUpdated;

#[derive(Message)]
#[rtype(result = "()")]
struct Look;

/// The weight setter, see the module.
#[derive(Debug)]
pub struct WeightSetter {
    node: Node,
    vitals: Arc<Vitals>,
    /// Market time of the last attempt.
    last_attempt_ms: Option<i64>,
    resume_after: Duration,
}

impl WeightSetter {
    /// Creates the actor.
    pub const fn new(node: Node, vitals: Arc<Vitals>) -> Self {
        Self { node, vitals, last_attempt_ms: None, resume_after: Duration::ZERO }
    }
}

/// What the validator should put on the chain now.
enum Decision {
    /// Send these weights.
    Set(Vec<(Uid, u16)>),
    /// Nothing to do, and why.
    Wait(&'static str),
}

/// Decides from one view of the chain and the stored EMA. Nothing is sent here.
fn decide(
    node: &Node,
    metagraph: &Metagraph,
    params: &SubnetParams,
) -> Result<Decision, ActorError> {
    let Some(own) = metagraph.by_hotkey(&node.hotkey()) else {
        return Ok(Decision::Wait("this hotkey is not registered in the subnet"));
    };
    if !own.validator_permit {
        return Ok(Decision::Wait("this hotkey has no validator permit"));
    }
    let since_update = metagraph.block.saturating_sub(own.last_update);
    if own.last_update != 0 && since_update < params.weights_set_rate_limit {
        return Ok(Decision::Wait("the chain's rate limit"));
    }
    if params.commit_reveal_enabled {
        let what = "the subnet wants weights by commit-reveal, which is not supported yet";
        node.raise_alarm("commit-reveal", what.to_owned());
        return Ok(Decision::Wait(what));
    }
    node.clear_alarm("commit-reveal");
    let settings = node.settings.load();
    let ema = ledger::combined_ema(node)?;
    let shares = weight_shares(&ema, &settings.validator.weights);
    let weights: Vec<(Uid, f64)> = shares
        .into_iter()
        .filter_map(|(hotkey, share)| {
            let neuron = metagraph.by_hotkey(&hotkey)?;
            let entry = ema.0.get(&hotkey)?;
            // A uid that was registered again belongs to somebody new, even under the same key.
            (neuron.registered_at_block == entry.registered_at_block).then_some((neuron.uid, share))
        })
        .collect();
    let weights = to_u16(&weights);
    if weights.is_empty() {
        return Ok(Decision::Wait("nothing is scored yet"));
    }
    if weights.len() < usize::from(params.min_allowed_weights).min(metagraph.neurons.len()) {
        return Ok(Decision::Wait(
            "fewer miners are scored than the subnet's least number of weights",
        ));
    }
    Ok(Decision::Set(weights))
}

/// One look: reads the chain, raises the watchdog's alarm, sets weights when it is time.
async fn look(node: Node, may_send: bool) -> Result<bool, ActorError> {
    let params = node.chain.params().await.step("reading the subnet's parameters")?;
    let metagraph = node.chain.metagraph().await.step("reading the metagraph")?;
    watch(&node, &metagraph, &params);
    let is_resolved = resolve(&node, &metagraph).await?;
    if !may_send || !is_resolved {
        return Ok(false);
    }
    let weights = match decide(&node, &metagraph, &params)? {
        Decision::Set(weights) => weights,
        Decision::Wait(reason) => {
            info!(actor = "weights", reason, "weights not set now");
            return Ok(false);
        }
    };
    let version_key = node.settings.load().validator.version_key.max(params.weights_version_key);
    let at_ms = node.market.now_ms();
    let interrupted = WeightsOutcome::Unknown("the process ended while it was sent".to_owned());
    write(&node, at_ms, metagraph.block, &weights, interrupted).await?;
    let sent = node.chain.set_weights(&node.key.chain_signer(), &weights, version_key).await;
    // Nothing was sent: it may be tried at the next look, not only after the usual pause.
    let is_transient = sent
        .as_ref()
        .is_err_and(|error| error.is_retryable() && !matches!(error, ChainError::Unknown { .. }));
    let (outcome, block) = match sent {
        Ok(submitted) => (WeightsOutcome::Set, submitted.block),
        Err(error @ ChainError::Unknown { .. }) => {
            (WeightsOutcome::Unknown(error.to_string()), metagraph.block)
        }
        Err(error) => (WeightsOutcome::Refused(error.to_string()), metagraph.block),
    };
    report(&node, block, weights.len(), &outcome);
    write(&node, at_ms, block, &weights, outcome).await?;
    Ok(!is_transient)
}

/// Completes the record of an attempt with an unknown outcome: the chain's `LastUpdate` moves when
/// the weights arrive, which may be until their mortality is over; after that they never will.
/// False while it is not known; nothing is sent until then.
async fn resolve(node: &Node, metagraph: &Metagraph) -> Result<bool, ActorError> {
    let newest = node.store.last::<WeightsRecord>(&()).step("reading the weights")?;
    let Some((at_ms, mut record)) = newest else { return Ok(true) };
    let WeightsOutcome::Unknown(error) = &record.outcome else { return Ok(true) };
    let updated = metagraph.by_hotkey(&node.hotkey()).map_or(0, |neuron| neuron.last_update);
    let dead_after = record.block.saturating_add(node.chain.mortality_blocks());
    record.outcome = if updated > record.block {
        record.block = updated;
        WeightsOutcome::Set
    } else if metagraph.block > dead_after {
        WeightsOutcome::Refused(format!("not included: {error}"))
    } else {
        return Ok(false);
    };
    info!(actor = "weights", outcome = ?record.outcome, block = record.block, "outcome is known");
    let batch = Batch::new().put(&at_ms, &record).step("encoding the weights")?;
    persist(node, batch).await.broken("storing the weights")?;
    Ok(true)
}

fn report(node: &Node, block: u64, uids: usize, outcome: &WeightsOutcome) {
    let (name, detail) = match outcome {
        WeightsOutcome::Set => ("set", String::new()),
        WeightsOutcome::Refused(reason) => ("refused", reason.clone()),
        WeightsOutcome::Unknown(reason) => ("unknown", reason.clone()),
    };
    if name == "set" {
        info!(actor = "weights", block, uids, "weights are on the chain");
        node.boards.update(|live| live.weights_block = Some(block));
    } else {
        error!(actor = "weights", block, outcome = name, detail, "weights not set");
    }
    node.events.emit(Event::WeightsSet { block, uids, outcome: name, detail });
}

async fn write(
    node: &Node,
    at_ms: i64,
    block: u64,
    weights: &[(Uid, u16)],
    outcome: WeightsOutcome,
) -> Result<(), ActorError> {
    let record = WeightsRecord {
        at_ms,
        block,
        uids: weights.iter().map(|(uid, _)| uid.0).collect(),
        values: weights.iter().map(|(_, value)| *value).collect(),
        outcome,
    };
    let batch = Batch::new().put(&at_ms, &record).step("encoding the weights")?;
    persist(node, batch).await.broken("storing the weights")
}

/// Counts the tempos since this validator's weights were last seen on the chain.
fn watch(node: &Node, metagraph: &Metagraph, params: &SubnetParams) {
    let Some(own) = metagraph.by_hotkey(&node.hotkey()) else { return };
    node.boards.update(|live| {
        live.head_block = live.head_block.max(metagraph.block);
        live.weights_block = (own.last_update != 0).then_some(own.last_update);
    });
    let tempos = metagraph.block.saturating_sub(own.last_update) / u64::from(params.tempo.max(1));
    if own.last_update != 0 && own.validator_permit && tempos >= ALARM_TEMPOS {
        node.raise_alarm("weights", format!("no weights on the chain for {tempos} tempos"));
    } else {
        node.clear_alarm("weights");
    }
}

impl WeightSetter {
    fn look(&self, ctx: &mut Context<Self>) {
        let every = self.node.settings.load().validator.weights_every;
        let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        let now_ms = self.node.market.now_ms();
        let may_send =
            self.last_attempt_ms.is_none_or(|last| now_ms.saturating_sub(last) >= every_ms);
        let work = look(self.node.clone(), may_send);
        // A submission in flight learns its outcome before the tree ends.
        let work = self.node.drain.track(async move { Ok(work.await) });
        guard::spawn(self, ctx, "setting weights", work, move |actor, ctx, outcome| {
            match outcome {
                Ok(true) => actor.last_attempt_ms = Some(now_ms),
                Ok(false) => {}
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => warn!(actor = "weights", %error, "looking again later"),
            }
            let pause = actor.node.market.real_duration_of(every / 4).max(LEAST_PAUSE);
            ctx.run_later(pause, |_, ctx| ctx.notify(Look));
            Ok(())
        });
    }
}

impl Actor for WeightSetter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.resume_after, |_, ctx| ctx.notify(Look));
    }
}

impl Supervised for WeightSetter {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.last_attempt_ms = None;
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<Look> for WeightSetter {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        if let Err(error) = guard::run(self, ctx, "setting weights", |actor, ctx| {
            actor.look(ctx);
            Ok(())
        }) {
            warn!(actor = "weights", %error, "weights cannot be set");
        }
    }
}

impl Handler<ScoresUpdated> for WeightSetter {
    type Result = ();

    fn handle(&mut self, _: ScoresUpdated, ctx: &mut Self::Context) {
        // The timer sets the pace; this is a sign of life only.
        drop(guard::run(self, ctx, "scores updated", |_, _| Ok(())));
    }
}

crate::life_signs!(WeightSetter);
