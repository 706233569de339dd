//! Joins the socket loop, the row of final candles and the REST fetches into one feed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Clock};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::complaints::Complaints;
use crate::config::FeedConfig;
use crate::continuity::{Continuity, Offer, Range};
use crate::error::ExchangeError;
use crate::event::{DropClass, FeedEvent};
use crate::exchange::Parts;
use crate::message::{CandleUpdate, LastTrade, Message, TradeUpdate};
use crate::numbers::{Newest, Place, TradeNumbers};
use crate::socket::{SocketEvent, SocketSettings, cancelled, run_socket};
use crate::source::CandleSource;
use crate::trade_bars::TradeBars;

/// Messages between the socket and the feed; beyond it the socket is not read.
const SOCKET_QUEUE: usize = 128;
/// Most trades that are dealt with one after the other before anything else is looked at.
const MAX_IN_ROW: usize = 64;
/// Shortest real pause between two questions for the same late candle.
const MIN_REPEAT: Duration = Duration::from_millis(20);
/// Longest wait that the exchange may impose while live candles are held back for a gap before
/// them; a longer ban leaves the gap to the owner, so that a forecaster is not blind meanwhile.
const MAX_HOLD: Duration = Duration::from_mins(5);
type Fetch = Pin<Box<dyn Future<Output = Result<Vec<Candle>, ExchangeError>> + Send>>;

/// Runs a feed until `cancel`, or until nobody receives `events`.
pub(crate) async fn run_feed(
    config: FeedConfig,
    clock: Arc<dyn Clock>,
    parts: Parts,
    seed: u64,
    events: mpsc::Sender<FeedEvent>,
    cancel: watch::Receiver<bool>,
) {
    let Parts { protocol, source, bars, manners } = parts;
    let (socket_tx, socket_rx) = mpsc::channel(SOCKET_QUEUE);
    let settings = SocketSettings::new(&config, manners);
    let known = Arc::clone(&source);
    let socket = run_socket(settings, protocol, known, seed, socket_tx, cancel.clone());
    let feed = Feed::new(config, clock, source, bars, seed, events, cancel);
    // Both end by themselves: the socket on `cancel` or when the feed's receiver is gone, the feed
    // on `cancel`, when its owner is gone, or with the socket.
    tokio::join!(Box::pin(socket), Box::pin(feed.run(socket_rx)));
}

struct Feed {
    config: FeedConfig,
    clock: Arc<dyn Clock>,
    source: Arc<dyn CandleSource>,
    /// Makes the final candles where the exchange sends none.
    bars: Option<TradeBars>,
    events: mpsc::Sender<FeedEvent>,
    cancel: watch::Receiver<bool>,
    continuity: Continuity,
    backoff: Backoff,
    fetch: Option<(Range, Fetch)>,
    /// No question before this instant.
    fetch_not_before: Instant,
    dropped: BTreeMap<DropClass, u64>,
    numbers: TradeNumbers,
    complaints: Complaints,
}

fn wait_of(error: &ExchangeError) -> Duration {
    error.retry_after().unwrap_or_default()
}

/// The owner stopped the feed or is gone.
struct Stopped;

impl Feed {
    fn new(
        config: FeedConfig,
        clock: Arc<dyn Clock>,
        source: Arc<dyn CandleSource>,
        bars: Option<TradeBars>,
        seed: u64,
        events: mpsc::Sender<FeedEvent>,
        cancel: watch::Receiver<bool>,
    ) -> Self {
        let running_ms = config.interval.floor(clock.now_ms());
        let next_ms = config.resume_from_ms.unwrap_or(running_ms);
        let max_backfill =
            source.reach().map_or(config.max_backfill, |reach| reach.min(config.max_backfill));
        let grace_ms = i64::try_from(config.final_grace.as_millis()).unwrap_or(i64::MAX);
        Self {
            continuity: Continuity::new(config.interval, grace_ms, next_ms),
            // Not the socket's own row of random numbers, so that the two do not pause alike.
            backoff: Backoff::new(config.backoff_min, config.backoff_max, !seed),
            config: FeedConfig { max_backfill, ..config },
            clock,
            source,
            bars,
            events,
            cancel,
            fetch: None,
            fetch_not_before: Instant::now(),
            dropped: BTreeMap::new(),
            numbers: TradeNumbers::default(),
            complaints: Complaints::default(),
        }
    }

