//! Round trip, and what a hostile or broken checkpoint meets.

use std::fs;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use forecastd_core::Interval;
use rand::Rng;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::error::ModelError;
use crate::forecaster::{CheckpointForecaster, ModelKind, ModelSpec, list_checkpoints, load};
use crate::input::tests::input_of;
use crate::input::{Forecaster, ModelInput};

fn checkpoint() -> Checkpoint {
    let network_config = NetworkConfig {
        lookback: 12,
        patch: 3,
        hidden: 5,
        layers: 2,
        dropout: 0.1,
        features: None,
    };
    let mut random = StdRng::seed_from_u64(9);
    let mut network = LstmNetwork::new(&network_config, &mut random, &Device::flex());
    network.head.weight = network.head.weight.map(|weight| {
        let values: Vec<f32> = (0..50).map(|_| random.random_range(-1.0..1.0)).collect();
        Tensor::from_data(TensorData::new(values, weight.dims()), &weight.device())
    });
    let training = TrainReport {
        training_from_ms: 1_659_312_000_000,
        training_to_ms: 1_727_000_000_000,
        validation_from_ms: 1_727_000_000_000,
        validation_to_ms: 1_734_652_800_000,
        training_windows: 100,
        validation_windows: 20,
        parameters: network_config.parameters(),
        seed: 1,
        epochs_run: 2,
        best_epoch: 1,
        training_loss: vec![0.5, 0.4],
        validation_ratios: vec![0.99, 0.995],
        validation_ratio: 0.99,
        validation_ratio_se: Some(0.004),
        shrink: 0.5,
    };
    Checkpoint {
        config: CheckpointConfig {
            format: FORMAT,
            name: "test-model".into(),
            interval: Interval::FIVE_MINUTES,
            horizon: 20,
            network: network_config,
            scaling: Scaling {
                return_std: 0.01,
                volume_std: 1.0,
                range_mean: 0.01,
                range_std: 0.01,
                target_std: 0.02,
                features: Vec::new(),
            },
            shrink: 0.5,
            training,
            evaluations: Vec::new(),
            record_sha256: String::new(),
        },
        network,
    }
}

fn saved() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    checkpoint().save(directory.path()).unwrap();
    directory
}

fn edit_config(directory: &Path, edit: impl FnOnce(&mut Value)) {
    let path = directory.join(CONFIG_FILE);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(path, serde_json::to_vec(&config).unwrap()).unwrap();
}

/// Replaces the record and, as an attacker would, the hash in the configuration.
fn replace_record(directory: &Path, record: &[u8]) {
    fs::write(directory.join(RECORD_FILE), record).unwrap();
    edit_config(directory, |config| config["record_sha256"] = sha256_hex(record).into());
}

fn question() -> ModelInput {
    let closes: Vec<f64> = (0..12).map(|i| 100.0 + f64::from(i % 5)).collect();
    input_of(&closes, 20)
}

#[test]
fn a_saved_checkpoint_gives_the_same_forecast_bit_for_bit() {
    let directory = saved();
    let expected = CheckpointForecaster::new("a", &checkpoint()).unwrap().forecast(&question());
    let spec = ModelSpec {
        name: "a".into(),
        kind: ModelKind::Burn,
        checkpoint: Some(directory.path().to_owned()),
    };
    let closes = load(&spec).unwrap().forecast(&question()).unwrap();
    assert_eq!(closes, expected.unwrap());
    assert_eq!(closes.len(), 20);
    assert!(closes.iter().any(|close| (close - question().last_close()).abs() > 1e-6));
}

#[test]
fn a_shrink_of_zero_is_the_last_close() {
    let mut checkpoint = checkpoint();
    checkpoint.config.shrink = 0.0;
    let closes = CheckpointForecaster::new("a", &checkpoint).unwrap().forecast(&question());
    assert_eq!(closes.unwrap(), [question().last_close(); 20]);
}

#[test]
fn a_forecaster_refuses_questions_it_was_not_trained_for() {
    let mut model = CheckpointForecaster::new("a", &checkpoint()).unwrap();
    let other = ModelInput { interval: Interval::MINUTE, ..question() };
    assert!(matches!(model.forecast(&other), Err(ModelError::Interval { .. })));
    let other = ModelInput { horizon: 21, ..question() };
    assert!(matches!(model.forecast(&other), Err(ModelError::Horizon { can: 20, .. })));
    let short = ModelInput { candles: question().candles[1..].into(), ..question() };
    assert!(matches!(model.forecast(&short), Err(ModelError::ShortWindow { need: 12, .. })));
}

