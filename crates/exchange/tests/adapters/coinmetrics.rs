//! Coin Metrics: pages that name the next one, numbers as texts, nine digits of a second, refusals,
//! and a key that is seen by nobody but the server.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use forecastd_core::{Interval, ManualClock, Observation};
use forecastd_exchange::{ApiKey, CoinMetrics, ExchangeError, SeriesConfig};

use crate::http::{HttpServer, http, ok, parameter};
use crate::{FIVE, STEP};

const KEY: &str = "s3cr3t-k3y";
const DELAY_MS: i64 = 40_000;
/// 2024-01-01.
const START: i64 = 1_704_067_200_000;

fn candles() -> SeriesConfig {
    SeriesConfig {
        endpoint: "market-candles".parse().unwrap(),
        of: "binance-btc-usdt-spot".to_owned(),
        metric: "candle_trades_count".to_owned(),
        every: Some(FIVE),
        publication_delay: Duration::from_millis(DELAY_MS.unsigned_abs()),
    }
}

fn client(server: &HttpServer, now_ms: i64) -> CoinMetrics {
    let (clock, key) = (Arc::new(ManualClock::new(now_ms)), ApiKey::new(KEY).unwrap());
    CoinMetrics::new(Some(&server.url), Some(key), clock, Duration::from_secs(30)).unwrap()
}