    async fn run(mut self, mut socket: mpsc::Receiver<SocketEvent>) {
        while self.turn(&mut socket).await.is_ok() {}
    }

    /// Waits for the next thing to happen and deals with it.
    async fn turn(&mut self, socket: &mut mpsc::Receiver<SocketEvent>) -> Result<(), Stopped> {
        self.start_fetch().await?;
        let wake = self.wake_at();
        let fetching = self.fetch.is_some();
        let answer = async {
            match &mut self.fetch {
                Some((_, fetch)) => fetch.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cancelled(&mut self.cancel) => Err(Stopped),
            () = self.events.closed() => Err(Stopped),
            answer = answer => self.answered(answer).await,
            event = socket.recv() => match event {
                Some(event) => self.socket_events(event, socket).await,
                None => Err(Stopped),
            },
            () = sleep_until(wake), if !fetching => Ok(()),
        }
    }

    /// When to look again for a late candle, if nothing happens before.
    fn wake_at(&self) -> Instant {
        if self.continuity.missing(self.clock.now_ms()).is_some() {
            return self.fetch_not_before;
        }
        let late_in = self.clock.real_duration_until(self.continuity.deadline_ms());
        // The clock may be coarser than the timer: never spin.
        let late_at = Instant::now() + late_in.max(Duration::from_millis(1));
        late_at.max(self.fetch_not_before)
    }

    async fn start_fetch(&mut self) -> Result<(), Stopped> {
        if self.fetch.is_some() || Instant::now() < self.fetch_not_before {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        if let Some(cut) = self.continuity.cap(now_ms, self.config.max_backfill) {
            let reason = format!("outage longer than {} intervals", self.config.max_backfill);
            self.tell(FeedEvent::Gap { from_ms: cut.from_ms, to_ms: cut.to_ms, reason }).await?;
        }
        let Some(range) = self.continuity.missing(now_ms) else {
            return Ok(());
        };
        let source = Arc::clone(&self.source);
        let symbol = self.config.symbol.clone();
        let interval = self.config.interval;
        let fetch =
            async move { source.candles(&symbol, interval, range.from_ms, range.to_ms).await };
        self.fetch = Some((range, Box::pin(fetch)));
        Ok(())
    }

    async fn answered(
        &mut self,
        answer: Result<Vec<Candle>, ExchangeError>,
    ) -> Result<(), Stopped> {
        let Some((range, _)) = self.fetch.take() else {
            return Ok(());
        };
        let Range { from_ms, to_ms } = range;
        match answer {
            Ok(rows) => {
                let filled = self.continuity.filled(range, rows);
                let grace = self.clock.real_duration_of(self.config.final_grace);
                if filled.backfill.is_empty() {
                    // The exchange has not got it yet, or nothing was traded: ask ever more rarely.
                    let pause = self.backoff.next_pause().max(grace).min(self.config.backoff_max);
                    self.pause(pause);
                } else {
                    self.backoff.reset();
                    self.pause(grace.min(self.config.backoff_min));
                    let candles = filled.backfill;
                    self.tell(FeedEvent::Backfill { from_ms, to_ms, candles }).await?;
                }
                self.tell_finals(filled.released).await
            }
            Err(error) if error.is_retryable() && wait_of(&error) <= MAX_HOLD => {
                let pause = self.backoff.next_pause().max(wait_of(&error));
                tracing::warn!(%error, from_ms, to_ms, ?pause, "backfill failed, will be repeated");
                self.pause(pause);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, from_ms, to_ms, "backfill is impossible, gap remains");
                self.pause(self.config.backoff_max);
                let released = self.continuity.give_up(range);
                let reason = error.to_string();
                self.tell(FeedEvent::Gap { from_ms, to_ms, reason }).await?;
                self.tell_finals(released).await
            }
        }
    }

    /// Asks nothing for a while.
    fn pause(&mut self, pause: Duration) {
        self.fetch_not_before = Instant::now() + pause.max(MIN_REPEAT);
    }

    /// Deals with an event and, if it is a trade, with what waits behind it.
    async fn socket_events(
        &mut self,
        mut event: SocketEvent,
        socket: &mut mpsc::Receiver<SocketEvent>,
    ) -> Result<(), Stopped> {
        for in_row in 1.. {
            let is_trade =
                matches!(event, SocketEvent::Data(Message::Trade(_) | Message::Trades(_)));
            self.socket_event(event).await?;
            if !is_trade {
                break;
            }
            if in_row >= MAX_IN_ROW || self.events.capacity() == 0 {
                // The owner may live on this thread: without its turn it would have no room.
                tokio::task::yield_now().await;
                break;
            }
            match socket.try_recv() {
                Ok(next) => event = next,
                Err(_) => break,
            }
        }
        Ok(())
    }

    async fn socket_event(&mut self, event: SocketEvent) -> Result<(), Stopped> {
        match event {
            SocketEvent::Connected => self.tell(FeedEvent::Connected).await?,
            SocketEvent::Subscribed => {
                self.tell(FeedEvent::Subscribed).await?;
                self.continuity.subscribed(self.clock.now_ms());
                if let Some(bars) = &mut self.bars {
                    bars.subscribed();
                }
            }
            SocketEvent::Data(Message::Candles(updates)) => {
                for update in updates {
                    self.candle(update).await?;
                }
            }
            SocketEvent::Data(Message::Trade(update)) => self.trade(update).await?,
            SocketEvent::Data(Message::Trades(updates)) => {
                for update in updates {
                    self.trade(update).await?;
                }
            }
            SocketEvent::Data(Message::LastTrade(newest)) => self.last_trade(&newest).await?,
            SocketEvent::Data(_) => {}
            SocketEvent::Unreadable { class, reason } => {
                if let Some(count) = self.complaints.count() {
                    tracing::warn!(class = class.as_str(), count, reason, "messages dropped");
                }
                // It may have been the last word about the running candle.
                self.continuity.distrust();
                self.drop_counted(class, 1);
                self.built(TradeBars::doubt).await?;
            }
            SocketEvent::Disconnected { reason, retry_in } => {
                self.continuity.distrust();
                self.built(TradeBars::disconnected).await?;
                self.tell(FeedEvent::Disconnected { reason, retry_in }).await?;
            }
        }
        self.tell_dropped()
    }

    async fn candle(&mut self, update: CandleUpdate) -> Result<(), Stopped> {
        let is_ours = update.symbol.eq_ignore_ascii_case(&self.config.symbol)
            && update.interval == self.config.interval;
        if !is_ours {
            self.drop_counted(DropClass::Unexpected, 1);
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let offers = match update.is_final {
            Some(is_final) => vec![self.continuity.offer(update.candle, is_final, now_ms)],
            None => self.continuity.offer_unmarked(update.candle, now_ms),
        };
        for offer in offers {
            self.offered(offer).await?;
        }
        Ok(())
    }

    async fn offered(&mut self, offer: Offer) -> Result<(), Stopped> {
        match offer {
            Offer::Final(finals) => self.tell_finals(finals).await?,
            Offer::Forming(candle) => {
                self.try_tell(FeedEvent::Candle { candle, is_final: false })?;
            }
            Offer::Quiet => {}
            Offer::Future => self.drop_counted(DropClass::Future, 1),
        }
        Ok(())
    }

    async fn trade(&mut self, update: TradeUpdate) -> Result<(), Stopped> {
        let TradeUpdate { symbol, trade, numbers } = update;
        if !symbol.eq_ignore_ascii_case(&self.config.symbol) {
            self.drop_counted(DropClass::Unexpected, 1);
            return Ok(());
        }
        if self.bars.is_some() && TradeBars::is_ahead(trade.time_ms, self.clock.now_ms()) {
            self.drop_counted(DropClass::Future, 1);
            return self.built(TradeBars::doubt).await;
        }
        let place = numbers.map_or(Place::Next, |numbers| self.numbers.take(&numbers));
        match place {
            // After subscribing some exchanges begin with trades that are already known.
            Place::Repeated => return Ok(()),
            Place::AfterLost(count) => self.drop_counted(DropClass::LostTrade, count),
            Place::Anew => tracing::debug!(?trade, "the numbering of trades begins anew"),
            Place::Next => {}
        }
        self.built(|bars| bars.trade(&trade, place)).await?;
        // Else subscribed to only as a sign of life, or to build candles.
        if self.config.trades { self.try_tell(FeedEvent::Trade(trade)) } else { Ok(()) }
    }

    async fn last_trade(&mut self, newest: &LastTrade) -> Result<(), Stopped> {
        if !newest.symbol.eq_ignore_ascii_case(&self.config.symbol) {
            self.drop_counted(DropClass::Unexpected, 1);
            return Ok(());
        }
        if TradeBars::is_ahead(newest.time_ms, self.clock.now_ms()) {
            self.drop_counted(DropClass::Future, 1);
            return Ok(());
        }
        let meaning = self.numbers.named(newest.number);
        if let Newest::Lost(count) = meaning {
            self.drop_counted(DropClass::LostTrade, count);
        }
        self.built(|bars| bars.named(newest.time_ms, meaning)).await
    }

    /// Tells the final candles that come of a step of [`TradeBars`], where it is used.
    async fn built(
        &mut self,
        step: impl FnOnce(&mut TradeBars) -> Vec<Candle>,
    ) -> Result<(), Stopped> {
        for candle in self.bars.as_mut().map(step).unwrap_or_default() {
            let offer = self.continuity.offer(candle, true, self.clock.now_ms());
            self.offered(offer).await?;
        }
        Ok(())
    }

    async fn tell_finals(&mut self, finals: Vec<Candle>) -> Result<(), Stopped> {
        for candle in finals {
            self.tell(FeedEvent::Candle { candle, is_final: true }).await?;
        }
        Ok(())
    }

    /// Tells something that must not be lost: waits for room.
    async fn tell(&mut self, event: FeedEvent) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = cancelled(&mut self.cancel) => Err(Stopped),
            sent = self.events.send(event) => sent.map_err(|_| Stopped),
        }
    }

    /// Tells something that the next message makes up for: without room it is counted instead.
    fn try_tell(&mut self, event: FeedEvent) -> Result<(), Stopped> {
        match self.events.try_send(event) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.drop_counted(DropClass::Overflow, 1);
                Ok(())
            }
            Err(TrySendError::Closed(_)) => Err(Stopped),
        }
    }

    fn drop_counted(&mut self, class: DropClass, count: u64) {
        if count > 0 {
            let total = self.dropped.entry(class).or_default();
            *total = total.saturating_add(count);
        }
    }

    /// Tells what was dropped as soon as there is room.
    fn tell_dropped(&mut self) -> Result<(), Stopped> {
        while let Some((class, count)) = self.dropped.first_key_value() {
            let (class, count) = (*class, *count);
            match self.events.try_send(FeedEvent::Dropped { class, count }) {
                Ok(()) => drop(self.dropped.remove(&class)),
                Err(TrySendError::Full(_)) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(Stopped),
            }
        }
        Ok(())
    }
}
