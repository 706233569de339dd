//! A trained network on disk: `config.json`, `model.bpk` (Burnpack record), `README.md` (model card).
//!
//! A checkpoint may come from anyone. Loading reads no more bytes than the architecture can need,
//! compares the record's hash, every shape and every value, and turns a panic of the record parser
//! into an error. The configuration is written last, so a directory that was cut short is refused.

use std::fs::{self, File};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use forecastd_core::Interval;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::card;
use crate::features::Scaling;
use crate::frozen::{FreezeError, FrozenNetwork};
use crate::network::{LstmNetwork, NetworkConfig, NetworkConfigError};
use crate::sparse::OUTPUT_POINTS;
use crate::train::TrainReport;

/// File of the configuration inside a checkpoint directory.
pub const CONFIG_FILE: &str = "config.json";
/// File of the weights inside a checkpoint directory.
pub const RECORD_FILE: &str = "model.bpk";
/// File of the model card inside a checkpoint directory.
pub const CARD_FILE: &str = "README.md";
/// Version of the directory's layout that this code reads and writes.
pub const FORMAT: u32 = 1;

const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Room for names, shapes and alignment beside the weights themselves.
const RECORD_OVERHEAD_BYTES: u64 = 1 << 16;
const MAX_NAME_CHARS: usize = 64;
const MAX_CHECKPOINT_HORIZON: usize = 1_000;
const MAX_EVALUATIONS: usize = 32;

/// Everything about a checkpoint but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Version of the layout, [`FORMAT`].
    pub format: u32,
    /// Name of the model.
    pub name: String,
    /// Length of the candles that it was trained on, ms.
    #[serde(rename = "interval_ms")]
    pub interval: Interval,
    /// Closes that it forecasts.
    pub horizon: usize,
    /// The architecture.
    pub network: NetworkConfig,
    /// Statistics of the training span.
    pub scaling: Scaling,
    /// Factor 0..=1 on every correction, chosen on the validation span: 0 is the persistence
    /// baseline.
    pub shrink: f64,
    /// How it was trained.
    pub training: TrainReport,
    /// Back-tests on candles after the training, in the order they were made.
    pub evaluations: Vec<Evaluation>,
    /// SHA-256 of [`RECORD_FILE`], lower-case hex.
    pub record_sha256: String,
}

/// One back-test of a checkpoint on candles that its training did not see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// What was tested, for people.
    pub label: String,
    /// First start of a forecast, ms since the epoch.
    pub from_ms: i64,
    /// Close time of the last realised candle, ms since the epoch.
    pub to_ms: i64,
    /// Distance between the starts, candles.
    pub stride: usize,
    /// Scored forecasts.
    pub windows: usize,
    /// Mean weighted RMSE, quote currency.
    pub weighted_rmse: f64,
    /// The same over the persistence baseline's; below 1 is better than the last close.
    pub ratio_to_last: f64,
    /// Standard error of the ratio.
    pub ratio_se: Option<f64>,
    /// Share of windows whose direction was right.
    pub directional_accuracy: Option<f64>,
}

