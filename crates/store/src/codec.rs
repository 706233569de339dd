//! Values: `version (1) | parts (1) | CRC-32C (4, big-endian) | postcard fields`.
//!
//! The checksum covers the row's key, the version and all fields: a row that was changed, cut or
//! put under another key is refused, never read as something else. sled itself misses changed bits.
//! postcard writes the 8 bytes of a float as they are, so floats come back bit for bit.
//!
//! sled keeps up to 16 neighbouring rows in one page, and writes a page of more than 128 KiB to a
//! file of its own, which it does not remove reliably (measured: 28 kB rows left 120 kB behind for
//! each row removed). Fields beyond [`PART_BYTES`] therefore continue in rows of the kind
//! [`PART_KIND`], whose keys are the row's key and a number; they are written, replaced and removed
//! together with their row.

use std::fmt::Write as _;

use sled::IVec;

use crate::error::StoreError;
use crate::key::{LAYOUT, StoreKey};
use crate::record::Record;

/// Largest value, bytes, all parts together.
pub const MAX_VALUE_BYTES: usize = 100_000;
/// Largest piece of a value in one row: 19 of them (16 and what a merge of pages adds) and their
/// keys stay below the 128 KiB of a page.
pub(crate) const PART_BYTES: usize = 6_000;
/// The kind of the rows that continue others.
pub(crate) const PART_KIND: u8 = 255;
const HEADER_BYTES: usize = 6;
/// Most bytes of a foreign key that get into a message.
const MAX_KEY_TEXT_BYTES: usize = 128;

/// What is wrong with a stored row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordProblem {
    /// Shorter than its header, or longer than any value may be.
    #[error("its value has {0} bytes")]
    Length(usize),
    /// Key, version and fields do not fit the checksum.
    #[error("its checksum is wrong")]
    Checksum,
    /// A version that this program cannot read.
    #[error("it has version {0}, which this program does not know")]
    Version(u8),
    /// The fields do not decode although the checksum is right.
    #[error("its fields do not decode: {0}")]
    Fields(String),
    /// The key is not one of its kind.
    #[error("its key does not decode")]
    Key,
}

/// A value as it is stored: the row itself and the rows that continue it.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) head: Vec<u8>,
    pub(crate) parts: Vec<Vec<u8>>,
}

impl Value {
    /// Returns its size on disk, without keys.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.parts.iter().map(Vec::len).sum::<usize>()
    }
}

/// Returns the value of a row.
pub(crate) fn encode<R: Record>(row_key: &[u8], record: &R) -> Result<Value, StoreError> {
    record.validate().map_err(|reason| StoreError::Invalid { record: R::NAME, reason })?;
    let fields = postcard::to_allocvec(record).map_err(|error| StoreError::Record {
        record: R::NAME,
        key: hex(row_key),
        problem: RecordProblem::Fields(error.to_string()),
    })?;
    let bytes = HEADER_BYTES + fields.len();
    if bytes > MAX_VALUE_BYTES {
        return Err(StoreError::TooLarge { what: R::NAME, bytes, limit: MAX_VALUE_BYTES });
    }
    let mut pieces = fields.chunks(PART_BYTES);
    let first = pieces.next().unwrap_or_default();
    let parts: Vec<Vec<u8>> = (1..=u8::MAX)
        .zip(pieces)
        .map(|(number, piece)| frame(&part_key(row_key, number), R::VERSION, piece))
        .collect();
    let count = u8::try_from(parts.len()).unwrap_or(u8::MAX);
    let sum = checksum(row_key, R::VERSION, count, &fields);
    Ok(Value { head: with_header(R::VERSION, count, sum, first), parts })
}

/// Returns the key of the row that continues `row_key` as number `number`, from 1.
pub(crate) fn part_key(row_key: &[u8], number: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(row_key.len() + 3);
    key.extend_from_slice(&[PART_KIND, LAYOUT]);
    key.extend_from_slice(row_key);
    key.push(number);
    key
}

/// Splits the key of a continuing row into the key of its row and its number.
pub(crate) fn split_part_key(key: &[u8]) -> Option<(&[u8], u8)> {
    match key {
        [PART_KIND, LAYOUT, row_key @ .., number] => Some((row_key, *number)),
        _ => None,
    }
}

