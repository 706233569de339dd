//! Rules between keys.

use std::collections::BTreeSet;
use std::time::Duration;

use forecastd_core::{ColumnName, FeatureSet, FeatureSpec, Role};
use forecastd_models::ModelKind;

use super::Config;
use super::reader::Reader;
use super::sections::{Network, SourceKind};
use super::text::format_duration;

/// Checks the rules that hold for every role.
pub(super) fn check(config: &Config, reader: &mut Reader) {
    streams(config, reader);
    feeds(config, reader);
    features(config, reader);
    sources(config, reader);
    models(config, reader);
    keys_and_network(config, reader);
    addresses(config, reader);
    spans(config, reader);
}

/// Checks what only the daemon in this role needs.
pub(super) fn check_role(config: &Config, role: Role, reader: &mut Reader) {
    if role.is_miner() {
        for (index, stream) in config.stream.iter().enumerate() {
            let has_model = config.model.iter().any(|model| model.stream == stream.id);
            let key = format!("stream[{index}].id");
            reader.rule(has_model, &[&key], || {
                format!("is \"{}\", which no [[model]] forecasts; add one", stream.id)
            });
        }
    }
}

fn streams(config: &Config, reader: &mut Reader) {
    reader.rule(!config.stream.is_empty(), &["stream"], || {
        "is empty, must have at least one entry".to_owned()
    });
    let mut seen = BTreeSet::new();
    for (index, stream) in config.stream.iter().enumerate() {
        let at = |name: &str| format!("stream[{index}].{name}");
        reader.rule(seen.insert(&stream.id), &[&at("id")], || {
            format!("is \"{}\" as that of an earlier stream, must be unique", stream.id)
        });
        let interval_ms = stream.interval.as_ms();
        let feeds = config.feed.iter().filter(|feed| feed.stream == stream.id).count();
        reader.rule(feeds > 0, &[&at("id"), "feed"], || {
            format!("is \"{}\", which no [[feed]] brings candles for; add one", stream.id)
        });
        reader.rule(feeds == 0 || stream.quorum <= feeds, &[&at("quorum"), "feed"], || {
            format!(
                "is {}, must be at most the number of [[feed]] entries of the stream, {feeds}",
                stream.quorum
            )
        });
        reader.rule(
            stream.round_every.as_ms() % interval_ms == 0,
            &[&at("round_every"), &at("interval")],
            || {
                format!(
                    "is {}, must be a multiple of the interval {}",
                    stream.round_every, stream.interval
                )
            },
        );
        let validator = &config.validator;
        let round = validator.reveal_after + validator.query_timeout;
        reader.rule(
            round < duration(stream.round_every.as_ms()),
            &[&at("round_every"), "validator.reveal_after", "validator.query_timeout"],
            || {
                format!(
                    "is {}, must be longer than validator.reveal_after + validator.query_timeout = {}",
                    stream.round_every,
                    format_duration(round)
                )
            },
        );
        let warm_up = stream.features.iter().map(FeatureSpec::warm_up).max().unwrap_or(0);
        let steps = stream.lookback + stream.horizon + warm_up;
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        let needed = duration(interval_ms.saturating_mul(steps))
            + validator.settle_delay
            + validator.realised_wait;
        reader.rule(
            needed <= config.store.retention,
            &[
                "store.retention",
                &at("lookback"),
                &at("horizon"),
                &at("features"),
                &at("interval"),
                "validator.settle_delay",
                "validator.realised_wait",
            ],
            || {
                format!(
                    "is {}, must be at least {}: lookback, horizon and warm-up of {} + \
                     validator.settle_delay + validator.realised_wait",
                    format_duration(config.store.retention),
                    format_duration(needed),
                    stream.id
                )
            },
        );
    }
}

fn features(config: &Config, reader: &mut Reader) {
    let known: BTreeSet<&str> = config.source.iter().map(|source| source.name.as_str()).collect();
    for (index, stream) in config.stream.iter().enumerate() {
        let key = format!("stream[{index}].features");
        if let Err(error) = FeatureSet::new(stream.features.clone(), stream.indicators) {
            reader.rule(false, &[&key], || format!("cannot be used: {error}"));
        }
        let columns = stream.features.iter().filter_map(FeatureSpec::column);
        let unknown = columns.map(ColumnName::as_str).find(|name| !known.contains(name));
        reader.rule(unknown.is_none(), &[&key, "source"], || {
            let name = unknown.unwrap_or_default();
            format!("names column({name}), which no [[source]] has; add one or take it out")
        });
    }
}

