//! Rows, gaps, and the law that nothing in a window was known after its rows.

use proptest::prelude::*;

use super::*;
use crate::features::{Column, FeatureId, FeatureTable, Observation};

const STEP: i64 = 300_000;

fn spec(lookback: usize) -> StreamSpec {
    StreamSpec {
        id: StreamId("BTCUSD-5m".to_owned()),
        interval: Interval::FIVE_MINUTES,
        horizon: 100,
        lookback,
        round_every: Interval::from_ms(1_800_000).unwrap(),
        topic_id: 1,
        schema_id: 1,
    }
}

fn candle(index: i64) -> Candle {
    let close = 40_000.0 + index as f64;
    Candle {
        open_time_ms: index * STEP,
        open: close - 0.5,
        high: close + 1.0,
        low: close - 1.0,
        close,
        volume: 2.0,
        trade_count: Some(3),
    }
}

fn set(names: &[&str], indicators: Compatibility) -> FeatureSet {
    FeatureSet::new(names.iter().map(|name| name.parse().unwrap()).collect(), indicators).unwrap()
}

fn window(
    candles: &[Candle],
    names: &[&str],
    lookback: usize,
    end: i64,
) -> Result<Window, FeatureError> {
    let set = set(names, Compatibility::Standard);
    build_window(candles, &Columns::default(), &spec(lookback), &set, end * STEP)
        .map(|built| built.window)
}

fn closes(candles: &[Candle], lookback: usize, end: i64) -> Result<Vec<f64>, FeatureError> {
    window(candles, &["close"], lookback, end).map(|window| window.rows)
}

#[test]
fn the_newest_row_closes_at_the_end() {
    let candles: Vec<Candle> = (0..20).map(candle).collect();
    let window = window(&candles, &["close", "epoch_ms", "volume"], 3, 10).unwrap();
    assert_eq!(window.len(), 3);
    assert_eq!(window.row(2).unwrap(), [40_009.0, 10.0 * STEP as f64, 2.0]);
    let close = FeatureSpec::from(FeatureId::CLOSE);
    assert_eq!(window.column(&close).unwrap(), [40_007.0, 40_008.0, 40_009.0]);
    assert_eq!((window.filled, window.missing.len()), (0, 0));
}

#[test]
fn a_gap_is_filled_from_the_past_and_never_from_the_future() {
    let candles: Vec<Candle> =
        (-10..20).filter(|index| ![5, 6, 9].contains(index)).map(candle).collect();
    let rows = closes(&candles, 6, 10).unwrap();
    assert_eq!(rows, [40_004.0, 40_004.0, 40_004.0, 40_007.0, 40_008.0, 40_008.0]);
    let window = window(&candles, &["volume", "high"], 2, 7).unwrap();
    assert_eq!(window.rows, [0.0, 40_004.0, 0.0, 40_004.0]);
    assert_eq!(window.filled, 2);
    let built = build_window(
        &candles,
        &Columns::default(),
        &spec(6),
        &set(&["ema(2)"], Compatibility::Standard),
        10 * STEP,
    )
    .unwrap();
    assert_eq!((built.window.filled, built.candles.len()), (3, 6));
    assert_eq!(built.candles[0].open_time_ms, 4 * STEP);
}

#[test]
fn missing_history_unsorted_and_off_grid_candles_are_errors() {
    let candles: Vec<Candle> = (5..20).map(candle).collect();
    assert_eq!(closes(&candles, 6, 10), Err(FeatureError::NoHistory { needed_ms: 5 * STEP }));
    assert!(closes(&candles, 5, 10).is_ok());
    // Nine candles of warm-up: five windows of two, less the row's own candle. Without them the
    // feature is missing, and what needs none is there.
    let short = window(&candles, &["ema(2)", "close"], 1, 14).unwrap();
    assert_eq!((short.missing.len(), &short.rows), (1, &vec![40_013.0]));
    assert_eq!(window(&candles, &["ema(2)", "close"], 1, 15).unwrap().missing, []);
    let mut unsorted = candles.clone();
    unsorted.swap(3, 4);
    assert!(matches!(closes(&unsorted, 5, 10), Err(FeatureError::Unsorted(_))));
    let mut broken = candles.clone();
    broken[2].close = f64::NAN;
    assert!(matches!(closes(&broken, 5, 10), Err(FeatureError::Candle(_))));
    let set = FeatureSet::reference();
    let result = build_window(&candles, &Columns::default(), &spec(2), &set, 10 * STEP + 1);
    assert!(matches!(result, Err(FeatureError::OffGrid { .. })));
    for lookback in [0, MAX_ROWS + 1] {
        let result = closes(&candles, lookback, 10);
        assert_eq!(result, Err(FeatureError::Size { rows: lookback }));
    }
}

