//! Trains a checkpoint from a CSV of candles and evaluates it on later candles.
//!
//! ```text
//! train DATA.csv.gz OUT_DIR --until MS [--to MS] [--key value]…
//! ```
//! Candles that close after `--until` (ms since the epoch) are never seen by the training; those
//! after it, up to `--to`, are the out-of-sample test. Keys: `name`, `seed`, `epochs`, `patience`, `hidden`,
//! `layers`, `patch`, `dropout`, `stride`, `rate`.
#![expect(clippy::print_stdout, reason = "an example that reports to its user")]

use std::error::Error;
use std::path::PathBuf;

use forecastd_core::{Interval, StreamId};
use forecastd_history::read_candles;
use forecastd_models::checkpoint::Evaluation;
use forecastd_models::{
    BacktestConfig, CheckpointForecaster, Forecaster, ModelKind, ModelSpec, TrainConfig, backtest,
    load, train,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let data = PathBuf::from(arguments.next().ok_or("name the CSV file")?);
    let out = PathBuf::from(arguments.next().ok_or("name the output directory")?);
    let mut config = TrainConfig::default();
    let (mut until_ms, mut to_ms) = (i64::MAX, None);
    while let Some(key) = arguments.next() {
        let value = arguments.next().ok_or("a key needs a value")?;
        match key.as_str() {
            "--until" => until_ms = value.parse()?,
            "--to" => to_ms = Some(value.parse()?),
            "--name" => config.name = value,
            "--seed" => config.seed = value.parse()?,
            "--epochs" => config.epochs = value.parse()?,
            "--patience" => config.patience = value.parse()?,
            "--hidden" => config.network.hidden = value.parse()?,
            "--layers" => config.network.layers = value.parse()?,
            "--patch" => config.network.patch = value.parse()?,
            "--dropout" => config.network.dropout = value.parse()?,
            "--stride" => config.training_stride = value.parse()?,
            "--rate" => config.learning_rate = value.parse()?,
            other => return Err(format!("unknown key {other}").into()),
        }
    }
    let interval = Interval::FIVE_MINUTES;
    let candles = read_candles(&data, interval)?;
    let end = candles.partition_point(|candle| candle.close_time_ms(interval) <= until_ms);
    println!("{} candles, {end} of them for training", candles.len());
    let (mut checkpoint, report) = train(&config, &candles[..end], &mut |progress| {
        if progress.batch % 20 == 0 || progress.validation_ratio.is_some() {
            println!(
                "epoch {} batch {}/{} loss {:.5} ratio {:?}",
                progress.epoch,
                progress.batch,
                progress.batches,
                progress.loss,
                progress.validation_ratio
            );
        }
    })?;
    println!("{report:#?}");
    let baseline =
        |kind, name: &str| load(&ModelSpec { name: name.into(), kind, checkpoint: None });
    for stride in [config.horizon, 12] {
        let mut models: Vec<Box<dyn Forecaster>> = vec![
            Box::new(CheckpointForecaster::new(&config.name, &checkpoint)?),
            baseline(ModelKind::Last, "last")?,
            baseline(ModelKind::Ema, "ema")?,
            baseline(ModelKind::Drift, "drift")?,
        ];
        let test = BacktestConfig {
            stream: StreamId("BTCUSD-5m".into()),
            interval,
            horizon: config.horizon,
            lookback: config.network.lookback,
            from_ms: Some(until_ms),
            to_ms,
            stride,
        };
        if end == candles.len() {
            break;
        }
        let report = backtest(&mut models, &candles, &test)?;
        println!("{report:#?}");
        if let Some(score) = report.models.first() {
            checkpoint.config.evaluations.push(Evaluation {
                label: format!("out of sample, every {stride} candles"),
                from_ms: report.from_ms,
                to_ms: report.to_ms,
                stride,
                windows: score.windows,
                weighted_rmse: score.weighted_rmse,
                ratio_to_last: score.ratio_to_last,
                ratio_se: score.ratio_se,
                directional_accuracy: score.directional_accuracy,
            });
        }
    }
    checkpoint.save(&out)?;
    println!("saved to {}", out.display());
    Ok(())
}
