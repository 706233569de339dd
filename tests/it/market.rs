//! A validator on three exchanges that fail: outages over two of them at once, cut and lost
//! messages, doubled, reordered and missing trades. What its scores were computed from is the
//! merged recording, in every interval, and each outage was reported once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use forecastd::commands::dev::{Network, Options};
use forecastd::config::{Config, DevMiner};
use forecastd_actors::events::{Event, EventLine};
use forecastd_core::bars::{Bar, MergeRules, Merged, SourceId, merge_bars};
use forecastd_core::{Candle, Interval, StreamId};
use forecastd_devnet::exchange::{Fault, recordings};
use forecastd_exchange::Exchange;
use forecastd_store::{CandleRecord, ResultRecord};

use crate::support::until;

const STEP: Interval = Interval::FIVE_MINUTES;
const STREAM: &str = "BTCUSD-5m";
const MINUTE_MS: i64 = 60_000;
const OUTAGE: Duration = Duration::from_mins(10);
const EXCHANGES: [Exchange; 3] = [Exchange::Binance, Exchange::Coinbase, Exchange::Kraken];

/// The embedded network with three exchanges, one miner and short horizons.
fn base() -> Config {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut base = Config::load(&root.join("config.toml")).unwrap().config;
    base.feed.retain(|feed| EXCHANGES.contains(&feed.exchange));
    base.stream[0].horizon = 12;
    base.validator.settle_delay = Duration::from_mins(20);
    base.dev.miners = vec![DevMiner::Last];
    base
}

/// What goes wrong, by minutes of market time after the begin.
fn plan() -> Vec<(i64, Exchange, Fault)> {
    use Exchange::{Binance, Coinbase, Kraken};
    let outage = || Fault::Outage { span: OUTAGE };
    vec![
        (40, Binance, outage()),
        (40, Kraken, outage()),
        (62, Coinbase, Fault::RepeatedTrades { count: 30 }),
        (70, Coinbase, Fault::ReorderedTrades { count: 20 }),
        (80, Coinbase, Fault::LostTrades { count: 7 }),
        (90, Binance, Fault::Drop),
        (100, Kraken, Fault::Shutdown),
        (112, Coinbase, outage()),
        (112, Binance, outage()),
        (130, Binance, Fault::LostFinals { count: 2 }),
        (135, Kraken, Fault::RepeatedFinals { count: 2 }),
        (140, Binance, Fault::Garbage),
        (145, Kraken, Fault::TruncatedFrame),
        (150, Binance, Fault::RepeatedTrades { count: 30 }),
        (155, Kraken, Fault::LostTrades { count: 5 }),
    ]
}

/// The merged recording by open time, where a quorum has it.
fn truth() -> BTreeMap<i64, Candle> {
    let recordings = recordings::multi_exchange().unwrap();
    let bars: Vec<Vec<Bar>> = EXCHANGES
        .iter()
        .map(|exchange| recordings[exchange].iter().copied().map(Bar::backfilled).collect())
        .collect();
    let sources: Vec<(SourceId, &[Bar])> =
        (0..).map(SourceId).zip(bars.iter().map(Vec::as_slice)).collect();
    let merged = merge_bars(&sources, STEP, &MergeRules::default()).unwrap();
    let settled = merged.iter().filter_map(Merged::settled);
    settled.map(|candle| (candle.open_time_ms, candle)).collect()
}

/// The reports of a feed's link as `(state, market time)`.
fn links(lines: &[EventLine], feed: &str) -> Vec<(&'static str, i64)> {
    let of = |line: &EventLine| match &line.event {
        Event::Feed { feed: name, state, .. } if name == feed && &*line.node == "validator" => {
            Some((*state, line.at_ms))
        }
        _ => None,
    };
    lines.iter().filter_map(of).collect()
}

#[test]
fn scores_are_computed_from_the_recorded_truth_whatever_the_exchanges_do() {
    actix_rt::System::new().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { speed: 600.0, seed: 1, data_dir: directory.path().to_owned() };
        let network = Network::start(&base(), options).await.unwrap();
        let mut events = network.events.subscribe();
        let mut lines = Vec::new();
        let began_ms = network.began_ms;
        let mut outages = Vec::new();
        for (minute, exchange, fault) in plan() {
            let at_ms = began_ms + minute * MINUTE_MS;
            // Faults need a time in the market to strike at; nothing is decided by it.
            tokio::time::sleep(network.market.real_duration_until(at_ms)).await;
            if matches!(fault, Fault::Outage { .. }) {
                outages.push((exchange, network.market.now_ms()));
            }
            network.exchange(exchange).unwrap().fault(fault);
            while let Ok(line) = events.try_recv() {
                lines.push((*line).clone());
            }
        }
        let stream = StreamId(STREAM.to_owned());
        let store = &network.validator().unwrap().node().store;
        let settled_to = || {
            let rows = store.scan_prefix::<CandleRecord>(&stream).rev().map(Result::unwrap);
            let newest = rows.into_iter().find(|(_, record)| record.is_settled);
            newest.map_or(0, |((_, at_ms), _)| at_ms + STEP.as_ms())
        };
        let last_ms = network.market.now_ms() + 10 * MINUTE_MS;
        until("scores over all that went wrong", || settled_to() >= last_ms).await;
        while let Ok(line) = events.try_recv() {
            lines.push((*line).clone());
        }

        let truth = truth();
        let scored = |row: &((StreamId, i64), ResultRecord)| row.1.void_reason.is_none();
        let first = store.scan::<ResultRecord>(..).map(Result::unwrap).find(scored).unwrap();
        let (from_ms, to_ms) = (first.0.1, settled_to());
        let last_outage_ms = outages.iter().map(|(_, at_ms)| *at_ms).max().unwrap();
        assert!(from_ms < last_outage_ms, "scores reach over outages of two exchanges");
        let rows = store.scan::<CandleRecord>((stream.clone(), from_ms)..(stream.clone(), to_ms));
        let settled: BTreeMap<i64, CandleRecord> =
            rows.map(Result::unwrap).map(|((_, at_ms), record)| (at_ms, record)).collect();
        let mut compared = 0;
        for (at_ms, want) in truth.range(from_ms..to_ms) {
            let got = settled.get(at_ms).unwrap_or_else(|| panic!("no candle at {at_ms}"));
            assert!(got.state.is_whole() && got.is_settled, "{got:?}");
            let values = |candle: &Candle| {
                [candle.open, candle.high, candle.low, candle.close].map(f64::to_bits)
            };
            assert_eq!(values(&got.candle), values(want), "{got:?} instead of {want:?}");
            let volume = (got.candle.volume - want.volume).abs();
            assert!(volume <= 1e-9 * want.volume, "{got:?} instead of {want:?}");
            compared += 1;
        }
        assert!(compared >= 12, "{compared} intervals");

        // One report for each long outage, however many attempts to connect lay in it.
        for exchange in EXCHANGES {
            let told = links(&lines, exchange.as_str());
            assert!(told.windows(2).all(|two| two[0].0 != two[1].0), "{exchange}: {told:?}");
        }
        for (exchange, from_ms) in outages {
            let within = from_ms..from_ms + 9 * MINUTE_MS;
            let told = links(&lines, exchange.as_str());
            let down = told
                .iter()
                .filter(|(state, at_ms)| *state == "disconnected" && within.contains(at_ms));
            assert_eq!(down.count(), 1, "{exchange} at {from_ms}: {told:?}");
        }
        assert!(network.stop().await, "a graceful stop");
    });
}