fn sources(config: &Config, reader: &mut Reader) {
    let mut seen = BTreeSet::new();
    for (index, source) in config.source.iter().enumerate() {
        let at = |name: &str| format!("source[{index}].{name}");
        reader.rule(seen.insert(&source.name), &[&at("name")], || {
            format!("is \"{}\" as that of an earlier source, must be unique", source.name)
        });
        match source.kind {
            SourceKind::File => {
                reader.rule(source.path.is_some(), &[&at("path"), &at("kind")], || {
                    "is empty, must name a table for a source of kind file".to_owned()
                });
                reader.rule(!source.column.is_empty(), &[&at("column"), &at("kind")], || {
                    "is empty, must be the header of a column for a source of kind file".to_owned()
                });
            }
            SourceKind::CoinMetrics => {
                reader.rule(source.endpoint.is_some(), &[&at("endpoint"), &at("kind")], || {
                    "is empty, must name a kind of series for a source of kind coinmetrics"
                        .to_owned()
                });
                if let Some(Err(error)) = source.series().map(|series| series.validate()) {
                    let keys = [at("of"), at("metric"), at("every"), at("endpoint")];
                    reader.rule(false, &keys.each_ref().map(String::as_str), || {
                        format!("does not make a series: {error}")
                    });
                }
            }
        }
        let variable = &source.api_key_env;
        let is_variable = variable.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        // The value is never repeated: somebody may have put the key itself here.
        reader.rule(is_variable && variable.len() <= 64, &[&at("api_key_env")], || {
            "has a value that is not allowed, must be the name of an environment variable: letters, \
             digits and `_`"
                .to_owned()
        });
        let horizon = source.every.map_or(Duration::ZERO, |every| duration(every.as_ms()))
            + source.publication_delay;
        reader.rule(
            horizon < source.max_age,
            &[&at("max_age"), &at("every"), &at("publication_delay")],
            || {
                format!(
                    "is {}, must be longer than every + publication_delay = {}, or no value would be \
                     young enough when it is known",
                    format_duration(source.max_age),
                    format_duration(horizon)
                )
            },
        );
    }
}

fn feeds(config: &Config, reader: &mut Reader) {
    let mut seen = BTreeSet::new();
    let streams: Vec<&str> = config.stream.iter().map(|stream| stream.id.as_str()).collect();
    for (index, feed) in config.feed.iter().enumerate() {
        let at = |name: &str| format!("feed[{index}].{name}");
        reader.rule(seen.insert(&feed.name), &[&at("name")], || {
            format!("is \"{}\" as that of an earlier feed, must be unique", feed.name)
        });
        let stream = config.stream.iter().find(|stream| stream.id == feed.stream);
        reader.rule(stream.is_some(), &[&at("stream")], || {
            format!("is \"{}\", must be one of the streams: {}", feed.stream, streams.join(", "))
        });
        reader.rule(
            feed.backoff_min <= feed.backoff_max,
            &[&at("backoff_max"), &at("backoff_min")],
            || at_least(feed.backoff_max, "backoff_min", feed.backoff_min),
        );
        let Some(stream) = stream else { continue };
        let known = feed.exchange.intervals();
        reader.rule(known.contains(&stream.interval), &[&at("exchange"), "stream"], || {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            format!(
                "is {}, which has no candles of {} as stream {} wants, only {}",
                feed.exchange,
                stream.interval,
                stream.id,
                known.join(" ")
            )
        });
    }
}