#[test]
fn a_feature_without_a_value_costs_only_itself() {
    let mut candles: Vec<Candle> = (0..20).map(candle).collect();
    candles[8].trade_count = None;
    let names = ["close", "trade_count", "column(oi)", "high"];
    let window = window(&candles, &names, 3, 10).unwrap();
    let texts = |list: &[FeatureSpec]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&window.features), ["close", "high"]);
    assert_eq!(texts(&window.missing), ["trade_count", "column(oi)"]);
    assert_eq!(window.rows.len(), 6);
}

/// Everything that has a value of its own, under both definitions of the indicators.
const ALL: [&str; 21] = [
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trade_count",
    "epoch_ms",
    "time_of_day",
    "time_of_week",
    "time_of_month",
    "time_of_year",
    "rsi(3)",
    "ema(4)",
    "macd(2,4,3)",
    "macd_signal(2,4,3)",
    "macd_histogram(2,4,3)",
    "bollinger_high(5,2)",
    "bollinger_low(5,2)",
    "column(slow)",
    "column(fast)",
    "column(late)",
];
/// Candles of the market in the laws below.
const COUNT: i64 = 90;
/// First end at which a window of [`ALL`] with ten rows fits.
const FIRST_END: i64 = 50;

/// Closes that a market could have had, some candles missing.
fn market() -> impl Strategy<Value = Vec<Candle>> {
    let one = (prop::bool::weighted(0.85), 0.9..1.1_f64, 0.0..9.0_f64);
    prop::collection::vec(one, usize::try_from(COUNT).unwrap()).prop_map(|moves| {
        let mut close = 40_000.0;
        let mut candles = Vec::new();
        for (index, (is_there, factor, volume)) in (0..).zip(moves) {
            let open = close;
            close *= factor;
            if is_there || index == 0 {
                candles.push(Candle {
                    open_time_ms: index * STEP,
                    open,
                    high: open.max(close) * 1.001,
                    low: open.min(close) * 0.999,
                    close,
                    volume,
                    trade_count: Some(index.unsigned_abs()),
                });
            }
        }
        candles
    })
}

/// Values from before the first candle on, some told late, some corrected.
fn observations() -> impl Strategy<Value = Vec<Observation>> {
    let one = (0..COUNT * STEP, 0..30 * STEP, -1e6..1e6_f64);
    prop::collection::vec(one, 0..60).prop_map(|rows| {
        let first = Observation { at_ms: -STEP, known_ms: -STEP, value: 0.5 };
        let rest = rows.into_iter().map(|(at_ms, delay_ms, value)| Observation {
            at_ms,
            known_ms: at_ms + delay_ms,
            value,
        });
        std::iter::once(first).chain(rest).collect()
    })
}

type Sources = [Vec<Observation>; 3];

fn columns(sources: &Sources) -> Columns {
    let names = ["slow", "fast", "late"];
    let column = |(name, values): (&str, &Vec<Observation>)| {
        (name.parse().unwrap(), Column::new(values.clone(), i64::MAX).unwrap())
    };
    names.into_iter().zip(sources).map(column).collect()
}

fn rows(
    candles: &[Candle],
    sources: &Sources,
    lookback: usize,
    end: i64,
    indicators: Compatibility,
) -> Vec<Vec<u64>> {
    let (columns, set) = (columns(sources), set(&ALL, indicators));
    let built = build_window(candles, &columns, &spec(lookback), &set, end * STEP).unwrap();
    assert_eq!(built.window.missing, []);
    let bits = |row: &[f64]| row.iter().map(|value| value.to_bits()).collect();
    built.window.rows.chunks_exact(ALL.len()).map(bits).collect()
}

fn rules() -> impl Strategy<Value = Compatibility> {
    prop_oneof![Just(Compatibility::Standard), Just(Compatibility::Seed)]
}

