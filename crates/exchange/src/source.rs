//! Closed candles on request.

use std::fmt;

use async_trait::async_trait;
use forecastd_core::{Candle, Interval};

use crate::error::ExchangeError;

/// Somebody who can be asked for closed candles.
#[async_trait]
pub trait CandleSource: Send + Sync + fmt::Debug {
    /// Returns the closed candles of `symbol` with an open time in `from_ms..to_ms`, oldest first,
    /// strictly rising, each valid and on the grid of `interval`.
    ///
    /// A candle that is still forming is left out, and so is one that the source does not have: the
    /// answer may be shorter than the range, and empty.
    ///
    /// # Errors
    /// [`ExchangeError`]; nothing of the range is returned then. Nothing is retried here.
    async fn candles(
        &self,
        symbol: &str,
        interval: Interval,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Candle>, ExchangeError>;

    /// Asks the exchange whether it has the market `symbol` with candles of `interval`.
    ///
    /// A source that cannot tell says yes.
    ///
    /// # Errors
    /// [`ExchangeError::UnknownSymbol`] when it has not; any other error says nothing about the symbol.
    async fn check_symbol(&self, _symbol: &str, _interval: Interval) -> Result<(), ExchangeError> {
        Ok(())
    }

    /// Returns closed candles like [`Self::candles`], built from the exchange's trades: slow, but not
    /// bound to [`Self::reach`]. `None` where the exchange gives no trades of long ago.
    ///
    /// Keep the range short: a thousand trades take a request.
    ///
    /// # Errors
    /// [`ExchangeError`]; nothing of the range is returned then. Nothing is retried here.
    async fn candles_from_trades(
        &self,
        _symbol: &str,
        _interval: Interval,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Option<Vec<Candle>>, ExchangeError> {
        Ok(None)
    }

    /// Returns how many of the newest intervals can be had; `None` where nothing is too old.
    fn reach(&self) -> Option<u32> {
        None
    }
}
