//! Forecasts that need no training: what every trained model must beat.

use crate::error::ModelError;
use crate::input::{Forecaster, ModelInput};

/// Candles over which [`Drift`] averages the returns. The seed's shortest window.
pub const DRIFT_CANDLES: usize = 100;
/// Span of [`Ema`], candles; the weight of the newest close is `2 / (span + 1)`.
pub const EMA_SPAN: usize = 10;

/// The persistence baseline: the last close stays.
#[derive(Debug, Clone)]
pub struct Last {
    name: String,
}

/// The mean log return of the last candles goes on.
#[derive(Debug, Clone)]
pub struct Drift {
    name: String,
    candles: usize,
}

/// A flat line at the exponential moving average of the window's closes.
#[derive(Debug, Clone)]
pub struct Ema {
    name: String,
    span: usize,
}

impl Last {
    /// Creates the baseline under `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

impl Forecaster for Last {
    fn name(&self) -> &str {
        &self.name
    }

    fn forecast(&mut self, input: &ModelInput) -> Result<Vec<f64>, ModelError> {
        input.window(&self.name, 1)?;
        Ok(vec![input.last_close(); input.horizon])
    }
}

impl Drift {
    /// Creates the baseline under `name`; it averages the returns of the last `candles` candles.
    pub fn new(name: impl Into<String>, candles: usize) -> Self {
        Self { name: name.into(), candles: candles.max(2) }
    }
}

impl Forecaster for Drift {
    fn name(&self) -> &str {
        &self.name
    }

    fn forecast(&mut self, input: &ModelInput) -> Result<Vec<f64>, ModelError> {
        let window = input.window(&self.name, self.candles)?;
        let (Some(first), Some(last)) = (window.first(), window.last()) else {
            return Ok(Vec::new());
        };
        let per_step = (last.close / first.close).ln() / (window.len() - 1) as f64;
        Ok((1..=input.horizon).map(|step| last.close * (per_step * step as f64).exp()).collect())
    }
}

impl Ema {
    /// Creates the baseline under `name` with the given span, candles.
    pub fn new(name: impl Into<String>, span: usize) -> Self {
        Self { name: name.into(), span: span.max(1) }
    }
}

impl Forecaster for Ema {
    fn name(&self) -> &str {
        &self.name
    }

    fn forecast(&mut self, input: &ModelInput) -> Result<Vec<f64>, ModelError> {
        let window = input.window(&self.name, input.candles.len())?;
        let alpha = 2.0 / (self.span as f64 + 1.0);
        let mut closes = window.iter().map(|candle| candle.close);
        let first = closes.next().unwrap_or(0.0);
        let level = closes.fold(first, |level, close| level + alpha * (close - level));
        Ok(vec![level; input.horizon])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tests::input_of;

    #[test]
    fn last_repeats_the_last_close() {
        let closes = Last::new("last").forecast(&input_of(&[5.0, 7.0], 3)).unwrap();
        assert_eq!(closes, [7.0; 3]);
    }

    #[test]
    fn drift_continues_a_constant_growth_exactly() {
        let path: Vec<f64> = (0..8).map(|step| 100.0 * 1.01_f64.powi(step)).collect();
        let closes = Drift::new("drift", 5).forecast(&input_of(&path[..5], 3)).unwrap();
        for (forecast, realised) in closes.iter().zip(&path[5..]) {
            assert!((forecast / realised - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn ema_is_flat_and_lies_between_the_closes() {
        let closes = Ema::new("ema", 3).forecast(&input_of(&[10.0, 20.0], 2)).unwrap();
        assert_eq!(closes, [15.0, 15.0]);
    }

    #[test]
    fn drift_refuses_a_window_that_is_too_short() {
        let refused = Drift::new("drift", 5).forecast(&input_of(&[1.0; 4], 3));
        assert!(matches!(refused, Err(ModelError::ShortWindow { need: 5, got: 4, .. })));
    }
}
