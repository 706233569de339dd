//! Miners that misbehave: axons that speak the real protocol and answer with hostile content.
//!
//! They show that a bad miner costs only itself: every one of them must end with a weight of zero
//! and its reason on the leader board, and none may delay or disturb the others. They are real
//! servers on real sockets; what is wrong is only what they say.

mod copier;
mod liar;
mod silent;
mod slow;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, Hotkey, Signer};
use forecastd_wire::{
    Axon, AxonConfig, AxonLimits, AxonTarget, Dendrite, DendriteConfig, SynapseHandler, WireError,
};

use copier::Copier;
use liar::Liar;
pub use liar::LiarKind;
use silent::Silent;
use slow::{Late, Refuser};

/// The flat price that made-up forecasts name, quote currency. Only its finiteness matters.
const MADE_UP_PRICE: f64 = 30_000.0;

/// How a peer misbehaves.
#[derive(Debug, Clone)]
pub enum PeerKind {
    /// Answers another miner's commitment as its own, and that miner's values at the reveal.
    Copier {
        /// The miner that it copies.
        victim: AxonTarget,
        /// The key that it asks the victim with; its own when `None`. Victims answer validators
        /// only, so a successful copier owns a validator key as well.
        asks_as: Option<Arc<dyn Signer>>,
    },
    /// Commits to values that nobody can score, and reveals them.
    Liar(LiarKind),
    /// Reveals other values than those that it committed to.
    Turncoat,
    /// Accepts connections and never says a word.
    Silent,
    /// Answers everything, but only after a while.
    Late {
        /// Real time from the question to the answer.
        delay: Duration,
    },
    /// Refuses every caller.
    Refuser,
}

/// A running peer. Dropping it ends it.
#[derive(Debug)]
pub struct PeerHandle {
    hotkey: Hotkey,
    address: SocketAddr,
    server: Server,
}

#[derive(Debug)]
enum Server {
    Axon(Axon),
    Silent(Silent),
}

impl PeerHandle {
    /// The hotkey under which the peer is to be registered.
    pub const fn hotkey(&self) -> Hotkey {
        self.hotkey
    }

    /// Where the peer listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The peer as others address it.
    pub const fn target(&self) -> AxonTarget {
        AxonTarget { hotkey: self.hotkey, address: self.address }
    }

    /// Ends the peer; answers under way are given `grace`.
    pub async fn stop(self, grace: Duration) {
        match self.server {
            Server::Axon(axon) => axon.stop(grace).await,
            Server::Silent(silent) => silent.stop(),
        }
    }
}

/// Starts a peer on `listen` (port 0 takes a free one).
///
/// `clock` is real time: it dates and checks signatures.
///
/// # Errors
/// [`WireError`] when the address cannot be had.
pub async fn spawn(
    kind: PeerKind,
    listen: SocketAddr,
    signer: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
) -> Result<PeerHandle, WireError> {
    let hotkey = signer.hotkey();
    let handler: Arc<dyn SynapseHandler> = match kind {
        PeerKind::Silent => {
            let silent = Silent::spawn(listen)
                .await
                .map_err(|source| WireError::Bind { address: listen, source })?;
            let address = silent.address();
            return Ok(PeerHandle { hotkey, address, server: Server::Silent(silent) });
        }
        PeerKind::Copier { victim, asks_as } => {
            let key = asks_as.unwrap_or_else(|| Arc::clone(&signer));
            let dendrite = Dendrite::new(key, Arc::clone(&clock), DendriteConfig::default())?;
            Arc::new(Copier::new(dendrite, victim))
        }
        PeerKind::Liar(kind) => Arc::new(Liar::new(hotkey, kind)),
        PeerKind::Turncoat => Arc::new(Liar::new(hotkey, LiarKind::OtherValues)),
        PeerKind::Late { delay } => Arc::new(Late::new(hotkey, delay)),
        PeerKind::Refuser => Arc::new(Refuser),
    };
    let limits = AxonLimits { connections: 64, replay_entries: 64, ..AxonLimits::default() };
    let config = AxonConfig { listen, workers: 1, limits, ..AxonConfig::default() };
    let axon = Axon::spawn(config, signer, clock, handler).await?;
    Ok(PeerHandle { hotkey, address: axon.address(), server: Server::Axon(axon) })
}

#[cfg(test)]
mod tests;
