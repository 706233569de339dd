//! The adapters and the simulated exchanges against each other, over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "test helpers may panic; what is compared must be equal to the bit"
)]

mod client;
mod feed;
mod protocol;
mod reader;
mod rest;
mod shapes;

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Clock, Interval, ScaledClock};
use forecastd_devnet::exchange::{
    SimExchange, SimExchangeConfig, TRADES_PER_CANDLE, recordings, spawn,
};
use forecastd_exchange::Exchange;
use tokio::time::Instant;

const FIVE: Interval = Interval::FIVE_MINUTES;
/// Market time per real time: a five-minute candle takes 50 ms.
const SPEED: f64 = 6000.0;
/// Far above what any step needs, so that only a real hang ends here.
const DEADLINE: Duration = Duration::from_mins(2);

/// Makes a test of each function for each exchange.
macro_rules! for_each_exchange {
    ($($test:ident),* $(,)?) => {
        for_each_exchange!(@module binance, Binance, $($test),*);
        for_each_exchange!(@module bybit, Bybit, $($test),*);
        for_each_exchange!(@module coinbase, Coinbase, $($test),*);
        for_each_exchange!(@module coinbase_advanced, CoinbaseAdvanced, $($test),*);
        for_each_exchange!(@module kraken, Kraken, $($test),*);
    };
    (@module $module:ident, $exchange:ident, $($test:ident),*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(forecastd_exchange::Exchange::$exchange).await;
                }
            )*
        }
    };
}
pub(crate) use for_each_exchange;

/// Real time since the start of the test.
#[derive(Debug)]
struct RealClock(Instant);

impl Clock for RealClock {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// The first candles of the exchange's own recording.
fn sample(exchange: Exchange, count: usize) -> Vec<Candle> {
    let mut candles = recordings::multi_exchange().unwrap().remove(&exchange).unwrap();
    candles.truncate(count);
    candles
}

/// What the adapter must make of the recording.
fn as_told(exchange: Exchange, candles: &[Candle]) -> Vec<Candle> {
    let count = TRADES_PER_CANDLE as u64;
    let trade_count = match exchange {
        // Coinbase's candles have a count only where they were built from trades.
        Exchange::Bybit | Exchange::Coinbase | Exchange::CoinbaseAdvanced => None,
        Exchange::Binance | Exchange::Kraken => Some(count),
    };
    let told: Vec<Candle> =
        candles.iter().map(|candle| Candle { trade_count, ..*candle }).collect();
    if exchange == Exchange::Kraken { without_holes(&told) } else { told }
}

/// What the adapter told, without what it may not know. The volumes of candles that were built from
/// trades are sums; the digits beyond those that the exchange counts in are left out.
fn told(exchange: Exchange, finals: &[Candle]) -> Vec<Candle> {
    let plain = |candle: &Candle| match exchange {
        Exchange::Coinbase => Candle {
            volume: format!("{:.8}", candle.volume).parse().unwrap(),
            trade_count: None,
            ..*candle
        },
        _ => *candle,
    };
    finals.iter().map(plain).collect()
}

/// Kraken's intervals without trades are flat at the close before them.
fn without_holes(candles: &[Candle]) -> Vec<Candle> {
    let mut filled: Vec<Candle> = Vec::new();
    for candle in candles {
        while let Some(last) = filled.last().copied()
            && last.close_time_ms(FIVE) < candle.open_time_ms
        {
            let price = last.close;
            filled.push(Candle {
                open_time_ms: last.close_time_ms(FIVE),
                open: price,
                high: price,
                low: price,
                close: price,
                volume: 0.0,
                trade_count: Some(0),
            });
        }
        filled.push(*candle);
    }
    filled
}

/// A market whose clock starts inside of the candle number `start`.
fn running_clock(candles: &[Candle], start: usize) -> Arc<dyn Clock> {
    let base = Arc::new(RealClock(Instant::now()));
    Arc::new(ScaledClock::new(base, candles[start].open_time_ms + 1_000, SPEED))
}

async fn simulated(exchange: Exchange, candles: &[Candle], clock: &Arc<dyn Clock>) -> SimExchange {
    let config = SimExchangeConfig::new(exchange, candles.into(), FIVE, Arc::clone(clock));
    spawn(config).await.unwrap()
}