/// A time with nine digits behind the second, as in every answer.
fn iso(at_ms: i64) -> String {
    DateTime::from_timestamp_millis(at_ms).unwrap().to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A candle as the interface tells it; its count of trades is its index.
fn row(index: i64) -> String {
    let at = iso(START + index * STEP);
    format!(
        r#"{{"market":"binance-btc-usdt-spot","time":"{at}","price_open":"42283.58","price_close":"42298.61","price_high":"42298.62","price_low":"42261.02","vwap":"42283.96","volume":"35.92724","candle_usd_volume":"1519032.04","candle_trades_count":"{index}"}}"#
    )
}

fn body(rows: &[String], token: Option<&str>) -> String {
    let next = token.map_or_else(String::new, |token| {
        format!(r#","next_page_token":"{token}","next_page_url":"https://elsewhere.example/x""#)
    });
    format!(r#"{{"data":[{}]{next}}}"#, rows.join(","))
}

fn time_of(target: &str, name: &str) -> i64 {
    let text = parameter(target, name).unwrap().replace("%3A", ":");
    DateTime::parse_from_rfc3339(&text).unwrap().timestamp_millis()
}

/// A server that has the candles 0.. and gives them in pages of three.
async fn server() -> HttpServer {
    HttpServer::start(|target| {
        let end = (time_of(target, "end_time") - START + STEP - 1) / STEP;
        let first = match parameter(target, "next_page_token") {
            Some(token) => token.parse().unwrap(),
            None => (time_of(target, "start_time") - START + STEP - 1) / STEP,
        };
        let rows: Vec<String> = (first..end.min(first + 3)).map(row).collect();
        let token = (first + 3).to_string();
        ok(&body(&rows, (first + 3 < end).then_some(token.as_str())))
    })
    .await
}

#[tokio::test]
async fn pages_are_followed_to_the_end_and_values_know_when_they_became_known() {
    let server = server().await;
    let now_ms = START + 12 * STEP;
    let series = client(&server, now_ms).series(&candles(), START + STEP, i64::MAX).await.unwrap();
    // The candle 11 has just closed, the candle 12 is open.
    let want: Vec<Observation> = (1..12)
        .map(|index: i64| Observation {
            at_ms: START + index * STEP,
            known_ms: START + (index + 1) * STEP + DELAY_MS,
            value: index as f64,
        })
        .collect();
    assert_eq!(series, want);
    let targets = server.targets();
    assert_eq!(targets.len(), 4, "{targets:?}");
    let head = "/v4/timeseries/market-candles?markets=binance-btc-usdt-spot\
                &start_time=2024-01-01T00%3A05%3A00.000Z&end_time=2024-01-01T00%3A55%3A00.001Z\
                &end_inclusive=false&paging_from=start&page_size=5000&frequency=5m\
                &api_key=s3cr3t-k3y";
    assert_eq!(targets[0], head);
    assert_eq!(targets[1], format!("{head}&next_page_token=4"));
}

#[tokio::test]
async fn what_cannot_exist_is_not_asked_for() {
    let server = HttpServer::start(|target| panic!("nothing has to be asked: {target}")).await;
    let client = client(&server, START + STEP - 1);
    assert_eq!(client.series(&candles(), START, i64::MAX).await.unwrap(), []);
    assert_eq!(client.series(&candles(), i64::MAX, i64::MIN).await.unwrap(), []);
    let wrong = SeriesConfig { every: None, ..candles() };
    let error = client.series(&wrong, 0, START).await.unwrap_err();
    assert!(error.to_string().contains("`every`"), "{error}");
}

#[tokio::test]
async fn metrics_are_asked_for_by_name_and_samples_come_at_their_own_times() {
    let text = format!(
        r#"{{"data":[{{"asset":"btc","time":"{}","ReferenceRateUSD":"42283.583"}},{{"asset":"btc","time":"{}","ReferenceRateUSD":null}},{{"asset":"btc","time":"{}","ReferenceRateUSD":-1.5e3}}]}}"#,
        iso(START),
        iso(START + STEP),
        iso(START + 2 * STEP),
    );
    let metrics = HttpServer::start(move |_| ok(&text)).await;
    let day = SeriesConfig {
        endpoint: "asset-metrics".parse().unwrap(),
        of: "BTC".to_owned(),
        metric: "ReferenceRateUSD".to_owned(),
        every: Some(Interval::from_ms(86_400_000).unwrap()),
        publication_delay: Duration::ZERO,
    };
    let now_ms = START + 3 * 86_400_000;
    let values = client(&metrics, now_ms).series(&day, START, now_ms).await.unwrap();
    let want = |at_ms: i64, value: f64| Observation { at_ms, known_ms: at_ms + 86_400_000, value };
    // No value is no value, and not zero.
    assert_eq!(values, [want(START, 42_283.583), want(START + 2 * STEP, -1_500.0)]);
    let target = &metrics.targets()[0];
    assert_eq!(parameter(target, "assets"), Some("BTC"));
    assert_eq!(parameter(target, "metrics"), Some("ReferenceRateUSD"));
    assert_eq!(parameter(target, "frequency"), Some("1d"));

    let at = iso(START).replace(".000000000Z", ".123999999Z");
    let text = format!(
        r#"{{"data":[{{"market":"binance-BTCUSDT-future","time":"{at}","database_time":"x","rate":"0.00010000","period":"08:00:00","interval":"08:00:00"}}],"next_page_token":""}}"#
    );
    let samples = HttpServer::start(move |_| ok(&text)).await;
    let rate = SeriesConfig {
        endpoint: "market-funding-rates".parse().unwrap(),
        of: "binance-BTCUSDT-future".to_owned(),
        metric: "rate".to_owned(),
        every: None,
        publication_delay: Duration::from_secs(1),
    };
    let values = client(&samples, now_ms).series(&rate, START, now_ms).await.unwrap();
    let (at_ms, value) = (START + 123, 0.0001);
    assert_eq!(values, [Observation { at_ms, known_ms: at_ms + 1_000, value }]);
    assert_eq!(parameter(&samples.targets()[0], "granularity"), None);
}

async fn refusal(answer: Vec<u8>) -> ExchangeError {
    let server = HttpServer::start(move |_| answer.clone()).await;
    let client = client(&server, START + 100 * STEP);
    client.series(&candles(), START, START + 10 * STEP).await.unwrap_err()
}

#[tokio::test]
async fn refusals_have_their_class_and_their_wait() {
    let error =
        |class: &str| format!(r#"{{"error":{{"type":"{class}","message":"words about {KEY}"}}}}"#);
    let seconds = Duration::from_secs;
    let limits = "x-ratelimit-limit: 10\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 4\r\n";
    let limited = http("429 Too Many Requests", limits, &error("too_many_requests"));
    for (answer, wait) in [
        (limited, seconds(4)),
        (http("429 Too Many Requests", "retry-after: 7\r\n", ""), seconds(7)),
        (http("429 Too Many Requests", "", ""), seconds(60)),
    ] {
        let refused = refusal(answer).await;
        assert_eq!(refused.retry_after(), Some(wait), "{refused}");
    }
    for (answer, is_retryable) in [
        (http("400 Bad Request", "", &error("bad_parameter")), false),
        (http("401 Unauthorized", "", &error("unauthorized")), false),
        (http("403 Forbidden", "", &error("forbidden")), false),
        (http("500 Internal Server Error", "", &error("internal_server_error")), true),
        (http("503 Service Unavailable", "", "<html>"), true),
        (http("302 Found", "location: http://127.0.0.1:1/\r\n", ""), false),
    ] {
        let refused = refusal(answer).await;
        assert_eq!(refused.is_retryable(), is_retryable, "{refused}");
        assert!(!format!("{refused} {refused:?}").contains(KEY), "{refused:?}");
        assert!(!refused.to_string().contains("proxy"), "{refused}");
    }
}

#[tokio::test]
async fn after_too_many_requests_nothing_more_is_sent() {
    let server = HttpServer::start(|_| http("429 Too Many Requests", "", "")).await;
    let client = client(&server, START + 100 * STEP);
    for _ in 0..3 {
        let error = client.series(&candles(), START, START + 10 * STEP).await.unwrap_err();
        assert!(matches!(error, ExchangeError::RateLimited { .. }), "{error}");
    }
    assert_eq!(server.targets().len(), 1);
}

#[tokio::test]
async fn hostile_answers_are_errors_and_give_no_values() {
    let change = |from: &str, to: &str| ok(&body(&[row(1)], None).replace(from, to));
    let many: Vec<String> = (0..5_001).map(row).collect();
    let long_token = "x".repeat(2_000);
    for (what, answer) in [
        ("no JSON", ok("<html>")),
        ("no data", ok("{}")),
        ("data is no list", ok(r#"{"data":{"a":1}}"#)),
        ("row is no object", ok(r#"{"data":[1]}"#)),
        ("NaN", change("\"candle_trades_count\":\"1\"", "\"candle_trades_count\":\"NaN\"")),
        ("infinity", change("\"candle_trades_count\":\"1\"", "\"candle_trades_count\":\"inf\"")),
        ("absurd", change("\"candle_trades_count\":\"1\"", "\"candle_trades_count\":\"1e300\"")),
        ("a list", change("\"candle_trades_count\":\"1\"", "\"candle_trades_count\":[1]")),
        ("no time", change("\"time\"", "\"times\"")),
        ("odd time", change("2024-01-01T00:05", "2024-13-01T00:05")),
        ("early", change("2024-01-01T00:05", "2023-01-01T00:05")),
        ("late", change("2024-01-01T00:05", "2025-01-01T00:05")),
        ("other market", change("btc-usdt", "eth-usdt")),
        ("no market", change("\"market\"", "\"pair\"")),
        ("twice", ok(&body(&[row(1), row(1)], None))),
        ("falling", ok(&body(&[row(2), row(1)], None))),
        ("endless page", ok(&body(&many, None))),
        ("long mark", ok(&body(&[row(1)], Some(&long_token)))),
        ("the same page for ever", ok(&body(&[], Some("a")))),
        ("the page before again", ok(&body(&[row(1)], Some("a")))),
        ("huge", ok(&format!("{{\"data\":[{}", " ".repeat(5 << 20)))),
        ("deep", ok(&format!("{{\"data\":{}", "[".repeat(100_000)))),
        ("cut off", b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"data\":[".to_vec()),
    ] {
        let error = refusal(answer).await;
        let is_expected = matches!(
            error,
            ExchangeError::Decode { .. }
                | ExchangeError::BodyTooLarge { .. }
                | ExchangeError::Transport { .. }
        );
        assert!(is_expected, "{what}: {error}");
        assert!(!format!("{error:?}").contains(KEY), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn pages_without_an_end_are_given_up() {
    let server = HttpServer::start(move |target| {
        let next =
            parameter(target, "next_page_token").map_or(0, |token| token.parse::<u32>().unwrap());
        ok(&body(&[], Some(&(next + 1).to_string())))
    })
    .await;
    let client = client(&server, START + 100 * STEP);
    let error = client.series(&candles(), START, START + 10 * STEP).await.unwrap_err();
    assert!(matches!(error, ExchangeError::Range { .. }), "{error}");
    assert_eq!(server.targets().len(), 100);
}

#[test]
fn a_key_is_not_sent_in_the_clear_and_not_shown() {
    let clock = Arc::new(ManualClock::new(START));
    let make = |url, key| CoinMetrics::new(url, key, clock.clone(), Duration::from_secs(1));
    let key = || Some(ApiKey::new(KEY).unwrap());
    let error = make(Some("http://host.example"), key()).unwrap_err().to_string();
    assert!(error.contains("`url`") && !error.contains(KEY), "{error}");
    make(Some("http://host.example"), None).unwrap();
    let public = make(None, key()).unwrap();
    let text = format!("{public:?}");
    assert!(text.contains("//api.coinmetrics.io") && !text.contains(KEY), "{text}");
    let community = format!("{:?}", make(None, None).unwrap());
    assert!(community.contains("community-api.coinmetrics.io"), "{community}");
}
