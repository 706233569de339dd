//! Reading.

use std::fs::File;
use std::panic::AssertUnwindSafe;

use forecastd_core::Candle;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::guard::GuardedFile;
use crate::columns::{Column, Columns, Wanted};
use crate::error::{HistoryError, Place, short};
use crate::reader::{Row, RowSource};
use crate::time::{TimeForm, Unit};
use crate::{MAX_COLUMNS, MAX_ROWS};

/// Rows that are in memory at once.
const BATCH: usize = 8_192;

/// The rows of a table.
pub(crate) struct ParquetRows {
    file: String,
    table: SerializedFileReader<GuardedFile>,
    guard: GuardedFile,
    columns: Columns,
    /// What the schema or the first row says about the times.
    form: Option<TimeForm>,
    is_count_unsigned: bool,
    next_group: usize,
    group: Option<Group>,
    batch: Batch,
    row: u64,
}

/// The columns of the row group that is being read.
struct Group {
    left: usize,
    time: ColumnReader,
    numbers: [ColumnReader; 5],
    trade_count: Option<ColumnReader>,
    is_count_unsigned: bool,
}

/// Some rows, one list a column.
#[derive(Default)]
struct Batch {
    next: usize,
    times: Times,
    numbers: [Vec<Option<f64>>; 5],
    /// Signed and unsigned ones.
    counts: Vec<Option<i128>>,
}

enum Times {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

impl Default for Times {
    fn default() -> Self {
        Self::Numbers(Vec::new())
    }
}

impl ParquetRows {
    pub(crate) fn open(name: &str, file: File, wanted: Wanted<'_>) -> Result<Self, HistoryError> {
        let wrong = |reason: String| HistoryError::Parquet { file: name.to_owned(), reason };
        let io_error = |source| HistoryError::Open { file: name.to_owned(), source };
        let guard = GuardedFile::new(file.try_clone().map_err(io_error)?).map_err(io_error)?;
        let guarded = GuardedFile::new(file).map_err(io_error)?;
        let table = SerializedFileReader::new(guarded).map_err(|error| wrong(reason(&error)))?;
        let metadata = table.metadata().file_metadata();
        let rows = metadata.num_rows();
        if !(0..=MAX_ROWS.cast_signed()).contains(&rows) {
            return Err(wrong(format!("{rows} rows, must have at most {MAX_ROWS}")));
        }
        let schema = metadata.schema_descr();
        if schema.num_columns() > MAX_COLUMNS {
            return Err(wrong(format!("over {MAX_COLUMNS} columns")));
        }
        // What lies inside of lists and structs gets no name, so that indexes stay the file's.
        let name_of = |column: &ColumnDescriptor| {
            let is_plain = column.path().parts().len() == 1
                && column.max_rep_level() == 0
                && column.max_def_level() <= 1;
            if is_plain { column.name().to_owned() } else { String::new() }
        };
        let names: Vec<String> = schema.columns().iter().map(|column| name_of(column)).collect();
        let header =
            |reason| HistoryError::Header { file: name.to_owned(), place: Place::Row(0), reason };
        let columns = Columns::find(&names, wanted).map_err(header)?;
        for column in &columns.numbers {
            check_number(&schema.column(column.index)).map_err(header)?;
        }
        let form = time_form(&schema.column(columns.time.index))
            .or_else(|| columns.unit.map(TimeForm::Number));
        let is_unsigned = |column: &Column| {
            let column = schema.column(column.index);
            matches!(column.logical_type_ref(), Some(LogicalType::Integer(kind)) if !kind.is_signed)
        };
        Ok(Self {
            is_count_unsigned: columns.trade_count.as_ref().is_some_and(is_unsigned),
            file: name.to_owned(),
            table,
            guard,
            columns,
            form,
            next_group: 0,
            group: None,
            batch: Batch::default(),
            row: 0,
        })
    }

    fn wrong(&self, reason: String) -> HistoryError {
        HistoryError::Parquet { file: self.file.clone(), reason }
    }

    /// Reads the next rows into the batch; false when there are none.
    fn fill(&mut self) -> Result<bool, HistoryError> {
        loop {
            if let Some(group) = &mut self.group
                && group.left > 0
            {
                let count = group.left.min(BATCH);
                match guarded(|| group.read(count)) {
                    Ok(batch) => self.batch = batch,
                    Err(error) => {
                        // Its readers may be in any state now.
                        self.group = None;
                        self.next_group = usize::MAX;
                        return Err(self.wrong(reason(&error)));
                    }
                }
                return Ok(true);
            }
            if self.next_group >= self.table.metadata().num_row_groups() {
                return Ok(false);
            }
            let group = guarded(|| self.open_group(self.next_group));
            self.group = Some(group.map_err(|error| self.wrong(reason(&error)))?);
            self.next_group += 1;
        }
    }

