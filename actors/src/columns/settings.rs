//! Where the numbers of a column come from.

use std::path::PathBuf;
use std::time::Duration;

use forecastd_core::{ColumnName, Interval};
use forecastd_exchange::{ApiKey, SeriesConfig};

/// One column of numbers beside the candles.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSettings {
    /// Its name in the features of streams.
    pub name: ColumnName,
    /// Where its numbers come from.
    pub origin: ColumnOrigin,
    /// A value whose own time is longer ago than this is not used any more, market time.
    pub max_age: Duration,
    /// Market time between two refreshes.
    pub refresh_every: Duration,
}

/// Where the numbers of a column come from.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnOrigin {
    /// A column of a table on this machine.
    File {
        /// The table.
        path: PathBuf,
        /// The header of the column.
        column: String,
        /// Length of the interval that a value is about; none for values about a moment.
        every: Option<Interval>,
        /// Time from the end of the interval until the value is known.
        publication_delay: Duration,
    },
    /// A series of Coin Metrics.
    CoinMetrics {
        /// The server; the public one when absent.
        url: Option<String>,
        /// The series.
        series: SeriesConfig,
        /// The key.
        key: AccessKey,
        /// Longest wait for one answer.
        timeout: Duration,
    },
}

/// The key of an account, which comes from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessKey {
    /// No key is sent.
    Unneeded,
    /// The environment variable of this name is not set, or holds nothing that can be a key.
    Missing(String),
    /// The key.
    Given(ApiKey),
}
