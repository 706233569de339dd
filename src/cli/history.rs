//! Options of `history` and `feed`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand};
use forecastd_core::Interval;
use forecastd_exchange::Exchange;

use super::{duration, name, time};
use crate::config::UtcTime;

fn exchange() -> impl TypedValueParser<Value = Exchange> {
    PossibleValuesParser::new(Exchange::ALL.map(Exchange::as_str))
        .try_map(|text| text.parse::<Exchange>())
}

fn interval(text: &str) -> Result<Interval, forecastd_core::GridError> {
    text.parse()
}

/// What can be done with recorded candles.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum HistoryCommand {
    /// Fetch candles from an exchange into a file or a stopped daemon's store.
    #[command(after_help = "Examples:
  forecastd history fetch --exchange binance --from 2025-01-01 --to 2025-02-01 --out btc.parquet
  forecastd history fetch --exchange bybit --interval 1m --from 2025-01-01 --out btc-1m.csv.zst
  forecastd history fetch --exchange binance --from 2025-01-01 --stream BTCUSD-5m \\
      --data-dir /var/lib/forecastd

Killed at any instant, the same command goes on where it was: FILE.part, or the store, is its memory.
The daemon forgets candles that are older than `store.retention`. Exit code 1 when not everything was
fetched.")]
    Fetch(HistoryFetchArgs),
    /// Read a file of candles into a stopped daemon's store, or write it in another form.
    #[command(after_help = "Examples:
  forecastd history import btc.csv.gz --stream BTCUSD-5m --data-dir /var/lib/forecastd
  forecastd history import btc-1m.csv --out btc-15m.parquet --interval 15m

Reads CSV (plain, .gz, .zst, .bz2), Parquet and .taosfs; writes .csv, .csv.gz, .csv.zst and .parquet.
Columns are found by their names; times are ms, s, us, ns or ISO 8601, UTC, of the candle's opening.
What was received live stays; everything else in the store is replaced.")]
    Import(HistoryImportArgs),
    /// Write a stream's candles to a file.
    #[command(after_help = "Example:
  forecastd history export --stream BTCUSD-5m --interval 1h --out btc-1h.csv.gz --data-dir var/dev

Works on a running and on a stopped daemon.")]
    Export(HistoryExportArgs),
    /// Report gaps, flat runs, and rows that are faulty, twice or out of order.
    #[command(after_help = "Examples:
  forecastd history verify data/btcusd-5m.csv.gz --json
  forecastd history verify --stream BTCUSD-5m --data-dir var/dev

Exit code 1 when a candle is missing or faulty.")]
    Verify(HistoryVerifyArgs),
}

/// Options of `history fetch`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub struct HistoryFetchArgs {
    /// Where to fetch from
    #[arg(long, value_name = "NAME", value_parser = exchange())]
    pub exchange: Exchange,
    /// The exchange's name of the market [default: its main market of bitcoin]
    #[arg(long, value_name = "SYMBOL")]
    pub symbol: Option<String>,
    /// Length of a candle, one that the exchange has [default: the stream's, or 5m]
    #[arg(long, value_name = "INTERVAL", value_parser = interval)]
    pub interval: Option<Interval>,
    /// First candle, a date or a time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: UtcTime,
    /// Candles from here on are left out [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<UtcTime>,
    /// Scheme, host and port of another REST server of the exchange
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// File to write; its ending tells the form
    #[arg(long, value_name = "FILE", group = "target")]
    pub out: Option<PathBuf>,
    /// Stream of the data directory to write to
    #[arg(long, value_name = "STREAM", value_parser = name, group = "target")]
    pub stream: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `history import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub struct HistoryImportArgs {
    /// File to read; its first bytes tell the form
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Stream of the data directory to write to
    #[arg(long, value_name = "STREAM", value_parser = name, group = "target")]
    pub stream: Option<String>,
    /// File to write; its ending tells the form
    #[arg(long, value_name = "FILE", group = "target")]
    pub out: Option<PathBuf>,
    /// Length of the candles to write, a multiple of the file's [default: the stream's or the file's]
    #[arg(long, value_name = "INTERVAL", value_parser = interval)]
    pub interval: Option<Interval>,
    /// Length of the file's candles [default: told by its rows]
    #[arg(long, value_name = "INTERVAL", value_parser = interval)]
    pub file_interval: Option<Interval>,
    /// Also write joined candles of which a part is missing, to a file too
    #[arg(long)]
    pub keep_partial: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `history export`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct HistoryExportArgs {
    /// Stream of the data directory
    #[arg(long, value_name = "STREAM", value_parser = name)]
    pub stream: String,
    /// File to write; its ending tells the form
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// First candle, a date or a time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<UtcTime>,
    /// Candles from here on are left out
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<UtcTime>,
    /// Length of the candles to write, a multiple of the stream's [default: the stream's]
    #[arg(long, value_name = "INTERVAL", value_parser = interval)]
    pub interval: Option<Interval>,
    /// Also write candles that are known only in part
    #[arg(long)]
    pub keep_partial: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `history verify`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct HistoryVerifyArgs {
    /// File to read
    #[arg(value_name = "FILE", required_unless_present = "stream", conflicts_with = "stream")]
    pub file: Option<PathBuf>,
    /// Stream of the data directory
    #[arg(long, value_name = "STREAM", value_parser = name)]
    pub stream: Option<String>,
    /// Length of the candles [default: told by the rows, or the stream's]
    #[arg(long, value_name = "INTERVAL", value_parser = interval)]
    pub interval: Option<Interval>,
    /// Start of the span that must be whole [default: the first candle]
    #[arg(long, value_name = "TIME", value_parser = time, requires = "to")]
    pub from: Option<UtcTime>,
    /// End of the span
    #[arg(long, value_name = "TIME", value_parser = time, requires = "from")]
    pub to: Option<UtcTime>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// What can be done with live market data.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum FeedCommand {
    /// Print an exchange's candles and trades as they come, one JSON object a line.
    #[command(after_help = "Examples:
  forecastd feed tail --exchange binance
  forecastd feed tail --exchange kraken --symbol ETH/USD --interval 1m --trades --for 10m

Runs until Ctrl-C. `is_final` tells a closed candle from one that still changes; after an outage the
missed candles come as final ones with \"event\":\"backfill\".")]
    Tail(FeedTailArgs),
}

/// Options of `feed tail`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct FeedTailArgs {
    /// Whose market data
    #[arg(long, value_name = "NAME", value_parser = exchange())]
    pub exchange: Exchange,
    /// The exchange's name of the market [default: its main market of bitcoin]
    #[arg(long, value_name = "SYMBOL")]
    pub symbol: Option<String>,
    /// Length of a candle, one that the exchange has
    #[arg(long, value_name = "INTERVAL", value_parser = interval, default_value = "5m")]
    pub interval: Interval,
    /// Scheme, host and port of another WebSocket server of the exchange
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Scheme, host and port of another REST server of the exchange
    #[arg(long, value_name = "URL")]
    pub rest_url: Option<String>,
    /// Also print single trades
    #[arg(long)]
    pub trades: bool,
    /// Stop after this time, for example 10m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub run_for: Option<Duration>,
    /// Stop after so many lines
    #[arg(long, value_name = "COUNT")]
    pub count: Option<u64>,
}
