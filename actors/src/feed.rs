//! One exchange connection of one stream.
//!
//! Receives: the events of the exchange adapter's socket task. Sends: [`CandleClosed`] and
//! [`CandlesBackfilled`] to the candle actor, each acknowledged before the next is taken from the
//! socket, so a slow store slows the reading down instead of filling memory; [`CandleDoubted`] for a
//! candle that its trades contradict. Owns nothing in the store. An outage is reported when it begins
//! and when it is over, however many attempts lie in between. On restart: the socket task of the old life ends with its cancel signal, a new one
//! connects and goes on behind the newest bar on disk.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::StreamId;
use forecastd_exchange::FeedEvent;
use forecastd_store::BarRecord;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::candles::{CandleClosed, CandleDoubted, CandlesBackfilled};
use crate::error::{ActorError, StepContext};
use crate::events::Event;
use crate::guard;
use crate::node::Node;
use crate::settings::{FeedSettings, StreamSettings};
use crate::vitals::Vitals;

/// Adapter events that wait between the socket task and this actor.
const QUEUE: usize = 256;
/// Longest wait for the candle actor to store a candle.
const STORE_DEADLINE: Duration = Duration::from_secs(10);
/// Pause before a candle that could not be handed over is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Real time between two notes of a busy feed on the board: hundreds of trades come in a second.
const NOTE_EVERY_MS: i64 = 1_000;

mod check;
mod drops;

use check::{Difference, TradeCheck};
use drops::Drops;

/// The feed actor of one exchange of one stream, see the module.
#[derive(Debug)]
pub struct Feed {
    node: Node,
    vitals: Arc<Vitals>,
    stream: StreamId,
    name: String,
    cancel: Option<watch::Sender<bool>>,
    resume_after: Duration,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Begin;

impl Feed {
    /// Creates the feed `name` of `stream`.
    pub const fn new(node: Node, vitals: Arc<Vitals>, stream: StreamId, name: String) -> Self {
        Self { node, vitals, stream, name, cancel: None, resume_after: Duration::ZERO }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let settings = self.node.settings.load();
        let stream = settings
            .stream(&self.stream)
            .ok_or(ActorError::NotReady("the feed's stream is not configured any more"))?;
        let feed = stream
            .feed(&self.name)
            .ok_or(ActorError::NotReady("the feed is not configured any more"))?;
        let (events, inbox) = mpsc::channel(QUEUE);
        let (cancel, cancelled) = watch::channel(false);
        self.cancel = Some(cancel);
        let seed = u64::try_from(self.node.real.now_ms()).unwrap_or_default();
        self.node.boards.update(|live| {
            let feeds = live.feeds.entry(self.stream.clone()).or_default();
            feeds.entry(self.name.clone()).or_default().connected = false;
        });
        let mut config = feed.config.clone();
        config.resume_from_ms = self.resume_from(stream)?;
        let what = "checking the feed's settings";
        let source = self.node.sources.get(&self.stream, feed, &self.node.market).broken(what)?;
        let market = Arc::clone(&self.node.market);
        let (adapter, _) = feed.exchange.open(config, market, seed).broken(what)?;
        actix::spawn(adapter.with_source(source).run(events, cancelled));
        let pump = Pump {
            node: self.node.clone(),
            vitals: Arc::clone(&self.vitals),
            stream: self.stream.clone(),
            feed: feed.clone(),
            outage: Outage::Unknown,
            check: TradeCheck::of(feed),
            noted_ms: i64::MIN,
            drops: Drops::default(),
        };
        guard::spawn(self, ctx, "pumping", pump.run(inbox), |_, _, ()| Ok(()));
        Ok(())
    }

