//! Group `features`, without the candle sources.

use std::io::Read as _;

use forecastd_core::features::binary_file::FeatureFile;
use forecastd_core::features::temporal::temporal_value;
use forecastd_core::features::{Aggregation, aggregate};
use forecastd_core::numeric::to_f32;
use forecastd_core::seed::SeedError;
use forecastd_core::seed::aggregator::{Samples, aggregate_sources};
use forecastd_core::seed::collector::Collector;
use forecastd_core::seed::scaler::{ScalerKind, SeedScaler};
use forecastd_core::seed::temporal::temporal_samples;
use forecastd_core::{
    Compatibility, FeatureId, FeatureSpec, Interval, Scaler, ScalerPlan, StreamId, Window,
};
use indexmap::IndexMap;
use serde_json::Value;

use crate::support::{
    CaseResult, all_near, all_same, entries, equal, int, is_near, list, num, nums, outcome, root,
    same, singles, size, text,
};

pub fn run(file: &str, case: &Value) -> Option<CaseResult> {
    Some(match file {
        "aggregator" => aggregator(case),
        "binary_file" => binary_file(case),
        "collector" => collector(case),
        "klines_binance" | "klines_bybit" | "klines_coinbase" | "klines_kraken" => {
            crate::klines::one_source(file.trim_start_matches("klines_"), case)
        }
        "klines_pagination" => crate::klines::pagination(case),
        "scaler" => scaler(case),
        "temporal" => temporal(case),
        _ => return None,
    })
}

pub fn feature(name: &str) -> FeatureId {
    FeatureId(name.parse().unwrap_or_else(|_| panic!("`{name}` is not a feature")))
}

/// An object of lists by feature.
pub fn columns(value: &Value) -> IndexMap<FeatureId, Vec<f64>> {
    entries(value).into_iter().map(|(name, values)| (feature(name), nums(values))).collect()
}

fn single_columns(value: &Value) -> IndexMap<FeatureId, Vec<f32>> {
    entries(value).into_iter().map(|(name, values)| (feature(name), singles(values))).collect()
}

pub fn columns_near(
    what: &str,
    got: &IndexMap<FeatureId, Vec<f64>>,
    want: &Value,
    relative: f64,
    absolute: f64,
) -> CaseResult {
    let want = columns(want);
    equal(&format!("columns of {what}"), &got.len(), &want.len())?;
    for (feature, values) in &want {
        let column = got.get(feature).ok_or_else(|| format!("{what} has no {feature}"))?;
        all_near(&format!("{what} {feature}"), column, values, relative, absolute)?;
    }
    Ok(())
}

