//! The reference's binary feature files (`.taosfs`), as bytes in memory.
//!
//! Little endian: magic `TaoshiFS`, version 1, `u16` number of columns, per column `u32` feature and
//! `u8` type, `i64` start in ms, `i64` interval in ms, then rows without padding. On disk the stream is
//! mostly compressed with bzip2, which the caller undoes; nothing inside tells.

use super::FeatureId;
use crate::grid::{GridError, Interval};
use crate::settings::Compatibility;

const MAGIC: &[u8; 8] = b"TaoshiFS";
const VERSION: u8 = 1;
/// Most columns of a file; protects against a hostile header.
const MAX_COLUMNS: usize = 4096;

/// Type of the numbers of a column; the codes are those of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberType {
    /// Signed 32 bits.
    Int32,
    /// Unsigned 32 bits.
    UInt32,
    /// Signed 64 bits; read as f64, exact up to 2^53.
    Int64,
    /// Half precision.
    Float16,
    /// Single precision.
    Float32,
    /// Double precision.
    Float64,
}

/// What is wrong with a file or a call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FileError {
    /// The bytes do not begin as such a file.
    #[error("not a feature file of version 1 (is it still compressed?)")]
    NotAFeatureFile,
    /// The header ends early or has too many columns.
    #[error("header is cut off or has more than 4096 columns")]
    Header,
    /// A column has an unknown type.
    #[error("feature {feature} has the unknown number type {code}")]
    NumberType {
        /// The column.
        feature: FeatureId,
        /// The code in the file.
        code: u8,
    },
    /// The interval is not usable.
    #[error(transparent)]
    Interval(#[from] GridError),
    /// Another interval was asked for.
    #[error("file has an interval of {has}, not {asked}")]
    OtherInterval {
        /// Of the file.
        has: Interval,
        /// Of the call.
        asked: Interval,
    },
    /// The time is not one of the file's rows.
    #[error("start {start_ms} ms is not a row of the file")]
    OffGrid {
        /// The time asked for.
        start_ms: i64,
    },
    /// The rows asked for are not all there.
    #[error("rows {first}.. ({count} of them) are not in the file of {has} rows")]
    OutOfRange {
        /// First row asked for.
        first: i64,
        /// Number of rows asked for.
        count: usize,
        /// Rows of the file.
        has: usize,
    },
    /// A value is NaN or infinite.
    #[error("feature {feature} has a value that is not finite in row {row}")]
    NotFinite {
        /// The column.
        feature: FeatureId,
        /// The row.
        row: usize,
    },
    /// Values to append do not continue the file or do not fit its columns.
    #[error("rows to append must start at {expected_ms} ms and hold a value for each column")]
    Append {
        /// Time of the next row.
        expected_ms: i64,
    },
    /// A value cannot be stored in its column's type without changing it.
    #[error("{value} does not fit the type of feature {feature}")]
    DoesNotFit {
        /// The column.
        feature: FeatureId,
        /// The value.
        value: f64,
    },
}

impl NumberType {
    const CODES: [(Self, u8, usize); 6] = [
        (Self::Int32, 5, 4),
        (Self::UInt32, 6, 4),
        (Self::Int64, 7, 8),
        (Self::Float32, 11, 4),
        (Self::Float64, 12, 8),
        (Self::Float16, 23, 2),
    ];

    fn from_code(code: u8) -> Option<Self> {
        Self::CODES.iter().find(|(_, known, _)| *known == code).map(|(kind, ..)| *kind)
    }

    fn code(self) -> u8 {
        Self::CODES.iter().find(|(kind, ..)| *kind == self).map_or(0, |(_, code, _)| *code)
    }

    fn size(self) -> usize {
        Self::CODES.iter().find(|(kind, ..)| *kind == self).map_or(0, |(.., size)| *size)
    }

    fn decode(self, bytes: &[u8]) -> Option<f64> {
        Some(match self {
            Self::Int32 => f64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
            Self::UInt32 => f64::from(u32::from_le_bytes(bytes.try_into().ok()?)),
            Self::Int64 => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
            Self::Float16 => half_to_f64(u16::from_le_bytes(bytes.try_into().ok()?)),
            Self::Float32 => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
            Self::Float64 => f64::from_le_bytes(bytes.try_into().ok()?),
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "the caller reads back and compares")]
    #[expect(clippy::cast_sign_loss, reason = "the caller reads back and compares")]
    fn encode(self, value: f64) -> Vec<u8> {
        match self {
            Self::Int32 => (value as i32).to_le_bytes().to_vec(),
            Self::UInt32 => (value as u32).to_le_bytes().to_vec(),
            Self::Int64 => (value as i64).to_le_bytes().to_vec(),
            Self::Float16 => f64_to_half(value).to_le_bytes().to_vec(),
            Self::Float32 => (value as f32).to_le_bytes().to_vec(),
            Self::Float64 => value.to_le_bytes().to_vec(),
        }
    }

    const fn is_integer(self) -> bool {
        matches!(self, Self::Int32 | Self::UInt32 | Self::Int64)
    }
}

/// A feature file in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureFile {
    columns: Vec<(FeatureId, NumberType)>,
    start_ms: i64,
    interval: Interval,
    rows: Vec<u8>,
}

