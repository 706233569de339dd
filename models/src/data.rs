//! Reads recorded candles from CSV, plain or gzip.
//!
//! Strict: the header must be exact, every row sound, on the grid and later than the one before.
//! Missing candles are missing rows; the reader fills nothing in.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use forecastd_core::{Candle, CandleError, Interval};

const HEADER: [&str; 6] = ["open_time_ms", "open", "high", "low", "close", "volume"];
/// Most rows that are read: 47 years of five-minute candles. Bounds memory against a hostile file.
const MAX_ROWS: usize = 5_000_000;
/// Most bytes that are read after decompression.
const MAX_BYTES: u64 = 1 << 30;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a file of candles is refused.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be opened.
    #[error("cannot read {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not CSV or not gzip.
    #[error("{path} is not readable CSV near row {row}")]
    Csv {
        /// The file.
        path: PathBuf,
        /// Row of data, 1-based.
        row: usize,
        /// What the parser says.
        #[source]
        source: csv::Error,
    },
    /// The columns are not the expected ones.
    #[error("{path} has columns `{got}`, must be `open_time_ms,open,high,low,close,volume`")]
    Header {
        /// The file.
        path: PathBuf,
        /// Its first line.
        got: String,
    },
    /// A field is not a number.
    #[error("{path} row {row} column {column} is `{value}`, must be a number")]
    Number {
        /// The file.
        path: PathBuf,
        /// Row of data, 1-based.
        row: usize,
        /// Name of the column.
        column: &'static str,
        /// The field.
        value: String,
    },
    /// A candle breaks a rule of candles.
    #[error("{path} row {row} is not a sound candle")]
    Candle {
        /// The file.
        path: PathBuf,
        /// Row of data, 1-based.
        row: usize,
        /// The broken rule.
        #[source]
        source: CandleError,
    },
    /// A row is not later than the one before.
    #[error("{path} row {row} opens at {found_ms} ms, not after {previous_ms} ms; sort the file")]
    Order {
        /// The file.
        path: PathBuf,
        /// Row of data, 1-based.
        row: usize,
        /// Open time of the row before.
        previous_ms: i64,
        /// Open time of the row.
        found_ms: i64,
    },
    /// The file holds no candle, or more than fit.
    #[error("{path} has {rows} candles, must have 1..=5000000")]
    Rows {
        /// The file.
        path: PathBuf,
        /// Rows read before giving up.
        rows: usize,
    },
}

/// Reads candles of length `interval` from a CSV file, plain or gzip (told by its first bytes).
///
/// Columns `open_time_ms,open,high,low,close,volume`; times in ms since the epoch, rising.
///
/// # Errors
/// [`DataError`] names the file, the row and the broken rule.
pub fn read_csv(path: &Path, interval: Interval) -> Result<Vec<Candle>, DataError> {
    let open_error = |source| DataError::Open { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(open_error)?);
    let mut magic = [0; 2];
    let peeked = read_up_to(&mut file, &mut magic).map_err(open_error)?;
    let whole = std::io::Cursor::new(magic[..peeked].to_vec()).chain(file);
    if magic == GZIP_MAGIC {
        read_rows(MultiGzDecoder::new(whole).take(MAX_BYTES), path, interval)
    } else {
        read_rows(whole.take(MAX_BYTES), path, interval)
    }
}

/// Fills as much of `bytes` as the reader has; returns the count.
fn read_up_to(reader: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}

