//! The one WebSocket loop: connect, subscribe, read, notice silence, come back.
//!
//! ```text
//!        +--> connecting --> open --> subscribed --+
//!        |        |            |          |        |
//!        +-- pause, rising <---+----------+<-------+  lost, silent, refused, too old
//! ```
//!
//! Pings are answered by the WebSocket library while the loop reads.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::backoff::Backoff;
use crate::config::FeedConfig;
use crate::event::DropClass;
use crate::message::{DecodeError, Message, shorten};
use crate::tls::install_tls;

/// Candles and trades take below 1 kB, the largest snapshots that exchanges send some 100 kB.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What one exchange says over the socket.
pub(crate) trait Protocol {
    /// The address to connect to.
    fn url(&self) -> &str;
    /// The texts to send after connecting.
    fn requests(&self) -> Vec<String>;
    /// Tells whether `message` confirms the requests.
    fn is_confirmed_by(&self, message: &Message) -> bool;
    /// Reads one text message.
    fn decode(&self, text: &str) -> Result<Message, DecodeError>;
}

/// What the loop tells the feed, in order.
#[derive(Debug)]
pub(crate) enum SocketEvent {
    Connected,
    Subscribed,
    Data(Message),
    Unreadable(DropClass),
    Disconnected { reason: String, retry_in: Duration },
}

/// The part of the settings that concerns the connection.
#[derive(Debug, Clone)]
pub(crate) struct SocketSettings {
    connect_timeout: Duration,
    idle_timeout: Duration,
    backoff_min: Duration,
    backoff_max: Duration,
    max_age: Duration,
}

impl From<&FeedConfig> for SocketSettings {
    fn from(config: &FeedConfig) -> Self {
        Self {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
            max_age: config.max_connection_age,
        }
    }
}

/// Why a connection ended.
enum End {
    /// The owner wants to stop, or is gone.
    Stopped,
    /// Lost; `is_planned` when this side or the exchange replaces a healthy connection.
    Lost { reason: String, is_planned: bool },
}

impl End {
    fn lost(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into(), is_planned: false }
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Waits until the owner wants to stop; a dropped sender counts as that.
pub(crate) async fn cancelled(cancel: &mut watch::Receiver<bool>) {
    // The error case is the dropped sender.
    drop(cancel.wait_for(|stop| *stop).await);
}

/// Runs connections one after the other until `cancel`, or until nobody receives `events`.
pub(crate) async fn run_socket<P: Protocol>(
    settings: SocketSettings,
    protocol: P,
    seed: u64,
    events: mpsc::Sender<SocketEvent>,
    mut cancel: watch::Receiver<bool>,
) {
    install_tls();
    let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max, seed);
    loop {
        let started = Instant::now();
        let mut session = Session {
            settings: &settings,
            protocol: &protocol,
            events: &events,
            cancel: &mut cancel,
            has_data: false,
        };
        let End::Lost { reason, is_planned } = session.run().await else {
            return;
        };
        // Only a connection that was of use for a while proves that the trouble is over; a host
        // that accepts, sends a little and drops must not be asked at the shortest pause for ever.
        if session.has_data && (is_planned || started.elapsed() >= settings.backoff_max) {
            backoff.reset();
        }
        let retry_in = backoff.next_pause();
        let event = SocketEvent::Disconnected { reason, retry_in };
        if !send(&events, event, &mut cancel).await {
            return;
        }
        tokio::select! {
            biased;
            () = abandoned(&mut cancel, &events) => return,
            () = tokio::time::sleep(retry_in) => {}
        }
    }
}

/// Waits until the owner wants to stop or nobody receives `events` any more.
async fn abandoned(cancel: &mut watch::Receiver<bool>, events: &mpsc::Sender<SocketEvent>) {
    tokio::select! {
        biased;
        () = cancelled(cancel) => {}
        () = events.closed() => {}
    }
}

/// Waits for room; `false` when the owner wants to stop or is gone.
async fn send(
    events: &mpsc::Sender<SocketEvent>,
    event: SocketEvent,
    cancel: &mut watch::Receiver<bool>,
) -> bool {
    tokio::select! {
        biased;
        () = cancelled(cancel) => false,
        sent = events.send(event) => sent.is_ok(),
    }
}

/// One connection.
struct Session<'a, P> {
    settings: &'a SocketSettings,
    protocol: &'a P,
    events: &'a mpsc::Sender<SocketEvent>,
    cancel: &'a mut watch::Receiver<bool>,
    /// Whether market data came.
    has_data: bool,
}

