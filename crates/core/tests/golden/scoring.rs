//! Group `scoring`.

use forecastd_core::ema::{EmaEntry, EmaState, basic_ema};
use forecastd_core::scoring::{self, Volatility, percentile, tables};
use forecastd_core::seed::SeedError;
use forecastd_core::seed::scoring as seed;
use forecastd_core::seed::scoring::NumberKind;
use forecastd_core::{Hotkey, ScoreError, ScoringConfig};
use serde_json::Value;

use crate::support::{
    CaseResult, all_same, entries, equal, int, is_near, key, list, near, num, numbers_by_key, nums,
    outcome, pairs, same, singles, table_near, text,
};

pub fn run(file: &str, case: &Value) -> Option<CaseResult> {
    Some(match file {
        "basic_ema" => ema(case),
        "directional_accuracy" => directional_accuracy(case),
        "geometric_mean_of_percentile" => geometric_mean(case),
        "get_percentile" => get_percentile(case),
        "scale_scores" => scale_scores(case),
        "score_response" => score_response(case),
        "simple_scale_scores" => simple_scale_scores(case),
        "tables" => constants(case),
        "update_weights_sequences" => update_weights(case),
        "weigh_miner_scores" => weigh_miner_scores(case),
        "weighted_rmse" => weighted_rmse(case),
        _ => return None,
    })
}

/// `percentiles.json` at the root holds the same tables with a few checks.
pub fn percentiles(document: &Value) {
    let tables = [
        ("min_max", "min_max_ranges", tables::MIN_MAX_RATIOS),
        ("std_dev", "std_dev_ranges", tables::STANDARD_DEVIATIONS_USD),
    ];
    for (short, long, table) in tables {
        all_same(long, &table, &nums(&document[long])).unwrap();
        let checks = list(&document["lookup_checks"][short]);
        assert!(!checks.is_empty());
        for check in checks {
            same(short, percentile(&table, num(&check[0])), num(&check[1])).unwrap();
        }
    }
}

fn ema(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let length = inputs.get("length").map_or(48, int);
    // A length of -1 divides by zero there; here the type has no such length.
    let length = u32::try_from(length).map_err(|_| SeedError::ZeroDivision);
    let Some(length) = outcome(case, length)? else { return Ok(()) };
    let got = basic_ema(num(&inputs["current_value"]), num(&inputs["previous_ema"]), length);
    same("ema", got, num(&case["output"]))
}

fn directional_accuracy(case: &Value) -> CaseResult {
    let forecast = nums(&case["inputs"]["predictions"]);
    let realised = nums(&case["inputs"]["actual"]);
    let Some(got) = outcome(case, seed::directional_accuracy(&forecast, &realised))? else {
        return Ok(());
    };
    same("accuracy", got, num(&case["output"]))?;
    if forecast.len() == realised.len() && forecast.iter().chain(&realised).all(|v| v.is_finite()) {
        let ours =
            scoring::directional_accuracy(&forecast, &realised).map_err(|e| e.to_string())?;
        same("our accuracy", ours, got)?;
    }
    Ok(())
}

fn geometric_mean(case: &Value) -> CaseResult {
    let closes = &case["inputs"]["ds"];
    let is_single = text(&case["inputs"]["dtype"]) == "float32";
    let measured = if is_single {
        seed::volatility_of_singles(&singles(closes))
    } else {
        seed::volatility_of_doubles(&nums(closes))
    };
    let measured = if list(closes).is_empty() { Err(SeedError::Value) } else { Ok(measured) };
    let Some(got) = outcome(case, measured)? else { return Ok(()) };
    let want = &case["output"];
    same("ratio", got.ratio, num(&want["min_max_ratio"]))?;
    let tolerance = if is_single { 1e-6 } else { 1e-12 };
    near("deviation", got.deviation_usd, num(&want["std_dev"]), tolerance, 0.0)?;
    same("ratio percentile", got.ratio_percentile, num(&want["min_max_percentile"]))?;
    same("deviation percentile", got.deviation_percentile, num(&want["std_dev_percentile"]))?;
    same("importance", got.importance(), num(&want["value"]))?;
    // Ours: the same number for prices, an error for what is no price.
    let doubles = nums(closes);
    let ours = scoring::volatility(&doubles);
    let are_prices = doubles.iter().all(|close| close.is_finite() && *close > 0.0);
    equal("our acceptance", &ours.is_ok(), &are_prices)?;
    match ours {
        Ok(Volatility { deviation_usd, .. }) if !is_single => {
            same("our deviation", deviation_usd, got.deviation_usd)
        }
        _ => Ok(()),
    }
}

