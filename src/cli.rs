//! The command line: what can be asked, not how it is done.
//!
//! Every command has an example in its help. Wrong use ends with exit code 64, help and version
//! with 0.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum};
use forecastd_core::{FeatureSpec, Role};

use crate::config::text::{is_name, parse_duration, parse_time};
use crate::config::{Config, ConfigErrors, DEFAULT_FILE, Loaded, LogLevel, UtcTime};
use crate::exit::Exit;

mod history;

pub use history::{
    FeedCommand, FeedTailArgs, HistoryCommand, HistoryExportArgs, HistoryFetchArgs,
    HistoryImportArgs, HistoryVerifyArgs,
};

/// One supervised daemon for forecasting subnets: miner, validator and an embedded network.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(
    name = "forecastd",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Examples:
  forecastd dev --for 24h              a whole day of the embedded network in 2.5 minutes
  forecastd run miner                  mine with config.toml of the working directory
  forecastd check-config               find every fault of config.toml"
)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct GlobalArgs {
    /// Configuration file [default: config.toml]
    #[arg(long, global = true, value_name = "FILE", display_order = 90)]
    pub config: Option<PathBuf>,
    /// Data directory, instead of `store.path` of the configuration
    #[arg(long, global = true, value_name = "DIR", display_order = 91)]
    pub data_dir: Option<PathBuf>,
}

/// Everything that can be asked.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Run the whole network on this machine: exchange, chain, validator and miners.
    Dev(DevArgs),
    /// Run the daemon.
    Run(RunArgs),
    /// Find every fault of a configuration file.
    CheckConfig(CheckConfigArgs),
    /// Ask the running daemon how it is.
    Status(StatusArgs),
    /// Show the daemon's log and follow it across rotation.
    Logs(LogsArgs),
    /// Look at rounds and compute them again.
    #[command(subcommand)]
    Rounds(RoundsCommand),
    /// Show every miner's standing.
    Scores(ScoresArgs),
    /// Train, compare and list models.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Candles from exchanges and files: fetch, read, write and check them.
    #[command(subcommand)]
    History(HistoryCommand),
    /// Look at live market data.
    #[command(subcommand)]
    Feed(FeedCommand),
    /// Check, save, restore and repair the data directory of a stopped daemon.
    #[command(subcommand)]
    Store(StoreCommand),
}

/// Options of `dev`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:
  forecastd dev                                 run until Ctrl-C
  forecastd dev --for 72h --seed 1 --json       three days of market time, one event a line
  forecastd dev --data-dir var/net             continue a network that was stopped

Exit code 0 if every round that fell due was settled, 1 if not.")]
pub struct DevArgs {
    /// Market time for one unit of real time [default: 600, `dev.speed` of the configuration]
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    pub speed: Option<f64>,
    /// Stop after this much market time, for example 24h
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub run_for: Option<Duration>,
    /// Seed of everything random [default: 1, `dev.seed` of the configuration]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Print one event a line as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  forecastd run miner --config /etc/forecastd/config.toml
  forecastd run validator --data-dir /var/lib/forecastd

Signals: TERM and INT stop, HUP reads the configuration and restarts the actors in place,
USR1 reopens the log file, QUIT writes the state to the log.")]
pub struct RunArgs {
    /// What the daemon does on its network
    #[arg(value_name = "ROLE", value_parser = role_parser())]
    pub role: Role,
    /// Print one event a line as JSON
    #[arg(long)]
    pub json: bool,
}

fn role_parser() -> impl clap::builder::TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|text| {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or("not a role")
    })
}

/// Options of `check-config`.
#[expect(clippy::struct_excessive_bools, reason = "one a flag of the command line")]
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  forecastd check-config                            check config.toml, exit code 0 or 78
  forecastd check-config /etc/forecastd/config.toml --online
  forecastd check-config --defaults > config.toml   write a file with every key explained")]
pub struct CheckConfigArgs {
    /// File to check, instead of --config
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only the file: open no socket and no key (this is the default)
    #[arg(long, conflicts_with = "online")]
    pub offline: bool,
    /// Also read the hotkey, bind the listeners' addresses and ask the chain for its head
    #[arg(long)]
    pub online: bool,
    /// Print the defaults as a commented file instead
    #[arg(long, conflicts_with_all = ["file", "offline", "online", "json"])]
    pub defaults: bool,
    /// Print the faults as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Example:
  forecastd status --json --data-dir /var/lib/forecastd")]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `logs`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  forecastd logs -f --level warn
  forecastd logs --actor feed --lines 200")]
pub struct LogsArgs {
    /// Go on with new lines, across rotation
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines of this severity or worse
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub level: Option<LogLevel>,
    /// Only lines of this actor
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Last lines to begin with
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    pub lines: usize,
    /// Print the lines as they are in the file
    #[arg(long)]
    pub json: bool,
}

impl ValueEnum for LogLevel {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.as_str()))
    }
}

