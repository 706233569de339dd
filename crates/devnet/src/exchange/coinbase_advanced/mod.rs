//! Coinbase Advanced Trade: candles of five minutes without a final mark, trades, heartbeats, and a
//! number on every message.

mod rest;
mod session;

use std::time::Duration;

use hyper::StatusCode;

use self::rest::Rest;
use self::session::Session;
use super::coinbase::{CONNECTS, SUBSCRIBE_WITHIN};
use super::venue::{Opened, Query, Reply, Rules, Scene, Venue};

#[derive(Debug)]
pub(super) struct CoinbaseAdvanced {
    rest: Rest,
}

impl CoinbaseAdvanced {
    pub(super) fn new() -> Self {
        Self { rest: Rest::new() }
    }
}

impl Venue for CoinbaseAdvanced {
    fn rules(&self) -> Rules {
        Rules {
            forming_every: Duration::from_secs(1),
            final_delay: Duration::ZERO,
            has_finals: false,
            ping_every: None,
            heartbeat_every: Some(Duration::from_secs(1)),
            subscribe_within: Some(SUBSCRIBE_WITHIN),
            // Between 60 and 90 s; heartbeats keep a connection alive.
            idle_cut: Some(Duration::from_secs(75)),
            connection_life: None,
            connects: CONNECTS,
            messages: Some(8),
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
        "{\"candles\":[{\"start\":\"1791282240\",\"low\":\"2713.75\",\"hi"
    }
}