/// A network with its configuration.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Everything but the weights.
    pub config: CheckpointConfig,
    /// The weights.
    pub network: LstmNetwork,
}

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than its content can need.
    #[error("{path} is larger than {limit} bytes, it is not a file of this model")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Greatest size that is read.
        limit: u64,
    },
    /// The configuration is not the JSON that is expected.
    #[error("{path} is not a checkpoint configuration")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The layout is newer or older than this code.
    #[error("checkpoint has format {got}, this program reads {FORMAT}")]
    Format {
        /// The version found.
        got: u32,
    },
    /// A value of the configuration is out of range.
    #[error("checkpoint key `{key}` is {value}, must be {range}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// The architecture is out of range.
    #[error("checkpoint describes no usable network")]
    Network(#[from] NetworkConfigError),
    /// The record is not the one that the configuration was written with.
    #[error("{path} has SHA-256 {got}, the configuration says {want}; copy the checkpoint again")]
    Hash {
        /// The record.
        path: PathBuf,
        /// Hash of the file.
        got: String,
        /// Hash in the configuration.
        want: String,
    },
    /// The record cannot be parsed or does not fit the architecture.
    #[error("{path} is not a record of this network: {reason}")]
    Record {
        /// The record.
        path: PathBuf,
        /// What the record parser says.
        reason: String,
    },
    /// The weights have wrong shapes or values.
    #[error("checkpoint holds unusable weights")]
    Weights(#[from] FreezeError),
}

impl CheckpointConfig {
    /// Checks every value that a forecast depends on.
    ///
    /// # Errors
    /// [`CheckpointError`] names the first bad key.
    pub fn validate(&self) -> Result<(), CheckpointError> {
        if self.format != FORMAT {
            return Err(CheckpointError::Format { got: self.format });
        }
        check_name(&self.name)?;
        self.network.validate()?;
        let bad = |key, value: String, range| Err(CheckpointError::Value { key, value, range });
        if !(OUTPUT_POINTS..=MAX_CHECKPOINT_HORIZON).contains(&self.horizon) {
            return bad("horizon", self.horizon.to_string(), "10..=1000");
        }
        if !(0.0..=1.0).contains(&self.shrink) {
            return bad("shrink", self.shrink.to_string(), "0..=1");
        }
        let listed = self.network.features.as_ref().map_or(0, |set| set.names().len());
        if self.scaling.features.len() != listed {
            let got = format!("{} entries", self.scaling.features.len());
            return bad("scaling.features", got, "one entry for each of network.features");
        }
        if let Some((key, value)) = self.scaling.first_bad() {
            return bad(key, value.to_string(), "finite and above 0");
        }
        if self.evaluations.len() > MAX_EVALUATIONS {
            return bad("evaluations", self.evaluations.len().to_string(), "at most 32 entries");
        }
        Ok(())
    }

    /// Reads and checks the configuration of the checkpoint in `directory`, not its weights.
    ///
    /// # Errors
    /// [`CheckpointError`] names the file and the fault.
    pub fn read(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(CONFIG_FILE);
        let bytes = read_bounded(&path, MAX_CONFIG_BYTES)?;
        let config: Self = serde_json::from_slice(&bytes)
            .map_err(|source| CheckpointError::Json { path, source })?;
        config.validate()?;
        Ok(config)
    }
}

impl Checkpoint {
    /// Reads and checks the checkpoint in `directory`.
    ///
    /// # Errors
    /// [`CheckpointError`] names the file and the fault; nothing of a bad checkpoint is kept.
    pub fn load(directory: &Path) -> Result<Self, CheckpointError> {
        let config = CheckpointConfig::read(directory)?;
        let path = directory.join(RECORD_FILE);
        let weights_bytes = config.network.parameters() as u64 * 8;
        let bytes = read_bounded(&path, weights_bytes + RECORD_OVERHEAD_BYTES)?;
        let got = sha256_hex(&bytes);
        if got != config.record_sha256 {
            let want = config.record_sha256.chars().take(64).collect();
            return Err(CheckpointError::Hash { path, got, want });
        }
        let network = parse_record(bytes, &config.network)
            .map_err(|reason| CheckpointError::Record { path, reason })?;
        FrozenNetwork::new(&network, &config.network)?;
        Ok(Self { config, network })
    }

    /// Writes the checkpoint into `directory`, creating it; replaces what is there.
    ///
    /// Each file appears whole or not at all; the configuration, which holds the record's hash,
    /// comes last.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] names the file.
    pub fn save(&mut self, directory: &Path) -> Result<(), CheckpointError> {
        let io_error = |path: &Path, source| CheckpointError::Io { path: path.to_owned(), source };
        fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
        let path = directory.join(RECORD_FILE);
        let record = self.network.valid().into_record().into_bytes().map_err(|error| {
            CheckpointError::Record { path: path.clone(), reason: error.to_string() }
        })?;
        self.config.record_sha256 = sha256_hex(&record);
        self.config.validate()?;
        let config_path = directory.join(CONFIG_FILE);
        let mut json = serde_json::to_vec_pretty(&self.config)
            .map_err(|source| CheckpointError::Json { path: config_path.clone(), source })?;
        json.push(b'\n');
        write_whole(&path, &record)?;
        write_whole(&directory.join(CARD_FILE), card::text(&self.config).as_bytes())?;
        write_whole(&config_path, &json)
    }
}

/// Checks that a model's name can be a directory's name.
pub(crate) fn check_name(name: &str) -> Result<(), CheckpointError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.bytes().all(allowed) {
        return Err(CheckpointError::Value {
            key: "name",
            value: format!("{:?}", name.chars().take(MAX_NAME_CHARS).collect::<String>()),
            range: "1..=64 characters of a-z, 0-9 and -",
        });
    }
    Ok(())
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, CheckpointError> {
    let io_error = |source| CheckpointError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io_error)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells "too large" without trusting the size that the system says.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() as u64 > limit {
        return Err(CheckpointError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let io_error = |source| CheckpointError::Io { path: path.to_owned(), source };
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes).map_err(io_error)?;
    File::open(&temporary).and_then(|file| file.sync_all()).map_err(io_error)?;
    fs::rename(&temporary, path).map_err(io_error)
}

fn parse_record(bytes: Vec<u8>, config: &NetworkConfig) -> Result<LstmNetwork, String> {
    let parse = || -> Result<LstmNetwork, String> {
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes))
            .map_err(|error| error.to_string())?
            .cast_to_module_dtype();
        // The values of the template do not matter: a record that leaves one unset is refused.
        let template = LstmNetwork::new(config, &mut StdRng::seed_from_u64(0), &Device::flex());
        template.try_load_record(record).map_err(|error| error.to_string())
    };
    catch_unwind(AssertUnwindSafe(parse))
        .unwrap_or_else(|_| Err("the record parser panicked on it".to_owned()))
}

fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
