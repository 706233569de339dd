//! Recorded candles from CSV, plain or gzip, and the sample that the program carries.
//!
//! Form: a header `open_time_ms,open,high,low,close,volume`, one candle a row, rising. Anything
//! else is refused with file and line: a recording is either right or not used.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use forecastd_core::{Candle, Interval};

/// Interval of the embedded sample.
pub const EMBEDDED_INTERVAL: Interval = Interval::FIVE_MINUTES;
const EMBEDDED: &[u8] = include_bytes!("../../../../data/btcusd-5m.csv.gz");
const EMBEDDED_NAME: &str = "data/btcusd-5m.csv.gz";

const HEADER: [&str; 6] = ["open_time_ms", "open", "high", "low", "close", "volume"];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Ten years of one-minute candles.
const MAX_ROWS: usize = 5_300_000;
/// Most bytes after unpacking; the longest sensible row has about 100.
const MAX_BYTES: u64 = 600 * 1024 * 1024;

/// Why a recording is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be opened.
    #[error("recording {file} cannot be opened, check the path")]
    Open {
        /// Path as given.
        file: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A row is damaged or breaks a rule.
    #[error("recording {file} line {line}: {reason}")]
    Row {
        /// Path as given.
        file: String,
        /// Line in the unpacked text, the header is line 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// There is no row, or there are too many.
    #[error("recording {file} has {rows} rows, must have 1..={limit}")]
    Length {
        /// Path as given.
        file: String,
        /// Rows found until the limit.
        rows: usize,
        /// Greatest number of rows.
        limit: usize,
    },
}

/// Returns the embedded sample: BTC/USDT in five minutes, 2024-07-01 to 2025-02-14, no gap.
///
/// # Errors
/// [`RecordingError`] when the program was built with a damaged file.
pub fn embedded() -> Result<Vec<Candle>, RecordingError> {
    read(EMBEDDED, EMBEDDED_NAME, EMBEDDED_INTERVAL)
}

/// Reads a recording of candles of `interval` from `path`; gzip is recognised by content.
///
/// # Errors
/// [`RecordingError`] names file and line.
pub fn load_csv(path: &Path, interval: Interval) -> Result<Vec<Candle>, RecordingError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => read(BufReader::new(file), &name, interval),
        Err(source) => Err(RecordingError::Open { file: name, source }),
    }
}

/// Reads a recording from `source`, which is called `file` in messages.
pub(super) fn read(
    mut source: impl BufRead,
    file: &str,
    interval: Interval,
) -> Result<Vec<Candle>, RecordingError> {
    let row_error =
        |line: u64, reason: String| RecordingError::Row { file: file.to_owned(), line, reason };
    let start = source.fill_buf().map_err(|error| row_error(1, error.to_string()))?;
    let is_gzip = start.starts_with(&GZIP_MAGIC);
    let text: Box<dyn Read + '_> =
        if is_gzip { Box::new(MultiGzDecoder::new(source)) } else { Box::new(source) };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.take(MAX_BYTES));
    let mut record = csv::StringRecord::new();
    let mut candles: Vec<Candle> = Vec::new();
    let mut has_header = false;
    loop {
        let line = reader.position().line();
        if !reader.read_record(&mut record).map_err(|error| row_error(line, error.to_string()))? {
            break;
        }
        if !has_header {
            if record != HEADER[..] {
                let reason = format!("header must be `{}`", HEADER.join(","));
                return Err(row_error(line, reason));
            }
            has_header = true;
            continue;
        }
        let candle = candle_of(&record, interval).map_err(|reason| row_error(line, reason))?;
        if let Some(last) = candles.last()
            && last.open_time_ms >= candle.open_time_ms
        {
            let reason = format!("open time {} does not rise", candle.open_time_ms);
            return Err(row_error(line, reason));
        }
        if candles.len() == MAX_ROWS {
            let (rows, limit) = (MAX_ROWS + 1, MAX_ROWS);
            return Err(RecordingError::Length { file: file.to_owned(), rows, limit });
        }
        candles.push(candle);
    }
    if candles.is_empty() {
        return Err(RecordingError::Length { file: file.to_owned(), rows: 0, limit: MAX_ROWS });
    }
    Ok(candles)
}

