//! `forecastd model train | backtest | list`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forecastd_core::{Candle, ColumnName, FeatureSet, StreamId};
use forecastd_history::read_candles;
use forecastd_models::checkpoint::Evaluation;
use forecastd_models::{
    BacktestConfig, BacktestReport, CheckpointForecaster, Forecaster, ModelKind, ModelSpec,
    TrainConfig, backtest_with, list_checkpoints, load, train_with,
};
use indicatif::{ProgressBar, ProgressStyle};

use super::columns;
use crate::cli::{ModelBacktestArgs, ModelListArgs, ModelTrainArgs};
use crate::config::Config;
use crate::exit::Exit;
use crate::output;

/// Directory of the checkpoints that come with the source.
const CHECKPOINTS: &str = "models/checkpoints";
/// File of a back-test's report.
const REPORT_FILE: &str = "backtest.json";

fn finish(outcome: anyhow::Result<()>) -> Exit {
    match outcome {
        Ok(()) => Exit::Done,
        Err(error) => {
            output::error(&format_args!("{error:#}"));
            Exit::Unfinished
        }
    }
}

/// Trains a checkpoint and tests it on the candles after its training span.
pub fn train_command(config: &Config, arguments: &ModelTrainArgs) -> Exit {
    finish(train_checkpoint(config, arguments))
}

fn train_checkpoint(config: &Config, arguments: &ModelTrainArgs) -> anyhow::Result<()> {
    let stream = config.stream.first().context("no stream is configured")?;
    let mut training = TrainConfig {
        name: arguments.name.clone(),
        interval: stream.interval,
        horizon: stream.horizon,
        seed: arguments.seed,
        ..TrainConfig::default()
    };
    if !arguments.features.is_empty() {
        let set = FeatureSet::new(arguments.features.clone(), stream.indicators)?;
        training.network.features = Some(set);
    }
    if let Some(epochs) = arguments.epochs {
        training.epochs = usize::try_from(epochs).unwrap_or(usize::MAX);
    }
    let directory = arguments.out.join(&arguments.name);
    anyhow::ensure!(
        arguments.force || !directory.join("config.json").exists(),
        "{} holds a checkpoint already; name another one, or replace it with --force",
        directory.display()
    );
    let all = read_candles(&arguments.data, stream.interval)?;
    let from_ms = arguments.from.map_or(i64::MIN, |time| time.ms);
    let to_ms = arguments.to.map_or(i64::MAX, |time| time.ms);
    let begin = all.partition_point(|candle| candle.open_time_ms < from_ms);
    let end = all.partition_point(|candle| candle.close_time_ms(stream.interval) <= to_ms);
    let seen = all.get(begin..end.max(begin)).unwrap_or_default();
    let names = training.network.features.iter().flat_map(FeatureSet::columns).cloned();
    let columns = columns::read(config, &names.collect::<Vec<_>>(), &all, stream.interval)?;

    let bar = if arguments.json { ProgressBar::hidden() } else { ProgressBar::new(1) };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {eta} left") {
        bar.set_style(style);
    }
    let (mut checkpoint, report) = train_with(&training, seen, &columns, &mut |progress| {
        let total = progress.epochs * progress.batches;
        let done = (progress.epoch - 1) * progress.batches + progress.batch;
        bar.set_length(u64::try_from(total).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        bar.set_message(format!("epoch {} loss {:.5}", progress.epoch, progress.loss));
        if let (true, Some(ratio)) = (arguments.json, progress.validation_ratio) {
            output::line(&serde_json::json!({
                "epoch": progress.epoch, "loss": progress.loss, "validation_ratio": ratio,
            }));
        }
    })?;
    bar.finish_and_clear();
    let mut tested = None;
    if end < all.len() {
        let forecaster = CheckpointForecaster::new(&arguments.name, &checkpoint)?;
        let mut models: Vec<Box<dyn Forecaster>> = vec![Box::new(forecaster)];
        let lookback = training.network.lookback;
        let test = backtest_config(&stream.id, stream.interval, stream.horizon, lookback);
        let test = BacktestConfig { from_ms: Some(to_ms), ..test };
        // Too few candles after the span are no reason to throw the training away.
        match backtest_with(&mut models, &all, &columns, &test) {
            Ok(report) => tested = evaluation(&report, "out of sample"),
            Err(error) => output::warning(&format_args!(
                "not tested out of sample: {:#}",
                anyhow::Error::from(error)
            )),
        }
        checkpoint.config.evaluations.extend(tested.clone());
    }
    checkpoint.save(&directory)?;
    if arguments.json {
        let mut line = serde_json::to_value(&report)?;
        if let Some(fields) = line.as_object_mut() {
            fields.insert("out_of_sample".to_owned(), serde_json::to_value(&tested)?);
        }
        output::line(&line);
    } else {
        output::line(&format_args!(
            "{} parameters, {} epochs, best {}: validation ratio to the last close {:.4}, shrink {:.3}",
            report.parameters,
            report.epochs_run,
            report.best_epoch,
            report.validation_ratio,
            report.shrink,
        ));
        output::line(&match &tested {
            Some(tested) => format!(
                "out of sample, {} windows: ratio to the last close {:.4}{}",
                tested.windows,
                tested.ratio_to_last,
                tested.ratio_se.map_or_else(String::new, |se| format!(" ± {se:.4}")),
            ),
            None => "not tested out of sample: --to leaves no candles for it".to_owned(),
        });
        output::line(&format_args!("saved in {}", directory.display()));
    }
    Ok(())
}

