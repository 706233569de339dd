//! `forecastd check-config`: every fault of a configuration file.

use std::net::TcpListener;

use forecastd_chain::{Chain as _, ChainConfig, Subtensor};
use forecastd_models::ModelKind;

use crate::cli::{CheckConfigArgs, GlobalArgs};
use crate::commands::run::key;
use crate::config::{Config, ConfigError, ConfigErrors};
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