fn candle_of(record: &csv::StringRecord, interval: Interval) -> Result<Candle, String> {
    let field = |index: usize| record.get(index).unwrap_or_default();
    let number = |index: usize| {
        let wrong = || format!("`{}` is `{}`, must be a number", HEADER[index], field(index));
        field(index).parse::<f64>().map_err(|_| wrong())
    };
    let open_time_ms = field(0)
        .parse::<i64>()
        .ok()
        .filter(|at_ms| *at_ms >= 0)
        .ok_or_else(|| format!("`{}` is `{}`, must be milliseconds", HEADER[0], field(0)))?;
    let candle = Candle {
        open_time_ms,
        open: number(1)?,
        high: number(2)?,
        low: number(3)?,
        close: number(4)?,
        volume: number(5)?,
        trade_count: None,
    };
    candle.validate(interval).map_err(|error| error.to_string())?;
    Ok(candle)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const GOOD: &str =
        "open_time_ms,open,high,low,close,volume\n0,1,2,0.5,1.5,3\n300000,1,1,1,1,0\n";

    fn parse(text: &str) -> Result<Vec<Candle>, RecordingError> {
        read(text.as_bytes(), "test.csv", EMBEDDED_INTERVAL)
    }

    #[test]
    fn the_embedded_sample_is_whole() {
        let candles = embedded().unwrap();
        assert_eq!(candles.len(), 65_952);
        assert_eq!(candles[0].open_time_ms, 1_719_792_000_000);
        assert_eq!(candles[0].close.to_bits(), 62_722.08_f64.to_bits());
        let step = EMBEDDED_INTERVAL.as_ms();
        assert!(candles.windows(2).all(|two| two[1].open_time_ms - two[0].open_time_ms == step));
        assert_eq!(candles.last().unwrap().open_time_ms, 1_739_577_300_000);
    }

    #[test]
    fn plain_and_packed_files_read_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("a.csv");
        std::fs::write(&plain, GOOD).unwrap();
        let packed = folder.path().join("b.csv.gz");
        let file = File::create(&packed).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(GOOD.as_bytes()).unwrap();
        encoder.finish().unwrap();
        let candles = load_csv(&plain, EMBEDDED_INTERVAL).unwrap();
        assert_eq!(candles.len(), 2);
        assert_eq!(candles, load_csv(&packed, EMBEDDED_INTERVAL).unwrap());
        let missing = load_csv(&folder.path().join("c.csv"), EMBEDDED_INTERVAL).unwrap_err();
        assert!(missing.to_string().contains("c.csv"), "{missing}");
    }

    #[test]
    fn each_damage_is_named_with_its_line() {
        for (from, to, line, word) in [
            ("open_time_ms,open", "time,open", 1, "header"),
            ("300000,1,1,1,1,0", "300001,1,1,1,1,0", 3, "grid"),
            ("300000,1,1,1,1,0", "0,1,1,1,1,0", 3, "rise"),
            ("300000,1,1,1,1,0", "300000,1,1,1,1", 3, "fields"),
            ("300000,1,1,1,1,0", "300000,1,1,1,x,0", 3, "`close` is `x`"),
            ("300000,1,1,1,1,0", "300000,1,1,1,NaN,0", 3, "finite"),
            ("0,1,2,0.5,1.5,3", "-300000,1,2,0.5,1.5,3", 2, "milliseconds"),
            ("0,1,2,0.5,1.5,3", "0,1,2,1.5,1.5,3", 2, "low..high"),
            ("0,1,2,0.5,1.5,3", "0,1,2,0.5,1.5,-3", 2, "volume"),
        ] {
            let error = parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(&format!("test.csv line {line}:")), "{error}");
            assert!(error.contains(word), "{error}");
        }
        assert!(matches!(parse(""), Err(RecordingError::Length { rows: 0, .. })));
    }

    #[test]
    fn a_cut_gzip_file_is_refused() {
        let half = &EMBEDDED[..EMBEDDED.len() / 2];
        assert!(matches!(
            read(half, "half.gz", EMBEDDED_INTERVAL),
            Err(RecordingError::Row { .. })
        ));
    }
}
