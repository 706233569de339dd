//! The trained checkpoint that the program carries, so that the embedded network runs from any
//! directory.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

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
