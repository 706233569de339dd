//! The trained checkpoint that the program carries, so that a miner and the embedded network run
//! from any directory.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::Config;
use crate::daemon::write_atomically;

/// Name of the built-in checkpoint.
pub const CHECKPOINT: &str = "lstm-small";
/// Its files.
const FILES: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../models/checkpoints/lstm-small/config.json")),
    ("model.bpk", include_bytes!("../models/checkpoints/lstm-small/model.bpk")),
    ("README.md", include_bytes!("../models/checkpoints/lstm-small/README.md")),
];

/// Writes the built-in checkpoint below `data_dir` and returns the directory of all checkpoints.
///
/// # Errors
/// The directory cannot be written.
pub fn checkpoints(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let all = data_dir.join("checkpoints");
    let directory = all.join(CHECKPOINT);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("creating {}", directory.display()))?;
    for (name, content) in FILES {
        let path = directory.join(name);
        if std::fs::read(&path).is_ok_and(|known| known == content) {
            continue;
        }
        write_atomically(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(all)
}

/// Puts the built-in checkpoint in the place of a configured one of its name that does not exist.
///
/// # Errors
/// The data directory cannot be written.
pub fn resolve(config: &mut Config) -> anyhow::Result<()> {
    let data_dir = config.store.path.clone();
    for checkpoint in config.model.iter_mut().filter_map(|model| model.checkpoint.as_mut()) {
        let is_built_in = checkpoint.file_name().is_some_and(|name| name == CHECKPOINT);
        if is_built_in && !checkpoint.join("config.json").is_file() {
            *checkpoint = checkpoints(&data_dir)?.join(CHECKPOINT);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_checkpoint_of_the_built_in_name_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.store.path = directory.path().to_owned();
        let model = |checkpoint: PathBuf| crate::config::ModelConfig {
            checkpoint: Some(checkpoint),
            ..crate::config::ModelConfig::default()
        };
        let own = directory.path().join("own");
        config.model = vec![model(PathBuf::from("nowhere/lstm-small")), model(own.clone())];
        resolve(&mut config).unwrap();
        let built_in = config.model[0].checkpoint.clone().unwrap();
        assert!(built_in.join("config.json").is_file() && built_in.join("model.bpk").is_file());
        assert_eq!(config.model[1].checkpoint, Some(own));
    }
}
