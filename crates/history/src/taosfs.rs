//! The reference's binary feature files as candles.
//!
//! The reference labels a sample with the END of its candle: the sample of 00:05 in a file of five
//! minutes is the candle that opened at 00:00. Its files mostly go without the opening price, which no
//! model of it uses; the close before stands for it then, brought into low..high.

use std::io::Read as _;

use forecastd_core::features::binary_file::{FeatureFile, FileError};
use forecastd_core::{Candle, Compatibility, FeatureId, Interval};

use crate::MAX_TAOSFS_BYTES;
use crate::error::{HistoryError, Place};
use crate::reader::{Row, RowSource};
use crate::unpack::{Plain, read_error};

/// First bytes of a plain file.
pub(crate) const MAGIC: &[u8] = b"TaoshiFS";
/// What no candle can do without.
const NEEDED: [FeatureId; 4] =
    [FeatureId::HIGH, FeatureId::LOW, FeatureId::CLOSE, FeatureId::VOLUME];

/// The rows of a feature file.
pub(crate) struct TaosfsRows {
    file: String,
    features: FeatureFile,
    next: usize,
    /// Close of the row before.
    close: Option<f64>,
}

impl TaosfsRows {
    /// Reads the whole file.
    pub(crate) fn open(file: &str, mut plain: Plain) -> Result<Self, HistoryError> {
        let mut bytes = Vec::new();
        let read = plain.read_to_end(&mut bytes);
        read.map_err(|source| read_error(file, Place::Row(0), MAX_TAOSFS_BYTES, source))?;
        let damaged = |source| HistoryError::Taosfs { file: file.to_owned(), source };
        let features = FeatureFile::decode(&bytes).map_err(damaged)?;
        let has = |wanted: FeatureId| features.columns().iter().any(|(id, _)| *id == wanted);
        let missing: Vec<String> =
            NEEDED.into_iter().filter(|id| !has(*id)).map(|id| id.to_string()).collect();
        if !missing.is_empty() {
            let reason = format!("the file has no {}", missing.join(", "));
            let place = Place::Row(0);
            return Err(HistoryError::Header { file: file.to_owned(), place, reason });
        }
        Ok(Self { file: file.to_owned(), features, next: 0, close: None })
    }

    pub(crate) const fn interval(&self) -> Interval {
        self.features.interval()
    }

    fn candle(&self, row: usize) -> Result<Candle, FileError> {
        let interval = self.features.interval();
        let offset_ms = i64::try_from(row).unwrap_or(i64::MAX).saturating_mul(interval.as_ms());
        let end_ms = self.features.start_ms().saturating_add(offset_ms);
        let values = self.features.read(end_ms, interval, 1, Compatibility::Standard)?;
        let value = |wanted: FeatureId| {
            let column = values.iter().find(|(id, _)| *id == wanted);
            column.and_then(|(_, values)| values.first()).copied()
        };
        let needed = |wanted| value(wanted).unwrap_or(f64::NAN);
        let [high, low, close, volume] = NEEDED.map(needed);
        // Not `clamp`, which panics where a damaged row has its low above its high.
        let before = || self.close.unwrap_or(close).min(high).max(low);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        let count = |count: f64| {
            (count.fract() == 0.0 && (0.0..=9e15).contains(&count)).then_some(count as u64)
        };
        Ok(Candle {
            open_time_ms: end_ms.saturating_sub(interval.as_ms()),
            open: value(FeatureId::OPEN).unwrap_or_else(before),
            high,
            low,
            close,
            volume,
            trade_count: value(FeatureId::TRADE_COUNT).and_then(count),
        })
    }
}

impl RowSource for TaosfsRows {
    fn next_row(&mut self) -> Option<Result<Row, HistoryError>> {
        if self.next >= self.features.len() {
            return None;
        }
        let row = self.next;
        self.next += 1;
        let place = Place::Row(self.next as u64);
        Some(match self.candle(row) {
            Ok(candle) => {
                self.close = Some(candle.close);
                Ok(Row { place, candle })
            }
            Err(FileError::NotFinite { feature, .. }) => Err(HistoryError::Field {
                file: self.file.clone(),
                place,
                column: feature.to_string(),
                value: "not finite".to_owned(),
                rule: "a number",
            }),
            Err(source) => Err(HistoryError::Taosfs { file: self.file.clone(), source }),
        })
    }
}
