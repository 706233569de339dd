//! What a series of candles lacks, repeats and misplaces: the gap report.
//!
//! A [`Survey`] takes candles in any order and keeps two bits an interval, so that a report over
//! years of one-minute candles costs some MB. It judges; it neither keeps nor mends a candle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bar, MAX_PRICE, MAX_TIME_MS, MAX_VOLUME};
use crate::candle::{Candle, CandleError};
use crate::grid::Interval;

/// Most gaps and most flat runs that a report lists; their numbers are always complete.
pub const MAX_LISTED: usize = 1_000;
/// Flat candles in a row that a report lists; shorter runs are daily life on a thin market.
pub const LISTED_FLAT_RUN: u64 = 3;
/// Most words of 64 intervals: 254 years of one-minute candles without a hole, about 100 MB.
const MAX_WORDS: usize = 1 << 21;
const WORD_BITS: i64 = 64;

/// Why a candle does not belong into the series.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Finding {
    /// The candle breaks a rule, or lies off the grid.
    #[error(transparent)]
    Candle(#[from] CandleError),
    /// A number is finite and still absurd.
    #[error(
        "candle at {0} ms has a price above 1e15, a volume above 2^48 or a time outside of 1970..9999"
    )]
    OutOfBounds(i64),
    /// There was a candle of this time.
    #[error("candle at {0} ms is there twice")]
    Duplicate(i64),
    /// There was a younger candle.
    #[error("candle at {open_time_ms} ms comes after the one at {after_ms} ms, sort the rows")]
    OutOfOrder {
        /// Its open time.
        open_time_ms: i64,
        /// The youngest open time before it.
        after_ms: i64,
    },
    /// The candles lie so far apart that they cannot be one series.
    #[error("candle at {0} ms lies too far from the others, check the times and their unit")]
    TooScattered(i64),
}

/// Checks a candle by [`Candle::validate`] and the bounds of [`crate::bars`].
///
/// # Errors
/// [`Finding::Candle`] or [`Finding::OutOfBounds`].
pub fn check_candle(candle: &Candle, interval: Interval) -> Result<(), Finding> {
    candle.validate(interval)?;
    let is_bounded = candle.high <= MAX_PRICE
        && candle.volume <= MAX_VOLUME
        && (0..=MAX_TIME_MS).contains(&candle.open_time_ms);
    if is_bounded { Ok(()) } else { Err(Finding::OutOfBounds(candle.open_time_ms)) }
}

/// Intervals next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First open time.
    pub from_ms: i64,
    /// End of the last interval.
    pub to_ms: i64,
    /// Number of intervals.
    pub count: u64,
}

/// What is right and wrong with a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GapReport {
    /// Length of a candle, ms.
    pub interval_ms: i64,
    /// Open time of the first sound candle.
    pub first_ms: Option<i64>,
    /// Open time of the last sound candle.
    pub last_ms: Option<i64>,
    /// Start of the span that was looked at.
    pub from_ms: Option<i64>,
    /// End of the span, not included.
    pub to_ms: Option<i64>,
    /// Rows read, with the faulty ones.
    pub rows: u64,
    /// Intervals of the span with a sound candle.
    pub candles: u64,
    /// Intervals of the span.
    pub expected: u64,
    /// `candles` of `expected`, 0..100.
    pub coverage_percent: f64,
    /// Intervals of the span without a candle.
    pub missing: u64,
    /// Number of gaps.
    pub gaps: u64,
    /// The gaps, oldest first, at most [`MAX_LISTED`].
    pub missing_runs: Vec<Run>,
    /// Candles of the span without a trade.
    pub flat: u64,
    /// Runs of at least [`LISTED_FLAT_RUN`] flat candles, oldest first, at most [`MAX_LISTED`].
    pub flat_runs: Vec<Run>,
    /// Rows whose time was there before.
    pub duplicates: u64,
    /// Rows that are older than one before them.
    pub out_of_order: u64,
    /// Rows off the grid.
    pub off_grid: u64,
    /// Rows that cannot be read or break a rule.
    pub invalid: u64,
}

