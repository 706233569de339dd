//! One WebSocket of the simulated exchange.
//!
//! Market events are due in market time; pings, heartbeats, limits and the life of the connection in
//! real time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::Shared;
use super::cursor::Cursors;
use super::fault::Fault;
use super::limits::Window;
use super::venue::{Dialogue, Rules};

/// Requests are short.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// A client that does not take its data for so long is cut.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A pong must come within this time.
const PONG_TIMEOUT: Duration = Duration::from_mins(1);
/// Size of the message of [`Fault::Oversized`].
const OVERSIZED_BYTES: usize = 4 * 1024 * 1024;
/// The head of a final text frame that promises 512 bytes, and the first of them.
const TRUNCATED: &[u8] = b"\x81\x7e\x02\x00{\"channel\":\"tr";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The connection is over.
struct Ended;

/// Serves `upgraded` until either side ends it.
pub(super) async fn serve(upgraded: Upgraded, shared: Arc<Shared>, dialogue: Box<dyn Dialogue>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_REQUEST_BYTES))
        .max_frame_size(Some(MAX_REQUEST_BYTES))
        .read_buffer_size(8 * 1024);
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let faults = shared.faults.subscribe();
    let now = Instant::now();
    let rules = shared.rules;
    let after = |span: Option<Duration>| span.map(|span| now + span);
    let mut session = Session {
        socket,
        dialogue,
        cursors: Cursors::default(),
        ping_at: after(rules.ping_every),
        pong_by: None,
        heartbeat_at: after(shared.heartbeat_every()),
        bare_since: now,
        active_at: now,
        life_end: after(rules.connection_life),
        messages: rules.messages.map(|limit| Window::new(limit, Duration::from_secs(1))),
        rules,
        shared,
    };
    session.shared.open_sockets.fetch_add(1, Ordering::Relaxed);
    // The end of a connection is no error of the exchange.
    let _ended = session.run(faults).await;
    session.shared.open_sockets.fetch_sub(1, Ordering::Relaxed);
}

struct Session {
    socket: Socket,
    shared: Arc<Shared>,
    rules: Rules,
    dialogue: Box<dyn Dialogue>,
    cursors: Cursors,
    ping_at: Option<Instant>,
    pong_by: Option<Instant>,
    heartbeat_at: Option<Instant>,
    /// Since when nothing is subscribed, while nothing is.
    bare_since: Instant,
    /// The last word of the client or data for it.
    active_at: Instant,
    life_end: Option<Instant>,
    messages: Option<Window>,
}

impl Session {
    async fn run(&mut self, mut faults: broadcast::Receiver<Fault>) -> Result<(), Ended> {
        let greeting = self.dialogue.greeting(&self.shared.scene());
        self.send_all(greeting).await?;
        self.arm();
        loop {
            self.publish().await?;
            let wake = self.next_wake();
            tokio::select! {
                biased;
                fault = faults.recv() => match fault {
                    Ok(fault) => self.strike(fault).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Err(Ended),
                },
                frame = self.socket.next() => self.incoming(frame).await?,
                () = sleep_until(wake) => self.keep_time().await?,
            }
        }
    }

