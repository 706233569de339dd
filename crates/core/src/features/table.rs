//! The features of a whole history, for training and back-tests.
//!
//! A row looks at its own warm-up only, so each is computed once, and a window cut out of the table is
//! the one that [`build_window`](super::build_window) gives at the same time.

use super::rows::Run;
use super::window::Window;
use super::{Columns, FeatureSet};
use crate::candle::Candle;
use crate::grid::Interval;
use crate::ids::StreamId;

/// One row of features a candle, where all of them have a value.
#[derive(Debug, Clone)]
pub struct FeatureTable {
    set: FeatureSet,
    interval: Interval,
    close_times_ms: Vec<i64>,
    /// `[candles, F]`, row after row; zeros in rows that are not whole.
    rows: Vec<f64>,
    /// Rows up to and including each one that are not whole.
    broken: Vec<u32>,
}

impl FeatureTable {
    /// Computes the features of `candles`, which are sound and rising; nothing reaches over a hole.
    pub fn new(candles: &[Candle], interval: Interval, columns: &Columns, set: FeatureSet) -> Self {
        let mut table = Self {
            interval,
            close_times_ms: candles.iter().map(|candle| candle.close_time_ms(interval)).collect(),
            rows: Vec::with_capacity(candles.len() * set.names().len()),
            broken: Vec::with_capacity(candles.len()),
            set,
        };
        let step_ms = interval.as_ms();
        for run in candles.chunk_by(|a, b| b.open_time_ms == a.open_time_ms + step_ms) {
            table.add(&Run::new(run, interval, columns, &table.set), run.len());
        }
        table
    }

    fn add(&mut self, run: &Run<'_>, count: usize) {
        for index in 0..count {
            let before = self.rows.len();
            for feature in self.set.names() {
                match run.value(feature, index) {
                    Some(value) => self.rows.push(value),
                    None => break,
                }
            }
            let is_whole = self.rows.len() == before + self.set.names().len();
            if !is_whole {
                self.rows.truncate(before);
                self.rows.resize(before + self.set.names().len(), 0.0);
            }
            let broken = self.broken.last().copied().unwrap_or(0);
            self.broken.push(broken + u32::from(!is_whole));
        }
    }

    /// Returns the features.
    pub const fn set(&self) -> &FeatureSet {
        &self.set
    }

    /// Tells whether every row of the candles `first` to `last`, both included, has all values. Says
    /// nothing about holes between them.
    pub fn is_whole(&self, first: usize, last: usize) -> bool {
        let before = first.checked_sub(1).map_or(Some(&0), |index| self.broken.get(index));
        match (before, self.broken.get(last)) {
            (Some(before), Some(after)) => first <= last && before == after,
            _ => false,
        }
    }

    /// Returns the rows of the candles `first` to `last`, both included, row after row.
    pub fn rows(&self, first: usize, last: usize) -> Option<&[f64]> {
        let width = self.set.names().len();
        self.rows.get(first * width..(last + 1) * width).filter(|_| self.is_whole(first, last))
    }

    /// Returns the window of the candles `first` to `last`, both included, which have no hole between
    /// them; `None` when a value is missing.
    pub fn window(&self, stream: &StreamId, first: usize, last: usize) -> Option<Window> {
        Some(Window {
            stream: stream.clone(),
            end_ms: self.close_times_ms.get(last).copied()?,
            interval: self.interval,
            features: self.set.names().to_vec(),
            indicators: self.set.indicators(),
            rows: self.rows(first, last)?.to_vec(),
            filled: 0,
            missing: Vec::new(),
        })
    }
}
