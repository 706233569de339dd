//! One listener for REST and WebSocket: accepts, answers requests, and hands handshakes on.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::fault::{RestFault, SocketFault};
use super::venue::{BadAddress, Dialogue, Opened, Query, Reply, plain};
use super::{Shared, session};

/// Open connections, WebSocket and REST together.
const MAX_CONNECTIONS: usize = 256;
/// Pause after the system refused a connection, for example without file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A request head must come within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A connection that asked to become a WebSocket.
struct Upgrade {
    upgraded: OnUpgrade,
    dialogue: Box<dyn Dialogue>,
}

/// The connection is cut instead of answered.
#[derive(Debug, thiserror::Error)]
#[error("connection cut on purpose")]
struct Cut;

/// Accepts until it is aborted; its connections end with it.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            biased;
            Some(_) = connections.join_next(), if connections.len() >= MAX_CONNECTIONS => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no-delay not set");
                    }
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Serves one connection until it ends.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let upgrade: Arc<Mutex<Option<Upgrade>>> = Arc::default();
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        let upgrade = Arc::clone(&upgrade);
        async move { route(request, &shared, &upgrade).await }
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
    if let Some(Upgrade { upgraded, dialogue }) = asked
        && let Ok(upgraded) = upgraded.await
    {
        Box::pin(session::serve(upgraded, shared, dialogue)).await;
    }
}

async fn route(
    mut request: Request<Incoming>,
    shared: &Shared,
    upgrade: &Mutex<Option<Upgrade>>,
) -> Result<Reply, Cut> {
    let path = request.uri().path().to_owned();
    let query = query_of(&request);
    let scene = shared.scene();
    if let Some(opened) = shared.venue.open(&path, &query, &scene) {
        return handshake(&mut request, opened, shared, upgrade);
    }
    shared.rest_requests.fetch_add(1, Ordering::Relaxed);
    if let Some(fault) = shared.pending_faults.next_rest(scene.now_ms) {
        return Ok(faulty(fault, shared).await);
    }
    if request.method() != Method::GET {
        return Ok(shared.venue.refusal(StatusCode::METHOD_NOT_ALLOWED, scene.now_ms));
    }
    Ok(shared.venue.rest(&path, &query, &scene))
}

/// Answers the handshake; the connection's own task goes on with the WebSocket.
fn handshake(
    request: &mut Request<Incoming>,
    opened: Opened,
    shared: &Shared,
    upgrade: &Mutex<Option<Upgrade>>,
) -> Result<Reply, Cut> {
    let now_ms = shared.config.clock.now_ms();
    match shared.pending_faults.next_socket(now_ms) {
        Some(SocketFault::Dropped) => return Err(Cut),
        Some(SocketFault::Refused) => {
            return Ok(shared.venue.refusal(StatusCode::SERVICE_UNAVAILABLE, now_ms));
        }
        None => {}
    }
    if shared.connects.add(1).is_over {
        return Ok(shared.venue.refusal(StatusCode::TOO_MANY_REQUESTS, now_ms));
    }
    let wrong = || plain(StatusCode::BAD_REQUEST, "text/plain", "Bad Request".to_owned());
    let headers = request.headers();
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let is_upgrade = has_token(headers, &header::UPGRADE, "websocket")
        && has_token(headers, &header::CONNECTION, "upgrade")
        && has_token(headers, &header::SEC_WEBSOCKET_VERSION, "13");
    let accept = key.filter(|_| is_upgrade).and_then(|key| HeaderValue::from_str(&key).ok());
    let Some(accept) = accept else {
        return Ok(wrong());
    };
    let dialogue = match opened {
        Ok(dialogue) => dialogue,
        Err(BadAddress) => return Ok(shared.venue.refusal(StatusCode::BAD_REQUEST, now_ms)),
    };
    let upgraded = hyper::upgrade::on(request);
    *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(Upgrade { upgraded, dialogue });
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let mut reply = Response::new(http_body_util::Full::default());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(reply)
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn query_of(request: &Request<Incoming>) -> Query {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

async fn faulty(fault: RestFault, shared: &Shared) -> Reply {
    match fault {
        RestFault::Silence => std::future::pending().await,
        RestFault::Garbage => {
            plain(StatusCode::OK, "application/json", shared.venue.broken_body().to_owned())
        }
        RestFault::Status { status, retry_after } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut reply = shared.venue.refusal(status, shared.config.clock.now_ms());
            if let Some(wait) = retry_after {
                reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
            }
            reply
        }
    }
}
