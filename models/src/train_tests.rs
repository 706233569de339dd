//! Training on synthetic markets: it learns what can be learnt, repeats itself, and never leaks.

use burn::tensor::Device;
use forecastd_core::{
    Candle, Column, ColumnName, Columns, Compatibility, FeatureSet, Interval, Observation, StreamId,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{TrainConfig, TrainError, train, train_with};
use crate::backtest::{BacktestConfig, BacktestError, backtest, backtest_with};
use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::forecaster::{CheckpointForecaster, ModelKind, ModelSpec, load};
use crate::frozen::FrozenNetwork;
use crate::input::Forecaster;
use crate::network::NetworkConfig;

/// A price that swings around 100 with a period of 48 candles, plus noise.
fn swinging_market(count: usize, noise: f64, seed: u64) -> Vec<Candle> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut open = 100.0;
    (0..count)
        .map(|index| {
            let phase = index as f64 / 48.0 * std::f64::consts::TAU;
            let wobble = if noise > 0.0 { random.random_range(-noise..noise) } else { 0.0 };
            let close = 100.0 * (0.02 * phase.sin() + wobble).exp();
            let candle = Candle {
                open_time_ms: i64::try_from(index).unwrap() * 300_000,
                open,
                high: open.max(close),
                low: open.min(close),
                close,
                volume: random.random_range(1.0..2.0),
                trade_count: None,
            };
            open = close;
            candle
        })
        .collect()
}

/// A price without any structure.
fn random_walk(count: usize, seed: u64) -> Vec<Candle> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut open = 100.0_f64;
    (0..count)
        .map(|index| {
            let close = open * (random.random_range(-0.002..0.002_f64)).exp();
            let candle = Candle {
                open_time_ms: i64::try_from(index).unwrap() * 300_000,
                open,
                high: open.max(close),
                low: open.min(close),
                close,
                volume: 1.0,
                trade_count: None,
            };
            open = close;
            candle
        })
        .collect()
}

fn tiny() -> TrainConfig {
    TrainConfig {
        name: "tiny".into(),
        horizon: 20,
        network: NetworkConfig {
            lookback: 16,
            patch: 2,
            hidden: 8,
            layers: 1,
            dropout: 0.0,
            features: None,
        },
        epochs: 6,
        batch: 32,
        learning_rate: 1e-2,
        validation_fraction: 0.2,
        training_stride: 3,
        validation_stride: 10,
        ..TrainConfig::default()
    }
}

fn outputs(checkpoint: &Checkpoint) -> Vec<u32> {
    let network = &checkpoint.config.network;
    let mut frozen = FrozenNetwork::new(&checkpoint.network, network).unwrap();
    let features: Vec<f32> =
        (0..network.steps() * network.features()).map(|i| (i as f32 * 0.37).sin()).collect();
    frozen.forward(&features).map(f32::to_bits).to_vec()
}

#[test]
fn training_learns_a_market_that_can_be_learnt() {
    let candles = swinging_market(3_000, 0.001, 1);
    let mut seen = Vec::new();
    let (checkpoint, report) =
        train(&tiny(), &candles, &mut |progress| seen.push(progress)).unwrap();
    assert!(report.training_loss[0] > 2.0 * report.training_loss[report.epochs_run - 1]);
    assert!(report.validation_ratio < 0.5, "{report:?}");
    assert!(report.shrink > 0.5);
    assert_eq!(seen.iter().filter(|p| p.validation_ratio.is_some()).count(), report.epochs_run);
    assert!(seen.iter().all(|p| p.batch <= p.batches && p.epoch <= p.epochs));

    // The same figure through the public door: loaded forecaster, back-test, unseen candles.
    let unseen = swinging_market(1_000, 0.001, 2);
    let model = CheckpointForecaster::new("tiny", &checkpoint).unwrap();
    let mut models: Vec<Box<dyn Forecaster>> = vec![Box::new(model)];
    let config = BacktestConfig {
        stream: StreamId("SWING-5m".into()),
        interval: Interval::FIVE_MINUTES,
        horizon: 20,
        lookback: 16,
        from_ms: None,
        to_ms: None,
        stride: 20,
    };
    let report = backtest(&mut models, &unseen, &config).unwrap();
    assert!(report.models[0].ratio_to_last < 0.5, "{report:?}");
}

