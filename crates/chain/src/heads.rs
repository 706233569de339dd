//! Following the best chain.

use std::sync::Arc;
use std::time::Duration;

use parity_scale_codec::Encode;
use subxt::config::Header as _;
use subxt_rpcs::client::RpcSubscription;
use tokio::time::timeout;

use crate::connection::{Connection, Connections, Header};
use crate::error::ChainError;
use crate::hash::blake2_256;

const OPERATION: &str = "following the best chain";

/// A new best block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestBlock {
    /// Height; it can repeat or fall when the chain switches to another fork.
    pub block: u64,
    /// Hash.
    pub hash: [u8; 32],
}

/// New best blocks as the node announces them.
///
/// A stream that ends means a lost connection, never "no more blocks".
pub struct BestBlocks {
    pub(crate) connections: Arc<Connections>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) subscription: RpcSubscription<Header>,
    pub(crate) idle_limit: Duration,
    pub(crate) last: Option<BestBlock>,
}

impl std::fmt::Debug for BestBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BestBlocks").field("last", &self.last).finish_non_exhaustive()
    }
}

impl BestBlocks {
    /// Waits for the next best block; one that repeats is skipped.
    ///
    /// May be dropped half-way: no block is lost.
    ///
    /// # Errors
    /// [`ChainError::ConnectionLost`] when the stream ends, [`ChainError::Timeout`] when no block
    /// comes within the idle limit. Subscribe again then.
    pub async fn next(&mut self) -> Result<BestBlock, ChainError> {
        loop {
            let error = match timeout(self.idle_limit, self.subscription.next()).await {
                Ok(Some(Ok(header))) => {
                    let block = best_block(&header);
                    if self.last == Some(block) {
                        continue;
                    }
                    self.last = Some(block);
                    return Ok(block);
                }
                Ok(Some(Err(error))) => self.connection.error(OPERATION, error),
                Ok(None) => ChainError::ConnectionLost {
                    endpoint: self.connection.endpoint.clone(),
                    operation: OPERATION,
                    reason: "the stream of blocks ended".to_owned(),
                },
                Err(_) => ChainError::Timeout {
                    endpoint: self.connection.endpoint.clone(),
                    operation: OPERATION,
                    limit: self.idle_limit,
                },
            };
            if error.is_connection() {
                self.connections.discard(&self.connection).await;
            }
            return Err(error);
        }
    }
}

/// Returns height and hash of a header; the hash of a block is that of its header.
pub(crate) fn best_block(header: &Header) -> BestBlock {
    BestBlock { block: header.number(), hash: blake2_256(&header.encode()) }
}
