use proptest::prelude::*;

use super::*;
use crate::ids::StreamId;

fn bar(minute: i64, close: f64, volume: f64, state: BarState) -> Bar {
    let candle = Candle {
        open_time_ms: minute * 60_000,
        open: close * 0.999,
        high: close * 1.002,
        low: close * 0.998,
        close,
        volume,
        trade_count: Some(3),
    };
    Bar { candle, state, is_flat: false, first_id: Some(1), last_id: Some(3) }
}

fn step(closes: &[f64]) -> Vec<(SourceId, Option<Bar>)> {
    let part = |(index, close): (usize, &f64)| {
        let source = SourceId(u16::try_from(index).unwrap());
        (source, Some(bar(1, *close, 2.0, BarState::Complete)))
    };
    closes.iter().enumerate().map(part).collect()
}

fn merge_one(parts: &[(SourceId, Option<Bar>)]) -> Merged {
    merge_step(60_000, parts, Interval::MINUTE, &MergeRules::default()).unwrap()
}

#[test]
fn the_default_is_mean_close_extremes_and_summed_volume() {
    let merged = merge_one(&step(&[100.0, 101.0]));
    let bar = merged.bar.unwrap();
    assert_eq!((bar.candle.close, bar.candle.volume), (100.5, 4.0));
    assert_eq!((bar.candle.high, bar.candle.low), (101.0 * 1.002, 100.0 * 0.998));
    assert_eq!((bar.candle.trade_count, bar.first_id), (Some(6), None));
    assert_eq!((merged.used, bar.state), (2, BarState::Complete));
    assert!(merged.left_out.is_empty());
}

#[test]
fn an_outlier_is_left_out_and_reported() {
    let merged = merge_one(&step(&[100.0, 110.0, 101.0]));
    assert_eq!(merged.bar.unwrap().candle.close.to_bits(), 100.5_f64.to_bits());
    let [LeftOut { source, reason: LeftOutReason::Outlier { part } }] = merged.left_out[..] else {
        panic!("{:?}", merged.left_out);
    };
    assert_eq!(source, SourceId(1));
    assert!((part - 9.0 / 101.0).abs() < 1e-12);
    let torn = merge_one(&step(&[100.0, 110.0]));
    assert_eq!((torn.bar, torn.left_out.len()), (None, 2), "nobody knows which of two is wrong");
}

#[test]
fn below_the_quorum_nothing_is_settled() {
    let mut parts = step(&[100.0, 101.0, 102.0]);
    let state = |parts: &[(SourceId, Option<Bar>)]| merge_one(parts).bar.map(|bar| bar.state);
    let set = |part: &mut (SourceId, Option<Bar>), state| part.1.as_mut().unwrap().state = state;
    set(&mut parts[0], BarState::Backfilled);
    assert_eq!(state(&parts), Some(BarState::Backfilled), "the worst of the used");
    set(&mut parts[0], BarState::Partial);
    let merged = merge_one(&parts);
    assert_eq!(merged.settled().map(|candle| candle.close), Some(101.5));
    let reason = LeftOutReason::State(BarState::Partial);
    assert_eq!(merged.left_out, [LeftOut { source: SourceId(0), reason }]);
    set(&mut parts[1], BarState::Void);
    let merged = merge_one(&parts);
    assert_eq!((merged.settled(), merged.used), (None, 2));
    assert_eq!(state(&parts), Some(BarState::Partial), "made of all that was heard");
    parts[2].1 = None;
    set(&mut parts[0], BarState::Void);
    assert_eq!(state(&parts), None);
}

#[test]
fn a_broken_bar_counts_as_none() {
    let mut parts = step(&[100.0, 101.0, 102.0]);
    for break_it in [
        |candle: &mut Candle| candle.close = f64::NAN,
        |candle: &mut Candle| candle.volume = f64::INFINITY,
        |candle: &mut Candle| candle.high = 2e15,
        |candle: &mut Candle| candle.open_time_ms += 60_000,
    ] {
        let mut broken = bar(1, 100.0, 2.0, BarState::Complete);
        break_it(&mut broken.candle);
        parts[0].1 = Some(broken);
        let reason = LeftOutReason::Invalid;
        assert_eq!(merge_one(&parts).left_out, [LeftOut { source: SourceId(0), reason }]);
    }
}

#[test]
fn rules_and_sources_are_checked() {
    let rules = MergeRules { quorum: 0, ..MergeRules::default() };
    assert_eq!(rules.validate(), Err(MergeError::Quorum(0)));
    for outlier_part in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(MergeRules { outlier_part, ..MergeRules::default() }.validate().is_err());
    }
    let twice = [(SourceId(1), None), (SourceId(1), None)];
    let merged = merge_step(0, &twice, Interval::MINUTE, &MergeRules::default());
    assert_eq!(merged, Err(MergeError::Twice(SourceId(1))));
    let many = step(&[1.0; 65]);
    let merged = merge_step(0, &many, Interval::MINUTE, &MergeRules::default());
    assert_eq!(merged, Err(MergeError::TooManySources(65)));
}

