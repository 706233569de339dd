//! One exchange connection for one stream.
//!
//! Receives: the events of the exchange adapter's socket task. Sends: [`CandleClosed`] and
//! [`CandlesBackfilled`] to the candle actor, each acknowledged before the next is taken from the
//! socket, so a slow store slows the reading down instead of filling memory. Owns nothing in the
//! store. On restart: the socket task of the old life ends with its cancel signal, a new one
//! connects and backfills what was missed.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::StreamId;
use forecastd_exchange::{BinanceFeed, FeedEvent};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::candles::{CandleClosed, CandlesBackfilled};
use crate::error::{ActorError, StepContext};
use crate::events::Event;
use crate::guard;
use crate::node::Node;
use crate::vitals::Vitals;

/// Adapter events that wait between the socket task and this actor.
const QUEUE: usize = 256;
/// Longest wait for the candle actor to store a candle.
const STORE_DEADLINE: Duration = Duration::from_secs(10);
/// Pause before a candle that could not be handed over is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The exchange behind this version's feeds.
const EXCHANGE: &str = "binance";

/// The feed actor of one stream, see the module.
#[derive(Debug)]
pub struct Feed {
    node: Node,
    vitals: Arc<Vitals>,
    stream: StreamId,
    cancel: Option<watch::Sender<bool>>,
    resume_after: Duration,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Begin;

impl Feed {
    /// Creates the feed of `stream`.
    pub const fn new(node: Node, vitals: Arc<Vitals>, stream: StreamId) -> Self {
        Self { node, vitals, stream, cancel: None, resume_after: Duration::ZERO }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let settings = self.node.settings.load();
        let stream = settings
            .stream(&self.stream)
            .ok_or(ActorError::NotReady("the feed's stream is not configured any more"))?;
        let (events, inbox) = mpsc::channel(QUEUE);
        let (cancel, cancelled) = watch::channel(false);
        self.cancel = Some(cancel);
        let seed = u64::try_from(self.node.real.now_ms()).unwrap_or_default();
        let market = Arc::clone(&self.node.market);
        let feed = BinanceFeed::new(stream.feed.clone(), market, seed)
            .broken("checking the feed's settings")?;
        actix::spawn(feed.run(events, cancelled));
        let pump = pump(self.node.clone(), Arc::clone(&self.vitals), self.stream.clone(), inbox);
        guard::spawn(self, ctx, "pumping", pump, |_, _, ()| Ok(()));
        Ok(())
    }
}

/// Hands the adapter's events on, one after the other, until the socket task ends.
async fn pump(
    node: Node,
    vitals: Arc<Vitals>,
    stream: StreamId,
    mut inbox: mpsc::Receiver<FeedEvent>,
) -> Result<(), ActorError> {
    while let Some(event) = inbox.recv().await {
        node.faults.strike(vitals.name());
        vitals.progress("pumping", &*node.real);
        note(&node, &stream, &event);
        match event {
            FeedEvent::Candle { candle, is_final: true } => {
                let stream = stream.clone();
                hand_over(&node, || CandleClosed { stream: stream.clone(), candle }).await;
            }
            FeedEvent::Backfill { from_ms, to_ms, candles } => {
                hand_over(&node, || CandlesBackfilled {
                    stream: stream.clone(),
                    from_ms,
                    to_ms,
                    candles: candles.clone(),
                })
                .await;
            }
            FeedEvent::Candle { is_final: false, .. } | FeedEvent::Trade(_) => {}
            FeedEvent::Connected => report(&node, "connected", String::new()),
            FeedEvent::Subscribed => debug!(actor = "feed", %stream, "subscribed"),
            FeedEvent::Disconnected { reason, retry_in } => {
                let detail = format!("{reason}; next try in {retry_in:?}");
                report(&node, "disconnected", detail);
            }
            FeedEvent::Gap { from_ms, to_ms, reason } => {
                warn!(actor = "feed", %stream, from_ms, to_ms, reason, "candles cannot be had");
                let (stream, backfilled) = (stream.clone(), false);
                node.events.emit(Event::Gap { stream, from_ms, to_ms, backfilled });
            }
            FeedEvent::Dropped { class, count } => {
                warn!(actor = "feed", %stream, class = class.as_str(), count, "messages dropped");
            }
        }
    }
    Err(ActorError::Broken {
        what: "reading the feed",
        source: "the socket task ended without being told to".into(),
    })
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

fn report(node: &Node, state: &'static str, detail: String) {
    info!(actor = "feed", state, detail, "feed link");
    node.events.emit(Event::Feed { exchange: EXCHANGE, state, detail });
}

fn note(node: &Node, stream: &StreamId, event: &FeedEvent) {
    let now_ms = node.market.now_ms();
    node.boards.update(|live| {
        let feed = live.feeds.entry(stream.clone()).or_default();
        match event {
            FeedEvent::Connected => feed.connected = true,
            FeedEvent::Disconnected { .. } => {
                feed.connected = false;
                feed.reconnects += 1;
            }
            FeedEvent::Dropped { count, .. } => feed.dropped += count,
            _ => feed.last_message_ms = now_ms,
        }
    });
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
