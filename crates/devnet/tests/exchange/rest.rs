//! The REST client against the simulated exchange.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Clock, Interval, ManualClock};
use forecastd_devnet::exchange::Fault;
use forecastd_exchange::{BinanceRest, CandleSource, ExchangeError};

use crate::{FIVE, as_told, exchange, sample};

#[tokio::test]
async fn rest_pages_equal_the_recording() {
    let candles = sample(2600);
    let clock = Arc::new(ManualClock::new(candles[2500].open_time_ms + 1_000));
    let dyn_clock: Arc<dyn Clock> = clock.clone();
    let exchange = exchange(&candles, &dyn_clock).await;
    let rest = BinanceRest::new(&exchange.rest_url, dyn_clock, Duration::from_secs(30)).unwrap();
    let ask = |from: i64, to: i64| rest.candles("BTCUSDT", FIVE, from, to);
    // Everything that has closed; the running candle is not among it.
    let all = ask(0, i64::MAX - FIVE.as_ms()).await;
    assert!(matches!(all, Err(ExchangeError::Range { .. })), "{all:?}");
    let start = candles[0].open_time_ms;
    let all = ask(start, start + 50_000 * FIVE.as_ms()).await.unwrap();
    assert_eq!(all, as_told(&candles[..2500]));
    assert_eq!(rest.used_weight(), 6);
    // Odd and empty ranges; the end is not included.
    let at = |index: usize| candles[index].open_time_ms;
    assert_eq!(ask(at(7) - 1, at(9)).await.unwrap(), as_told(&candles[7..9]));
    assert_eq!(ask(at(7) + 1, at(9) + 1).await.unwrap(), as_told(&candles[8..10]));
    assert_eq!(ask(at(9), at(9)).await.unwrap(), []);
    assert_eq!(ask(at(2550), at(2560)).await.unwrap(), []);
    assert_eq!(ask(at(1000), at(2000)).await.unwrap(), as_told(&candles[1000..2000]));
    // A last candle without a later one counts a little after its end only.
    clock.set(candles[2599].close_time_ms(FIVE) + 2_999);
    assert_eq!(ask(at(2598), at(2599) + 1).await.unwrap(), as_told(&candles[2598..2599]));
    clock.advance(1);
    assert_eq!(ask(at(2598), at(2599) + 1).await.unwrap(), as_told(&candles[2598..2600]));
    exchange.stop().await;
}

#[tokio::test]
async fn longer_intervals_are_served_and_shorter_ones_refused() {
    let candles = sample(600);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(candles[599].close_time_ms(FIVE)));
    let exchange = exchange(&candles, &clock).await;
    let rest = BinanceRest::new(&exchange.rest_url, clock, Duration::from_secs(30)).unwrap();
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
    exchange.stop().await;
}

#[tokio::test]
async fn refusals_have_their_class_and_a_rate_limit_is_kept() {
    let candles = sample(100);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(candles[50].open_time_ms));
    let exchange = exchange(&candles, &clock).await;
    let client = || {
        BinanceRest::new(&exchange.rest_url, Arc::clone(&clock), Duration::from_millis(300))
            .unwrap()
    };
    let (from, to) = (candles[0].open_time_ms, candles[10].open_time_ms);
    for (status, is_retryable) in [(451, false), (403, false), (500, true), (503, true)] {
        exchange.fault(Fault::RestStatus { status, retry_after: None, count: 1 });
        let error = client().candles("BTCUSDT", FIVE, from, to).await.unwrap_err();
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    for fault in [Fault::RestGarbage { count: 1 }, Fault::RestSilence { count: 1 }] {
        exchange.fault(fault);
        let error = client().candles("BTCUSDT", FIVE, from, to).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    let limited = client();
    let retry_after = Some(Duration::from_hours(1));
    exchange.fault(Fault::RestStatus { status: 429, retry_after, count: 1 });
    let before = exchange.rest_requests();
    for _ in 0..3 {
        let error = limited.candles("BTCUSDT", FIVE, from, to).await.unwrap_err();
        assert!(error.retry_after().unwrap() > Duration::from_mins(50), "{error}");
    }
    assert_eq!(exchange.rest_requests(), before + 1, "the limit was not kept by the client itself");
    exchange.stop().await;
}
