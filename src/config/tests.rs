//! Tests of the whole loader: the shipped file, every fault with its text, overrides, differences.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use forecastd_core::{Compatibility, Interval, Rao, Role};
use toml_edit::Document;

use super::section::{Part as _, Section};
use super::*;

const SHIPPED: &str = include_str!("../../config.toml");
const NO_ENVIRONMENT: [(String, String); 0] = [];

fn errors(text: &str) -> String {
    match Config::from_text(text, "config.toml", NO_ENVIRONMENT) {
        Ok(_) => "no error".to_owned(),
        Err(errors) => errors.to_string(),
    }
}

fn with_environment(variables: &[(&str, &str)], text: &str) -> Result<Config, ConfigErrors> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_text(text, "config.toml", variables)
}

fn parsed(text: &str) -> Config {
    Config::from_text(text, "config.toml", NO_ENVIRONMENT).unwrap()
}

/// Paths of all keys that a file holds.
fn paths_in(table: &toml_edit::Table, path: &str, paths: &mut BTreeSet<String>) {
    for (name, item) in table {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match item {
            toml_edit::Item::Table(table) => paths_in(table, &path, paths),
            toml_edit::Item::ArrayOfTables(tables) => {
                tables.iter().for_each(|table| paths_in(table, &path, paths));
            }
            _ => {
                paths.insert(path);
            }
        }
    }
}

#[test]
fn the_shipped_file_is_the_commented_text_of_the_defaults() {
    let expected = Config::default().to_commented_toml();
    if expected != SHIPPED {
        let line = expected.lines().zip(SHIPPED.lines()).position(|(a, b)| a != b);
        panic!(
            "config.toml differs from the key table in line {line:?}; write it anew with `forecastd check-config --defaults > config.toml`"
        );
    }
}

#[test]
fn the_shipped_file_loads_to_the_defaults_in_every_role() {
    for role in [Role::Miner, Role::Validator, Role::Both] {
        let config = Config::from_text_for(role, SHIPPED, "config.toml", NO_ENVIRONMENT).unwrap();
        assert_eq!(config, Config::default());
    }
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml"));
    let (text, hash) = watch::read_once(path).unwrap();
    assert_eq!((text.as_str(), hash), (SHIPPED, watch::Fingerprint::of(SHIPPED.as_bytes())));
}

#[test]
fn the_shipped_file_holds_every_key_and_no_other() {
    let document = Document::parse(SHIPPED).unwrap();
    let mut shipped = BTreeSet::new();
    paths_in(document.as_table(), "", &mut shipped);
    let known: BTreeSet<String> = Config::key_paths().into_iter().collect();
    assert_eq!(shipped, known);
    assert!(known.len() > 80, "{}", known.len());
    for path in ["validator.scoring.ema_length", "feed.symbol", "model.kind", "dev.speed"] {
        assert!(known.contains(path), "{path}");
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parsed(""), Config::default());
}

#[test]
fn the_bounds_of_every_range_are_readable_and_in_order() {
    fn check<S: Section>() -> usize {
        let defaults = S::default();
        for (key, literal) in defaults.literals() {
            let name = key.name;
            assert_eq!(literal, key.default_text(), "{name} is not written as it is shown");
            let in_order = match key.rule {
                value::Rule::Int(min, max) => min < max,
                value::Rule::Float(min, max) => min < max,
                value::Rule::Span(min, max) => {
                    text::parse_duration(min).unwrap() < text::parse_duration(max).unwrap()
                }
                value::Rule::Size(min, max) => {
                    text::parse_size(min).unwrap() < text::parse_size(max).unwrap()
                }
                value::Rule::Any
                | value::Rule::Name
                | value::Rule::Symbol
                | value::Rule::Url(_) => true,
            };
            assert!(in_order, "{name}");
            assert!(key.doc.trim().ends_with('.'), "{name}: {}", key.doc);
        }
        S::KEYS.len()
    }
    let keys = check::<NetworkConfig>()
        + check::<WalletConfig>()
        + check::<StreamConfig>()
        + check::<FeedConfig>()
        + check::<SourceConfig>()
        + check::<ModelConfig>()
        + check::<MinerConfig>()
        + check::<ValidatorConfig>()
        + check::<ValidatorScoring>()
        + check::<ValidatorWeights>()
        + check::<StoreConfig>()
        + check::<HttpConfig>()
        + check::<LogConfig>()
        + check::<SupervisionConfig>()
        + check::<ReloadConfig>()
        + check::<DevConfig>();
    assert_eq!(keys, Config::key_paths().len(), "a section is missing in this test");
}

