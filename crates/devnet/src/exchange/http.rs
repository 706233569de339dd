//! The REST side of the simulated exchange and the way to its WebSocket, over one listener.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forecastd_exchange::binance::interval_of;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::fault::RestFault;
use super::requests::Subscriptions;
use super::{Shared, session, texts};

/// A request head must come within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Weight that one address may use in a real minute, as documented.
pub(super) const WEIGHT_LIMIT: u32 = 6000;
const WEIGHT_HEADER: &str = "x-mbx-used-weight-1m";
const KLINES_WEIGHT: u32 = 2;
const SMALL_WEIGHT: u32 = 1;
const INFO_WEIGHT: u32 = 20;
const DEFAULT_LIMIT: usize = 500;
const MAX_LIMIT: usize = 1000;

type Reply = Response<Full<Bytes>>;

/// The weight used in the running real minute. All clients share the loopback address.
#[derive(Debug)]
pub(super) struct Weight(Mutex<(Instant, u32)>);

impl Weight {
    pub(super) fn new() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }

    /// Adds a request; returns the sum and the rest of the minute.
    fn add(&self, weight: u32) -> (u32, Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = Duration::from_mins(1);
        let now = Instant::now();
        if now.duration_since(state.0) >= minute {
            *state = (now, 0);
        }
        state.1 = state.1.saturating_add(weight);
        (state.1, minute.saturating_sub(now.duration_since(state.0)))
    }
}

/// A connection that asked to become a WebSocket.
struct Upgrade {
    upgraded: OnUpgrade,
    subscriptions: Subscriptions,
}

/// Serves one connection until it ends.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let upgrade: Arc<Mutex<Option<Upgrade>>> = Arc::default();
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        let upgrade = Arc::clone(&upgrade);
        async move { Ok::<_, Infallible>(route(request, &shared, &upgrade).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection to the simulated exchange ended");
    }
    let asked = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Upgrade { upgraded, subscriptions }) = asked
        && let Ok(upgraded) = upgraded.await
    {
        Box::pin(session::serve(upgraded, shared, subscriptions)).await;
    }
}

async fn route(
    mut request: Request<Incoming>,
    shared: &Shared,
    upgrade: &Mutex<Option<Upgrade>>,
) -> Reply {
    let path = request.uri().path().to_owned();
    let is_socket = path == "/ws" || path.starts_with("/ws/") || path == "/stream";
    if is_socket {
        return handshake(&mut request, &path, shared, upgrade);
    }
    shared.rest_requests.fetch_add(1, Ordering::Relaxed);
    if let Some(fault) = shared.pending_faults.next_rest() {
        return faulty(fault).await;
    }
    if request.method() != Method::GET {
        return failure(StatusCode::METHOD_NOT_ALLOWED, -1000, "Method not allowed.");
    }
    let query = query_of(&request);
    let weight = match path.as_str() {
        "/api/v3/klines" => KLINES_WEIGHT,
        "/api/v3/exchangeInfo" => INFO_WEIGHT,
        _ => SMALL_WEIGHT,
    };
    let (used, left) = shared.weight.add(weight);
    let mut reply = if used > WEIGHT_LIMIT {
        let message = "Too much request weight used; current limit is 6000 request weight per 1 \
                       MINUTE. Please use WebSocket Streams for live updates to avoid polling the \
                       API.";
        let mut reply = failure(StatusCode::TOO_MANY_REQUESTS, -1003, message);
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(left.as_secs() + 1));
        reply
    } else {
        let now_ms = shared.config.clock.now_ms();
        match path.as_str() {
            "/api/v3/klines" => klines(&query, shared, now_ms),
            "/api/v3/time" => success(&json!({ "serverTime": now_ms })),
            "/api/v3/ping" => success(&json!({})),
            "/api/v3/exchangeInfo" => {
                success(&texts::exchange_info(&shared.config.symbol, now_ms, WEIGHT_LIMIT))
            }
            _ => failure(StatusCode::NOT_FOUND, -1000, "Not found."),
        }
    };
    reply.headers_mut().insert(WEIGHT_HEADER, HeaderValue::from(used));
    reply
}

