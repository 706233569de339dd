//! What the shelf makes of bars, without any exchange: all of them are given.

use forecastd_core::ManualClock;
use tempfile::TempDir;

use super::*;
use crate::testing::{self, spec, stream};

const STEP_MS: i64 = 300_000;

/// A shelf on a disk of its own, at a time at which everything is overdue.
struct Place {
    shelf: Shelf,
    clock: Arc<ManualClock>,
    _directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(100 * STEP_MS));
        let node = testing::node(directory.path(), &clock);
        let shelf = Shelf { node, settings: stream(), lock: Arc::default() };
        Self { shelf, clock, _directory: directory }
    }

    /// Bars of the feeds at these steps; the close tells feed and step.
    async fn put(&self, feeds: &[&str], steps: std::ops::Range<i64>) {
        for feed in feeds {
            let bars: Vec<Bar> = steps.clone().map(|step| bar(feed, step)).collect();
            self.shelf.put(feed, &bars).await.unwrap();
        }
    }

    async fn realise(&self, start: i64, may_fill: bool) -> Realised {
        self.shelf.realise(start * STEP_MS, 100 * STEP_MS, 1, may_fill).await.unwrap()
    }

    fn before(&self, start: i64) -> Option<Realised> {
        self.shelf.realised_before(start * STEP_MS).unwrap()
    }
}

fn bar(feed: &str, step: i64) -> Bar {
    let own = if feed == "kraken" { 3.0 } else { 0.0 };
    let close = 1_000.0 + step as f64 + own;
    let candle = Candle {
        open_time_ms: step * STEP_MS,
        open: close,
        high: close,
        low: close,
        close,
        volume: 1.0,
        trade_count: None,
    };
    Bar::backfilled(candle)
}

fn settled(closes: &[f64], filled: usize) -> Realised {
    Realised::Settled { closes: closes.to_vec(), filled }
}

#[tokio::test]
async fn a_late_bar_changes_a_candle_until_a_score_used_it() {
    let place = Place::new();
    place.put(&["binance", "bybit"], 9..20).await;
    let decided = place.shelf.decide(&[10 * STEP_MS]).await.unwrap();
    assert_eq!(decided.joined[0].candle.close.to_bits(), 1_010.0_f64.to_bits());
    place.put(&["kraken"], 10..11).await;
    let decided = place.shelf.decide(&[10 * STEP_MS]).await.unwrap();
    assert_eq!(decided.joined[0].candle.close.to_bits(), 1_011.0_f64.to_bits());

    assert_eq!(place.before(10), None);
    let truth = settled(&[1_011.0, 1_011.0, 1_012.0, 1_013.0], 0);
    assert_eq!(place.realise(10, true).await, truth);
    place.put(&["kraken"], 11..20).await;
    let open_times: Vec<i64> = (9..20).map(|step| step * STEP_MS).collect();
    let decided = place.shelf.decide(&open_times).await.unwrap();
    let changed: Vec<i64> =
        decided.joined.iter().map(|joined| joined.candle.open_time_ms / STEP_MS).collect();
    assert_eq!(changed, (14..20).collect::<Vec<i64>>(), "10 to 13 and the past of 10 are settled");
    assert_eq!(place.before(10), Some(truth.clone()));
    assert_eq!(place.realise(10, true).await, truth);
}

#[tokio::test]
async fn a_close_that_was_filled_stays_filled_for_every_round() {
    let place = Place::new();
    place.put(&["binance", "bybit"], 9..12).await;
    place.put(&["binance", "bybit"], 13..30).await;
    // While an exchange is silent nothing says that 12 is missing.
    assert_eq!(place.realise(10, false).await, Realised::Missing { count: 1 });
    let truth = settled(&[1_010.0, 1_011.0, 1_011.0, 1_013.0], 1);
    assert_eq!(place.realise(10, true).await, truth);
    // It comes too late: for the round itself, and for one that overlaps it.
    place.put(&["binance", "bybit", "kraken"], 12..13).await;
    assert_eq!(place.before(10), Some(truth.clone()));
    assert_eq!(place.realise(10, true).await, truth);
    assert_eq!(place.before(12), None);
    let overlapping = settled(&[1_011.0, 1_013.0, 1_014.0, 1_015.0], 1);
    assert_eq!(place.realise(12, true).await, overlapping);
    assert_eq!(place.before(12), Some(overlapping));
    // One may be filled; a second hole in the same horizon is one too many.
    let place = Place::new();
    place.put(&["binance", "bybit"], 9..12).await;
    place.put(&["binance", "bybit"], 13..14).await;
    place.put(&["binance", "bybit"], 15..30).await;
    place.realise(10, true).await;
    assert_eq!(place.realise(12, true).await, Realised::Missing { count: 2 });
}

#[tokio::test]
async fn closes_count_on_a_quorum_of_whole_bars_with_a_witness() {
    let place = Place::new();
    place.put(&["binance"], 9..20).await;
    place.put(&["bybit"], 9..14).await;
    assert_eq!(place.realise(10, true).await, Realised::NotYet, "14 is no witness by itself");
    let partial = Bar { state: BarState::Partial, ..bar("bybit", 14) };
    place.shelf.put("bybit", &[partial]).await.unwrap();
    assert_eq!(place.realise(10, true).await, Realised::NotYet);
    place.put(&["bybit"], 14..15).await;
    let truth = settled(&[1_010.0, 1_011.0, 1_012.0, 1_013.0], 0);
    assert_eq!(place.realise(10, true).await, truth);
}

#[tokio::test]
async fn a_candle_waits_for_connected_exchanges_and_not_for_ever() {
    let place = Place::new();
    place.clock.set(11 * STEP_MS + 1_000);
    place.shelf.node.boards.update(|live| {
        let feeds = live.feeds.entry(spec().id).or_default();
        for feed in ["binance", "bybit", "kraken"] {
            feeds.entry(feed.to_owned()).or_default().connected = true;
        }
    });
    place.put(&["binance", "bybit"], 10..11).await;
    let at_ms = 10 * STEP_MS;
    let decided = place.shelf.decide(&[at_ms]).await.unwrap();
    assert!(decided.joined.is_empty());
    assert_eq!(decided.waiting, [(at_ms, 11 * STEP_MS + 3_000)]);
    place.put(&["kraken"], 10..11).await;
    assert_eq!(place.shelf.decide(&[at_ms]).await.unwrap().joined.len(), 1);

    // Below the quorum it waits longer, and is partial then.
    place.clock.set(12 * STEP_MS + 14_999);
    place.put(&["kraken"], 11..12).await;
    assert!(place.shelf.decide(&[11 * STEP_MS]).await.unwrap().joined.is_empty());
    place.clock.advance(1);
    let decided = place.shelf.decide(&[11 * STEP_MS]).await.unwrap();
    assert_eq!(decided.joined[0].state, BarState::Partial);
}

#[tokio::test]
async fn a_complete_bar_stays_and_wrong_ones_are_left_out() {
    let place = Place::new();
    let live = Bar { state: BarState::Complete, ..bar("binance", 10) };
    place.shelf.put("binance", &[live]).await.unwrap();
    let mut other = bar("binance", 10);
    other.candle.volume = 9.0;
    let mut wrong = bar("binance", 11);
    wrong.candle.low = f64::NAN;
    let taken = place.shelf.put("binance", &[other, wrong]).await.unwrap();
    assert_eq!(taken, [10 * STEP_MS]);
    let rows = place.shelf.read(0, 100 * STEP_MS).unwrap();
    assert_eq!(rows.into_values().collect::<Vec<_>>(), [vec![(0, live)]]);
}