impl GapReport {
    /// Tells whether nothing is missing and no row is faulty. Flat candles are no fault.
    pub const fn is_clean(&self) -> bool {
        self.missing == 0 && self.faulty_rows() == 0 && self.candles > 0
    }

    /// Returns the number of rows that are not as they should be.
    pub const fn faulty_rows(&self) -> u64 {
        self.duplicates + self.out_of_order + self.off_grid + self.invalid
    }
}

/// Which intervals of a word have a candle, and which of them a flat one.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    seen: u64,
    flat: u64,
}

/// Takes candles, tells what is wrong with each, and reports.
#[derive(Debug, Clone)]
pub struct Survey {
    interval: Interval,
    words: BTreeMap<i64, Word>,
    last_ms: Option<i64>,
    rows: u64,
    duplicates: u64,
    out_of_order: u64,
    off_grid: u64,
    invalid: u64,
}

impl Survey {
    /// Creates a survey of candles of one length.
    pub const fn new(interval: Interval) -> Self {
        Self {
            interval,
            words: BTreeMap::new(),
            last_ms: None,
            rows: 0,
            duplicates: 0,
            out_of_order: 0,
            off_grid: 0,
            invalid: 0,
        }
    }

    /// Takes one candle. One that is only out of order still fills its interval.
    ///
    /// # Errors
    /// The [`Finding`], which is counted too.
    pub fn add(&mut self, candle: &Candle) -> Result<(), Finding> {
        self.rows += 1;
        if let Err(finding) = check_candle(candle, self.interval) {
            match finding {
                Finding::Candle(CandleError::OffGrid { .. }) => self.off_grid += 1,
                _ => self.invalid += 1,
            }
            return Err(finding);
        }
        let open_time_ms = candle.open_time_ms;
        let index = open_time_ms / self.interval.as_ms();
        let (at, bit) = (index.div_euclid(WORD_BITS), 1_u64 << index.rem_euclid(WORD_BITS));
        if self.words.len() >= MAX_WORDS && !self.words.contains_key(&at) {
            self.invalid += 1;
            return Err(Finding::TooScattered(open_time_ms));
        }
        let word = self.words.entry(at).or_default();
        if word.seen & bit != 0 {
            self.duplicates += 1;
            return Err(Finding::Duplicate(open_time_ms));
        }
        word.seen |= bit;
        if Bar::backfilled(*candle).is_flat {
            word.flat |= bit;
        }
        match self.last_ms.replace(open_time_ms) {
            Some(after_ms) if after_ms > open_time_ms => {
                self.last_ms = Some(after_ms);
                self.out_of_order += 1;
                Err(Finding::OutOfOrder { open_time_ms, after_ms })
            }
            _ => Ok(()),
        }
    }

    /// Counts a row that could not even be read.
    pub const fn add_unreadable(&mut self) {
        self.rows += 1;
        self.invalid += 1;
    }

    /// Returns the gaps within `from_ms..to_ms`, oldest first; all of them.
    pub fn missing(&self, from_ms: i64, to_ms: i64) -> Vec<Run> {
        let mut runs = Runs::default();
        let mut next_ms = self.interval.ceil(from_ms);
        let to_ms = self.interval.ceil(to_ms);
        for (open_time_ms, _) in self.candles(from_ms, to_ms) {
            runs.close(next_ms, open_time_ms, self.interval);
            next_ms = open_time_ms + self.interval.as_ms();
        }
        runs.close(next_ms, to_ms, self.interval);
        runs.0
    }

