//! Candles as lines of text. Blank lines, and lines that begin with `#`, say nothing.

use std::io::{self, BufRead, Read as _, Write};

use csv_core::ReadRecordResult;
use forecastd_core::Candle;

use crate::columns::{Column, Columns, Wanted};
use crate::error::{HistoryError, Place, short};
use crate::reader::{Row, RowSource};
use crate::time::TimeForm;
use crate::unpack::{Plain, read_error};
use crate::{MAX_COLUMNS, MAX_LINE_BYTES, MAX_TEXT_BYTES};

/// The header that is written. A trade count that is not known is an empty field.
pub const HEADER: &str = "open_time_ms,open,high,low,close,volume,trade_count";
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Writes one candle as a line under [`HEADER`]; read back, it is the same to the bit.
///
/// # Errors
/// Writing fails.
pub fn csv_row(out: &mut impl Write, candle: &Candle) -> io::Result<()> {
    let Candle { open_time_ms, open, high, low, close, volume, trade_count } = candle;
    write!(out, "{open_time_ms},{open},{high},{low},{close},{volume},")?;
    match trade_count {
        Some(count) => writeln!(out, "{count}"),
        None => writeln!(out),
    }
}

/// Splits lines, each on its own: a quote that is not closed spoils one line and not the file.
struct Splitter {
    core: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Splitter {
    fn new() -> Self {
        Self {
            core: csv_core::Reader::new(),
            text: vec![0; MAX_LINE_BYTES + 1],
            ends: vec![0; MAX_COLUMNS],
        }
    }

    /// Splits a line that ends with its line feed; returns the number of fields, `None` where a
    /// quote is not closed or there are too many.
    fn split(&mut self, line: &[u8]) -> Option<usize> {
        self.core.reset();
        let (result, _, _, fields) = self.core.read_record(line, &mut self.text, &mut self.ends);
        (result == ReadRecordResult::Record).then_some(fields)
    }

    /// Returns a field without the blanks around it.
    fn field(&self, index: usize) -> &str {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default(),
            None => 0,
        };
        let end = self.ends.get(index).copied().unwrap_or_default();
        let bytes = self.text.get(start..end).unwrap_or_default();
        // Text that is no UTF-8 fits no column.
        std::str::from_utf8(bytes).unwrap_or("\u{fffd}").trim()
    }
}

/// The rows of a text.
pub(crate) struct CsvRows {
    file: String,
    text: Plain,
    line: u64,
    buffer: Vec<u8>,
    splitter: Splitter,
    width: usize,
    columns: Columns,
    form: Option<TimeForm>,
}

impl CsvRows {
    /// Reads the header.
    pub(crate) fn open(file: &str, text: Plain, wanted: Wanted<'_>) -> Result<Self, HistoryError> {
        let nowhere = || Column { index: 0, name: String::new() };
        let columns = Columns {
            time: nowhere(),
            unit: None,
            numbers: std::array::from_fn(|_| nowhere()),
            trade_count: None,
        };
        let mut rows = Self {
            file: file.to_owned(),
            text,
            line: 0,
            buffer: Vec::new(),
            splitter: Splitter::new(),
            width: 0,
            columns,
            form: None,
        };
        if !rows.next_line()? {
            return Err(HistoryError::Empty { file: file.to_owned() });
        }
        if rows.buffer.starts_with(BYTE_ORDER_MARK) {
            rows.buffer.drain(..BYTE_ORDER_MARK.len());
        }
        let place = Place::Line(rows.line);
        let refuse = |reason: String| HistoryError::Header { file: file.to_owned(), place, reason };
        let Some(width) = rows.splitter.split(&rows.buffer) else {
            return Err(refuse(format!(
                "the header is not closed or has over {MAX_COLUMNS} columns"
            )));
        };
        let names: Vec<String> =
            (0..width).map(|index| rows.splitter.field(index).to_owned()).collect();
        rows.columns = Columns::find(&names, wanted).map_err(refuse)?;
        rows.form = rows.columns.unit.map(TimeForm::Number);
        rows.width = width;
        Ok(rows)
    }

    /// Reads the next line that is neither blank nor a comment into the buffer, with a line feed at
    /// its end.
    fn next_line(&mut self) -> Result<bool, HistoryError> {
        loop {
            self.buffer.clear();
            let limit = MAX_LINE_BYTES as u64 + 1;
            let place = Place::Line(self.line + 1);
            let read = (&mut self.text).take(limit).read_until(b'\n', &mut self.buffer);
            let count =
                read.map_err(|source| read_error(&self.file, place, MAX_TEXT_BYTES, source))?;
            if count == 0 {
                return Ok(false);
            }
            if count > MAX_LINE_BYTES {
                let limit = format!("{MAX_LINE_BYTES} bytes");
                let file = self.file.clone();
                return Err(HistoryError::TooLarge { file, place, what: "a line", limit });
            }
            self.line += 1;
            if !self.buffer.ends_with(b"\n") {
                self.buffer.push(b'\n');
            }
            if !matches!(self.buffer.trim_ascii().first(), None | Some(b'#')) {
                return Ok(true);
            }
        }
    }

    fn wrong(&self, column: &Column, rule: &'static str) -> HistoryError {
        HistoryError::Field {
            file: self.file.clone(),
            place: Place::Line(self.line),
            column: column.name.clone(),
            value: short(self.splitter.field(column.index)),
            rule,
        }
    }

    fn candle(&mut self) -> Result<Candle, HistoryError> {
        let place = Place::Line(self.line);
        let found = self.splitter.split(&self.buffer);
        if found != Some(self.width) {
            let (file, expected) = (self.file.clone(), self.width);
            let found = found.unwrap_or_default();
            return Err(HistoryError::Fields { file, place, found, expected });
        }
        let time = self.splitter.field(self.columns.time.index);
        let form = self.form.or_else(|| TimeForm::of_first(time));
        let open_time_ms = form
            .and_then(|form| form.read(time))
            .ok_or_else(|| self.wrong(&self.columns.time, TimeForm::RULE))?;
        self.form = form;
        let number = |column: &Column| {
            let field = self.splitter.field(column.index);
            field.parse::<f64>().map_err(|_| self.wrong(column, "a number"))
        };
        let [open, high, low, close, volume] = &self.columns.numbers;
        let trade_count = match &self.columns.trade_count {
            None => None,
            Some(column) => match self.splitter.field(column.index) {
                "" => None,
                text => Some(
                    read_count(text)
                        .ok_or_else(|| self.wrong(column, "a whole number or empty"))?,
                ),
            },
        };
        Ok(Candle {
            open_time_ms,
            open: number(open)?,
            high: number(high)?,
            low: number(low)?,
            close: number(close)?,
            volume: number(volume)?,
            trade_count,
        })
    }
}

/// Reads a count; some programs write it as `12.0`.
fn read_count(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.bytes().any(|digit| digit != b'0') {
        return None;
    }
    whole.parse().ok()
}

impl RowSource for CsvRows {
    fn next_row(&mut self) -> Option<Result<Row, HistoryError>> {
        match self.next_line() {
            Ok(false) => None,
            Ok(true) => {
                let place = Place::Line(self.line);
                Some(self.candle().map(|candle| Row { place, candle }))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
