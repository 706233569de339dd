//! Tables of the candle lengths of an exchange, with its names for them.

use forecastd_core::Interval;

use crate::config::{FeedConfig, refuse};
use crate::error::ExchangeError;

/// The exchange's name of each candle length in milliseconds.
pub(crate) type Intervals = [(&'static str, i64)];

/// Returns the exchange's name of `interval`.
pub(crate) fn name_in(table: &Intervals, interval: Interval) -> Option<&'static str> {
    table.iter().find(|(_, ms)| *ms == interval.as_ms()).map(|(name, _)| *name)
}

/// Returns the interval that the exchange calls `name`; case matters.
pub(crate) fn interval_in(table: &Intervals, name: &str) -> Option<Interval> {
    let (_, ms) = table.iter().find(|(known, _)| *known == name)?;
    Interval::from_ms(*ms).ok()
}

/// Checks the whole of `config` and that the table holds its interval.
pub(crate) fn check(
    config: &FeedConfig,
    table: &Intervals,
    rule: &'static str,
) -> Result<(), ExchangeError> {
    config.validate()?;
    named(table, config.interval, rule).map(|_| ())
}

/// Returns the exchange's name of `interval`.
///
/// # Errors
/// [`ExchangeError::Config`] where the table does not hold it.
pub(crate) fn named(
    table: &Intervals,
    interval: Interval,
    rule: &'static str,
) -> Result<&'static str, ExchangeError> {
    name_in(table, interval).ok_or_else(|| refuse("interval", &interval, rule))
}
