//! What the REST clients share: which candles can exist, in which pages to ask for them, and which
//! of the answered ones have closed.
//!
//! Most exchanges answer a page newest first and cut off its oldest end. Pages are therefore asked for
//! by time and not by what the page before brought: each spans no more intervals than the exchange
//! returns at once, so that nothing is ever cut off, whichever way it sorts.

use forecastd_core::{Candle, Interval};

use crate::continuity::Range;
use crate::error::ExchangeError;
use crate::message::{CandleUpdate, DecodeError};

/// Greatest number of candles in one call.
const MAX_CANDLES: i64 = 100_000;
/// A last row without a later one counts as closed this long (market time) after its interval, so
/// that a clock that runs a little ahead does not take the running candle for a closed one.
const CLOSED_MARGIN_MS: i64 = 3_000;

/// Returns the part of `from_ms..to_ms` that can exist at `now_ms`, on the grid of `interval`; `None`
/// when there is none.
///
/// # Errors
/// [`ExchangeError::Range`] when it holds more than 100 000 candles.
pub(crate) fn existing(
    interval: Interval,
    from_ms: i64,
    to_ms: i64,
    now_ms: i64,
) -> Result<Option<Range>, ExchangeError> {
    // Nothing after the running interval exists, however far the caller asks.
    let end_ms = interval.next(now_ms).max(0);
    let from_ms = interval.ceil(from_ms.clamp(0, end_ms));
    let to_ms = interval.ceil(to_ms.min(end_ms));
    if from_ms >= to_ms {
        return Ok(None);
    }
    if (to_ms - from_ms) / interval.as_ms() > MAX_CANDLES {
        return Err(ExchangeError::Range { from_ms, to_ms, limit: MAX_CANDLES });
    }
    Ok(Some(Range { from_ms, to_ms }))
}

/// Returns the pages of at most `count` intervals, oldest first, that make up `range`.
pub(crate) fn pages(range: Range, interval: Interval, count: i64) -> impl Iterator<Item = Range> {
    let span_ms = interval.as_ms() * count.max(1);
    let mut from_ms = range.from_ms;
    std::iter::from_fn(move || {
        let page = Range { from_ms, to_ms: (from_ms + span_ms).min(range.to_ms) };
        from_ms = page.to_ms;
        (page.from_ms < page.to_ms).then_some(page)
    })
}

/// Puts the rows of one answer into rising order and checks that no two have the same time.
///
/// # Errors
/// [`DecodeError::Value`] when two have.
pub(crate) fn rising(mut rows: Vec<Candle>) -> Result<Vec<Candle>, DecodeError> {
    rows.sort_by_key(|row| row.open_time_ms);
    for (earlier, later) in rows.iter().zip(rows.iter().skip(1)) {
        if earlier.open_time_ms == later.open_time_ms {
            let value = later.open_time_ms.to_string();
            return Err(DecodeError::Value { field: "open time", value, rule: "told once" });
        }
    }
    Ok(rows)
}

/// How the rows that have closed are told from those that may still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The answer says it of each row.
    Marked,
    /// All but the last one have; a later row or the clock proves it of the last one.
    LaterRow,
    /// Those whose interval is over for so long (market time): the exchange corrects younger ones.
    Settled(i64),
}

/// Removes from `rows`, which are rising, those that may still change.
pub(crate) fn keep_closed(
    rows: &mut Vec<CandleUpdate>,
    interval: Interval,
    closing: Closing,
    now_ms: i64,
) {
    let is_over = |row: &CandleUpdate, for_ms: i64| {
        now_ms >= row.candle.close_time_ms(interval).saturating_add(for_ms)
    };
    match closing {
        Closing::Marked => rows.retain(|row| row.is_final == Some(true)),
        Closing::LaterRow => drop(rows.pop_if(|last| !is_over(last, CLOSED_MARGIN_MS))),
        Closing::Settled(for_ms) => rows.retain(|row| is_over(row, for_ms)),
    }
}

