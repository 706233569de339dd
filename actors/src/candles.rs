//! The candles of all streams: checks, stores and serves them.
//!
//! Receives: [`CandleClosed`] and [`CandlesBackfilled`] from the feeds (acknowledged once they are
//! on disk), [`RealisedRequest`] from the evaluator. Sends: [`WindowReady`] to the forecaster when
//! a candle closed and the lookback window behind it is whole. Owns `CandleRecord`s.
//! On restart: the newest window is read from the store and completed by REST. A missing candle is
//! fetched; what no source has is filled from the past, never from the future.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::realised::{Realised, fill_from_past, realised_closes};
use forecastd_core::{Candle, StreamId, StreamSpec};
use forecastd_exchange::{BinanceRest, CandleSource, ExchangeError};
use forecastd_store::{Batch, CandleRecord, CandleState, Store};
use tracing::{debug, info, warn};

use crate::error::{ActorError, StepContext};
use crate::events::Event;
use crate::forecaster::WindowReady;
use crate::guard;
use crate::model_input::{model_input, needed_candles};
use crate::node::{NewestCandle, Node};
use crate::settings::StreamSettings;
use crate::vitals::Vitals;

/// Requests that wait for this actor; feeds wait for each candle, so the queue stays short.
const MAILBOX: usize = 64;
/// Candles written in one batch.
const WRITE_CHUNK: usize = 500;
/// Time limit of one REST request.
const REST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the history is asked for again after a failure.
const HISTORY_RETRY: Duration = Duration::from_secs(2);
/// Candles after a horizon among which the witness of its settlement is looked for: a day of five
/// minutes.
const WITNESS_CANDLES: i64 = 288;
/// Greatest pause before the history is asked for again.
const HISTORY_RETRY_MAX: Duration = Duration::from_mins(1);
/// Name of the source in records.
const SOURCE: &str = "binance";

/// A final candle from a feed. Sent by `feed` for each interval; `Ok` means stored.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct CandleClosed {
    /// The stream.
    pub stream: StreamId,
    /// The candle.
    pub candle: Candle,
}

/// Candles that a feed fetched again after an outage; `Ok` means stored.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct CandlesBackfilled {
    /// The stream.
    pub stream: StreamId,
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

#[derive(Message)]
#[rtype(result = "()")]
struct Begin;

/// The candle actor, see the module.
#[derive(Debug)]
pub struct Candles {
    node: Node,
    vitals: Arc<Vitals>,
    windows: BTreeMap<StreamId, BTreeMap<i64, Candle>>,
    /// Start of the last forecast that was asked for.
    handed_over: BTreeMap<StreamId, i64>,
    resume_after: Duration,
}

impl Candles {
    /// Creates the actor; it loads its windows after its start.
    pub const fn new(node: Node, vitals: Arc<Vitals>) -> Self {
        let windows = BTreeMap::new();
        let handed_over = BTreeMap::new();
        Self { node, vitals, windows, handed_over, resume_after: Duration::ZERO }
    }

    fn stream(&self, id: &StreamId) -> Result<StreamSettings, ActorError> {
        let settings = self.node.settings.load();
        settings.stream(id).cloned().ok_or(ActorError::NotReady("the stream is not configured"))
    }

    /// Takes candles that are on disk into the window and tells who waits for a whole one.
    fn accept(&mut self, settings: &StreamSettings, candles: &[Candle]) {
        let spec = &settings.spec;
        let window = self.windows.entry(spec.id.clone()).or_default();
        window.extend(candles.iter().map(|candle| (candle.open_time_ms, *candle)));
        while window.len() > needed_candles(settings) {
            window.pop_first();
        }
        let Some((_, newest)) = window.last_key_value() else { return };
        let close_time_ms = newest.close_time_ms(spec.interval);
        let board = NewestCandle { close_time_ms, close: newest.close };
        self.node.boards.update(|live| {
            live.newest_candle.insert(spec.id.clone(), board);
        });
        let candles: Vec<Candle> = window.values().copied().collect();
        let input = match model_input(settings, &candles, &self.node.boards.columns.load()) {
            Ok(input) => input,
            Err(error) => {
                let have = window.len();
                debug!(actor = "candles", stream = %spec.id, have, %error, "window not whole yet");
                return;
            }
        };
        // A late candle may complete a window, or change nothing about the newest one.
        if self.handed_over.insert(spec.id.clone(), input.start_ms) == Some(input.start_ms) {
            return;
        }
        if self.node.role.is_miner()
            && let Err(error) = self.node.book.tell(WindowReady { input })
        {
            // The next candle brings a newer window; the forecaster lost nothing it could keep.
            warn!(actor = "candles", %error, "window not handed over");
        }
    }

