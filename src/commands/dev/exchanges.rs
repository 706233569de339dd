//! The simulated exchanges of the embedded network and what they replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use forecastd_core::{Candle, Clock};
use forecastd_devnet::exchange::recordings::{self, Recordings};
use forecastd_devnet::exchange::{SimExchange, SimExchangeConfig};

use super::plan::ExchangeAddress;
use super::progress::Progress;
use crate::config::{Config, FeedConfig, StreamConfig};
use crate::daemon::StartError;
use crate::exit::Exit;

/// Simulated exchanges by [`market`].
pub(super) type Exchanges = BTreeMap<String, SimExchange>;

/// Returns the name of a feed's market; feeds of the same market share a simulator.
pub(super) fn market(feed: &FeedConfig) -> String {
    format!("{} {}", feed.exchange, feed.symbol())
}

/// Reads what the exchanges replay.
///
/// # Errors
/// The file or folder of `dev.data` cannot be used.
pub(super) fn recordings(base: &Config) -> anyhow::Result<Recordings> {
    match &base.dev.data {
        Some(path) => recordings::load(path, first_stream(base)?.interval)
            .with_context(|| format!("reading {} (config key dev.data)", path.display())),
        None => recordings::multi_exchange().context("reading the built-in recordings"),
    }
}

/// Starts one simulator for each market that the configuration's feeds read.
///
/// # Errors
/// A recording or a port cannot be used.
pub(super) async fn start(
    base: &Config,
    recordings: &Recordings,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Exchanges> {
    let interval = first_stream(base)?.interval;
    let mut exchanges = Exchanges::new();
    for feed in &base.feed {
        if exchanges.contains_key(&market(feed)) {
            continue;
        }
        let candles = recording_of(recordings, feed)?.into();
        let mut config =
            SimExchangeConfig::new(feed.exchange, candles, interval, Arc::clone(clock));
        config.symbol = feed.symbol();
        let exchange = forecastd_devnet::exchange::spawn(config).await;
        let exchange =
            exchange.with_context(|| format!("starting the simulated {}", feed.exchange))?;
        exchanges.insert(market(feed), exchange);
    }
    Ok(exchanges)
}

/// Returns where the simulators are reached, by market.
pub(super) fn addresses(exchanges: &Exchanges) -> BTreeMap<String, ExchangeAddress> {
    let address = |exchange: &SimExchange| ExchangeAddress {
        ws: exchange.ws_url.clone(),
        rest: exchange.rest_url.clone(),
    };
    exchanges.iter().map(|(market, exchange)| (market.clone(), address(exchange))).collect()
}

/// Checks that market time has history for every lookback and candles to come, on all exchanges;
/// returns where the first of the recordings ends.
///
/// # Errors
/// [`StartError`] says what to change.
pub(super) fn check_span(
    base: &Config,
    recordings: &Recordings,
    state: &Progress,
) -> anyhow::Result<i64> {
    let interval = first_stream(base)?.interval;
    let (mut first_ms, mut ends_ms) = (i64::MIN, i64::MAX);
    for feed in &base.feed {
        let candles = recording_of(recordings, feed)?;
        first_ms = first_ms.max(candles.first().map_or(i64::MAX, |candle| candle.open_time_ms));
        ends_ms = ends_ms.min(candles.last().map_or(0, |candle| candle.close_time_ms(interval)));
    }
    for stream in &base.stream {
        let spec = stream.spec();
        let lookback = i64::try_from(spec.lookback).unwrap_or(i64::MAX);
        let least_ms = first_ms.saturating_add(spec.interval.as_ms().saturating_mul(lookback));
        if state.market_ms >= least_ms && state.market_ms < ends_ms {
            continue;
        }
        let what = if state.market_ms == state.began_ms {
            "config key `dev.start`"
        } else {
            "the network's market time, which goes on where it stopped: begin anew with another \
             --data-dir"
        };
        let time = |ms| chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
        let error = anyhow::anyhow!(
            "{what}: {} must lie between {} and {}, where the recordings have history and a future",
            time(state.market_ms),
            time(least_ms),
            time(ends_ms)
        );
        return Err(StartError { exit: Exit::Config, error }.into());
    }
    Ok(ends_ms)
}

fn first_stream(base: &Config) -> anyhow::Result<&StreamConfig> {
    base.stream.first().context("no stream is configured")
}

fn recording_of<'a>(
    recordings: &'a Recordings,
    feed: &FeedConfig,
) -> Result<&'a [Candle], StartError> {
    recordings.get(&feed.exchange).map(Vec::as_slice).ok_or_else(|| {
        let error = anyhow::anyhow!(
            "there is no recording of {}, which feed {} reads: take the feed out of the \
             configuration, or name a file or folder that has one in `dev.data`",
            feed.exchange,
            feed.name
        );
        StartError { exit: Exit::Config, error }
    })
}
