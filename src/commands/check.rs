//! `forecastd check-config`: every fault of a configuration file.

use std::net::TcpListener;
use std::path::Path;

use forecastd_chain::{Chain as _, ChainConfig, Subtensor};
use forecastd_core::{ColumnName, FeatureSpec};
use forecastd_models::{CheckpointConfig, ModelKind};

use crate::cli::{CheckConfigArgs, GlobalArgs};
use crate::commands::run::key;
use crate::config::{Config, ConfigError, ConfigErrors, ModelConfig};
use crate::exit::Exit;
use crate::output;

/// Checks the file and, when asked, what it points to. Never writes.
pub async fn check(global: &GlobalArgs, arguments: &CheckConfigArgs) -> Exit {
    if arguments.defaults {
        output::line(&Config::default().to_commented_toml().trim_end());
        return Exit::Done;
    }
    let path = arguments.file.as_deref().unwrap_or_else(|| global.config_path());
    let config = match Config::load(path) {
        Ok(loaded) => {
            warn_of_checkpoints(&loaded.config);
            warn_of_sources(&loaded.config);
            loaded
        }
        Err(errors) => return report(&errors, arguments.json),
    };
    if arguments.online {
        let faults = online(&config.config, &path.display().to_string()).await;
        if !faults.is_empty() {
            return report(&faults, arguments.json);
        }
    }
    if arguments.json {
        output::line(&"[]");
    } else {
        output::line(&format_args!("{} is valid ({})", path.display(), config.hash));
    }
    Exit::Done
}

/// Prints the faults.
fn report(errors: &ConfigErrors, json: bool) -> Exit {
    if json {
        let lines: Vec<_> = errors
            .iter()
            .map(|error| {
                serde_json::json!({
                    "file": error.file, "line": error.line, "column": error.column,
                    "key": error.key, "reason": error.reason, "hint": error.hint,
                })
            })
            .collect();
        output::line(&serde_json::Value::from(lines));
    } else {
        output::error(errors);
    }
    Exit::Config
}

/// Says which checkpoints are not there. No fault: `run` unpacks the built-in one, and another may
/// be trained before the start.
fn warn_of_checkpoints(config: &Config) {
    for model in config.model.iter().filter(|model| model.kind == ModelKind::Burn) {
        let Some(directory) = &model.checkpoint else { continue };
        if directory.join("config.json").is_file() {
            warn_of_features(config, model, directory);
            continue;
        }
        let what_then = if directory.ends_with("lstm-small") {
            "`run` unpacks the built-in one"
        } else {
            "train it with `forecastd model train`, or correct `checkpoint`"
        };
        output::warning(&format_args!(
            "model `{}`: {} has no config.json; {what_then}",
            model.name,
            directory.display()
        ));
    }
}

/// Says which features of a checkpoint its stream does not have.
fn warn_of_features(config: &Config, model: &ModelConfig, directory: &Path) {
    // What is wrong with the checkpoint itself, `run` says.
    let Ok(checkpoint) = CheckpointConfig::read(directory) else { return };
    let Some(needs) = checkpoint.network.features else { return };
    let Some(stream) = config.stream.iter().find(|stream| stream.id == model.stream) else {
        return;
    };
    let lacks: Vec<String> = needs
        .names()
        .iter()
        .filter(|name| !stream.features.contains(name))
        .map(ToString::to_string)
        .collect();
    if !lacks.is_empty() {
        output::warning(&format_args!(
            "model `{}` needs {}; add to `features` of stream {}",
            model.name,
            lacks.join(", "),
            stream.id
        ));
    }
    if needs.warm_up() > 0 && needs.indicators() != stream.indicators {
        output::warning(&format_args!(
            "model `{}` was trained on the other definition of the indicators; change `indicators` of \
             stream {}",
            model.name, stream.id
        ));
    }
}

/// Says which columns that streams use cannot be read as things are.
fn warn_of_sources(config: &Config) {
    let used = config.stream.iter().flat_map(|stream| &stream.features);
    let used: Vec<&str> = used.filter_map(FeatureSpec::column).map(ColumnName::as_str).collect();
    for source in config.source.iter().filter(|source| used.contains(&&*source.name)) {
        if let Some(path) = source.path.as_ref().filter(|path| !path.is_file()) {
            let (name, path) = (&source.name, path.display());
            output::warning(&format_args!("source `{name}`: {path} is no file"));
        }
        let variable = &source.api_key_env;
        if !variable.is_empty() && std::env::var_os(variable).is_none() {
            let name = &source.name;
            output::warning(&format_args!(
                "source `{name}`: environment variable {variable} is not set"
            ));
        }
    }
}

/// Tries the key, the ports and the chain; returns what does not work.
async fn online(config: &Config, file: &str) -> ConfigErrors {
    let mut errors = Vec::new();
    let mut fault = |key: &str, reason: String| {
        let (file, key) = (file.to_owned(), key.to_owned());
        errors.push(ConfigError { file, line: 0, column: 0, key, reason, hint: None });
    };
    if let Err(start) = key(config) {
        fault("wallet", format!("cannot be used: {start}"));
    }
    for (name, address) in
        [("miner.listen", config.miner.listen), ("http.listen", config.http.listen)]
    {
        if let Err(error) = TcpListener::bind(address) {
            fault(name, format!("is {address}, which cannot be bound: {error}"));
        }
    }
    let chain = ChainConfig::new(config.network.node_urls(), config.network.net_uid());
    let head = match Subtensor::new(chain) {
        Ok(chain) => chain.head().await,
        Err(error) => Err(error),
    };
    if let Err(error) = head {
        fault("network", format!("cannot be asked: {error}"));
    }
    ConfigErrors { errors }
}
