//! Candles and trades in their normalised form.

use serde::{Deserialize, Serialize};

use crate::grid::Interval;
use crate::trade_id::TradeId;

/// One interval of a market: open, high, low, close, volume.
///
/// Keyed by `open_time_ms`, the first millisecond of the interval. Prices in the quote currency,
/// volume in the base asset.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Candle {
    /// First millisecond of the interval.
    pub open_time_ms: i64,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Traded amount of the base asset.
    pub volume: f64,
    /// Number of trades, where the source tells.
    pub trade_count: Option<u64>,
}

/// Which rule a candle breaks.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CandleError {
    /// A price or the volume is NaN or infinite.
    #[error("candle at {0} ms has a value that is not finite")]
    NotFinite(i64),
    /// A price is zero or negative, or the volume is negative.
    #[error("candle at {0} ms has a price <= 0 or a volume < 0")]
    OutOfRange(i64),
    /// Open or close lies outside of low..high.
    #[error("candle at {0} ms has open or close outside of low..high")]
    Order(i64),
    /// The open time is not a multiple of the interval.
    #[error("candle open time {open_time_ms} ms is not on the grid of {interval}")]
    OffGrid {
        /// The refused open time.
        open_time_ms: i64,
        /// The grid it should lie on.
        interval: Interval,
    },
}

impl Candle {
    /// Returns the first millisecond of the next interval: the time at which `close` was the price.
    pub const fn close_time_ms(&self, interval: Interval) -> i64 {
        self.open_time_ms + interval.as_ms()
    }

    /// Checks values, their order and the grid.
    ///
    /// # Errors
    /// [`CandleError`] names the broken rule; such a candle must not be stored.
    pub fn validate(&self, interval: Interval) -> Result<(), CandleError> {
        let at = self.open_time_ms;
        let prices = [self.open, self.high, self.low, self.close];
        if !prices.iter().chain([&self.volume]).all(|value| value.is_finite()) {
            return Err(CandleError::NotFinite(at));
        }
        if prices.iter().any(|price| *price <= 0.0) || self.volume < 0.0 {
            return Err(CandleError::OutOfRange(at));
        }
        let inside = |price: f64| self.low <= price && price <= self.high;
        if !inside(self.open) || !inside(self.close) {
            return Err(CandleError::Order(at));
        }
        if !interval.is_aligned(at) {
            return Err(CandleError::OffGrid { open_time_ms: at, interval });
        }
        Ok(())
    }

    /// Returns the flat candle that stands for an interval without trades after this one.
    #[must_use]
    pub const fn flat_after(&self, open_time_ms: i64) -> Self {
        let close = self.close;
        Self {
            open_time_ms,
            open: close,
            high: close,
            low: close,
            close,
            volume: 0.0,
            trade_count: Some(0),
        }
    }
}

/// The side of the party that crossed the spread (the taker).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TradeSide {
    /// The taker bought.
    Buy,
    /// The taker sold.
    Sell,
}

/// One execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// Time of the execution.
    pub time_ms: i64,
    /// Price in the quote currency.
    pub price: f64,
    /// Amount of the base asset.
    pub size: f64,
    /// The exchange's id of the trade, where it has one.
    pub trade_id: Option<TradeId>,
    /// The taker's side.
    pub side: TradeSide,
}