/// Answers the handshake; the connection's own task goes on with the WebSocket.
fn handshake(
    request: &mut Request<Incoming>,
    path: &str,
    shared: &Shared,
    upgrade: &Mutex<Option<Upgrade>>,
) -> Reply {
    if shared.pending_faults.next_socket_is_refused() {
        return failure(StatusCode::SERVICE_UNAVAILABLE, -1000, "Service unavailable.");
    }
    let headers = request.headers();
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let is_upgrade = has_token(headers, header::UPGRADE, "websocket")
        && has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::SEC_WEBSOCKET_VERSION, "13");
    let (Some(accept), true) = (key, is_upgrade) else {
        return failure(StatusCode::BAD_REQUEST, -1000, "WebSocket handshake expected.");
    };
    let Ok(accept) = HeaderValue::from_str(&accept) else {
        return failure(StatusCode::BAD_REQUEST, -1000, "WebSocket handshake expected.");
    };
    let mut subscriptions =
        Subscriptions { is_combined: path == "/stream", ..Subscriptions::default() };
    let query = query_of(request);
    let names = match path.strip_prefix("/ws/") {
        Some(names) => names,
        None => query.get("streams").map_or("", String::as_str),
    };
    let names = names.split('/').filter(|name| !name.is_empty());
    if subscriptions.add(names, &shared.stream_symbol).is_err() {
        return failure(StatusCode::BAD_REQUEST, -1000, "Invalid streams.");
    }
    let upgraded = hyper::upgrade::on(request);
    *upgrade.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Upgrade { upgraded, subscriptions });
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    reply
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn query_of(request: &Request<Incoming>) -> BTreeMap<String, String> {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// `GET /api/v3/klines`. Times count on the open time, both ends included. Without times the newest
/// rows, with a start the oldest from there, with an end alone the newest up to there.
fn klines(query: &BTreeMap<String, String>, shared: &Shared, now_ms: i64) -> Reply {
    let bad = |code: i64, message: &str| failure(StatusCode::BAD_REQUEST, code, message);
    let missing = |name: &str| {
        let message =
            format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed.");
        bad(-1102, &message)
    };
    let Some(symbol) = query.get("symbol").filter(|text| !text.is_empty()) else {
        return missing("symbol");
    };
    let Some(interval) = query.get("interval").filter(|text| !text.is_empty()) else {
        return missing("interval");
    };
    if *symbol != shared.config.symbol {
        return bad(-1121, "Invalid symbol.");
    }
    let known = interval_of(interval).filter(|interval| shared.market.has_interval(*interval));
    let Some(interval) = known else {
        return bad(-1120, "Invalid interval.");
    };
    let mut numbers = [None; 3];
    for (number, name) in numbers.iter_mut().zip(["startTime", "endTime", "limit"]) {
        if let Some(text) = query.get(name) {
            let Some(value) = text.parse::<i64>().ok().filter(|value| *value >= 0) else {
                let message = format!("Illegal characters found in parameter '{name}'.");
                return bad(-1100, &message);
            };
            *number = Some(value);
        }
    }
    let [start, end, limit] = numbers;
    let limit = limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT));
    if limit == 0 {
        return bad(-1130, "Data sent for parameter 'limit' is not valid.");
    }
    let (from_ms, to_ms) = (start.unwrap_or(0), end.unwrap_or(i64::MAX));
    let limit = limit.min(MAX_LIMIT);
    let bars = shared.market.bars(interval, from_ms, to_ms, limit, start.is_none(), now_ms);
    success(&bars.iter().map(|bar| texts::kline_row(interval, bar)).collect())
}

async fn faulty(fault: RestFault) -> Reply {
    match fault {
        RestFault::Silence => std::future::pending().await,
        RestFault::Garbage => {
            let mut reply = success(&Value::Null);
            *reply.body_mut() = Full::from("[[1577836800000,\"7195.24000000\",\"71");
            reply
        }
        RestFault::Status { status, retry_after } => {
            let (code, message) = match status {
                429 | 418 => (-1003, "Too many requests."),
                451 => (0, "Service unavailable from a restricted location."),
                _ => (-1000, "An unknown error occurred while processing the request."),
            };
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut reply = failure(status, code, message);
            if let Some(wait) = retry_after {
                reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
            }
            reply
        }
    }
}

fn success(body: &Value) -> Reply {
    reply(StatusCode::OK, body)
}

fn failure(status: StatusCode, code: i64, message: &str) -> Reply {
    reply(status, &texts::error(code, message, None))
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(Full::from(body.to_string()));
    *reply.status_mut() = status;
    let json = HeaderValue::from_static("application/json;charset=UTF-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, json);
    reply
}
