//! Merging a year of five-minute bars of five exchanges, beside the same in pandas.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use flate2::read::GzDecoder;
use forecastd_core::bars::{Bar, MergeRules, Merged, SourceId, merge_bars};
use forecastd_core::{Candle, Interval};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::Instant;

use crate::Programs;
use crate::network::Folder;
use crate::process::output_of;
use crate::report::{Better, Figure, Peer, quantile_ms};

const BENCH: &str = "aggregate";
const EXCHANGES: u16 = 5;
/// A year of five minutes.
const BARS: i64 = 365 * 288;
const RUNS: usize = 9;
type Field = fn(&Candle) -> f64;

/// Relative difference of sums that is rounding.
const TOLERANCE: f64 = 1e-9;

/// Measures and prints.
pub(crate) async fn run(programs: &Programs) -> anyhow::Result<()> {
    let recorded = recorded(&programs.repository.join("data/btcusd-5m.csv.gz"))?;
    let year = year(&recorded)?;
    let exchanges: Vec<(SourceId, Vec<Bar>)> =
        (0..EXCHANGES).map(|number| (SourceId(number), exchange(&year, number))).collect();
    let sources: Vec<(SourceId, &[Bar])> =
        exchanges.iter().map(|(source, bars)| (*source, bars.as_slice())).collect();
    let rules = MergeRules::default();
    let mut samples = Vec::with_capacity(RUNS);
    let mut merged = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        merged = merge_bars(&sources, Interval::FIVE_MINUTES, &rules)?;
        samples.push(begun.elapsed());
    }
    let folder = Folder::new(programs, "aggregate")?;
    for (SourceId(number), bars) in &exchanges {
        write(&folder.path().join(format!("{number}.csv")), bars)?;
    }
    let peer = match peer(programs, folder.path(), &merged).await {
        Ok((name, value)) => Peer::Measured { name, value },
        Err(error) => Peer::Missing(format!("{error:#}")),
    };
    let bars: usize = sources.iter().map(|(_, bars)| bars.len()).sum();
    let settled = merged.iter().filter(|step| step.settled().is_some()).count();
    Figure {
        bench: BENCH,
        metric: "merge a year of five exchanges p50",
        value: quantile_ms(&mut samples, 0.5),
        unit: "ms",
        better: Better::Less,
        peer,
        conditions: format!(
            "{bars} bars in memory to {settled} settled ones; mean open and close, highest high, lowest \
             low, summed volume, quorum 2, without closes 2 % away from the median; {RUNS} runs; bars \
             of one exchange, the sample's {} and then those of its beginning again, as five by small \
             shifts and holes",
            recorded.len()
        ),
    }
    .print()
}

fn recorded(path: &Path) -> anyhow::Result<Vec<Candle>> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut rows = csv::Reader::from_reader(GzDecoder::new(file));
    let rows = rows.deserialize::<(i64, f64, f64, f64, f64, f64)>();
    let candles = rows.map(|row| {
        let (open_time_ms, open, high, low, close, volume) = row?;
        Ok(Candle { open_time_ms, open, high, low, close, volume, trade_count: None })
    });
    candles.collect()
}

/// The recorded candles, and from their beginning again with later times, until a year is full.
fn year(recorded: &[Candle]) -> anyhow::Result<Vec<Candle>> {
    let first = recorded.first().context("the sample is empty")?;
    let step_ms = Interval::FIVE_MINUTES.as_ms();
    let times = (0..BARS).map(|index| first.open_time_ms + index * step_ms);
    let candles = recorded.iter().cycle().zip(times);
    Ok(candles.map(|(candle, open_time_ms)| Candle { open_time_ms, ..*candle }).collect())
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

fn write(path: &Path, bars: &[Bar]) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "open_time_ms,open,high,low,close,volume")?;
    for Bar { candle: Candle { open_time_ms, open, high, low, close, volume, .. }, .. } in bars {
        writeln!(file, "{open_time_ms},{open},{high},{low},{close},{volume}")?;
    }
    Ok(file.flush()?)
}

/// Runs pandas over the same bars; it is only believed when it makes the same of them.
async fn peer(
    programs: &Programs,
    folder: &Path,
    merged: &[Merged],
) -> anyhow::Result<(String, f64)> {
    let python = std::env::var("FORECASTD_PANDAS").context("no Python with pandas")?;
    let mut command = Command::new(python);
    command.arg(programs.repository.join("scripts/peers/aggregate.py")).arg(folder);
    let said = output_of(command).await?;
    let settled: Vec<Candle> = merged.iter().filter_map(Merged::settled).collect();
    let fields: [(&str, Field); 5] = [
        ("open", |candle| candle.open),
        ("high", |candle| candle.high),
        ("low", |candle| candle.low),
        ("close", |candle| candle.close),
        ("volume", |candle| candle.volume),
    ];
    for (name, field) in fields {
        let ours: f64 = settled.iter().map(field).sum();
        let theirs = number(&said, name)?;
        let is_same = (ours - theirs).abs() <= TOLERANCE * ours.abs();
        anyhow::ensure!(is_same, "the sums of {name} differ: {ours} and {theirs}");
    }
    let (ours, theirs) = (settled.len(), &said["count"]);
    anyhow::ensure!(*theirs == ours, "{ours} settled bars and {theirs}");
    let name = said["name"].as_str().context("the peer has no name")?.to_owned();
    Ok((name, number(&said, "p50_ms")?))
}

fn number(said: &Value, name: &str) -> anyhow::Result<f64> {
    said[name].as_f64().with_context(|| format!("the peer did not say {name}"))
}