    fn open_group(&self, index: usize) -> Result<Group, ParquetError> {
        let group = self.table.get_row_group(index)?;
        let open = |column: &Column| {
            let chunk = group.metadata().columns().get(column.index);
            let chunk = chunk.ok_or_else(|| ParquetError::General("a column is missing".into()))?;
            self.check_chunk(chunk)?;
            group.get_column_reader(column.index)
        };
        let [opening, highest, lowest, closing, volume] = &self.columns.numbers;
        Ok(Group {
            left: usize::try_from(group.metadata().num_rows())?,
            time: open(&self.columns.time)?,
            numbers: [open(opening)?, open(highest)?, open(lowest)?, open(closing)?, open(volume)?],
            trade_count: self.columns.trade_count.as_ref().map(open).transpose()?,
            is_count_unsigned: self.is_count_unsigned,
        })
    }

    /// Checks a column of the group before the library makes room for its pages.
    fn check_chunk(&self, chunk: &ColumnChunkMetaData) -> Result<(), ParquetError> {
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let (start, length) = (u64::try_from(start)?, u64::try_from(chunk.compressed_size())?);
        self.guard.check_pages(start, length).map_err(|error| ParquetError::External(error.into()))
    }

    fn wrong_field(&self, column: &Column, value: &str, rule: &'static str) -> HistoryError {
        HistoryError::Field {
            file: self.file.clone(),
            place: Place::Row(self.row),
            column: column.name.clone(),
            value: short(value),
            rule,
        }
    }

    fn time_at(&mut self, at: usize) -> Result<i64, HistoryError> {
        let text = match &self.batch.times {
            Times::Numbers(numbers) => {
                numbers.get(at).copied().flatten().map(|number| number.to_string())
            }
            Times::Texts(texts) => texts.get(at).cloned().flatten(),
        };
        let text = text.unwrap_or_else(|| "null".to_owned());
        let form = self.form.or_else(|| TimeForm::of_first(&text));
        let time_ms = form
            .and_then(|form| form.read(&text))
            .ok_or_else(|| self.wrong_field(&self.columns.time, &text, TimeForm::RULE))?;
        self.form = form;
        Ok(time_ms)
    }

    fn candle(&mut self, at: usize) -> Result<Candle, HistoryError> {
        let open_time_ms = self.time_at(at)?;
        let mut values = [0.0; 5];
        let places = self.columns.numbers.iter().zip(&self.batch.numbers);
        for (value, (column, list)) in values.iter_mut().zip(places) {
            *value = list
                .get(at)
                .copied()
                .flatten()
                .ok_or_else(|| self.wrong_field(column, "null", "a number"))?;
        }
        let trade_count = match (&self.columns.trade_count, self.batch.counts.get(at)) {
            (Some(column), Some(Some(count))) => {
                let rule = "a whole number, not negative, or null";
                let wrong = || self.wrong_field(column, &count.to_string(), rule);
                Some(u64::try_from(*count).map_err(|_| wrong())?)
            }
            _ => None,
        };
        let [open, high, low, close, volume] = values;
        Ok(Candle { open_time_ms, open, high, low, close, volume, trade_count })
    }
}

impl RowSource for ParquetRows {
    fn next_row(&mut self) -> Option<Result<Row, HistoryError>> {
        if self.batch.next >= self.batch.len() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let at = self.batch.next;
        self.batch.next += 1;
        self.row += 1;
        let place = Place::Row(self.row);
        Some(self.candle(at).map(|candle| Row { place, candle }))
    }
}

impl Batch {
    fn len(&self) -> usize {
        match &self.times {
            Times::Numbers(numbers) => numbers.len(),
            Times::Texts(texts) => texts.len(),
        }
    }
}

impl Group {
    fn read(&mut self, count: usize) -> Result<Batch, ParquetError> {
        let mut batch = Batch { times: times(&mut self.time, count)?, ..Batch::default() };
        for (list, column) in batch.numbers.iter_mut().zip(&mut self.numbers) {
            *list = numbers(column, count)?;
        }
        if let Some(column) = &mut self.trade_count {
            batch.counts = counts(column, count, self.is_count_unsigned)?;
        }
        self.left -= count;
        Ok(batch)
    }
}

/// What the schema says about the times, if it does.
fn time_form(column: &ColumnDescriptor) -> Option<TimeForm> {
    let unit = match (column.logical_type_ref(), column.converted_type()) {
        (Some(LogicalType::Timestamp(stamp)), _) => match stamp.unit {
            TimeUnit::MILLIS => Unit::Millis,
            TimeUnit::MICROS => Unit::Micros,
            TimeUnit::NANOS => Unit::Nanos,
        },
        (_, ConvertedType::TIMESTAMP_MILLIS) => Unit::Millis,
        (_, ConvertedType::TIMESTAMP_MICROS) => Unit::Micros,
        _ => return None,
    };
    Some(TimeForm::Number(unit))
}

fn check_number(column: &ColumnDescriptor) -> Result<(), String> {
    let is_number =
        matches!(column.physical_type(), Type::DOUBLE | Type::FLOAT | Type::INT32 | Type::INT64);
    let is_plain = matches!(column.logical_type_ref(), None | Some(LogicalType::Integer(_)))
        && column.converted_type() != ConvertedType::DECIMAL;
    if is_number && is_plain {
        return Ok(());
    }
    Err(format!("column `{}` must hold doubles, floats or integers", short(column.name())))
}

/// Runs the library, which panics over some damaged pages.
fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let caught = std::panic::catch_unwind(AssertUnwindSafe(work));
    caught.unwrap_or_else(|_| Err(ParquetError::General("a page is damaged".to_owned())))
}

