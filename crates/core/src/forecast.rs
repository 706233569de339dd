//! A forecast that is known to be well formed.

use serde::{Deserialize, Serialize};

use crate::ids::StreamId;

/// The closes that a miner expects after `start_ms`, oldest first, quote currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    stream: StreamId,
    start_ms: i64,
    closes: Vec<f64>,
}

/// Why a list of numbers is refused as a forecast. Costs only its sender.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ForecastError {
    /// The number of values is not the stream's horizon.
    #[error("forecast has {got} values, must be {want}")]
    Length {
        /// Values received.
        got: usize,
        /// The stream's horizon.
        want: usize,
    },
    /// A value is NaN or infinite.
    #[error("forecast value {index} is not finite")]
    NotFinite {
        /// Position of the first such value.
        index: usize,
    },
    /// A value lies outside of `last / factor ..= last * factor`.
    #[error(
        "forecast value {index} is {value}, more than a factor {factor} away from the last close {last}"
    )]
    Absurd {
        /// Position of the first such value.
        index: usize,
        /// The value.
        value: f64,
        /// The last known close.
        last: f64,
        /// The configured limit.
        factor: f64,
    },
}

impl Forecast {
    /// Checks `closes` and wraps them.
    ///
    /// `absurd`: the last known close and the greatest factor that a value may lie away from it.
    ///
    /// # Errors
    /// [`ForecastError`] for the first broken rule, in the order length, finiteness, factor.
    pub fn new(
        stream: StreamId,
        start_ms: i64,
        closes: Vec<f64>,
        horizon: usize,
        absurd: Option<(f64, f64)>,
    ) -> Result<Self, ForecastError> {
        check_values(&closes, horizon, absurd)?;
        Ok(Self { stream, start_ms, closes })
    }

    /// The stream that is forecast.
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The grid time after which the forecast begins.
    pub const fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// The closes, oldest first.
    pub fn closes(&self) -> &[f64] {
        &self.closes
    }
}

/// Checks length, finiteness and, when `absurd` = (last close, factor) is given, the range.
///
/// # Errors
/// [`ForecastError`] for the first broken rule.
pub fn check_values(
    closes: &[f64],
    horizon: usize,
    absurd: Option<(f64, f64)>,
) -> Result<(), ForecastError> {
    if closes.len() != horizon {
        return Err(ForecastError::Length { got: closes.len(), want: horizon });
    }
    if let Some(index) = closes.iter().position(|value| !value.is_finite()) {
        return Err(ForecastError::NotFinite { index });
    }
    if let Some((last, factor)) = absurd {
        let outside = |value: &f64| *value > last * factor || *value < last / factor;
        if let Some(index) = closes.iter().position(outside) {
            return Err(ForecastError::Absurd { index, value: closes[index], last, factor });
        }
    }
    Ok(())
}
