//! One WebSocket of the simulated exchange.
//!
//! Market events are due in market time; pings, limits and the life of the connection in real time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forecastd_core::Interval;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::fault::Fault;
use super::requests::{Kind, Subscriptions};
use super::{Shared, texts};

/// Requests are short.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// A client that does not take its data for so long is cut.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Incoming messages a second, pongs included, as documented.
const MAX_MESSAGES_PER_SECOND: u32 = 5;
/// A pong must come within this time.
const PONG_TIMEOUT: Duration = Duration::from_mins(1);
/// Size of the message of [`Fault::Oversized`].
const OVERSIZED_BYTES: usize = 4 * 1024 * 1024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The connection is over.
struct Ended;

/// Where a kline stream stands.
#[derive(Debug)]
struct KlineCursor {
    interval: Interval,
    interval_name: String,
    /// Open time of the next candle to be told as final; it is also the one shown as forming.
    next_ms: i64,
    /// Market time of the next forming update.
    forming_due_ms: i64,
    /// The text that was shown last: unchanged candles are not repeated.
    shown: Option<(f64, f64)>,
}

/// Where a trade stream stands: the market time up to which it was told.
#[derive(Debug)]
enum Cursor {
    Kline(KlineCursor),
    Trade { told_ms: i64 },
    Silent,
}

/// Counters of the faults that strike final candles.
#[derive(Debug, Default)]
struct FinalFaults {
    late: u32,
    late_by_ms: i64,
    lost: u32,
    repeated: u32,
}

/// Serves `upgraded` until either side ends it.
pub(super) async fn serve(upgraded: Upgraded, shared: Arc<Shared>, subscriptions: Subscriptions) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_REQUEST_BYTES))
        .max_frame_size(Some(MAX_REQUEST_BYTES))
        .read_buffer_size(8 * 1024);
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let faults = shared.faults.subscribe();
    let now = Instant::now();
    let mut session = Session {
        socket,
        subscriptions,
        cursors: BTreeMap::new(),
        final_faults: FinalFaults::default(),
        ping_at: now + shared.config.ping_every,
        pong_by: None,
        window: (now, 0),
        shared,
    };
    session.arm();
    session.shared.open_sockets.fetch_add(1, Ordering::Relaxed);
    // The end of a connection is no error of the exchange.
    let _ended = session.run(faults).await;
    session.shared.open_sockets.fetch_sub(1, Ordering::Relaxed);
}

struct Session {
    socket: Socket,
    shared: Arc<Shared>,
    subscriptions: Subscriptions,
    cursors: BTreeMap<String, Cursor>,
    final_faults: FinalFaults,
    ping_at: Instant,
    pong_by: Option<Instant>,
    /// Start of the running second and the messages that came in it.
    window: (Instant, u32),
}

