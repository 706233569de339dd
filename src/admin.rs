//! The operator's HTTP interface: health, readiness, status and read-only views of the store.
//!
//! Own listener, loopback by default, nothing here changes anything. `/healthz` asks nobody: it
//! looks at the root actor's life sign, so that a slow chain or store never gets the process
//! killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::ServerHandle;
use actix_web::web::{Data, Json, Path, Query};
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use forecastd_actors::node::Node;
use serde::{Deserialize, Serialize};

use crate::bar_page;
use crate::config::HttpConfig;
use crate::views;

/// The root ticks each second; this much silence means that the tree's thread is stuck.
const ROOT_SILENCE_MS: i64 = 10_000;
/// Candle lengths after which the newest closed one is stale.
const FRESH_CANDLES: i64 = 3;

/// What the interface shows.
#[derive(Debug)]
pub struct AdminState {
    /// The node.
    pub node: Node,
    /// Start of the process, real time.
    pub started_ms: i64,
    /// Set when the graceful stop begins.
    pub stopping: AtomicBool,
    /// Changed configuration files that were refused.
    pub reload_failures: AtomicU64,
    /// Each condition as it was last seen, and since when, by name and subject.
    pub seen: Mutex<BTreeMap<String, (bool, i64)>>,
}

/// One condition of readiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is checked.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// Since when, as far as anybody asked; ms since the epoch, real time.
    pub since_ms: i64,
    /// More about it.
    pub detail: String,
}

impl AdminState {
    /// Tells whether the root actor shows signs of life.
    pub fn is_alive(&self) -> bool {
        let root = self.node.vitals.of("root", true).snapshot();
        let silence_ms = self.node.real.now_ms() - root.last_progress_ms;
        root.last_progress_ms != 0 && silence_ms < ROOT_SILENCE_MS
    }

    /// Returns the conditions of readiness of the node's role.
    pub fn checks(&self) -> Vec<Check> {
        let node = &self.node;
        let live = node.boards.live();
        let is_running = !self.stopping.load(Ordering::Relaxed) && self.is_alive();
        let chain = node.boards.metagraph.load().is_some();
        let store = node.store.stats().suspended;
        let mut checks = vec![
            self.check("running", "", is_running, String::new()),
            self.check("chain", "", chain, format!("head {}", live.head_block)),
            self.check("store", "", store.is_none(), store.unwrap_or_default()),
        ];
        for stream in &node.settings.load().streams {
            let spec = &stream.spec;
            let newest = live.newest_candle.get(&spec.id);
            let age_ms = newest.map(|candle| node.market.now_ms() - candle.close_time_ms);
            let is_fresh = age_ms.is_some_and(|age| age < FRESH_CANDLES * spec.interval.as_ms());
            let detail = match age_ms {
                Some(age_ms) => format!("{}, newest closed {} s ago", spec.id, age_ms / 1_000),
                None => format!("{}, none yet", spec.id),
            };
            checks.push(self.check("candles", &spec.id.0, is_fresh, detail));
            if node.role.is_miner() {
                let known = node.boards.forecasts.load().contains_key(&spec.id);
                checks.push(self.check("forecast", &spec.id.0, known, spec.id.to_string()));
            }
        }
        checks
    }

    fn check(&self, name: &'static str, subject: &str, ok: bool, detail: String) -> Check {
        let now_ms = self.node.real.now_ms();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.entry(format!("{name} {subject}")).or_insert((ok, now_ms));
        if last.0 != ok {
            *last = (ok, now_ms);
        }
        Check { name, ok, since_ms: last.1, detail }
    }
}

/// The running interface.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    server: ServerHandle,
}

impl Admin {
    /// Binds `http.listen` and serves until stopped.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start(http: &HttpConfig, state: Arc<AdminState>) -> anyhow::Result<Self> {
        let listen = http.listen;
        let state = Data::from(state);
        let server = HttpServer::new(move || App::new().app_data(state.clone()).configure(routes))
            .workers(1)
            .max_connections(http.max_connections)
            .client_request_timeout(http.request_timeout)
            .disable_signals()
            .shutdown_timeout(1)
            .bind(listen)
            .with_context(|| format!("listening on {listen} (config key http.listen)"))?;
        let address = *server.addrs().first().context("the listener has no address")?;
        let running = server.run();
        let handle = running.handle();
        actix::spawn(running);
        Ok(Self { address, server: handle })
    }

    /// The bound address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving.
    pub async fn stop(self) {
        self.server.stop(true).await;
    }
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz))
        .route("/api/v1/status", web::get().to(status))
        .route("/api/v1/streams", web::get().to(streams))
        .route("/api/v1/forecasts/latest", web::get().to(forecasts))
        .route("/api/v1/rounds", web::get().to(rounds))
        .route("/api/v1/rounds/{id}", web::get().to(round))
        .route("/api/v1/rounds/{id}/replay", web::get().to(replay))
        .route("/api/v1/replay", web::get().to(replay_all))
        .route("/api/v1/scores", web::get().to(scores))
        .route("/api/v1/weights", web::get().to(weights))
        .route("/api/v1/candles", web::get().to(candles));
}

