//! `forecastd check-config`: every fault of a configuration file.

use std::net::TcpListener;

use forecastd_chain::{Chain as _, ChainConfig, Subtensor};

use crate::cli::{CheckConfigArgs, GlobalArgs};
use crate::commands::run::key;
use crate::config::Config;
use crate::exit::Exit;
use crate::output;

/// Checks the file and, when asked, what it points to. Never writes.
pub async fn check(global: &GlobalArgs, arguments: &CheckConfigArgs) -> Exit {
    if arguments.defaults {
        output::line(&Config::default().to_commented_toml().trim_end());
        return Exit::Done;
    }
    let path = arguments.file.as_deref().unwrap_or_else(|| global.config_path());
    let loaded = match Config::load(path) {
        Ok(loaded) => loaded,
        Err(errors) => {
            if arguments.json {
                let lines: Vec<_> = errors
                    .errors
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
                output::error(&errors);
            }
            return Exit::Config;
        }
    };
    if arguments.online
        && let Some(faults) = online(&loaded.config).await
    {
        for fault in &faults {
            output::error(fault);
        }
        return Exit::Config;
    }
    if arguments.json {
        output::line(&"[]");
    } else {
        output::line(&format_args!("{} is valid ({})", path.display(), loaded.hash));
    }
    Exit::Done
}

/// Tries the key, the ports and the chain; returns what does not work.
async fn online(config: &Config) -> Option<Vec<String>> {
    let mut faults = Vec::new();
    if let Err(start) = key(config) {
        faults.push(format!("wallet: {start}"));
    }
    for (name, address) in
        [("miner.listen", config.miner.listen), ("http.listen", config.http.listen)]
    {
        if let Err(error) = TcpListener::bind(address) {
            faults.push(format!("{name}: {address} cannot be bound: {error}"));
        }
    }
    let chain = ChainConfig::new(config.network.node_urls(), config.network.net_uid());
    let head = match Subtensor::new(chain) {
        Ok(chain) => chain.head().await,
        Err(error) => Err(error),
    };
    if let Err(error) = head {
        faults.push(format!("network: {error}"));
    }
    (!faults.is_empty()).then_some(faults)
}
