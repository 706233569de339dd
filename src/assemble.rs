//! From the configuration file's sections to what the actors and adapters take.

use std::time::Duration;

use forecastd_actors::columns::{AccessKey, ColumnOrigin, ColumnSettings};
use forecastd_actors::settings::{
    FeedSettings, MinerSettings, ModelSettings, Settings, StreamSettings, ValidatorSettings,
};
use forecastd_actors::vitals::RestartPolicy;
use forecastd_core::bars::MergeRules;
use forecastd_core::features::CandleAggregation;
use forecastd_core::{FeatureSet, ScoringConfig, WeightConfig};
use forecastd_exchange::{ApiKey, FeedConfig};

use crate::config::{self, Config, SourceKind};

/// Returns the actors' settings of a valid configuration.
pub fn settings(config: &Config, generation: u64) -> Settings {
    let streams = config.stream.iter().map(|stream| self::stream(config, stream)).collect();
    let supervision = &config.supervision;
    Settings {
        generation,
        streams,
        columns: config.source.iter().filter_map(column).collect(),
        miner: miner(config),
        validator: validator(config),
        supervision: RestartPolicy {
            budget: supervision.restart_budget,
            window: supervision.restart_window,
            backoff_min: supervision.backoff_min,
            backoff_max: supervision.backoff_max,
            hang_limit: supervision.hang_limit,
        },
        metagraph_every: config.network.metagraph_every,
        retention: config.store.retention,
        store_floor_bytes: config.store.floor.bytes(),
    }
}

fn stream(config: &Config, stream: &config::StreamConfig) -> StreamSettings {
    let models = config.model.iter().filter(|model| model.stream == stream.id);
    let feeds = config.feed.iter().filter(|feed| feed.stream == stream.id);
    StreamSettings {
        spec: stream.spec(),
        feeds: feeds.map(|feed| self::feed(stream, feed)).collect(),
        merge: MergeRules {
            fields: CandleAggregation {
                open: stream.merge_open,
                high: stream.merge_high,
                low: stream.merge_low,
                close: stream.merge_close,
                volume: stream.merge_volume,
            },
            quorum: stream.quorum,
            outlier_part: stream.outlier_part,
        },
        merge_wait: stream.merge_wait,
        // The rules of the configuration let no other list through.
        features: FeatureSet::new(stream.features.clone(), stream.indicators)
            .unwrap_or_else(|_| FeatureSet::reference()),
        models: models.map(model).collect(),
    }
}

/// Returns the settings of a column; the key of its account comes from the environment.
pub fn column(source: &config::SourceConfig) -> Option<ColumnSettings> {
    let origin = match source.kind {
        SourceKind::File => ColumnOrigin::File {
            path: source.path.clone()?,
            column: source.column.clone(),
            every: source.every,
            publication_delay: source.publication_delay,
        },
        SourceKind::CoinMetrics => ColumnOrigin::CoinMetrics {
            url: source.url.clone(),
            series: source.series()?,
            key: access_key(&source.api_key_env),
            timeout: source.timeout,
        },
    };
    Some(ColumnSettings {
        name: source.name.parse().ok()?,
        origin,
        max_age: source.max_age,
        refresh_every: source.refresh_every,
    })
}

fn access_key(variable: &str) -> AccessKey {
    if variable.is_empty() {
        return AccessKey::Unneeded;
    }
    let key = std::env::var(variable).ok().and_then(|text| ApiKey::new(&text).ok());
    key.map_or_else(|| AccessKey::Missing(variable.to_owned()), AccessKey::Given)
}

/// Returns the settings of a feed; what the configuration leaves open is the exchange's own.
fn feed(stream: &config::StreamConfig, feed: &config::FeedConfig) -> FeedSettings {
    let own = feed.exchange.default_config();
    FeedSettings {
        name: feed.name.clone(),
        exchange: feed.exchange,
        config: FeedConfig {
            symbol: feed.symbol(),
            interval: stream.interval,
            ws_url: feed.ws_url.clone().unwrap_or(own.ws_url),
            rest_url: feed.rest_url.clone().unwrap_or(own.rest_url),
            idle_timeout: feed.idle_timeout.unwrap_or(own.idle_timeout),
            connect_timeout: feed.connect_timeout,
            request_timeout: feed.rest_timeout,
            backoff_min: feed.backoff_min,
            backoff_max: feed.backoff_max,
            proxy: feed.proxy.clone(),
            trades: feed.check_trades && feed.exchange.tells_finals(),
            ..feed.exchange.default_config()
        },
    }
}

fn model(model: &config::ModelConfig) -> ModelSettings {
    ModelSettings {
        name: model.name.clone(),
        kind: model.kind,
        checkpoint: model.checkpoint.clone(),
        workers: model.workers,
        deadline: model.deadline,
    }
}

fn miner(config: &Config) -> MinerSettings {
    let miner = &config.miner;
    MinerSettings {
        require_permit: miner.require_permit,
        min_stake: miner.min_stake,
        allow: miner.allow.clone(),
        deny: miner.deny.clone(),
        fresh_wait: miner.fresh_wait,
        max_age_candles: miner.max_age_candles,
        max_questions: miner.max_questions,
    }
}

fn validator(config: &Config) -> ValidatorSettings {
    let validator = &config.validator;
    let compatibility = validator.scoring.compatibility;
    ValidatorSettings {
        query_timeout: validator.query_timeout,
        query_timeout_floor: validator.query_timeout_floor,
        reveal_after: validator.reveal_after,
        settle_delay: validator.settle_delay,
        realised_wait: validator.realised_wait,
        max_missing_candles: validator.max_missing_candles,
        absurd_factor: validator.absurd_factor,
        concurrency: validator.concurrency,
        scoring: ScoringConfig {
            compatibility,
            ema_length: validator.scoring.ema_length,
            new_miner_start: validator.scoring.new_miner_start,
        },
        weights: WeightConfig {
            compatibility,
            lambda: validator.weights.lambda,
            reference_mean: validator.weights.reference_mean,
            filter_deviations: validator.weights.exclude_below_deviations,
        },
        weights_every: validator.weights.every,
        version_key: validator.weights.version_key,
        allow_local_axons: validator.allow_local_axons,
    }
}

/// Time that a stopping axon gives to requests in flight.
pub const AXON_GRACE: Duration = Duration::from_secs(2);
