//! Binance spot: raw and combined streams, final candles marked, weights and `serverShutdown`.

mod requests;
mod rest;
mod session;
mod texts;

use std::time::Duration;

use hyper::StatusCode;

use self::rest::Rest;
use self::session::Session;
use super::venue::{Opened, Query, Reply, Rules, Scene, Venue};

#[derive(Debug)]
pub(super) struct Binance {
    rest: Rest,
}

impl Binance {
    pub(super) fn new() -> Self {
        Self { rest: Rest::new() }
    }
}

impl Venue for Binance {
    fn rules(&self) -> Rules {
        Rules {
            forming_every: Duration::from_secs(2),
            // Measured once: 1.76 s.
            final_delay: Duration::from_millis(1_700),
            has_finals: true,
            ping_every: Some(Duration::from_secs(20)),
            heartbeat_every: None,
            subscribe_within: None,
            idle_cut: None,
            connection_life: Some(Duration::from_hours(24)),
            connects: (300, Duration::from_mins(5)),
            messages: Some(5),
        }
    }

    fn open(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Option<Opened> {
        let is_socket = path == "/ws" || path.starts_with("/ws/") || path == "/stream";
        let opened = is_socket.then(|| Session::open(path, query, scene.symbol))?;
        Some(opened.map(|session| Box::new(session) as _))
    }

    fn rest(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Reply {
        self.rest.answer(path, query, scene)
    }

    fn refusal(&self, status: StatusCode, _now_ms: i64) -> Reply {
        rest::refusal(status)
    }

    fn broken_body(&self) -> &'static str {
        "[[1577836800000,\"7195.24000000\",\"71"
    }
}
