//! Signing, submitting and watching one extrinsic.
//!
//! ```text
//! prepare (nonce, era, signature) ─► submit ─► watch ─► in a block ─► its events ─► Submitted
//!    │ retried on another endpoint      │ the pool's error: Refused      └► ExtrinsicFailed: Failed
//!    └► error: nothing was sent         └► anything else: Unknown
//! ```
//! The nonce is read at the best block and the era counts from the last finalised block, which
//! cannot be undone. The tip is zero: priority is fixed by class on this chain.

use std::ops::RangeInclusive;
use std::sync::Arc;

use forecastd_core::Hotkey;
use subxt::config::substrate::H256;
use subxt::error::DispatchError;
use subxt::events::Phase;
use subxt::utils::AccountId32;
use subxt_rpcs::methods::legacy::TransactionStatus;
use subxt_rpcs::{Error as RpcError, UserError};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use crate::advice::custom_name;
use crate::calls::Call;
use crate::connection::{ChainMetrics, Connection, Connections};
use crate::error::ChainError;
use crate::extrinsic::{Era, sign};
use crate::hash::blake2_256;
use crate::heads::best_block;
use crate::types::Submitted;
use crate::wallet::ChainSigner;

const PREPARING: &str = "preparing an extrinsic";
const READING_OUTCOME: &str = "reading an extrinsic's outcome";
/// The pool holds this very extrinsic already.
const CODE_ALREADY_IMPORTED: i32 = 1013;
/// Errors of Substrate's `author` methods: the node's own word on the extrinsic.
const AUTHOR_CODES: RangeInclusive<i32> = 1000..=1999;
/// JSON-RPC: not JSON, not a request, no such method, wrong parameters. Nothing was carried out.
const NOT_CARRIED_OUT_CODES: [i32; 4] = [-32_700, -32_600, -32_601, -32_602];

/// A signed extrinsic, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    bytes: Vec<u8>,
    hash: [u8; 32],
}

/// Signs a call with a fresh nonce.
pub(crate) async fn prepare(
    connection: Arc<Connection>,
    call: Call,
    signer: ChainSigner,
    mortality_blocks: u64,
) -> Result<Prepared, ChainError> {
    let finalised = connection.at_finalised(PREPARING).await?;
    let best = best_block(&connection.header(PREPARING, None).await?);
    let account = AccountId32(*signer.hotkey().as_bytes());
    let nonce = connection.nonce(PREPARING, &account, H256(best.hash)).await?;
    let era = Era {
        period_blocks: mortality_blocks,
        block: finalised.block_number(),
        block_hash: finalised.block_hash(),
    };
    let bytes = sign(&finalised, &call, nonce, era, &signer)?;
    let hash = blake2_256(&bytes);
    debug!(nonce, block = era.block, "extrinsic signed");
    Ok(Prepared { bytes, hash })
}

/// Sends an extrinsic and waits for its block and its outcome there.
///
/// When the future is dropped the extrinsic may still take effect.
pub(crate) async fn send(
    connections: &Connections,
    connection: &Connection,
    prepared: &Prepared,
    hotkey: Hotkey,
) -> Result<Submitted, ChainError> {
    ChainMetrics::count(&connections.metrics.extrinsics_submitted_total);
    let outcome = send_and_watch(connections, connection, prepared).await;
    if let Err(error @ ChainError::Unknown { .. }) = &outcome {
        ChainMetrics::count(&connections.metrics.extrinsics_unknown_total);
        warn!(%hotkey, endpoint = %connection.endpoint, %error, "extrinsic without a known outcome");
    }
    outcome
}