fn aggregator(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let rules: IndexMap<FeatureId, Aggregation> = entries(&inputs["aggregation"])
        .into_iter()
        .map(|(name, rule)| {
            let rule = match text(rule) {
                "fmean" => Aggregation::Mean,
                "max" => Aggregation::Max,
                "min" => Aggregation::Min,
                "sum" => Aggregation::Sum,
                other => panic!("unknown rule {other}"),
            };
            (feature(name), rule)
        })
        .collect();
    let rule_of = |id: FeatureId| rules.get(&id).copied().unwrap_or(Aggregation::Mean);
    let timeout = inputs["timeout_s"].as_f64().unwrap_or(f64::INFINITY);
    let mut wanted: Vec<FeatureId> = Vec::new();
    let mut sources: Vec<Samples> = Vec::new();
    for source in list(&inputs["sources"]) {
        let values = columns(&source["values"]);
        wanted.extend(values.keys());
        if !source["fails"].as_bool().unwrap() && num(&source["delay_s"]) <= timeout {
            sources.push(values);
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    let is_narrow = text(&inputs["dtype"]) == "float32";
    let count = size(&inputs["count"]);
    let merged = aggregate_sources(&sources, &wanted, &rule_of, count, is_narrow);
    let Some(got) = outcome(case, merged)? else { return Ok(()) };
    for (id, values) in &got {
        let want = nums(&case["output"][id.0.to_string()]);
        // The order of arrival decides a sum in its last single-precision digit.
        let relative = if rule_of(*id) == Aggregation::Sum { f64::from(f32::EPSILON) } else { 0.0 };
        all_near(&format!("{id}"), values, &want, relative, 0.0)?;
        // Ours gives the same at every step that all sources have.
        let parts: Vec<&Vec<f64>> = sources.iter().filter_map(|source| source.get(id)).collect();
        for (index, want) in want.iter().enumerate() {
            let row: Vec<f64> = parts.iter().map(|part| part[index]).collect();
            let ours = aggregate(&row, rule_of(*id)).ok_or("refused by our rule")?;
            let ours = if is_narrow { f64::from(to_f32(ours)) } else { ours };
            equal("our value", &is_near(ours, *want, f64::from(f32::EPSILON), 0.0), &true)?;
        }
    }
    equal("features", &got.len(), &entries(&case["output"]).len())
}

fn binary_file(case: &Value) -> CaseResult {
    let path = root().join("features").join(text(&case["file"]));
    let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let plain = if case["compressed"].is_null() {
        bytes
    } else {
        let mut plain = Vec::new();
        let mut reader = bzip2::read::MultiBzDecoder::new(&bytes[..]);
        reader.read_to_end(&mut plain).map_err(|error| error.to_string())?;
        plain
    };
    equal("plain size", &plain.len(), &size(&case["plain_size"]))?;
    let file = FeatureFile::decode(&plain).map_err(|error| error.to_string())?;
    equal("bytes written again", &(file.encode() == plain), &true)?;
    equal("header", &hex::encode(file.header()), &text(&case["header_hex"]).to_owned())?;
    equal("row size", &file.row_size(), &size(&case["row_size"]))?;
    equal("rows", &file.len(), &size(&case["sample_count"]))?;
    equal("start", &file.start_ms(), &int(&case["start_ms"]))?;
    equal("interval", &file.interval().as_ms(), &int(&case["interval_ms"]))?;
    let header = plain.len() - file.len() * file.row_size();
    let first_row = hex::encode(&plain[header..header + file.row_size()]);
    equal("first row", &first_row, &text(&case["first_row_hex"]).to_owned())?;
    let ids: Vec<u32> = file.columns().iter().map(|(id, _)| id.0).collect();
    let want_ids: Vec<u32> = list(&case["features"])
        .iter()
        .map(|column| u32::try_from(int(&column[0])).unwrap())
        .collect();
    equal("columns", &ids, &want_ids)?;

    let read = |start_ms: i64, interval_ms: i64, count: usize| {
        let interval = Interval::from_ms(interval_ms).map_err(|error| error.to_string())?;
        let rows = file.read(start_ms, interval, count, Compatibility::Seed);
        let rows = rows.map_err(|error| error.to_string())?;
        Ok::<_, String>(rows.into_iter().collect::<IndexMap<_, _>>())
    };
    let interval_ms = int(&case["interval_ms"]);
    for call in list(&case["read"]) {
        let got = read(int(&call["start_ms"]), interval_ms, size(&call["count"]))?;
        columns_near("read", &got, &call["values"], 0.0, 0.0)?;
    }
    let unaligned = &case["unaligned_read"];
    let got = read(int(&unaligned["start_ms"]), interval_ms, 1)?;
    columns_near("unaligned read", &got, &unaligned["values"], 0.0, 0.0)?;
    let refused =
        file.read(int(&unaligned["start_ms"]), file.interval(), 1, Compatibility::Standard);
    equal("our unaligned read", &refused.is_err(), &true)?;
    for call in list(&case["errors"]) {
        let result = read(int(&call[0]), int(&call[1]), size(&call[2]));
        equal(&format!("failure of {call}"), &result.is_err(), &true)?;
    }
    Ok(())
}

fn collector(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let ids: Vec<FeatureId> = list(&inputs["features"])
        .iter()
        .map(|id| FeatureId(u32::try_from(int(id)).unwrap()))
        .collect();
    let mut collector = Collector::new(inputs["cache"].as_bool().unwrap());
    for (call, want) in list(&inputs["calls"]).iter().zip(list(&case["output"])) {
        let mut asked = Vec::new();
        let mut ask = |start_ms: i64, interval_ms: i64, count: i64| {
            asked.push((start_ms, interval_ms, count));
            let times = (0..count).map(|index| start_ms + index * interval_ms);
            let value = |at_ms: i64, position: usize| {
                let exact = at_ms.rem_euclid(900_000) as f64 + 1000.0 * position as f64;
                f64::from(to_f32(exact))
            };
            let column = |position| times.clone().map(|at_ms| value(at_ms, position)).collect();
            Ok(ids.iter().enumerate().map(|(position, id)| (*id, column(position))).collect())
        };
        let got = collector.collect(int(&call[0]), int(&call[1]), int(&call[2]), &mut ask);
        let got = outcome(want, got)?;
        let want_asked: Vec<(i64, i64, i64)> =
            want["asked"].as_array().map_or(Vec::new(), |list| {
                list.iter().map(|query| (int(&query[0]), int(&query[1]), int(&query[2]))).collect()
            });
        equal("asked", &asked, &want_asked)?;
        if let Some(got) = got {
            columns_near("collected", &got.samples, &want["values"], 0.0, 0.0)?;
            equal("assembled", &got.is_assembled, &(text(&want["dtype"]) == "float64"))?;
        }
    }
    Ok(())
}

pub fn scaler_kind(value: &Value) -> ScalerKind {
    match text(value) {
        "model" => ScalerKind::Model,
        "legacy" => ScalerKind::Legacy,
        other => panic!("unknown scaler {other}"),
    }
}

fn scaler(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let kind = scaler_kind(&inputs["scaler"]);
    let is_single = text(&inputs["dtype"]) == "float32";
    let result = if is_single { scale_singles(inputs, kind) } else { scale_doubles(inputs, kind) };
    let Some(got) = outcome(case, result)? else { return Ok(()) };
    let want = &case["output"];
    // Single precision is the same to the last bit in the same order of operations.
    let tolerance = if is_single { 0.0 } else { 1e-12 };
    columns_near("scaled", &got.scaled, &want["scaled"], tolerance, 0.0)?;
    if let Some((least, greatest)) = got.range.filter(|_| want.get("group_min").is_some()) {
        same("group_min", least, num(&want["group_min"]))?;
        same("group_max", greatest, num(&want["group_max"]))?;
    }
    if !want["unscaled"].is_null() {
        columns_near("unscaled", &got.unscaled, &want["unscaled"], tolerance, 0.0)?;
    }
    our_scaler(inputs, want, kind)
}

#[derive(Debug)]
struct ScalerResult {
    scaled: IndexMap<FeatureId, Vec<f64>>,
    unscaled: IndexMap<FeatureId, Vec<f64>>,
    range: Option<(f64, f64)>,
}

fn scale_doubles(inputs: &Value, kind: ScalerKind) -> Result<ScalerResult, SeedError> {
    let samples = columns(&inputs["samples"]);
    let scaler = SeedScaler::fit(&samples, kind)?;
    let mut result = ScalerResult {
        scaled: IndexMap::new(),
        unscaled: IndexMap::new(),
        range: scaler.group_range(),
    };
    for (id, values) in &samples {
        result.scaled.insert(*id, scaler.scale(*id, values)?);
    }
    if !inputs["unscale"].is_null() {
        for (id, values) in columns(&inputs["unscale"]) {
            result.unscaled.insert(id, scaler.unscale(id, &values)?);
        }
    }
    Ok(result)
}

fn scale_singles(inputs: &Value, kind: ScalerKind) -> Result<ScalerResult, SeedError> {
    let samples = single_columns(&inputs["samples"]);
    let scaler = SeedScaler::fit(&samples, kind)?;
    let widen = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let range = scaler.group_range().map(|(low, high)| (f64::from(low), f64::from(high)));
    let mut result = ScalerResult { scaled: IndexMap::new(), unscaled: IndexMap::new(), range };
    for (id, values) in &samples {
        result.scaled.insert(*id, widen(scaler.scale(*id, values)?));
    }
    if !inputs["unscale"].is_null() {
        for (id, values) in single_columns(&inputs["unscale"]) {
            result.unscaled.insert(id, widen(scaler.unscale(id, &values)?));
        }
    }
    Ok(result)
}

/// Our scaler in double precision is within the tolerance that single precision leaves.
fn our_scaler(inputs: &Value, want: &Value, kind: ScalerKind) -> CaseResult {
    let samples = columns(&inputs["samples"]);
    let count = samples.values().map(Vec::len).min().unwrap_or(0);
    let rows = (0..count).flat_map(|row| samples.values().map(move |column| column[row])).collect();
    let window = Window {
        stream: StreamId("s".to_owned()),
        end_ms: 0,
        interval: Interval::FIVE_MINUTES,
        features: samples.keys().copied().map(FeatureSpec::Plain).collect(),
        indicators: Compatibility::Standard,
        rows,
        filled: 0,
        missing: Vec::new(),
    };
    let plan = match kind {
        ScalerKind::Model => ScalerPlan::default(),
        ScalerKind::Legacy => ScalerPlan::separate(),
    };
    let scaler = Scaler::fit(&window, &plan).map_err(|error| error.to_string())?;
    let scaled = Window { rows: scaler.scale(&window).map_err(|e| e.to_string())?, ..window };
    for (name, values) in entries(&want["scaled"]) {
        let ours = scaled.column(&feature(name).into()).ok_or("column is missing")?;
        all_near("our scaled", &ours, &nums(values), 0.0, 2e-4)?;
    }
    if want["unscaled"].is_null() {
        return Ok(());
    }
    for (name, values) in entries(&inputs["unscale"]) {
        let ours =
            scaler.unscale(&feature(name).into(), &nums(values)).map_err(|e| e.to_string())?;
        all_near("our unscaled", &ours, &nums(&want["unscaled"][name]), 0.0, 0.1)?;
    }
    Ok(())
}

fn temporal(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let count = size(&inputs["count"]);
    let is_single = text(&inputs["dtype"]) == "float32";
    let (start_ms, interval_ms) = (int(&inputs["start_ms"]), int(&inputs["interval_ms"]));
    let ids: Vec<FeatureId> = list(&inputs["features"])
        .iter()
        .map(|id| FeatureId(u32::try_from(int(id)).unwrap()))
        .collect();
    let mut got = IndexMap::new();
    let mut failed = if count == 0 { Some(SeedError::Value) } else { None };
    for id in &ids {
        match temporal_samples(*id, start_ms, interval_ms, count) {
            Ok(values) => {
                let width = |value: f64| if is_single { f64::from(to_f32(value)) } else { value };
                got.insert(*id, values.into_iter().map(width).collect::<Vec<f64>>());
            }
            Err(error) => failed = Some(error),
        }
    }
    let result = failed.map_or(Ok(got), Err);
    let Some(got) = outcome(case, result)? else { return Ok(()) };
    columns_near("temporal", &got, &case["output"], 0.0, 0.0)?;
    if interval_ms > 0 && !is_single {
        for (id, values) in &got {
            let times = (0_i64..).map(|index| start_ms + index * interval_ms);
            let ours: Option<Vec<f64>> =
                times.take(values.len()).map(|at_ms| temporal_value(*id, at_ms)).collect();
            all_same("our value", &ours.ok_or("no value")?, values)?;
        }
    }
    Ok(())
}
