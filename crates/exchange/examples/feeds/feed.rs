//! The receiving end: the real feed, or the WebSocket library alone, on one thread.

#![expect(clippy::disallowed_methods, reason = "a measurement wants real time")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure as count_allocations;
use forecastd_core::bars::{BarBuilder, BarEvent, BarRules, IdRule, NumberedTrade};
use forecastd_core::{Clock, Interval};
use forecastd_exchange::{DropClass, Exchange, FeedConfig, FeedEvent};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::histogram::Histogram;
use crate::messages::Row;
use crate::serve::{Schedule, now};
use crate::{Failure, cpu_seconds, figure};

/// Events between the feed and its owner.
const QUEUE: usize = 1024;

/// Real time.
#[derive(Debug)]
struct RealClock;

impl Clock for RealClock {
    fn now_ms(&self) -> i64 {
        i64::try_from(now().as_millis()).unwrap_or(i64::MAX)
    }
}

/// The other end, in a process of its own.
struct Sender {
    child: Child,
    lines: BufReader<ChildStdout>,
    address: String,
}

impl Sender {
    fn start(file: &str, rate: &str, seconds: &str) -> Result<Self, Failure> {
        let before = std::env::var("FEEDS_SENDER").unwrap_or_default();
        let own = std::env::current_exe()?;
        let own = own.to_str().ok_or("this program's path is no text")?;
        let mut words = before.split_whitespace().chain([own, "serve", file, rate, seconds]);
        let program = words.next().ok_or("no program")?;
        let mut child = Command::new(program).args(words).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?);
        let address = line(&mut lines, "address")?.as_str().ok_or("no address")?.to_owned();
        Ok(Self { child, lines, address })
    }

    /// Waits for the time of the first trade.
    fn start_time(&mut self) -> Result<Duration, Failure> {
        let nanos = line(&mut self.lines, "start_ns")?.as_u64().ok_or("no time")?;
        Ok(Duration::from_nanos(nanos))
    }

    fn end(mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the sender: {status}").into()) }
    }
}

fn line(lines: &mut impl BufRead, key: &str) -> Result<Value, Failure> {
    let mut text = String::new();
    lines.read_line(&mut text)?;
    let mut value: Value = serde_json::from_str(&text)?;
    Ok(value.get_mut(key).ok_or("no such key")?.take())
}

/// Takes what the feed tells, as its owner.
struct Owner {
    builder: BarBuilder,
    schedule: Schedule,
    /// From the time at which a trade was due until it is in its candle.
    forming: Histogram,
    /// From the time at which the trade after a candle was due until the candle is out.
    closed: Histogram,
    trades: u64,
    lost: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Owner {
    fn new(rate: f64) -> Result<Self, Failure> {
        Ok(Self {
            builder: BarBuilder::new(BarRules::in_order(Interval::MINUTE, IdRule::Consecutive))?,
            schedule: Schedule { start: Duration::ZERO, rate },
            forming: Histogram::new(),
            closed: Histogram::new(),
            trades: 0,
            lost: 0,
            first: None,
            last: None,
        })
    }

    /// Returns whether the connection goes on.
    fn take(&mut self, event: FeedEvent) -> Result<bool, Failure> {
        match event {
            FeedEvent::Trade(trade) => {
                let trade = NumberedTrade::from_trade(&trade, IdRule::Consecutive)
                    .ok_or("a trade without a number")?;
                let mut has_closed = false;
                let mut sink = |event| has_closed |= matches!(event, BarEvent::Closed(_));
                self.builder.trade(&trade, &mut sink);
                self.trades += 1;
                let is_timed = self.schedule.rate > 0.0;
                if is_timed {
                    let due = self.schedule.due(trade.id - Row::first());
                    let late = now().saturating_sub(due);
                    self.forming.add(late);
                    if has_closed {
                        self.closed.add(late);
                    }
                }
                if self.trades == 1 {
                    self.first = Some(Instant::now());
                } else if self.trades.is_multiple_of(1024) {
                    self.last = Some(Instant::now());
                }
            }
            FeedEvent::Dropped { class, count } => {
                eprintln!("dropped: {count} {class}");
                if matches!(class, DropClass::Overflow | DropClass::LostTrade) {
                    self.lost += count;
                }
            }
            FeedEvent::Disconnected { reason, .. } => {
                eprintln!("end: {reason}");
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }

    fn rate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.first, self.last) else { return 0.0 };
        (self.trades / 1024 * 1024) as f64 / (last - first).as_secs_f64()
    }
}

/// Runs the feed against a sender, and its owner beside it, both on this thread.
pub(crate) fn measure(file: &str, rate: &str, seconds: &str) -> Result<(), Failure> {
    let mut owner = Owner::new(rate.parse()?)?;
    let mut sender = Sender::start(file, rate, seconds)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut done = Ok(());
    let allocations = count_allocations(|| {
        done = runtime.block_on(follow(&mut owner, &mut sender));
    });
    let cpu = cpu_seconds();
    done?;
    sender.end()?;
    let peak = peak_mb()?;
    let Owner { trades, lost, forming, closed, .. } = &owner;
    let counters = owner.builder.counters();
    let conditions = format!(
        "loopback WebSocket, sender in a process of its own at {} for {seconds} s; feed, \
         owner and BarBuilder of one minute on one thread; {trades} trades taken, {} in their \
         candles, {lost} lost or dropped; {:.0} % of a core; {:.3} allocations a trade",
        if *rate == *"0" { "full speed".to_owned() } else { format!("{rate} a second") },
        counters.applied,
        100.0 * cpu / owner.last.zip(owner.first).map_or(f64::NAN, |(a, b)| (a - b).as_secs_f64()),
        allocations.count_total as f64 / *trades as f64,
    );
    if counters.applied + lost < *trades || *lost > trades / 100 {
        return Err(format!("not a measurement: {conditions}").into());
    }
    if *rate == *"0" {
        figure("trades over a WebSocket", owner.rate(), "trades/s", &conditions);
        let metric = "trades over a WebSocket, a second of CPU";
        figure(metric, *trades as f64 / cpu, "trades/s", &conditions);
    } else {
        let metric = |what: &str| format!("{what} at {rate} trades/s");
        figure(&metric("trades taken"), owner.rate(), "trades/s", &conditions);
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let value = forming.quantile_ms(share);
            figure(&metric(&format!("trade to candle {name}")), value, "ms", &conditions);
        }
        let detail = format!("{conditions}; {} candles", closed.total());
        let value = closed.quantile_ms(0.99);
        figure(&metric("trade to closed candle p99"), value, "ms", &detail);
    }
    figure(&format!("peak memory, rate {rate}"), peak, "MB", &conditions);
    Ok(())
}

