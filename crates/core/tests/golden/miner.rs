//! Group `miner`.

use forecastd_core::commitment::commitment;
use forecastd_core::numeric::to_f32;
use forecastd_core::postprocess::{anchor_to_last, interpolate, sparse_indexes};
use forecastd_core::seed::SeedError;
use forecastd_core::seed::miner::{Prediction, get_predictions, interpolate_rows};
use forecastd_core::{FeatureId, Interval};
use indexmap::IndexMap;
use serde_json::Value;

use crate::features::{columns, scaler_kind};
use crate::support::{
    CaseResult, all_near, all_same, entries, equal, int, list, nums, outcome, singles, size, text,
};

pub fn run(file: &str, case: &Value) -> Option<CaseResult> {
    Some(match file {
        "get_predictions" => predictions(case),
        "predict_interpolation" => interpolation(case),
        "sparse_indexes" => sparse(case),
        _ => return None,
    })
}

fn sparse(case: &Value) -> CaseResult {
    let got = sparse_indexes(size(&case["inputs"]["length"]), size(&case["inputs"]["count"]));
    let Some(got) = outcome(case, got.map_err(|_| SeedError::Value))? else { return Ok(()) };
    equal("indexes", &got, &list(&case["output"]).iter().map(size).collect())
}

fn interpolation(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let outputs = singles(&inputs["network_output"]);
    let count = size(&inputs["prediction_count"]);
    let length = size(&inputs["prediction_length"]);
    let features = size(&inputs["prediction_features"]);
    let rows = if size(&inputs["input_rows"]) < size(&inputs["sample_count"]) {
        Err(SeedError::Value)
    } else {
        interpolate_rows(&outputs, count, length, features)
    };
    let Some(got) = outcome(case, rows)? else { return Ok(()) };
    let want = list(&case["output"]);
    equal("rows", &got.len(), &want.len())?;
    for (row, want) in got.iter().zip(want) {
        let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
        all_same("row", &row, &nums(want))?;
    }
    // Ours: the same for finite outputs of one feature, refused otherwise.
    if features == 1 {
        let doubles: Vec<f64> = outputs.iter().copied().map(f64::from).collect();
        let is_finite = doubles.iter().all(|value| value.is_finite());
        let ours = interpolate(&doubles, length);
        equal("our acceptance", &ours.is_ok(), &is_finite)?;
        for (value, row) in ours.unwrap_or_default().iter().zip(&got) {
            all_same("our value", &[f64::from(to_f32(*value))], &[f64::from(row[0])])?;
        }
    }
    Ok(())
}

fn predictions(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let kind = scaler_kind(&inputs["scaler"]);
    let outputs = singles(&inputs["network_output"]);
    let count = size(&inputs["prediction_count"]);
    let samples = columns(&inputs["samples"]);
    let is_single = text(&inputs["dtype"]) == "float32";
    let result = if is_single {
        let narrow: IndexMap<FeatureId, Vec<f32>> = samples
            .iter()
            .map(|(id, values)| (*id, values.iter().map(|value| to_f32(*value)).collect()))
            .collect();
        get_predictions(&narrow, kind, &outputs, count)
    } else {
        get_predictions(&samples, kind, &outputs, count)
    };
    let Some(Prediction { model_input, closes }) = outcome(case, result)? else { return Ok(()) };
    let want = &case["output"];
    for (row, want) in model_input.iter().zip(list(&want["model_input"])) {
        let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
        all_same("model input", &row, &nums(want))?;
    }
    equal("model input rows", &model_input.len(), &list(&want["model_input"]).len())?;
    let closes: Vec<f64> = closes.into_iter().map(f64::from).collect();
    let expected = nums(&want["predictions"]);
    let tolerance = if is_single { 0.05 } else { 1e-3 };
    all_near("close", &closes, &expected, 0.0, tolerance)?;
    // The hash is only the same for the same bits; of the recorded values it must be in any case.
    equal("hash", &commitment("hk", &expected), &text(&want["hash"]).to_owned())?;
    if closes == expected {
        equal("our hash", &commitment("hk", &closes), &text(&want["hash"]).to_owned())?;
    }
    let rows = entries(&inputs["samples"])[0].1;
    let interval = Interval::FIVE_MINUTES.as_ms();
    let asked_count = i64::try_from(list(rows).len()).unwrap();
    let asked = [int(&inputs["now_ms"]) - asked_count * interval, interval, asked_count];
    equal("asked", &asked.to_vec(), &list(&want["asked"]).iter().map(int).collect())?;
    ours(&samples, &outputs, &expected)
}

/// Our way in double precision lies within the tolerance when the outputs are finite and sparse.
fn ours(samples: &IndexMap<FeatureId, Vec<f64>>, outputs: &[f32], expected: &[f64]) -> CaseResult {
    let outputs: Vec<f64> = outputs.iter().copied().map(f64::from).collect();
    let group = [FeatureId::CLOSE, FeatureId::HIGH, FeatureId::LOW];
    let has_group = group.iter().all(|id| samples.contains_key(id));
    let is_grouped = samples.keys().any(|id| id.is_temporal());
    if outputs.len() < 2 || outputs.iter().any(|v| !v.is_finite()) || !has_group || !is_grouped {
        return Ok(());
    }
    let values = group.iter().flat_map(|id| &samples[id]);
    let least = values.clone().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.copied().fold(f64::NEG_INFINITY, f64::max);
    let half = (greatest - least) / 2.0;
    let last = samples[&FeatureId::CLOSE].last().copied().ok_or("no closes")?;
    let curve = interpolate(&outputs, 100).map_err(|error| error.to_string())?;
    let anchored = anchor_to_last(&curve, (last - least) / half - 1.0);
    let closes: Vec<f64> = anchored.iter().map(|value| (value + 1.0) * half + least).collect();
    all_near("our close", &closes, expected, 0.0, 0.1)
}