fn get_percentile(case: &Value) -> CaseResult {
    let table = match text(&case["inputs"]["table"]) {
        "min_max" => tables::MIN_MAX_RATIOS,
        "std_dev" => tables::STANDARD_DEVIATIONS_USD,
        other => return Err(format!("unknown table {other}")),
    };
    same("percentile", percentile(&table, num(&case["inputs"]["value"])), num(&case["output"]))
}

fn constants(document: &Value) -> CaseResult {
    all_same("min_max", &tables::MIN_MAX_RATIOS, &nums(&document["min_max"]))?;
    all_same("std_dev", &tables::STANDARD_DEVIATIONS_USD, &nums(&document["std_dev"]))?;
    same("rmse_weight", scoring::STEP_WEIGHT_DECAY, num(&document["rmse_weight"]))?;
    let length = i64::from(ScoringConfig::default().ema_length);
    equal("ema_length", &length, &int(&document["ema_length"]))
}

fn scored(case: &Value) -> (Vec<String>, Vec<f64>) {
    numbers_by_key(&case["inputs"]["scores"]).into_iter().unzip()
}

fn number_kind(case: &Value) -> NumberKind {
    match text(&case["inputs"]["number_kind"]) {
        "numpy_float64" => NumberKind::Array,
        "python_float" => NumberKind::Plain,
        other => panic!("unknown kind of number {other}"),
    }
}

fn scale_scores(case: &Value) -> CaseResult {
    let (names, scores) = scored(case);
    let Some(got) = outcome(case, seed::scale_scores(&scores))? else { return Ok(()) };
    let got: Vec<(String, f64)> = names.into_iter().zip(got).collect();
    table_near("scaled", &got, &numbers_by_key(&case["output"]), 1e-12)
}

fn simple_scale_scores(case: &Value) -> CaseResult {
    let (names, scores) = scored(case);
    let scaled = seed::simple_scale_scores(&scores, number_kind(case));
    let Some(got) = outcome(case, scaled)? else { return Ok(()) };
    let got: Vec<(String, f64)> = names.into_iter().zip(got).collect();
    table_near("scaled", &got, &numbers_by_key(&case["output"]), 0.0)
}

fn weigh_miner_scores(case: &Value) -> CaseResult {
    let (names, scores): (Vec<String>, Vec<f64>) =
        pairs(&case["inputs"]["scores"]).into_iter().unzip();
    let weighed = seed::weigh_miner_scores(&scores, number_kind(case));
    let Some(got) = outcome(case, weighed)? else { return Ok(()) };
    let got: Vec<(String, f64)> = names.into_iter().zip(got).collect();
    table_near("weight", &got, &pairs(&case["output"]), 0.0)
}

fn score_response(case: &Value) -> CaseResult {
    let forecast = nums(&case["inputs"]["predictions"]);
    let realised = nums(&case["inputs"]["actual"]);
    let Some(got) = outcome(case, seed::score_response(&forecast, &realised))? else {
        return Ok(());
    };
    near("score", got, num(&case["output"]), 1e-12, 0.0)
}

fn weighted_rmse(case: &Value) -> CaseResult {
    let forecast = nums(&case["inputs"]["predictions"]);
    let realised = nums(&case["inputs"]["actual"]);
    let got = seed::weighted_rmse(&forecast, &realised).map_err(|_| SeedError::Value);
    if let Some(got) = outcome(case, got)? {
        near("rmse", got, num(&case["output"]), 1e-12, 0.0)?;
    }
    // Ours: the same number whenever the lengths fit and everything is finite, else an error.
    let is_sound = forecast.len() == realised.len() && !realised.is_empty();
    let is_finite = forecast.iter().chain(&realised).all(|value| value.is_finite());
    match scoring::weighted_rmse(&forecast, &realised) {
        Ok(ours) => {
            equal("acceptance", &(is_sound && is_finite), &true)?;
            near("our rmse", ours, num(&case["output"]), 1e-12, 0.0)
        }
        Err(ScoreError::Overflow) => equal("overflow", &num(&case["output"]).is_finite(), &false),
        Err(_) => equal("refusal", &(is_sound && is_finite), &false),
    }
}

