//! `forecastd feed tail`: an exchange's live data as JSON lines.

use std::sync::Arc;

use anyhow::Context as _;
use forecastd_core::{Candle, Clock, Trade};
use forecastd_exchange::{Exchange, ExchangeFeed, FeedConfig, FeedEvent};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::cli::FeedTailArgs;
use crate::clock::SystemClock;
use crate::exit::Exit;
use crate::output;
use crate::signals::Signals;

/// Events that may wait for standard output.
const QUEUE: usize = 4_096;

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    at_ms: i64,
    exchange: &'static str,
    symbol: &'a str,
    #[serde(flatten)]
    told: Told<'a>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Told<'a> {
    Connected,
    Subscribed,
    Candle {
        is_final: bool,
        interval_ms: i64,
        #[serde(flatten)]
        candle: &'a Candle,
    },
    Backfill {
        is_final: bool,
        interval_ms: i64,
        #[serde(flatten)]
        candle: &'a Candle,
    },
    Trade(&'a Trade),
    Gap {
        from_ms: i64,
        to_ms: i64,
        reason: &'a str,
    },
    Dropped {
        class: &'static str,
        count: u64,
    },
    Disconnected {
        reason: &'a str,
        retry_in_ms: u64,
    },
}

/// Prints until it is stopped, the time or the number of lines is over, or nobody reads any more.
pub async fn tail(arguments: &FeedTailArgs) -> Exit {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let exchange = arguments.exchange;
    let default = exchange.default_config();
    let config = FeedConfig {
        symbol: arguments.symbol.clone().unwrap_or(default.symbol),
        interval: arguments.interval,
        ws_url: arguments.url.clone().unwrap_or(default.ws_url),
        rest_url: arguments.rest_url.clone().unwrap_or(default.rest_url),
        trades: arguments.trades,
        ..exchange.default_config()
    };
    let mut printer = Printer {
        exchange,
        symbol: config.symbol.clone(),
        interval_ms: config.interval.as_ms(),
        clock: Arc::clone(&clock),
        left: arguments.count.unwrap_or(u64::MAX),
        has_connected: false,
    };
    // The seed only spreads the pauses between connections.
    let seed = clock.now_ms().unsigned_abs();
    let feed = match exchange.open(config, clock, seed) {
        Ok((feed, _)) => feed,
        Err(error) => {
            output::error(&error);
            return Exit::Usage;
        }
    };
    match print(feed, arguments, &mut printer).await {
        Ok(()) if printer.has_connected => Exit::Done,
        Ok(()) => {
            output::error(&format_args!("{exchange} was never reached"));
            Exit::Unfinished
        }
        Err(error) => {
            output::error(&format_args!("{error:#}"));
            Exit::Internal
        }
    }
}

async fn print(
    feed: ExchangeFeed,
    arguments: &FeedTailArgs,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let mut signals = Signals::install().context("installing the signal handlers")?;
    let (events, mut told) = mpsc::channel(QUEUE);
    let (cancel, cancelled) = watch::channel(false);
    let running = tokio::spawn(feed.run(events, cancelled));
    let time_is_over = async {
        match arguments.run_for {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    let reading = async {
        while let Some(event) = told.recv().await {
            printer.has_connected |= matches!(event, FeedEvent::Subscribed);
            printer.print(&event)?;
            if printer.left == 0 || output::is_closed() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let outcome = tokio::select! {
        biased;
        () = signals.stop() => Ok(()),
        () = output::closed() => Ok(()),
        () = time_is_over => Ok(()),
        outcome = reading => outcome,
    };
    // Without a receiver the feed ends whatever it is waiting for.
    drop((cancel, told));
    running.abort();
    drop(running.await);
    outcome
}

struct Printer {
    exchange: Exchange,
    symbol: String,
    interval_ms: i64,
    clock: Arc<dyn Clock>,
    left: u64,
    /// Whether the exchange ever confirmed the subscription.
    has_connected: bool,
}

impl Printer {
    fn print(&mut self, event: &FeedEvent) -> anyhow::Result<()> {
        let interval_ms = self.interval_ms;
        let told = match event {
            FeedEvent::Connected => Told::Connected,
            FeedEvent::Subscribed => Told::Subscribed,
            FeedEvent::Candle { candle, is_final } => {
                Told::Candle { is_final: *is_final, interval_ms, candle }
            }
            FeedEvent::Trade(trade) => Told::Trade(trade),
            FeedEvent::Disconnected { reason, retry_in } => Told::Disconnected {
                reason,
                retry_in_ms: u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
            },
            FeedEvent::Backfill { candles, .. } => {
                for candle in candles {
                    self.line(Told::Backfill { is_final: true, interval_ms, candle })?;
                }
                return Ok(());
            }
            FeedEvent::Gap { from_ms, to_ms, reason } => {
                Told::Gap { from_ms: *from_ms, to_ms: *to_ms, reason }
            }
            FeedEvent::Dropped { class, count } => {
                Told::Dropped { class: class.as_str(), count: *count }
            }
        };
        self.line(told)
    }

    fn line(&mut self, told: Told<'_>) -> anyhow::Result<()> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
        self.left = left;
        let (exchange, symbol) = (self.exchange.as_str(), &*self.symbol);
        let line = Line { at_ms: self.clock.now_ms(), exchange, symbol, told };
        output::line(&serde_json::to_string(&line)?);
        Ok(())
    }
}
