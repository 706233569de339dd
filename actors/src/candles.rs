//! The candles of all streams: stores the feeds' bars, merges them, serves them.
//!
//! Receives: [`CandleClosed`] and [`CandlesBackfilled`] from the feeds (acknowledged once they are
//! on disk), [`CandleDoubted`] from them, [`RealisedRequest`] from the evaluator, its own timers for
//! candles whose exchanges are late. Sends: [`WindowReady`] to the forecaster when a candle is merged and the lookback window
//! behind it is whole. Owns `BarRecord`s, `CandleRecord`s and `SettlementRecord`s.
//! On restart: the newest window is read from the store and completed by REST. A missing bar is
//! fetched; what no source has is filled from the past, never from the future. A candle changes
//! when a late bar arrives, until a score was computed from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::bars::{Bar, BarState, LeftOutReason};
use forecastd_core::realised::{Realised, fill_from_past};
use forecastd_core::{Candle, StreamId};
use tokio::sync::Mutex;
use tracing::{debug, info, warn};

use crate::error::ActorError;
use crate::events::Event;
use crate::forecaster::WindowReady;
use crate::guard;
use crate::model_input::needed_candles;
use crate::node::Node;
use crate::settings::StreamSettings;
use crate::vitals::Vitals;

mod shelf;
mod window;

use shelf::{Absent, Decided, Joined, Shelf, remember, source_id};
use window::Window;

/// Requests that wait for this actor; feeds wait for each candle, so the queue stays short.
const MAILBOX: usize = 64;
/// Pause before the history is asked for again after a failure.
const HISTORY_RETRY: Duration = Duration::from_secs(2);
/// Greatest pause before the history is asked for again.
const HISTORY_RETRY_MAX: Duration = Duration::from_mins(1);
/// Candles after a horizon among which the witness of its settlement is looked for: a day of five
/// minutes.
const WITNESS_CANDLES: i64 = 288;
/// Most candles that wait for late exchanges at the same time.
const MAX_WAITING: usize = 4_096;

/// A final candle from a feed. Sent by `feed` for each interval; `Ok` means stored.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct CandleClosed {
    /// The stream.
    pub stream: StreamId,
    /// Name of the feed.
    pub feed: String,
    /// The candle.
    pub candle: Candle,
}

/// Candles that a feed fetched again after an outage; `Ok` means stored.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct CandlesBackfilled {
    /// The stream.
    pub stream: StreamId,
    /// Name of the feed.
    pub feed: String,
    /// First open time of the outage.
    pub from_ms: i64,
    /// First open time after it.
    pub to_ms: i64,
    /// What the exchange has for it.
    pub candles: Vec<Candle>,
}

/// Asks for the closes that came true. Sent by the evaluator for a due round.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Realised, ActorError>")]
pub struct RealisedRequest {
    /// The stream.
    pub stream: StreamId,
    /// The round's slot.
    pub start_ms: i64,
}

/// A candle's trades say otherwise: it counts again once the exchange confirmed it. Sent by `feed`;
/// without effect when a score was computed from it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct CandleDoubted {
    /// The stream.
    pub stream: StreamId,
    /// Name of the feed.
    pub feed: String,
    /// First millisecond of the interval.
    pub open_time_ms: i64,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Begin;

/// A candle has waited long enough for late exchanges.
#[derive(Message)]
#[rtype(result = "()")]
struct MergeDue {
    stream: StreamId,
    open_time_ms: i64,
}

/// The candle actor, see the module.
#[derive(Debug)]
pub struct Candles {
    node: Node,
    vitals: Arc<Vitals>,
    windows: BTreeMap<StreamId, Window>,
    /// One holder at a time reads a stream's bars and writes its candles.
    locks: BTreeMap<StreamId, Arc<Mutex<()>>>,
    /// Candles whose timer runs.
    waiting: BTreeSet<(StreamId, i64)>,
    absent: BTreeMap<StreamId, Absent>,
    resume_after: Duration,
}

impl Candles {
    /// Creates the actor; it loads its windows after its start.
    pub const fn new(node: Node, vitals: Arc<Vitals>) -> Self {
        Self {
            node,
            vitals,
            windows: BTreeMap::new(),
            locks: BTreeMap::new(),
            waiting: BTreeSet::new(),
            absent: BTreeMap::new(),
            resume_after: Duration::ZERO,
        }
    }

