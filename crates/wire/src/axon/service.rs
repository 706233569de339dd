//! The path of one request through an axon.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use forecastd_core::{Clock, Signer};
use futures_util::{FutureExt, StreamExt};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::config::{AxonConfig, AxonLimits};
use super::counters::{Counters, Outcome};
use super::head::Head;
use super::replay::{ReplayMemory, Window};
use super::reply::Reply;
use super::{Caller, Refusal, SynapseHandler};
use crate::synapse::{ForecastRequest, Synapse};
use crate::tensor::TensorObject;

const NS_PER_MS: u64 = 1_000_000;

/// What all server threads of one axon share.
pub(super) struct Shared {
    pub(super) hotkey_text: String,
    pub(super) counters: Counters,
    clock: Arc<dyn Clock>,
    handler: Arc<dyn SynapseHandler>,
    replay: Mutex<ReplayMemory>,
    limits: AxonLimits,
    nonce_window: Duration,
    max_timeout: Duration,
    in_flight: AtomicUsize,
    draining: AtomicBool,
    idle: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("hotkey", &self.hotkey_text)
            .field("in_flight", &self.in_flight)
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        config: &AxonConfig,
        signer: &dyn Signer,
        clock: Arc<dyn Clock>,
        handler: Arc<dyn SynapseHandler>,
    ) -> Self {
        let max_behind = nanos(config.nonce_window + config.max_timeout);
        let limits = config.limits;
        Self {
            hotkey_text: signer.hotkey().to_ss58(),
            counters: Counters::default(),
            replay: Mutex::new(ReplayMemory::new(
                now_ns(&*clock),
                limits.replay_entries,
                limits.nonces_per_hotkey,
                max_behind,
            )),
            clock,
            handler,
            limits,
            nonce_window: config.nonce_window,
            max_timeout: config.max_timeout,
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            idle: Notify::new(),
        }
    }

    pub(super) fn replay(&self) -> MutexGuard<'_, ReplayMemory> {
        // The memory is whole between any two of its operations, so a panic leaves it usable.
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the span of acceptable nonces for a caller that waits `timeout_secs`.
    pub(super) fn window(&self, timeout_secs: f64) -> Window {
        let timeout = Duration::try_from_secs_f64(timeout_secs)
            .map_or(self.max_timeout, |timeout| timeout.min(self.max_timeout));
        Window {
            now_ns: now_ns(&*self.clock),
            behind_ns: nanos(self.nonce_window + timeout),
            ahead_ns: nanos(self.nonce_window),
        }
    }

    /// Refuses new requests and waits until none is under way, at most `grace`.
    pub(super) async fn drain(&self, grace: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        let all_written = async {
            loop {
                let idle = self.idle.notified();
                if self.in_flight.load(Ordering::SeqCst) == 0 {
                    return;
                }
                idle.await;
            }
        };
        if tokio::time::timeout(grace, all_written).await.is_err() {
            let cut = self.in_flight.load(Ordering::SeqCst);
            tracing::warn!(cut, "axon stops with answers under way");
        }
    }
}

fn now_ns(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.now_ms()).unwrap_or(0).saturating_mul(NS_PER_MS)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts a request as under way until its answer has been written.
pub(super) struct InFlight(Arc<Shared>);

impl InFlight {
    fn new(shared: Arc<Shared>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_one();
        }
    }
}