#[test]
fn training_on_noise_stays_at_or_near_the_last_close() {
    let candles = random_walk(2_000, 4);
    let config = TrainConfig { epochs: 2, ..tiny() };
    let (_, report) = train(&config, &candles, &mut |_| ()).unwrap();
    assert!(report.validation_ratio > 0.95 && report.validation_ratio <= 1.0, "{report:?}");
}

#[test]
fn one_seed_gives_the_same_weights_and_another_gives_others() {
    let candles = swinging_market(600, 0.002, 3);
    let config = TrainConfig {
        epochs: 2,
        network: NetworkConfig { dropout: 0.3, layers: 2, ..tiny().network },
        ..tiny()
    };
    let run = |seed: u64| {
        let config = TrainConfig { seed, ..config.clone() };
        train(&config, &candles, &mut |_| ()).unwrap()
    };
    let ((first, first_report), (second, second_report)) = (run(5), run(5));
    assert_eq!(outputs(&first), outputs(&second));
    assert_eq!(first_report, second_report);
    assert_ne!(outputs(&first), outputs(&run(6).0));
}

#[test]
fn candles_after_the_training_span_do_not_change_scaling_or_training_loss() {
    let candles = swinging_market(800, 0.002, 3);
    let config = TrainConfig { epochs: 1, ..tiny() };
    let mut changed = candles.clone();
    for candle in &mut changed[640..] {
        candle.close *= 3.0;
        candle.high *= 3.0;
        candle.volume += 50.0;
    }
    let (first, first_report) = train(&config, &candles, &mut |_| ()).unwrap();
    let (second, second_report) = train(&config, &changed, &mut |_| ()).unwrap();
    assert_eq!(first.config.scaling, second.config.scaling);
    assert_eq!(first_report.training_loss, second_report.training_loss);
    assert_eq!(outputs(&first), outputs(&second));
    assert_ne!(first_report.validation_ratios, second_report.validation_ratios);
}

/// A random walk with drifts of random length, and what is said about the coming 20 candles at each
/// close, an hour of it too late to be of use.
fn announced_market(count: usize, seed: u64) -> (Vec<Candle>, Vec<Observation>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut drift = 0.001;
    let drifts: Vec<f64> = (0..count + 20)
        .map(|_| {
            drift *= if random.random_bool(0.04) { -1.0 } else { 1.0 };
            drift
        })
        .collect();
    let mut candles = random_walk(count, seed);
    let (mut open, mut level) = (100.0, 0.0);
    for (candle, drift) in candles.iter_mut().zip(&drifts) {
        level += drift + random.random_range(-0.001..0.001);
        let close = 100.0 * f64::exp(level);
        let (high, low) = (close.max(open), close.min(open));
        *candle = Candle { open, high, low, close, ..*candle };
        open = close;
    }
    let told = (0..count).map(|index| {
        let at_ms = candles[index].open_time_ms + 300_000;
        Observation { at_ms, known_ms: at_ms, value: drifts[index + 1..=index + 20].iter().sum() }
    });
    let told = told.collect();
    (candles, told)
}

fn columns(told: &[Observation]) -> Columns {
    let name: ColumnName = "news".parse().unwrap();
    [(name, Column::new(told.to_vec(), 3_600_000).unwrap())].into_iter().collect()
}

fn reading(names: &[&str]) -> TrainConfig {
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    let features = Some(FeatureSet::new(names, Compatibility::Standard).unwrap());
    TrainConfig { network: NetworkConfig { features, ..tiny().network }, ..tiny() }
}

