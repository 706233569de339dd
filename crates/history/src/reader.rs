//! A file of candles of any kind, row by row.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Seek as _};
use std::path::Path;

use forecastd_core::bars::{Finding, check_candle};
use forecastd_core::{Candle, Interval};

use crate::columns::Wanted;
use crate::csv::CsvRows;
use crate::error::{HistoryError, Place};
use crate::parquet::ParquetRows;
use crate::taosfs::{MAGIC as TAOSFS, TaosfsRows};
use crate::unpack::{Plain, peek, read_error, unpack};
use crate::{MAX_ROWS, MAX_TEXT_BYTES};

const PARQUET: &[u8] = b"PAR1";
/// Rows that are looked at to find the length of a candle.
const INTERVAL_ROWS: usize = 5_000;
/// Part of the distances that must be multiples of a candle's length.
const COMMON_PERCENT: usize = 95;
/// Most candles that are read into memory at once: ten years of one-minute candles, 300 MB.
const MAX_CANDLES: usize = 5_300_000;

/// A row as it is in the file, not checked yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Where it is.
    pub place: Place,
    /// What it says.
    pub candle: Candle,
}

/// Reads rows one by one.
pub(crate) trait RowSource: Send {
    /// Returns the next row; after an error that is not [`HistoryError::is_row`] there is none.
    fn next_row(&mut self) -> Option<Result<Row, HistoryError>>;
}

/// A file of candles, open for reading.
///
/// As an iterator it gives every row, faulty ones as errors that are [`HistoryError::is_row`];
/// after any other error it ends.
pub struct CandleFile {
    file: String,
    interval: Option<Interval>,
    rows: Option<Box<dyn RowSource>>,
    count: u64,
}

impl fmt::Debug for CandleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CandleFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl CandleFile {
    /// Opens a file of any kind and reads its header.
    ///
    /// # Errors
    /// [`HistoryError`] when it cannot be opened, is damaged at its beginning, or has no columns
    /// for candles.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        Self::open_as(path, Wanted::Candles)
    }

    /// Opens a file for what is wanted of it.
    pub(crate) fn open_as(path: &Path, wanted: Wanted<'_>) -> Result<Self, HistoryError> {
        let name = path.display().to_string();
        let open_error = |source| HistoryError::Open { file: name.clone(), source };
        let mut file = File::open(path).map_err(open_error)?;
        // A directory can be opened and not read.
        let start = peek(&mut file).map_err(open_error)?;
        file.rewind().map_err(open_error)?;
        if start.starts_with(PARQUET) {
            let rows = ParquetRows::open(&name, file, wanted)?;
            return Ok(Self::of(name, None, Box::new(rows)));
        }
        Self::unpacked(name, unpack(file, MAX_TEXT_BYTES), wanted)
    }

    /// Opens text or a `.taosfs` file, packed or not, that is in memory. `name` is for messages.
    ///
    /// # Errors
    /// As [`CandleFile::open`].
    pub fn from_bytes(name: &str, bytes: &'static [u8]) -> Result<Self, HistoryError> {
        Self::unpacked(name.to_owned(), unpack(Cursor::new(bytes), MAX_TEXT_BYTES), Wanted::Candles)
    }

    fn unpacked(
        file: String,
        plain: io::Result<Plain>,
        wanted: Wanted<'_>,
    ) -> Result<Self, HistoryError> {
        let damaged = |source| read_error(&file, Place::Line(1), MAX_TEXT_BYTES, source);
        let mut plain = plain.map_err(damaged)?;
        if plain.fill_buf().map_err(damaged)?.starts_with(TAOSFS) {
            if let Wanted::Number(_) = wanted {
                let (place, reason) = (Place::Row(0), "its columns have no names".to_owned());
                return Err(HistoryError::Header { file, place, reason });
            }
            let rows = TaosfsRows::open(&file, plain)?;
            return Ok(Self::of(file, Some(rows.interval()), Box::new(rows)));
        }
        let rows = CsvRows::open(&file, plain, wanted)?;
        Ok(Self::of(file, None, Box::new(rows)))
    }

    fn of(file: String, interval: Option<Interval>, rows: Box<dyn RowSource>) -> Self {
        Self { file, interval, rows: Some(rows), count: 0 }
    }

    /// Returns the length of a candle where the file says it.
    pub const fn interval(&self) -> Option<Interval> {
        self.interval
    }

    /// Gives only sound candles of `interval` in rising order; the first fault ends it.
    ///
    /// # Errors
    /// [`HistoryError::OtherInterval`] when the file says another length.
    pub fn strict(self, interval: Interval) -> Result<StrictRows, HistoryError> {
        match self.interval {
            Some(has) if has != interval => {
                Err(HistoryError::OtherInterval { file: self.file, has, asked: interval })
            }
            _ => Ok(StrictRows { rows: self, interval, last_ms: None }),
        }
    }
}