fn evaluation(report: &BacktestReport, label: &str) -> Option<Evaluation> {
    let score = report.models.first()?;
    Some(Evaluation {
        label: label.to_owned(),
        from_ms: report.from_ms,
        to_ms: report.to_ms,
        stride: report.stride,
        windows: score.windows,
        weighted_rmse: score.weighted_rmse,
        ratio_to_last: score.ratio_to_last,
        ratio_se: score.ratio_se,
        directional_accuracy: score.directional_accuracy,
    })
}

fn backtest_config(
    stream: &str,
    interval: forecastd_core::Interval,
    horizon: usize,
    lookback: usize,
) -> BacktestConfig {
    BacktestConfig {
        stream: StreamId(stream.to_owned()),
        interval,
        horizon,
        lookback,
        from_ms: None,
        to_ms: None,
        stride: horizon,
    }
}

/// Compares models on the same windows.
pub fn backtest_command(config: &Config, arguments: &ModelBacktestArgs) -> Exit {
    finish(compare(config, arguments))
}

fn compare(config: &Config, arguments: &ModelBacktestArgs) -> anyhow::Result<()> {
    let stream = config.stream.first().context("no stream is configured")?;
    let candles: Vec<Candle> = read_candles(&arguments.data, stream.interval)?;
    let names: Vec<String> = if arguments.models.is_empty() {
        config.models_of(&stream.id).map(|model| model.name.clone()).collect()
    } else {
        arguments.models.clone()
    };
    let mut models = Vec::new();
    for name in &names {
        models.push(load(&model_spec(config, &stream.id, name)?)?);
    }
    let test = backtest_config(&stream.id, stream.interval, stream.horizon, stream.lookback);
    let test = BacktestConfig {
        from_ms: arguments.from.map(|time| time.ms),
        to_ms: arguments.to.map(|time| time.ms),
        ..test
    };
    let mut names: Vec<ColumnName> =
        models.iter().filter_map(|m| m.needs()).flat_map(FeatureSet::columns).cloned().collect();
    names.sort_unstable();
    names.dedup();
    let columns = columns::read(config, &names, &candles, stream.interval)?;
    let report = backtest_with(&mut models, &candles, &columns, &test)?;
    if let Some(directory) = &arguments.out {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let path = directory.join(REPORT_FILE);
        crate::daemon::write_atomically(&path, serde_json::to_string_pretty(&report)?.as_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if arguments.json {
        for score in &report.models {
            output::line(&serde_json::to_string(score)?);
        }
        return Ok(());
    }
    output::line(&"model          weighted RMSE   ratio to last     ± s.e.   won   windows");
    for score in &report.models {
        output::line(&format_args!(
            "{:<14} {:>12.2}   {:>13.4}   {:>8}   {:>3.0}%   {:>7}",
            score.model,
            score.weighted_rmse,
            score.ratio_to_last,
            score.ratio_se.map_or_else(|| "-".to_owned(), |se| format!("{se:.4}")),
            score.win_rate * 100.0,
            score.windows,
        ));
    }
    Ok(())
}

/// A name is a model of the configuration, a baseline, or a checkpoint's directory.
fn model_spec(config: &Config, stream: &str, name: &str) -> anyhow::Result<ModelSpec> {
    if let Some(model) = config.models_of(stream).find(|model| model.name == name) {
        return Ok(ModelSpec {
            name: name.to_owned(),
            kind: model.kind,
            checkpoint: model.checkpoint.clone(),
        });
    }
    let baseline = match name {
        "last" => Some(ModelKind::Last),
        "drift" => Some(ModelKind::Drift),
        "ema" => Some(ModelKind::Ema),
        _ => None,
    };
    if let Some(kind) = baseline {
        return Ok(ModelSpec { name: name.to_owned(), kind, checkpoint: None });
    }
    let candidates = [PathBuf::from(name), Path::new(CHECKPOINTS).join(name)];
    let directory = candidates.into_iter().find(|path| path.join("config.json").is_file());
    let directory = directory.with_context(|| {
        format!(
            "`{name}` is no configured model of {stream}, no baseline (last, drift, ema), and \
             neither {name} nor {CHECKPOINTS}/{name} is a checkpoint (a folder with config.json); \
             the path of a checkpoint's folder is allowed"
        )
    })?;
    Ok(ModelSpec { name: name.to_owned(), kind: ModelKind::Burn, checkpoint: Some(directory) })
}

/// Lists the configured models and the checkpoints.
pub fn list_command(config: &Config, arguments: &ModelListArgs) -> Exit {
    finish(list(config, arguments))
}

fn list(config: &Config, arguments: &ModelListArgs) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for model in &config.model {
        rows.push(serde_json::json!({
            "model": model.name,
            "kind": model.kind.as_str(),
            "stream": model.stream,
            "checkpoint": model.checkpoint,
        }));
    }
    let directory = Path::new(CHECKPOINTS);
    if directory.is_dir() {
        for (name, checkpoint) in list_checkpoints(directory)? {
            rows.push(match checkpoint {
                Ok(checkpoint) => serde_json::json!({
                    "checkpoint": name,
                    "parameters": checkpoint.training.parameters,
                    "validation_ratio": checkpoint.training.validation_ratio,
                    "features": checkpoint.network.features,
                }),
                Err(error) => serde_json::json!({ "checkpoint": name, "error": error.to_string() }),
            });
        }
    }
    for row in rows {
        if arguments.json {
            output::line(&row);
            continue;
        }
        let cells: Vec<String> = row
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                format!("{key} {value}")
            })
            .collect();
        output::line(&cells.join("  "));
    }
    Ok(())
}
