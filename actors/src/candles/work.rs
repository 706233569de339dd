//! The steps of the candle actor that read and write the disk and ask exchanges.

use std::collections::BTreeSet;
use std::time::Duration;

use forecastd_core::Candle;
use forecastd_core::bars::BarState;
use forecastd_core::realised::{Realised, fill_from_past};
use tracing::warn;

use super::shelf::{Absent, Decided, Patience, Shelf};
use crate::error::ActorError;
use crate::events::Event;
use crate::model_input::needed_candles;

/// Candles after a horizon among which the witness of its settlement is looked for: a day of five
/// minutes.
const WITNESS_CANDLES: i64 = 288;

/// What became of intervals, and what the window needs of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) decided: Decided,
    /// Candles for the window.
    pub(super) candles: Vec<(Candle, BarState)>,
    pub(super) absent: Absent,
}

/// Merges intervals that are ready.
pub(super) async fn merge(shelf: &Shelf, open_times: &[i64]) -> Result<Outcome, ActorError> {
    let decided = shelf.decide(open_times).await?;
    let joined = decided.joined.iter();
    let candles = joined.map(|joined| (joined.candle, joined.state)).collect();
    Ok(Outcome { decided, candles, absent: Absent::new() })
}

/// Closes a hole of the window: asks the exchanges for `[from_ms, to_ms)`, fills what none of them
/// has, and tells everybody. `from_ms` is the candle before the hole.
pub(super) async fn fill(
    shelf: &Shelf,
    (from_ms, to_ms): (i64, i64),
    absent: &Absent,
) -> Result<Outcome, ActorError> {
    let fetched = shelf.fetch_missing(from_ms, to_ms, absent, Patience::Quorum).await?;
    for (feed, failure) in &fetched.failed {
        // Going blind would be worse than a flat stretch that is said to be one.
        let reason = &failure.reason;
        warn!(actor = "candles", feed, reason, from_ms, to_ms, "hole not fetched");
    }
    let (candles, holes) = close_holes(shelf, from_ms, to_ms, Upto::End).await?;
    let stream = shelf.settings.spec.id.clone();
    let backfilled = holes == 0;
    shelf.node.events.emit(Event::Gap { stream, feed: None, from_ms, to_ms, backfilled });
    Ok(Outcome { decided: Decided::default(), candles, absent: fetched.absent })
}

/// How far holes are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upto {
    /// To the end of the range: a candle is known behind it.
    End,
    /// To the newest candle: the exchanges may not have the next one yet.
    Newest,
}

/// Merges all of `[from_ms, to_ms)` and fills what is missing flat from the past; returns the row
/// from the first known candle on, and how many holes were filled that were not before.
async fn close_holes(
    shelf: &Shelf,
    from_ms: i64,
    to_ms: i64,
    upto: Upto,
) -> Result<(Vec<(Candle, BarState)>, usize), ActorError> {
    let _held = shelf.lock.lock().await;
    shelf.join_range(from_ms, to_ms).await?;
    let mut known = shelf.candles(from_ms, to_ms)?;
    let was_void: BTreeSet<i64> = known
        .iter()
        .filter(|(_, record)| record.state == BarState::Void)
        .map(|(at_ms, _)| *at_ms)
        .collect();
    // What was filled before is filled anew: there may be a better past by now. The first one is
    // the past, and what a score was computed from stays.
    known.retain(|at_ms, record| {
        record.state != BarState::Void || record.is_settled || *at_ms == from_ms
    });
    let interval = shelf.settings.spec.interval;
    let newest_end_ms =
        known.last_key_value().map_or(from_ms, |(at_ms, _)| at_ms + interval.as_ms());
    let to_ms = if upto == Upto::End { to_ms } else { to_ms.min(newest_end_ms) };
    let found: Vec<Candle> = known.values().map(|record| record.candle).collect();
    let (filled, _) = fill_from_past(interval, &found, from_ms, to_ms);
    let state_of = |candle: &Candle| {
        known.get(&candle.open_time_ms).map_or(BarState::Void, |record| record.state)
    };
    let rows: Vec<(Candle, BarState)> =
        filled.into_iter().map(|candle| (candle, state_of(&candle))).collect();
    let void: Vec<Candle> = rows
        .iter()
        .filter(|(_, state)| *state == BarState::Void)
        .map(|(candle, _)| *candle)
        .collect();
    shelf.put_void(&void).await?;
    let new = void.iter().filter(|candle| !was_void.contains(&candle.open_time_ms));
    Ok((rows, new.count()))
}

