//! A feed whose owner is gone.

use std::sync::Arc;
use std::time::Duration;

use forecastd_core::ManualClock;
use forecastd_exchange::{BinanceFeed, FeedConfig, FeedEvent};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::DEADLINE;

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_feed_that_nobody_receives_ends_in_the_middle_of_its_pause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let config = FeedConfig {
        ws_url: format!("ws://{host}"),
        rest_url: format!("http://{host}"),
        backoff_min: HOUR,
        backoff_max: HOUR,
        ..FeedConfig::default()
    };
    let feed = BinanceFeed::new(config, Arc::new(ManualClock::new(0)), 7).unwrap();
    let (events, mut received) = mpsc::channel(8);
    let (stop, stopped) = watch::channel(false);
    let run = tokio::spawn(feed.run(events, stopped));
    let first = timeout(DEADLINE, received.recv()).await.unwrap().unwrap();
    assert!(matches!(first, FeedEvent::Disconnected { .. }), "{first:?}");
    drop(received);
    timeout(DEADLINE, run).await.unwrap().unwrap();
    drop(stop);
    server.abort();
}
