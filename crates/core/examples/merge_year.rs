//! Measures merging a year of five-minute bars of five exchanges; a part of `scripts/bench`.
//!
//! `merge_year SAMPLE.csv.gz FOLDER`: the bars are those of the sample, and from its beginning again
//! with later times until the year is full; five exchanges by small shifts of price and volume, holes
//! now and then, and one bar in a thousand far away. They are written to FOLDER, one CSV file an
//! exchange, for others to do the same. Prints one line of JSON: the median time, the number of merged
//! bars that are settled, and the sum of each of their columns.

#![expect(clippy::print_stdout, reason = "the figures are what the example is for")]
#![expect(clippy::disallowed_methods, reason = "a measurement wants real time")]

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use flate2::read::GzDecoder;
use forecastd_core::bars::{Bar, MergeRules, Merged, SourceId, merge_bars};
use forecastd_core::{Candle, Interval};
use serde_json::json;

const EXCHANGES: u16 = 5;
/// A year of five minutes.
const BARS: i64 = 365 * 288;
const RUNS: usize = 9;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(sample), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("which sample and folder?".into());
    };
    let recorded = recorded(&sample)?;
    let year = year(&recorded);
    let exchanges: Vec<(SourceId, Vec<Bar>)> =
        (0..EXCHANGES).map(|number| (SourceId(number), exchange(&year, number))).collect();
    let sources: Vec<(SourceId, &[Bar])> =
        exchanges.iter().map(|(source, bars)| (*source, bars.as_slice())).collect();
    for (SourceId(number), bars) in &exchanges {
        write(&Path::new(&folder).join(format!("{number}.csv")), bars)?;
    }
    let mut samples = Vec::with_capacity(RUNS);
    let mut merged = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        merged = merge_bars(&sources, Interval::FIVE_MINUTES, &MergeRules::default())?;
        samples.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    samples.sort_by(f64::total_cmp);
    let settled: Vec<Candle> = merged.iter().filter_map(Merged::settled).collect();
    let sum = |field: fn(&Candle) -> f64| settled.iter().map(field).sum::<f64>();
    println!(
        "{}",
        json!({
            "p50_ms": samples[RUNS / 2], "best_ms": samples[0],
            "recorded": recorded.len(),
            "bars": sources.iter().map(|(_, bars)| bars.len()).sum::<usize>(),
            "count": settled.len(),
            "open": sum(|candle| candle.open), "high": sum(|candle| candle.high),
            "low": sum(|candle| candle.low), "close": sum(|candle| candle.close),
            "volume": sum(|candle| candle.volume),
        })
    );
    Ok(())
}

fn recorded(path: &str) -> Result<Vec<Candle>, Failure> {
    let rows = BufReader::new(GzDecoder::new(File::open(path)?)).lines().skip(1);
    rows.map(|row| candle(&row?).ok_or_else(|| "a row is no candle".into())).collect()
}

fn candle(row: &str) -> Option<Candle> {
    let (open_time_ms, values) = row.split_once(',')?;
    let mut values = values.split(',').map(|text| text.parse().ok());
    let mut next = || values.next().flatten();
    Some(Candle {
        open_time_ms: open_time_ms.parse().ok()?,
        open: next()?,
        high: next()?,
        low: next()?,
        close: next()?,
        volume: next()?,
        trade_count: None,
    })
}

/// The recorded candles, and from their beginning again with later times, until a year is full.
fn year(recorded: &[Candle]) -> Vec<Candle> {
    let first_ms = recorded.first().map_or(0, |first| first.open_time_ms);
    let times = (0..BARS).map(|index| first_ms + index * Interval::FIVE_MINUTES.as_ms());
    let candles = recorded.iter().cycle().zip(times);
    candles.map(|(candle, open_time_ms)| Candle { open_time_ms, ..*candle }).collect()
}

/// Prices some hundredths of a percent away, another volume, and a hole now and then; one bar in a
/// thousand is far away.
fn exchange(year: &[Candle], number: u16) -> Vec<Bar> {
    let shift = 1.0 + f64::from(number) * 2e-4;
    let (every, at) = (301 + 2 * usize::from(number), usize::from(number) * 7);
    let far = move |index: usize| if number == 4 && index % 1000 == 500 { 1.05 } else { 1.0 };
    let rows = year.iter().enumerate().filter(|(index, _)| index % every != at);
    let bars = rows.map(|(index, candle)| {
        let factor = shift * far(index);
        Bar::backfilled(Candle {
            open: candle.open * factor,
            high: candle.high * factor,
            low: candle.low * factor,
            close: candle.close * factor,
            volume: candle.volume / f64::from(number + 1),
            ..*candle
        })
    });
    bars.collect()
}

fn write(path: &Path, bars: &[Bar]) -> Result<(), Failure> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "open_time_ms,open,high,low,close,volume")?;
    for Bar { candle: Candle { open_time_ms, open, high, low, close, volume, .. }, .. } in bars {
        writeln!(file, "{open_time_ms},{open},{high},{low},{close},{volume}")?;
    }
    Ok(file.flush()?)
}