async fn follow(owner: &mut Owner, sender: &mut Sender) -> Result<(), Failure> {
    let config = FeedConfig {
        ws_url: format!("ws://{}", sender.address),
        // Nobody listens there; nothing is asked while the hour lasts.
        rest_url: "http://127.0.0.1:9".to_owned(),
        interval: Interval::from_ms(3_600_000)?,
        trades: true,
        ..Exchange::Binance.default_config()
    };
    let (feed, _source) = Exchange::Binance.open(config, Arc::new(RealClock), 1)?;
    let (events, mut inbox) = mpsc::channel(QUEUE);
    let (_stop, stopped) = watch::channel(false);
    let task = tokio::spawn(feed.run(events, stopped));
    while let Some(event) = inbox.recv().await {
        if event == FeedEvent::Subscribed {
            owner.schedule.start = sender.start_time()?;
        }
        if !owner.take(event)? {
            break;
        }
    }
    drop(inbox);
    Ok(task.await?)
}

/// Counts the frames that the WebSocket library alone can read.
pub(crate) fn measure_frames(file: &str, seconds: &str) -> Result<(), Failure> {
    let sender = Sender::start(file, "0", seconds)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut counted = Ok((0, 0.0));
    let allocations = count_allocations(|| {
        counted = runtime.block_on(count(&sender.address));
    });
    let (frames, rate) = counted?;
    sender.end()?;
    let conditions = format!(
        "loopback WebSocket, sender in a process of its own at full speed for {seconds} s; \
         tokio-tungstenite's stream of frames, nothing decoded, one thread; {frames} frames; {:.3} \
         allocations a frame",
        allocations.count_total as f64 / frames as f64
    );
    figure("frames of the WebSocket library alone", rate, "frames/s", &conditions);
    Ok(())
}

async fn count(address: &str) -> Result<(u64, f64), Failure> {
    let config = WebSocketConfig::default().read_buffer_size(16 * 1024);
    let url = format!("ws://{address}/ws");
    let connecting = tokio_tungstenite::connect_async_with_config(url, Some(config), true);
    let (mut socket, _) = connecting.await?;
    socket.send(Frame::text("subscribe")).await?;
    let (mut frames, mut bytes) = (0_u64, 0);
    let mut started = None;
    while let Some(frame) = socket.next().await {
        match frame? {
            Frame::Text(text) => bytes += text.len(),
            Frame::Close(_) => break,
            _ => {}
        }
        frames += 1;
        // The first one is the answer.
        if frames == 2 {
            started = Some(Instant::now());
        }
    }
    let lasted = started.ok_or("no frames")?.elapsed().as_secs_f64();
    std::hint::black_box(bytes);
    Ok((frames, frames as f64 / lasted))
}

/// Greatest resident memory so far.
fn peak_mb() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}