#[test]
fn values_are_read_as_people_write_them() {
    let config = parsed(
        r#"
        network = { name = "wss://node.example:443/rpc", netuid = 3 }
        [miner]
        min_stake = 1_000.5
        max_body = "2MB"
        external = "203.0.113.7:8091"
        allow = ["5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"]
        [validator]
        query_timeout = "1m"
        absurd_factor = 3
        [validator.scoring]
        compatibility = "seed"
        [[stream]]
        id = "BTCUSD-1m"
        interval = "1m"
        round_every = "10m"
        quorum = 1
        [[feed]]
        name = "coins"
        stream = "BTCUSD-1m"
        exchange = "kraken"
        symbol = "BTC/USD"
        [[model]]
        name = "flat"
        stream = "BTCUSD-1m"
        kind = "last"
        [dev]
        start = 2025-01-03
        "#,
    );
    assert_eq!(config.network.name, Network::Custom("wss://node.example:443/rpc".to_owned()));
    assert_eq!(config.network.node_urls(), ["wss://node.example:443/rpc"]);
    assert_eq!(config.miner.min_stake, Rao(1_000_500_000_000));
    assert_eq!(config.miner.max_body, ByteSize(2_000_000));
    assert_eq!(config.miner.external.unwrap().port(), 8091);
    assert_eq!(config.miner.allow.len(), 1);
    assert_eq!(config.validator.query_timeout, Duration::from_mins(1));
    assert!((config.validator.absurd_factor - 3.0).abs() < f64::EPSILON);
    assert_eq!(config.validator.scoring.compatibility, Compatibility::Seed);
    assert_eq!(config.stream[0].spec().interval, Interval::MINUTE);
    assert_eq!(config.stream[0].spec().id.0, "BTCUSD-1m");
    assert_eq!(config.models_of("BTCUSD-1m").count(), 1);
    assert_eq!(config.dev.start.to_string(), "2025-01-03T00:00:00Z");
}

#[test]
fn all_faults_are_found_at_once_with_place_key_reason_and_allowed_values() {
    let text = r#"typo = 1
[network]
name = "main"
netuid = 70000
[validator]
query_timeout = "0s"
reveal_afer = "60s"
absurd_factor = nan
concurrency = "many"
[validator.scoring]
ema_lenght = 48
[miner]
listen = "localhost:8091"
deny = ["5Grw"]
symbol = "BTCUSDT"
[log]
level = "loud"
rotate_size = 1000
[[stream]]
interval = "7m"
[[feed]]
symbol = "a very long symbol that has spaces, is far beyond sixty four characters, and goes on"
[devv]
[store]
path = ""
"#;
    insta::assert_snapshot!("all_faults", errors(text));
}

