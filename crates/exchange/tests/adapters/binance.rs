//! The REST client against bodies that no sane exchange sends.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Candle, Interval, ManualClock};
use forecastd_exchange::{BinanceRest, CandleSource, ExchangeError};

use crate::http::{http, server};

const FIVE: Interval = Interval::FIVE_MINUTES;
const STEP: i64 = 300_000;

fn row(index: i64) -> String {
    let (open, last) = (index * STEP, index * STEP + STEP - 1);
    format!(r#"[{open},"2","3","1","2.5","7",{last},"0",4,"0","0","0"]"#)
}

fn rows(indexes: impl IntoIterator<Item = i64>) -> String {
    format!("[{}]", indexes.into_iter().map(row).collect::<Vec<_>>().join(","))
}

/// Asks for the candles 10..20 long after they closed.
async fn ask(answer: Vec<u8>) -> Result<Vec<Candle>, ExchangeError> {
    let (url, task) = server(answer).await;
    let clock = Arc::new(ManualClock::new(5_000 * STEP));
    let rest = BinanceRest::new(&url, clock, Duration::from_secs(30)).unwrap();
    let result = rest.candles("BTCUSDT", FIVE, 10 * STEP, 20 * STEP).await;
    task.abort();
    result
}

#[tokio::test]
async fn a_good_page_is_read() {
    let candles = ask(http("200 OK", "", &rows(10..=20))).await.unwrap();
    assert_eq!(candles.len(), 10);
    assert_eq!((candles[0].open_time_ms, candles[0].trade_count), (10 * STEP, Some(4)));
}

#[tokio::test]
async fn ranges_at_the_end_of_time_are_cut_to_what_exists() {
    let (url, task) = server(http("200 OK", "", &rows(10..=20))).await;
    let clock = Arc::new(ManualClock::new(20 * STEP + 1));
    let rest = BinanceRest::new(&url, clock, Duration::from_secs(30)).unwrap();
    let all = rest.candles("BTCUSDT", FIVE, 10 * STEP, i64::MAX).await.unwrap();
    assert_eq!(all.len(), 10);
    assert_eq!(rest.candles("BTCUSDT", FIVE, i64::MAX, i64::MAX).await.unwrap(), []);
    task.abort();
}

#[tokio::test]
async fn the_last_row_counts_only_when_it_has_surely_closed() {
    let (url, task) = server(http("200 OK", "", &rows(10..=12))).await;
    let clock = Arc::new(ManualClock::new(13 * STEP + 2_999));
    let rest = BinanceRest::new(&url, clock.clone(), Duration::from_secs(30)).unwrap();
    let early = rest.candles("BTCUSDT", FIVE, 10 * STEP, 13 * STEP).await.unwrap();
    assert_eq!(early.len(), 2);
    clock.advance(1);
    let late = rest.candles("BTCUSDT", FIVE, 10 * STEP, 13 * STEP).await.unwrap();
    assert_eq!(late.len(), 3);
    task.abort();
}

#[tokio::test]
async fn bodies_that_break_a_rule_are_refused() {
    let cut = row(10).replace(r#","0","0","0"]"#, "");
    for (body, word) in [
        (String::new(), "wrong shape"),
        ("{}".to_owned(), "wrong shape"),
        (format!("[{cut}"), "wrong shape"),
        ("[[]]".to_owned(), "open time"),
        ("[".repeat(100_000), "wrong shape"),
        (rows([9]), "asked for"),
        (rows([21]), "asked for"),
        (rows([12, 11]), "rising"),
        (rows([12, 12]), "rising"),
        (rows(10..=20).replace("\"2.5\"", "\"9\""), "low..high"),
        (rows(10..=20).replace("\"2.5\"", "\"1e400\""), "decimal"),
        (rows(10..=20).replace("\"2.5\"", "2.5"), "close"),
        (rows(10..=20).replace(",4,", ",-4,"), "trade count"),
        (rows(10..=20).replace(&format!("[{}", 12 * STEP), &format!("[{}", 12 * STEP + 1)), "grid"),
    ] {
        let error = ask(http("200 OK", "", &body)).await.unwrap_err();
        assert!(matches!(error, ExchangeError::Decode { .. }), "{error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn more_rows_than_asked_for_are_refused() {
    let (url, task) = server(http("200 OK", "", &rows(10..1_511))).await;
    let clock = Arc::new(ManualClock::new(5_000 * STEP));
    let rest = BinanceRest::new(&url, clock, Duration::from_secs(30)).unwrap();
    let error = rest.candles("BTCUSDT", FIVE, 10 * STEP, 2_000 * STEP).await.unwrap_err();
    assert!(error.to_string().contains("asked for 1000"), "{error}");
    task.abort();
}

#[tokio::test]
async fn a_server_that_repeats_a_page_for_ever_is_left() {
    let (url, task) = server(http("200 OK", "", &rows(10..1_010))).await;
    let clock = Arc::new(ManualClock::new(5_000 * STEP));
    let rest = BinanceRest::new(&url, clock, Duration::from_secs(30)).unwrap();
    let error = rest.candles("BTCUSDT", FIVE, 10 * STEP, 3_000 * STEP).await.unwrap_err();
    assert!(matches!(error, ExchangeError::Decode { .. }), "{error}");
    task.abort();
}

#[tokio::test]
async fn long_bodies_are_not_read_to_the_end() {
    let error = ask(http("200 OK", "", &" ".repeat(5_000_000))).await.unwrap_err();
    assert!(matches!(error, ExchangeError::BodyTooLarge { .. }), "{error}");
    // A long error body costs the explanation, not the class.
    let error = ask(http("451 No", "", &"x".repeat(5_000_000))).await.unwrap_err();
    assert!(matches!(error, ExchangeError::Blocked { status: 451, .. }), "{error}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let answer = http("302 Found", "location: http://127.0.0.1:1/\r\n", "");
    let error = ask(answer).await.unwrap_err();
    assert!(matches!(error, ExchangeError::Refused { status: 302, .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn error_texts_keep_the_exchanges_words_and_no_control_characters() {
    let body = r#"{"code":-1121,"msg":"Invalid\u001b[31m symbol."}"#;
    let error = ask(http("400 Bad Request", "", body)).await.unwrap_err();
    let ExchangeError::UnknownSymbol { symbol, message, .. } = error else { panic!("{error}") };
    assert_eq!((symbol.as_str(), message.as_str()), ("BTCUSDT", "Invalid[31m symbol."));
    let busy = r#"{"code":-1003,"msg":"Too many requests."}"#;
    assert!(ask(http("400 Bad Request", "", busy)).await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn bad_requests_are_refused_before_they_are_sent() {
    let clock = Arc::new(ManualClock::new(0));
    let rest =
        BinanceRest::new("http://127.0.0.1:1", clock.clone(), Duration::from_secs(1)).unwrap();
    for (symbol, interval) in
        [("BTC&x=1", FIVE), ("", FIVE), ("BTCUSDT", Interval::from_ms(7).unwrap())]
    {
        let error = rest.candles(symbol, interval, 0, STEP).await.unwrap_err();
        assert!(matches!(error, ExchangeError::Config { .. }), "{error}");
    }
    assert!(BinanceRest::new("ftp://host", clock.clone(), Duration::from_secs(1)).is_err());
    assert!(BinanceRest::new("nonsense", clock, Duration::from_secs(1)).is_err());
}