/// Returns how many rows continue the one with this value.
pub(crate) fn part_count(head: &[u8]) -> u8 {
    head.get(1).copied().unwrap_or(0)
}

/// Puts the fields of continuing rows behind those of their row. What is missing or broken among
/// them breaks the checksum of the whole.
pub(crate) fn join(head: &[u8], parts: &[Option<IVec>]) -> IVec {
    let mut whole = head.to_vec();
    for part in parts.iter().flatten() {
        whole.extend_from_slice(part.get(HEADER_BYTES..).unwrap_or_default());
    }
    IVec::from(whole)
}

/// Reads the value of a row.
pub(crate) fn decode<R: Record>(row_key: &[u8], value: &[u8]) -> Result<R, StoreError> {
    let read = || -> Result<R, RecordProblem> {
        let (version, fields) = unframe(row_key, value)?;
        if version != R::VERSION {
            return R::upgrade(version, fields).ok_or(RecordProblem::Version(version));
        }
        let (record, rest) = postcard::take_from_bytes(fields)
            .map_err(|error| RecordProblem::Fields(error.to_string()))?;
        if rest.is_empty() {
            Ok(record)
        } else {
            Err(RecordProblem::Fields(format!("{} bytes are left over", rest.len())))
        }
    };
    read().map_err(|problem| StoreError::Record {
        record: R::NAME,
        key: key_text::<R>(row_key),
        problem,
    })
}

/// Reads the key of a row.
pub(crate) fn decode_key<R: Record>(row_key: &[u8]) -> Result<R::Key, StoreError> {
    let key = match row_key {
        [kind, LAYOUT, rest @ ..] if *kind == R::KIND => R::Key::decode(rest),
        _ => None,
    };
    key.ok_or_else(|| StoreError::Record {
        record: R::NAME,
        key: hex(row_key),
        problem: RecordProblem::Key,
    })
}

/// Returns a value without parts.
pub(crate) fn frame(row_key: &[u8], version: u8, fields: &[u8]) -> Vec<u8> {
    with_header(version, 0, checksum(row_key, version, 0, fields), fields)
}

/// Checks a whole value and returns version and fields.
pub(crate) fn unframe<'a>(
    row_key: &[u8],
    value: &'a [u8],
) -> Result<(u8, &'a [u8]), RecordProblem> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(RecordProblem::Length(value.len()));
    }
    let (header, fields) =
        value.split_first_chunk::<HEADER_BYTES>().ok_or(RecordProblem::Length(value.len()))?;
    let [version, parts, sum @ ..] = *header;
    if u32::from_be_bytes(sum) != checksum(row_key, version, parts, fields) {
        return Err(RecordProblem::Checksum);
    }
    Ok((version, fields))
}