impl Session {
    async fn run(&mut self, mut faults: broadcast::Receiver<Fault>) -> Result<(), Ended> {
        let life_end = Instant::now() + self.shared.config.connection_life;
        loop {
            self.publish().await?;
            let market_due = self.next_due();
            let wake = market_due.min(self.ping_at).min(life_end);
            let wake = self.pong_by.map_or(wake, |by| by.min(wake));
            tokio::select! {
                biased;
                fault = faults.recv() => match fault {
                    Ok(fault) => self.strike(fault).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Err(Ended),
                },
                frame = self.socket.next() => self.incoming(frame).await?,
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if now >= life_end || self.pong_by.is_some_and(|by| now >= by) {
                        return self.close(CloseCode::Policy, "disconnected").await;
                    }
                    if now >= self.ping_at {
                        self.ping_at = now + self.shared.config.ping_every;
                        self.pong_by.get_or_insert(now + PONG_TIMEOUT);
                        let payload = self.shared.config.clock.now_ms().to_string();
                        self.send(Frame::Ping(payload.into())).await?;
                    }
                }
            }
        }
    }

    async fn incoming(
        &mut self,
        frame: Option<Result<Frame, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), Ended> {
        let Some(Ok(frame)) = frame else {
            return Err(Ended);
        };
        let now = Instant::now();
        if now.duration_since(self.window.0) >= Duration::from_secs(1) {
            self.window = (now, 0);
        }
        self.window.1 += 1;
        if self.window.1 > MAX_MESSAGES_PER_SECOND {
            return self.close(CloseCode::Policy, "Too many requests").await;
        }
        match frame {
            Frame::Text(text) => {
                let answer = self.subscriptions.answer(&text, &self.shared.stream_symbol);
                self.arm();
                self.send(Frame::text(answer.to_string())).await
            }
            Frame::Pong(_) => {
                self.pong_by = None;
                Ok(())
            }
            Frame::Close(_) => Err(Ended),
            Frame::Binary(_) => {
                let answer = texts::error(3, "Invalid JSON: binary message", None);
                self.send(Frame::text(answer.to_string())).await
            }
            Frame::Ping(_) | Frame::Frame(_) => Ok(()),
        }
    }

    /// Gives new streams a cursor and forgets those that were unsubscribed.
    fn arm(&mut self) {
        let now_ms = self.shared.config.clock.now_ms();
        let streams = &self.subscriptions.streams;
        self.cursors.retain(|name, _| streams.iter().any(|stream| stream.name == *name));
        for stream in streams {
            if self.cursors.contains_key(&stream.name) {
                continue;
            }
            let cursor = match &stream.kind {
                Kind::Kline { interval, interval_name }
                    if self.shared.market.has_interval(*interval) =>
                {
                    Cursor::Kline(KlineCursor {
                        interval: *interval,
                        interval_name: interval_name.clone(),
                        next_ms: interval.floor(now_ms),
                        forming_due_ms: now_ms,
                        shown: None,
                    })
                }
                Kind::Trade => Cursor::Trade { told_ms: now_ms },
                Kind::Kline { .. } | Kind::Silent => Cursor::Silent,
            };
            self.cursors.insert(stream.name.clone(), cursor);
        }
    }

    /// Sends everything that is due.
    async fn publish(&mut self) -> Result<(), Ended> {
        let now_ms = self.shared.config.clock.now_ms();
        let mut due: Vec<(String, Value)> = Vec::new();
        for (name, cursor) in &mut self.cursors {
            let texts = match cursor {
                Cursor::Kline(cursor) => {
                    kline_events(cursor, &mut self.final_faults, &self.shared, now_ms)
                }
                Cursor::Trade { told_ms } => {
                    let executions = self.shared.market.executions(*told_ms, now_ms);
                    *told_ms = now_ms;
                    let symbol = &self.shared.config.symbol;
                    executions.iter().map(|one| texts::trade(symbol, one, now_ms)).collect()
                }
                Cursor::Silent => continue,
            };
            due.extend(texts.into_iter().map(|text| (name.clone(), text)));
        }
        for (name, data) in due {
            self.send_event(&name, data).await?;
        }
        Ok(())
    }

    /// The real instant at which the next market event is due.
    fn next_due(&self) -> Instant {
        let clock = &self.shared.config.clock;
        let now_ms = clock.now_ms();
        let late_by_ms = if self.final_faults.late > 0 { self.final_faults.late_by_ms } else { 0 };
        let due_ms = |cursor: &Cursor| match cursor {
            Cursor::Kline(cursor) => {
                let close_ms = cursor.next_ms + cursor.interval.as_ms();
                let final_ms = close_ms + self.shared.final_delay_ms + late_by_ms;
                // After the close nothing is forming until the final candle is out.
                if cursor.forming_due_ms < close_ms && now_ms < close_ms {
                    cursor.forming_due_ms
                } else {
                    final_ms
                }
            }
            Cursor::Trade { told_ms } => told_ms + self.shared.trade_step_ms,
            Cursor::Silent => i64::MAX,
        };
        let next_ms = self.cursors.values().map(due_ms).min().unwrap_or(i64::MAX);
        // A day is long enough for "nothing", and short enough for the timer.
        let wait = clock.real_duration_until(next_ms).min(Duration::from_hours(24));
        Instant::now() + wait.max(Duration::from_millis(1))
    }

    async fn send_event(&mut self, stream: &str, data: Value) -> Result<(), Ended> {
        let text = if self.subscriptions.is_combined {
            json!({ "stream": stream, "data": data })
        } else {
            data
        };
        self.send(Frame::text(text.to_string())).await
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
        let now_ms = self.shared.config.clock.now_ms();
        match fault {
            Fault::Drop => Err(Ended),
            Fault::Silence => {
                // What comes is read and thrown away until the client gives up.
                while let Some(Ok(frame)) = self.socket.next().await {
                    if frame.is_close() {
                        break;
                    }
                }
                Err(Ended)
            }
            Fault::Shutdown => {
                self.send_event("!serverShutdown", texts::server_shutdown(now_ms)).await?;
                self.close(CloseCode::Away, "server shutdown").await
            }
            Fault::Garbage => {
                self.send(Frame::text("{\"e\":\"kline\",\"s\":\"BTC")).await?;
                let bar = json!({ "t": 1, "T": 0, "i": "5m", "o": "-1", "c": "NaN" });
                let data =
                    json!({ "e": "kline", "E": now_ms, "s": self.shared.config.symbol, "k": bar });
                self.send(Frame::text(data.to_string())).await
            }
            Fault::Oversized => self.send(Frame::text("x".repeat(OVERSIZED_BYTES))).await,
            Fault::LateFinals { by, count } => {
                self.final_faults.late = count;
                self.final_faults.late_by_ms = i64::try_from(by.as_millis()).unwrap_or(0);
                Ok(())
            }
            Fault::LostFinals { count } => {
                self.final_faults.lost = count;
                Ok(())
            }
            Fault::RepeatedFinals { count } => {
                self.final_faults.repeated = count;
                Ok(())
            }
            Fault::RestStatus { .. }
            | Fault::RestGarbage { .. }
            | Fault::RestSilence { .. }
            | Fault::RefuseSockets { .. } => Ok(()),
        }
    }
}

