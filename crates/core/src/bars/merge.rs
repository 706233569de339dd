//! One bar of several exchanges' bars of the same interval, and the settled closes of a horizon.
//!
//! ```text
//!  whole bars ─► outliers left out ─► quorum? ── yes ─► whole    (state: the worst that was used)
//!                                        │
//!                                        no ─► everything heard, outliers left out ─► partial
//! ```
//!
//! The sources are put into the order of their numbers first, so the order in which the caller has
//! them changes no bit. The arithmetic is that of [`crate::features::aggregate_step`]. All numbers
//! are checked before they are used, so nothing that comes out is NaN, infinite or out of bounds.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Bar, BarState, MAX_PRICE, MAX_VOLUME};
use crate::candle::Candle;
use crate::features::{Aggregation, CandleAggregation, aggregate, aggregate_step};
use crate::grid::Interval;
use crate::realised::{Realised, realised_closes};
use crate::stream::StreamSpec;

/// Most sources of one bar.
pub const MAX_SOURCES: usize = 64;

/// The caller's number of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub u16);

/// How the bars of several exchanges become one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MergeRules {
    /// How each field is merged.
    pub fields: CandleAggregation,
    /// Least number of whole bars that make a whole merged one.
    pub quorum: usize,
    /// Greatest distance of a close from the median of the closes, as a part of the median; a
    /// source beyond it is left out.
    ///
    /// Two sources that differ by more than twice of it are both left out, because nothing tells
    /// which of them is wrong.
    pub outlier_part: f64,
}

impl Default for MergeRules {
    /// Mean open and close, highest high, lowest low, sum of the volumes; two sources; 2 % from the
    /// median.
    fn default() -> Self {
        Self {
            fields: CandleAggregation {
                open: Aggregation::Mean,
                high: Aggregation::Max,
                low: Aggregation::Min,
                close: Aggregation::Mean,
                volume: Aggregation::Sum,
            },
            quorum: 2,
            outlier_part: 0.02,
        }
    }
}

impl MergeRules {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`MergeError`] names the value and the bound.
    pub fn validate(&self) -> Result<(), MergeError> {
        if !(1..=MAX_SOURCES).contains(&self.quorum) {
            return Err(MergeError::Quorum(self.quorum));
        }
        if !(self.outlier_part > 0.0 && self.outlier_part <= 1.0) {
            return Err(MergeError::OutlierPart(self.outlier_part));
        }
        Ok(())
    }
}

/// Why nothing is merged at all.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MergeError {
    /// No source, or more than there is room for.
    #[error("quorum is {0} sources, must be 1..64")]
    Quorum(usize),
    /// Not a part above zero.
    #[error("outlier_part is {0}, must be above 0 and at most 1")]
    OutlierPart(f64),
    /// More sources than [`MAX_SOURCES`].
    #[error("{0} sources of one bar, must be at most 64")]
    TooManySources(usize),
    /// The order of two bars of one source would be the caller's.
    #[error("source {0:?} comes twice, must be merged once")]
    Twice(SourceId),
}

/// Why a source does not count in a merged bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LeftOutReason {
    /// It has no bar of the interval.
    Missing,
    /// Its bar is not whole enough.
    State(BarState),
    /// Its bar breaks a rule of candles or a bound.
    Invalid,
    /// Its close is too far away.
    Outlier {
        /// Its distance from the median, as a part of the median.
        part: f64,
    },
}

/// A source that does not count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeftOut {
    /// Which one.
    pub source: SourceId,
    /// Why.
    pub reason: LeftOutReason,
}

/// What became of the bars of one interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// First millisecond of the interval.
    pub open_time_ms: i64,
    /// The merged bar, without trade ids; none where no source has a price that may be used.
    pub bar: Option<Bar>,
    /// How many sources count in it.
    pub used: usize,
    /// The others, by source.
    pub left_out: Vec<LeftOut>,
}

impl Merged {
    /// Returns the candle, where a quorum of whole bars made it.
    pub fn settled(&self) -> Option<Candle> {
        self.bar.filter(|bar| bar.state.is_whole()).map(|bar| bar.candle)
    }
}