    fn begin(&self, ctx: &mut Context<Self>) {
        for settings in &self.node.settings.load().streams {
            let (node, settings) = (self.node.clone(), settings.clone());
            let load = async move {
                let mut pause = HISTORY_RETRY;
                loop {
                    match load_history(&node, &settings).await {
                        Ok(candles) => return Ok((settings, candles)),
                        Err(error) => {
                            let wait = asked_wait(&error).unwrap_or_default().max(pause);
                            warn!(actor = "candles", %error, ?wait, "history not loaded yet");
                            tokio::time::sleep(wait).await;
                            pause = (pause * 2).min(HISTORY_RETRY_MAX);
                        }
                    }
                }
            };
            guard::spawn(self, ctx, "loading history", load, |actor, _, (settings, candles)| {
                info!(actor = "candles", stream = %settings.spec.id, count = candles.len(), "history loaded");
                actor.accept(&settings, &candles);
                Ok(())
            });
        }
    }
}

/// Returns how long the exchange asked us to wait, as after a ban.
fn asked_wait(error: &ActorError) -> Option<Duration> {
    let (ActorError::Step { source, .. } | ActorError::Broken { source, .. }) = error else {
        return None;
    };
    source.downcast_ref::<ExchangeError>()?.retry_after()
}

/// Reads the newest lookback window: from the store, the rest by REST, holes filled from the past.
async fn load_history(node: &Node, settings: &StreamSettings) -> Result<Vec<Candle>, ActorError> {
    let spec = &settings.spec;
    let to_ms = spec.interval.floor(node.market.now_ms());
    let span_ms =
        spec.interval.as_ms() * i64::try_from(needed_candles(settings) + 1).unwrap_or(i64::MAX);
    let from_ms = to_ms - span_ms;
    let found = complete(node, settings, from_ms, to_ms).await?;
    let (filled, holes) = fill_from_past(spec.interval, &found, from_ms, to_ms);
    if holes > 0 {
        let (stream, backfilled) = (spec.id.clone(), false);
        node.events.emit(Event::Gap { stream, from_ms, to_ms, backfilled });
    }
    Ok(filled)
}

