//! Sections of the process: store, operator's listener, log, supervision, reload, development
//! network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::diff::ReloadClass::{Live, Part, Start};
use crate::config::section::section;
use crate::config::text::{ByteSize, UtcTime};
use crate::config::value::Rule::{Any, Float, Int, Size, Span};
use crate::config::value::choices;

choices! {
    /// Least severe lines that are logged.
    LogLevel, "one of error, warn, info, debug, trace" {
        /// The operator must act.
        Error = "error",
        /// A loss that was recovered from.
        Warn = "warn",
        /// Steps of the life cycle and of rounds.
        Info = "info",
        /// Details for developers.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choices! {
    /// How the log looks on standard error.
    LogFormat, "one of auto, human, json" {
        /// Human text on a terminal, JSON lines otherwise.
        Auto = "auto",
        /// Human text.
        Human = "human",
        /// JSON lines.
        Json = "json",
    }
}

choices! {
    /// What a miner of the embedded network does.
    DevMiner, "one of model, last, drift, ema, copier, liar, silent, late" {
        /// Answers with the first model of the stream.
        Model = "model",
        /// Answers with the last close.
        Last = "last",
        /// Answers with the drift baseline.
        Drift = "drift",
        /// Answers with the moving average.
        Ema = "ema",
        /// Repeats another miner's commitment.
        Copier = "copier",
        /// Answers NaN, infinity or the wrong length.
        Liar = "liar",
        /// Accepts connections and never answers.
        Silent = "silent",
        /// Answers after the time-out.
        Late = "late",
    }
}

section! {
    /// What the daemon keeps on disk.
    StoreConfig
    keys {
        /// Data directory, on a local disk; one process at a time.
        path: PathBuf = "var/forecastd", Any, "", Start;
        /// Memory for the cache of each of the two databases.
        cache: ByteSize = "64MiB", Size("1MiB", "16GiB"), "", Start;
        /// How long candles, scored answers and their rounds are kept.
        retention: Duration = "30d", Span("2d", "3650d"), "market time", Live;
        /// No new round is opened while less than this is free on the disk.
        floor: ByteSize = "256MiB", Size("0B", "1TiB"), "", Live;
    }
    parts {}
}

section! {
    /// The operator's listener: health, status and the read-only interface.
    HttpConfig
    keys {
        /// Address that it binds; port 0 takes any free one, see the address file in the data
        /// directory.
        listen: SocketAddr = "127.0.0.1:8092", Any, "", Start;
        /// Whether `listen` may be reachable from other machines. There is no password: put a
        /// proxy with one in front.
        allow_remote: bool = false, Any, "", Start;
        /// A request that is not answered by then is refused.
        request_timeout: Duration = "10s", Span("100ms", "2m"), "", Start;
        /// Most open connections.
        max_connections: usize = 256, Int(1, 65536), "connections", Start;
    }
    parts {}
}

section! {
    /// The log: standard error, and JSON lines in a file that is rotated.
    LogConfig
    keys {
        /// Least severe lines that are logged.
        level: LogLevel = "info", Any, "", Live;
        /// Look on standard error; the file always holds JSON lines.
        format: LogFormat = "auto", Any, "", Start;
        /// Directory of `forecastd.log`; `log` in the data directory when empty.
        dir: Option<PathBuf> = "", Any, "", Start;
        /// Size at which the file is renamed to `forecastd.log.1` and a new one is begun.
        rotate_size: ByteSize = "32MiB", Size("4KiB", "4GiB"), "", Live;
        /// Renamed files that are kept, so that the log never needs more than
        /// `rotate_size` × (`rotate_files` + 1).
        rotate_files: u32 = 5, Int(1, 64), "files", Live;
    }
    parts {}
}

section! {
    /// Restarts of actors that fail, and how the daemon stops.
    SupervisionConfig
    keys {
        /// Restarts of one actor within the window; with more an essential actor ends the daemon
        /// (exit 70), any other one is left out.
        restart_budget: usize = 5, Int(1, 1000), "restarts", Live;
        /// Length of the window.
        restart_window: Duration = "1m", Span("1s", "1d"), "", Live;
        /// Wait before the first restart; doubles with each one in the window.
        backoff_min: Duration = "100ms", Span("1ms", "1m"), "", Live;
        /// Greatest wait before a restart.
        backoff_max: Duration = "30s", Span("1ms", "10m"), "", Live;
        /// An actor without progress for this long counts as hung and is replaced.
        hang_limit: Duration = "30s", Span("5s", "10m"), "", Live;
        /// Longest graceful stop; keep it below the service manager's own limit.
        stop_timeout: Duration = "25s", Span("1s", "10m"), "", Live;
    }
    parts {}
}

section! {
    /// Reload of this file when it is saved. SIGHUP works in any case.
    ReloadConfig
    keys {
        /// Whether the file is watched.
        watch: bool = true, Any, "", Part("config_watch");
        /// Quiet time after a change before the file is read.
        debounce: Duration = "500ms", Span("10ms", "1m"), "", Part("config_watch");
        /// How often the file is looked at.
        poll: Duration = "1s", Span("50ms", "10m"), "", Part("config_watch");
    }
    parts {}
}

section! {
    /// The embedded network of `forecastd dev`; unused by `forecastd run`.
    DevConfig
    keys {
        /// Market time for one unit of real time.
        speed: f64 = 600.0, Float(1.0, 100_000.0), "times real time", Start;
        /// Market time at which a new network begins; a network that is continued goes on where it
        /// stopped.
        start: UtcTime = "2023-03-03T00:00:00Z", Any, "", Start;
        /// Candles to replay: a file of any form that `history` reads for all exchanges, or a folder
        /// with one for each, such as `kraken-5m.csv.gz`; the built-in recording of March 2023 when empty.
        data: Option<PathBuf> = "", Any, "", Start;
        /// The miners, each with its own hotkey.
        miners: Vec<DevMiner> = ["model", "last", "drift", "copier", "liar", "silent"], Any, "", Start;
        /// Time between two blocks of the chain.
        block_time: Duration = "250ms", Span("10ms", "1m"), "real time", Start;
        /// Blocks between two epochs of the chain.
        tempo: u16 = 40, Int(1, 50400), "blocks", Start;
        /// Least number of blocks between two weight settings.
        weights_rate_limit: u64 = 4, Int(0, 50400), "blocks", Start;
        /// Seed of everything random.
        seed: u64 = 1, Int(0, 9_223_372_036_854_775_807), "", Start;
    }
    parts {}
}