impl FeatureFile {
    /// Creates a file without rows.
    ///
    /// # Errors
    /// [`FileError::Header`] for no columns or too many.
    pub fn new(
        columns: Vec<(FeatureId, NumberType)>,
        start_ms: i64,
        interval: Interval,
    ) -> Result<Self, FileError> {
        if columns.is_empty() || columns.len() > MAX_COLUMNS {
            return Err(FileError::Header);
        }
        Ok(Self { columns, start_ms, interval, rows: Vec::new() })
    }

    /// Reads the plain bytes of a file. A last row that is cut off is dropped.
    ///
    /// Golden data: `features/binary_file.json`, exact.
    ///
    /// # Errors
    /// [`FileError`] says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(FileError::NotAFeatureFile)?;
        let body = body.strip_prefix(&[VERSION]).ok_or(FileError::NotAFeatureFile)?;
        let (count, mut body) = take::<2>(body)?;
        let count = usize::from(u16::from_le_bytes(count));
        if count == 0 || count > MAX_COLUMNS {
            return Err(FileError::Header);
        }
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            let (feature, rest) = take::<4>(body)?;
            let feature = FeatureId(u32::from_le_bytes(feature));
            let ([code], rest) = take::<1>(rest)?;
            let kind =
                NumberType::from_code(code).ok_or(FileError::NumberType { feature, code })?;
            columns.push((feature, kind));
            body = rest;
        }
        let (start, rest) = take::<8>(body)?;
        let (interval, rows) = take::<8>(rest)?;
        let mut file = Self {
            columns,
            start_ms: i64::from_le_bytes(start),
            interval: Interval::from_ms(i64::from_le_bytes(interval))?,
            rows: Vec::new(),
        };
        let whole = rows.len() - rows.len() % file.row_size();
        file.rows = rows[..whole].to_vec();
        Ok(file)
    }

    /// Returns the plain bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.extend_from_slice(&self.rows);
        bytes
    }

    /// Returns the plain bytes of the header alone.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        // The constructors allow at most MAX_COLUMNS.
        let count = u16::try_from(self.columns.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for (feature, kind) in &self.columns {
            bytes.extend_from_slice(&feature.0.to_le_bytes());
            bytes.push(kind.code());
        }
        bytes.extend_from_slice(&self.start_ms.to_le_bytes());
        bytes.extend_from_slice(&self.interval.as_ms().to_le_bytes());
        bytes
    }

    /// Returns the columns.
    pub fn columns(&self) -> &[(FeatureId, NumberType)] {
        &self.columns
    }

    /// Returns the time of the first row.
    pub const fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// Returns the distance of the rows.
    pub const fn interval(&self) -> Interval {
        self.interval
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.row_size()
    }

    /// Tells whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the bytes of a row.
    pub fn row_size(&self) -> usize {
        self.columns.iter().map(|(_, kind)| kind.size()).sum::<usize>().max(1)
    }

    /// Reads `count` rows from `start_ms` on, one list a column.
    ///
    /// `Seed` compatibility takes the row before a start that lies between two rows.
    ///
    /// # Errors
    /// [`FileError::OtherInterval`], [`FileError::OffGrid`], [`FileError::OutOfRange`] or
    /// [`FileError::NotFinite`].
    pub fn read(
        &self,
        start_ms: i64,
        interval: Interval,
        count: usize,
        compatibility: Compatibility,
    ) -> Result<Vec<(FeatureId, Vec<f64>)>, FileError> {
        if interval != self.interval {
            return Err(FileError::OtherInterval { has: self.interval, asked: interval });
        }
        let offset_ms = start_ms.saturating_sub(self.start_ms);
        if compatibility == Compatibility::Standard && !interval.is_aligned(offset_ms) {
            return Err(FileError::OffGrid { start_ms });
        }
        let first = offset_ms / interval.as_ms();
        let out = || FileError::OutOfRange { first, count, has: self.len() };
        let first_row = usize::try_from(first).map_err(|_| out())?;
        let end = first_row.checked_add(count).filter(|end| *end <= self.len()).ok_or_else(out)?;
        let mut values: Vec<(FeatureId, Vec<f64>)> =
            self.columns.iter().map(|(feature, _)| (*feature, Vec::with_capacity(count))).collect();
        let rows = self.rows.chunks_exact(self.row_size()).enumerate();
        for (row, mut bytes) in rows.take(end).skip(first_row) {
            for ((feature, kind), (_, column)) in self.columns.iter().zip(&mut values) {
                let (cell, rest) = bytes.split_at(kind.size());
                let value = kind.decode(cell).filter(|value| value.is_finite());
                column.push(value.ok_or(FileError::NotFinite { feature: *feature, row })?);
                bytes = rest;
            }
        }
        Ok(values)
    }

    /// Appends rows; they must continue exactly at the next time.
    ///
    /// # Errors
    /// [`FileError::Append`] or [`FileError::DoesNotFit`]; the file is then unchanged.
    pub fn append(&mut self, start_ms: i64, rows: &[Vec<f64>]) -> Result<(), FileError> {
        let has = i64::try_from(self.len()).unwrap_or(i64::MAX);
        let expected_ms = self.start_ms.saturating_add(has.saturating_mul(self.interval.as_ms()));
        if start_ms != expected_ms || rows.iter().any(|row| row.len() != self.columns.len()) {
            return Err(FileError::Append { expected_ms });
        }
        let mut added = Vec::with_capacity(rows.len() * self.row_size());
        for row in rows {
            for ((feature, kind), value) in self.columns.iter().zip(row) {
                let bytes = kind.encode(*value);
                let stored = kind.decode(&bytes).unwrap_or(f64::NAN);
                // Integers are exact; floats may round, but not to infinity.
                let fits = if kind.is_integer() {
                    stored.to_bits() == value.to_bits()
                } else {
                    stored.is_finite()
                };
                if !fits {
                    return Err(FileError::DoesNotFit { feature: *feature, value: *value });
                }
                added.extend_from_slice(&bytes);
            }
        }
        self.rows.extend_from_slice(&added);
        Ok(())
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), FileError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(FileError::Header)?;
    Ok((*head, rest))
}

fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2.0_f64.powi(-24),
        31 if fraction > 0.0 => f64::NAN,
        31 => f64::INFINITY,
        _ => (1024.0 + fraction) * 2.0_f64.powi(exponent - 25),
    }
}

/// Rounds to the nearest half, ties to even; too large becomes infinite.
fn f64_to_half(value: f64) -> u16 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let size = value.abs();
    if size.is_nan() {
        return 0x7e00;
    }
    if size >= 65_520.0 {
        return sign | 0x7c00;
    }
    // The unit of the last place: 2^-24 for subnormals, else exponent - 10.
    let mut exponent = -14;
    while size >= 2.0_f64.powi(exponent + 1) {
        exponent += 1;
    }
    let units = (size / 2.0_f64.powi(exponent - 10)).round_ties_even();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=2048")]
    let units = units as u16;
    let biased = u16::try_from(exponent + 14).unwrap_or(0);
    // A rounding up to 2048 units carries into the exponent by itself.
    sign | ((biased << 10) + units)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file() -> FeatureFile {
        let columns = vec![
            (FeatureId::CLOSE, NumberType::Float32),
            (FeatureId::TRADE_COUNT, NumberType::UInt32),
            (FeatureId::VOLUME, NumberType::Float16),
        ];
        let mut file = FeatureFile::new(columns, 600_000, Interval::FIVE_MINUTES).unwrap();
        file.append(600_000, &[vec![1.5, 7.0, 0.25], vec![2.5, 8.0, 1.0]]).unwrap();
        file
    }

    #[test]
    fn bytes_round_trip_and_rows_are_found_by_time() {
        let file = file();
        let back = FeatureFile::decode(&file.encode()).unwrap();
        assert_eq!(back, file);
        let read = |start, count, compatibility| {
            back.read(start, Interval::FIVE_MINUTES, count, compatibility)
        };
        let row = read(900_000, 1, Compatibility::Standard).unwrap();
        assert_eq!(row[1], (FeatureId::TRADE_COUNT, vec![8.0]));
        assert!(matches!(
            read(900_001, 1, Compatibility::Standard),
            Err(FileError::OffGrid { .. })
        ));
        assert!(read(900_001, 1, Compatibility::Seed).is_ok());
        assert!(matches!(
            read(900_000, 2, Compatibility::Standard),
            Err(FileError::OutOfRange { .. })
        ));
        assert!(read(0, 1, Compatibility::Standard).is_err());
    }

    #[test]
    fn rows_must_continue_and_fit() {
        let mut file = file();
        let before = file.clone();
        assert!(file.append(900_000, &[vec![1.0, 1.0, 1.0]]).is_err());
        assert!(file.append(1_200_000, &[vec![1.0, 1.0]]).is_err());
        assert!(file.append(1_200_000, &[vec![1.0, -1.0, 1.0]]).is_err());
        assert!(file.append(1_200_000, &[vec![1.0, 1.0, 1e9]]).is_err());
        assert!(file.append(1_200_000, &[vec![f64::NAN, 1.0, 1.0]]).is_err());
        assert_eq!(file, before);
    }

    #[test]
    fn halves_survive_a_round_trip() {
        for bits in 0..=u16::MAX {
            let value = half_to_f64(bits);
            if !value.is_nan() {
                assert_eq!(f64_to_half(value), bits, "{value}");
            }
        }
        assert_eq!(f64_to_half(65_519.9), 0x7bff);
        assert_eq!(f64_to_half(65_520.0), 0x7c00);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(FeatureFile::decode(&bytes).is_err() || bytes.starts_with(MAGIC));
            let mut long = MAGIC.to_vec();
            long.push(VERSION);
            long.extend(bytes);
            if let Ok(file) = FeatureFile::decode(&long) {
                let rows = file.read(file.start_ms(), file.interval(), 1, Compatibility::Seed);
                prop_assert!(rows.is_err() || !file.is_empty());
            }
        }
    }
}
