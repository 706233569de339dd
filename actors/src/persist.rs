//! Writing when the disk fails: wait for it, never lose the step and never spin.
//!
//! After the first failure every call of the store fails until it is reopened, which the
//! housekeeper tries with a pause. Steps that must not be lost wait here meanwhile.

use std::time::Duration;

use forecastd_store::{Batch, StoreError};
use tracing::warn;

use crate::node::Node;

/// Pause between two tries, real time.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes a batch and returns when it is on disk, however long the disk is full.
///
/// After a failure the outcome is unknown, so the batch is written again: it must be idempotent,
/// and [`StoreError::Conflict`] may mean that its own first try arrived.
///
/// # Errors
/// What waiting does not mend: a conflict, a wrong record, a damaged or closed store.
pub(crate) async fn persist(node: &Node, batch: Batch) -> Result<(), StoreError> {
    loop {
        match node.store.write(batch.clone()).await {
            Err(error) if error.is_retryable() => {
                warn!(%error, "not written yet, waiting for the disk");
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}
