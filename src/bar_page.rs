//! The candles of a stream in pages, for the operator's interface and the commands.

use anyhow::Context as _;
use forecastd_core::bars::Bar;
use forecastd_core::{Interval, StreamId};
use forecastd_store::{CandleRecord, Store, StreamRecord};
use serde::{Deserialize, Serialize};

use crate::views;

/// Most candles of one page; about 1 MB of JSON.
pub const MAX_PAGE: usize = 5_000;

/// Candles of a stream, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BarPage {
    /// Length of the stream's candles, where the store knows it.
    pub interval_ms: Option<i64>,
    /// At most [`MAX_PAGE`] of them.
    pub bars: Vec<Bar>,
    /// Start of the next page; none after the last one.
    pub next_ms: Option<i64>,
}

/// Returns a stored candle as a bar.
pub(crate) fn bar_of(record: &CandleRecord) -> Bar {
    Bar { state: record.state, ..Bar::backfilled(record.candle) }
}

/// Returns the length of the stream's candles, where the store knows it.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn interval_of(store: &Store, stream: &StreamId) -> anyhow::Result<Option<Interval>> {
    let record = store.get::<StreamRecord>(stream).context("reading what the stream is")?;
    let interval = record.map(|record| Interval::from_ms(record.interval_ms)).transpose();
    interval.context("reading the stream's interval")
}

/// Returns the candles of `from_ms..to_ms`, at most [`MAX_PAGE`].
///
/// # Errors
/// The store cannot be read, or has nothing of this stream.
pub fn page(store: &Store, stream: &str, from_ms: i64, to_ms: i64) -> anyhow::Result<BarPage> {
    let id = StreamId(stream.to_owned());
    let interval = interval_of(store, &id)?;
    if interval.is_none() {
        views::must_know(store, stream)?;
    }
    let mut page =
        BarPage { interval_ms: interval.map(Interval::as_ms), bars: Vec::new(), next_ms: None };
    if from_ms >= to_ms {
        return Ok(page);
    }
    for row in store.scan::<CandleRecord>((id.clone(), from_ms)..(id, to_ms)) {
        let ((_, open_time_ms), record) = row.context("reading candles")?;
        if page.bars.len() == MAX_PAGE {
            page.next_ms = Some(open_time_ms);
            break;
        }
        page.bars.push(bar_of(&record));
    }
    Ok(page)
}