    /// Returns the open time behind the feed's newest bar, where that lies in the lookback window;
    /// what is older is the candle actor's to complete.
    fn resume_from(&self, stream: &StreamSettings) -> Result<Option<i64>, ActorError> {
        let spec = &stream.spec;
        let step_ms = spec.interval.as_ms();
        let lookback = i64::try_from(spec.lookback).unwrap_or(i64::MAX);
        let now_ms = self.node.market.now_ms();
        let from_ms = now_ms.saturating_sub(step_ms.saturating_mul(lookback));
        let least = |at_ms| (spec.id.clone(), at_ms, "\u{1}".to_owned());
        for row in self.node.store.scan::<BarRecord>(least(from_ms)..least(now_ms)).rev() {
            let ((_, at_ms, name), _) = row.step("reading the newest bar")?;
            if name == self.name {
                return Ok(Some(at_ms + step_ms));
            }
        }
        Ok(None)
    }
}

/// What was last said about the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    Unknown,
    Up,
    Down { since_ms: i64 },
}

/// Hands the adapter's events on, one after the other, until the socket task ends.
struct Pump {
    node: Node,
    vitals: Arc<Vitals>,
    stream: StreamId,
    feed: FeedSettings,
    outage: Outage,
    /// Holds the exchange's candles against its trades, where that is wanted.
    check: Option<TradeCheck>,
    /// Real time of the last note on the board.
    noted_ms: i64,
    drops: Drops,
}

impl Pump {
    async fn run(mut self, mut inbox: mpsc::Receiver<FeedEvent>) -> Result<(), ActorError> {
        while let Some(event) = inbox.recv().await {
            self.node.faults.strike(self.vitals.name());
            self.vitals.progress("pumping", &*self.node.real);
            self.note(&event);
            self.take(event).await;
        }
        Err(ActorError::Broken {
            what: "reading the feed",
            source: "the socket task ended without being told to".into(),
        })
    }

    async fn take(&mut self, event: FeedEvent) {
        let (node, stream, feed) = (&self.node, &self.stream, &self.feed.name);
        match event {
            FeedEvent::Candle { candle, is_final: true } => {
                hand_over(node, || CandleClosed {
                    stream: stream.clone(),
                    feed: feed.clone(),
                    candle,
                })
                .await;
                let found = self.check.as_mut().map(|check| check.closed(&candle));
                self.doubt(found.unwrap_or_default());
            }
            FeedEvent::Trade(trade) => {
                let found = self.check.as_mut().map(|check| check.trade(&trade));
                self.doubt(found.unwrap_or_default());
            }
            FeedEvent::Backfill { from_ms, to_ms, candles } => {
                hand_over(node, || CandlesBackfilled {
                    stream: stream.clone(),
                    feed: feed.clone(),
                    from_ms,
                    to_ms,
                    candles: candles.clone(),
                })
                .await;
            }
            FeedEvent::Candle { is_final: false, .. } => {}
            FeedEvent::Connected => debug!(actor = "feed", %stream, feed, "connected"),
            FeedEvent::Subscribed => {
                if let Some(check) = &mut self.check {
                    check.connected(node.market.now_ms());
                }
                self.is_up();
            }
            FeedEvent::Disconnected { reason, retry_in } => {
                if let Some(check) = &mut self.check {
                    check.disconnected(node.market.now_ms());
                }
                self.is_down(&reason, retry_in);
            }
            FeedEvent::Gap { from_ms, to_ms, reason } => {
                warn!(actor = "feed", %stream, feed, from_ms, to_ms, reason, "candles cannot be had");
                let (stream, feed) = (stream.clone(), Some(feed.clone()));
                node.events.emit(Event::Gap { stream, feed, from_ms, to_ms, backfilled: false });
            }
            FeedEvent::Dropped { class, count } => {
                if let Some(check) = &mut self.check {
                    check.lost(node.market.now_ms());
                }
                let dropped = self.drops.add(class, count, node.real.now_ms());
                if let Some(dropped) = dropped {
                    warn!(actor = "feed", %stream, feed, dropped, "messages dropped");
                }
            }
        }
    }

    fn is_up(&mut self) {
        let detail = match self.outage {
            Outage::Up => return,
            Outage::Unknown => String::new(),
            Outage::Down { since_ms } => {
                let seconds = self.node.market.now_ms().saturating_sub(since_ms) / 1_000;
                format!("after {seconds} s")
            }
        };
        self.outage = Outage::Up;
        self.report("connected", detail);
    }

