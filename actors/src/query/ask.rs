//! One query to many miners at once: the commitments, then the values.
//!
//! Each miner costs at most its own answer: what is late, unreadable or wrong is a refusal with its
//! reason. A stopping tree leaves at once with the answers that arrived.

use std::collections::BTreeSet;
use std::time::Duration;

use forecastd_core::rounds::{
    AnswerCheck, RefusalReason, check_answer, check_commitment, shared_commitments,
};
use forecastd_core::{Hotkey, StreamSpec};
use forecastd_store::{AnswerRecord, AskedMiner, RoundRecord};
use forecastd_wire::{AxonTarget, Dendrite, ForecastRequest, QueryError};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::events::Event;
use crate::node::Node;

/// How a query to all miners ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Every miner answered or is refused.
    All,
    /// The tree stops; the others were not waited for.
    Interrupted,
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
        QueryError::Connect { reason, .. } | QueryError::Broken(reason) => {
            RefusalReason::NoAnswer(RefusalReason::clip(reason))
        }
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

/// Asks the miners of the round that neither committed nor were refused for their commitments.
pub(super) async fn commitments(
    node: &Node,
    dendrite: &Dendrite,
    spec: &StreamSpec,
    record: &mut RoundRecord,
) -> Asked {
    let (request, timeout) = (request(spec, record), timeout(node));
    let (request, round) = (&request, record.round_id.clone());
    let mut asks: FuturesUnordered<_> = record
        .asked
        .iter_mut()
        .filter(|miner| miner.commitment.is_none() && miner.refusal.is_none())
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
    loop {
        let next = tokio::select! {
            next = asks.next() => next,
            () = node.drain.begun() => return Asked::Interrupted,
        };
        let Some((miner, answer)) = next else { return Asked::All };
        match answer.and_then(|text| check_commitment(&text).map(|()| text)) {
            Ok(commitment) => miner.commitment = Some(commitment),
            Err(reason) => refuse(node, &round, miner, &reason),
        }
    }
}

/// Asks the miners that committed for their values, except those whose answer is `known`, and
/// returns the accepted ones.
pub(super) async fn values(
    node: &Node,
    dendrite: &Dendrite,
    spec: &StreamSpec,
    record: &mut RoundRecord,
    known: &BTreeSet<Hotkey>,
) -> (Asked, Vec<(Hotkey, AnswerRecord)>) {
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
        .filter(|miner| !known.contains(&miner.hotkey))
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
    loop {
        let next = tokio::select! {
            next = asks.next() => next,
            () = node.drain.begun() => return (Asked::Interrupted, accepted),
        };
        let Some((miner, answer)) = next else { return (Asked::All, accepted) };
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
                let closes = forecast.closes().to_vec();
                accepted.push((miner.hotkey, AnswerRecord { closes, commitment }));
            }
            Err(reason) => refuse(node, &round, miner, &reason),
        }
    }
}
