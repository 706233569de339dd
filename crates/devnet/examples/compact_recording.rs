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
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use forecastd_core::features::compact;
use forecastd_core::{Candle, Interval};
use forecastd_exchange::Exchange;

type Failure = Box<dyn Error + Send + Sync>;

const FIVE: Interval = Interval::FIVE_MINUTES;
/// 2023-03-01 00:00 and 2023-03-18 00:00.
const SPAN: std::ops::Range<i64> = 1_677_628_800_000..1_679_097_600_000;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

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
    let mut file = BufReader::new(File::open(path)?);
    let is_gzip = file.fill_buf()?.starts_with(&GZIP_MAGIC);
    let text: Box<dyn Read> =
        if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut candles = Vec::new();
    for record in csv::Reader::from_reader(text).into_records() {
        let record = record?;
        let number = |index: usize| -> Result<f64, Failure> {
            Ok(record.get(index).ok_or("row is too short")?.parse()?)
        };
        let candle = Candle {
            open_time_ms: record.get(0).ok_or("row is empty")?.parse()?,
            open: number(1)?,
            high: number(2)?,
            low: number(3)?,
            close: number(4)?,
            volume: number(5)?,
            trade_count: None,
        };
        candle.validate(Interval::MINUTE)?;
        if SPAN.contains(&candle.open_time_ms) {
            candles.push(candle);
        }
    }
    if !candles.is_sorted_by_key(|candle| candle.open_time_ms) {
        return Err(format!("{} is not in rising order", path.display()).into());
    }
    Ok(candles)
}

fn write(path: &Path, candles: &[(Candle, usize)]) -> Result<(), Failure> {
    let mut out = GzBuilder::new().mtime(0).write(File::create(path)?, Compression::best());
    writeln!(out, "open_time_ms,open,high,low,close,volume")?;
    for (candle, _) in candles {
        let Candle { open_time_ms, open, high, low, close, volume, .. } = candle;
        let volume: f64 = format!("{volume:.8}").parse()?;
        writeln!(out, "{open_time_ms},{open},{high},{low},{close},{volume}")?;
    }
    out.finish()?;
    Ok(())
}