/// Merges the bars of several sources, interval by interval, in rising order of time.
///
/// An interval that no source has gives nothing. The order of the sources and that of a source's
/// bars do not matter; of two bars of one source and time the later in the list counts.
///
/// # Errors
/// [`MergeError`] when the rules are out of bounds, a source comes twice or there are too many.
pub fn merge_bars(
    sources: &[(SourceId, &[Bar])],
    interval: Interval,
    rules: &MergeRules,
) -> Result<Vec<Merged>, MergeError> {
    check(sources.iter().map(|(source, _)| *source), rules)?;
    let mut rows: Vec<(SourceId, Cow<'_, [Bar]>)> =
        sources.iter().map(|(source, bars)| (*source, rising(bars))).collect();
    rows.sort_unstable_by_key(|row| row.0);
    let mut next = vec![0; rows.len()];
    let mut merged = Vec::with_capacity(rows.iter().map(|row| row.1.len()).max().unwrap_or(0));
    let mut room = Room::default();
    loop {
        let heads = || rows.iter().zip(&next).map(|((source, bars), at)| (*source, bars.get(*at)));
        let times = heads().filter_map(|(_, bar)| bar).map(|bar| bar.candle.open_time_ms);
        let Some(at_ms) = times.min() else { return Ok(merged) };
        let parts = heads()
            .map(|(source, bar)| (source, bar.filter(|bar| bar.candle.open_time_ms == at_ms)));
        room.parts.clear();
        room.parts.extend(parts);
        for (at, (_, bar)) in next.iter_mut().zip(&room.parts) {
            *at += usize::from(bar.is_some());
        }
        merged.push(merge(at_ms, &mut room, interval, rules));
    }
}

/// One source's bars in strictly rising order of time; of two of one time the later in the list.
fn rising(bars: &[Bar]) -> Cow<'_, [Bar]> {
    if bars.is_sorted_by(|a, b| a.candle.open_time_ms < b.candle.open_time_ms) {
        return Cow::Borrowed(bars);
    }
    let mut sorted = bars.to_vec();
    sorted.sort_by_key(|bar| bar.candle.open_time_ms);
    sorted.dedup_by(|later, kept| {
        let is_same = later.candle.open_time_ms == kept.candle.open_time_ms;
        if is_same {
            *kept = *later;
        }
        is_same
    });
    Cow::Owned(sorted)
}

/// Merges the bars of one interval; a source without one is `None`.
///
/// # Errors
/// [`MergeError`] when the rules are out of bounds, a source comes twice or there are too many.
pub fn merge_step(
    open_time_ms: i64,
    parts: &[(SourceId, Option<Bar>)],
    interval: Interval,
    rules: &MergeRules,
) -> Result<Merged, MergeError> {
    check(parts.iter().map(|part| part.0), rules)?;
    let parts = parts.iter().map(|(source, bar)| (*source, bar.as_ref()));
    let mut room = Room { parts: parts.collect(), ..Room::default() };
    room.parts.sort_unstable_by_key(|part| part.0);
    Ok(merge(open_time_ms, &mut room, interval, rules))
}

/// Decides what the bars of several sources say about the horizon that starts at `start_ms`.
///
/// Only closes on which a quorum of whole bars agrees count, and only once the bar after the last
/// needed one exists on a quorum: then the exchanges went on, and nothing before it is still to
/// come. At most `max_missing` closes are filled from the past. The caller freezes what it used
/// ([`super::BarSeries::freeze`]).
///
/// # Errors
/// [`MergeError`] when the rules are out of bounds, a source comes twice or there are too many.
pub fn realised_on_quorum(
    spec: &StreamSpec,
    sources: &[(SourceId, &[Bar])],
    start_ms: i64,
    max_missing: usize,
    rules: &MergeRules,
) -> Result<Realised, MergeError> {
    let merged = merge_bars(sources, spec.interval, rules)?;
    let settled: Vec<Candle> = merged.iter().filter_map(Merged::settled).collect();
    Ok(realised_closes(spec, &settled, start_ms, max_missing))
}