fn models(config: &Config, reader: &mut Reader) {
    let mut seen = BTreeSet::new();
    let streams: Vec<&str> = config.stream.iter().map(|stream| stream.id.as_str()).collect();
    for (index, model) in config.model.iter().enumerate() {
        let at = |name: &str| format!("model[{index}].{name}");
        reader.rule(seen.insert(&model.name), &[&at("name")], || {
            format!("is \"{}\" as that of an earlier model, must be unique", model.name)
        });
        reader.rule(streams.contains(&model.stream.as_str()), &[&at("stream")], || {
            format!("is \"{}\", must be one of the streams: {}", model.stream, streams.join(", "))
        });
        let is_trained = model.kind == ModelKind::Burn;
        reader.rule(
            !is_trained || model.checkpoint.is_some(),
            &[&at("checkpoint"), &at("kind")],
            || "is empty, must name a directory for a model of kind burn".to_owned(),
        );
        reader.rule(
            is_trained || model.checkpoint.is_none(),
            &[&at("checkpoint"), &at("kind")],
            || format!("is set, must be empty for a model of kind {}", model.kind),
        );
    }
}

fn keys_and_network(config: &Config, reader: &mut Reader) {
    let (network, wallet) = (&config.network, &config.wallet);
    reader.rule(network.mortality_blocks.is_power_of_two(), &["network.mortality_blocks"], || {
        format!("is {}, must be a power of two", network.mortality_blocks)
    });
    let uri = wallet.uri.expose();
    // The value is never repeated: what is wrong here may be a real mnemonic.
    let is_dev_uri =
        uri.is_empty() || (uri.starts_with("//") && uri.len() > 2 && !uri.contains(' '));
    reader.rule(is_dev_uri, &["wallet.uri"], || {
        "has a value that is not allowed, must be a development key such as //Alice; real keys \
         belong in wallet files only"
            .to_owned()
    });
    reader.rule(
        !is_dev_uri || uri.is_empty() || network.name.allows_dev_keys(),
        &["wallet.uri", "network.name"],
        || {
            format!(
                "is set, must be empty on network {}: everybody can sign with development keys",
                network.name
            )
        },
    );
}

fn addresses(config: &Config, reader: &mut Reader) {
    let (miner, http) = (&config.miner, &config.http);
    reader.rule(
        http.allow_remote || http.listen.ip().is_loopback(),
        &["http.listen", "http.allow_remote"],
        || {
            format!(
                "is {}, must be a loopback address unless http.allow_remote is true",
                http.listen
            )
        },
    );
    let is_same_port = http.listen.port() == miner.listen.port() && http.listen.port() != 0;
    let is_same_ip = http.listen.ip() == miner.listen.ip()
        || http.listen.ip().is_unspecified()
        || miner.listen.ip().is_unspecified();
    reader.rule(!(is_same_port && is_same_ip), &["http.listen", "miner.listen"], || {
        format!("is {}, must differ from miner.listen = {}", http.listen, miner.listen)
    });
    if let Some(external) = miner.external {
        let is_public = !matches!(config.network.name, Network::Finney | Network::Test)
            || !external.ip().is_loopback();
        let is_usable = external.port() != 0 && !external.ip().is_unspecified() && is_public;
        reader.rule(is_usable, &["miner.external", "network.name"], || {
            format!("is {external}, must be an address and port that validators can reach")
        });
    }
    let is_clear = !miner.allow.iter().any(|hotkey| miner.deny.contains(hotkey));
    reader.rule(is_clear, &["miner.deny", "miner.allow"], || {
        "names a hotkey that miner.allow names too; take it out of one".to_owned()
    });
    let is_local = !matches!(config.network.name, Network::Finney | Network::Test);
    reader.rule(
        is_local || !config.validator.allow_local_axons,
        &["validator.allow_local_axons", "network.name"],
        || format!("is true, must be false on network {}", config.network.name),
    );
}

fn spans(config: &Config, reader: &mut Reader) {
    let supervision = &config.supervision;
    reader.rule(
        supervision.backoff_min <= supervision.backoff_max,
        &["supervision.backoff_max", "supervision.backoff_min"],
        || at_least(supervision.backoff_max, "supervision.backoff_min", supervision.backoff_min),
    );
    let dev = &config.dev;
    reader.rule(!dev.miners.is_empty(), &["dev.miners"], || {
        "is empty, must name at least one miner".to_owned()
    });
    reader.rule(dev.start.ms > 0, &["dev.start"], || {
        format!("is {}, must be after 1970-01-01", dev.start)
    });
}

fn at_least(value: Duration, other: &str, least: Duration) -> String {
    format!("is {}, must be at least {other} = {}", format_duration(value), format_duration(least))
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
