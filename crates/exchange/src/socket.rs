//! The one WebSocket loop: connect, subscribe, read, notice silence, come back.
//!
//! ```text
//!        +--> connecting --> open --> subscribed --+
//!        |        |            |          |        |
//!        +-- pause, rising <---+----------+<-------+  lost, silent, refused, too old
//! ```
//!
//! Ping frames are answered by the WebSocket library while the loop reads. An exchange that wants
//! the client to ping in JSON gets that text on a fixed schedule. Heartbeats, pongs and states are no
//! market data: they do not put off the end of a silent connection.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forecastd_core::Interval;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::backoff::Backoff;
use crate::config::FeedConfig;
use crate::connect::{Refused, Socket, connect};
use crate::error::ExchangeError;
use crate::event::DropClass;
use crate::http::Manners;
use crate::message::{DecodeError, Message, shorten};
use crate::proxy::ProxyUrl;
use crate::source::CandleSource;
use crate::tls::install_tls;

/// Most frames that are taken one after the other before anything else is looked at.
const MAX_IN_ROW: usize = 64;
/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Shortest pause before coming back to an exchange that said it is not online: Kraken asks for 5 s.
const OFFLINE_PAUSE: Duration = Duration::from_secs(5);

/// A text that this side has to send again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ping {
    pub(crate) every: Duration,
    pub(crate) text: String,
}

/// What one exchange says over the socket.
pub(crate) trait Protocol: Send + Sync + fmt::Debug {
    /// The address to connect to.
    fn url(&self) -> &str;
    /// The texts to send after connecting.
    fn requests(&self) -> Vec<String>;
    /// Returns the positions in [`Protocol::requests`] of those that `message` confirms.
    fn confirmed_by(&self, message: &Message) -> Vec<usize>;
    /// Reads one text message.
    fn decode(&self, text: &str) -> Result<Message, DecodeError>;
    /// The ping that the exchange wants from its clients.
    fn ping(&self) -> Option<Ping> {
        None
    }
    /// Whether the exchange confirms a subscription to a market that it does not have, and stays
    /// silent: REST is asked then.
    fn confirms_unknown_symbols(&self) -> bool {
        false
    }
    /// The number of a message where the exchange numbers all messages of a connection by ones. A
    /// jump ends the connection.
    fn sequence(&self, _text: &str) -> Option<u64> {
        None
    }
}

/// What the loop tells the feed, in order.
#[derive(Debug)]
pub(crate) enum SocketEvent {
    Connected,
    Subscribed,
    Data(Message),
    Unreadable {
        class: DropClass,
        /// What is wrong with it.
        reason: String,
    },
    Disconnected {
        reason: String,
        retry_in: Duration,
    },
}

/// The part of the settings that concerns the connection.
#[derive(Debug, Clone)]
pub(crate) struct SocketSettings {
    symbol: String,
    interval: Interval,
    proxy: Option<ProxyUrl>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    backoff_min: Duration,
    backoff_max: Duration,
    max_age: Duration,
    manners: &'static Manners,
}

impl SocketSettings {
    pub(crate) fn new(config: &FeedConfig, manners: &'static Manners) -> Self {
        Self {
            symbol: config.symbol.clone(),
            interval: config.interval,
            proxy: config.proxy.clone(),
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
            max_age: config.max_connection_age,
            manners,
        }
    }
}

/// Why a connection ended.
enum End {
    /// The owner wants to stop, or is gone.
    Stopped,
    /// Lost; `is_planned` when this side or the exchange replaces a healthy connection, `wait` when it
    /// makes no sense to come back earlier.
    Lost { reason: String, is_planned: bool, wait: Duration },
}

impl End {
    fn lost(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into(), is_planned: false, wait: Duration::ZERO }
    }

    fn planned(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into(), is_planned: true, wait: Duration::ZERO }
    }
}

/// Waits until the owner wants to stop; a dropped sender counts as that.
pub(crate) async fn cancelled(cancel: &mut watch::Receiver<bool>) {
    // The error case is the dropped sender.
    drop(cancel.wait_for(|stop| *stop).await);
}