fn check(
    sources: impl ExactSizeIterator<Item = SourceId>,
    rules: &MergeRules,
) -> Result<(), MergeError> {
    rules.validate()?;
    if sources.len() > MAX_SOURCES {
        return Err(MergeError::TooManySources(sources.len()));
    }
    let mut known = BTreeSet::new();
    for source in sources {
        if !known.insert(source) {
            return Err(MergeError::Twice(source));
        }
    }
    Ok(())
}

/// The lists of one step, kept for the next one.
#[derive(Default)]
struct Room<'a> {
    /// What there is to merge, by source.
    parts: Vec<(SourceId, Option<&'a Bar>)>,
    heard: Vec<(SourceId, &'a Bar)>,
    used: Vec<(SourceId, &'a Bar)>,
    candles: Vec<&'a Candle>,
    closes: Vec<f64>,
}

/// Merges `room.parts`.
fn merge(open_time_ms: i64, room: &mut Room<'_>, interval: Interval, rules: &MergeRules) -> Merged {
    let Room { parts, heard, used, candles, closes } = room;
    let mut left_out = Vec::new();
    heard.clear();
    for &(source, bar) in &*parts {
        let reason = match bar {
            None => LeftOutReason::Missing,
            Some(bar) if !is_bounded(bar, open_time_ms, interval) => LeftOutReason::Invalid,
            Some(Bar { state: BarState::Void, .. }) => LeftOutReason::State(BarState::Void),
            Some(bar) => {
                heard.push((source, bar));
                continue;
            }
        };
        left_out.push(LeftOut { source, reason });
    }
    used.clear();
    used.extend(heard.iter().filter(|(_, bar)| bar.state.is_whole()));
    let mut outliers = leave_outliers_out(used, closes, rules.outlier_part);
    let is_quorum = used.len() >= rules.quorum;
    if is_quorum {
        for (source, bar) in heard.iter().filter(|(_, bar)| !bar.state.is_whole()) {
            left_out.push(LeftOut { source: *source, reason: LeftOutReason::State(bar.state) });
        }
    } else {
        used.clone_from(heard);
        outliers = leave_outliers_out(used, closes, rules.outlier_part);
    }
    left_out.extend(outliers);
    left_out.sort_by_key(|left| left.source);
    candles.clear();
    candles.extend(used.iter().map(|(_, bar)| &bar.candle));
    let worst = used.iter().map(|(_, bar)| bar.state).max().unwrap_or(BarState::Void);
    let bar = aggregate_step(open_time_ms, candles, &rules.fields).map(|candle| Bar {
        candle,
        state: if is_quorum { worst } else { BarState::Partial },
        is_flat: used.iter().all(|(_, bar)| bar.is_flat),
        first_id: None,
        last_id: None,
    });
    Merged { open_time_ms, bar, used: used.len(), left_out }
}

fn is_bounded(bar: &Bar, open_time_ms: i64, interval: Interval) -> bool {
    let candle = &bar.candle;
    candle.open_time_ms == open_time_ms
        && candle.validate(interval).is_ok()
        && candle.high <= MAX_PRICE
        && candle.volume <= MAX_VOLUME
}

/// Takes the sources whose close is away from the median one out of `bars` and returns them.
fn leave_outliers_out(
    bars: &mut Vec<(SourceId, &Bar)>,
    closes: &mut Vec<f64>,
    part: f64,
) -> Vec<LeftOut> {
    closes.clear();
    closes.extend(bars.iter().map(|(_, bar)| bar.candle.close));
    let Some(median) = aggregate(closes, Aggregation::Median) else {
        bars.clear();
        return Vec::new();
    };
    let mut away = Vec::new();
    bars.retain(|(source, bar)| {
        let distance = (bar.candle.close - median).abs() / median;
        let is_near = distance <= part;
        if !is_near {
            // A median near the least double would make the quotient infinite.
            let reason = LeftOutReason::Outlier { part: distance.min(f64::MAX) };
            away.push(LeftOut { source: *source, reason });
        }
        is_near
    });
    away
}

#[cfg(test)]
mod tests;