    /// Reports over `span` (start, end), or over first to last candle.
    pub fn report(&self, span: Option<(i64, i64)>) -> GapReport {
        let step_ms = self.interval.as_ms();
        let first_ms = self.candles(0, i64::MAX).next().map(|(at_ms, _)| at_ms);
        let whole = first_ms.zip(self.last_ms.map(|last_ms| last_ms + step_ms));
        let span = span.map(|(from, to)| (self.interval.ceil(from), self.interval.ceil(to)));
        let (from_ms, to_ms) = span.or(whole).unzip();
        let mut missing_runs = Vec::new();
        let mut flat_runs = Runs::default();
        let (mut candles, mut flat) = (0, 0);
        if let (Some(from_ms), Some(to_ms)) = (from_ms, to_ms) {
            missing_runs = self.missing(from_ms, to_ms);
            let mut run: Option<(i64, i64)> = None;
            for (open_time_ms, is_flat) in self.candles(from_ms, to_ms) {
                candles += 1;
                flat += u64::from(is_flat);
                run = match run {
                    Some((start_ms, end_ms)) if is_flat && end_ms == open_time_ms => {
                        Some((start_ms, end_ms + step_ms))
                    }
                    earlier => {
                        flat_runs.close_long(earlier, self.interval);
                        is_flat.then_some((open_time_ms, open_time_ms + step_ms))
                    }
                };
            }
            flat_runs.close_long(run, self.interval);
        }
        let missing: u64 = missing_runs.iter().map(|run| run.count).sum();
        let gaps = missing_runs.len() as u64;
        missing_runs.truncate(MAX_LISTED);
        let expected = candles + missing;
        GapReport {
            interval_ms: step_ms,
            first_ms,
            last_ms: self.last_ms,
            from_ms,
            to_ms,
            rows: self.rows,
            candles,
            expected,
            coverage_percent: if expected == 0 {
                0.0
            } else {
                candles as f64 / expected as f64 * 100.0
            },
            missing,
            gaps,
            missing_runs,
            flat,
            flat_runs: flat_runs.0,
            duplicates: self.duplicates,
            out_of_order: self.out_of_order,
            off_grid: self.off_grid,
            invalid: self.invalid,
        }
    }

    /// Returns open time and flatness of the candles in `from_ms..to_ms`, rising.
    fn candles(&self, from_ms: i64, to_ms: i64) -> impl Iterator<Item = (i64, bool)> {
        let step_ms = self.interval.as_ms();
        let first = from_ms.max(0) / step_ms / WORD_BITS;
        let bits = move |(at, word): (&i64, &Word)| {
            let (at, word) = (*at, *word);
            (0..WORD_BITS)
                .filter(move |bit| word.seen >> bit & 1 == 1)
                .map(move |bit| ((at * WORD_BITS + bit) * step_ms, word.flat >> bit & 1 == 1))
        };
        let all = self.words.range(first..).flat_map(bits);
        all.skip_while(move |(at_ms, _)| *at_ms < from_ms)
            .take_while(move |(at_ms, _)| *at_ms < to_ms)
    }
}

#[derive(Debug, Default)]
struct Runs(Vec<Run>);

impl Runs {
    fn close(&mut self, from_ms: i64, to_ms: i64, interval: Interval) {
        if from_ms < to_ms {
            let count = ((to_ms - from_ms) / interval.as_ms()).unsigned_abs();
            self.0.push(Run { from_ms, to_ms, count });
        }
    }

