//! The server of a neuron: an HTTP listener in front of a [`SynapseHandler`].
//!
//! ```text
//! path ─► headers ─► admit (claimed hotkey) ─► nonce ─► signature ─► nonce kept ─► body ─► handler
//!  404      500            403                  401        401          401       4xx/500   200
//! ```
//! The order, the status codes and the texts are those of SDK 10.5, see the interoperability notes
//! on the wire protocol, section 1.6. Cheap checks come first, so that a stranger costs a look-up
//! and not a signature check.

mod config;
mod counters;
mod head;
mod replay;
mod reply;
mod service;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use async_trait::async_trait;
use forecastd_core::{Clock, Hotkey, Signer};
use tokio::task::JoinHandle;

use crate::error::WireError;
use crate::synapse::{ForecastRequest, Synapse};

pub use config::{AxonConfig, AxonLimits};
pub use counters::AxonCounters;
use service::Shared;

/// The protocol version that both ends claim: SDK 10.5.0.
pub const VERSION: u64 = 10_005_000;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The hotkey of the headers. In [`SynapseHandler::admit`] it is only claimed; everywhere else
    /// its signature has been checked.
    pub hotkey: Hotkey,
    /// The other end of the connection; a proxy or a translated address is possible.
    pub address: SocketAddr,
    /// The SDK version that the caller claims.
    pub version: Option<u64>,
    /// The caller's own name for its client; any text.
    pub uuid: String,
}

/// A handler's answer that is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 400..=599; anything else counts as 500.
    pub status: u16,
    /// Reason for the caller. It is public.
    pub message: String,
}

impl Refusal {
    /// Refuses with any status.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request is not one that this neuron answers: unknown stream, wrong size.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// The request is right but not now: outside of the query window, or nothing was committed.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }

    /// The neuron cannot answer at present: no forecast yet, or shutting down.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, message)
    }

    /// Something failed that is none of the caller's business; the message must not tell it.
    pub fn internal() -> Self {
        Self::new(500, format!("Internal Server Error #{}", uuid::Uuid::new_v4()))
    }
}

/// What a neuron answers.
///
/// Calls come from several server threads at once. A call is dropped half-way when the caller's
/// time is over, so work that must be finished belongs into a task of its own.
#[async_trait]
pub trait SynapseHandler: Send + Sync + 'static {
    /// Decides whether `caller` may ask at all; the hotkey is only *claimed* here.
    ///
    /// Must be a quick look-up without waiting: it runs before the signature is checked.
    ///
    /// # Errors
    /// The reason, which the caller reads in `403 Forbidden. Key is blacklisted: <reason>.`
    fn admit(&self, caller: &Caller, synapse: Synapse) -> Result<(), String>;

    /// Returns the commitment to the forecast of this round, which must be kept before.
    ///
    /// # Errors
    /// A [`Refusal`] is answered as it is.
    async fn commit(&self, caller: &Caller, request: &ForecastRequest) -> Result<String, Refusal>;

    /// Returns the forecast that was committed to.
    ///
    /// # Errors
    /// A [`Refusal`] is answered as it is.
    async fn reveal(
        &self,
        caller: &Caller,
        request: &ForecastRequest,
    ) -> Result<Arc<[f64]>, Refusal>;
}

/// A running server. Dropping it ends the server without grace; prefer [`Axon::stop`].
#[derive(Debug)]
pub struct Axon {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: ServerHandle,
    task: JoinHandle<()>,
}

impl Axon {
    /// Binds the address and starts `config.workers` server threads.
    ///
    /// `signer` names the receiver that callers must sign for. `clock` is real time. Needs a tokio
    /// runtime, inside or outside of an actix system. A port of 0 takes a free one.
    ///
    /// # Errors
    /// [`WireError::Setting`] for a setting outside of its range, [`WireError::Bind`] when the
    /// address cannot be had.
    #[expect(clippy::unused_async, reason = "start-up may have to wait for the network")]
    pub async fn spawn(
        config: AxonConfig,
        signer: Arc<dyn Signer>,
        clock: Arc<dyn Clock>,
        handler: Arc<dyn SynapseHandler>,
    ) -> Result<Self, WireError> {
        config.validate()?;
        let bind_error = |source| WireError::Bind { address: config.listen, source };
        let listener = std::net::TcpListener::bind(config.listen).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let limits = config.limits;
        let shared = Arc::new(Shared::new(&config, &*signer, clock, handler));
        let state = web::Data::from(Arc::clone(&shared));
        let server = HttpServer::new(move || {
            App::new().app_data(state.clone()).default_service(web::to(service::answer))
        })
        .workers(config.workers)
        // The server counts connections a worker.
        .max_connections(limits.connections.div_ceil(config.workers))
        .client_request_timeout(limits.head_timeout)
        .client_disconnect_timeout(limits.head_timeout)
        .keep_alive(limits.keep_alive)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)
        .map_err(bind_error)?
        .run();
        let handle = server.handle();
        let task = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%address, %error, "axon server ended");
            }
        });
        tracing::info!(%address, hotkey = %signer.hotkey(), workers = config.workers, "axon listens");
        Ok(Self { shared, address, server: handle, task })
    }

    /// The address that is listened on, with the port that was really taken.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what happened since the start.
    pub fn counters(&self) -> AxonCounters {
        self.shared.counters.snapshot()
    }

    /// Takes nothing new, waits at most `grace` for answers under way, then ends the server.
    pub async fn stop(mut self, grace: Duration) {
        self.server.pause().await;
        self.shared.drain(grace).await;
        self.server.stop(false).await;
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "axon server task failed");
        }
    }
}

impl Drop for Axon {
    fn drop(&mut self) {
        // The command is sent by the call itself; its future only waits for the end.
        drop(self.server.stop(false));
    }
}
