//! The Binance adapter and the simulated Binance against each other, over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "test helpers may panic; what is compared must be equal to the bit"
)]

mod feed;
mod protocol;
mod reader;
mod rest;

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Clock, Interval, ScaledClock};
use forecastd_devnet::exchange::{
    SimExchange, SimExchangeConfig, TRADES_PER_CANDLE, recording, spawn,
};
use tokio::time::Instant;

const FIVE: Interval = Interval::FIVE_MINUTES;
/// Market time per real time: a five-minute candle takes 50 ms.
const SPEED: f64 = 6000.0;
/// Far above what any step needs, so that only a real hang ends here.
const DEADLINE: Duration = Duration::from_mins(2);

/// Real time since the start of the test.
#[derive(Debug)]
struct RealClock(Instant);

impl Clock for RealClock {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

fn sample(count: usize) -> Vec<Candle> {
    let mut candles = recording::embedded().unwrap();
    candles.truncate(count);
    candles
}

/// What the adapter must make of the recording.
fn as_told(candles: &[Candle]) -> Vec<Candle> {
    let told = |candle: &Candle| Candle { trade_count: Some(TRADES_PER_CANDLE as u64), ..*candle };
    candles.iter().map(told).collect()
}

/// A market whose clock starts inside of the candle number `start`.
fn running_clock(candles: &[Candle], start: usize) -> Arc<dyn Clock> {
    let base = Arc::new(RealClock(Instant::now()));
    Arc::new(ScaledClock::new(base, candles[start].open_time_ms + 1_000, SPEED))
}

async fn exchange(candles: &[Candle], clock: &Arc<dyn Clock>) -> SimExchange {
    spawn(SimExchangeConfig::new(candles.into(), FIVE, Arc::clone(clock))).await.unwrap()
}
