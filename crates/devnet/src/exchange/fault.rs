//! Faults that can be asked of the simulated exchange while it runs.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Something that goes wrong on purpose.
///
/// Faults of the WebSocket strike the connections that are open when they are asked for; a client
/// that comes back finds a healthy exchange. Spans are market time.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Every WebSocket is cut without a goodbye.
    Drop,
    /// Every WebSocket stays open and falls silent: no data, no pings, no answers.
    Silence,
    /// Every WebSocket is told that the exchange stops, in its own way, and is closed: Binance
    /// `serverShutdown`, Kraken the status `maintenance`, Coinbase an error, Bybit no word.
    Shutdown,
    /// Every WebSocket is closed as at the end of its longest life.
    EndOfLife,
    /// Every WebSocket gets one text that is not JSON and one candle or trade that contradicts
    /// itself.
    Garbage,
    /// Every WebSocket gets the beginning of a frame and is cut before its end.
    TruncatedFrame,
    /// Every WebSocket gets one message of 4 MiB.
    Oversized,
    /// The next WebSocket handshakes are answered with 503.
    RefuseSockets {
        /// How many handshakes.
        count: u32,
    },
    /// The next WebSocket handshakes are cut without an answer.
    DropHandshakes {
        /// How many handshakes.
        count: u32,
    },
    /// Nobody can reach the exchange for a while: every WebSocket is cut, handshakes and REST
    /// requests are answered with 503.
    Outage {
        /// How long, market time.
        span: Duration,
    },
    /// The next final candles of every candle channel come late, and with them all later ones.
    /// Where the exchange marks none, the last update of an interval is meant.
    LateFinals {
        /// Further delay, market time.
        by: Duration,
        /// How many candles.
        count: u32,
    },
    /// The next final candles of every candle channel never come. Where the exchange marks none, the
    /// channel says nothing about so many intervals.
    LostFinals {
        /// How many candles.
        count: u32,
    },
    /// The next final candles of every candle channel come twice; where the exchange marks none, the
    /// last update of an interval.
    RepeatedFinals {
        /// How many candles.
        count: u32,
    },
    /// The next executions of every trade channel come twice.
    RepeatedTrades {
        /// How many executions.
        count: u32,
    },
    /// The next executions of every trade channel come after the one that follows them.
    ReorderedTrades {
        /// How many pairs.
        count: u32,
    },
    /// The next executions of every trade channel never come. The numbers of the later ones show it
    /// where the exchange numbers them.
    LostTrades {
        /// How many executions.
        count: u32,
    },
    /// All prices are wrong for a while, in every channel and over REST: the exchange itself is
    /// wrong. Begins with the next recorded candle and holds for whole ones.
    WrongPrices {
        /// What prices are multiplied with, 0.001 to 1000.
        factor: f64,
        /// How long, market time.
        span: Duration,
    },
    /// The next REST requests are answered with `status` and the exchange's error body.
    RestStatus {
        /// For example 429, 418, 451, 403 or 503.
        status: u16,
        /// The header `Retry-After`, whole seconds.
        retry_after: Option<Duration>,
        /// How many requests.
        count: u32,
    },
    /// The next REST requests get an answer of 200 with a body that is cut in the middle.
    RestGarbage {
        /// How many requests.
        count: u32,
    },
    /// The next REST requests are never answered.
    RestSilence {
        /// How many requests.
        count: u32,
    },
}

/// What a REST request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestFault {
    Status { status: u16, retry_after: Option<Duration> },
    Garbage,
    Silence,
}

/// What a WebSocket handshake meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketFault {
    Refused,
    Dropped,
}

/// Faults that wait for the next ones of something, in the order of asking.
#[derive(Debug)]
struct Queue<T>(Mutex<VecDeque<(T, u32)>>);

impl<T: Copy> Queue<T> {
    fn add(&self, fault: T, count: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((fault, count));
    }

    fn next(&self) -> Option<T> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (fault, left) = queue.front_mut()?;
            if *left > 0 {
                *left -= 1;
                return Some(*fault);
            }
            queue.pop_front();
        }
    }
}

/// Faults that wait for their requests.
#[derive(Debug)]
pub(super) struct PendingFaults {
    rest: Queue<RestFault>,
    sockets: Queue<SocketFault>,
    outage_until_ms: Mutex<i64>,
}

impl PendingFaults {
    pub(super) const fn new() -> Self {
        Self {
            rest: Queue(Mutex::new(VecDeque::new())),
            sockets: Queue(Mutex::new(VecDeque::new())),
            outage_until_ms: Mutex::new(i64::MIN),
        }
    }

    pub(super) fn add_rest(&self, fault: RestFault, count: u32) {
        self.rest.add(fault, count);
    }

    pub(super) fn add_sockets(&self, fault: SocketFault, count: u32) {
        self.sockets.add(fault, count);
    }

    pub(super) fn set_outage(&self, until_ms: i64) {
        *self.outage_until_ms.lock().unwrap_or_else(PoisonError::into_inner) = until_ms;
    }

    /// Takes the fault of the next REST request.
    pub(super) fn next_rest(&self, now_ms: i64) -> Option<RestFault> {
        if self.is_out(now_ms) {
            return Some(RestFault::Status { status: 503, retry_after: None });
        }
        self.rest.next()
    }

    /// Takes the fault of the next handshake.
    pub(super) fn next_socket(&self, now_ms: i64) -> Option<SocketFault> {
        if self.is_out(now_ms) { Some(SocketFault::Refused) } else { self.sockets.next() }
    }

    fn is_out(&self, now_ms: i64) -> bool {
        now_ms < *self.outage_until_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters of the faults that strike the channels of one connection.
#[derive(Debug, Default)]
pub(super) struct ChannelFaults {
    pub(super) late: u32,
    pub(super) late_by_ms: i64,
    pub(super) lost: u32,
    pub(super) repeated: u32,
    pub(super) repeated_trades: u32,
    pub(super) reordered_trades: u32,
    pub(super) lost_trades: u32,
}

/// Uses up one of `count`; tells whether there was one.
pub(super) const fn take(count: &mut u32) -> bool {
    let has_one = *count > 0;
    *count = count.saturating_sub(1);
    has_one
}
