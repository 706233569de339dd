//! Makes the recordings of `data/multi-exchange-2023-03` from downloads of one-minute candles.
//!
//! ```text
//! compact_recording <folder> <out>
//! ```
//! `<folder>` holds `<exchange>-*` in any form that the history files have, of one minute or of five;
//! `<out>` gets `<exchange>-5m.csv.gz`. Only what was recorded is joined: a minute that is missing
//! stays missing, five of them are a missing row. Volumes are rounded to the exchanges' eight
//! decimals, which takes away what adding them up in binary left behind. Of the files only 2023-03-01
//! to 2023-03-17 is used.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use forecastd_core::features::compact;
use forecastd_core::{Candle, Interval};
use forecastd_exchange::Exchange;
use forecastd_history::{CandleWriter, detect_interval, read_candles};

type Failure = Box<dyn Error + Send + Sync>;

const FIVE: Interval = Interval::FIVE_MINUTES;
/// 2023-03-01 00:00 and 2023-03-18 00:00.
const SPAN: std::ops::Range<i64> = 1_677_628_800_000..1_679_097_600_000;

#[expect(clippy::print_stdout, reason = "a summary is its output")]
fn main() -> Result<(), Failure> {
    let mut words = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(out)) = (words.next(), words.next()) else {
        return Err("usage: compact_recording <folder> <out>".into());
    };
    for (exchange, path) in sources(&folder)? {
        let interval = detect_interval(&path)?;
        let mut parts = read_candles(&path, interval)?;
        parts.retain(|candle| SPAN.contains(&candle.open_time_ms));
        let mut writer = CandleWriter::create(&out.join(format!("{exchange}-5m.csv.gz")))?;
        let whole = usize::try_from(FIVE.as_ms() / interval.as_ms())?;
        let mut partial = 0;
        for (candle, count) in compact(&parts, FIVE) {
            partial += usize::from(count < whole);
            let volume = format!("{:.8}", candle.volume).parse()?;
            // The simulated exchange counts the executions that it derives.
            writer.push(&Candle { volume, trade_count: None, ..candle })?;
        }
        let count = writer.finish()?;
        println!(
            "{exchange}: {} rows of {interval}, {count} candles, {partial} partial",
            parts.len()
        );
    }
    Ok(())
}

/// The first file of each exchange.
fn sources(folder: &Path) -> Result<BTreeMap<Exchange, PathBuf>, Failure> {
    let mut paths: Vec<PathBuf> =
        folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    let mut found = BTreeMap::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_of = |exchange: &Exchange| name.starts_with(&format!("{exchange}-"));
        if let Some(exchange) = Exchange::ALL.into_iter().find(is_of) {
            found.entry(exchange).or_insert(path);
        }
    }
    Ok(found)
}
