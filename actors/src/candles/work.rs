//! The steps of the candle actor that read and write the disk and ask exchanges.

use std::time::Duration;

use forecastd_core::Candle;
use forecastd_core::bars::BarState;
use forecastd_core::realised::{Realised, fill_from_past};
use tokio::sync::Mutex;
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
pub(super) async fn merge(
    shelf: &Shelf,
    lock: &Mutex<()>,
    open_times: &[i64],
) -> Result<Outcome, ActorError> {
    let mut outcome = Outcome::default();
    {
        let _held = lock.lock().await;
        outcome.decided = shelf.decide(open_times).await?;
    }
    let joined = outcome.decided.joined.iter();
    outcome.candles = joined.map(|joined| (joined.candle, joined.state)).collect();
    Ok(outcome)
}

/// Closes a hole of the window: asks the exchanges for `[from_ms, to_ms)`, fills what none of them
/// has, and tells everybody. `from_ms` is the candle before the hole.
pub(super) async fn fill(
    shelf: &Shelf,
    lock: &Mutex<()>,
    (from_ms, to_ms): (i64, i64),
    absent: &Absent,
) -> Result<Outcome, ActorError> {
    let fetched = shelf.fetch_missing(from_ms, to_ms, absent, Patience::Quorum).await?;
    for (feed, error) in &fetched.failed {
        // Going blind would be worse than a flat stretch that is said to be one.
        warn!(actor = "candles", feed, %error, from_ms, to_ms, "hole not fetched");
    }
    let (candles, holes) = close_holes(shelf, lock, from_ms, to_ms).await?;
    let stream = shelf.settings.spec.id.clone();
    let backfilled = holes == 0;
    shelf.node.events.emit(Event::Gap { stream, feed: None, from_ms, to_ms, backfilled });
    Ok(Outcome { decided: Decided::default(), candles, absent: fetched.absent })
}

/// Merges all of `[from_ms, to_ms)` and fills what is missing flat from the past; returns the row
/// from the first known candle on, and the number of holes in it.
async fn close_holes(
    shelf: &Shelf,
    lock: &Mutex<()>,
    from_ms: i64,
    to_ms: i64,
) -> Result<(Vec<(Candle, BarState)>, usize), ActorError> {
    let _held = lock.lock().await;
    shelf.join_range(from_ms, to_ms).await?;
    let mut known = shelf.candles(from_ms, to_ms)?;
    // What was filled before is filled anew: there may be a better past by now. The first one is
    // the past.
    known.retain(|at_ms, record| record.state != BarState::Void || *at_ms == from_ms);
    let found: Vec<Candle> = known.values().map(|record| record.candle).collect();
    let (filled, holes) = fill_from_past(shelf.settings.spec.interval, &found, from_ms, to_ms);
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
    Ok((rows, holes))
}

/// Reads the newest lookback window: from the store, the rest by REST, holes filled from the past.
/// With an error comes how long an exchange asked us to wait.
pub(super) async fn load_history(
    shelf: &Shelf,
    lock: &Mutex<()>,
) -> Result<(Vec<(Candle, BarState)>, Absent), (ActorError, Duration)> {
    let spec = &shelf.settings.spec;
    let to_ms = spec.interval.floor(shelf.node.market.now_ms());
    let needed = needed_candles(&shelf.settings);
    let span_ms = spec.interval.as_ms() * i64::try_from(needed + 1).unwrap_or(i64::MAX);
    let from_ms = to_ms - span_ms;
    let at_once = |error| (error, Duration::ZERO);
    let fetched = shelf
        .fetch_missing(from_ms, to_ms, &Absent::new(), Patience::Quorum)
        .await
        .map_err(at_once)?;
    let has_answer = fetched.failed.len() < shelf.settings.feeds.len();
    for (feed, error) in &fetched.failed {
        warn!(actor = "candles", feed, %error, "history of an exchange not fetched");
    }
    let (rows, holes) = close_holes(shelf, lock, from_ms, to_ms).await.map_err(at_once)?;
    if !has_answer && (holes > 0 || rows.len() < spec.lookback) {
        let waits = fetched.failed.iter().filter_map(|(_, error)| error.retry_after());
        let wait = waits.min().unwrap_or_default();
        return Err((ActorError::NotReady("no exchange gave the history"), wait));
    }
    if holes > 0 {
        let (stream, backfilled) = (spec.id.clone(), false);
        shelf.node.events.emit(Event::Gap { stream, feed: None, from_ms, to_ms, backfilled });
    }
    Ok((rows, fetched.absent))
}

/// Returns what came true, once the exchanges were asked for all bars that are missing.
pub(super) async fn realise(
    shelf: &Shelf,
    lock: &Mutex<()>,
    start_ms: i64,
    absent: &Absent,
) -> Result<(Realised, Absent), ActorError> {
    let spec = &shelf.settings.spec;
    let step_ms = spec.interval.as_ms();
    let end_ms = spec.end_ms(start_ms);
    let now_ms = shelf.node.market.now_ms();
    if now_ms < end_ms + step_ms {
        return Ok((Realised::NotYet, Absent::new()));
    }
    // The very next candle may be missing too: any later one is as good a witness.
    let to_ms = spec.interval.floor(now_ms).min(end_ms + WITNESS_CANDLES * step_ms);
    let fetched = shelf.fetch_missing(start_ms - step_ms, to_ms, absent, Patience::All).await?;
    // An exchange that will never answer says as much as one that has nothing.
    let is_silent = fetched.failed.iter().any(|(_, error)| error.is_retryable());
    let max_missing = shelf.node.settings.load().validator.max_missing_candles;
    let _held = lock.lock().await;
    // While an exchange does not answer, nothing says that it lacks a candle: no hole is filled.
    let max_missing = if is_silent { 0 } else { max_missing };
    let realised = shelf.realise(start_ms, to_ms, max_missing).await?;
    let realised = match realised {
        Realised::Missing { .. } if is_silent => Realised::NotYet,
        realised => realised,
    };
    Ok((realised, fetched.absent))
}
