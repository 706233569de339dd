//! The candles of all streams: stores the feeds' bars, merges them, serves them.
//!
//! Receives: [`CandleClosed`] and [`CandlesBackfilled`] from the feeds (acknowledged once they are
//! on disk), [`CandleDoubted`] from them, [`RealisedRequest`] from the evaluator, its own timers for
//! candles whose exchanges are late. Sends: [`WindowReady`] to the forecaster when a candle is merged
//! and the lookback window behind it is whole. Owns `BarRecord`s and `CandleRecord`s.
//! On restart: the newest window is read from the store and completed by REST. A missing bar is
//! fetched; what no source has is filled from the past, never from the future. A candle changes
//! when a late bar arrives, until a score was computed from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::bars::{Bar, BarState, LeftOutReason};
use forecastd_core::realised::Realised;
use forecastd_core::{Candle, StreamId};
use tokio::sync::Mutex;
use tracing::{debug, info, warn};

use crate::error::ActorError;
use crate::forecaster::WindowReady;
use crate::guard;
use crate::node::Node;
use crate::settings::StreamSettings;
use crate::vitals::Vitals;

mod settle;
mod shelf;
#[cfg(test)]
mod tests;
mod window;
mod work;

use shelf::{Absent, Joined, Shelf, remember, source_id};
use window::Window;
use work::{Loaded, Outcome, fill, load_history, merge, realise};

/// Requests that wait for this actor; feeds wait for each candle, so the queue stays short.
const MAILBOX: usize = 64;
/// Pause before the history is asked for again after a failure.
const HISTORY_RETRY: Duration = Duration::from_secs(2);
/// Greatest pause before the history is asked for again.
const HISTORY_RETRY_MAX: Duration = Duration::from_mins(1);
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
    /// The wait is over: exchanges that do not answer are not waited for any more.
    pub is_last_call: bool,
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