async fn send_and_watch(
    connections: &Connections,
    connection: &Connection,
    prepared: &Prepared,
) -> Result<Submitted, ChainError> {
    let unknown = |reason: String| ChainError::Unknown { extrinsic_hash: prepared.hash, reason };
    let config = &connections.config;
    let deadline = Instant::now() + config.inclusion_timeout;
    let submit = connection.methods.author_submit_and_watch_extrinsic(&prepared.bytes);
    let mut updates = match timeout(config.call_timeout, submit).await {
        Ok(Ok(updates)) => updates,
        Ok(Err(RpcError::User(error))) => return Err(refusal(&error, prepared)),
        Ok(Err(error)) => {
            connections.discard(connection).await;
            return Err(unknown(format!("sending it failed: {error}")));
        }
        Err(_) => {
            connections.discard(connection).await;
            return Err(unknown(format!("no answer within {:?}", config.call_timeout)));
        }
    };
    loop {
        match timeout_at(deadline, updates.next()).await {
            Ok(Some(Ok(status))) => match status {
                TransactionStatus::InBlock(block) | TransactionStatus::Finalized(block) => {
                    let read = timeout(config.call_timeout, outcome(connection, prepared, block));
                    let Ok(outcome) = read.await else {
                        connections.discard(connection).await;
                        let reason = format!("it is in block {block:?}, but reading that is late");
                        return Err(unknown(reason));
                    };
                    return outcome;
                }
                TransactionStatus::Usurped(_) => {
                    return Err(unknown("another extrinsic with its nonce took its place".into()));
                }
                TransactionStatus::Invalid => {
                    return Err(unknown("the pool found it invalid after taking it".into()));
                }
                TransactionStatus::Dropped => {
                    return Err(unknown("the pool dropped it".into()));
                }
                TransactionStatus::FinalityTimeout(block) => {
                    return Err(unknown(format!("its block {block:?} was not finalised")));
                }
                TransactionStatus::Future
                | TransactionStatus::Ready
                | TransactionStatus::Broadcast(_)
                | TransactionStatus::Retracted(_) => {}
            },
            Ok(Some(Err(error))) => {
                connections.discard(connection).await;
                return Err(unknown(format!("watching it failed: {error}")));
            }
            Ok(None) => {
                connections.discard(connection).await;
                return Err(unknown("the connection was lost while watching it".into()));
            }
            Err(_) => {
                return Err(unknown(format!("no block within {:?}", config.inclusion_timeout)));
            }
        }
    }
}

/// Reads what an extrinsic did in the block that holds it.
async fn outcome(
    connection: &Connection,
    prepared: &Prepared,
    block_hash: H256,
) -> Result<Submitted, ChainError> {
    let unknown = |reason: String| ChainError::Unknown {
        extrinsic_hash: prepared.hash,
        reason: format!("it is in block {block_hash:?}, but {reason}"),
    };
    let details = connection.methods.chain_get_block(Some(block_hash)).await;
    let details = details
        .map_err(|error| unknown(connection.error(READING_OUTCOME, error).to_string()))?
        .ok_or_else(|| unknown("the node does not have the block".to_owned()))?;
    let block = best_block(&details.block.header).block;
    let index = details
        .block
        .extrinsics
        .iter()
        .position(|extrinsic| blake2_256(&extrinsic.0) == prepared.hash)
        .and_then(|index| u32::try_from(index).ok())
        .ok_or_else(|| unknown("the block does not hold it".to_owned()))?;
    let at = connection
        .at_block(READING_OUTCOME, block_hash, block)
        .await
        .map_err(|error| unknown(error.to_string()))?;
    let events = at.events().fetch().await.map_err(|error| unknown(error.to_string()))?;
    for event in events.iter() {
        let event = event.map_err(|error| unknown(error.to_string()))?;
        if event.phase() != Phase::ApplyExtrinsic(index) || event.pallet_name() != "System" {
            continue;
        }
        match event.event_name() {
            "ExtrinsicSuccess" => {
                return Ok(Submitted {
                    block,
                    block_hash: block_hash.0,
                    extrinsic_hash: prepared.hash,
                });
            }
            "ExtrinsicFailed" => {
                let error = DispatchError::decode_from(event.field_bytes(), at.metadata())
                    .map_err(|error| unknown(error.to_string()))?;
                let (pallet, name) = dispatch_name(&error);
                return Err(ChainError::Failed { pallet, name, block });
            }
            _ => {}
        }
    }
    Err(unknown("the block holds no event of its outcome".to_owned()))
}

/// Returns pallet and name of a dispatch error by the metadata of the block.
fn dispatch_name(error: &DispatchError) -> (String, String) {
    if let DispatchError::Module(module) = error {
        let Ok(details) = module.details() else {
            let name = format!("error {}", module.error_index());
            return (format!("pallet {}", module.pallet_index()), name);
        };
        return (details.pallet.name().to_owned(), details.variant.name.clone());
    }
    // Variants print as their name, some with a value behind it.
    let text = format!("{error:?}");
    let name: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
    ("System".to_owned(), name)
}

/// Translates an error object that answers a submission.
fn refusal(error: &UserError, prepared: &Prepared) -> ChainError {
    if error.code == CODE_ALREADY_IMPORTED {
        return ChainError::Unknown {
            extrinsic_hash: prepared.hash,
            reason: "the pool holds it already".to_owned(),
        };
    }
    let data = error.data.as_ref().map(|data| data.get()).unwrap_or_default();
    let message =
        if data.is_empty() { error.message.clone() } else { format!("{}: {data}", error.message) };
    // Any other error can come from a proxy that has passed the extrinsic on.
    if !AUTHOR_CODES.contains(&error.code) && !NOT_CARRIED_OUT_CODES.contains(&error.code) {
        return ChainError::Unknown {
            extrinsic_hash: prepared.hash,
            reason: format!("the answer to it is error {} ({message})", error.code),
        };
    }
    ChainError::Refused { name: refusal_name(error.code, &message), code: error.code, message }
}

