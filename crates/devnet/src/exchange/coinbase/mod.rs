//! Coinbase Exchange: trades and heartbeats, no candle channel, REST rows only where something was
//! traded.

pub(super) mod names;
mod rest;
mod session;

use std::time::Duration;

use hyper::StatusCode;

use self::rest::Rest;
use self::session::Session;
use super::venue::{Opened, Query, Reply, Rules, Scene, Venue};

/// New connections of an address: 8 a second, 20 at once.
pub(super) const CONNECTS: (u32, Duration) = (20, Duration::from_millis(2_500));
/// A connection must subscribe within this time.
pub(super) const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Coinbase {
    rest: Rest,
}

impl Coinbase {
    pub(super) fn new() -> Self {
        Self { rest: Rest::new() }
    }
}

impl Venue for Coinbase {
    fn rules(&self) -> Rules {
        Rules {
            forming_every: Duration::ZERO,
            final_delay: Duration::ZERO,
            has_finals: false,
            ping_every: None,
            heartbeat_every: Some(Duration::from_secs(1)),
            subscribe_within: Some(SUBSCRIBE_WITHIN),
            idle_cut: None,
            connection_life: None,
            connects: CONNECTS,
            messages: Some(100),
        }
    }

    fn open(&self, path: &str, _query: &Query, _scene: &Scene<'_>) -> Option<Opened> {
        (path == "/").then(|| Ok(Box::new(Session::default()) as _))
    }

    fn rest(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Reply {
        self.rest.answer(path, query, scene)
    }

    fn refusal(&self, status: StatusCode, _now_ms: i64) -> Reply {
        rest::refusal(status)
    }

    fn broken_body(&self) -> &'static str {
        "[[1677629460,23118.58,23138.24,23128.2,23138.24,4.18274198],[16776"
    }
}