#[test]
fn faults_between_keys_name_both_sides() {
    let text = r#"
[network]
name = "finney"
mortality_blocks = 100
[wallet]
uri = "//Alice"
[miner]
external = "0.0.0.0:0"
listen = "0.0.0.0:9000"
allow = ["5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"]
deny = ["5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"]
[http]
listen = "0.0.0.0:9000"
[validator]
allow_local_axons = true
[supervision]
backoff_min = "1m"
[store]
retention = "2d"
[dev]
miners = []
[[stream]]
id = "A"
round_every = "7m"
[[stream]]
id = "B"
[[stream]]
id = "A"
interval = "6m"
round_every = "1m"
quorum = 1
[[feed]]
name = "a"
stream = "A"
exchange = "binance"
backoff_min = "1m"
[[feed]]
name = "a"
stream = "C"
exchange = "bybit"
[[model]]
name = "one"
stream = "B"
kind = "burn"
[[model]]
name = "one"
stream = "A"
kind = "last"
checkpoint = "x"
"#;
    insta::assert_snapshot!("faults_between_keys", errors(text));
}

#[test]
fn a_fault_between_keys_is_not_reported_on_top_of_a_faulty_key() {
    let text = "[supervision]\nbackoff_min = \"oops\"\nbackoff_max = \"1ms\"\n";
    let found = errors(text);
    assert_eq!(found.lines().count(), 1, "{found}");
    assert!(found.contains("backoff_min"), "{found}");
}

