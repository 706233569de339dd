//! Reading of a column's source, by the actor and by commands.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use forecastd_core::{Clock, Interval, Observation};
use forecastd_exchange::{CoinMetrics, ExchangeError, SeriesConfig};

use super::settings::{AccessKey, ColumnOrigin, ColumnSettings};
use crate::error::{ActorError, StepContext};

/// Values asked for in one step.
const STEP_VALUES: i64 = 20_000;
/// Length of a step where values come at their own times.
const STEP_MS: i64 = 7 * 86_400_000;
/// How often a command waits for as long as the source asks.
const MOST_WAITS: u32 = 20;
/// What a failed request was for.
const ASKING: &str = "asking Coin Metrics";

/// Length and time of change of a file.
pub(super) type Stamp = (u64, SystemTime);

/// Why a source could not be read, and how long it asked to wait.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: ActorError,
    pub(super) wait: Duration,
    /// Whether waiting alone may help.
    pub(super) is_retryable: bool,
}

impl From<ActorError> for Failed {
    fn from(error: ActorError) -> Self {
        Self { error, wait: Duration::ZERO, is_retryable: true }
    }
}

impl From<ExchangeError> for Failed {
    fn from(error: ExchangeError) -> Self {
        let (wait, is_retryable) = (error.retry_after().unwrap_or_default(), error.is_retryable());
        let error = ActorError::Step { what: ASKING, source: error.into() };
        Self { error, wait, is_retryable }
    }
}

/// Creates the client of a series.
pub(super) fn client(
    url: Option<&str>,
    key: AccessKey,
    timeout: Duration,
    market: Arc<dyn Clock>,
) -> Result<CoinMetrics, Failed> {
    let key = match key {
        AccessKey::Unneeded => None,
        AccessKey::Given(key) => Some(key),
        AccessKey::Missing(variable) => {
            let source = format!("environment variable {variable} holds no key").into();
            let error = ActorError::Step { what: ASKING, source };
            return Err(Failed { error, wait: Duration::ZERO, is_retryable: false });
        }
    };
    Ok(CoinMetrics::new(url, key, market, timeout)?)
}

/// Returns the spans, oldest first, in which `from_ms..to_ms` is asked for.
pub(super) fn steps(series: &SeriesConfig, from_ms: i64, to_ms: i64) -> Vec<(i64, i64)> {
    let step_ms = series.every.map_or(STEP_MS, |every| every.as_ms().saturating_mul(STEP_VALUES));
    let mut steps = Vec::new();
    let mut at_ms = from_ms;
    while at_ms < to_ms {
        let next_ms = at_ms.saturating_add(step_ms).min(to_ms);
        steps.push((at_ms, next_ms));
        at_ms = next_ms;
    }
    steps
}

/// Reads the column of a file, or nothing where the file is as it was.
pub(super) fn read_file(
    path: &Path,
    column: &str,
    known_after_ms: i64,
    known: Option<Stamp>,
) -> Result<Option<(Stamp, Vec<Observation>)>, ActorError> {
    let metadata = std::fs::metadata(path).step("looking at a column's file")?;
    let stamp = (metadata.len(), metadata.modified().step("looking at a column's file")?);
    if known == Some(stamp) {
        return Ok(None);
    }
    let numbers = forecastd_history::read_numbers(path, column).step("reading a column's file")?;
    let observed = |(at_ms, value): (i64, f64)| Observation {
        at_ms,
        known_ms: at_ms.saturating_add(known_after_ms),
        value,
    };
    Ok(Some((stamp, numbers.into_iter().map(observed).collect())))
}

/// Returns the time from a value's own time until it can be known.
pub(super) fn known_after_ms(every: Option<Interval>, publication_delay: Duration) -> i64 {
    every.map_or(0, Interval::as_ms).saturating_add(super::ms(publication_delay))
}

/// Reads the whole column with own times in `from_ms..to_ms`, as for training. Waits for as long as
/// the source asks; needs a tokio runtime.
///
/// # Errors
/// [`ActorError`] says what failed.
pub async fn read_column(
    settings: &ColumnSettings,
    market: Arc<dyn Clock>,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Observation>, ActorError> {
    let mut values = match settings.origin.clone() {
        ColumnOrigin::File { path, column, every, publication_delay } => {
            let known_after_ms = known_after_ms(every, publication_delay);
            read_file(&path, &column, known_after_ms, None)?
                .map(|(_, told)| told)
                .unwrap_or_default()
        }
        ColumnOrigin::CoinMetrics { url, series, key, timeout } => {
            let client = client(url.as_deref(), key, timeout, market).map_err(|f| f.error)?;
            let mut values = Vec::new();
            let mut waits = 0;
            for (from_ms, to_ms) in steps(&series, from_ms.max(0), to_ms) {
                loop {
                    match client.series(&series, from_ms, to_ms).await {
                        Ok(told) => break values.extend(told),
                        Err(error) => match error.retry_after() {
                            Some(wait) if waits < MOST_WAITS => {
                                waits += 1;
                                tokio::time::sleep(wait).await;
                            }
                            _ => return Err(Failed::from(error).error),
                        },
                    }
                }
            }
            values
        }
    };
    values.retain(|value| (from_ms..to_ms).contains(&value.at_ms));
    Ok(values)
}