/// Reads `count` values, nothing where there is none.
fn values<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    count: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let mut values = Vec::with_capacity(count);
    let mut levels: Vec<i16> = Vec::new();
    let mut read = 0;
    while read < count {
        let (records, _, _) =
            column.read_records(count - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Err(ParquetError::EOF("a column is shorter than its row group".into()));
        }
        read += records;
    }
    if levels.is_empty() {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(levels.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect())
}

fn converted<T: DataType, V>(
    column: &mut ColumnReaderImpl<T>,
    count: usize,
    convert: impl Fn(T::T) -> V,
) -> Result<Vec<Option<V>>, ParquetError> {
    Ok(values(column, count)?.into_iter().map(|value| value.map(&convert)).collect())
}

fn numbers(column: &mut ColumnReader, count: usize) -> Result<Vec<Option<f64>>, ParquetError> {
    match column {
        ColumnReader::DoubleColumnReader(column) => values(column, count),
        ColumnReader::FloatColumnReader(column) => converted(column, count, f64::from),
        ColumnReader::Int32ColumnReader(column) => converted(column, count, f64::from),
        ColumnReader::Int64ColumnReader(column) => converted(column, count, |value| value as f64),
        _ => Err(ParquetError::General("a price or volume is not a number".to_owned())),
    }
}

fn times(column: &mut ColumnReader, count: usize) -> Result<Times, ParquetError> {
    let whole = |value: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the range of i64")]
        let number = value as i64;
        (value.fract() == 0.0 && value.abs() < 9e18).then_some(number)
    };
    Ok(match column {
        ColumnReader::Int64ColumnReader(column) => Times::Numbers(values(column, count)?),
        ColumnReader::Int32ColumnReader(column) => {
            Times::Numbers(converted(column, count, i64::from)?)
        }
        ColumnReader::DoubleColumnReader(column) => {
            let numbers = values(column, count)?;
            Times::Numbers(numbers.into_iter().map(|value| whole(value?)).collect())
        }
        ColumnReader::ByteArrayColumnReader(column) => {
            let text = |bytes: parquet::data_type::ByteArray| {
                String::from_utf8_lossy(bytes.data()).into_owned()
            };
            Times::Texts(converted(column, count, text)?)
        }
        _ => {
            let rule = "the time must be a timestamp of 64 bits, a number or a text";
            return Err(ParquetError::General(rule.to_owned()));
        }
    })
}

fn counts(
    column: &mut ColumnReader,
    count: usize,
    is_unsigned: bool,
) -> Result<Vec<Option<i128>>, ParquetError> {
    #[expect(clippy::cast_possible_truncation, reason = "a count beyond 2^53 is not exact anyway")]
    match column {
        ColumnReader::Int64ColumnReader(column) => converted(column, count, |value| {
            if is_unsigned { i128::from(value.cast_unsigned()) } else { i128::from(value) }
        }),
        ColumnReader::Int32ColumnReader(column) => converted(column, count, i128::from),
        ColumnReader::DoubleColumnReader(column) => converted(column, count, |value| value as i128),
        _ => Err(ParquetError::General("a trade count is not a number".to_owned())),
    }
}

/// The library's words, shortened: they may quote the file.
fn reason(error: &ParquetError) -> String {
    let text: String = error.to_string().chars().filter(|letter| !letter.is_control()).collect();
    format!("damaged or not supported: {}", text.chars().take(200).collect::<String>())
}
