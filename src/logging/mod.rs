//! The daemon's log: human text or JSON lines on standard error, JSON lines in a rotated file.
//!
//! One layer formats each event once a shape and hands it to its sinks. A JSON line has `ts` (UTC,
//! ms), `level`, `actor`, `event` (the phrase, or the field of that name) and the event's own
//! fields, those of the surrounding spans first. Warnings and errors that repeat at one place of
//! the code are held back above [`BURST`] a [`WINDOW_MS`] and counted in `repeated`.
//!
//! Writing is direct: a line is in the kernel when the call returns, so a killed process loses
//! none. Limits: [`MAX_TEXT`] bytes a value, so that a line stays below what the tail accepts.

mod layer;
mod line;
mod rotation;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;

use forecastd_core::Clock;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use crate::config::{Config, LogConfig, LogFormat, LogLevel};

pub use layer::{BURST, LogLayer, Shape, Sink, WINDOW_MS};
pub use line::{MAX_TEXT, human};
pub(crate) use rotation::numbered;
pub use rotation::{RotatingFile, RotationLimits};

/// Name of the log file; rotated ones get `.1`, `.2`, … appended, a greater number is older.
pub const LOG_FILE: &str = "forecastd.log";

/// Crates that say too much at `info` and `debug`: their own worst lines are enough.
const QUIET: [&str; 12] = [
    "sled",
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
    "tungstenite",
    "tokio_tungstenite",
    "jsonrpsee",
    "actix_server",
    "actix_http",
    "soketto",
    "reqwest",
];

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("log file {path} cannot be opened: {source}; check log.dir and its permissions")]
    File {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice,
}

/// The handle to the process's log, kept by the one who owns the signals and the reload.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    layer: LogLayer,
    file: Option<RotatingFile>,
}

impl LogHandle {
    /// Applies the keys that can change while the daemon runs: level, size and number of files.
    pub fn apply(&self, config: &LogConfig) {
        // The handle only fails when the subscriber is gone, with the process.
        drop(self.filter.reload(targets(config.level)));
        if let Some(file) = &self.file {
            file.set_limits(limits(config));
        }
    }

    /// Opens the log file anew, after something else renamed it (SIGUSR1).
    ///
    /// # Errors
    /// Those of opening; the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), RotatingFile::reopen)
    }

    /// Writes the counts of lines that are still held back; call it last.
    pub fn flush(&self) {
        self.layer.flush();
    }

    /// Returns how often writing a line or rotating a file failed.
    pub fn write_errors(&self) -> u64 {
        self.layer.write_errors()
    }
}

/// Sets up the log of the process: standard error and the rotated file of `config`.
///
/// # Errors
/// [`LogError`] when the file cannot be opened or the process has a log already.
pub fn init(config: &Config, clock: Arc<dyn Clock>) -> Result<LogHandle, LogError> {
    let path = config.log_dir().join(LOG_FILE);
    let file = RotatingFile::open(&path, limits(&config.log))
        .map_err(|source| LogError::File { path: path.display().to_string(), source })?;
    let sinks = vec![
        Sink::new(console_shape(config.log.format), Box::new(io::stderr())),
        Sink::new(Shape::Json, Box::new(file.clone())),
    ];
    let layer = LogLayer::new(sinks, clock);
    let (targets, filter) = reload::Layer::new(targets(config.log.level));
    let subscriber = tracing_subscriber::registry().with(layer.clone().with_filter(targets));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(LogHandle { filter, layer, file: Some(file) })
}

/// Tells whether people read standard error, with colours or without.
pub fn console_shape(format: LogFormat) -> Shape {
    let is_terminal = io::stderr().is_terminal();
    let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    match format {
        LogFormat::Human => Shape::Human { has_colour },
        LogFormat::Auto if is_terminal => Shape::Human { has_colour },
        LogFormat::Auto | LogFormat::Json => Shape::Json,
    }
}

/// Returns the path of the log file of `config`.
pub fn log_path(config: &Config) -> std::path::PathBuf {
    Path::new(&config.log_dir()).join(LOG_FILE)
}

/// Writes a panic as one line; the default text of several lines would break JSON lines.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let reason = panic.payload_as_str().unwrap_or("no text");
    tracing::error!(actor = "panic", thread, location, reason, "panic");
}

fn limits(config: &LogConfig) -> RotationLimits {
    RotationLimits { size: config.rotate_size.bytes(), files: config.rotate_files }
}

fn targets(level: LogLevel) -> Targets {
    let filter = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let quiet = filter.min(LevelFilter::WARN);
    Targets::new().with_default(filter).with_targets(QUIET.map(|name| (name, quiet)))
}

#[cfg(test)]
mod tests;
