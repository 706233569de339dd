//! The table of all keys: one file a group of sections.
//!
//! Each line gives name, type, default, range, unit and reload class of a key; its doc comment is
//! the comment in `config.toml`.

mod market;
mod network;
mod process;
mod roles;
mod source;

pub use market::{FeedConfig, ModelConfig, StreamConfig};
pub use network::{Network, NetworkConfig, WalletConfig};
pub use process::{
    DevConfig, DevMiner, HttpConfig, LogConfig, LogFormat, LogLevel, ReloadConfig, StoreConfig,
    SupervisionConfig,
};
pub use roles::{MinerConfig, ValidatorConfig, ValidatorScoring, ValidatorWeights};
pub use source::{SourceConfig, SourceKind};
