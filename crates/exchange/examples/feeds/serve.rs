//! The exchange's end: accepts a subscription and sends.

#![expect(clippy::disallowed_methods, reason = "a measurement wants real time")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::Failure;
use crate::messages::Row;

/// Between the subscription and the first trade, so that the receiver is done with the former.
const LEAD: Duration = Duration::from_millis(300);
/// Most bytes that are written at once.
const CHUNK: usize = 64 * 1024;

/// Time since 1970: the clock that both processes share.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// When the message of a number is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) start: Duration,
    /// Messages a second; 0 without a schedule.
    pub(crate) rate: f64,
}

impl Schedule {
    pub(crate) fn due(&self, index: u64) -> Duration {
        self.start + Duration::from_secs_f64(index as f64 / self.rate)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and far below 2^53"
    )]
    fn count_due(&self) -> u64 {
        (now().saturating_sub(self.start).as_secs_f64() * self.rate) as u64
    }
}

/// Serves one connection: first line of output its address, the second, when the subscription is
/// there, the time of the first trade in nanoseconds.
pub(crate) fn run(file: &str, rate: &str, seconds: &str) -> Result<(), Failure> {
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    let row = Row::read(file)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stream = runtime.block_on(subscribed())?;
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let schedule = Schedule { start: now() + LEAD, rate };
    println!("{}", json!({"start_ns": u64::try_from(schedule.start.as_nanos())?}));
    std::io::stdout().flush()?;
    send(&mut stream, row, schedule, Duration::from_secs_f64(seconds))?;
    // A close frame without a reason; then until the receiver is gone.
    stream.write_all(&[0x88, 0])?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

async fn subscribed() -> Result<tokio::net::TcpStream, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({"address": listener.local_addr()?.to_string()}));
    std::io::stdout().flush()?;
    let (stream, _) = listener.accept().await?;
    let mut socket = accept_async(stream).await?;
    while let Some(frame) = socket.next().await {
        if matches!(frame?, Frame::Text(_)) {
            socket.send(Frame::text(r#"{"result":null,"id":1}"#)).await?;
            return Ok(socket.into_inner());
        }
    }
    Err("no subscription".into())
}

fn send(
    stream: &mut TcpStream,
    mut row: Row,
    schedule: Schedule,
    length: Duration,
) -> Result<(), Failure> {
    while now() < schedule.start {
        std::hint::spin_loop();
    }
    let end = schedule.start + length;
    let mut frames = Vec::with_capacity(CHUNK + 1024);
    let mut sent = 0;
    while now() < end {
        let due = if schedule.rate > 0.0 { schedule.count_due() } else { u64::MAX };
        frames.clear();
        while sent < due && frames.len() < CHUNK {
            row.append(&mut frames)?;
            sent += 1;
        }
        if frames.is_empty() {
            std::hint::spin_loop();
        } else {
            stream.write_all(&frames)?;
        }
    }
    Ok(())
}