impl<P: Protocol> Session<'_, P> {
    async fn run(&mut self) -> End {
        let mut socket = match self.connect().await {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        let end = self.read(&mut socket).await;
        // The goodbye is a courtesy; the connection is gone either way.
        drop(timeout(CLOSE_TIMEOUT, socket.close(None)).await);
        end
    }

    async fn connect(&mut self) -> Result<Socket, End> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES))
            .read_buffer_size(16 * 1024);
        let url = self.protocol.url();
        let connecting = Box::pin(connect_async_with_config(url, Some(config), true));
        let limit = self.settings.connect_timeout;
        let connected = tokio::select! {
            biased;
            () = abandoned(self.cancel, self.events) => return Err(End::Stopped),
            connected = timeout(limit, connecting) => connected,
        };
        let mut socket = match connected {
            Err(_) => {
                return Err(End::lost(format!("no connection to {url} within {limit:?}")));
            }
            Ok(Err(error)) => {
                return Err(End::lost(describe(&format!("cannot connect to {url}"), &error)));
            }
            Ok(Ok((socket, _response))) => socket,
        };
        if !self.tell(SocketEvent::Connected).await {
            return Err(End::Stopped);
        }
        for request in self.protocol.requests() {
            let sent = timeout(limit, socket.send(Frame::text(request))).await;
            match sent {
                Err(_) => return Err(End::lost("subscription could not be sent in time")),
                Ok(Err(error)) => return Err(End::lost(describe("subscription not sent", &error))),
                Ok(Ok(())) => {}
            }
        }
        Ok(socket)
    }

    async fn read(&mut self, socket: &mut Socket) -> End {
        let opened = Instant::now();
        let too_old = opened + self.settings.max_age;
        let mut confirm_by = Some(opened + self.settings.connect_timeout);
        let mut silent_at = opened + self.settings.idle_timeout;
        loop {
            let wake = confirm_by.unwrap_or(too_old).min(silent_at).min(too_old);
            let frame = tokio::select! {
                biased;
                () = abandoned(self.cancel, self.events) => return End::Stopped,
                frame = socket.next() => frame,
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    return if confirm_by.is_some_and(|by| now >= by) {
                        End::lost(format!("subscription not confirmed within {:?}", self.settings.connect_timeout))
                    } else if now >= silent_at {
                        End::lost(format!("no market data for {:?}", self.settings.idle_timeout))
                    } else {
                        End::Lost { reason: "connection replaced because of its age".into(), is_planned: true }
                    };
                }
            };
            let event = match frame {
                None => return End::lost("connection closed"),
                Some(Err(error)) => return End::lost(describe("connection lost", &error)),
                Some(Ok(Frame::Close(frame))) => {
                    let words =
                        frame.map(|frame| format!(": {} {}", frame.code, shorten(&frame.reason)));
                    return End::lost(format!(
                        "exchange closed the connection{}",
                        words.unwrap_or_default()
                    ));
                }
                Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => continue,
                Some(Ok(Frame::Binary(_))) => SocketEvent::Unreadable(DropClass::Binary),
                Some(Ok(Frame::Text(text))) => match self.protocol.decode(&text) {
                    Err(error) => {
                        tracing::debug!(%error, "message dropped");
                        SocketEvent::Unreadable(DropClass::Invalid)
                    }
                    Ok(Message::Nack { reason }) => {
                        return End::lost(format!("exchange refused the subscription: {reason}"));
                    }
                    Ok(Message::GoingAway) => {
                        let reason = "exchange announced a shutdown".to_owned();
                        return End::Lost { reason, is_planned: true };
                    }
                    Ok(message)
                        if confirm_by.is_some() && self.protocol.is_confirmed_by(&message) =>
                    {
                        confirm_by = None;
                        SocketEvent::Subscribed
                    }
                    Ok(Message::Ack { .. } | Message::Other) => continue,
                    Ok(message) => {
                        self.has_data = true;
                        silent_at = Instant::now() + self.settings.idle_timeout;
                        SocketEvent::Data(message)
                    }
                },
            };
            if !self.tell(event).await {
                return End::Stopped;
            }
        }
    }

    async fn tell(&mut self, event: SocketEvent) -> bool {
        send(self.events, event, self.cancel).await
    }
}

fn describe(what: &str, error: &tokio_tungstenite::tungstenite::Error) -> String {
    format!("{what}: {}", shorten(&error.to_string()))
}