    /// When to look again, if nothing comes before.
    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let shared = &self.shared;
        let clock = &shared.config.clock;
        let due_ms = self.cursors.next_due_ms(&shared.tempo(), clock.now_ms()).unwrap_or(i64::MAX);
        // A day is long enough for "nothing", and short enough for the timer.
        let wait = clock.real_duration_until(due_ms).min(Duration::from_hours(24));
        let mut wake = now + wait.max(Duration::from_millis(1));
        let (bare_by, idle_by) = self.cut_by();
        let timers =
            [self.ping_at, self.pong_by, self.heartbeat_at, self.life_end, bare_by, idle_by];
        for at in timers {
            wake = at.map_or(wake, |at| at.min(wake));
        }
        wake
    }

    /// When the connection is cut for want of a subscription, and for want of anything.
    fn cut_by(&self) -> (Option<Instant>, Option<Instant>) {
        let is_bare = self.dialogue.topics().is_empty();
        let bare_by = self.rules.subscribe_within.filter(|_| is_bare);
        let idle_by = self.rules.idle_cut;
        (bare_by.map(|span| self.bare_since + span), idle_by.map(|span| self.active_at + span))
    }

    /// Does what is due in real time.
    async fn keep_time(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        let is_past = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let (bare_by, idle_by) = self.cut_by();
        if [self.life_end, self.pong_by, bare_by, idle_by].into_iter().any(is_past) {
            return self.close(CloseCode::Policy, "disconnected").await;
        }
        if let Some(every) = self.rules.ping_every
            && is_past(self.ping_at)
        {
            self.ping_at = Some(now + every);
            self.pong_by.get_or_insert(now + PONG_TIMEOUT);
            let payload = self.shared.config.clock.now_ms().to_string();
            self.send(Frame::Ping(payload.into())).await?;
        }
        if let Some(every) = self.shared.heartbeat_every()
            && is_past(self.heartbeat_at)
        {
            self.heartbeat_at = Some(now + every);
            let beat = self.dialogue.heartbeat(&self.shared.scene());
            if !beat.is_empty() {
                self.active_at = now;
            }
            self.send_all(beat).await?;
        }
        Ok(())
    }

    async fn incoming(
        &mut self,
        frame: Option<Result<Frame, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), Ended> {
        let Some(Ok(frame)) = frame else {
            return Err(Ended);
        };
        if self.messages.as_ref().is_some_and(|window| window.add(1).is_over) {
            let words = self.dialogue.too_fast();
            self.send_all(words).await?;
            return self.close(CloseCode::Policy, "Too many requests").await;
        }
        self.active_at = Instant::now();
        match frame {
            Frame::Text(text) => self.hear(&text).await,
            // No exchange speaks binary: it is read like a text that is none.
            Frame::Binary(bytes) => self.hear(&String::from_utf8_lossy(&bytes)).await,
            Frame::Pong(_) => {
                self.pong_by = None;
                Ok(())
            }
            Frame::Close(_) => Err(Ended),
            Frame::Ping(_) | Frame::Frame(_) => Ok(()),
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), Ended> {
        let answers = self.dialogue.hear(text, &self.shared.scene());
        self.arm();
        self.send_all(answers).await
    }

    fn arm(&mut self) {
        let topics = self.dialogue.topics();
        if !topics.is_empty() {
            self.bare_since = Instant::now();
        }
        self.cursors.arm(topics, &self.shared.market, self.shared.config.clock.now_ms());
    }

    /// Sends everything that is due.
    async fn publish(&mut self) -> Result<(), Ended> {
        let shared = Arc::clone(&self.shared);
        let scene = shared.scene();
        let due = self.cursors.publish(&shared.market, &shared.tempo(), scene.now_ms);
        for (topic, news) in due {
            let texts = self.dialogue.tell(&topic, &news, &scene);
            self.active_at = Instant::now();
            self.send_all(texts).await?;
        }
        Ok(())
    }

    async fn send_all(&mut self, texts: Vec<String>) -> Result<(), Ended> {
        for text in texts {
            self.send(Frame::text(text)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, frame: Frame) -> Result<(), Ended> {
        match timeout(SEND_TIMEOUT, self.socket.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ended),
        }
    }

    async fn close(&mut self, code: CloseCode, reason: &'static str) -> Result<(), Ended> {
        let frame = CloseFrame { code, reason: reason.into() };
        // The client may be gone already.
        drop(timeout(SEND_TIMEOUT, self.socket.close(Some(frame))).await);
        Err(Ended)
    }

    async fn strike(&mut self, fault: Fault) -> Result<(), Ended> {
        let faults = &mut self.cursors.faults;
        match fault {
            Fault::Drop | Fault::Outage { .. } => return Err(Ended),
            Fault::Silence => {
                // What comes is read and thrown away until the client gives up.
                while let Some(Ok(frame)) = self.socket.next().await {
                    if frame.is_close() {
                        break;
                    }
                }
                return Err(Ended);
            }
            Fault::Shutdown => {
                let words = self.dialogue.farewell(&self.shared.scene());
                self.send_all(words).await?;
                return self.close(CloseCode::Away, "server shutdown").await;
            }
            Fault::EndOfLife => return self.close(CloseCode::Policy, "disconnected").await,
            Fault::Garbage => {
                let nonsense = self.dialogue.nonsense(&self.shared.scene());
                let half = nonsense.chars().take(nonsense.len() / 2).collect();
                return self.send_all(vec![half, nonsense]).await;
            }
            Fault::TruncatedFrame => {
                let raw = self.socket.get_mut();
                drop(timeout(SEND_TIMEOUT, raw.write_all(TRUNCATED)).await);
                drop(timeout(SEND_TIMEOUT, raw.flush()).await);
                return Err(Ended);
            }
            Fault::Oversized => return self.send(Frame::text("x".repeat(OVERSIZED_BYTES))).await,
            Fault::LateFinals { by, count } => {
                faults.late = count;
                faults.late_by_ms = super::millis(by);
            }
            Fault::LostFinals { count } => faults.lost = count,
            Fault::RepeatedFinals { count } => faults.repeated = count,
            Fault::RepeatedTrades { count } => faults.repeated_trades = count,
            Fault::ReorderedTrades { count } => faults.reordered_trades = count,
            Fault::LostTrades { count } => faults.lost_trades = count,
            // Not of the connections that are open.
            Fault::WrongPrices { .. }
            | Fault::RestStatus { .. }
            | Fault::RestGarbage { .. }
            | Fault::RestSilence { .. }
            | Fault::RefuseSockets { .. }
            | Fault::DropHandshakes { .. } => {}
        }
        Ok(())
    }
}