async fn healthz(state: Data<AdminState>) -> HttpResponse {
    if state.is_alive() {
        HttpResponse::Ok().body("ok\n")
    } else {
        HttpResponse::ServiceUnavailable().body("root actor is silent\n")
    }
}

async fn readyz(state: Data<AdminState>) -> HttpResponse {
    let checks = state.checks();
    if checks.iter().all(|check| check.ok) {
        HttpResponse::Ok().json(checks)
    } else {
        HttpResponse::ServiceUnavailable().json(checks)
    }
}

async fn status(state: Data<AdminState>) -> Json<views::Status> {
    Json(views::status(&state))
}

async fn streams(state: Data<AdminState>) -> HttpResponse {
    let settings = state.node.settings.load();
    let specs: Vec<_> = settings.streams.iter().map(|stream| stream.spec.clone()).collect();
    HttpResponse::Ok().json(specs)
}

async fn forecasts(state: Data<AdminState>) -> HttpResponse {
    let forecasts = state.node.boards.forecasts.load();
    HttpResponse::Ok().json(forecasts.values().map(|f| (**f).clone()).collect::<Vec<_>>())
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default = "default_limit")]
    limit: usize,
    stream: Option<String>,
}

const fn default_limit() -> usize {
    50
}

/// Runs a view that reads the store off the listener's thread.
async fn from_store<T: Serialize + Send + 'static>(
    state: Data<AdminState>,
    view: impl FnOnce(&AdminState) -> anyhow::Result<T> + Send + 'static,
) -> HttpResponse {
    match web::block(move || view(&state)).await {
        Ok(Ok(answer)) => HttpResponse::Ok().json(answer),
        Ok(Err(error)) => {
            HttpResponse::NotFound().json(serde_json::json!({ "error": format!("{error:#}") }))
        }
        Err(error) => HttpResponse::InternalServerError()
            .json(serde_json::json!({ "error": error.to_string() })),
    }
}

async fn rounds(state: Data<AdminState>, page: Query<Page>) -> HttpResponse {
    let limit = page.limit.min(views::MAX_ROWS);
    let stream = page.into_inner().stream;
    from_store(state, move |state| views::rounds(&state.node.store, stream.as_deref(), limit)).await
}

async fn round(state: Data<AdminState>, id: Path<String>) -> HttpResponse {
    let id = id.into_inner();
    from_store(state, move |state| views::round(&state.node.store, &id)).await
}

async fn replay(state: Data<AdminState>, id: Path<String>) -> HttpResponse {
    let id = id.into_inner();
    from_store(state, move |state| views::replay(&state.node.store, Some(&id))).await
}

async fn replay_all(state: Data<AdminState>) -> HttpResponse {
    from_store(state, |state| views::replay(&state.node.store, None)).await
}

async fn scores(state: Data<AdminState>, page: Query<Page>) -> HttpResponse {
    let stream = page.into_inner().stream;
    from_store(state, move |state| {
        let metagraph = state.node.boards.metagraph.load_full();
        views::scores(&state.node.store, stream.as_deref(), metagraph.as_deref())
    })
    .await
}

async fn weights(state: Data<AdminState>, page: Query<Page>) -> HttpResponse {
    let limit = page.limit.min(views::MAX_ROWS);
    from_store(state, move |state| views::weights(&state.node.store, limit)).await
}

#[derive(Debug, Deserialize)]
struct Span {
    stream: String,
    from: Option<i64>,
    to: Option<i64>,
}

async fn candles(state: Data<AdminState>, span: Query<Span>) -> HttpResponse {
    let Span { stream, from, to } = span.into_inner();
    let (from_ms, to_ms) = (from.unwrap_or(0), to.unwrap_or(i64::MAX));
    from_store(state, move |state| bar_page::page(&state.node.store, &stream, from_ms, to_ms)).await
}
