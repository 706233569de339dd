//! Opens a WebSocket, directly or through a proxy, and says what a refusal means.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_tls_with_config, connect_async_with_config,
};

use crate::error::ExchangeError;
use crate::http::{Manners, classify};
use crate::message::shorten;
use crate::proxy::ProxyUrl;

/// Candles and trades take below 1 kB, the largest snapshots that exchanges send some 100 kB.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: String,
    /// How long the exchange wants to be left alone.
    pub(crate) wait: Duration,
    /// Whether it will never let this machine in by this way.
    pub(crate) is_blocked: bool,
}

/// Opens the WebSocket `url`.
pub(crate) async fn connect(
    url: &str,
    proxy: Option<&ProxyUrl>,
    manners: &Manners,
) -> Result<Socket, Refused> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .read_buffer_size(16 * 1024);
    let opened = match proxy {
        None => connect_async_with_config(url, Some(config), true).await,
        Some(proxy) => {
            let stream = proxy.tunnel(url).await.map_err(|words| unexplained(url, &words))?;
            client_async_tls_with_config(url, stream, Some(config), None).await
        }
    };
    opened.map(|(socket, _response)| socket).map_err(|error| explained(url, &error, manners))
}

fn unexplained(url: &str, words: &str) -> Refused {
    let reason = format!("cannot connect to {url}: {words}");
    Refused { reason, wait: Duration::ZERO, is_blocked: false }
}

/// An answer that is no WebSocket has the meaning of a REST refusal.
fn explained(url: &str, error: &Error, manners: &Manners) -> Refused {
    let Error::Http(response) = error else {
        return unexplained(url, &shorten(&error.to_string()));
    };
    let body = response.body().as_deref().unwrap_or_default();
    let status = response.status().as_u16();
    let meaning = classify(status, response.headers(), (manners.explain)(body), body, manners);
    let refused = unexplained(url, &meaning.to_string());
    let wait = meaning.retry_after().unwrap_or_default();
    Refused { wait, is_blocked: matches!(meaning, ExchangeError::Blocked { .. }), ..refused }
}
