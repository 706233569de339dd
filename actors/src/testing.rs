//! A node for tests: a store on disk, a clock that is moved by hand, settings of one stream of three
//! exchanges, and nothing that is reached over a network.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forecastd_chain::{ChainConfig, Keypair, Subtensor};
use forecastd_core::bars::MergeRules;
use forecastd_core::settings::{ScoringConfig, WeightConfig};
use forecastd_core::{
    Clock, Compatibility, FeatureSet, Interval, ManualClock, NetUid, Rao, Role, Signer, StreamId,
    StreamSpec,
};
use forecastd_exchange::Exchange;
use forecastd_store::{Identity, Store, StoreConfig};

use crate::address_book::AddressBook;
use crate::drain::Drain;
use crate::events::EventSink;
use crate::faults::Faults;
use crate::node::{Boards, Node};
use crate::settings::{FeedSettings, MinerSettings, Settings, StreamSettings, ValidatorSettings};
use crate::sources::Sources;
use crate::vitals::{RestartPolicy, VitalsRegistry};

pub(crate) fn spec() -> StreamSpec {
    StreamSpec {
        id: StreamId("BTCUSD-5m".to_owned()),
        interval: Interval::FIVE_MINUTES,
        horizon: 4,
        lookback: 3,
        round_every: Interval::from_ms(1_800_000).unwrap(),
        topic_id: 1,
        schema_id: 1,
    }
}

pub(crate) fn stream() -> StreamSettings {
    let feed = |exchange: Exchange| FeedSettings {
        name: exchange.as_str().to_owned(),
        exchange,
        config: exchange.default_config(),
    };
    StreamSettings {
        spec: spec(),
        feeds: [Exchange::Binance, Exchange::Bybit, Exchange::Kraken].map(feed).into(),
        merge: MergeRules::default(),
        merge_wait: Duration::from_secs(3),
        features: FeatureSet::new(vec!["close".parse().unwrap()], Compatibility::Standard).unwrap(),
        models: Vec::new(),
    }
}

fn settings() -> Settings {
    Settings {
        generation: 1,
        streams: vec![stream()],
        columns: Vec::new(),
        miner: MinerSettings {
            require_permit: true,
            min_stake: Rao(0),
            allow: Vec::new(),
            deny: Vec::new(),
            fresh_wait: Duration::ZERO,
            max_questions: 1,
            max_age_candles: 1,
        },
        validator: ValidatorSettings {
            query_timeout: Duration::from_secs(1),
            query_timeout_floor: Duration::from_secs(1),
            reveal_after: Duration::from_secs(1),
            settle_delay: Duration::ZERO,
            realised_wait: Duration::from_hours(24),
            max_missing_candles: 1,
            absurd_factor: 10.0,
            concurrency: 1,
            scoring: ScoringConfig::default(),
            weights: WeightConfig::default(),
            weights_every: Duration::from_hours(1),
            version_key: 0,
            allow_local_axons: false,
        },
        supervision: RestartPolicy {
            budget: 1,
            window: Duration::from_secs(1),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(1),
            hang_limit: Duration::from_secs(1),
        },
        metagraph_every: Duration::from_mins(10),
        retention: Duration::from_hours(24),
        store_floor_bytes: 0,
    }
}

/// A validator whose data lies in `directory`.
pub(crate) fn node(directory: &Path, clock: &Arc<ManualClock>) -> Node {
    let time: Arc<dyn Clock> = Arc::clone(clock) as _;
    let key = Keypair::from_uri("//Alice").unwrap();
    let identity = Identity {
        network: "test".to_owned(),
        netuid: NetUid(8),
        hotkey: key.hotkey(),
        role: Role::Validator,
    };
    let config =
        StoreConfig { reserve_bytes: 0, ..StoreConfig::new(directory.join("data"), identity) };
    let chain = ChainConfig::new(vec!["ws://127.0.0.1:9".to_owned()], NetUid(8));
    Node {
        name: "test".into(),
        role: Role::Validator,
        key: Arc::new(key),
        market: Arc::clone(&time),
        real: Arc::clone(&time),
        store: Store::open(config).unwrap(),
        chain: Arc::new(Subtensor::new(chain).unwrap()),
        settings: Arc::new(arc_swap::ArcSwap::from_pointee(settings())),
        boards: Arc::new(Boards::default()),
        book: Arc::new(AddressBook::default()),
        sources: Arc::new(Sources::default()),
        vitals: Arc::new(VitalsRegistry::default()),
        events: EventSink::new(time, "test".into()),
        faults: Arc::new(Faults::default()),
        drain: Drain::default(),
    }
}
