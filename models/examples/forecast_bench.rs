//! Times one forecast of a checkpoint and the memory that loading it takes.
//!
//! ```text
//! forecast_bench DATA.csv.gz CHECKPOINT_DIR
//! ```
//! Prints one JSON object a line: median, 95th and 99th percentile of 500 forecasts, time and growth
//! of the resident memory by loading the model, and growth by forecasting. `scripts/bench forecast`
//! reads them.
#![expect(clippy::print_stdout, reason = "an example that reports to its user")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures the real time of this machine"
)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use forecastd_core::{Interval, StreamId};
use forecastd_history::read_candles;
use forecastd_models::{ModelInput, ModelKind, ModelSpec, load};

const LOOKBACK: usize = 500;
const HORIZON: usize = 100;
const FORECASTS: usize = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let data = PathBuf::from(arguments.next().ok_or("name the CSV file")?);
    let checkpoint = PathBuf::from(arguments.next().ok_or("name the checkpoint directory")?);
    let interval = Interval::FIVE_MINUTES;
    let candles = read_candles(&data, interval)?;
    let window = candles.last_chunk::<LOOKBACK>().ok_or("the file has fewer than 500 candles")?;
    let input = ModelInput {
        stream: StreamId("BTCUSD-5m".into()),
        start_ms: window[LOOKBACK - 1].close_time_ms(interval),
        interval,
        horizon: HORIZON,
        candles: window.as_slice().into(),
        features: None,
    };
    let before_kib = resident_kib();
    let started = Instant::now();
    let spec =
        ModelSpec { name: "model".into(), kind: ModelKind::Burn, checkpoint: Some(checkpoint) };
    let mut model = load(&spec)?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let loaded_kib = resident_kib();
    let mut times_ms = Vec::with_capacity(FORECASTS);
    for _ in 0..FORECASTS {
        let started = Instant::now();
        model.forecast(&input)?;
        times_ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times_ms.sort_by(f64::total_cmp);
    let at = |share: usize| times_ms[(FORECASTS - 1) * share / 100];
    for share in [50, 95, 99] {
        println!(r#"{{"metric":"p{share}","value":{:.4},"unit":"ms"}}"#, at(share));
    }
    println!(r#"{{"metric":"model load","value":{load_ms:.2},"unit":"ms"}}"#);
    if let (Some(before), Some(loaded), Some(after)) = (before_kib, loaded_kib, resident_kib()) {
        let (load, run) = (loaded.saturating_sub(before), after.saturating_sub(loaded));
        println!(r#"{{"metric":"memory of the model","value":{load},"unit":"KiB"}}"#);
        println!(r#"{{"metric":"memory of forecasting","value":{run},"unit":"KiB"}}"#);
    }
    Ok(())
}

/// Returns the resident memory of this process, where the system tells.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
