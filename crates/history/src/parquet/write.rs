//! Writing.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;

use forecastd_core::Candle;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

const SCHEMA: &str = "message candles {
  REQUIRED INT64 open_time_ms (TIMESTAMP(MILLIS,true));
  REQUIRED DOUBLE open;
  REQUIRED DOUBLE high;
  REQUIRED DOUBLE low;
  REQUIRED DOUBLE close;
  REQUIRED DOUBLE volume;
  OPTIONAL INT64 trade_count (INTEGER(64,false));
}";
/// Candles of a row group: they wait in memory, 4 MB.
const GROUP: usize = 65_536;

/// Writes candles in row groups.
pub(crate) struct ParquetWriter {
    file: SerializedFileWriter<BufWriter<File>>,
    waiting: Vec<Candle>,
}

impl fmt::Debug for ParquetWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetWriter")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl ParquetWriter {
    pub(crate) fn new(file: BufWriter<File>) -> io::Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(other)?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("forecastd ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let file = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(other)?;
        Ok(Self { file, waiting: Vec::new() })
    }

    pub(crate) fn push(&mut self, candle: &Candle) -> io::Result<()> {
        self.waiting.push(*candle);
        if self.waiting.len() >= GROUP { self.flush().map_err(other) } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> io::Result<BufWriter<File>> {
        if !self.waiting.is_empty() {
            self.flush().map_err(other)?;
        }
        self.file.into_inner().map_err(other)
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let candles = std::mem::take(&mut self.waiting);
        let mut group = self.file.next_row_group()?;
        let times: Vec<i64> = candles.iter().map(|candle| candle.open_time_ms).collect();
        write_times(&mut group, &times)?;
        let columns: [fn(&Candle) -> f64; 5] =
            [|c| c.open, |c| c.high, |c| c.low, |c| c.close, |c| c.volume];
        for column in columns {
            let values: Vec<f64> = candles.iter().map(column).collect();
            write_numbers(&mut group, &values)?;
        }
        let counts: Vec<Option<u64>> = candles.iter().map(|candle| candle.trade_count).collect();
        write_counts(&mut group, &counts)?;
        group.close()?;
        Ok(())
    }
}

type Group<'a> = SerializedRowGroupWriter<'a, BufWriter<File>>;

fn write_times(group: &mut Group<'_>, values: &[i64]) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(lacks_column)?;
    column.typed::<Int64Type>().write_batch(values, None, None)?;
    column.close()
}

fn write_numbers(group: &mut Group<'_>, values: &[f64]) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(lacks_column)?;
    column.typed::<DoubleType>().write_batch(values, None, None)?;
    column.close()
}

fn write_counts(group: &mut Group<'_>, counts: &[Option<u64>]) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(lacks_column)?;
    let present: Vec<i64> = counts.iter().flatten().map(|count| count.cast_signed()).collect();
    let levels: Vec<i16> = counts.iter().map(|count| i16::from(count.is_some())).collect();
    if let ColumnWriter::Int64ColumnWriter(writer) = column.untyped() {
        writer.write_batch(&present, Some(&levels), None)?;
    }
    column.close()
}

fn lacks_column() -> ParquetError {
    ParquetError::General("the schema has fewer columns than a candle".to_owned())
}

fn other(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        error => io::Error::other(error),
    }
}
