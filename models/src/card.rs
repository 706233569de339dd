//! The model card: what a checkpoint is, what it was trained on and how good it is.

use std::fmt::Write;

use chrono::DateTime;
use forecastd_core::Compatibility;

use crate::checkpoint::CheckpointConfig;

/// Returns the text of `README.md` for a checkpoint.
pub(crate) fn text(config: &CheckpointConfig) -> String {
    let mut card = String::new();
    // Writing to a String cannot fail.
    write_card(&mut card, config).unwrap_or_default();
    card
}

fn write_card(card: &mut String, config: &CheckpointConfig) -> std::fmt::Result {
    let (network, training) = (&config.network, &config.training);
    writeln!(card, "# {}\n", config.name)?;
    writeln!(
        card,
        "Forecasts {} closes of {} candles from the last {}: LSTM, {} layer(s) of {} units over \
         patches of {} candles, 10 sparse outputs joined by straight lines, {} weights. The outputs \
         are log-return corrections to the last close, times the shrink factor {}: at 0 the \
         forecast is the last close itself.\n",
        config.horizon,
        config.interval,
        network.lookback,
        network.layers,
        network.hidden,
        network.patch,
        network.parameters(),
        config.shrink,
    )?;
    if let Some(set) = &network.features {
        writeln!(card, "## Features\n")?;
        let rules = match set.indicators() {
            Compatibility::Standard => "standard",
            Compatibility::Seed => "reference's",
        };
        writeln!(
            card,
            "Reads these, with the {rules} indicators and {} candles of warm-up before the window; \
             mean and unit come from the training span, after the form of `models/src/rows.rs`.\n",
            set.warm_up()
        )?;
        writeln!(card, "| feature | mean | unit |\n|---|---|---|")?;
        for (name, scale) in set.names().iter().zip(&config.scaling.features) {
            writeln!(card, "| `{name}` | {:.4e} | {:.4e} |", scale.mean, scale.std)?;
        }
        writeln!(card)?;
    }
    writeln!(card, "## Data and split\n")?;
    writeln!(card, "| span | from (UTC) | to (UTC) | windows |\n|---|---|---|---|")?;
    writeln!(
        card,
        "| training | {} | {} | {} |",
        utc(training.training_from_ms),
        utc(training.training_to_ms),
        training.training_windows
    )?;
    writeln!(
        card,
        "| validation | {} | {} | {} |\n",
        utc(training.validation_from_ms),
        utc(training.validation_to_ms),
        training.validation_windows
    )?;
    writeln!(
        card,
        "Walk-forward: no training window, horizon included, reaches the validation span. Seed {}, \
         {} epochs run, the weights of epoch {} kept (the lowest validation ratio).\n",
        training.seed, training.epochs_run, training.best_epoch
    )?;
    writeln!(card, "## Accuracy\n")?;
    writeln!(
        card,
        "Mean weighted RMSE over the one of \"the last close stays\" on the same windows; below 1 \
         is better. The validation figure chose the epoch and the shrink factor, so it flatters; \
         the others did not.\n"
    )?;
    writeln!(
        card,
        "| test | from (UTC) | to (UTC) | windows | weighted RMSE | ratio | standard error | \
         direction right |\n|---|---|---|---|---|---|---|---|"
    )?;
    writeln!(
        card,
        "| validation | {} | {} | {} | | {:.4} | {} | |",
        utc(training.validation_from_ms),
        utc(training.validation_to_ms),
        training.validation_windows,
        training.validation_ratio,
        figure(training.validation_ratio_se),
    )?;
    for test in &config.evaluations {
        writeln!(
            card,
            "| {} | {} | {} | {} | {:.2} | {:.4} | {} | {} |",
            test.label,
            utc(test.from_ms),
            utc(test.to_ms),
            test.windows,
            test.weighted_rmse,
            test.ratio_to_last,
            figure(test.ratio_se),
            figure(test.directional_accuracy),
        )?;
    }
    writeln!(
        card,
        "\nA ratio within two standard errors of 1 is no evidence of skill. The market's own moves \
         decide most of the score."
    )
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.4}"))
}

fn utc(at_ms: i64) -> String {
    DateTime::from_timestamp_millis(at_ms)
        .map_or_else(|| format!("{at_ms} ms"), |time| time.format("%Y-%m-%d %H:%M").to_string())
}