/// What the history gave.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) candles: Vec<(Candle, BarState)>,
    pub(super) absent: Absent,
    /// Whether exchanges have to be asked again, and how long they asked us to wait.
    pub(super) again: Option<Duration>,
}

/// Reads the newest lookback window: from the store, the rest by REST, holes filled from the past.
pub(super) async fn load_history(shelf: &Shelf) -> Result<Loaded, ActorError> {
    let spec = &shelf.settings.spec;
    let to_ms = spec.interval.floor(shelf.node.market.now_ms());
    let needed = needed_candles(&shelf.settings);
    let span_ms = spec.interval.as_ms() * i64::try_from(needed + 1).unwrap_or(i64::MAX);
    let from_ms = to_ms - span_ms;
    let nothing = Absent::new();
    let fetched = shelf.fetch_missing(from_ms, to_ms, &nothing, Patience::Quorum).await?;
    for (feed, failure) in &fetched.failed {
        let reason = &failure.reason;
        warn!(actor = "candles", feed, reason, "history of an exchange not fetched");
    }
    let (candles, holes) = close_holes(shelf, from_ms, to_ms, Upto::Newest).await?;
    if holes > 0 {
        let (stream, backfilled) = (spec.id.clone(), false);
        shelf.node.events.emit(Event::Gap { stream, feed: None, from_ms, to_ms, backfilled });
    }
    let is_silent = fetched.failed.iter().any(|(_, failure)| failure.is_silent);
    let is_short = fetched.answered < shelf.settings.merge.quorum || candles.len() < spec.lookback;
    let waits = fetched.failed.iter().map(|(_, failure)| failure.wait);
    let again = (is_silent && is_short).then(|| waits.min().unwrap_or_default());
    Ok(Loaded { candles, absent: fetched.absent, again })
}

/// Returns what came true, once the exchanges were asked for all bars that are missing.
pub(super) async fn realise(
    shelf: &Shelf,
    start_ms: i64,
    is_last_call: bool,
    absent: &Absent,
) -> Result<(Realised, Absent), ActorError> {
    let spec = &shelf.settings.spec;
    let step_ms = spec.interval.as_ms();
    let end_ms = spec.end_ms(start_ms);
    let now_ms = shelf.node.market.now_ms();
    if now_ms < end_ms + step_ms {
        return Ok((Realised::NotYet, Absent::new()));
    }
    // What was settled before does not depend on what an exchange says today.
    if let Some(realised) = shelf.realised_before(start_ms)? {
        return Ok((realised, Absent::new()));
    }
    // The very next candle may be missing too: any later one is as good a witness.
    let to_ms = spec.interval.floor(now_ms).min(end_ms + WITNESS_CANDLES * step_ms);
    let fetched = shelf.fetch_missing(start_ms - step_ms, to_ms, absent, Patience::All).await?;
    let is_silent = fetched.failed.iter().any(|(_, failure)| failure.is_silent);
    let max_missing = shelf.node.settings.load().validator.max_missing_candles;
    // While an exchange does not answer, nothing says that it lacks a candle: no hole is filled, until
    // the wait is over.
    let may_fill = !is_silent || is_last_call;
    let realised = match shelf.realise(start_ms, to_ms, max_missing, may_fill).await? {
        Realised::Missing { .. } if !may_fill => Realised::NotYet,
        realised => realised,
    };
    Ok((realised, fetched.absent))
}
