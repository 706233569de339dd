//! Columns of numbers for training and back-tests, from the sources of the configuration.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use forecastd_actors::columns::read_column;
use forecastd_core::{Candle, Column, ColumnName, Columns, Interval};

use crate::assemble;
use crate::clock::SystemClock;
use crate::config::Config;

/// Reads the columns of `names` over the time of `candles`.
///
/// Blocks for as long as files and servers take.
///
/// # Errors
/// A column has no source in the configuration, or its source cannot be read.
pub(super) fn read(
    config: &Config,
    names: &[ColumnName],
    candles: &[Candle],
    interval: Interval,
) -> anyhow::Result<Columns> {
    let (Some(first), Some(last)) = (candles.first(), candles.last()) else {
        return Ok(Columns::default());
    };
    let mut columns = Columns::default();
    for name in names {
        let settings = config.source.iter().filter_map(assemble::column);
        let settings = settings.into_iter().find(|settings| settings.name == *name);
        let settings = settings.with_context(|| {
            format!("feature column({name}) needs a [[source]] of this name in the configuration")
        })?;
        let max_age_ms = i64::try_from(settings.max_age.as_millis()).unwrap_or(i64::MAX);
        let from_ms = first.open_time_ms.saturating_sub(max_age_ms);
        let to_ms = last.close_time_ms(interval);
        let clock = Arc::new(SystemClock);
        let read = move || -> anyhow::Result<_> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let values = runtime.block_on(read_column(&settings, clock, from_ms, to_ms));
            runtime.shutdown_timeout(Duration::from_secs(1));
            Ok(values?)
        };
        // A thread of its own: the command runs inside of a runtime, where nothing may block on one.
        let values = std::thread::spawn(read).join();
        let values = values.map_err(|_| anyhow::anyhow!("reading panicked"));
        let values = values.flatten().with_context(|| format!("reading column({name})"))?;
        anyhow::ensure!(
            !values.is_empty(),
            "column({name}) has no value in the time of the candles"
        );
        columns.insert(name.clone(), Arc::new(Column::new(values, max_age_ms)?));
    }
    Ok(columns)
}
