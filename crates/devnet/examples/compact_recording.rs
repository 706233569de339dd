//! Makes the recordings of `data/multi-exchange-2023-03` from downloads of one-minute candles.
//!
//! ```text
//! compact_recording <folder> <out>
//! ```
//! `<folder>` holds `<exchange>*.csv[.gz]` with the columns `open_time_ms,open,high,low,close,volume`
//! first and rising times, of one minute or of five; `<out>` gets `<exchange>-5m.csv.gz`. Only what
//! was recorded is joined: a minute that is missing stays missing, five of them are a missing row.
//! Volumes are rounded to the exchanges' eight decimals, which takes away what adding them up in
//! binary left behind. Of the file only 2023-03-01 to 2023-03-17 is used.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use forecastd_core::features::compact;
use forecastd_core::{Candle, Interval};
use forecastd_exchange::Exchange;
use forecastd_history::{CandleWriter, read_candles};

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
        let parts = read(&path)?;
        let candles = compact(&parts, FIVE);
        let partial = candles.iter().filter(|(_, count)| *count < 5).count();
        write(&out.join(format!("{exchange}-5m.csv.gz")), &candles)?;
        let (rows, count) = (parts.len(), candles.len());
        println!("{exchange}: {rows} rows, {count} candles, {partial} of less than five rows");
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

fn read(path: &Path) -> Result<Vec<Candle>, Failure> {
    let mut candles = read_candles(path, Interval::MINUTE)?;
    candles.retain(|candle| SPAN.contains(&candle.open_time_ms));
    Ok(candles)
}

fn write(path: &Path, candles: &[(Candle, usize)]) -> Result<(), Failure> {
    let mut out = CandleWriter::create(path)?;
    for (candle, _) in candles {
        let volume = format!("{:.8}", candle.volume).parse()?;
        out.push(&Candle { volume, ..*candle })?;
    }
    out.finish()?;
    Ok(())
}
