//! The REST clients against the simulated exchanges, and the interfaces' own rules.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, Interval, ManualClock};
use forecastd_devnet::exchange::{Fault, SimExchange};
use forecastd_exchange::{BinanceRest, CandleSource, Exchange, ExchangeError, FeedConfig};

use crate::reader::settings;
use crate::{FIVE, as_told, for_each_exchange, sample, simulated};

for_each_exchange!(
    rest_pages_equal_the_recording,
    refusals_have_their_class,
    a_rate_limit_is_kept_by_the_client,
);

fn source(
    exchange: Exchange,
    running: &SimExchange,
    clock: &Arc<dyn Clock>,
) -> (Arc<dyn CandleSource>, String) {
    let request_timeout = Duration::from_secs(1);
    let config = FeedConfig { request_timeout, ..settings(exchange, running) };
    let symbol = config.symbol.clone();
    (exchange.open(config, Arc::clone(clock), 1).unwrap().1, symbol)
}

async fn rest_pages_equal_the_recording(exchange: Exchange) {
    // Kraken has 720 candles and no way back.
    let first = if exchange == Exchange::Kraken { 800 } else { 100 };
    let candles = sample(exchange, 1600);
    // Coinbase's rows are believed ten seconds after their end.
    let clock = Arc::new(ManualClock::new(candles[1500].open_time_ms + 11_000));
    let dyn_clock: Arc<dyn Clock> = clock.clone();
    let running = simulated(exchange, &candles, &dyn_clock).await;
    let (source, symbol) = source(exchange, &running, &dyn_clock);
    let ask = |from: i64, to: i64| source.candles(&symbol, FIVE, from, to);
    let at = |index: usize| candles[index].open_time_ms;
    let want = |range: std::ops::Range<usize>| as_told(exchange, &candles[range]);
    // Everything that has closed; the running candle is not among it.
    let all = ask(at(first), at(first) + 50_000 * FIVE.as_ms()).await.unwrap();
    assert_eq!(all, want(first..1500));
    // Odd and empty ranges; the end is not included.
    assert_eq!(ask(at(1400) - 1, at(1403)).await.unwrap(), want(1400..1403));
    assert_eq!(ask(at(1400) + 1, at(1403) + 1).await.unwrap(), want(1401..1404));
    assert_eq!(ask(at(1400), at(1400)).await.unwrap(), []);
    assert_eq!(ask(at(1550), at(1560)).await.unwrap(), []);
    clock.set(candles[1599].close_time_ms(FIVE) + 11_000);
    assert_eq!(ask(at(1590), at(1599) + 1).await.unwrap(), want(1590..1600));
    running.stop().await;
}

async fn refusals_have_their_class(exchange: Exchange) {
    let candles = sample(exchange, 100);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(candles[50].open_time_ms));
    let running = simulated(exchange, &candles, &clock).await;
    let (from, to) = (candles[0].open_time_ms, candles[10].open_time_ms);
    for (status, is_retryable) in [(451, false), (403, false), (500, true), (503, true)] {
        let (source, symbol) = source(exchange, &running, &clock);
        running.fault(Fault::RestStatus { status, retry_after: None, count: 1 });
        let error = source.candles(&symbol, FIVE, from, to).await.unwrap_err();
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    for fault in [Fault::RestGarbage { count: 1 }, Fault::RestSilence { count: 1 }] {
        let (source, symbol) = source(exchange, &running, &clock);
        running.fault(fault);
        let error = source.candles(&symbol, FIVE, from, to).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    let unknown = "NOPE".to_owned() + &exchange.default_config().symbol;
    let (source, _) = source(exchange, &running, &clock);
    let error = source.candles(&unknown, FIVE, from, to).await.unwrap_err();
    assert!(matches!(error, ExchangeError::UnknownSymbol { .. }), "{error:?}");
    running.stop().await;
}

async fn a_rate_limit_is_kept_by_the_client(exchange: Exchange) {
    let candles = sample(exchange, 100);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(candles[50].open_time_ms));
    let running = simulated(exchange, &candles, &clock).await;
    let (from, to) = (candles[0].open_time_ms, candles[10].open_time_ms);
    for status in [429, 418] {
        let (limited, symbol) = source(exchange, &running, &clock);
        let retry_after = Some(Duration::from_hours(1));
        running.fault(Fault::RestStatus { status, retry_after, count: 1 });
        let before = running.rest_requests();
        for _ in 0..3 {
            let error = limited.candles(&symbol, FIVE, from, to).await.unwrap_err();
            assert!(error.retry_after().unwrap() > Duration::from_mins(50), "{error}");
        }
        assert_eq!(running.rest_requests(), before + 1, "the limit was not kept by the client");
    }
    running.stop().await;
}

#[tokio::test]
async fn binance_counts_weights_and_proves_the_last_row_by_the_clock() {
    let candles = sample(Exchange::Binance, 2600);
    let clock = Arc::new(ManualClock::new(candles[2500].open_time_ms + 1_000));
    let dyn_clock: Arc<dyn Clock> = clock.clone();
    let running = simulated(Exchange::Binance, &candles, &dyn_clock).await;
    let rest = BinanceRest::new(&running.rest_url, dyn_clock, Duration::from_secs(30)).unwrap();
    let ask = |from: i64, to: i64| rest.candles("BTCUSDT", FIVE, from, to);
    let start = candles[0].open_time_ms;
    let all = ask(0, i64::MAX - FIVE.as_ms()).await;
    assert!(matches!(all, Err(ExchangeError::Range { .. })), "{all:?}");
    let all = ask(start, start + 50_000 * FIVE.as_ms()).await.unwrap();
    assert_eq!(all, as_told(Exchange::Binance, &candles[..2500]));
    rest.trades("BTCUSDT", 5).await.unwrap();
    assert_eq!(rest.used_weight(), 3 * 2 + 25);
    // A last candle without a later one counts a little after its end only.
    let at = |index: usize| candles[index].open_time_ms;
    let told = |range: std::ops::Range<usize>| as_told(Exchange::Binance, &candles[range]);
    clock.set(candles[2599].close_time_ms(FIVE) + 2_999);
    assert_eq!(ask(at(2598), at(2599) + 1).await.unwrap(), told(2598..2599));
    clock.advance(1);
    assert_eq!(ask(at(2598), at(2599) + 1).await.unwrap(), told(2598..2600));
    running.stop().await;
}

#[tokio::test]
async fn longer_intervals_are_served_and_shorter_ones_refused() {
    let candles = sample(Exchange::Binance, 600);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(candles[599].close_time_ms(FIVE)));
    let running = simulated(Exchange::Binance, &candles, &clock).await;
    let rest = BinanceRest::new(&running.rest_url, clock, Duration::from_secs(30)).unwrap();
    let (start, hour) = (candles[0].open_time_ms, "1h".parse().unwrap());
    let hours = rest.candles("BTCUSDT", hour, start, start + 3_600_000 * 40).await.unwrap();
    assert_eq!(hours.len(), 40);
    assert_eq!((hours[3].open, hours[3].close), (candles[36].open, candles[47].close));
    let minutes = rest.candles("BTCUSDT", Interval::MINUTE, start, start + 600_000).await;
    let Err(ExchangeError::Refused { code: Some(-1120), .. }) = minutes else {
        panic!("{minutes:?}")
    };
    let symbol = rest.candles("NOPE", FIVE, start, start + 600_000).await;
    let Err(ExchangeError::UnknownSymbol { .. }) = symbol else { panic!("{symbol:?}") };
    running.stop().await;
}
