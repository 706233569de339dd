//! What can be wrong with a file of candles.

use std::fmt;
use std::io;

use forecastd_core::bars::Finding;
use forecastd_core::features::binary_file::FileError;

/// Where in a file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line of the unpacked text; the header is line 1.
    Line(u64),
    /// Row of a table without lines, the first is row 1.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// Why a file of candles, or one of its rows, is refused.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be opened or created.
    #[error("{file} cannot be opened, check the path")]
    Open {
        /// Path as given.
        file: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Reading or unpacking failed: the file is damaged or cut off.
    #[error("{file} {place}: cannot be read, it is damaged or cut off")]
    Read {
        /// Path as given.
        file: String,
        /// The place behind which reading failed.
        place: Place,
        /// The error of the system or of the unpacking library.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("{file} cannot be written, check the folder and the free space")]
    Write {
        /// Path as given.
        file: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file's name does not tell a form that can be written.
    #[error("{file} has no known ending, must be .csv, .csv.gz, .csv.zst or .parquet")]
    Ending {
        /// Path as given.
        file: String,
    },
    /// The columns do not make candles.
    #[error("{file} {place}: {reason}")]
    Header {
        /// Path as given.
        file: String,
        /// The header.
        place: Place,
        /// What is wrong, and what is there.
        reason: String,
    },
    /// A field is not what its column must hold. The next row can be read.
    #[error("{file} {place}, column `{column}`: is `{value}`, must be {rule}")]
    Field {
        /// Path as given.
        file: String,
        /// The row.
        place: Place,
        /// Name of the column.
        column: String,
        /// The field, shortened.
        value: String,
        /// What is accepted.
        rule: &'static str,
    },
    /// A row has more or fewer fields than the header. The next row can be read.
    #[error("{file} {place}: {found} fields, the header has {expected}")]
    Fields {
        /// Path as given.
        file: String,
        /// The row.
        place: Place,
        /// Fields of the row.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// A candle is not sound or not at its place. The next row can be read.
    #[error("{file} {place}: {finding}")]
    Row {
        /// Path as given.
        file: String,
        /// The row.
        place: Place,
        /// What is wrong.
        finding: Finding,
    },
    /// The file, or a part of it, is larger than allowed.
    #[error("{file} {place}: {what} is larger than {limit}, refused")]
    TooLarge {
        /// Path as given.
        file: String,
        /// Where it was noticed.
        place: Place,
        /// What is too large.
        what: &'static str,
        /// The limit with its unit.
        limit: String,
    },
    /// There is no candle.
    #[error("{file} has no candles")]
    Empty {
        /// Path as given.
        file: String,
    },
    /// The rows do not tell the length of a candle.
    #[error(
        "the times in {file} do not tell the length of a candle: name it, sort the rows, or check the unit of the times"
    )]
    NoInterval {
        /// Path as given.
        file: String,
    },
    /// The file says another length of a candle than the caller.
    #[error("{file} has candles of {has}, not {asked}: name the length that it has")]
    OtherInterval {
        /// Path as given.
        file: String,
        /// Of the file.
        has: forecastd_core::Interval,
        /// Of the call.
        asked: forecastd_core::Interval,
    },
    /// A Parquet file is damaged, or of a kind that cannot be read.
    #[error("{file}: {reason}")]
    Parquet {
        /// Path as given.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A `.taosfs` file is damaged.
    #[error("{file} is damaged, get it anew")]
    Taosfs {
        /// Path as given.
        file: String,
        /// What is wrong.
        #[source]
        source: FileError,
    },
}

impl HistoryError {
    /// Tells whether only one row is faulty: the reader goes on with the next one.
    pub const fn is_row(&self) -> bool {
        matches!(self, Self::Field { .. } | Self::Fields { .. } | Self::Row { .. })
    }
}

/// A text for a message, shortened.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(60).collect()
}
