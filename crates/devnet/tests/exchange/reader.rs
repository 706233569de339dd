//! A running feed and everything that it told.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Clock, Trade};
use forecastd_devnet::exchange::SimExchange;
use forecastd_exchange::{DropClass, Exchange, FeedConfig, FeedEvent};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{DEADLINE, FIVE};

/// Settings that fit the speed of these tests.
pub(crate) fn settings(exchange: Exchange, simulated: &SimExchange) -> FeedConfig {
    FeedConfig {
        ws_url: simulated.ws_url.clone(),
        rest_url: simulated.rest_url.clone(),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(500),
        final_grace: Duration::from_mins(2),
        ..exchange.default_config()
    }
}

/// A running feed and everything it told.
pub(crate) struct Reader {
    pub(crate) events: mpsc::Receiver<FeedEvent>,
    pub(crate) cancel: watch::Sender<bool>,
    pub(crate) task: JoinHandle<()>,
    /// Final candles in the order of telling, live or fetched.
    pub(crate) finals: Vec<Candle>,
    pub(crate) trades: Vec<Trade>,
    pub(crate) forming: usize,
    pub(crate) backfills: usize,
    pub(crate) gaps: Vec<(i64, i64)>,
    pub(crate) connects: usize,
    pub(crate) reasons: Vec<String>,
    pub(crate) dropped: Vec<(DropClass, u64)>,
}

impl Reader {
    pub(crate) fn start(exchange: Exchange, config: FeedConfig, clock: &Arc<dyn Clock>) -> Self {
        let (feed, _source) = exchange.open(config, Arc::clone(clock), 1).unwrap();
        let (sender, events) = mpsc::channel(64);
        let (cancel, cancelled) = watch::channel(false);
        Self {
            events,
            cancel,
            task: tokio::spawn(feed.run(sender, cancelled)),
            finals: Vec::new(),
            trades: Vec::new(),
            forming: 0,
            backfills: 0,
            gaps: Vec::new(),
            connects: 0,
            reasons: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// Reads until `is_done`.
    pub(crate) async fn read_until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_done(self) {
            let event = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let Ok(event) = event else {
                panic!(
                    "waited in vain for {what}: {} finals, {} trades, lost by {:?}, dropped {:?}",
                    self.finals.len(),
                    self.trades.len(),
                    self.reasons,
                    self.dropped
                )
            };
            self.take(event.expect("the feed ended by itself"));
        }
    }

    fn take(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Connected => self.connects += 1,
            FeedEvent::Subscribed => {}
            FeedEvent::Candle { candle, is_final: true } => self.finals.push(candle),
            FeedEvent::Candle { candle, is_final: false } => {
                // A forming candle never comes before the final one of the interval before it.
                if let Some(last) = self.finals.last() {
                    assert_eq!(candle.open_time_ms, last.close_time_ms(FIVE));
                }
                self.forming += 1;
            }
            FeedEvent::Trade(trade) => self.trades.push(trade),
            FeedEvent::Disconnected { reason, .. } => self.reasons.push(reason),
            FeedEvent::Backfill { from_ms, to_ms, candles } => {
                let inside = |candle: &Candle| (from_ms..to_ms).contains(&candle.open_time_ms);
                assert!(!candles.is_empty() && candles.iter().all(inside));
                self.backfills += 1;
                self.finals.extend(candles);
            }
            FeedEvent::Gap { from_ms, to_ms, .. } => self.gaps.push((from_ms, to_ms)),
            FeedEvent::Dropped { class, count } => self.dropped.push((class, count)),
        }
    }

    pub(crate) async fn read_finals(&mut self, count: usize) {
        self.read_until(&format!("{count} final candles"), |reader| reader.finals.len() >= count)
            .await;
    }

    pub(crate) fn dropped(&self, class: DropClass) -> u64 {
        self.dropped.iter().filter(|(got, _)| *got == class).map(|(_, count)| count).sum()
    }

    pub(crate) async fn stop(self) {
        self.cancel.send(true).unwrap();
        tokio::time::timeout(DEADLINE, self.task).await.expect("the feed does not stop").unwrap();
    }
}
