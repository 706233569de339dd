//! What a feed does when an exchange does not want it, or does not know its market.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::ManualClock;
use forecastd_exchange::{Exchange, ExchangeError, FeedConfig};

use crate::feed::RunningFeed;
use crate::http::{HttpServer, http, ok};
use crate::stream::StreamServer;
use crate::{FIVE, STEP, fixture};

/// The reason and pause of a feed whose WebSocket host answers like this.
async fn refused(exchange: Exchange, answer: Vec<u8>) -> (String, Duration) {
    let stream = StreamServer::start().await;
    let rest = HttpServer::start(|_| http("503 Down", "", "")).await;
    let host = HttpServer::start(move |_| answer.clone()).await;
    let ws_url = host.url.replace("http://", "ws://");
    let change = |config| FeedConfig { ws_url, ..config };
    let mut feed = RunningFeed::start(exchange, &stream, &rest, 0, change);
    let told = feed.disconnected().await;
    feed.stop().await;
    told
}

#[tokio::test]
async fn a_host_that_refuses_this_country_is_left_alone_and_another_way_is_named() {
    let html = "<html>configured to block access from your country</html>";
    for exchange in Exchange::ALL {
        for status in ["403 Forbidden", "451 Unavailable For Legal Reasons"] {
            let (reason, retry_in) = refused(exchange, http(status, "", html)).await;
            assert!(reason.contains("proxy"), "{exchange}: {reason}");
            for host in exchange.other_hosts() {
                assert!(reason.contains(host.ws_url) && reason.contains(host.rest_url), "{reason}");
            }
            // The longest pause of the settings, at least.
            assert!(retry_in >= Duration::from_millis(50), "{exchange}: {retry_in:?}");
        }
    }
}

#[tokio::test]
async fn a_host_that_asks_for_patience_gets_it() {
    let minutes = Duration::from_mins;
    for (exchange, answer, wait) in [
        (Exchange::Bybit, http("403 Forbidden", "", "403, access too frequent"), minutes(10)),
        (Exchange::Binance, http("429 Too Many", "retry-after: 7\r\n", ""), minutes(7) / 60),
        (Exchange::Kraken, http("429 Too Many", "", ""), minutes(1)),
        (Exchange::Binance, http("418 Teapot", "", ""), minutes(2)),
    ] {
        let (reason, retry_in) = refused(exchange, answer).await;
        assert!(reason.contains("too many requests"), "{reason}");
        assert_eq!(retry_in, wait, "{exchange}");
    }
}

#[tokio::test]
async fn a_host_that_fails_is_tried_again_soon() {
    let (reason, retry_in) = refused(Exchange::Binance, http("503 Down", "", "")).await;
    assert!(reason.contains("cannot connect") && reason.contains("503"), "{reason}");
    assert!(retry_in <= Duration::from_millis(10), "{retry_in:?}");
}

const ACK: &str = r#"{"result":null,"id":1}"#;

#[tokio::test]
async fn a_market_that_binance_confirms_and_does_not_have_is_found_by_rest() {
    let stream = StreamServer::start().await;
    let body = r#"{"code":-1121,"msg":"Invalid symbol."}"#;
    let rest = HttpServer::start(|_| http("400 Bad Request", "", body)).await;
    let change = |config| FeedConfig { symbol: "BTCUSDX".to_owned(), ..config };
    let mut feed = RunningFeed::start(Exchange::Binance, &stream, &rest, 9 * STEP, change);
    let (reason, retry_in) = feed.disconnected().await;
    for word in ["`BTCUSDX`", "Invalid symbol.", "exchangeInfo"] {
        assert!(reason.contains(word), "{reason}");
    }
    assert!(retry_in >= Duration::from_millis(50), "{retry_in:?}");
    feed.stop().await;
}

#[tokio::test]
async fn a_market_of_which_rest_says_nothing_goes_on() {
    let stream = StreamServer::start().await;
    let rest = HttpServer::start(|_| ok("nonsense")).await;
    let mut feed = RunningFeed::start(Exchange::Binance, &stream, &rest, 9 * STEP, |c| c);
    let mut peer = stream.accept().await;
    peer.read().await;
    peer.send(ACK).await;
    feed.subscribed().await;
    // Data come after the question was answered, and the connection is still there.
    while rest.targets().is_empty() {
        tokio::task::yield_now().await;
    }
    let kline = r#"{"e":"kline","E":1,"s":"BTCUSDT","k":{"t":2700000,"T":2999999,"s":"BTCUSDT","i":"5m","f":1,"L":2,"o":"2","c":"2","h":"3","l":"2","v":"0","n":2,"x":false}}"#;
    peer.send(kline).await;
    assert_eq!(feed.forming().await.open_time_ms, 9 * STEP);
    feed.stop().await;
}

/// Asks the source of an exchange that answers like this about its main market.
async fn checked(exchange: Exchange, answer: Vec<u8>) -> Result<(), ExchangeError> {
    let server = HttpServer::start(move |_| answer.clone()).await;
    let config = FeedConfig { rest_url: server.url.clone(), ..exchange.default_config() };
    let symbol = config.symbol.clone();
    let clock = Arc::new(ManualClock::new(1_000_000 * STEP));
    let (_feed, source) = exchange.open(config, clock, 1).unwrap();
    let answer = source.check_symbol(&symbol, FIVE).await;
    assert_eq!(server.targets().len(), 1, "{exchange}");
    answer
}

#[tokio::test]
async fn every_exchange_can_be_asked_whether_it_has_a_market() {
    let not_found = |body: &str| http("404 Not Found", "", body);
    for (exchange, unknown, empty) in [
        (
            Exchange::Binance,
            http("400 Bad Request", "", r#"{"code":-1121,"msg":"Invalid symbol."}"#),
            "[]",
        ),
        (
            Exchange::Bybit,
            ok(r#"{"retCode":10001,"retMsg":"Not supported symbols","result":{}}"#),
            r#"{"retCode":0,"retMsg":"OK","result":{"symbol":"BTCUSDT","list":[]},"time":1}"#,
        ),
        (Exchange::Coinbase, not_found(r#"{"message":"NotFound"}"#), "[]"),
        (
            Exchange::CoinbaseAdvanced,
            not_found(r#"{"error":"NOT_FOUND","message":"valid product required"}"#),
            r#"{"candles":[]}"#,
        ),
        (
            Exchange::Kraken,
            ok(&fixture("kraken/rest/error-unknown-pair.json")),
            r#"{"error":[],"result":{"XXBTZUSD":[],"last":1}}"#,
        ),
    ] {
        let error = checked(exchange, unknown).await.unwrap_err();
        assert!(matches!(error, ExchangeError::UnknownSymbol { .. }), "{exchange}: {error}");
        assert!(error.to_string().contains(exchange.symbols_listed_at()), "{error}");
        // A market of which there is nothing new is a market; an exchange that fails says nothing.
        checked(exchange, ok(empty)).await.unwrap();
        let error = checked(exchange, http("503 Down", "", "")).await.unwrap_err();
        assert!(error.is_retryable(), "{exchange}: {error}");
    }
}