/// Runs connections one after the other until `cancel`, or until nobody receives `events`.
pub(crate) async fn run_socket(
    settings: SocketSettings,
    protocol: Box<dyn Protocol>,
    source: Arc<dyn CandleSource>,
    seed: u64,
    events: mpsc::Sender<SocketEvent>,
    mut cancel: watch::Receiver<bool>,
) {
    install_tls();
    let is_known = AtomicBool::new(!protocol.confirms_unknown_symbols());
    let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max, seed);
    loop {
        let started = Instant::now();
        let mut session = Session {
            settings: &settings,
            protocol: &*protocol,
            events: &events,
            cancel: &mut cancel,
            has_data: false,
            is_offline: false,
        };
        let unknown = unknown_symbol(&*source, &settings, &is_known);
        let end = tokio::select! {
            biased;
            end = session.run() => end,
            reason = unknown => {
                End::Lost { reason, is_planned: false, wait: settings.backoff_max }
            }
        };
        let End::Lost { reason, is_planned, wait } = end else {
            return;
        };
        // Only a connection that was of use for a while proves that the trouble is over; a host
        // that accepts, sends a little and drops must not be asked at the shortest pause for ever.
        if session.has_data && (is_planned || started.elapsed() >= settings.backoff_max) {
            backoff.reset();
        }
        let mut retry_in = backoff.next_pause().max(wait);
        if session.is_offline {
            retry_in = retry_in.max(OFFLINE_PAUSE);
        }
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

/// Asks once whether the market exists, and returns what to say when it does not; never returns when
/// it does, or when nobody can tell.
async fn unknown_symbol(
    source: &dyn CandleSource,
    settings: &SocketSettings,
    is_known: &AtomicBool,
) -> String {
    if !is_known.load(Ordering::Relaxed) {
        match source.check_symbol(&settings.symbol, settings.interval).await {
            Ok(()) => is_known.store(true, Ordering::Relaxed),
            Err(error @ ExchangeError::UnknownSymbol { .. }) => return error.to_string(),
            Err(error) => tracing::debug!(%error, "nobody can say whether the market exists"),
        }
    }
    std::future::pending().await
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
    let event = match events.try_send(event) {
        Ok(()) => return true,
        Err(TrySendError::Closed(_)) => return false,
        Err(TrySendError::Full(event)) => event,
    };
    tokio::select! {
        biased;
        () = cancelled(cancel) => false,
        sent = events.send(event) => sent.is_ok(),
    }
}

/// One connection.
struct Session<'a> {
    settings: &'a SocketSettings,
    protocol: &'a dyn Protocol,
    events: &'a mpsc::Sender<SocketEvent>,
    cancel: &'a mut watch::Receiver<bool>,
    /// Whether market data came.
    has_data: bool,
    /// Whether the exchange said that it is not working as usual.
    is_offline: bool,
}

