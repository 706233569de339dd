//! One column of numbers of a table, whatever else is in it.

use std::path::Path;

use forecastd_core::bars::Finding;
use forecastd_core::features::column::{MAX_MAGNITUDE, MAX_OBSERVATIONS};

use crate::columns::Wanted;
use crate::error::{HistoryError, Place};
use crate::reader::{CandleFile, Row};

/// How a table writes that it has no value.
const NOTHING: [&str; 6] = ["", "null", "NULL", "None", "NA", "N/A"];

/// Reads the column `name` of a table, CSV (packed or not) or Parquet, with its times in ms since the
/// epoch, strictly rising.
///
/// The column of times is found by its name, as for candles. A row without a value, or with NaN, has
/// none and is left out; nothing is filled in.
///
/// # Errors
/// [`HistoryError`] for the first fault: no such column, a time or a number that is none, rows that do
/// not rise, more than two million values.
pub fn read_numbers(path: &Path, name: &str) -> Result<Vec<(i64, f64)>, HistoryError> {
    let file = || path.display().to_string();
    let mut numbers: Vec<(i64, f64)> = Vec::new();
    let mut last_ms: Option<i64> = None;
    for row in CandleFile::open_as(path, Wanted::Number(name))? {
        let Row { place, candle } = match row {
            Ok(row) => row,
            Err(HistoryError::Field { column, value, .. })
                if column == name.trim() && NOTHING.contains(&value.as_str()) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        // The five numbers of a candle are all this one.
        let (at_ms, value) = (candle.open_time_ms, candle.close);
        check_order(last_ms.replace(at_ms), at_ms).map_err(|finding| HistoryError::Row {
            file: file(),
            place,
            finding,
        })?;
        if value.is_nan() {
            continue;
        }
        if value.abs() > MAX_MAGNITUDE {
            let (column, value) = (name.to_owned(), value.to_string());
            let rule = "a number of at most 1e30 in magnitude";
            return Err(HistoryError::Field { file: file(), place, column, value, rule });
        }
        if numbers.len() == MAX_OBSERVATIONS {
            let (what, limit) = ("the number of values", MAX_OBSERVATIONS.to_string());
            let place = Place::Row(MAX_OBSERVATIONS as u64 + 1);
            return Err(HistoryError::TooLarge { file: file(), place, what, limit });
        }
        numbers.push((at_ms, value));
    }
    Ok(numbers)
}

fn check_order(before_ms: Option<i64>, at_ms: i64) -> Result<(), Finding> {
    match before_ms {
        Some(before_ms) if before_ms == at_ms => Err(Finding::Duplicate(at_ms)),
        Some(after_ms) if after_ms > at_ms => {
            Err(Finding::OutOfOrder { open_time_ms: at_ms, after_ms })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use forecastd_core::Candle;

    use super::*;
    use crate::writer::CandleWriter;

    fn read(text: &str, name: &str) -> Result<Vec<(i64, f64)>, HistoryError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read_numbers(file.path(), name)
    }

    #[test]
    fn a_column_is_found_by_its_name_among_others() {
        let text = "date,close,Open Interest,note\n\
                    2024-01-01,1,10.5,a\n2024-01-02,1,,b\n2024-01-03,1,nan,c\n2024-01-04,1,-3e2,d\n";
        let day = 86_400_000;
        let start = 1_704_067_200_000;
        let want = [(start, 10.5), (start + 3 * day, -300.0)];
        assert_eq!(read(text, "Open Interest").unwrap(), want);
        let packed = tempfile::NamedTempFile::new().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(packed.as_file(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap();
        assert_eq!(read_numbers(packed.path(), "Open Interest").unwrap(), want);
    }

    #[test]
    fn tables_of_candles_and_of_parquet_have_columns_too() {
        let candle = |index: i64| Candle {
            open_time_ms: index * 300_000,
            open: 1.0,
            high: 3.0,
            low: 0.5,
            close: 2.0,
            volume: 7.0 + index as f64,
            trade_count: None,
        };
        for ending in ["csv", "csv.zst", "parquet"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(format!("candles.{ending}"));
            let mut writer = CandleWriter::create(&path).unwrap();
            for index in 1..4 {
                writer.push(&candle(index)).unwrap();
            }
            writer.finish().unwrap();
            let numbers = read_numbers(&path, "volume").unwrap();
            assert_eq!(numbers, [(300_000, 8.0), (600_000, 9.0), (900_000, 10.0)], "{ending}");
            let error = read_numbers(&path, "turnover").unwrap_err().to_string();
            assert!(error.contains("no column `turnover`; found"), "{error}");
        }
    }

    #[test]
    fn every_broken_rule_has_its_error() {
        let with = |rows: &str| read(&format!("time,x\n{rows}"), "x").unwrap_err().to_string();
        assert!(with("1,1\n2,y\n").contains("line 3, column `x`: is `y`, must be a number"));
        assert!(with("1,1\n2,inf\n").contains("at most 1e30"));
        assert!(with("1,1\n2,1e31\n").contains("at most 1e30"));
        assert!(with("1,1\nsoon,2\n").contains("column `time`"));
        assert!(with("2,1\n1,2\n").contains("line 3"));
        assert!(with("1,1\n1,2\n").contains("line 3"));
        assert!(with("1,1\n2,2,3\n").contains("3 fields"));
        let no_time = read("moment,x\n1,2\n", "x").unwrap_err().to_string();
        assert!(no_time.contains("no column for the time"), "{no_time}");
        let twice = read("time,x,x\n1,2,3\n", "x").unwrap_err().to_string();
        assert!(twice.contains("twice"), "{twice}");
        assert_eq!(read("time,x\n", "x").unwrap(), []);
    }
}