#[test]
fn the_model_card_names_spans_and_metrics() {
    let directory = saved();
    let card = fs::read_to_string(directory.path().join(CARD_FILE)).unwrap();
    for part in ["2022-08-01 00:00", "2024-12-20 00:00", "0.9900", "0.0040", "shrink factor 0.5"] {
        assert!(card.contains(part), "{part} is not in:\n{card}");
    }
}

#[test]
fn a_changed_record_is_refused_by_its_hash() {
    let directory = saved();
    let path = directory.path().join(RECORD_FILE);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let refused = Checkpoint::load(directory.path());
    assert!(matches!(refused, Err(CheckpointError::Hash { .. })), "{refused:?}");
}

#[test]
fn every_truncation_of_a_record_with_a_matching_hash_is_refused() {
    let directory = saved();
    let bytes = fs::read(directory.path().join(RECORD_FILE)).unwrap();
    for length in (0..bytes.len() - 300).step_by(97) {
        replace_record(directory.path(), &bytes[..length]);
        let refused = Checkpoint::load(directory.path());
        assert!(matches!(refused, Err(CheckpointError::Record { .. })), "{length}: {refused:?}");
    }
}

#[test]
fn damaged_metadata_with_a_matching_hash_never_panics_or_grows() {
    let directory = saved();
    let bytes = fs::read(directory.path().join(RECORD_FILE)).unwrap();
    let mut refused = 0;
    for position in 0..400.min(bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0xff;
        replace_record(directory.path(), &damaged);
        refused += usize::from(Checkpoint::load(directory.path()).is_err());
    }
    assert!(refused > 200, "only {refused} of 400 damages were noticed");
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut broken = checkpoint();
    broken.network.head.weight = broken.network.head.weight.map(|weight| weight * f32::INFINITY);
    broken.save(directory.path()).unwrap();
    let refused = Checkpoint::load(directory.path());
    assert!(matches!(refused, Err(CheckpointError::Weights(_))), "{refused:?}");
}

#[test]
fn a_record_of_another_architecture_is_refused() {
    let directory = saved();
    edit_config(directory.path(), |config| config["network"]["hidden"] = 6.into());
    let refused = Checkpoint::load(directory.path());
    assert!(matches!(refused, Err(CheckpointError::Record { .. })), "{refused:?}");
    edit_config(directory.path(), |config| {
        config["network"]["hidden"] = 5.into();
        config["network"]["layers"] = 1.into();
    });
    let refused = Checkpoint::load(directory.path());
    assert!(matches!(refused, Err(CheckpointError::Record { .. })), "{refused:?}");
}

#[test]
fn oversized_files_are_not_read() {
    let directory = saved();
    fs::write(directory.path().join(RECORD_FILE), vec![0; 200_000]).unwrap();
    let refused = Checkpoint::load(directory.path());
    assert!(matches!(refused, Err(CheckpointError::TooLarge { .. })), "{refused:?}");
    fs::write(directory.path().join(CONFIG_FILE), vec![b' '; 2_000_000]).unwrap();
    let refused = Checkpoint::load(directory.path());
    assert!(matches!(refused, Err(CheckpointError::TooLarge { .. })), "{refused:?}");
}

#[test]
fn bad_configurations_are_refused_with_the_key() {
    let cases: [(&str, Value); 6] = [
        ("/format", 2.into()),
        ("/name", "../../etc".into()),
        ("/horizon", 5.into()),
        ("/shrink", 1.5.into()),
        ("/scaling/target_std", 0.into()),
        ("/network/hidden", 100_000.into()),
    ];
    for (key, value) in cases {
        let directory = saved();
        edit_config(directory.path(), |config| *config.pointer_mut(key).unwrap() = value);
        let error = Checkpoint::load(directory.path()).unwrap_err();
        let is_expected = matches!(
            error,
            CheckpointError::Format { .. }
                | CheckpointError::Value { .. }
                | CheckpointError::Network(_)
        );
        assert!(is_expected, "{key}: {error:?}");
    }
    let directory = saved();
    edit_config(directory.path(), |config| config["surprise"] = 1.into());
    let refused = Checkpoint::load(directory.path());
    assert!(matches!(refused, Err(CheckpointError::Json { .. })), "{refused:?}");
    assert!(matches!(Checkpoint::load(Path::new("/nowhere")), Err(CheckpointError::Io { .. })));
}