impl Session<'_> {
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
        let SocketSettings { proxy, manners, connect_timeout: limit, .. } = self.settings;
        let url = self.protocol.url();
        let connecting = Box::pin(connect(url, proxy.as_ref(), manners));
        let connected = tokio::select! {
            biased;
            () = abandoned(self.cancel, self.events) => return Err(End::Stopped),
            connected = timeout(*limit, connecting) => connected,
        };
        let mut socket = match connected {
            Err(_) => {
                return Err(End::lost(format!("no connection to {url} within {limit:?}")));
            }
            Ok(Err(Refused { reason, wait, is_blocked })) => {
                // Going on at the usual pace could only make it worse.
                let wait = if is_blocked { wait.max(self.settings.backoff_max) } else { wait };
                return Err(End::Lost { reason, is_planned: false, wait });
            }
            Ok(Ok(socket)) => socket,
        };
        if !self.tell(SocketEvent::Connected).await {
            return Err(End::Stopped);
        }
        for request in self.protocol.requests() {
            self.send_text(&mut socket, "subscription", request).await?;
        }
        Ok(socket)
    }

    async fn read<S>(&mut self, socket: &mut WebSocketStream<S>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let opened = Instant::now();
        let too_old = opened + self.settings.max_age;
        let mut waiting: BTreeSet<usize> = (0..self.protocol.requests().len()).collect();
        let confirm_by = opened + self.settings.connect_timeout;
        let mut silent_at = opened + self.settings.idle_timeout;
        let mut last_sequence = None;
        let ping = self.protocol.ping();
        let (mut ready, mut in_row, mut arrived) = (None, 0, opened);
        let mut ping_at = ping.as_ref().map_or(too_old, |ping| opened + ping.every);
        loop {
            let confirm_at = if waiting.is_empty() { too_old } else { confirm_by };
            // Frames that are there already are taken in a row: asking the clock and all the others
            // in between would cost several times as much as the frame.
            let frame = if let Some(frame) = ready.take() {
                in_row += 1;
                frame
            } else {
                in_row = 1;
                let frame = tokio::select! {
                    biased;
                    () = abandoned(self.cancel, self.events) => return End::Stopped,
                    // Before the frames: a busy connection must not put off its pings.
                    () = sleep_until(ping_at), if ping.is_some() => {
                        if let Some(ping) = &ping {
                            ping_at = Instant::now() + ping.every;
                            if let Err(end) = self.send_text(socket, "ping", ping.text.clone()).await {
                                return end;
                            }
                        }
                        continue;
                    }
                    frame = socket.next() => frame,
                    () = sleep_until(confirm_at.min(silent_at).min(too_old)) => {
                        return self.timed_out(!waiting.is_empty() && Instant::now() >= confirm_by, silent_at);
                    }
                };
                arrived = Instant::now();
                frame
            };
            let text = match frame {
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
                Some(Ok(Frame::Binary(_))) => {
                    let reason = "binary message".to_owned();
                    let event = SocketEvent::Unreadable { class: DropClass::Binary, reason };
                    if !self.tell(event).await {
                        return End::Stopped;
                    }
                    continue;
                }
                Some(Ok(Frame::Text(text))) => text,
            };
            if let Some(number) = self.protocol.sequence(&text) {
                // A new subscription is the only way to know the state of the market again.
                if let Some(last) = last_sequence.replace(number)
                    && u64::checked_add(last, 1) != Some(number)
                {
                    return End::lost(format!("messages lost: number {number} came after {last}"));
                }
            }
            match self.message(&text, &mut waiting) {
                Err(end) => return end,
                Ok(None) => {}
                Ok(Some(event)) => {
                    // All data but the news about the newest trade, which come without one too.
                    if matches!(&event, SocketEvent::Data(data) if !matches!(data, Message::LastTrade(_)))
                    {
                        self.has_data = true;
                        silent_at = arrived + self.settings.idle_timeout;
                    }
                    if !self.tell(event).await {
                        return End::Stopped;
                    }
                }
            }
            if in_row < MAX_IN_ROW {
                ready = socket.next().now_or_never();
            }
        }
    }

    /// Reads one text; `None` when the feed has no use for it.
    fn message(
        &mut self,
        text: &str,
        waiting: &mut BTreeSet<usize>,
    ) -> Result<Option<SocketEvent>, End> {
        let message = match self.protocol.decode(text) {
            Ok(message) => message,
            Err(error) => {
                let (class, reason) = (DropClass::Invalid, error.to_string());
                return Ok(Some(SocketEvent::Unreadable { class, reason }));
            }
        };
        match message {
            Message::Nack { reason } => {
                let SocketSettings { symbol, manners, .. } = self.settings;
                let listed_at = manners.symbols;
                Err(End::lost(format!(
                    "exchange refused the subscription to {symbol}: {reason} (symbols: {listed_at})"
                )))
            }
            Message::GoingAway => Err(End::planned("exchange announced a shutdown")),
            Message::Ack { .. } | Message::Subscriptions(_) => {
                let was_waiting = !waiting.is_empty();
                for position in self.protocol.confirmed_by(&message) {
                    waiting.remove(&position);
                }
                Ok((was_waiting && waiting.is_empty()).then_some(SocketEvent::Subscribed))
            }
            Message::Status { is_online, state } => {
                self.is_offline = !is_online;
                if !is_online {
                    tracing::warn!(%state, "exchange is not online");
                }
                Ok(None)
            }
            Message::Heartbeat | Message::Pong | Message::Other => Ok(None),
            Message::Candles(_)
            | Message::Trade(_)
            | Message::Trades(_)
            | Message::LastTrade(_) => Ok(Some(SocketEvent::Data(message))),
        }
    }

    fn timed_out(&self, is_unconfirmed: bool, silent_at: Instant) -> End {
        if is_unconfirmed {
            let limit = self.settings.connect_timeout;
            End::lost(format!("subscription not confirmed within {limit:?}"))
        } else if Instant::now() >= silent_at {
            End::lost(format!("no market data for {:?}", self.settings.idle_timeout))
        } else {
            End::planned("connection replaced because of its age")
        }
    }

    async fn send_text<S>(
        &self,
        socket: &mut WebSocketStream<S>,
        what: &str,
        text: String,
    ) -> Result<(), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let sent = timeout(self.settings.connect_timeout, socket.send(Frame::text(text))).await;
        match sent {
            Err(_) => Err(End::lost(format!("{what} could not be sent in time"))),
            Ok(Err(error)) => Err(End::lost(describe(&format!("{what} not sent"), &error))),
            Ok(Ok(())) => Ok(()),
        }
    }

    async fn tell(&mut self, event: SocketEvent) -> bool {
        send(self.events, event, self.cancel).await
    }
}

fn describe(what: &str, error: &tokio_tungstenite::tungstenite::Error) -> String {
    format!("{what}: {}", shorten(&error.to_string()))
}

#[cfg(test)]
mod tests;
