//! What all actors of one node share: clocks, store, chain, key, settings, boards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use forecastd_chain::{Chain, Keypair, Metagraph};
use forecastd_core::{Clock, Columns, Forecast, Hotkey, Role, StreamId};
use forecastd_store::Store;
use serde::Serialize;
use tracing::{error, info};

use crate::address_book::AddressBook;
use crate::drain::Drain;
use crate::events::{Event, EventSink};
use crate::faults::Faults;
use crate::settings::SharedSettings;
use crate::sources::Sources;
use crate::vitals::VitalsRegistry;

/// The environment of one node's actors. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Node {
    /// Short name for logs and events.
    pub name: Arc<str>,
    /// Which actors run.
    pub role: Role,
    /// The node's key.
    pub key: Arc<Keypair>,
    /// Time of candles, rounds and schedules; the embedded network runs it fast.
    pub market: Arc<dyn Clock>,
    /// Time of signatures, back-offs and watchdogs.
    pub real: Arc<dyn Clock>,
    /// Durable state.
    pub store: Store,
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// Published settings.
    pub settings: SharedSettings,
    /// Published state, read without asking an actor.
    pub boards: Arc<Boards>,
    /// Who handles what.
    pub book: Arc<AddressBook>,
    /// Clients for closed candles.
    pub sources: Arc<Sources>,
    /// Life signs of the actors.
    pub vitals: Arc<VitalsRegistry>,
    /// Reports.
    pub events: EventSink,
    /// Fault points.
    pub faults: Arc<Faults>,
    /// The orderly end of the tree; each tree has its own.
    pub drain: Drain,
}

impl Node {
    /// The node's public key.
    pub fn hotkey(&self) -> Hotkey {
        forecastd_core::Signer::hotkey(&*self.key)
    }

    /// Tells the operator that something about `about` needs a look: once, until it is over.
    pub fn raise_alarm(&self, about: &str, what: String) {
        let mut is_new = false;
        self.boards.update(|live| {
            is_new = live.alarms.insert(about.to_owned(), what.clone()).is_none();
        });
        if is_new {
            error!(about, what, "alarm");
            self.events.emit(Event::Alarm { about: about.to_owned(), raised: true, what });
        }
    }

    /// Tells the operator that all is well again about `about`, if there was an alarm.
    pub fn clear_alarm(&self, about: &str) {
        let mut ended = None;
        self.boards.update(|live| ended = live.alarms.remove(about));
        if let Some(what) = ended {
            info!(about, what, "alarm is over");
            self.events.emit(Event::Alarm { about: about.to_owned(), raised: false, what });
        }
    }
}

/// State that one actor publishes and anybody reads: the newest value, never a queue.
#[derive(Debug, Default)]
pub struct Boards {
    /// The newest metagraph; none before the first reading.
    pub metagraph: ArcSwapOption<Metagraph>,
    /// The newest forecast of each stream.
    pub forecasts: ArcSwap<BTreeMap<StreamId, Arc<Forecast>>>,
    /// The newest columns of numbers beside the candles.
    pub columns: ArcSwap<Columns>,
    live: Mutex<Live>,
}

/// Small live figures of the status page.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Live {
    /// Feeds by stream and name.
    pub feeds: BTreeMap<StreamId, BTreeMap<String, FeedStatus>>,
    /// Newest closed candle by stream.
    pub newest_candle: BTreeMap<StreamId, NewestCandle>,
    /// Best block seen; 0 before the first.
    pub head_block: u64,
    /// Whether the last reading of the chain succeeded.
    pub chain_connected: bool,
    /// Block of the last weights that were seen on the chain.
    pub weights_block: Option<u64>,
    /// Rounds that wait for their evaluation.
    pub pending_rounds: usize,
    /// What an operator must look at, by what it is about.
    pub alarms: BTreeMap<String, String>,
}

/// The state of one feed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FeedStatus {
    /// Whether the subscription stands.
    pub connected: bool,
    /// Market time since when it does not; none while it does.
    pub down_since_ms: Option<i64>,
    /// Market time of the last message.
    pub last_message_ms: i64,
    /// Connections lost since the start.
    pub reconnects: u64,
    /// Why the last one was lost.
    pub last_error: String,
    /// Messages that were not understood.
    pub dropped: u64,
    /// Candles that differed from their trades.
    pub differing: u64,
}

/// The newest closed candle of a stream.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct NewestCandle {
    /// When it closed.
    pub close_time_ms: i64,
    /// Its close.
    pub close: f64,
}

impl Boards {
    /// Returns a copy of the live figures.
    pub fn live(&self) -> Live {
        self.lock().clone()
    }

    /// Changes the live figures.
    pub fn update(&self, change: impl FnOnce(&mut Live)) {
        change(&mut self.lock());
    }

    /// Returns the newest closed candle of `stream`.
    pub fn newest_candle(&self, stream: &StreamId) -> Option<NewestCandle> {
        self.lock().newest_candle.get(stream).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
