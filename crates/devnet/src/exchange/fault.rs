//! Faults that can be asked of the simulated exchange while it runs.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Something that goes wrong on purpose.
///
/// Faults of the WebSocket strike the connections that are open when they are asked for; a client
/// that comes back finds a healthy exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Every WebSocket is cut without a goodbye.
    Drop,
    /// Every WebSocket stays open and falls silent: no data, no pings, no answers.
    Silence,
    /// Every WebSocket gets the `serverShutdown` event and is then closed.
    Shutdown,
    /// Every WebSocket gets one text that is not JSON and one kline that contradicts itself.
    Garbage,
    /// Every WebSocket gets one message of 4 MiB.
    Oversized,
    /// The next final candles of every kline stream come late.
    LateFinals {
        /// Further delay, market time.
        by: Duration,
        /// How many candles.
        count: u32,
    },
    /// The next final candles of every kline stream never come.
    LostFinals {
        /// How many candles.
        count: u32,
    },
    /// The next final candles of every kline stream come twice.
    RepeatedFinals {
        /// How many candles.
        count: u32,
    },
    /// The next REST requests are answered with `status` and the exchange's error body.
    RestStatus {
        /// For example 429, 418, 451 or 503.
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
    /// The next WebSocket handshakes are answered with 503.
    RefuseSockets {
        /// How many handshakes.
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

/// Faults that wait for their requests.
#[derive(Debug, Default)]
pub(super) struct PendingFaults {
    rest: Mutex<VecDeque<(RestFault, u32)>>,
    refused_sockets: Mutex<u32>,
}

impl PendingFaults {
    pub(super) fn add_rest(&self, fault: RestFault, count: u32) {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).push_back((fault, count));
    }

    pub(super) fn add_refused_sockets(&self, count: u32) {
        let mut left = self.refused_sockets.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_add(count);
    }

    /// Takes the fault of the next REST request.
    pub(super) fn next_rest(&self) -> Option<RestFault> {
        let mut queue = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (fault, left) = queue.front_mut()?;
            if *left > 0 {
                *left -= 1;
                return Some(*fault);
            }
            queue.pop_front();
        }
    }

    /// Tells whether the next handshake is refused.
    pub(super) fn next_socket_is_refused(&self) -> bool {
        let mut left = self.refused_sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_refused = *left > 0;
        *left = left.saturating_sub(1);
        is_refused
    }
}
