//! The configuration: typed sections, one table of keys, and a loader that finds all faults.
//!
//! `sections` holds the table; from it come the defaults, the reader, the ranges in error texts,
//! the reload classes and the commented `config.toml`. `rules` adds what holds between keys. The
//! daemon, `check-config` and the reload use the same loader, [`Config::load`].
//!
//! Limits: a file of at most 1 MiB; environment variables `FORECASTD__SECTION__KEY` lie on top.

pub mod diff;
pub mod error;
mod reader;
mod reference;
mod rules;
pub mod section;
mod sections;
pub mod text;
pub mod value;
pub mod watch;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use forecastd_core::Role;
use toml_edit::Document;

pub use diff::{Change, ConfigDiff, ReloadClass, diff};
pub use error::{ConfigError, ConfigErrors};
pub use reader::{ENV_PREFIX, Reader};
pub use sections::{
    DevConfig, DevMiner, FeedConfig, HttpConfig, LogConfig, LogFormat, LogLevel, MinerConfig,
    ModelConfig, Network, NetworkConfig, ReloadConfig, SourceConfig, SourceKind, StoreConfig,
    StreamConfig, SupervisionConfig, ValidatorConfig, ValidatorScoring, ValidatorWeights,
    WalletConfig,
};
pub use text::{ByteSize, UtcTime};
pub use value::Secret;

use section::{Part, section};
use watch::{Fingerprint, read_once};

/// Name of the file that is read when none is named.
pub const DEFAULT_FILE: &str = "config.toml";

section! {
    /// The whole configuration.
    Config
    keys {}
    parts {
        /// The chain and the subnet.
        "network" => network: NetworkConfig;
        /// The hotkey that signs.
        "wallet" => wallet: WalletConfig;
        /// What is forecast.
        "stream" => stream: Vec<StreamConfig>;
        /// Where its candles come from.
        "feed" => feed: Vec<FeedConfig>;
        /// Columns of numbers beside the candles.
        "source" => source: Vec<SourceConfig>;
        /// What computes the forecasts, best first.
        "model" => model: Vec<ModelConfig>;
        /// The miner's part.
        "miner" => miner: MinerConfig;
        /// The validator's part.
        "validator" => validator: ValidatorConfig;
        /// What is kept on disk.
        "store" => store: StoreConfig;
        /// The operator's listener.
        "http" => http: HttpConfig;
        /// The log.
        "log" => log: LogConfig;
        /// Restarts and stop.
        "supervision" => supervision: SupervisionConfig;
        /// Reload of the file.
        "reload" => reload: ReloadConfig;
        /// The embedded network.
        "dev" => dev: DevConfig;
    }
}

/// A configuration with the file that it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Hash of the file's content.
    pub hash: Fingerprint,
    /// The file.
    pub path: PathBuf,
}

impl Config {
    /// Reads and checks `path` with the process's environment on top.
    ///
    /// Blocks the thread for as long as the disk takes.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every fault that was found, in the order of the file.
    pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
        Self::load_as(path, None)
    }

    /// Like [`Self::load`], with the rules that only hold in `role`.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every fault that was found, in the order of the file.
    pub fn load_for(role: Role, path: &Path) -> Result<Loaded, ConfigErrors> {
        Self::load_as(path, Some(role))
    }

    fn load_as(path: &Path, role: Option<Role>) -> Result<Loaded, ConfigErrors> {
        let (text, hash) = read_once(path).map_err(|error| unreadable(path, &error))?;
        let file = path.display().to_string();
        let config = Self::read(&text, &file, process_environment(), role)?;
        Ok(Loaded { config, hash, path: path.to_owned() })
    }

    /// Returns the built-in defaults with the process's environment on top, as if `path` were empty.
    ///
    /// # Errors
    /// [`ConfigErrors`] when a variable of the environment is faulty.
    pub fn load_defaults(path: &Path) -> Result<Loaded, ConfigErrors> {
        let config = Self::from_text("", "built-in defaults", process_environment())?;
        Ok(Loaded { config, hash: Fingerprint::of(b""), path: path.to_owned() })
    }

    /// Checks a text that was read from `file`, with the variables of `environment` on top.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every fault that was found, in the order of the file.
    pub fn from_text(
        text: &str,
        file: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        Self::read(text, file, environment, None)
    }

    /// Like [`Self::from_text`], with the rules that only hold in `role`.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every fault that was found, in the order of the file.
    pub fn from_text_for(
        role: Role,
        text: &str,
        file: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        Self::read(text, file, environment, Some(role))
    }

    /// Returns the commented text of this configuration, secrets redacted.
    pub fn to_commented_toml(&self) -> String {
        reference::reference(self)
    }

    /// Returns the paths of all keys, entries of lists without their number.
    pub fn key_paths() -> Vec<String> {
        let mut paths = Vec::new();
        <Self as Part>::paths("", &mut paths);
        paths
    }

    /// Returns the models of a stream, best first.
    pub fn models_of<'a>(&'a self, stream: &'a str) -> impl Iterator<Item = &'a ModelConfig> {
        self.model.iter().filter(move |model| model.stream == stream)
    }

    /// Returns what breaks the rules between keys, without places; empty for a loaded one.
    pub fn faults(&self) -> ConfigErrors {
        let mut reader = Reader::builtin();
        rules::check(self, &mut reader);
        reader.finish()
    }

    /// Returns the log's directory.
    pub fn log_dir(&self) -> PathBuf {
        self.log.dir.clone().unwrap_or_else(|| self.store.path.join("log"))
    }

    fn read(
        text: &str,
        file: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        role: Option<Role>,
    ) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(file, text, environment, Self::key_paths());
        // A list of streams without models or feeds keeps the built-in ones that still have their
        // stream.
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(error) => {
                reader.syntax(&error);
                return Err(reader.finish_without_environment());
            }
        };
        let mut config: Self = Part::read(&mut reader, "", Some(document.as_item()));
        let streams = &config.stream;
        if document.get("feed").is_none() {
            config.feed.retain(|feed| streams.iter().any(|stream| stream.id == feed.stream));
        }
        if document.get("model").is_none() {
            config.model.retain(|model| streams.iter().any(|stream| stream.id == model.stream));
        }
        rules::check(&config, &mut reader);
        if let Some(role) = role {
            rules::check_role(&config, role, &mut reader);
        }
        let errors = reader.finish();
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }
}

/// Returns the variables of the process that override keys.
pub fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            // A value that is not UTF-8 becomes one that no key takes, and is reported as such.
            name.starts_with(ENV_PREFIX).then(|| (name, value.to_string_lossy().into_owned()))
        })
        .collect()
}

fn unreadable(path: &Path, error: &std::io::Error) -> ConfigErrors {
    let file = path.display().to_string();
    let (reason, hint) = if error.kind() == std::io::ErrorKind::NotFound {
        (
            "there is no such file".to_owned(),
            "name one with --config FILE, or write the defaults with \
             `forecastd check-config --defaults > config.toml`",
        )
    } else {
        (format!("cannot be read: {error}"), "check its kind, size and permissions")
    };
    ConfigErrors::whole_file(&file, reason, Some(hint.to_owned()))
}