#[test]
fn a_network_learns_from_a_column_what_candles_do_not_say() {
    let (candles, told) = announced_market(3_000, 1);
    let config = reading(&["close", "rsi(5)", "time_of_day", "column(news)"]);
    let (mut checkpoint, report) =
        train_with(&config, &candles, &columns(&told), &mut |_| ()).unwrap();
    assert!(report.validation_ratio < 0.75, "{report:?}");
    let (_, blind) = train(&reading(&["close", "rsi(5)"]), &candles, &mut |_| ()).unwrap();
    assert!(report.validation_ratio < blind.validation_ratio - 0.1, "{blind:?}");

    // The same through disk and back-test, on another stretch; the card names the features.
    let directory = tempfile::tempdir().unwrap();
    checkpoint.save(directory.path()).unwrap();
    let card = std::fs::read_to_string(directory.path().join("README.md")).unwrap();
    assert!(card.contains("`column(news)`") && card.contains("50 candles of warm-up"), "{card}");
    let spec = ModelSpec {
        name: "m".into(),
        kind: ModelKind::Burn,
        checkpoint: Some(directory.path().to_owned()),
    };
    let mut models = vec![load(&spec).unwrap()];
    assert_eq!(models[0].needs(), config.network.features.as_ref());
    let (unseen, told) = announced_market(1_000, 2);
    let test = BacktestConfig {
        stream: StreamId("NEWS-5m".into()),
        interval: Interval::FIVE_MINUTES,
        horizon: 20,
        lookback: 16,
        from_ms: None,
        to_ms: None,
        stride: 20,
    };
    let report = backtest_with(&mut models, &unseen, &columns(&told), &test).unwrap();
    assert!(report.models[0].ratio_to_last < 0.8, "{report:?}");
    // Windows within the warm-up are left out, and without the column there is none.
    assert!(report.skipped_windows > 0);
    let refused = backtest(&mut models, &unseen, &test);
    assert!(matches!(refused, Err(BacktestError::NoWindows { .. })), "{refused:?}");
    let input = crate::input::tests::input_of(&[100.0; 16], 20);
    let refused = models[0].forecast(&input);
    assert!(matches!(refused, Err(ModelError::Features(_))), "{refused:?}");
}

#[test]
fn what_becomes_known_after_the_training_span_does_not_change_it() {
    let (candles, told) = announced_market(800, 3);
    let config = TrainConfig { epochs: 1, ..reading(&["volume", "ema(4)", "column(news)"]) };
    let boundary_ms = candles[640].open_time_ms;
    let changed = told.iter().map(|value| {
        let is_later = value.known_ms > boundary_ms;
        Observation { value: if is_later { 77.0 } else { value.value }, ..*value }
    });
    // Old values that are corrected later, too.
    let late = told.iter().map(|value| Observation {
        known_ms: value.known_ms.max(boundary_ms + 1),
        value: -77.0,
        ..*value
    });
    let changed: Vec<Observation> = changed.chain(late).collect();
    let run =
        |told: &[Observation]| train_with(&config, &candles, &columns(told), &mut |_| ()).unwrap();
    let ((first, first_report), (second, second_report)) = (run(&told), run(&changed));
    assert_eq!(first.config.scaling, second.config.scaling);
    assert_eq!(first.config.scaling.features.len(), 3);
    assert_eq!(first_report.training_loss, second_report.training_loss);
    assert_eq!(outputs(&first), outputs(&second));
    assert_ne!(first_report.validation_ratios, second_report.validation_ratios);
    let refused = train(&config, &candles, &mut |_| ()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, TrainError::NoColumn(_)), "{refused}");
}

#[test]
fn bad_settings_and_data_are_refused_with_their_reason() {
    let candles = swinging_market(400, 0.0, 1);
    let refused = |config: TrainConfig, candles: &[Candle]| {
        train(&config, candles, &mut |_| ()).map(|_| ()).unwrap_err()
    };
    let key_of = |config: TrainConfig| match refused(config, &candles) {
        TrainError::Config { key, .. } => key,
        other => panic!("{other:?}"),
    };
    assert_eq!(key_of(TrainConfig { batch: 0, ..tiny() }), "batch");
    assert_eq!(key_of(TrainConfig { horizon: 9, ..tiny() }), "horizon");
    assert_eq!(key_of(TrainConfig { learning_rate: f64::NAN, ..tiny() }), "learning_rate");
    assert_eq!(key_of(TrainConfig { validation_fraction: 0.9, ..tiny() }), "validation_fraction");
    let named = TrainConfig { name: "../escape".into(), ..tiny() };
    assert!(matches!(refused(named, &candles), TrainError::Checkpoint(_)));
    assert!(matches!(refused(tiny(), &candles[..50]), TrainError::TooFewWindows { .. }));
    let mut unsorted = candles.clone();
    unsorted.swap(10, 11);
    assert!(matches!(refused(tiny(), &unsorted), TrainError::Order { .. }));
    let mut broken = candles.clone();
    broken[7].close = f64::INFINITY;
    assert!(matches!(refused(tiny(), &broken), TrainError::Candle(_)));
}

#[test]
fn autodiff_is_off_in_the_network_that_comes_out() {
    let candles = swinging_market(400, 0.001, 1);
    let config = TrainConfig { epochs: 1, ..tiny() };
    let (checkpoint, _) = train(&config, &candles, &mut |_| ()).unwrap();
    assert!(!checkpoint.network.head.weight.val().is_autodiff());
    assert!(Device::flex().autodiff().is_autodiff());
}
