//! One round from its opening to pending or void; every step is durable before the next.

use std::collections::BTreeSet;
use std::time::Duration;

use forecastd_core::rounds::{RoundEvent, opens_until_ms, reveals_until_ms};
use forecastd_core::{Hotkey, RoundState, StreamSpec, VoidReason};
use forecastd_store::{AnswerRecord, AskedMiner, Batch, RoundRecord, StoreError};
use forecastd_wire::Dendrite;
use tracing::{info, warn};

use super::ask::{self, Asked};
use crate::error::{ActorError, StepContext};
use crate::evaluator::RoundPending;
use crate::events::Event;
use crate::ledger;
use crate::node::Node;
use crate::persist::persist;
use crate::vitals::Vitals;

/// How often the first view of the chain is looked for, real time.
const CHAIN_POLL: Duration = Duration::from_millis(20);

/// Decides whom to ask. Nothing is written here.
pub(super) fn plan(
    node: &Node,
    spec: &StreamSpec,
    slot_ms: i64,
) -> Result<RoundRecord, ActorError> {
    let settings = node.settings.load();
    if node.store.stats().free_bytes < settings.store_floor_bytes {
        return Err(ActorError::NotReady("less disk space is free than `store.floor`"));
    }
    let metagraph = node.boards.metagraph.load_full();
    let metagraph = metagraph.ok_or(ActorError::NotReady("the chain has not been read yet"))?;
    let newest = node
        .boards
        .newest_candle(&spec.id)
        .ok_or(ActorError::NotReady("no closed candle is known yet"))?;
    let own = node.hotkey();
    let asked: Vec<AskedMiner> = metagraph
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
    if asked.is_empty() {
        return Err(ActorError::NotReady("no miner of the subnet can be asked"));
    }
    let settle = settings.validator.settle_delay;
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

/// Writes a new round and returns it. When a round of the slot is there already, which an actor wrote
/// right before it died, that one is returned while it has to ask: the new one never asked anybody.
pub(super) async fn create(
    node: &Node,
    spec: &StreamSpec,
    record: RoundRecord,
) -> Result<Option<RoundRecord>, ActorError> {
    let key = (spec.id.clone(), record.start_ms);
    let batch = Batch::new().require_absent::<RoundRecord>(&key);
    let batch = batch.put(&key, &record).step("encoding the round")?;
    match persist(node, batch).await {
        Ok(()) => {}
        Err(StoreError::Conflict { .. }) => {
            let known = node.store.get::<RoundRecord>(&key).step("looking a round up")?;
            let known = known.filter(|known| known.state.asks());
            if known.as_ref().is_none_or(|known| known.round_id != record.round_id) {
                warn!(actor = "query", start_ms = record.start_ms, "slot was opened before");
                return Ok(known);
            }
        }
        Err(error) => return Err(error).broken("storing a new round"),
    }
    node.events.emit(Event::RoundOpened {
        stream: spec.id.clone(),
        round: record.round_id.clone(),
        start_ms: record.start_ms,
        asked: record.asked.len(),
    });
    Ok(Some(record))
}

/// Takes a stored round from its present state to pending or void. A stopping tree leaves it in
/// the state it reached, with the answers that arrived; the next start goes on from there.
pub(super) async fn run(
    node: &Node,
    vitals: &Vitals,
    dendrite: &Dendrite,
    spec: &StreamSpec,
    mut record: RoundRecord,
) -> Result<(), ActorError> {
    if record.state == RoundState::Opened {
        let until_ms = opens_until_ms(spec, record.start_ms);
        if wait_for_chain(node, until_ms).await == Asked::Interrupted {
            return Ok(());
        }
        if node.market.now_ms() >= until_ms {
            return give_up(node, spec, record, VoidReason::Missed).await;
        }
        let asked = ask::commitments(node, dendrite, spec, &mut record).await;
        if asked == Asked::All {
            let accepted = record.asked.iter().filter(|miner| miner.commitment.is_some()).count();
            ledger::advance(&mut record, RoundEvent::CommitmentsStored { accepted })?;
        }
        save(node, spec, &record, &[]).await?;
        for miner in record.asked.iter().filter(|miner| miner.commitment.is_some()) {
            let (round, hotkey) = (record.round_id.clone(), miner.hotkey);
            node.events.emit(Event::Commitment { round, hotkey });
        }
        if asked == Asked::Interrupted || report_end(&record) {
            return Ok(());
        }
    }
    node.faults.strike(vitals.name());
    let reveal_after = node.settings.load().validator.reveal_after;
    let reveal_after_ms = i64::try_from(reveal_after.as_millis()).unwrap_or(i64::MAX);
    let reveal_at_ms = record.start_ms.saturating_add(reveal_after_ms);
    tokio::select! {
        () = tokio::time::sleep(node.market.real_duration_until(reveal_at_ms)) => {}
        () = node.drain.begun() => return Ok(()),
    }
    let until_ms = reveals_until_ms(spec, record.start_ms);
    if wait_for_chain(node, until_ms).await == Asked::Interrupted {
        return Ok(());
    }
    if node.market.now_ms() >= until_ms {
        return give_up(node, spec, record, VoidReason::Missed).await;
    }
    let known: BTreeSet<Hotkey> =
        ledger::hot_answers(node, spec, &record)?.into_iter().map(|(hotkey, _)| hotkey).collect();
    let (asked, answers) = ask::values(node, dendrite, spec, &mut record, &known).await;
    node.faults.strike(vitals.name());
    let accepted = known.len() + answers.len();
    if asked == Asked::All {
        ledger::advance(&mut record, RoundEvent::RevealsStored { accepted })?;
    }
    save(node, spec, &record, &answers).await?;
    for (hotkey, _) in &answers {
        let round = record.round_id.clone();
        node.events.emit(Event::Reveal { round, hotkey: *hotkey });
    }
    if asked == Asked::Interrupted || report_end(&record) {
        return Ok(());
    }
    info!(actor = "query", round = record.round_id, answers = accepted, "round is pending");
    if let Err(error) = node.book.tell(RoundPending { due_at_ms: record.due_at_ms }) {
        // The evaluator looks into the store by itself as well.
        warn!(actor = "query", %error, "evaluator not told");
    }
    Ok(())
}

/// Waits for the first view of the chain after a start, at most until `until_ms`: without one nobody
/// has an address, and that is no miner's fault.
async fn wait_for_chain(node: &Node, until_ms: i64) -> Asked {
    while node.boards.metagraph.load().is_none() && node.market.now_ms() < until_ms {
        tokio::select! {
            () = tokio::time::sleep(CHAIN_POLL) => {}
            () = node.drain.begun() => return Asked::Interrupted,
        }
    }
    Asked::All
}

/// Writes the round and its new answers as a whole.
async fn save(
    node: &Node,
    spec: &StreamSpec,
    record: &RoundRecord,
    answers: &[(Hotkey, AnswerRecord)],
) -> Result<(), ActorError> {
    let key = (spec.id.clone(), record.start_ms);
    let mut batch = Batch::new().put(&key, record).step("encoding the round")?;
    for (hotkey, answer) in answers {
        let key = (spec.id.clone(), record.start_ms, *hotkey);
        batch = batch.put(&key, answer).step("encoding an answer")?;
    }
    persist(node, batch).await.broken("storing the round")
}

async fn give_up(
    node: &Node,
    spec: &StreamSpec,
    mut record: RoundRecord,
    reason: VoidReason,
) -> Result<(), ActorError> {
    ledger::advance(&mut record, RoundEvent::GivenUp { reason })?;
    save(node, spec, &record, &[]).await?;
    report_end(&record);
    Ok(())
}

/// Tells whether the round is void, and logs it.
fn report_end(record: &RoundRecord) -> bool {
    let RoundState::Void { reason } = &record.state else { return false };
    warn!(actor = "query", round = record.round_id, %reason, "round is void");
    true
}