/// Answers one request.
pub(super) async fn answer(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse<BoxBody> {
    let started = Instant::now();
    let shared = shared.into_inner();
    let in_flight = InFlight::new(Arc::clone(&shared));
    shared.counters.begin();
    let mut synapse = None;
    let reply = match process(&shared, &request, payload, started, &mut synapse).await {
        Ok(reply) | Err(reply) => reply,
    };
    shared.counters.end(reply.outcome);
    let process_secs = started.elapsed().as_secs_f64();
    reply.into_response(&shared, synapse, request.headers(), process_secs, in_flight)
}

/// Walks the checks in their order. `parsed` is set once the headers are well formed, so that the
/// answer can repeat them.
async fn process(
    shared: &Shared,
    request: &HttpRequest,
    payload: web::Payload,
    started: Instant,
    parsed: &mut Option<Synapse>,
) -> Result<Reply, Reply> {
    let mut body = Body { payload, limit: shared.limits.body_bytes };
    let receipt_deadline = started + shared.limits.request_timeout;
    let head = match check_head(shared, request, parsed) {
        Ok(head) => head,
        Err(reply) => {
            // What is left of the body must leave the connection, or the client would never read
            // the answer; it is thrown away, and never more than the limit.
            return Err(match tokio::time::timeout_at(receipt_deadline, body.discard()).await {
                Ok(Ok(())) => reply,
                _ => reply.closing(),
            });
        }
    };
    let (synapse, head, caller) = head;
    let raw = match tokio::time::timeout_at(receipt_deadline, body.collect()).await {
        Ok(read) => read?,
        Err(_) => {
            return Err(Reply::error(408, "Request body timed out", Outcome::TimedOut).closing());
        }
    };
    let fields = parse_body(&raw)?;
    head.check_body_hash()?;
    let caller_wait = Duration::try_from_secs_f64(head.timeout_secs).unwrap_or(Duration::MAX);
    let time = caller_wait.min(shared.limits.request_timeout);
    let work = AssertUnwindSafe(run_handler(shared, synapse, &head, &caller, fields));
    match tokio::time::timeout_at(started + time, work.catch_unwind()).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => Err(Reply::failed(format!("{} handler panicked", synapse.name()))),
        Err(_) => {
            // The caller has given up: the connection must not carry this answer into its next
            // request.
            let text = format!(
                "Response timeout after: {}s",
                crate::headers::python_seconds(time.as_secs_f64())
            );
            Err(Reply::error(408, text, Outcome::TimedOut).closing())
        }
    }
}

/// Checks everything that the headers show: size, path, form, admission, nonce, signature.
fn check_head<'a>(
    shared: &Shared,
    request: &'a HttpRequest,
    parsed: &mut Option<Synapse>,
) -> Result<(Synapse, Head<'a>, Caller), Reply> {
    if shared.draining.load(Ordering::SeqCst) {
        return Err(Reply::error(503, "Axon is stopping", Outcome::Draining).closing());
    }
    if header_bytes(request.headers()) > shared.limits.header_bytes {
        return Err(Reply::error(431, "Headers are too large", Outcome::TooLarge).closing());
    }
    let synapse = route(request)?;
    let head = Head::parse(request.headers(), synapse)?;
    *parsed = Some(synapse);
    let caller = Caller {
        hotkey: head.claimed()?,
        address: request.peer_addr().ok_or_else(|| Reply::failed("connection has no address"))?,
        version: head.version,
        uuid: head.uuid().to_owned(),
    };
    if let Err(reason) = shared.handler.admit(&caller, synapse) {
        let text = format!("Forbidden. Key is blacklisted: {reason}.");
        return Err(Reply::error(403, text, Outcome::Blacklisted));
    }
    head.verify(shared, &caller)?;
    Ok((synapse, head, caller))
}

fn header_bytes(map: &HeaderMap) -> usize {
    map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

fn route(request: &HttpRequest) -> Result<Synapse, Reply> {
    let path = request.uri().path();
    let path = path.strip_prefix('/').unwrap_or(path);
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let Some(synapse) = Synapse::from_name(name) else {
        let shown: String = crate::headers::one_line(name).chars().take(64).collect();
        let known = Synapse::ALL.map(|synapse| format!("'{}'", synapse.name())).join(", ");
        let text = format!("Synapse name '{shown}' not found. Available synapses [{known}]");
        return Err(Reply::error(404, text, Outcome::Malformed));
    };
    if !rest.is_empty() {
        return Err(Reply::framework(404, &"Not Found".into()));
    }
    if *request.method() != Method::POST && *request.method() != Method::GET {
        return Err(Reply::framework(405, &"Method Not Allowed".into()));
    }
    Ok(synapse)
}

/// A request body with its limit.
struct Body {
    payload: web::Payload,
    limit: usize,
}

impl Body {
    async fn collect(&mut self) -> Result<Bytes, Reply> {
        let mut raw = BytesMut::new();
        while let Some(chunk) = self.payload.next().await {
            let chunk = chunk.map_err(|error| {
                Reply::malformed(format!("body cannot be read: {error}")).closing()
            })?;
            if raw.len() + chunk.len() > self.limit {
                let text = format!("Body is larger than {} bytes", self.limit);
                return Err(Reply::error(413, text, Outcome::TooLarge).closing());
            }
            raw.extend_from_slice(&chunk);
        }
        Ok(raw.freeze())
    }

    /// Reads and drops the body; `Err` when it is longer than the limit or breaks off.
    async fn discard(&mut self) -> Result<(), ()> {
        let mut seen = 0;
        while let Some(chunk) = self.payload.next().await {
            seen += chunk.map_err(|_| ())?.len();
            if seen > self.limit {
                return Err(());
            }
        }
        Ok(())
    }
}

fn parse_body(raw: &Bytes) -> Result<Map<String, Value>, Reply> {
    if raw.is_empty() {
        return Err(Reply::malformed("body is empty"));
    }
    let value: Value = serde_json::from_slice(raw).map_err(|error| {
        Reply::framework(
            422,
            &json!([{
                "type": "json_invalid",
                "loc": ["body", error.column()],
                "msg": "JSON decode error",
                "input": {},
                "ctx": {"error": error.to_string()},
            }]),
        )
    })?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(Reply::malformed("body is not a JSON object")),
    }
}