    fn is_down(&mut self, reason: &str, retry_in: Duration) {
        let detail = format!("{reason}; next try in {retry_in:?}");
        if matches!(self.outage, Outage::Down { .. }) {
            debug!(actor = "feed", stream = %self.stream, feed = self.feed.name, detail, "still down");
            return;
        }
        self.outage = Outage::Down { since_ms: self.node.market.now_ms() };
        self.report("disconnected", detail);
    }

    fn report(&self, state: &'static str, detail: String) {
        let (stream, feed) = (self.stream.clone(), self.feed.name.clone());
        info!(actor = "feed", %stream, feed, state, detail, "feed link");
        let exchange = self.feed.exchange.as_str();
        self.node.events.emit(Event::Feed { stream, feed, exchange, state, detail });
    }

    /// Has candles confirmed that their trades contradict.
    fn doubt(&self, found: Vec<Difference>) {
        let (stream, feed) = (&self.stream, &self.feed.name);
        for Difference { told, built } in found {
            warn!(actor = "feed", %stream, feed, ?told, ?built, "candle and trades differ");
            self.node.boards.update(|live| {
                let feeds = live.feeds.entry(stream.clone()).or_default();
                feeds.entry(feed.clone()).or_default().differing += 1;
            });
            let (stream, feed) = (stream.clone(), feed.clone());
            let message = CandleDoubted { stream, feed, open_time_ms: told.open_time_ms };
            if let Err(error) = self.node.book.tell(message) {
                warn!(actor = "feed", %error, "doubt not taken, the candle stands");
            }
        }
    }

    fn note(&mut self, event: &FeedEvent) {
        let real_ms = self.node.real.now_ms();
        let is_one_of_many =
            matches!(event, FeedEvent::Trade(_) | FeedEvent::Candle { is_final: false, .. });
        if is_one_of_many && real_ms.saturating_sub(self.noted_ms) < NOTE_EVERY_MS {
            return;
        }
        self.noted_ms = real_ms;
        let now_ms = self.node.market.now_ms();
        self.node.boards.update(|live| {
            let feeds = live.feeds.entry(self.stream.clone()).or_default();
            let status = feeds.entry(self.feed.name.clone()).or_default();
            match event {
                FeedEvent::Subscribed => {
                    status.connected = true;
                    status.down_since_ms = None;
                }
                FeedEvent::Disconnected { reason, .. } => {
                    status.connected = false;
                    status.down_since_ms.get_or_insert(now_ms);
                    status.reconnects += 1;
                    status.last_error.clone_from(reason);
                }
                FeedEvent::Dropped { count, .. } => status.dropped += count,
                _ => status.last_message_ms = now_ms,
            }
        });
    }
}

/// Sends until it is acknowledged: the candle actor may be in its back-off.
async fn hand_over<M>(node: &Node, message: impl Fn() -> M)
where
    M: Message<Result = Result<(), ActorError>> + Send + 'static,
{
    loop {
        match node.book.ask(message(), STORE_DEADLINE).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) | Err(error) => {
                warn!(actor = "feed", %error, "candle not taken, trying again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

impl Actor for Feed {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.resume_after, |_, ctx| ctx.notify(Begin));
    }
}

impl Supervised for Feed {
    fn restarting(&mut self, _: &mut Self::Context) {
        if let Some(cancel) = self.cancel.take() {
            cancel.send_replace(true);
        }
        self.resume_after = guard::restarted(self);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            cancel.send_replace(true);
        }
    }
}

impl Handler<Begin> for Feed {
    type Result = ();

    fn handle(&mut self, _: Begin, ctx: &mut Self::Context) {
        if let Err(error) = guard::run(self, ctx, "connecting", Self::begin) {
            warn!(actor = "feed", %error, "feed cannot begin");
        }
    }
}

crate::life_signs!(Feed);
