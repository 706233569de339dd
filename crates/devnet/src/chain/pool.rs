//! The transaction pool: what is let in, what waits, and what a refused sender is told.

use jsonrpsee::types::ErrorObjectOwned;
use tokio::sync::mpsc;

use super::calls::Call;
use super::extrinsic::{DecodeFailure, Extrinsic};
use super::names::Fault;
use super::pallet::{check_serve_axon, has_interval_registrations_left, has_min_stake};
use super::types::{Hash, to_hex};
use super::view::View;

/// Most transactions that wait; further ones are dropped at once.
pub(super) const MAX_WAITING: usize = 4096;

/// What happens to a watched transaction, in the words of `author_extrinsicUpdate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Its nonce lies ahead of the account's.
    Future,
    /// It can go into the next block.
    Ready,
    /// It is in this block.
    InBlock(Hash),
    /// The block is final.
    Finalized(Hash),
    /// It became invalid while it waited.
    Invalid,
    /// The chain stopped before it was included.
    Dropped,
}

/// Tells the watcher of a transaction.
pub(super) type StatusSender = mpsc::UnboundedSender<Status>;

/// A transaction that waits for its block.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The transaction, its signature checked.
    pub(super) extrinsic: Extrinsic,
    /// The era's first block hash, over which the signature was checked.
    pub(super) era_block_hash: Hash,
    /// Who watches, if anybody.
    pub(super) watcher: Option<StatusSender>,
}

impl Waiting {
    /// Tells the watcher; one that has gone away is no fault of the chain.
    pub(super) fn notify(&self, status: Status) {
        if let Some(watcher) = &self.watcher
            && watcher.send(status).is_err()
        {
            tracing::trace!(extrinsic = %to_hex(&self.extrinsic.hash), "watcher has left");
        }
    }
}

/// When a valid transaction can be included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// In the next block.
    Ready,
    /// After others of the same account.
    Future,
}

/// Why a transaction is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The bytes are no extrinsic.
    Format(String),
    /// The runtime cannot read the extrinsic, or does not execute its call.
    Content(String),
    /// Not signed.
    NotSigned,
    /// The nonce was used already.
    Stale,
    /// The signature does not fit: wrong key, chain, versions, era or bytes.
    BadProof,
    /// The era's first block is not known (any more).
    AncientBirthBlock,
    /// The pallet's own check said no.
    Custom(u8),
    /// The same transaction waits already.
    AlreadyImported(Hash),
    /// Another transaction with this nonce waits already.
    TooLowPriority,
    /// The pool is full.
    PoolFull,
}

impl From<DecodeFailure> for Refusal {
    fn from(failure: DecodeFailure) -> Self {
        match failure {
            DecodeFailure::Format(text) => Self::Format(text),
            DecodeFailure::Content(text) => Self::Content(text),
            DecodeFailure::NotSigned => Self::NotSigned,
        }
    }
}

impl Refusal {
    /// Returns the error object that a stock node sends.
    pub(super) fn to_rpc_error(&self) -> ErrorObjectOwned {
        let invalid =
            |data: String| ErrorObjectOwned::owned(1010, "Invalid Transaction", Some(data));
        match self {
            Self::Format(text) => ErrorObjectOwned::owned(
                1001,
                format!("Extrinsic has invalid format: {text}"),
                None::<()>,
            ),
            Self::Content(text) => ErrorObjectOwned::owned(
                1002,
                format!("Verification Error: Runtime error: {text}"),
                Some(text.clone()),
            ),
            Self::NotSigned => ErrorObjectOwned::owned(
                1011,
                "Unknown Transaction Validity",
                Some("NoUnsignedValidator"),
            ),
            Self::Stale => invalid("Transaction is outdated".into()),
            Self::BadProof => invalid("Transaction has a bad signature".into()),
            Self::AncientBirthBlock => invalid("Transaction has an ancient birth block".into()),
            Self::Custom(code) => invalid(format!("Custom error: {code}")),
            Self::AlreadyImported(hash) => {
                ErrorObjectOwned::owned(1013, "Transaction Already Imported", Some(to_hex(hash)))
            }
            Self::TooLowPriority => ErrorObjectOwned::owned(
                1014,
                "Priority is too low: (1 vs 1)",
                Some(
                    "The transaction has too low priority to replace another transaction already \
                     in the pool.",
                ),
            ),
            Self::PoolFull => ErrorObjectOwned::owned(
                1016,
                "Immediately Dropped",
                Some("The transaction couldn't enter the pool because of the limit"),
            ),
        }
    }
}

/// Checks nonce and the pallet's own conditions, as of `block`, for a transaction whose signature is
/// good.
pub(super) fn validate(
    view: View<'_>,
    block: u64,
    extrinsic: &Extrinsic,
) -> Result<Readiness, Refusal> {
    let nonce = view.account(&extrinsic.signer).nonce;
    if extrinsic.nonce < nonce {
        return Err(Refusal::Stale);
    }
    check_call(view, block, extrinsic)?;
    Ok(if extrinsic.nonce == nonce { Readiness::Ready } else { Readiness::Future })
}

/// The checks of `SubtensorTransactionExtension`. A call inside of a batch is not looked at.
fn check_call(view: View<'_>, block: u64, extrinsic: &Extrinsic) -> Result<(), Refusal> {
    const STAKE_AMOUNT_TOO_LOW: u8 = 1;
    const RATE_LIMIT_EXCEEDED: u8 = 6;
    let signer = &extrinsic.signer;
    match &extrinsic.call {
        Call::SetWeights(call) if call.is_plain && !has_min_stake(view, call.netuid, signer) => {
            Err(Refusal::Custom(STAKE_AMOUNT_TOO_LOW))
        }
        Call::BurnedRegister { netuid, .. } if !has_interval_registrations_left(view, *netuid) => {
            Err(Refusal::Custom(RATE_LIMIT_EXCEEDED))
        }
        Call::ServeAxon(call) => check_serve_axon(view, signer, call, block)
            .map_err(|fault| Refusal::Custom(serving_code(fault))),
        _ => Ok(()),
    }
}

/// Returns the number under which the pool reports a refused `serve_axon`.
const fn serving_code(fault: Fault) -> u8 {
    match fault {
        Fault::HotKeyNotRegisteredInNetwork => 10,
        Fault::InvalidIpAddress => 11,
        Fault::ServingRateLimitExceeded => 12,
        Fault::InvalidPort => 13,
        _ => 255, // bad request
    }
}