async fn run_handler(
    shared: &Shared,
    synapse: Synapse,
    head: &Head<'_>,
    caller: &Caller,
    fields: Map<String, Value>,
) -> Result<Reply, Reply> {
    let field_error = |error: crate::synapse::FieldError| Reply::malformed(error.to_string());
    let mut body = Map::with_capacity(16);
    body.insert("name".into(), synapse.name().into());
    body.insert("timeout".into(), head.timeout_secs.into());
    body.insert("total_size".into(), 0.into());
    body.insert("header_size".into(), 0.into());
    body.insert("dendrite".into(), terminal(Some(caller), None));
    body.insert("axon".into(), terminal(None, Some(&shared.hotkey_text)));
    body.insert("computed_body_hash".into(), "".into());
    match synapse {
        Synapse::LiveForwardHash => {
            let request = ForecastRequest::from_body(&fields).map_err(field_error)?;
            let commitment = shared.handler.commit(caller, &request).await.map_err(refused)?;
            request.write_fields(&mut body);
            body.insert("hashed_predictions".into(), commitment.into());
        }
        Synapse::LiveForward => {
            let request = ForecastRequest::from_body(&fields).map_err(field_error)?;
            let values = shared.handler.reveal(caller, &request).await.map_err(refused)?;
            let TensorObject { buffer, dtype, shape } = TensorObject::from_row(&values);
            request.write_fields(&mut body);
            body.insert(
                "predictions".into(),
                json!({"buffer": buffer, "dtype": dtype, "shape": shape}),
            );
        }
        Synapse::LiveBackward => {
            let (request_uuid, stream_id, topic_id) =
                ForecastRequest::backward_fields(&fields).map_err(field_error)?;
            body.insert("request_uuid".into(), request_uuid.into());
            body.insert("stream_id".into(), stream_id.into());
            body.insert("samples".into(), Value::Null);
            body.insert("topic_id".into(), topic_id.into());
            body.insert("received".into(), true.into());
        }
        Synapse::Echo => {}
    }
    Ok(Reply::success(&body))
}

fn refused(refusal: Refusal) -> Reply {
    let status = if (400..600).contains(&refusal.status) { refusal.status } else { 500 };
    Reply::error(status, refusal.message, Outcome::Refused)
}

/// The `dendrite` or `axon` object of a body: what is known of that end.
fn terminal(caller: Option<&Caller>, own_hotkey: Option<&str>) -> Value {
    let hotkey = caller.map(|caller| caller.hotkey.to_ss58());
    json!({
        "status_code": own_hotkey.map(|_| 200),
        "status_message": own_hotkey.map(|_| "Success"),
        "process_time": null,
        "ip": caller.map(|caller| caller.address.ip().to_string()),
        "port": caller.map(|caller| caller.address.port()),
        "version": caller.and_then(|caller| caller.version),
        "nonce": null,
        "uuid": caller.map(|caller| caller.uuid.as_str()),
        "hotkey": hotkey.as_deref().or(own_hotkey),
        "signature": null,
    })
}
