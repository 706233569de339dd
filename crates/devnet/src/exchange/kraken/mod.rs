//! Kraken spot, WebSocket version 2: no final candles, a heartbeat, one answer a symbol, and a REST
//! interface that knows the newest 720 candles.

mod names;
mod rest;
mod session;

use std::time::Duration;

use hyper::StatusCode;

use self::rest::Rest;
use self::session::Session;
use super::venue::{Opened, Query, Reply, Rules, Scene, Venue};

#[derive(Debug)]
pub(super) struct Kraken {
    rest: Rest,
}

impl Kraken {
    pub(super) fn new() -> Self {
        Self { rest: Rest::new() }
    }
}

impl Venue for Kraken {
    fn rules(&self) -> Rules {
        Rules {
            forming_every: Duration::ZERO,
            final_delay: Duration::ZERO,
            has_finals: false,
            ping_every: None,
            heartbeat_every: Some(Duration::from_secs(1)),
            subscribe_within: Some(Duration::from_mins(1)),
            idle_cut: None,
            connection_life: None,
            connects: (150, Duration::from_mins(10)),
            messages: None,
        }
    }

    fn open(&self, path: &str, _query: &Query, _scene: &Scene<'_>) -> Option<Opened> {
        (path == "/v2").then(|| Ok(Box::new(Session::new()) as _))
    }

    fn rest(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Reply {
        self.rest.answer(path, query, scene)
    }

    fn refusal(&self, status: StatusCode, _now_ms: i64) -> Reply {
        rest::refusal(status)
    }

    fn broken_body(&self) -> &'static str {
        "{\"error\":[],\"result\":{\"XXBTZUSD\":[[1762777020,\"106038.2\",\"1060"
    }
}