/// The final candles that are due, then the forming one.
fn kline_events(
    cursor: &mut KlineCursor,
    faults: &mut FinalFaults,
    shared: &Shared,
    now_ms: i64,
) -> Vec<Value> {
    let interval = cursor.interval;
    let text = |cursor: &KlineCursor, bar: &super::market::Bar, is_final| {
        let symbol = &shared.config.symbol;
        texts::kline(symbol, &cursor.interval_name, interval, bar, is_final, now_ms)
    };
    let mut events = Vec::new();
    loop {
        let late_by_ms = if faults.late > 0 { faults.late_by_ms } else { 0 };
        let close_ms = cursor.next_ms + interval.as_ms();
        if now_ms < close_ms + shared.final_delay_ms + late_by_ms {
            break;
        }
        if let Some(bar) = shared.market.bar(interval, cursor.next_ms, now_ms) {
            let is_lost = faults.lost > 0;
            let is_repeated = faults.repeated > 0;
            faults.late = faults.late.saturating_sub(1);
            faults.lost = faults.lost.saturating_sub(1);
            faults.repeated = faults.repeated.saturating_sub(1);
            if !is_lost {
                events.push(text(cursor, &bar, true));
            }
            if is_repeated && !is_lost {
                events.push(text(cursor, &bar, true));
            }
        }
        cursor.next_ms = close_ms;
        cursor.forming_due_ms = close_ms;
        cursor.shown = None;
    }
    let close_ms = cursor.next_ms + interval.as_ms();
    if (cursor.forming_due_ms..close_ms).contains(&now_ms) {
        cursor.forming_due_ms = now_ms + shared.forming_step_ms(interval);
        if let Some(bar) = shared.market.bar(interval, cursor.next_ms, now_ms) {
            let shown = Some((bar.candle.close, bar.candle.volume));
            if cursor.shown != shown {
                cursor.shown = shown;
                events.push(text(cursor, &bar, false));
            }
        }
    }
    events
}