#[test]
fn sections_of_the_wrong_kind_are_named() {
    let text = "stream = 5\nlog = \"info\"\n[[network]]\n[model]\nname = \"x\"\n";
    insta::assert_snapshot!(errors(text), @"
    config.toml:1:10: `stream` is a value, must be a list of sections `[[stream]]`
    config.toml:2:7: `log` is a value, must be a section, written `[log]`
    config.toml:3:1: `network` is a list of sections, must be a section, written `[network]`
    config.toml:4:1: `model` is a section, must be a list of sections `[[model]]`
    ");
}

#[test]
fn text_that_is_not_toml_is_one_fault_with_its_place() {
    insta::assert_snapshot!(
        errors("[network]\nname = \"x\nnetuid = 1\n"),
        @r#"config.toml:2:10: is not TOML: invalid basic string, expected `"`"#
    );
    insta::assert_snapshot!(
        errors("[log]\nlevel = \"info\"\nlevel = \"warn\"\n"),
        @"config.toml:3:1: is not TOML: duplicate key"
    );
}

#[test]
fn secrets_are_never_repeated() {
    let phrase = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
    let wrong_type = format!("[wallet]\nuri = [\"{phrase}\"]\n");
    let wrong_form = format!("[wallet]\nuri = \"{phrase}\"\n");
    for text in [wrong_type, wrong_form] {
        let found = errors(&text);
        assert!(found.contains("`wallet.uri` has a value that is not allowed"), "{found}");
        assert!(!found.contains("bottom"), "{found}");
    }
    let old = parsed("[wallet]\nuri = \"//Zelda\"\n");
    let new = parsed("[wallet]\nuri = \"//Yorick\"\n");
    let shown = format!("{:?} {old:?} {}", diff(&old, &new), old.to_commented_toml());
    assert!(!shown.contains("Zelda") && !shown.contains("Yorick"), "{shown}");
    assert_eq!(diff(&old, &new).changes.len(), 1);
    assert_eq!(old.wallet.uri.expose(), "//Zelda");
}

#[test]
fn the_environment_overrides_the_file() {
    let config = with_environment(
        &[
            ("FORECASTD__MINER__LISTEN", "127.0.0.1:0"),
            ("FORECASTD__VALIDATOR__SCORING__EMA_LENGTH", "7"),
            ("FORECASTD__FEED__0__SYMBOL", "ETHUSDT"),
            ("FORECASTD__HTTP__ALLOW_REMOTE", "true"),
            ("FORECASTD__DEV__MINERS", "[\"last\", \"drift\"]"),
            ("FORECASTD__STORE__RETENTION", "90d"),
            ("FORECASTD_VECTORS", "/somewhere"),
            ("PATH", "/bin"),
        ],
        "[miner]\nlisten = \"0.0.0.0:1\"\n",
    )
    .unwrap();
    assert_eq!(config.miner.listen.to_string(), "127.0.0.1:0");
    assert_eq!(config.validator.scoring.ema_length, 7);
    assert_eq!(config.feed[0].symbol(), "ETHUSDT");
    assert!(config.http.allow_remote);
    assert_eq!(config.dev.miners, [DevMiner::Last, DevMiner::Drift]);
    assert_eq!(config.store.retention, Duration::from_hours(90 * 24));
}

#[test]
fn faulty_variables_are_named() {
    let found = with_environment(
        &[
            ("FORECASTD__MINER__LISTNE", "127.0.0.1:0"),
            ("FORECASTD__VALIDATOR__CONCURRENCY", "0"),
            ("FORECASTD__STREAM__3__ID", "X"),
            ("FORECASTD__LOG__LEVEL", "loud"),
        ],
        "",
    );
    insta::assert_snapshot!(found.unwrap_err().to_string(), @"
    environment variable FORECASTD__VALIDATOR__CONCURRENCY: `validator.concurrency` is 0, must be a whole number, 1..4096
    environment variable FORECASTD__LOG__LEVEL: `log.level` is loud, must be one of error, warn, info, debug, trace
    environment variable FORECASTD__MINER__LISTNE: `miner.listne` is not a key; did you mean `miner.listen`
    environment variable FORECASTD__STREAM__3__ID: `stream[3].id` names an entry that is not there
    ");
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let found = Config::load(&dir.path().join("config.toml")).unwrap_err().to_string();
    assert!(found.contains("there is no such file"), "{found}");
    assert!(found.contains("forecastd check-config --defaults > config.toml"), "{found}");
    let found = Config::load(dir.path()).unwrap_err().to_string();
    assert!(found.contains("is not a plain file"), "{found}");
}

#[test]
fn a_stream_without_a_model_is_a_fault_for_miners_only() {
    let text = "[[stream]]\nid = \"ETHUSD-5m\"\nquorum = 1\n[[feed]]\nname = \"eth\"\n\
                stream = \"ETHUSD-5m\"\nexchange = \"bybit\"\nsymbol = \"ETHUSDT\"\n";
    assert_eq!(parsed(text).model, []);
    let found =
        Config::from_text_for(Role::Miner, text, "config.toml", NO_ENVIRONMENT).unwrap_err();
    assert_eq!(
        found.to_string(),
        "config.toml:2:6: `stream[0].id` is \"ETHUSD-5m\", which no [[model]] forecasts; add one"
    );
    assert!(Config::from_text_for(Role::Validator, text, "c", NO_ENVIRONMENT).is_ok());
}

#[test]
fn the_difference_names_each_changed_key_once_with_its_class() {
    let old = Config::default();
    let new = parsed(
        r#"
        [network]
        netuid = 3
        [log]
        level = "debug"
        [validator.scoring]
        ema_length = 24
        [[stream]]
        id = "BTCUSD-5m"
        quorum = 1
        [[feed]]
        name = "binance"
        stream = "BTCUSD-5m"
        exchange = "binance"
        symbol = "BTCUSDC"
        ws_url = "ws://127.0.0.1:1"
        [[model]]
        name = "last"
        stream = "BTCUSD-5m"
        kind = "last"
        workers = 2
        "#,
    );
    let difference = diff(&old, &new);
    let lines: Vec<String> = difference.changes.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    network.netuid: 8 -> 3 (start)
    stream.BTCUSD-5m.quorum: 2 -> 1 (start)
    feed: binance, bybit, coinbase, kraken -> binance (start)
    feed.binance.symbol: "" -> "BTCUSDC" (start)
    feed.binance.ws_url: "" -> "ws://127.0.0.1:1" (part (feed))
    model: lstm-small, last, drift -> last (part (model_pool))
    model.last.workers: 1 -> 2 (part (model_pool))
    validator.scoring.ema_length: 48 -> 24 (part (evaluator))
    log.level: "info" -> "debug" (live)
    "#);
    assert!(difference.needs_start());
    assert_eq!(difference.parts(), ["feed", "model_pool", "evaluator"]);
    assert!(diff(&new, &new).is_empty());
}

#[test]
fn a_reload_without_a_start_keeps_the_keys_that_need_one() {
    let old = Config::default();
    let new = parsed(
        r#"
        [network]
        netuid = 3
        [log]
        level = "debug"
        [[stream]]
        id = "BTCUSD-5m"
        merge_wait = "1s"
        lookback = 400
        [[stream]]
        id = "ETHUSD-5m"
        quorum = 1
        [[feed]]
        name = "binance"
        stream = "BTCUSD-5m"
        exchange = "binance"
        ws_url = "ws://127.0.0.1:1"
        [[feed]]
        name = "bybit"
        stream = "BTCUSD-5m"
        exchange = "bybit"
        [[feed]]
        name = "eth"
        stream = "ETHUSD-5m"
        exchange = "binance"
        symbol = "ETHUSDT"
        [[model]]
        name = "last"
        stream = "BTCUSD-5m"
        kind = "last"
        "#,
    );
    let difference = diff(&old, &new);
    let merged = difference.apply_without_start(&old, &new);
    assert_eq!(merged.network.netuid, 8);
    assert_eq!(merged.log.level, LogLevel::Debug);
    assert_eq!(merged.stream.len(), 1);
    let stream = &merged.stream[0];
    assert_eq!((stream.merge_wait, stream.lookback), (Duration::from_secs(1), 500));
    assert_eq!(merged.feed[0].ws_url.as_deref(), Some("ws://127.0.0.1:1"));
    assert_eq!(merged.model, new.model);
    // What was applied is no difference any more, what waits still is one.
    let rest = diff(&merged, &new);
    let keys: Vec<&str> = rest.changes.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["network.netuid", "stream", "stream.BTCUSD-5m.lookback", "feed"]);
    assert_eq!(rest.apply_without_start(&merged, &new), merged);
}

#[test]
fn changes_that_only_fit_together_wait_for_the_start_together() {
    let old = Config::default();
    let new = parsed(
        r#"
        [[stream]]
        id = "ETHUSD-5m"
        quorum = 1
        [[feed]]
        name = "eth"
        stream = "ETHUSD-5m"
        exchange = "binance"
        symbol = "ETHUSDT"
        [[model]]
        name = "last"
        stream = "ETHUSD-5m"
        kind = "last"
        [log]
        level = "warn"
        "#,
    );
    let difference = diff(&old, &new);
    assert!(difference.changes.iter().all(|change| change.class == ReloadClass::Start));
    assert_eq!(difference.apply_without_start(&old, &new), old);
    assert!(old.faults().is_empty() && new.faults().is_empty());
}

#[test]
fn every_key_is_seen_by_the_difference() {
    // Each key in turn gets another value; the difference must name just this key.
    let old = Config::default();
    let mut seen = BTreeSet::new();
    for path in Config::key_paths() {
        let replacements = [
            "1",
            "2",
            "3",
            "64",
            "2.5",
            "true",
            "false",
            "\"2s\"",
            "\"3d\"",
            "\"40d\"",
            "\"2h\"",
            "\"2MiB\"",
            "\"test\"",
            "\"warn\"",
            "\"json\"",
            "\"seed\"",
            "\"last\"",
            "[\"last\"]",
            "[\"rsi(14)\"]",
            "\"file\"",
            "\"market-quotes\"",
            "\"average\"",
            "\"median\"",
            "\"kraken\"",
            "\"socks5://a:1\"",
            "\"127.0.0.1:77\"",
            "[\"ws://a\"]",
            "\"ws://a\"",
            "\"http://a\"",
            "\"//Eve\"",
            "\"2025-02-02\"",
            "\"BTCUSD-5m\"",
            "\"other\"",
            "\"10m\"",
            "\"1m\"",
            "[\"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\"]",
        ];
        let (section, name) = path.rsplit_once('.').unwrap();
        for value in replacements {
            let required = |name: &str, text: &str| {
                if path.ends_with(&format!(".{name}")) {
                    String::new()
                } else {
                    format!("{name} = {text}\n")
                }
            };
            let text = match section {
                "stream" => {
                    format!("[[stream]]\n{}{name} = {value}\n", required("id", "\"BTCUSD-5m\""))
                }
                "feed" => {
                    let entry = format!(
                        "{}{}{}",
                        required("name", "\"binance\""),
                        required("stream", "\"BTCUSD-5m\""),
                        required("exchange", "\"binance\""),
                    );
                    format!("[[feed]]\n{entry}{name} = {value}\n")
                }
                "model" => {
                    let entry = format!(
                        "{}{}{}{}",
                        required("name", "\"lstm-small\""),
                        required("stream", "\"BTCUSD-5m\""),
                        required("kind", "\"burn\""),
                        required("checkpoint", "\"models/checkpoints/lstm-small\"")
                    );
                    format!("[[model]]\n{entry}{name} = {value}\n")
                }
                "source" => {
                    let entry = format!(
                        "{}{}{}{}{}{}{}{}",
                        required("name", "\"reference-rate\""),
                        required("kind", "\"coinmetrics\""),
                        required("endpoint", "\"asset-metrics\""),
                        required("of", "\"btc\""),
                        required("metric", "\"ReferenceRateUSD\""),
                        required("every", "\"1d\""),
                        required("publication_delay", "\"2h\""),
                        required("max_age", "\"4d\"")
                    );
                    format!("[[source]]\n{entry}{name} = {value}\n")
                }
                _ => format!("[{section}]\n{name} = {value}\n"),
            };
            // Rules between keys may object: only the reading of the one key matters here.
            let document = Document::parse(text.as_str()).unwrap();
            let mut reader = Reader::new("", &text, NO_ENVIRONMENT, Vec::new());
            let new: Config = section::Part::read(&mut reader, "", Some(document.as_item()));
            if !reader.finish().is_empty() {
                continue;
            }
            let mut changes = Vec::new();
            old.diff(&new, "", &mut changes);
            let own = |change: &Change| {
                change.key == path
                    || (change.key.starts_with(&format!("{section}."))
                        && change.key.ends_with(&format!(".{name}")))
                    || matches!(
                        path.as_str(),
                        "stream.id" | "model.name" | "feed.name" | "source.name"
                    )
            };
            if changes.iter().any(own) {
                seen.insert(path.clone());
            }
            let others = changes
                .iter()
                .filter(|change| !own(change) && !matches!(change.key.as_str(), "model" | "feed"));
            assert_eq!(others.count(), 0, "{path} = {value}: {changes:?}");
        }
        assert!(seen.contains(&path), "no other value found for {path}");
    }
}

#[test]
fn any_text_is_answered_and_never_panics() {
    use std::fmt::Write as _;
    let mut state: u64 = 7;
    let mut next = move |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    let lines: Vec<&str> = SHIPPED.lines().collect();
    for _ in 0..300 {
        let mut text = String::new();
        for _ in 0..next(30) {
            let line = lines[next(lines.len())];
            let cut = line.char_indices().map(|(at, _)| at).nth(next(40)).unwrap_or(line.len());
            let (head, tail) = line.split_at(cut);
            match next(4) {
                0 => writeln!(text, "{head}"),
                1 => writeln!(text, "{tail}"),
                2 => writeln!(text, "{head}é\"{tail}"),
                _ => writeln!(text, "{line}"),
            }
            .unwrap();
        }
        if let Err(errors) = Config::from_text(&text, "config.toml", NO_ENVIRONMENT) {
            assert!(!errors.is_empty());
            let count = text.lines().count() + 1;
            assert!(errors.iter().all(|error| error.line <= count), "{errors}");
        }
    }
}