    fn shelf(&self, id: &StreamId) -> Result<Shelf, ActorError> {
        let settings = self.node.settings.load();
        let settings = settings.stream(id).cloned();
        let settings = settings.ok_or(ActorError::NotReady("the stream is not configured"))?;
        Ok(Shelf { node: self.node.clone(), settings })
    }

    fn lock(&mut self, stream: &StreamId) -> Arc<Mutex<()>> {
        Arc::clone(self.locks.entry(stream.clone()).or_default())
    }

    fn absent(&self, stream: &StreamId) -> Absent {
        self.absent.get(stream).cloned().unwrap_or_default()
    }

    fn note_absent(&mut self, stream: &StreamId, more: Absent) {
        remember(self.absent.entry(stream.clone()).or_default(), more);
    }

    /// Takes candles that are on disk into the window and tells who waits for a whole one.
    fn accept(&mut self, settings: &StreamSettings, candles: &[(Candle, BarState)]) {
        let spec = &settings.spec;
        let window = self.windows.entry(spec.id.clone()).or_default();
        window.take(settings, candles);
        let Some(board) = window.board(spec) else { return };
        self.node.boards.update(|live| {
            live.newest_candle.insert(spec.id.clone(), board);
        });
        let Some(input) = window.hand_over(settings, &self.node.boards.columns.load()) else {
            debug!(actor = "candles", stream = %spec.id, have = window.len(), "nothing to hand over");
            return;
        };
        if self.node.role.is_miner()
            && let Err(error) = self.node.book.tell(WindowReady { input })
        {
            // The next candle brings a newer window; the forecaster lost nothing it could keep.
            warn!(actor = "candles", %error, "window not handed over");
        }
    }