/// What can be done with rounds.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RoundsCommand {
    /// List rounds, newest first.
    #[command(after_help = "Example:
  forecastd rounds list --limit 10 --json")]
    List(RoundsListArgs),
    /// Show one round: what was asked, answered and scored.
    #[command(after_help = "Example:
  forecastd rounds show 6f1c0a52-8a44-4d6e-9c3b-3f1d8f6e7a11")]
    Show(RoundsShowArgs),
    /// Compute scores again from the stored inputs and compare them bit for bit.
    #[command(after_help = "Examples:
  forecastd rounds replay --all
  forecastd rounds replay 6f1c0a52-8a44-4d6e-9c3b-3f1d8f6e7a11 --json

Exit code 1 on any difference.")]
    Replay(RoundsReplayArgs),
}

/// Options of `rounds list`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RoundsListArgs {
    /// Only rounds of this stream
    #[arg(long, value_name = "STREAM", value_parser = name)]
    pub stream: Option<String>,
    /// Most rounds to list
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub limit: usize,
    /// Print JSON, one array
    #[arg(long)]
    pub json: bool,
}

/// Options of `rounds show`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RoundsShowArgs {
    /// The round's id, or its beginning
    #[arg(value_name = "ID", value_parser = round_id)]
    pub id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `rounds replay`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RoundsReplayArgs {
    /// The round's id, or its beginning
    #[arg(value_name = "ID", required_unless_present = "all", value_parser = round_id)]
    pub id: Option<String>,
    /// All rounds that were scored
    #[arg(long, conflicts_with = "id")]
    pub all: bool,
    /// Print JSON, one array
    #[arg(long)]
    pub json: bool,
}

/// Options of `scores`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Example:
  forecastd scores --stream BTCUSD-5m --json")]
pub struct ScoresArgs {
    /// Only this stream
    #[arg(long, value_name = "STREAM", value_parser = name)]
    pub stream: Option<String>,
    /// Print JSON, one array
    #[arg(long)]
    pub json: bool,
}

/// What can be done with models.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ModelCommand {
    /// Train a checkpoint on recorded candles.
    #[command(after_help = "Example:
  forecastd model train --data data/btcusd-5m.csv.gz --name mine --to 2024-12-20 --epochs 5")]
    Train(ModelTrainArgs),
    /// Compare models on recorded candles.
    #[command(after_help = "Example:
  forecastd model backtest --data data/btcusd-5m.csv.gz --model lstm-small --model last \\
      --from 2025-01-02 --json")]
    Backtest(ModelBacktestArgs),
    /// List the configured models and the checkpoints beside them.
    #[command(after_help = "Example:
  forecastd model list --json")]
    List(ModelListArgs),
}

/// Options of `model train`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ModelTrainArgs {
    /// Candles, CSV (plain, .gz, .zst, .bz2), Parquet or .taosfs
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Directory that gets the checkpoint's folder
    #[arg(long, value_name = "DIR", default_value = "models/checkpoints")]
    pub out: PathBuf,
    /// Name of the checkpoint and its folder
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: String,
    /// Most passes over the data, 1 to 1000 [default: the trainer's]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub epochs: Option<u32>,
    /// First candle to use, a date or a time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<UtcTime>,
    /// Candles from here on are not trained on; the result is tested on them
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<UtcTime>,
    /// What the network reads of each candle, for example `--features close volume 'rsi(14)'
    /// 'column(funding)'`; columns come from the `source` entries of the configuration [default:
    /// returns, volumes and ranges of the candles and the time of day]
    #[arg(long, value_name = "FEATURE", num_args = 1..)]
    pub features: Vec<FeatureSpec>,
    /// Seed of everything random
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Replace a checkpoint of this name
    #[arg(long)]
    pub force: bool,
    /// Print progress and report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `model backtest`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ModelBacktestArgs {
    /// Candles, CSV (plain, .gz, .zst, .bz2), Parquet or .taosfs
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// A model of the configuration, last, drift, ema, a checkpoint's name or the path of its
    /// folder; can be repeated [default: all of the configuration]
    #[arg(long = "model", value_name = "NAME")]
    pub models: Vec<String>,
    /// First forecast, a date or a time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<UtcTime>,
    /// Forecasts from here on are left out
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<UtcTime>,
    /// Directory that gets the report
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print one JSON object a model
    #[arg(long)]
    pub json: bool,
}