#[test]
fn rules_are_read_from_their_names() {
    let rules: MergeRules = serde_json::from_str(
        r#"{"fields":{"close":"volume_weighted","open":"median","volume":"max"},"quorum":3}"#,
    )
    .unwrap();
    assert_eq!(rules.fields.close, Aggregation::VolumeWeighted);
    assert_eq!((rules.fields.open, rules.quorum), (Aggregation::Median, 3));
    assert!(serde_json::from_str::<MergeRules>(r#"{"quorums":3}"#).is_err());
}

fn spec() -> StreamSpec {
    StreamSpec {
        id: StreamId("BTCUSD-1m".to_owned()),
        interval: Interval::MINUTE,
        horizon: 3,
        lookback: 10,
        round_every: Interval::FIVE_MINUTES,
        topic_id: 1,
        schema_id: 1,
    }
}

#[test]
fn closes_are_settled_only_when_a_quorum_went_on() {
    let rules = MergeRules::default();
    let bars = |minutes: std::ops::RangeInclusive<i64>, state| -> Vec<Bar> {
        minutes.map(|minute| bar(minute, 100.0 + minute as f64 * 0.1, 1.0, state)).collect()
    };
    let settle = |one: &[Bar], two: &[Bar]| {
        let sources = [(SourceId(1), one), (SourceId(2), two)];
        realised_on_quorum(&spec(), &sources, 60_000, 0, &rules).unwrap()
    };
    let whole = bars(1..=4, BarState::Complete);
    let closes = whole[..3].iter().map(|bar| bar.candle.close).collect();
    assert_eq!(settle(&whole, &whole), Realised::Settled { closes, filled: 0 });
    let short = bars(1..=3, BarState::Complete);
    assert_eq!(settle(&whole, &short), Realised::NotYet, "one witness is no quorum");
    let mut unsure = whole.clone();
    unsure[3].state = BarState::Partial;
    assert_eq!(settle(&whole, &unsure), Realised::NotYet);
    let mut hole = whole.clone();
    hole[1].state = BarState::Partial;
    assert_eq!(settle(&whole, &hole), Realised::Missing { count: 1 });
    hole[1] = Bar::backfilled(whole[1].candle);
    assert!(matches!(settle(&whole, &hole), Realised::Settled { filled: 0, .. }));
}

const EVERY_RULE: [Aggregation; 6] = [
    Aggregation::Mean,
    Aggregation::Median,
    Aggregation::Max,
    Aggregation::Min,
    Aggregation::Sum,
    Aggregation::VolumeWeighted,
];

fn any_bar() -> impl Strategy<Value = Option<Bar>> {
    let state = prop::sample::select(vec![
        BarState::Complete,
        BarState::Complete,
        BarState::Backfilled,
        BarState::Partial,
        BarState::Void,
    ]);
    let price = prop_oneof![8 => 99.0..101.0_f64, 1 => 1e-300..1e15_f64, 1 => Just(f64::NAN)];
    let some = (price, prop_oneof![Just(0.0), 0.0..1e9_f64], state);
    prop::option::weighted(
        0.9,
        some.prop_map(|(close, volume, state)| bar(1, close, volume, state)),
    )
}

proptest! {
    #[test]
    fn the_order_of_the_sources_changes_no_bit_and_nothing_is_unbounded(
        bars in prop::collection::vec(any_bar(), 1..12),
        shuffled in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
        rules in prop::array::uniform5(prop::sample::select(EVERY_RULE.to_vec())),
        quorum in 1..5_usize,
        outlier_part in 1e-4..1.0_f64,
    ) {
        let [open, high, low, close, volume] = rules;
        let fields = CandleAggregation { open, high, low, close, volume };
        let rules = MergeRules { fields, quorum, outlier_part };
        let parts: Vec<(SourceId, Option<Bar>)> =
            bars.iter().enumerate().map(|(i, bar)| (SourceId(u16::try_from(i).unwrap()), *bar)).collect();
        let moved: Vec<(SourceId, Option<Bar>)> =
            shuffled.iter().filter_map(|i| parts.get(*i).copied()).collect();
        let merged = merge_step(60_000, &parts, Interval::MINUTE, &rules).unwrap();
        let again = merge_step(60_000, &moved, Interval::MINUTE, &rules).unwrap();
        prop_assert_eq!(&merged, &again);
        prop_assert_eq!(merged.used + merged.left_out.len(), parts.len());
        if let (Some(bar), Some(other)) = (merged.bar, again.bar) {
            prop_assert_eq!(bar.candle.validate(Interval::MINUTE), Ok(()));
            for (a, b) in [
                (bar.candle.open, other.candle.open),
                (bar.candle.high, other.candle.high),
                (bar.candle.low, other.candle.low),
                (bar.candle.close, other.candle.close),
                (bar.candle.volume, other.candle.volume),
            ] {
                prop_assert_eq!(a.to_bits(), b.to_bits());
                prop_assert!(a <= MAX_SOURCES as f64 * MAX_PRICE);
            }
        }
    }

    #[test]
    fn lists_and_single_steps_say_the_same_in_any_order(
        closes in prop::collection::vec(prop::collection::vec(prop::option::of(99.0..101.0_f64), 6), 1..5),
    ) {
        let lists: Vec<Vec<Bar>> = closes
            .iter()
            .map(|closes| {
                let bars = closes.iter().enumerate().filter_map(|(minute, close)| {
                    Some(bar(i64::try_from(minute).unwrap(), (*close)?, 1.0, BarState::Complete))
                });
                bars.collect()
            })
            .collect();
        let mut sources: Vec<(SourceId, &[Bar])> =
            lists.iter().enumerate().map(|(i, bars)| (SourceId(u16::try_from(i).unwrap()), &bars[..])).collect();
        let rules = MergeRules::default();
        let merged = merge_bars(&sources, Interval::MINUTE, &rules).unwrap();
        sources.reverse();
        prop_assert_eq!(&merge_bars(&sources, Interval::MINUTE, &rules).unwrap(), &merged);
        for step in &merged {
            let parts: Vec<(SourceId, Option<Bar>)> = sources
                .iter()
                .map(|(source, bars)| {
                    let find = bars.iter().find(|b| b.candle.open_time_ms == step.open_time_ms);
                    (*source, find.copied())
                })
                .collect();
            let single = merge_step(step.open_time_ms, &parts, Interval::MINUTE, &rules).unwrap();
            prop_assert_eq!(&single, step);
        }
    }
}