impl Iterator for CandleFile {
    type Item = Result<Row, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.as_mut()?.next_row();
        self.count += 1;
        let row = match row {
            Some(Ok(Row { place, .. })) if self.count > MAX_ROWS => {
                let (file, what) = (self.file.clone(), "the number of rows");
                Some(Err(HistoryError::TooLarge { file, place, what, limit: MAX_ROWS.to_string() }))
            }
            row => row,
        };
        if !row.as_ref().is_some_and(|row| row.as_ref().err().is_none_or(HistoryError::is_row)) {
            self.rows = None;
        }
        row
    }
}

/// The rows of a file as sound, rising candles, or an error.
#[derive(Debug)]
pub struct StrictRows {
    rows: CandleFile,
    interval: Interval,
    last_ms: Option<i64>,
}

impl StrictRows {
    fn check(&mut self, candle: &Candle) -> Result<(), Finding> {
        check_candle(candle, self.interval)?;
        let open_time_ms = candle.open_time_ms;
        match self.last_ms.replace(open_time_ms) {
            Some(last_ms) if last_ms == open_time_ms => Err(Finding::Duplicate(open_time_ms)),
            Some(after_ms) if after_ms > open_time_ms => {
                Err(Finding::OutOfOrder { open_time_ms, after_ms })
            }
            _ => Ok(()),
        }
    }
}

impl Iterator for StrictRows {
    type Item = Result<Candle, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let checked =
            self.rows.next()?.and_then(|Row { place, candle }| match self.check(&candle) {
                Ok(()) => Ok(candle),
                Err(finding) => {
                    Err(HistoryError::Row { file: self.rows.file.clone(), place, finding })
                }
            });
        if checked.is_err() {
            self.rows.rows = None;
        }
        Some(checked)
    }
}

/// Reads a whole file of sound, rising candles of `interval` into memory.
///
/// # Errors
/// [`HistoryError`] for the first fault, for a file without candles, and for one with more than
/// 5.3 million.
pub fn read_candles(path: &Path, interval: Interval) -> Result<Vec<Candle>, HistoryError> {
    CandleFile::open(path)?.strict(interval)?.collect_all()
}

impl StrictRows {
    /// Reads all candles into memory.
    ///
    /// # Errors
    /// As [`read_candles`].
    pub fn collect_all(mut self) -> Result<Vec<Candle>, HistoryError> {
        let mut candles = Vec::new();
        while let Some(candle) = self.next().transpose()? {
            if candles.len() == MAX_CANDLES {
                return Err(HistoryError::TooLarge {
                    file: self.rows.file.clone(),
                    place: Place::Row(candles.len() as u64 + 1),
                    what: "the number of candles",
                    limit: MAX_CANDLES.to_string(),
                });
            }
            candles.push(candle);
        }
        if candles.is_empty() {
            return Err(HistoryError::Empty { file: self.rows.file });
        }
        Ok(candles)
    }
}

/// Finds the length of a file's candles: what it says itself, or the longest distance of two rows
/// that nearly all distances of its first rows are multiples of.
///
/// # Errors
/// [`HistoryError`] when it cannot be read; [`HistoryError::NoInterval`] with fewer than two rows.
pub fn detect_interval(path: &Path) -> Result<Interval, HistoryError> {
    let file = CandleFile::open(path)?;
    if let Some(interval) = file.interval() {
        return Ok(interval);
    }
    let name = file.file.clone();
    let mut distances: BTreeMap<i64, usize> = BTreeMap::new();
    let mut last_ms: Option<i64> = None;
    for row in file.take(INTERVAL_ROWS) {
        let at_ms = match row {
            Ok(row) => row.candle.open_time_ms,
            Err(error) if error.is_row() => continue,
            Err(error) => return Err(error),
        };
        if let Some(last_ms) = last_ms.replace(at_ms)
            && at_ms > last_ms
        {
            *distances.entry(at_ms.saturating_sub(last_ms)).or_default() += 1;
        }
    }
    // Gaps are multiples too; only rows off the grid are not, and they are few.
    let total: usize = distances.values().sum();
    let multiples = |of: i64| -> usize {
        distances.iter().filter(|(ms, _)| *ms % of == 0).map(|(_, count)| count).sum()
    };
    let mut candidates = distances.keys().rev();
    candidates
        .find(|ms| multiples(**ms) * 100 >= total * COMMON_PERCENT)
        // No exchange has candles of less than a second: such times are of another unit.
        .and_then(|ms| Interval::from_ms(*ms).ok().filter(|_| *ms >= 1_000))
        .ok_or(HistoryError::NoInterval { file: name })
}