    fn close_long(&mut self, run: Option<(i64, i64)>, interval: Interval) {
        if let Some((from_ms, to_ms)) = run
            && (to_ms - from_ms) / interval.as_ms() >= LISTED_FLAT_RUN.cast_signed()
            && self.0.len() < MAX_LISTED
        {
            self.close(from_ms, to_ms, interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: i64 = 60_000;

    fn candle(minute: i64, volume: f64) -> Candle {
        let at = minute * STEP;
        Candle { volume, trade_count: None, ..Candle { open_time_ms: at, ..one() }.flat_after(at) }
    }

    fn one() -> Candle {
        Candle {
            open_time_ms: 0,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 1.0,
            trade_count: None,
        }
    }

    fn run(from: i64, to: i64) -> Run {
        Run { from_ms: from * STEP, to_ms: to * STEP, count: (to - from).unsigned_abs() }
    }

    #[test]
    fn gaps_flat_runs_and_faults_are_counted_and_placed() {
        let mut survey = Survey::new(Interval::MINUTE);
        for (minute, volume) in
            [(60, 1.0), (61, 1.0), (63, 0.0), (64, 0.0), (65, 0.0), (130, 0.0), (131, 1.0)]
        {
            survey.add(&candle(minute, volume)).unwrap();
        }
        assert_eq!(survey.add(&candle(64, 2.0)), Err(Finding::Duplicate(64 * STEP)));
        let late = Finding::OutOfOrder { open_time_ms: 129 * STEP, after_ms: 131 * STEP };
        assert_eq!(survey.add(&candle(129, 1.0)), Err(late));
        let odd = Candle { open_time_ms: 132 * STEP + 1, ..one() };
        assert!(matches!(survey.add(&odd), Err(Finding::Candle(CandleError::OffGrid { .. }))));
        let broken = Candle { close: f64::NAN, open_time_ms: 132 * STEP, ..one() };
        assert!(survey.add(&broken).is_err());
        survey.add_unreadable();
        let report = survey.report(None);
        assert_eq!((report.rows, report.candles, report.expected), (12, 8, 72));
        assert_eq!(report.missing_runs, [run(62, 63), run(66, 129)]);
        assert_eq!((report.missing, report.gaps), (64, 2));
        assert_eq!((report.flat, report.flat_runs), (4, vec![run(63, 66)]));
        let faults = (report.duplicates, report.out_of_order, report.off_grid, report.invalid);
        assert_eq!(faults, (1, 1, 1, 2));
        assert_eq!((report.first_ms, report.last_ms), (Some(60 * STEP), Some(131 * STEP)));
        assert!((report.coverage_percent - 100.0 * 8.0 / 72.0).abs() < 1e-9);
    }

    #[test]
    fn a_span_counts_what_lies_before_and_behind_the_candles() {
        let mut survey = Survey::new(Interval::MINUTE);
        survey.add(&candle(10, 1.0)).unwrap();
        let report = survey.report(Some((8 * STEP, 12 * STEP)));
        assert_eq!(report.missing_runs, [run(8, 10), run(11, 12)]);
        assert!(!report.is_clean() && survey.report(None).is_clean());
        assert_eq!(survey.report(Some((20 * STEP, 22 * STEP))).missing, 2);
        let nothing = Survey::new(Interval::MINUTE).report(None);
        assert_eq!((nothing.expected, nothing.first_ms), (0, None));
        assert!(!nothing.is_clean(), "an empty series is not a whole one");
    }

    #[test]
    fn absurd_numbers_are_findings() {
        let check = |candle: Candle| check_candle(&candle, Interval::MINUTE);
        assert!(check(one()).is_ok());
        for bad in [
            Candle { high: 2e15, ..one() },
            Candle { volume: 1e15, ..one() },
            Candle { open_time_ms: -STEP, ..one() },
            Candle { open_time_ms: i64::MAX / STEP * STEP, ..one() },
        ] {
            assert!(matches!(check(bad), Err(Finding::OutOfBounds(_))), "{bad:?}");
        }
    }

    #[test]
    fn candles_that_are_no_series_are_refused_before_they_fill_the_memory() {
        let mut survey = Survey::new(Interval::from_ms(1).unwrap());
        let far = i64::try_from(MAX_WORDS).unwrap();
        for index in 0..far {
            survey.add(&Candle { open_time_ms: index * 1_000, ..one() }).unwrap();
        }
        let next = Candle { open_time_ms: far * 1_000, ..one() };
        assert!(matches!(survey.add(&next), Err(Finding::TooScattered(_))));
    }

    proptest! {
        #[test]
        fn gaps_and_candles_make_up_the_span(
            minutes in prop::collection::btree_set(0_i64..400, 1..200), from in 0_i64..400, length in 0_i64..400,
        ) {
            let mut survey = Survey::new(Interval::MINUTE);
            for minute in &minutes {
                survey.add(&candle(*minute, 1.0)).unwrap();
            }
            let (start, end) = (from * STEP, (from + length) * STEP);
            let mut covered: Vec<i64> = minutes.into_iter().filter(|m| (from..from + length).contains(m)).collect();
            let report = survey.report(Some((start, end)));
            prop_assert_eq!(report.candles, covered.len() as u64);
            for gap in survey.missing(start, end) {
                covered.extend(gap.from_ms / STEP..gap.to_ms / STEP);
            }
            covered.sort_unstable();
            prop_assert_eq!(covered, (from..from + length).collect::<Vec<_>>());
            prop_assert_eq!(report.expected, length.unsigned_abs());
        }
    }
}