proptest! {
    #[test]
    fn what_happens_at_or_after_the_end_changes_no_bit(
        candles in market(),
        sources in [observations(), observations(), observations()],
        other in market(),
        others in [observations(), observations(), observations()],
        end in FIRST_END..COUNT,
        lookback in 1_usize..10,
        indicators in rules(),
    ) {
        let end_ms = end * STEP;
        let want = rows(&candles, &sources, lookback, end, indicators);
        // Another future: candles from the end on, values and corrections told after the end.
        let candles_from = |past: &[Candle], future: &[Candle]| -> Vec<Candle> {
            let past = past.iter().filter(|candle| candle.open_time_ms < end_ms);
            past.chain(future.iter().filter(|c| c.open_time_ms >= end_ms)).copied().collect()
        };
        let values_from = |past: &[Observation], future: &[Observation]| -> Vec<Observation> {
            let past = past.iter().filter(|value| value.known_ms <= end_ms);
            let future = future.iter().filter(|value| value.known_ms > end_ms);
            future.chain(past).copied().collect()
        };
        let changed: Sources =
            std::array::from_fn(|index| values_from(&sources[index], &others[index]));
        let got = rows(&candles_from(&candles, &other), &changed, lookback, end, indicators);
        prop_assert_eq!(&got, &want);
        // No future at all.
        let known: Sources = std::array::from_fn(|index| values_from(&sources[index], &[]));
        let got = rows(&candles_from(&candles, &[]), &known, lookback, end, indicators);
        prop_assert_eq!(&got, &want);
    }

    #[test]
    fn a_row_is_what_could_be_known_at_its_own_close(
        candles in market(),
        sources in [observations(), observations(), observations()],
        end in FIRST_END + 10..COUNT,
        indicators in rules(),
    ) {
        let whole = rows(&candles, &sources, 10, end, indicators);
        for (row, close) in whole.iter().zip(end - 9..) {
            let at_ms = close * STEP;
            let known: Vec<Candle> =
                candles.iter().copied().filter(|c| c.open_time_ms < at_ms).collect();
            let told: Sources = std::array::from_fn(|index| {
                let values = sources[index].iter().copied();
                values.filter(|value| value.known_ms <= at_ms).collect()
            });
            prop_assert_eq!(row, &rows(&known, &told, 1, close, indicators)[0]);
        }
    }

    #[test]
    fn the_table_of_a_history_gives_the_same_windows(
        candles in market(),
        sources in [observations(), observations(), observations()],
        lookback in 1_usize..10,
        indicators in rules(),
    ) {
        let (columns, set) = (columns(&sources), set(&ALL, indicators));
        let table = FeatureTable::new(&candles, Interval::FIVE_MINUTES, &columns, set.clone());
        let spec = spec(lookback);
        for newest in lookback - 1..candles.len() {
            let first = newest + 1 - lookback;
            let span_ms = candles[newest].open_time_ms - candles[first].open_time_ms;
            let is_whole = span_ms == (i64::try_from(lookback).unwrap() - 1) * STEP;
            let window = table.window(&spec.id, first, newest).filter(|_| is_whole);
            let Some(window) = window else { continue };
            let built =
                build_window(&candles, &columns, &spec, &set, window.end_ms).unwrap();
            prop_assert_eq!(&built.window, &window);
            prop_assert_eq!(&built.candles[..], &candles[first..=newest]);
        }
    }
}

#[test]
fn a_table_has_rows_after_the_warm_up_of_each_run() {
    let candles: Vec<Candle> = (0..40).filter(|index| *index != 15).map(candle).collect();
    let names = set(&["close", "ema(2)"], Compatibility::Standard);
    let table = FeatureTable::new(&candles, Interval::FIVE_MINUTES, &Columns::default(), names);
    let whole: Vec<usize> = (0..39).filter(|index| table.is_whole(*index, *index)).collect();
    assert_eq!(whole, (9..15).chain(24..39).collect::<Vec<_>>());
    assert!(table.is_whole(9, 14) && !table.is_whole(9, 15) && !table.is_whole(14, 9));
    assert!(table.is_whole(24, 38) && !table.is_whole(24, 39));
    let id = StreamId("s".to_owned());
    assert_eq!(table.window(&id, 24, 38).unwrap().len(), 15);
    assert_eq!(table.window(&id, 14, 24), None);
}
