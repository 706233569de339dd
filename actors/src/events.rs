//! What happened, for people and scripts: one value a step of a round, a feed, a weight setting.
//!
//! Events are a report, never a command: nothing depends on their arrival. A reader that lags
//! loses the oldest ones and is told how many.

use std::sync::Arc;

use forecastd_core::{Clock, Hotkey, StreamId};
use serde::Serialize;
use tokio::sync::broadcast;

/// Events kept for a lagging reader.
const CAPACITY: usize = 8_192;

/// One thing that happened. Serialised with its name in `event`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The node's actor tree works.
    Started {
        /// `miner` or `validator`.
        role: &'static str,
        /// The node's hotkey.
        hotkey: Hotkey,
    },
    /// A feed's link changed.
    Feed {
        /// The stream.
        stream: StreamId,
        /// Name of the feed.
        feed: String,
        /// The exchange.
        exchange: &'static str,
        /// `connected`, `disconnected`.
        state: &'static str,
        /// More about it.
        detail: String,
    },
    /// Candles were missing; of one feed, or of the stream after all exchanges were asked.
    Gap {
        /// The stream.
        stream: StreamId,
        /// Name of the feed.
        #[serde(skip_serializing_if = "Option::is_none")]
        feed: Option<String>,
        /// First missing open time.
        from_ms: i64,
        /// First open time after the gap.
        to_ms: i64,
        /// Whether a backfill closed it.
        backfilled: bool,
    },
    /// A model forecast the next horizon.
    Forecast {
        /// The stream.
        stream: StreamId,
        /// The forecast's start.
        start_ms: i64,
        /// The model that answered.
        model: String,
        /// First close.
        first: f64,
        /// Last close.
        last: f64,
    },
    /// A validator opened a round.
    RoundOpened {
        /// The stream.
        stream: StreamId,
        /// The round.
        round: String,
        /// Its slot.
        start_ms: i64,
        /// Miners asked.
        asked: usize,
    },
    /// A miner gave a commitment (validator) or one was asked of us (miner).
    Commitment {
        /// The round.
        round: String,
        /// The other side.
        hotkey: Hotkey,
    },
    /// A miner revealed its values and they fit the commitment (validator), or ours were asked for (miner).
    Reveal {
        /// The round.
        round: String,
        /// The other side.
        hotkey: Hotkey,
    },
    /// An answer or a request was refused.
    Refusal {
        /// The round.
        round: String,
        /// The other side.
        hotkey: Hotkey,
        /// Why.
        reason: String,
    },
    /// A round was scored and folded into the EMA.
    RoundScored {
        /// The stream.
        stream: StreamId,
        /// The round.
        round: String,
        /// Its slot.
        start_ms: i64,
        /// Miners with a score.
        scored: usize,
        /// The best miner.
        best: Option<Hotkey>,
        /// Its weighted RMSE, quote currency.
        best_rmse: Option<f64>,
    },
    /// A round ended without scores.
    RoundVoid {
        /// The stream.
        stream: StreamId,
        /// The round.
        round: String,
        /// Its slot.
        start_ms: i64,
        /// Why.
        reason: String,
    },
    /// Slots passed while nobody asked; they are skipped, not made up for.
    SlotsSkipped {
        /// The stream.
        stream: StreamId,
        /// How many.
        count: u64,
        /// First skipped slot.
        from_ms: i64,
    },
    /// Weights are on the chain, or were refused.
    WeightsSet {
        /// Block of the inclusion, or the head when refused.
        block: u64,
        /// Number of uids.
        uids: usize,
        /// `set`, `refused`, `unknown`.
        outcome: &'static str,
        /// More about it.
        detail: String,
    },
    /// The configuration was read again.
    Reload {
        /// Generation after it.
        generation: u64,
        /// Whether it was taken.
        accepted: bool,
        /// Changed keys, or the errors.
        detail: Vec<String>,
    },
    /// An actor or the whole tree was restarted.
    Restart {
        /// Which; `tree` for all. Not `actor`, which is the one that says so.
        target: String,
        /// Why.
        reason: String,
    },
    /// Something that an operator must look at, or the end of it.
    Alarm {
        /// What is watched.
        about: String,
        /// Whether it begins; false when all is well again.
        raised: bool,
        /// What happened.
        what: String,
    },
    /// The tree stopped.
    Stopped {
        /// Whether everything was finished.
        graceful: bool,
    },
}

/// An [`Event`] with its time and origin; one line of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventLine {
    /// The event's own fields, `event` first.
    #[serde(flatten)]
    pub event: Event,
    /// Market time, ms since the epoch.
    pub at_ms: i64,
    /// The node that says so.
    pub node: Arc<str>,
    /// The actor that says so.
    pub actor: &'static str,
}

impl Event {
    /// Returns the actor that emits this kind of event.
    pub const fn actor(&self) -> &'static str {
        match self {
            Self::Started { .. }
            | Self::Stopped { .. }
            | Self::Restart { .. }
            | Self::Alarm { .. } => "root",
            Self::Feed { .. } => "feed",
            Self::Gap { .. } => "candles",
            Self::Forecast { .. } => "forecaster",
            Self::RoundOpened { .. }
            | Self::Commitment { .. }
            | Self::Reveal { .. }
            | Self::Refusal { .. }
            | Self::SlotsSkipped { .. } => "query",
            Self::RoundScored { .. } | Self::RoundVoid { .. } => "evaluator",
            Self::WeightsSet { .. } => "weights",
            Self::Reload { .. } => "config",
        }
    }
}

/// Where a node's events go.
#[derive(Debug, Clone)]
pub struct EventSink {
    sender: broadcast::Sender<Arc<EventLine>>,
    market: Arc<dyn Clock>,
    node: Arc<str>,
}

impl EventSink {
    /// Creates a sink whose lines carry the time of `market` and the name `node`.
    pub fn new(market: Arc<dyn Clock>, node: Arc<str>) -> Self {
        Self { sender: broadcast::channel(CAPACITY).0, market, node }
    }

    /// Returns a sink for another node that feeds the same readers.
    #[must_use]
    pub fn for_node(&self, node: Arc<str>) -> Self {
        Self { node, ..self.clone() }
    }

    /// Publishes an event; without readers it is gone.
    pub fn emit(&self, event: Event) {
        let actor = event.actor();
        let at_ms = self.market.now_ms();
        let line = EventLine { event, at_ms, node: Arc::clone(&self.node), actor };
        // An error means that nobody listens now.
        drop(self.sender.send(Arc::new(line)));
    }

    /// Starts reading the events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<EventLine>> {
        self.sender.subscribe()
    }
}