#[test]
fn scales_must_belong_to_the_features() {
    let set = serde_json::json!({"names": ["close", "rsi(14)"], "indicators": "standard"});
    let scale = |std: f64| serde_json::json!({"mean": 0.1, "std": std});
    for (scales, key) in [
        (vec![scale(1.0)], "scaling.features"),
        (vec![scale(1.0), scale(0.0)], "features"),
        (vec![scale(1.0), scale(-1.0)], "features"),
    ] {
        let directory = saved();
        edit_config(directory.path(), |config| {
            config["network"]["features"] = set.clone();
            config["scaling"]["features"] = scales.into();
        });
        let error = Checkpoint::load(directory.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Value { key: k, .. } if k == key), "{error:?}");
    }
    let directory = saved();
    edit_config(directory.path(), |config| {
        config["network"]["features"] = serde_json::json!({"names": ["close", "rsi(9999)"]});
    });
    let refused = Checkpoint::load(directory.path());
    assert!(matches!(refused, Err(CheckpointError::Json { .. })), "{refused:?}");
}

#[test]
fn the_shipped_configuration_is_written_as_it_was() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints/lstm-small");
    let config = CheckpointConfig::read(&directory).unwrap();
    let text = fs::read_to_string(directory.join(CONFIG_FILE)).unwrap();
    assert_eq!(serde_json::to_string_pretty(&config).unwrap() + "\n", text);
    assert_eq!(config.network.features, None);
}

#[test]
fn the_list_names_good_and_bad_checkpoints_in_order() {
    let directory = tempfile::tempdir().unwrap();
    checkpoint().save(&directory.path().join("b")).unwrap();
    fs::create_dir(directory.path().join("a")).unwrap();
    let found = list_checkpoints(directory.path()).unwrap();
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(found[0].1.is_err());
    assert_eq!(found[1].1.as_ref().unwrap().name, "test-model");
}

#[test]
fn a_model_of_kind_burn_needs_a_checkpoint() {
    let spec = ModelSpec { name: "x".into(), kind: ModelKind::Burn, checkpoint: None };
    assert!(matches!(load(&spec).map(|_| ()), Err(ModelError::NoCheckpoint { .. })));
    let spec = ModelSpec { checkpoint: Some("/nowhere".into()), ..spec };
    assert!(matches!(load(&spec).map(|_| ()), Err(ModelError::Checkpoint { .. })));
}

#[test]
fn the_shipped_checkpoint_loads_and_has_not_seen_what_it_is_tested_on() {
    // 2024-12-20 00:00 UTC: the embedded network replays candles from 2025 on.
    const UNSEEN_FROM_MS: i64 = 1_734_652_800_000;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints/lstm-small");
    let config = CheckpointConfig::read(&directory).unwrap();
    assert!(config.training.validation_to_ms <= UNSEEN_FROM_MS);
    assert!(!config.evaluations.is_empty());
    assert!(config.evaluations.iter().all(|test| test.from_ms >= UNSEEN_FROM_MS));
    let card = fs::read_to_string(directory.join(CARD_FILE)).unwrap();
    assert_eq!(card, crate::card::text(&config), "the card does not belong to the configuration");

    let spec =
        ModelSpec { name: config.name.clone(), kind: ModelKind::Burn, checkpoint: Some(directory) };
    let closes: Vec<f64> =
        (0..config.network.lookback).map(|i| 95_000.0 + 50.0 * (i as f64 * 0.7).sin()).collect();
    let input = input_of(&closes, config.horizon);
    let forecast = load(&spec).unwrap().forecast(&input).unwrap();
    let farthest =
        forecast.iter().map(|close| (close / input.last_close() - 1.0).abs()).fold(0.0, f64::max);
    assert!(farthest > 0.0 && farthest < 0.01, "corrections of up to {farthest}");
}
