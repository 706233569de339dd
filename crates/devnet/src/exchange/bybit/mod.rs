//! Bybit v5, spot: topics, final candles marked, a JSON ping of the client, refusals with status 200.

mod rest;
mod session;

use std::time::Duration;

use hyper::StatusCode;

use self::rest::Rest;
use self::session::Session;
use super::venue::{Opened, Query, Reply, Rules, Scene, Venue};

/// Spot trades are numbered in this range.
const FIRST_TRADE_ID: u64 = 2_290_000_000_000_000_000;

/// Returns the exchange's number of an execution.
const fn trade_id(id: u64) -> u64 {
    FIRST_TRADE_ID + id
}

#[derive(Debug)]
pub(super) struct Bybit {
    rest: Rest,
}

impl Bybit {
    pub(super) fn new() -> Self {
        Self { rest: Rest::new() }
    }
}

impl Venue for Bybit {
    fn rules(&self) -> Rules {
        Rules {
            forming_every: Duration::from_secs(1),
            // Not documented.
            final_delay: Duration::from_millis(200),
            has_finals: true,
            ping_every: None,
            heartbeat_every: None,
            subscribe_within: None,
            idle_cut: Some(Duration::from_mins(10)),
            connection_life: None,
            connects: (500, Duration::from_mins(5)),
            messages: None,
        }
    }

    fn open(&self, path: &str, _query: &Query, _scene: &Scene<'_>) -> Option<Opened> {
        (path == "/v5/public/spot").then(|| Ok(Box::new(Session::new()) as _))
    }

    fn rest(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Reply {
        self.rest.answer(path, query, scene)
    }

    fn refusal(&self, status: StatusCode, now_ms: i64) -> Reply {
        rest::refusal(status, now_ms)
    }

    fn broken_body(&self) -> &'static str {
        "{\"retCode\":0,\"retMsg\":\"OK\",\"result\":{\"category\":\"spot\",\"list\":[[\"16"
    }
}
