//! A running feed and what it tells.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Clock, ManualClock, Trade};
use forecastd_exchange::{DropClass, Exchange, FeedConfig, FeedEvent};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::DEADLINE;
use crate::http::HttpServer;
use crate::stream::StreamServer;

/// A feed with its clock, which stands still until the test moves it.
pub(crate) struct RunningFeed {
    pub(crate) clock: Arc<ManualClock>,
    events: mpsc::Receiver<FeedEvent>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RunningFeed {
    /// Starts a feed of `exchange` at `now_ms`. `change` adapts its settings to the test.
    pub(crate) fn start(
        exchange: Exchange,
        stream: &StreamServer,
        rest: &HttpServer,
        now_ms: i64,
        change: impl FnOnce(FeedConfig) -> FeedConfig,
    ) -> Self {
        let config = FeedConfig {
            ws_url: stream.url.clone(),
            rest_url: rest.url.clone(),
            trades: true,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(50),
            ..exchange.default_config()
        };
        let clock = Arc::new(ManualClock::new(now_ms));
        let shared: Arc<dyn Clock> = clock.clone();
        let (feed, _source) = exchange.open(change(config), shared, 1).unwrap();
        let (sender, events) = mpsc::channel(1024);
        let (stop, stopped) = watch::channel(false);
        Self { clock, events, stop, task: tokio::spawn(feed.run(sender, stopped)) }
    }

    pub(crate) async fn next(&mut self) -> FeedEvent {
        let event = timeout(DEADLINE, self.events.recv()).await.expect("the feed tells nothing");
        event.expect("the feed ended by itself")
    }

    /// Waits for the first event that `pick` takes, and returns what it made of it.
    pub(crate) async fn find<T>(&mut self, pick: impl Fn(&FeedEvent) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = pick(&event) {
                return found;
            }
        }
    }

    pub(crate) async fn subscribed(&mut self) {
        assert_eq!(self.next().await, FeedEvent::Connected);
        assert_eq!(self.next().await, FeedEvent::Subscribed);
    }

    /// Waits for the next step of the connection, which must be the next event.
    pub(crate) async fn next_link(&mut self) -> &'static str {
        match self.next().await {
            FeedEvent::Connected => "connected",
            FeedEvent::Subscribed => "subscribed",
            event => panic!("{event:?}"),
        }
    }

    pub(crate) async fn forming(&mut self) -> Candle {
        let event = self.next().await;
        let FeedEvent::Candle { candle, is_final: false } = event else { panic!("{event:?}") };
        candle
    }

    pub(crate) async fn final_candle(&mut self) -> Candle {
        let event = self.next().await;
        let FeedEvent::Candle { candle, is_final: true } = event else { panic!("{event:?}") };
        candle
    }

    pub(crate) async fn trade(&mut self) -> Trade {
        let event = self.next().await;
        let FeedEvent::Trade(trade) = event else { panic!("{event:?}") };
        trade
    }

    pub(crate) async fn backfill(&mut self) -> Vec<Candle> {
        let event = self.next().await;
        let FeedEvent::Backfill { candles, .. } = event else { panic!("{event:?}") };
        candles
    }

    /// Waits for one backfill and `count` other events, among which it may come anywhere: the clock
    /// alone is reason enough to ask. Returns the candles and the other events.
    pub(crate) async fn backfill_among(&mut self, count: usize) -> (Vec<Candle>, Vec<FeedEvent>) {
        let (mut filled, mut others) = (None, Vec::new());
        while filled.is_none() || others.len() < count {
            match self.next().await {
                FeedEvent::Backfill { candles, .. } => {
                    assert_eq!(filled.replace(candles), None, "two backfills");
                }
                event => others.push(event),
            }
        }
        (filled.unwrap_or_default(), others)
    }

    pub(crate) async fn dropped(&mut self) -> (DropClass, u64) {
        let event = self.next().await;
        let FeedEvent::Dropped { class, count } = event else { panic!("{event:?}") };
        (class, count)
    }

    /// Waits for the connection to be lost, whatever is told before, and returns the reason.
    pub(crate) async fn lost(&mut self) -> String {
        self.disconnected().await.0
    }

    /// Like [`Self::lost`], with the pause before the next attempt.
    pub(crate) async fn disconnected(&mut self) -> (String, Duration) {
        let link = |event: &FeedEvent| match event {
            FeedEvent::Disconnected { reason, retry_in } => Some((reason.clone(), *retry_in)),
            _ => None,
        };
        self.find(link).await
    }

    pub(crate) async fn stop(self) {
        self.stop.send(true).unwrap();
        timeout(DEADLINE, self.task).await.expect("the feed does not stop").unwrap();
    }
}
