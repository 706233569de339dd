//! Candles as a Parquet table, without Arrow.
//!
//! Read are top-level columns by name: the time as a timestamp, number or text, prices and volume
//! as numbers of any width. Written is a timestamp in ms, doubles, and an optional trade count.

mod guard;
mod read;
mod write;

pub(crate) use read::ParquetRows;
pub(crate) use write::ParquetWriter;