/// Returns the candles of `[from_ms, to_ms)` that exist, oldest first, fetching missing ones.
async fn complete(
    node: &Node,
    settings: &StreamSettings,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Candle>, ActorError> {
    let spec = &settings.spec;
    let stored = read_range(&node.store, &spec.id, from_ms, to_ms)?;
    let wanted = (to_ms - from_ms) / spec.interval.as_ms();
    if i64::try_from(stored.len()).unwrap_or(i64::MAX) >= wanted {
        return Ok(stored);
    }
    let feed = &settings.feed;
    let rest = BinanceRest::new(&feed.rest_url, Arc::clone(&node.market), REST_TIMEOUT)
        .step("preparing the exchange's REST client")?;
    let fetched = rest
        .candles(&feed.symbol, spec.interval, from_ms, to_ms)
        .await
        .step("fetching candles by REST")?;
    let known: BTreeMap<i64, Candle> = stored.into_iter().map(|c| (c.open_time_ms, c)).collect();
    let new: Vec<Candle> =
        fetched.into_iter().filter(|candle| !known.contains_key(&candle.open_time_ms)).collect();
    write_candles(&node.store, spec, &new, CandleState::Backfilled).await?;
    // What was stored first stays: nothing is corrected after it may have been used for a score.
    let mut all = known;
    all.extend(new.into_iter().map(|candle| (candle.open_time_ms, candle)));
    Ok(all.into_values().collect())
}

fn read_range(
    store: &Store,
    stream: &StreamId,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Candle>, ActorError> {
    let range = (stream.clone(), from_ms)..(stream.clone(), to_ms);
    store
        .scan::<CandleRecord>(range)
        .map(|row| row.map(|(_, record)| record.candle).step("reading candles"))
        .collect()
}

async fn write_candles(
    store: &Store,
    spec: &StreamSpec,
    candles: &[Candle],
    state: CandleState,
) -> Result<(), ActorError> {
    for chunk in candles.chunks(WRITE_CHUNK) {
        let mut batch = Batch::new();
        for candle in chunk {
            candle.validate(spec.interval).step("checking a candle")?;
            let key = (spec.id.clone(), candle.open_time_ms);
            let record = CandleRecord { candle: *candle, state, source: SOURCE.to_owned() };
            batch = batch.put(&key, &record).step("encoding a candle")?;
        }
        store.write(batch).await.step("storing candles")?;
    }
    Ok(())
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
        self.handed_over.clear();
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<Begin> for Candles {
    type Result = ();

    fn handle(&mut self, _: Begin, ctx: &mut Self::Context) {
        if let Err(error) = guard::run(self, ctx, "loading history", |actor, ctx| {
            actor.begin(ctx);
            Ok(())
        }) {
            warn!(actor = "candles", %error, "history cannot be loaded");
        }
    }
}

impl Candles {
    /// Stores candles of a feed and completes the window around them.
    fn store_and_accept(
        &mut self,
        stream: &StreamId,
        candles: Vec<Candle>,
        state: CandleState,
    ) -> ResponseActFuture<Self, Result<(), ActorError>> {
        let (node, settings) = (self.node.clone(), self.stream(stream));
        let newest_known = self
            .windows
            .get(stream)
            .and_then(|window| window.last_key_value())
            .map(|(open_ms, _)| *open_ms);
        let work = async move {
            let settings = settings?;
            let step_ms = settings.spec.interval.as_ms();
            let known = |candle: &Candle| -> Result<bool, ActorError> {
                let key = (settings.spec.id.clone(), candle.open_time_ms);
                Ok(node.store.get::<CandleRecord>(&key).step("looking a candle up")?.is_some())
            };
            let (mut new, mut valid) = (Vec::new(), Vec::with_capacity(candles.len()));
            for candle in candles {
                // The feed waits for an answer: refusing a wrong candle would stop all after it.
                if let Err(error) = candle.validate(settings.spec.interval) {
                    warn!(actor = "candles", %error, "wrong candle left out");
                    continue;
                }
                if !known(&candle)? {
                    new.push(candle);
                }
                valid.push(candle);
            }
            write_candles(&node.store, &settings.spec, &new, state).await?;
            // A hole between the window and the newest candle: fetch it before anybody forecasts.
            if let (Some(newest_known), Some(first)) = (newest_known, valid.first())
                && first.open_time_ms > newest_known + step_ms
            {
                let (from_ms, to_ms) = (newest_known, first.open_time_ms);
                let found = match complete(&node, &settings, from_ms, to_ms).await {
                    Ok(found) => found,
                    // Going blind would be worse than a flat stretch that is said to be one.
                    Err(error) => {
                        warn!(actor = "candles", %error, from_ms, to_ms, "hole not fetched");
                        read_range(&node.store, &settings.spec.id, from_ms, to_ms)?
                    }
                };
                let (filled, holes) =
                    fill_from_past(settings.spec.interval, &found, from_ms, to_ms);
                let stream = settings.spec.id.clone();
                let backfilled = holes == 0;
                node.events.emit(Event::Gap { stream, from_ms, to_ms, backfilled });
                valid.splice(0..0, filled.into_iter().filter(|c| c.open_time_ms > newest_known));
            }
            Ok((settings, valid))
        };
        guard::run_async(self, "storing candles", work, |actor, _, (settings, valid)| {
            actor.accept(&settings, &valid);
            Ok(())
        })
    }
}

impl Handler<CandleClosed> for Candles {
    type Result = ResponseActFuture<Self, Result<(), ActorError>>;

    fn handle(&mut self, message: CandleClosed, _: &mut Self::Context) -> Self::Result {
        self.store_and_accept(&message.stream, vec![message.candle], CandleState::Complete)
    }
}

impl Handler<CandlesBackfilled> for Candles {
    type Result = ResponseActFuture<Self, Result<(), ActorError>>;

    fn handle(&mut self, message: CandlesBackfilled, _: &mut Self::Context) -> Self::Result {
        debug!(actor = "candles", from_ms = message.from_ms, to_ms = message.to_ms, "backfilled");
        self.store_and_accept(&message.stream, message.candles, CandleState::Backfilled)
    }
}

impl Handler<RealisedRequest> for Candles {
    type Result = ResponseActFuture<Self, Result<Realised, ActorError>>;

    fn handle(&mut self, message: RealisedRequest, _: &mut Self::Context) -> Self::Result {
        let (node, settings) = (self.node.clone(), self.stream(&message.stream));
        let work = async move {
            let settings = settings?;
            let spec = &settings.spec;
            let step_ms = spec.interval.as_ms();
            let from_ms = message.start_ms - step_ms;
            let end_ms = spec.end_ms(message.start_ms);
            let now_ms = node.market.now_ms();
            if now_ms < end_ms + step_ms {
                return Ok(Realised::NotYet);
            }
            // The very next candle may be missing too: any later one is as good a witness.
            let to_ms = spec.interval.floor(now_ms).min(end_ms + WITNESS_CANDLES * step_ms);
            let found = complete(&node, &settings, from_ms, to_ms).await?;
            let max_missing = node.settings.load().validator.max_missing_candles;
            Ok(realised_closes(spec, &found, message.start_ms, max_missing))
        };
        guard::run_async(self, "answering realised closes", work, |_, _, answer| Ok(answer))
    }
}

crate::life_signs!(Candles);