/// The history of a stream has to be loaded, after a failure with this pause before the next try.
#[derive(Message)]
#[rtype(result = "()")]
struct LoadHistory {
    stream: StreamId,
    pause: Duration,
}

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
    /// Streams whose window has a hole that is being closed.
    filling: BTreeSet<StreamId>,
    /// A hole that could not be closed; it is left to leave the window.
    unfillable: BTreeMap<StreamId, (i64, i64)>,
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
            filling: BTreeSet::new(),
            unfillable: BTreeMap::new(),
            resume_after: Duration::ZERO,
        }
    }

    fn shelf(&mut self, id: &StreamId) -> Result<Shelf, ActorError> {
        let settings = self.node.settings.load();
        let settings = settings.stream(id).cloned();
        let settings = settings.ok_or(ActorError::NotReady("the stream is not configured"))?;
        let lock = Arc::clone(self.locks.entry(id.clone()).or_default());
        Ok(Shelf { node: self.node.clone(), settings, lock })
    }

    fn absent(&self, stream: &StreamId) -> Absent {
        self.absent.get(stream).cloned().unwrap_or_default()
    }

    fn note_absent(&mut self, stream: &StreamId, more: Absent) {
        remember(self.absent.entry(stream.clone()).or_default(), more);
    }

    /// Takes candles that are on disk into the window and tells who waits for a whole one. A hole in
    /// it is closed before anybody forecasts.
    fn accept(
        &mut self,
        ctx: &mut Context<Self>,
        settings: &StreamSettings,
        candles: &[(Candle, BarState)],
    ) {
        let spec = &settings.spec;
        let window = self.windows.entry(spec.id.clone()).or_default();
        window.take(settings, candles);
        let Some(board) = window.board(spec) else { return };
        self.node.boards.update(|live| {
            live.newest_candle.insert(spec.id.clone(), board);
        });
        if let Some(hole) = window.hole(spec.interval) {
            self.fill(ctx, &spec.id.clone(), hole);
            return;
        }
        let Some(input) = window.hand_over(settings, &self.node.boards.columns.load()) else {
            debug!(actor = "candles", stream = %spec.id, have = window.len(), "nothing to hand over");
            return;
        };
        if self.node.role.is_miner()
            && let Err(error) = self.node.book.tell(WindowReady { input })
        {
            // A later bar of the interval, or the next candle, hands it over again.
            warn!(actor = "candles", %error, "window not handed over");
            window.take_back();
        }
    }

    /// Closes a hole of a window, one at a time.
    fn fill(&mut self, ctx: &mut Context<Self>, stream: &StreamId, hole: (i64, i64)) {
        if self.unfillable.get(stream) == Some(&hole) || !self.filling.insert(stream.clone()) {
            return;
        }
        let (shelf, absent) = (self.shelf(stream), self.absent(stream));
        let id = stream.clone();
        let work = async move {
            let filled = async {
                let shelf = shelf?;
                let outcome = fill(&shelf, hole, &absent).await?;
                Ok((shelf, outcome))
            };
            // An error ends the filling as well: the next candle finds the hole again.
            Ok((id, filled.await))
        };
        guard::spawn(self, ctx, "closing a hole", work, move |actor, ctx, (stream, filled)| {
            actor.filling.remove(&stream);
            let (shelf, outcome): (Shelf, Outcome) = filled?;
            if outcome.candles.is_empty() {
                warn!(actor = "candles", %stream, ?hole, "hole cannot be closed");
                actor.unfillable.insert(stream, hole);
            }
            actor.decided(ctx, &shelf, outcome);
            Ok(())
        });
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

    /// Loads the history of a stream. What came is used at once; while exchanges that are needed did
    /// not answer, it is loaded again.
    fn load(&mut self, ctx: &mut Context<Self>, stream: StreamId, pause: Duration) {
        let shelf = self.shelf(&stream);
        let work = async move {
            let loaded = async {
                let shelf = shelf?;
                let loaded = load_history(&shelf).await?;
                Ok::<_, ActorError>((shelf, loaded))
            };
            Ok((stream, loaded.await))
        };
        guard::spawn(self, ctx, "loading history", work, move |actor, ctx, (stream, loaded)| {
            let again = match loaded {
                Ok((shelf, Loaded { candles, absent, again })) => {
                    if candles.is_empty() {
                        warn!(actor = "candles", %stream, "no exchange has a history for now");
                    } else {
                        info!(actor = "candles", %stream, count = candles.len(), "history loaded");
                    }
                    actor.note_absent(&stream, absent);
                    actor.accept(ctx, &shelf.settings, &candles);
                    again
                }
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => {
                    warn!(actor = "candles", %stream, %error, "history not loaded yet");
                    Some(Duration::ZERO)
                }
            };
            if let Some(asked) = again {
                let (wait, pause) = (asked.max(pause), (pause * 2).min(HISTORY_RETRY_MAX));
                info!(actor = "candles", %stream, ?wait, "asking the exchanges again");
                ctx.run_later(wait, move |_, ctx| ctx.notify(LoadHistory { stream, pause }));
            }
            Ok(())
        });
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
        self.accept(ctx, &shelf.settings, &outcome.candles);
    }

    /// Stores bars of a feed, merges what is ready and completes the window around it.
    fn take_bars(
        &mut self,
        stream: &StreamId,
        feed: String,
        bars: Vec<Bar>,
    ) -> ResponseActFuture<Self, Result<(), ActorError>> {
        let shelf = self.shelf(stream);
        let work = async move {
            let shelf = shelf?;
            let open_times = shelf.put(&feed, &bars).await?;
            let outcome = merge(&shelf, &open_times).await?;
            Ok((shelf, outcome))
        };
        guard::run_async(self, "storing bars", work, |actor, ctx, (shelf, outcome)| {
            actor.decided(ctx, &shelf, outcome);
            Ok(())
        })
    }
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
        self.filling.clear();
        self.unfillable.clear();
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<Begin> for Candles {
    type Result = ();

    fn handle(&mut self, _: Begin, ctx: &mut Self::Context) {
        let begun = guard::run(self, ctx, "beginning", |actor, ctx| {
            for settings in &actor.node.settings.load_full().streams {
                let (stream, pause) = (settings.spec.id.clone(), HISTORY_RETRY);
                ctx.notify(LoadHistory { stream, pause });
            }
            Ok(())
        });
        if let Err(error) = begun {
            warn!(actor = "candles", %error, "history cannot be loaded");
        }
    }
}

impl Handler<LoadHistory> for Candles {
    type Result = ();

    fn handle(&mut self, message: LoadHistory, ctx: &mut Self::Context) {
        let LoadHistory { stream, pause } = message;
        let begun = guard::run(self, ctx, "loading history", |actor, ctx| {
            actor.load(ctx, stream, pause);
            Ok(())
        });
        if let Err(error) = begun {
            warn!(actor = "candles", %error, "history cannot be loaded");
        }
    }
}

impl Handler<MergeDue> for Candles {
    type Result = ();

    fn handle(&mut self, message: MergeDue, ctx: &mut Self::Context) {
        let MergeDue { stream, open_time_ms } = message;
        self.waiting.remove(&(stream.clone(), open_time_ms));
        let shelf = self.shelf(&stream);
        let work = async move {
            let shelf = shelf?;
            let outcome = merge(&shelf, &[open_time_ms]).await?;
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
        let shelf = self.shelf(&stream);
        let work = async move {
            let shelf = shelf?;
            shelf.doubt(&feed, open_time_ms).await?;
            let outcome = merge(&shelf, &[open_time_ms]).await?;
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
        let RealisedRequest { stream, start_ms, is_last_call } = message;
        let shelf = self.shelf(&stream);
        let absent = self.absent(&stream);
        let work = async move {
            let (realised, absent) = realise(&shelf?, start_ms, is_last_call, &absent).await?;
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
