//! Group `indicators`.

use forecastd_core::indicators;
use forecastd_core::seed::indicators as seed;
use serde_json::Value;

use crate::support::{CaseResult, all_near, equal, list, near, num, nums, outcome, size};

pub fn run(file: &str, case: &Value) -> Option<CaseResult> {
    Some(match file {
        "bollinger" => bollinger(case),
        "ema" => ema(case),
        "macd" => macd(case),
        "rsi" => rsi(case),
        _ => return None,
    })
}

/// Relative 1e-12, absolute 1e-9 near 0; the places without a value are the same.
fn optional_near(what: &str, got: &[Option<f64>], want: &Value) -> CaseResult {
    let want = list(want);
    equal(&format!("length of {what}"), &got.len(), &want.len())?;
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        match (got, want) {
            (None, Value::Null) => {}
            (Some(got), want) if !want.is_null() => {
                near(&format!("{what}[{index}]"), *got, num(want), 1e-12, 1e-9)?;
            }
            (got, want) => return Err(format!("{what}[{index}] is {got:?}, expected {want}")),
        }
    }
    Ok(())
}

fn rsi(case: &Value) -> CaseResult {
    let closes = nums(&case["inputs"]["closes"]);
    let period = size(&case["inputs"]["period"]);
    if let Some(got) = outcome(case, seed::rsi(&closes, period))? {
        optional_near("rsi", &got, &case["output"])?;
    }
    in_range(&indicators::rsi(&closes, period), closes.len(), 0.0, 100.0)
}

fn ema(case: &Value) -> CaseResult {
    let closes = nums(&case["inputs"]["closes"]);
    let length = size(&case["inputs"]["length"]);
    optional_near("ema", &seed::ema(&closes, length), &case["output"])?;
    let least = closes.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = closes.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    in_range(&indicators::ema(&closes, length), closes.len(), least, greatest)
}

fn macd(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let closes = nums(&inputs["closes"]);
    let [short, long, signal] = ["short", "long", "signal"].map(|key| size(&inputs[key]));
    let (line, signal_line) = seed::macd(&closes, short, long, signal);
    all_near("macd", &line, &nums(&case["output"][0]), 1e-12, 1e-9)?;
    all_near("signal", &signal_line, &nums(&case["output"][1]), 1e-12, 1e-9)?;
    let ours = indicators::macd(&closes, short, long, signal);
    equal("length of our macd", &ours.line.len(), &closes.len())?;
    // Both begin differently and agree ever better.
    if let (Some(Some(ours)), Some(recorded)) = (ours.line.last(), line.last())
        && closes.len() > 10 * long
    {
        near("our macd at the end", *ours, *recorded, 1e-3, 1e-3)?;
    }
    Ok(())
}

fn bollinger(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let closes = nums(&inputs["closes"]);
    let window = size(&inputs["window"]);
    let deviations = num(&inputs["num_std_dev"]);
    let got = seed::bollinger(&closes, window, deviations);
    let is_jump = case["kind"] == "large_jump";
    for (name, (got, want)) in
        ["middle", "upper", "lower"].iter().zip(got.iter().zip(list(&case["output"])))
    {
        let want = nums(want);
        // The recorded deviation still carries the rounding of the values before the jump.
        let compared = if is_jump { want.len() - window + 1 } else { want.len() };
        all_near(name, &got[..compared], &want[..compared], 1e-9, 0.0)?;
        equal(&format!("length of {name}"), &got.len(), &want.len())?;
    }
    if is_jump {
        let sample = closes[closes.len() - window..].to_vec();
        let mean = sample.iter().sum::<f64>() / window as f64;
        let squares: f64 = sample.iter().map(|value| (value - mean).powi(2)).sum();
        let exact = mean + deviations * (squares / (window as f64 - 1.0)).sqrt();
        near("upper band after the jump", got[1][closes.len() - 1], exact, 1e-9, 0.0)?;
        near("middle after the jump", got[0][closes.len() - 1], mean, 1e-9, 0.0)?;
    }
    let ours = indicators::bollinger(&closes, window, deviations);
    let bands = ours.upper.iter().zip(&ours.lower);
    let is_ordered = bands.filter_map(|(up, low)| Some((*up)? >= (*low)?)).all(|ordered| ordered);
    equal("our upper band is above the lower", &is_ordered, &true)
}

fn in_range(values: &[Option<f64>], length: usize, least: f64, greatest: f64) -> CaseResult {
    equal("length of ours", &values.len(), &length)?;
    let room = greatest.abs() * 1e-12;
    let is_inside = values.iter().flatten().all(|v| (least - room..=greatest + room).contains(v));
    equal("our values are in range", &is_inside, &true)
}
