//! What the actors need of the configuration, validated by the daemon before it gets here.
//!
//! One immutable value at a time; a reload publishes the next one with a single pointer swap, so a
//! reader sees the old or the new settings and never a mixture.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forecastd_core::bars::MergeRules;
use forecastd_core::settings::{ScoringConfig, WeightConfig};
use forecastd_core::{FeatureSet, Hotkey, Rao, StreamId, StreamSpec};
use forecastd_exchange::{Exchange, FeedConfig};
use forecastd_models::ModelKind;

use crate::columns::ColumnSettings;
use crate::vitals::RestartPolicy;

/// Settings of one node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Counts the accepted configurations since the process started.
    pub generation: u64,
    /// The streams, in configuration order.
    pub streams: Vec<StreamSettings>,
    /// The columns of numbers beside the candles, used or not.
    pub columns: Vec<ColumnSettings>,
    /// The miner's part.
    pub miner: MinerSettings,
    /// The validator's part.
    pub validator: ValidatorSettings,
    /// Back-off and budgets.
    pub supervision: RestartPolicy,
    /// Market time between two readings of the metagraph.
    pub metagraph_every: Duration,
    /// How long finished rounds' answers and candles stay in the store, market time.
    pub retention: Duration,
    /// Free disk space below which no new round is opened, bytes.
    pub store_floor_bytes: u64,
}

/// One stream and where its candles come from.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// What is forecast.
    pub spec: StreamSpec,
    /// The exchanges that are read, in configuration order.
    pub feeds: Vec<FeedSettings>,
    /// How their bars become one candle.
    pub merge: MergeRules,
    /// How long a candle waits for exchanges that are late once a quorum is there, market time.
    pub merge_wait: Duration,
    /// What the models get to see beside the candles.
    pub features: FeatureSet,
    /// The models, best first; the next one answers when one fails.
    pub models: Vec<ModelSettings>,
}

/// One exchange of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedSettings {
    /// Name for logs and records, unique in its stream.
    pub name: String,
    /// Which exchange.
    pub exchange: Exchange,
    /// What is read there.
    pub config: FeedConfig,
}

/// One model of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSettings {
    /// Name for logs and records.
    pub name: String,
    /// Built-in baseline or checkpoint.
    pub kind: ModelKind,
    /// Directory of the checkpoint, for kinds that have one.
    pub checkpoint: Option<PathBuf>,
    /// Worker threads.
    pub workers: usize,
    /// Real time after which the next model is asked.
    pub deadline: Duration,
}

/// Settings of the miner's actors.
#[derive(Debug, Clone)]
pub struct MinerSettings {
    /// Only hotkeys with a validator permit may ask.
    pub require_permit: bool,
    /// Least stake of a hotkey that may ask.
    pub min_stake: Rao,
    /// Hotkeys that may always ask.
    pub allow: Vec<Hotkey>,
    /// Hotkeys that may never ask.
    pub deny: Vec<Hotkey>,
    /// How long a query waits for the forecast of the candle that has just closed, real time.
    pub fresh_wait: Duration,
    /// Questions that one hotkey may ask in an hour of market time; each costs a record on disk.
    pub max_questions: u32,
    /// Forecasts that are older than this many candles are not given out.
    pub max_age_candles: u32,
}

/// Settings of the validator's actors.
#[derive(Debug, Clone)]
pub struct ValidatorSettings {
    /// Time that a miner has for an answer, market time.
    pub query_timeout: Duration,
    /// Least real time for an answer, however fast the market clock runs.
    pub query_timeout_floor: Duration,
    /// Market time between commitment and reveal queries.
    pub reveal_after: Duration,
    /// Market time between the end of the horizon and the evaluation.
    pub settle_delay: Duration,
    /// Market time after the due time at which a round without realised closes becomes void.
    pub realised_wait: Duration,
    /// Most missing candles of a horizon that are filled from the past.
    pub max_missing_candles: usize,
    /// Answers further than this factor away from the last close are refused.
    pub absurd_factor: f64,
    /// Miners asked at the same time.
    pub concurrency: usize,
    /// Scoring and EMA.
    pub scoring: ScoringConfig,
    /// EMA to weights.
    pub weights: WeightConfig,
    /// Market time between two weight settings.
    pub weights_every: Duration,
    /// Version key sent with the weights.
    pub version_key: u64,
    /// Whether loopback and private addresses of miners are asked; only on embedded networks.
    pub allow_local_axons: bool,
}

impl Settings {
    /// Returns the settings of `stream`.
    pub fn stream(&self, stream: &StreamId) -> Option<&StreamSettings> {
        self.streams.iter().find(|settings| settings.spec.id == *stream)
    }
}

impl StreamSettings {
    /// Returns the settings of the feed of this name.
    pub fn feed(&self, name: &str) -> Option<&FeedSettings> {
        self.feeds.iter().find(|feed| feed.name == name)
    }
}

/// The published settings.
pub type SharedSettings = Arc<arc_swap::ArcSwap<Settings>>;