/// Returns the checksum that a value carries, unchecked; 0 for a value without header.
pub(crate) fn stored_checksum(value: &[u8]) -> u32 {
    match value {
        [_, _, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}

fn with_header(version: u8, parts: u8, sum: u32, fields: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + fields.len());
    value.extend_from_slice(&[version, parts]);
    value.extend_from_slice(&sum.to_be_bytes());
    value.extend_from_slice(fields);
    value
}

fn checksum(row_key: &[u8], version: u8, parts: u8, fields: &[u8]) -> u32 {
    let sum = crc32c::crc32c(row_key);
    let sum = crc32c::crc32c_append(sum, &[version, parts]);
    crc32c::crc32c_append(sum, fields)
}

/// Returns a key for people: decoded where possible, otherwise its bytes.
pub(crate) fn key_text<R: Record>(row_key: &[u8]) -> String {
    decode_key::<R>(row_key).map_or_else(|_| hex(row_key), |key| format!("{key:?}"))
}

/// Returns bytes for people, at most [`MAX_KEY_TEXT_BYTES`] of them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(MAX_KEY_TEXT_BYTES).fold(String::new(), |mut text, byte| {
        // Writing into a text cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use forecastd_core::{Candle, StreamId};
    use proptest::prelude::*;

    use super::*;
    use crate::record::row_key;
    use crate::records::{AnswerRecord, CandleRecord};
    use forecastd_core::bars::BarState;

    fn record(values: [f64; 5]) -> CandleRecord {
        let [open, high, low, close, volume] = values;
        let candle =
            Candle { open_time_ms: -5, open, high, low, close, volume, trade_count: Some(7) };
        CandleRecord {
            candle,
            state: BarState::Complete,
            source: "binance".to_owned(),
            is_settled: false,
        }
    }

    fn key() -> Vec<u8> {
        row_key::<CandleRecord>(&(StreamId("BTCUSD-5m".to_owned()), -5)).unwrap()
    }

    proptest! {
        #[test]
        fn finite_floats_come_back_bit_for_bit(bits in prop::array::uniform5(any::<u64>())) {
            let values = bits.map(f64::from_bits);
            let encoded = encode(&key(), &record(values)).map(|value| value.head);
            if values.iter().all(|value| value.is_finite()) {
                let candle = decode::<CandleRecord>(&key(), &encoded.unwrap()).unwrap().candle;
                let back = [candle.open, candle.high, candle.low, candle.close, candle.volume];
                prop_assert_eq!(back.map(f64::to_bits), bits);
            } else {
                let refused = matches!(encoded, Err(StoreError::Invalid { .. }));
                prop_assert!(refused);
            }
        }

        #[test]
        fn every_changed_bit_is_noticed(at: prop::sample::Index, bit in 0_u8..8) {
            let mut value = encode(&key(), &record([1.0, 2.0, 0.5, 1.5, -0.0])).unwrap().head;
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            prop_assert!(decode::<CandleRecord>(&key(), &value).is_err());
        }

        #[test]
        fn foreign_bytes_are_refused(value in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode::<CandleRecord>(&key(), &value).is_err());
        }
    }

    #[test]
    fn a_value_under_another_key_is_refused() {
        let value = encode(&key(), &record([1.0; 5])).unwrap().head;
        let other = row_key::<CandleRecord>(&(StreamId("BTCUSD-5m".to_owned()), -4)).unwrap();
        let error = decode::<CandleRecord>(&other, &value).unwrap_err();
        assert!(matches!(error, StoreError::Record { problem: RecordProblem::Checksum, .. }));
    }

    #[test]
    fn unknown_versions_and_left_over_bytes_are_refused() {
        let fields = postcard::to_allocvec(&record([1.0; 5])).unwrap();
        let newer = frame(&key(), CandleRecord::VERSION + 1, &fields);
        let error = decode::<CandleRecord>(&key(), &newer).unwrap_err();
        let unknown = CandleRecord::VERSION + 1;
        assert!(matches!(
            error,
            StoreError::Record { problem: RecordProblem::Version(version), .. } if version == unknown
        ));
        let longer = frame(&key(), CandleRecord::VERSION, &[fields, vec![0]].concat());
        let error = decode::<CandleRecord>(&key(), &longer).unwrap_err();
        assert!(matches!(error, StoreError::Record { problem: RecordProblem::Fields(_), .. }));
    }

    #[test]
    fn values_above_the_limit_are_refused() {
        let record = AnswerRecord { closes: vec![1.0; 12_600], commitment: String::new() };
        let error = encode(b"key", &record).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { limit: MAX_VALUE_BYTES, .. }));
    }

    #[test]
    fn long_values_are_cut_into_parts_and_joined_again() {
        for floats in [1, 700, 748, 750, 1_500, 12_400] {
            let closes: Vec<f64> = (0..floats).map(f64::from).collect();
            let record = AnswerRecord { closes, commitment: "c".to_owned() };
            let value = encode(b"key", &record).unwrap();
            assert!(value.head.len() <= PART_BYTES + HEADER_BYTES);
            assert_eq!(usize::from(part_count(&value.head)), value.parts.len());
            let mut parts: Vec<_> =
                value.parts.iter().map(|part| Some(IVec::from(part.as_slice()))).collect();
            let whole = join(&value.head, &parts);
            assert_eq!(decode::<AnswerRecord>(b"key", &whole).unwrap(), record);
            if parts.pop().is_some() {
                assert!(decode::<AnswerRecord>(b"key", &join(&value.head, &parts)).is_err());
            }
        }
        assert_eq!(split_part_key(&part_key(b"key", 3)), Some((b"key".as_slice(), 3)));
    }
}