fn update_weights(case: &Value) -> CaseResult {
    let mut names: Vec<String> = Vec::new();
    let mut state = EmaState::default();
    let initial = &case["inputs"]["initial_weights"];
    if !initial.is_null() {
        for (name, value) in numbers_by_key(initial) {
            state.0.insert(key(&name), entry(value));
            names.push(name);
        }
    }
    let steps = list(&case["inputs"]["steps"]);
    equal("steps", &list(&case["output"]).len(), &steps.len())?;
    for (step, want) in steps.iter().zip(list(&case["output"])) {
        let failed = match text(&step["op"]) {
            "remove" => {
                for name in list(&step["hotkeys"]) {
                    state.0.shift_remove(&key(text(name)));
                }
                None
            }
            "update" => update(step, want, &mut state, &mut names)?,
            other => return Err(format!("unknown operation {other}")),
        };
        equal("error", &failed, &want.get("error").map(text))?;
        let stored = |hotkey: &Hotkey| {
            names.iter().find(|name| key(name) == *hotkey).cloned().unwrap_or_default()
        };
        let got: Vec<(String, f64)> =
            state.0.iter().map(|(hotkey, entry)| (stored(hotkey), entry.value)).collect();
        table_near("average", &got, &numbers_by_key(&want["weights"]), 1e-12)?;
    }
    Ok(())
}

fn update(
    step: &Value,
    want: &Value,
    state: &mut EmaState,
    names: &mut Vec<String>,
) -> Result<Option<&'static str>, String> {
    let scores = pairs(&step["scores"]);
    let importance = match text(&step["ds_dtype"]) {
        "float32" => seed::volatility_of_singles(&singles(&step["ds"])).importance(),
        "float64" => seed::volatility_of_doubles(&nums(&step["ds"])).importance(),
        other => return Err(format!("unknown width {other}")),
    };
    if let Some(expected) = want.get("geometric_mean").filter(|value| !value.is_null()) {
        same("importance", importance, num(expected))?;
    }
    let shares: Vec<(Hotkey, f64)> =
        scores.iter().map(|(name, share)| (key(name), *share)).collect();
    names.extend(scores.into_iter().map(|(name, _)| name));
    let folded = state.fold(&shares, importance, &|_| 0, &ScoringConfig::seed());
    Ok(folded.err().map(|_| "ValueError"))
}

fn entry(value: f64) -> EmaEntry {
    EmaEntry { value, rounds: 0, registered_at_block: 0 }
}

/// Finds the recorded name of a hotkey.
pub fn name_of<'a>(hotkey: &Hotkey, names: impl IntoIterator<Item = &'a str>) -> &'a str {
    names.into_iter().find(|name| key(name) == *hotkey).unwrap_or("?")
}

/// Reads stored averages; `null` is an empty store.
pub fn stored(value: &Value) -> EmaState {
    if value.is_null() {
        return EmaState::default();
    }
    EmaState(entries(value).into_iter().map(|(name, ema)| (key(name), entry(num(ema)))).collect())
}

/// Tells whether two tables hold the same keys in the same order with values that are near.
pub fn averages_near(
    what: &str,
    state: &EmaState,
    want: &Value,
    names: &[&str],
    relative: f64,
) -> CaseResult {
    let got: Vec<(String, f64)> = state
        .0
        .iter()
        .map(|(hotkey, entry)| (name_of(hotkey, names.iter().copied()).to_owned(), entry.value))
        .collect();
    let want = numbers_by_key(want);
    for ((name, value), (want_name, want_value)) in got.iter().zip(&want) {
        equal(&format!("order of {what}"), name, want_name)?;
        if !is_near(*value, *want_value, relative, 0.0) {
            return Err(format!("{what} of {name} is {value:?}, expected {want_value:?}"));
        }
    }
    equal(&format!("length of {what}"), &got.len(), &want.len())
}