/// Options of `model list`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ModelListArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// What can be done with the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum StoreCommand {
    /// Read every row and compare number and checksums with the books.
    #[command(after_help = "Example:
  forecastd store verify --data-dir /var/lib/forecastd

The daemon must be stopped. Exit code 74 when anything is damaged, 75 while a daemon runs.")]
    Verify(StoreVerifyArgs),
    /// Write everything to one file with checksums: a backup.
    #[command(after_help = "Example:
  forecastd store export backup.store --data-dir /var/lib/forecastd

The daemon must be stopped. The file appears when it is complete; none is replaced.")]
    Export(StoreFileArgs),
    /// Read an exported file into a new data directory.
    #[command(after_help = "Example:
  forecastd store import backup.store --data-dir /var/lib/forecastd-restored

The directory must not exist or be empty; it appears when every row was verified.")]
    Import(StoreFileArgs),
    /// Set the database's snapshots aside, open it from its log and verify it; deletes nothing.
    #[command(after_help = "Example:
  forecastd store repair --data-dir /var/lib/forecastd

The daemon must be stopped. Helps when the store cannot be opened, or has lost what it had
acknowledged; copy the directory first. Exit code 74 when it is still damaged afterwards.")]
    Repair(StoreVerifyArgs),
}

/// Options of `store verify` and `store repair`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StoreVerifyArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `store export` and `store import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StoreFileArgs {
    /// The exported file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What holds when no file was named and the working directory has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingFile {
    /// It is an error: the daemon never runs on guesses.
    Refuse,
    /// The defaults, which describe the embedded network.
    UseDefaults,
}

impl GlobalArgs {
    /// Returns the configuration file's path.
    pub fn config_path(&self) -> &Path {
        self.config.as_deref().unwrap_or_else(|| Path::new(DEFAULT_FILE))
    }

    /// Reads the configuration and puts `--data-dir` on top.
    ///
    /// Reads the disk; not for an actor's thread.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every fault, as [`Config::load`].
    pub fn load(&self, missing: MissingFile) -> Result<Loaded, ConfigErrors> {
        let path = self.config_path();
        let is_missing = self.config.is_none() && !path.exists();
        let mut loaded = if is_missing && missing == MissingFile::UseDefaults {
            Config::load_defaults(path)?
        } else {
            Config::load(path)?
        };
        self.apply(&mut loaded.config);
        Ok(loaded)
    }

    /// Reads the configuration for a daemon in `role`, which must have a file.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every fault, as [`Config::load_for`].
    pub fn load_for(&self, role: Role) -> Result<Loaded, ConfigErrors> {
        let mut loaded = Config::load_for(role, self.config_path())?;
        self.apply(&mut loaded.config);
        Ok(loaded)
    }

    /// Puts the options on top of a configuration, for a reload too.
    pub fn apply(&self, config: &mut Config) {
        if let Some(dir) = &self.data_dir {
            config.store.path.clone_from(dir);
        }
    }
}

/// Reads the command line.
///
/// # Errors
/// The exit code to end with: [`Exit::Done`] after help or version, [`Exit::Usage`] for wrong use.
/// The text has been printed by then.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(arguments).map_err(|error| {
        // A closed pipe is no reason for another exit code.
        drop(error.print());
        if error.use_stderr() { Exit::Usage } else { Exit::Done }
    })
}

/// A text that an option does not take.
#[derive(Debug, thiserror::Error)]
#[error("must be {0}")]
struct Refused(&'static str);

fn duration(text: &str) -> Result<Duration, Refused> {
    let refused = Refused("a duration above zero such as 90m, 24h or 3d");
    parse_duration(text).filter(|span| !span.is_zero()).ok_or(refused)
}

fn speed(text: &str) -> Result<f64, Refused> {
    let in_range = |speed: &f64| (1.0..=100_000.0).contains(speed);
    text.parse().ok().filter(in_range).ok_or(Refused("a number in 1..100000"))
}

fn time(text: &str) -> Result<UtcTime, Refused> {
    parse_time(text)
        .ok_or(Refused("a date such as 2025-01-02 or a time such as 2025-01-02T00:00:00Z"))
}

fn name(text: &str) -> Result<String, Refused> {
    let refused = Refused("1 to 64 letters, digits, `.`, `_` or `-`");
    if is_name(text) { Ok(text.to_owned()) } else { Err(refused) }
}

fn round_id(text: &str) -> Result<String, Refused> {
    let refused = Refused("the beginning of a round's id: hexadecimal digits and `-`");
    let allowed = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let is_id = (1..=36).contains(&text.len()) && text.bytes().all(allowed);
    // Ids are written in lower case.
    if is_id { Ok(text.to_ascii_lowercase()) } else { Err(refused) }
}

#[cfg(test)]
mod tests;