fn read_rows(reader: impl Read, path: &Path, interval: Interval) -> Result<Vec<Candle>, DataError> {
    let mut csv = csv::ReaderBuilder::new().has_headers(true).from_reader(reader);
    let csv_error = |row: usize, source| DataError::Csv { path: path.to_owned(), row, source };
    let header = csv.headers().map_err(|source| csv_error(0, source))?;
    if header.iter().ne(HEADER) {
        let got: String = header.iter().collect::<Vec<_>>().join(",").chars().take(200).collect();
        return Err(DataError::Header { path: path.to_owned(), got });
    }
    let mut candles: Vec<Candle> = Vec::new();
    let mut record = csv::StringRecord::new();
    loop {
        let row = candles.len() + 1;
        if !csv.read_record(&mut record).map_err(|source| csv_error(row, source))? {
            break;
        }
        let candle = parse_row(&record, path, row)?;
        candle.validate(interval).map_err(|source| DataError::Candle {
            path: path.to_owned(),
            row,
            source,
        })?;
        if let Some(previous) = candles.last()
            && candle.open_time_ms <= previous.open_time_ms
        {
            return Err(DataError::Order {
                path: path.to_owned(),
                row,
                previous_ms: previous.open_time_ms,
                found_ms: candle.open_time_ms,
            });
        }
        if row > MAX_ROWS {
            return Err(DataError::Rows { path: path.to_owned(), rows: row });
        }
        candles.push(candle);
    }
    if candles.is_empty() {
        return Err(DataError::Rows { path: path.to_owned(), rows: 0 });
    }
    Ok(candles)
}

fn parse_row(record: &csv::StringRecord, path: &Path, row: usize) -> Result<Candle, DataError> {
    let field = |index: usize| record.get(index).unwrap_or_default();
    let wrong = |index: usize| DataError::Number {
        path: path.to_owned(),
        row,
        column: HEADER[index],
        value: field(index).chars().take(50).collect(),
    };
    let number = |index: usize| field(index).parse::<f64>().map_err(|_| wrong(index));
    Ok(Candle {
        open_time_ms: field(0).parse().map_err(|_| wrong(0))?,
        open: number(1)?,
        high: number(2)?,
        low: number(3)?,
        close: number(4)?,
        volume: number(5)?,
        trade_count: None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const GOOD: &str = "open_time_ms,open,high,low,close,volume\n\
                        300000,1,2,0.5,1.5,10\n900000,1.5,1.5,1.5,1.5,0\n";

    fn read(bytes: &[u8]) -> Result<Vec<Candle>, DataError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        read_csv(file.path(), Interval::FIVE_MINUTES)
    }

    #[test]
    fn plain_and_gzip_files_give_the_same_candles() {
        let plain = read(GOOD.as_bytes()).unwrap();
        assert_eq!(plain.len(), 2);
        assert_eq!((plain[1].open_time_ms, plain[0].close), (900_000, 1.5));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(GOOD.as_bytes()).unwrap();
        let bytes = gzip.finish().unwrap();
        assert_eq!(read(&bytes).unwrap(), plain);
        assert!(matches!(read(&bytes[..bytes.len() / 2]), Err(DataError::Csv { .. })));
    }

    #[test]
    fn every_broken_rule_has_its_error() {
        let with = |row: &str| read(format!("{GOOD}{row}\n").as_bytes());
        assert!(matches!(with("900000,1,1,1,1,1"), Err(DataError::Order { row: 3, .. })));
        assert!(matches!(with("900001,1,1,1,1,1"), Err(DataError::Candle { row: 3, .. })));
        assert!(matches!(with("1200000,1,1,1,NaN,1"), Err(DataError::Candle { .. })));
        assert!(matches!(with("1200000,1,1,1,inf,1"), Err(DataError::Candle { .. })));
        assert!(matches!(with("1200000,x,1,1,1,1"), Err(DataError::Number { column: "open", .. })));
        assert!(matches!(with("1200000,1,1,1,1"), Err(DataError::Csv { row: 3, .. })));
        assert!(matches!(read(b""), Err(DataError::Header { .. })));
        assert!(matches!(read(b"a,b\n1,2\n"), Err(DataError::Header { .. })));
        assert!(matches!(
            read(b"open_time_ms,open,high,low,close,volume\n"),
            Err(DataError::Rows { rows: 0, .. })
        ));
        assert!(matches!(
            read_csv(Path::new("/nowhere/at/all.csv"), Interval::MINUTE),
            Err(DataError::Open { .. })
        ));
    }
}