    /// Tells the operator of exchanges whose prices are away from the others'.
    fn watch_outliers(&self, settings: &StreamSettings, joined: &[Joined]) {
        let Some(newest) = joined.last() else { return };
        for (place, feed) in settings.feeds.iter().enumerate() {
            let about = format!("prices of {} in {}", feed.name, settings.spec.id);
            let found = newest.left_out.iter().find(|left_out| left_out.source == source_id(place));
            match found.map(|left_out| left_out.reason) {
                Some(LeftOutReason::Outlier { part }) => {
                    let what = format!(
                        "close is {:.2} % away from the median of the exchanges, left out",
                        part * 100.0
                    );
                    self.node.raise_alarm(&about, what);
                }
                Some(_) => {}
                None => self.node.clear_alarm(&about),
            }
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let settings = self.node.settings.load_full();
        for stream in &settings.streams {
            let shelf = self.shelf(&stream.spec.id)?;
            let lock = self.lock(&stream.spec.id);
            let load = async move {
                let mut pause = HISTORY_RETRY;
                loop {
                    match load_history(&shelf, &lock).await {
                        Ok(loaded) => return Ok((shelf, loaded)),
                        Err((error, asked)) => {
                            let wait = asked.max(pause);
                            warn!(actor = "candles", %error, ?wait, "history not loaded yet");
                            tokio::time::sleep(wait).await;
                            pause = (pause * 2).min(HISTORY_RETRY_MAX);
                        }
                    }
                }
            };
            guard::spawn(self, ctx, "loading history", load, |actor, _, (shelf, loaded)| {
                let (candles, absent) = loaded;
                let stream = &shelf.settings.spec.id;
                info!(actor = "candles", %stream, count = candles.len(), "history loaded");
                actor.note_absent(stream, absent);
                actor.accept(&shelf.settings, &candles);
                Ok(())
            });
        }
        Ok(())
    }

    /// Takes what was decided about intervals in: into the window, and timers for those that wait.
    fn decided(&mut self, ctx: &mut Context<Self>, shelf: &Shelf, outcome: Outcome) {
        let stream = &shelf.settings.spec.id;
        self.note_absent(stream, outcome.absent);
        self.watch_outliers(&shelf.settings, &outcome.decided.joined);
        for (open_time_ms, due_ms) in outcome.decided.waiting {
            if self.waiting.len() < MAX_WAITING
                && self.waiting.insert((stream.clone(), open_time_ms))
            {
                let wait = self.node.market.real_duration_until(due_ms);
                let stream = stream.clone();
                ctx.run_later(wait, move |_, ctx| ctx.notify(MergeDue { stream, open_time_ms }));
            }
        }
        self.accept(&shelf.settings, &outcome.candles);
    }

    /// Stores bars of a feed, merges what is ready and completes the window around it.
    fn take_bars(
        &mut self,
        stream: &StreamId,
        feed: String,
        bars: Vec<Bar>,
    ) -> ResponseActFuture<Self, Result<(), ActorError>> {
        let (shelf, lock) = (self.shelf(stream), self.lock(stream));
        let absent = self.absent(stream);
        let newest = self.newest(stream);
        let work = async move {
            let shelf = shelf?;
            let open_times = shelf.put(&feed, &bars).await?;
            let outcome = merge(&shelf, &lock, &open_times, newest, &absent).await?;
            Ok((shelf, outcome))
        };
        guard::run_async(self, "storing bars", work, |actor, ctx, (shelf, outcome)| {
            actor.decided(ctx, &shelf, outcome);
            Ok(())
        })
    }

    fn newest(&self, stream: &StreamId) -> Option<i64> {
        self.windows.get(stream).and_then(Window::newest_open_ms)
    }
}

/// What became of intervals, and what the window needs of it.
#[derive(Debug, Default)]
struct Outcome {
    decided: Decided,
    /// Candles for the window: those decided, and before them what closes a hole.
    candles: Vec<(Candle, BarState)>,
    absent: Absent,
}

/// Merges intervals that are ready; a hole between the window and the first of them is closed
/// before anybody forecasts.
async fn merge(
    shelf: &Shelf,
    lock: &Mutex<()>,
    open_times: &[i64],
    newest_known: Option<i64>,
    absent: &Absent,
) -> Result<Outcome, ActorError> {
    let mut outcome = Outcome::default();
    {
        let _held = lock.lock().await;
        outcome.decided = shelf.decide(open_times).await?;
    }
    let joined = outcome.decided.joined.iter();
    outcome.candles = joined.map(|joined| (joined.candle, joined.state)).collect();
    if let (Some(newest_known), Some((last, _))) = (newest_known, outcome.candles.last())
        && has_hole(shelf, newest_known, &outcome.candles)
    {
        let (from_ms, to_ms) = (newest_known, last.open_time_ms);
        let fetched = shelf.fetch_missing(from_ms, to_ms, absent).await?;
        for (feed, error) in &fetched.failed {
            // Going blind would be worse than a flat stretch that is said to be one.
            warn!(actor = "candles", feed, %error, from_ms, to_ms, "hole not fetched");
        }
        let (filled, holes) = close_holes(shelf, lock, from_ms, to_ms).await?;
        let stream = shelf.settings.spec.id.clone();
        let backfilled = holes == 0;
        shelf.node.events.emit(Event::Gap { stream, feed: None, from_ms, to_ms, backfilled });
        outcome.candles.splice(0..0, filled);
        outcome.absent = fetched.absent;
    }
    Ok(outcome)
}

/// Tells whether an interval is missing between the window and the newest of `candles`, which rise.
fn has_hole(shelf: &Shelf, newest_known: i64, candles: &[(Candle, BarState)]) -> bool {
    let step_ms = shelf.settings.spec.interval.as_ms();
    let mut expected_ms = newest_known + step_ms;
    for (candle, _) in candles.iter().filter(|(candle, _)| candle.open_time_ms > newest_known) {
        if candle.open_time_ms != expected_ms {
            return true;
        }
        expected_ms += step_ms;
    }
    false
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
    // What was filled before is filled anew: there may be a better past by now.
    known.retain(|_, record| record.state != BarState::Void);
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
async fn load_history(
    shelf: &Shelf,
    lock: &Mutex<()>,
) -> Result<(Vec<(Candle, BarState)>, Absent), (ActorError, Duration)> {
    let spec = &shelf.settings.spec;
    let to_ms = spec.interval.floor(shelf.node.market.now_ms());
    let needed = needed_candles(&shelf.settings);
    let span_ms = spec.interval.as_ms() * i64::try_from(needed + 1).unwrap_or(i64::MAX);
    let from_ms = to_ms - span_ms;
    let at_once = |error| (error, Duration::ZERO);
    let fetched = shelf.fetch_missing(from_ms, to_ms, &Absent::new()).await.map_err(at_once)?;
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
async fn realise(
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
    let fetched = shelf.fetch_missing(start_ms - step_ms, to_ms, absent).await?;
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

impl Actor for Candles {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_later(self.resume_after, |_, ctx| ctx.notify(Begin));
    }
}

impl Supervised for Candles {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.windows.clear();
        self.locks.clear();
        self.waiting.clear();
        self.absent.clear();
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<Begin> for Candles {
    type Result = ();

    fn handle(&mut self, _: Begin, ctx: &mut Self::Context) {
        if let Err(error) = guard::run(self, ctx, "loading history", Self::begin) {
            warn!(actor = "candles", %error, "history cannot be loaded");
        }
    }
}

impl Handler<MergeDue> for Candles {
    type Result = ();

    fn handle(&mut self, message: MergeDue, ctx: &mut Self::Context) {
        let MergeDue { stream, open_time_ms } = message;
        self.waiting.remove(&(stream.clone(), open_time_ms));
        let (shelf, lock) = (self.shelf(&stream), self.lock(&stream));
        let (absent, newest) = (self.absent(&stream), self.newest(&stream));
        let work = async move {
            let shelf = shelf?;
            let outcome = merge(&shelf, &lock, &[open_time_ms], newest, &absent).await?;
            Ok((shelf, outcome))
        };
        guard::spawn(self, ctx, "merging late bars", work, |actor, ctx, (shelf, outcome)| {
            actor.decided(ctx, &shelf, outcome);
            Ok(())
        });
    }
}

impl Handler<CandleClosed> for Candles {
    type Result = ResponseActFuture<Self, Result<(), ActorError>>;

    fn handle(&mut self, message: CandleClosed, _: &mut Self::Context) -> Self::Result {
        let bar = Bar { state: BarState::Complete, ..Bar::backfilled(message.candle) };
        self.take_bars(&message.stream, message.feed, vec![bar])
    }
}

impl Handler<CandlesBackfilled> for Candles {
    type Result = ResponseActFuture<Self, Result<(), ActorError>>;

    fn handle(&mut self, message: CandlesBackfilled, _: &mut Self::Context) -> Self::Result {
        debug!(actor = "candles", from_ms = message.from_ms, to_ms = message.to_ms, "backfilled");
        let bars = message.candles.into_iter().map(Bar::backfilled).collect();
        self.take_bars(&message.stream, message.feed, bars)
    }
}

impl Handler<CandleDoubted> for Candles {
    type Result = ();

    fn handle(&mut self, message: CandleDoubted, ctx: &mut Self::Context) {
        let CandleDoubted { stream, feed, open_time_ms } = message;
        let (shelf, lock) = (self.shelf(&stream), self.lock(&stream));
        let (absent, newest) = (self.absent(&stream), self.newest(&stream));
        let work = async move {
            let shelf = shelf?;
            shelf.doubt(&feed, open_time_ms).await?;
            let outcome = merge(&shelf, &lock, &[open_time_ms], newest, &absent).await?;
            Ok((shelf, outcome))
        };
        guard::spawn(self, ctx, "confirming a candle", work, |actor, ctx, (shelf, outcome)| {
            actor.decided(ctx, &shelf, outcome);
            Ok(())
        });
    }
}

impl Handler<RealisedRequest> for Candles {
    type Result = ResponseActFuture<Self, Result<Realised, ActorError>>;

    fn handle(&mut self, message: RealisedRequest, _: &mut Self::Context) -> Self::Result {
        let RealisedRequest { stream, start_ms } = message;
        let (shelf, lock) = (self.shelf(&stream), self.lock(&stream));
        let absent = self.absent(&stream);
        let work = async move {
            let (realised, absent) = realise(&shelf?, &lock, start_ms, &absent).await?;
            Ok((stream, realised, absent))
        };
        guard::run_async(self, "answering realised closes", work, |actor, _, answer| {
            let (stream, realised, absent) = answer;
            actor.note_absent(&stream, absent);
            Ok(realised)
        })
    }
}

crate::life_signs!(Candles);
