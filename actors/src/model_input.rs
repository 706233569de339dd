//! What the models of a stream get to see at the close of its newest candle.

use std::sync::Arc;

use forecastd_core::{Candle, Columns, FeatureError, Lookback, build_window};
use forecastd_models::ModelInput;

use crate::settings::StreamSettings;

/// Returns the number of candles behind a whole window, the warm-up of the features included.
pub(crate) fn needed_candles(settings: &StreamSettings) -> usize {
    settings.spec.lookback.saturating_add(settings.features.warm_up())
}

/// Builds the input from `candles`, rising; with fewer than [`needed_candles`] some features are missing.
///
/// # Errors
/// [`FeatureError`], as while the history is not there yet.
pub(crate) fn model_input(
    settings: &StreamSettings,
    candles: &[Candle],
    columns: &Columns,
) -> Result<ModelInput, FeatureError> {
    let spec = &settings.spec;
    let newest = candles.last().ok_or(FeatureError::NoHistory { needed_ms: 0 })?;
    let start_ms = newest.close_time_ms(spec.interval);
    let Lookback { window, candles } =
        build_window(candles, columns, spec, &settings.features, start_ms)?;
    Ok(ModelInput {
        stream: spec.id.clone(),
        start_ms,
        interval: spec.interval,
        horizon: spec.horizon,
        candles: candles.into(),
        features: Some(Arc::new(window)),
    })
}