/// Names a refusal by the node's code and words.
///
/// Codes 1010 to 1016 are those of Substrate's `author` methods; the words are those of its
/// `InvalidTransaction`, as text from stock nodes and as JSON from chopsticks.
fn refusal_name(code: i32, message: &str) -> &'static str {
    match code {
        1012 => return "TemporarilyBanned",
        1014 => return "TooLowPriority",
        1016 => return "ImmediatelyDropped",
        _ => {}
    }
    let text = message.to_ascii_lowercase();
    if let Some(code) = custom_code(&text) {
        return custom_name(code);
    }
    let words = [
        ("outdated", "Stale"),
        ("stale", "Stale"),
        ("future", "Future"),
        ("bad signature", "BadProof"),
        ("badproof", "BadProof"),
        ("ancient birth", "AncientBirthBlock"),
        ("ancientbirthblock", "AncientBirthBlock"),
        ("exhaust", "ExhaustsResources"),
        ("inability to pay", "Payment"),
        ("payment", "Payment"),
        ("not expected", "CallFiltered"),
        ("\"call\"", "CallFiltered"),
    ];
    let found = words.iter().find(|(word, _)| text.contains(word));
    found.map_or("Unrecognised", |(_, name)| name)
}

/// Finds the number of `Custom error: N` or `"custom":N` in lower-case text.
fn custom_code(text: &str) -> Option<u8> {
    let (_, rest) = text.split_once("custom")?;
    let rest = rest.trim_start_matches(|c: char| " \":".contains(c) || c.is_ascii_alphabetic());
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_stock_nodes_and_of_chopsticks_are_named() {
        for (code, message, name) in [
            (1010, "Invalid Transaction: \"Custom error: 19\"", "HotKeyNotRegisteredInSubNet"),
            (1010, "Invalid Transaction: {\"invalid\":{\"custom\":6}}", "SettingWeightsTooFast"),
            (1010, "{\"invalid\":{\"custom\":12}}", "ServingRateLimitExceeded"),
            (1010, "Invalid Transaction: \"Custom error: 255\"", "BadRequest"),
            (1010, "Invalid Transaction: \"Transaction is outdated\"", "Stale"),
            (1010, "{\"invalid\":{\"stale\":null}}", "Stale"),
            (1010, "Invalid Transaction: \"Transaction has a bad signature\"", "BadProof"),
            (
                1010,
                "Invalid Transaction: \"Transaction has an ancient birth block\"",
                "AncientBirthBlock",
            ),
            (1010, "Invalid Transaction", "Unrecognised"),
            (1012, "Transaction is temporarily banned", "TemporarilyBanned"),
            (1014, "Priority is too low: (100 vs 100)", "TooLowPriority"),
            (1016, "Immediately Dropped", "ImmediatelyDropped"),
        ] {
            assert_eq!(refusal_name(code, message), name, "{message}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_no_custom_code() {
        assert_eq!(custom_code("custom error: 256"), None);
        assert_eq!(custom_code("custom"), None);
        assert_eq!(custom_code("{\"custom\": 0}"), Some(0));
    }

    #[test]
    fn an_extrinsic_that_the_pool_holds_already_may_still_take_effect() {
        let prepared = Prepared { bytes: vec![1], hash: [7; 32] };
        let error = UserError { code: 1013, message: "Already imported".into(), data: None };
        assert!(matches!(
            refusal(&error, &prepared),
            ChainError::Unknown { extrinsic_hash, .. } if extrinsic_hash == [7; 32]
        ));
    }

    #[test]
    fn an_error_that_is_not_the_pool_s_leaves_the_outcome_unknown() {
        let prepared = Prepared { bytes: vec![1], hash: [7; 32] };
        let error = |code| UserError { code, message: "upstream failed".into(), data: None };
        // A node or a proxy that failed while it handled the call; it may have passed it on.
        for code in [-32_603, -32_005, -32_000, 0, 500, 4_003] {
            let outcome = refusal(&error(code), &prepared);
            assert!(matches!(outcome, ChainError::Unknown { .. }), "{code}: {outcome}");
            assert!(outcome.to_string().contains("upstream failed"), "{outcome}");
        }
        // The pool's own words, and requests that no node carries out.
        for code in [1_002, 1_010, 1_014, 1_016, -32_600, -32_601, -32_602, -32_700] {
            let outcome = refusal(&error(code), &prepared);
            assert!(matches!(outcome, ChainError::Refused { .. }), "{code}: {outcome}");
        }
    }
}