/// Checks that a page holds no more rows than asked for, and none outside of what was asked for. The
/// row at its end is allowed: it proves that the one before it has closed.
pub(crate) fn check_page(
    path: &str,
    rows: &[CandleUpdate],
    page: Range,
    limit: usize,
) -> Result<(), ExchangeError> {
    let decode = |reason: String| ExchangeError::Decode { path: path.to_owned(), reason };
    if rows.len() > limit {
        return Err(decode(format!("{} rows, asked for {limit}", rows.len())));
    }
    let is_asked = |at: i64| (page.from_ms..=page.to_ms).contains(&at);
    let odd = rows.iter().map(|row| row.candle.open_time_ms).find(|at| !is_asked(*at));
    odd.map_or(Ok(()), |at| {
        let Range { from_ms, to_ms } = page;
        Err(decode(format!("row at {at} ms, asked for {from_ms}..={to_ms} ms")))
    })
}

/// An answer that breaks the rules.
pub(crate) fn unreadable(path: &str, error: &DecodeError) -> ExchangeError {
    ExchangeError::Decode { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Symbol;

    const MINUTE: Interval = Interval::MINUTE;
    const STEP: i64 = 60_000;

    fn candle(index: i64) -> Candle {
        Candle {
            open_time_ms: index * STEP,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 0.0,
            trade_count: None,
        }
    }

    #[test]
    fn what_cannot_exist_is_not_asked_for() {
        let now_ms = 10 * STEP + 1;
        let all = existing(MINUTE, i64::MIN, i64::MAX, now_ms).unwrap();
        assert_eq!(all, Some(Range { from_ms: 0, to_ms: 11 * STEP }));
        let odd = existing(MINUTE, STEP + 1, 3 * STEP - 1, now_ms).unwrap();
        assert_eq!(odd, Some(Range { from_ms: 2 * STEP, to_ms: 3 * STEP }));
        for (from_ms, to_ms) in
            [(i64::MAX, i64::MAX), (5, 5), (9 * STEP, 3), (11 * STEP, 12 * STEP)]
        {
            assert_eq!(existing(MINUTE, from_ms, to_ms, now_ms).unwrap(), None);
        }
        let error = existing(MINUTE, 0, i64::MAX, i64::MAX / 2).unwrap_err();
        assert!(matches!(error, ExchangeError::Range { .. }), "{error}");
    }

    #[test]
    fn what_may_still_change_is_left_out() {
        let kept = |closing, now_ms| {
            let update = |index, is_final| CandleUpdate {
                symbol: Symbol::new("X").unwrap(),
                interval: MINUTE,
                candle: candle(index),
                is_final,
            };
            let mut rows = vec![update(1, Some(true)), update(2, Some(false)), update(3, None)];
            keep_closed(&mut rows, MINUTE, closing, now_ms);
            rows.len()
        };
        assert_eq!(kept(Closing::LaterRow, 4 * STEP + 2_999), 2);
        assert_eq!(kept(Closing::LaterRow, 4 * STEP + 3_000), 3);
        assert_eq!(kept(Closing::Marked, 9 * STEP), 1);
        // A later row is no proof where the exchange corrects.
        assert_eq!(kept(Closing::Settled(10_000), 3 * STEP + 9_999), 1);
        assert_eq!(kept(Closing::Settled(10_000), 3 * STEP + 10_000), 2);
    }

    #[test]
    fn rows_are_sorted_and_told_once() {
        let rows = rising(vec![candle(3), candle(1), candle(2)]).unwrap();
        assert_eq!(rows, [candle(1), candle(2), candle(3)]);
        assert!(rising(vec![candle(3), candle(3)]).is_err());
    }

    proptest! {
        #[test]
        fn pages_cover_a_range_without_overlap(from in 0..50_i64, length in 0..5_000_i64, count in 1..1_001_i64) {
            let range = Range { from_ms: from * STEP, to_ms: (from + length) * STEP };
            let mut next_ms = range.from_ms;
            for page in pages(range, MINUTE, count) {
                prop_assert_eq!(page.from_ms, next_ms);
                prop_assert!(page.to_ms - page.from_ms <= count * STEP);
                next_ms = page.to_ms;
            }
            prop_assert_eq!(next_ms, range.to_ms);
        }
    }
}
