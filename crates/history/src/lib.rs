//! Files of recorded candles: CSV (plain, gzip, zstd, bzip2), Parquet, and the reference's `.taosfs`.
//!
//! ```text
//!  file ─► unpack (bounded) ─► rows, one by one ─┬─► CandleFile::next     every row, faults too (gap reports)
//!                                                └─► CandleFile::strict   sound, rising rows or an error
//!  candles ─► Joiner (5m → 1h) ─► CandleWriter ─► CSV, CSV.gz, CSV.zst, Parquet
//! ```
//!
//! What a file is, is told by its first bytes, not by its name. Candles carry their open time.
//! Missing candles are missing rows: nothing is filled in, sorted or mended.
//!
//! Limits: memory does not grow with the file, apart from `.taosfs` (at most
//! [`MAX_TAOSFS_BYTES`]) and one row group of a Parquet file. A file, a line, a row group and the
//! unpacked size are bounded, so that a small file cannot fill memory or disk. No clock is read
//! and no network used.

#![warn(clippy::indexing_slicing)]

mod columns;
mod csv;
mod error;
mod join;
mod numbers;
mod parquet;
mod reader;
mod taosfs;
mod time;
mod unpack;
mod writer;

pub use csv::{HEADER, csv_row};
pub use error::{HistoryError, Place};
pub use join::Joiner;
pub use numbers::read_numbers;
pub use reader::{CandleFile, Row, StrictRows, detect_interval, read_candles};
pub use writer::{CandleWriter, FileKind};

/// Most rows of a file: 76 years of one-minute candles.
pub const MAX_ROWS: u64 = 40_000_000;
/// Most bytes of text after unpacking; a sensible row has about 70.
pub const MAX_TEXT_BYTES: u64 = 8 << 30;
/// Most bytes of a line.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Most columns of a table.
pub const MAX_COLUMNS: usize = 1_024;
/// Most bytes of an unpacked `.taosfs` file, which is read as a whole.
pub const MAX_TAOSFS_BYTES: u64 = 256 << 20;
