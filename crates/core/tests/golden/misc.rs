//! Group `misc` and `prediction_hash.json`.

use forecastd_core::commitment::{commitment, commitment_of_integers, python_float, python_list};
use forecastd_core::rounds::{QueryKind, QueryWindows};
use forecastd_core::seed::records::{
    LatestForecast, MinerRecord, Record, StreamRecord, latest_forecasts, summarise,
};
use forecastd_core::seed::{scaling, time};
use serde_json::{Value, json};

use crate::support::{
    CaseResult, all_near, equal, int, is_same, list, num, nums, outcome, size, text,
};

pub fn run(file: &str, case: &Value) -> Option<CaseResult> {
    Some(match file {
        "cmw_dump" => cmw_dump(case),
        "float_text" => {
            let got = python_float(num(&case["inputs"]["value"]));
            equal("text", &got, &text(&case["output"]).to_owned())
        }
        "hash_predictions" => hash_predictions(case),
        "request_outputs" => request_outputs(case),
        "request_windows" => request_windows(case),
        "scaling" => scale(case),
        "time_functions" => time_function(case),
        _ => return None,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the type of a runner")]
pub fn prediction_hash(_: &str, case: &Value) -> Option<CaseResult> {
    let bits = |value: &Value| f64::from_bits(u64::from_str_radix(text(value), 16).unwrap());
    let values: Vec<f64> = list(&case["f64_be_hex"]).iter().map(bits).collect();
    let check = || {
        equal("count", &values.len(), &size(&case["count"]))?;
        equal("list text", &python_list(&values), &text(&case["list_text"]).to_owned())?;
        let got = commitment(text(&case["hotkey_ss58"]), &values);
        equal("hash", &got, &text(&case["sha256_hex"]).to_owned())
    };
    Some(check())
}

fn hash_predictions(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let hotkey = text(&inputs["hotkey"]);
    let got = if inputs["integers"].as_bool() == Some(true) {
        let values: Vec<i64> = list(&inputs["values"]).iter().map(int).collect();
        commitment_of_integers(hotkey, &values)
    } else {
        let values = nums(&inputs["values"]);
        equal("text", &python_list(&values), &text(&inputs["text"]).to_owned())?;
        commitment(hotkey, &values)
    };
    equal("hash", &got, &text(&case["output"]).to_owned())
}

fn timed(value: &Value) -> Vec<(i64, f64)> {
    list(value).iter().map(|pair| (int(&pair[0]), num(&pair[1]))).collect()
}

fn cmw_dump(case: &Value) -> CaseResult {
    let mut record = Record::default();
    for build in list(&case["inputs"]["build"]) {
        let miner = |miner: &Value| MinerRecord {
            miner_id: text(&miner["id"]).to_owned(),
            wins: miner["wins"].as_u64().unwrap(),
            win_value: miner["win_value"].as_u64().unwrap(),
            unscaled_scores: timed(&miner["unscaled_scores"]),
            win_scores: timed(&miner["win_scores"]),
        };
        let stream = StreamRecord {
            stream_id: text(&build["stream_id"]).to_owned(),
            topic_id: int(&build["topic_id"]),
            request_uuid: build["request_uuid"].as_str().map(ToOwned::to_owned),
            miners: list(&build["miners"]).iter().map(miner).collect(),
        };
        record.push(text(&build["client_uuid"]), stream);
    }
    // Compared as text, so that the order of the keys counts.
    let written = serde_json::to_string(&record).unwrap();
    equal("dump", &written, &case["output"]["dump"].to_string())?;
    let loaded: Record = serde_json::from_str(&written).unwrap();
    let loaded = serde_json::to_string(&loaded.after_load()).unwrap();
    equal("after load", &loaded, &case["output"]["after_load"].to_string())
}

fn request_outputs(case: &Value) -> CaseResult {
    let records: Vec<Record> = list(&case["inputs"]["records"])
        .iter()
        .map(|record| {
            let at_ms = int(&record["time"]);
            let miner = |miner: &Value| MinerRecord {
                miner_id: text(&miner["id"]).to_owned(),
                wins: 0,
                win_value: 0,
                unscaled_scores: vec![(at_ms, num(&miner["rmse"]))],
                win_scores: miner["win"].as_f64().map(|win| (at_ms, win)).into_iter().collect(),
            };
            let stream = StreamRecord {
                stream_id: "BTCUSD-5m".to_owned(),
                topic_id: 1,
                request_uuid: Some(text(&record["request"]).to_owned()),
                miners: list(&record["miners"]).iter().map(miner).collect(),
            };
            let mut record = Record::default();
            record.push("c", stream);
            record
        })
        .collect();
    let mut newest_first: Vec<LatestForecast> = list(&case["inputs"]["predictions_in_age_order"])
        .iter()
        .map(|forecast| LatestForecast {
            request: text(&forecast["request"]).to_owned(),
            miner: text(&forecast["miner"]).to_owned(),
            start_ms: int(&forecast["start"]),
            values: nums(&forecast["values"]),
        })
        .collect();
    newest_first.reverse();
    let latest = latest_forecasts(&newest_first);
    let summary = serde_json::to_value(summarise(&records, &latest, 0)).unwrap();
    let want = &case["output"]["cmw.json"];
    equal("summary", &summary.to_string(), &want.to_string())?;
    let published: Vec<Value> = latest
        .iter()
        .map(|forecast| {
            let steps = i64::try_from(forecast.values.len()).unwrap();
            json!({
                "client_uuid": "c",
                "stream_type": "BTCUSD-5m",
                "stream_id": "BTCUSD-5m",
                "topic_id": 1,
                "request_uuid": forecast.request,
                "miner_uid": forecast.miner,
                "start": forecast.start_ms,
                "end": forecastd_core::seed::answers::end_ms(forecast.start_ms, steps),
                "predictions": forecast.values,
                "prediction_size": forecast.values.len(),
                "additional_details": {"tf": 5, "trade_pair": "BTCUSD"},
                "vmins": null,
                "vmaxs": null,
                "decimal_places": null,
            })
        })
        .collect();
    let want = &case["output"]["latest_predictions.json"]["BTCUSD-5m"];
    equal("latest", &Value::Array(published).to_string(), &want.to_string())
}

fn request_windows(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let kind = match text(&inputs["request"]) {
        "hash" => QueryKind::Commitment,
        "predictions" => QueryKind::Reveal,
        other => return Err(format!("unknown request {other}")),
    };
    let now_ms = 1_709_251_200_000 + int(&inputs["minute"]) * 60_000;
    let is_known = inputs["known"].as_bool().unwrap();
    // The reference asks for a stake of at least 0.
    let has_stake = num(&inputs["stake"]) >= 0.0;
    let is_open = QueryWindows::default().is_open(kind, now_ms);
    let want = case["output"]["refused"].as_bool().unwrap();
    equal("refused", &!(is_known && has_stake && is_open), &want)
}

fn scale(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let want = &case["output"];
    let decimals = || i32::try_from(int(&inputs["decimals"])).unwrap();
    let optional = |key: &str| inputs.get(key).filter(|value| !value.is_null()).map(num);
    match text(&inputs["op"]) {
        "count_decimal_places" => {
            let number = &inputs["number"];
            // The text of a whole number has no point.
            let got = if number.is_i64() { 0 } else { scaling::count_decimal_places(num(number)) };
            equal("places", &got, &size(want))
        }
        "scale_values" => {
            let range = (optional("vmin"), optional("vmax"));
            let (least, greatest, values) = scaling::scale_values(&nums(&inputs["values"]), range);
            all_near("range", &[least, greatest], &[num(&want[0]), num(&want[1])], 0.0, 0.0)?;
            all_near("scaled", &values, &nums(&want[2]), 1e-12, 0.0)
        }
        "unscale_values" => {
            let (least, greatest) = (num(&inputs["vmin"]), num(&inputs["vmax"]));
            let values = nums(&inputs["values"]);
            let got = scaling::unscale_values(least, greatest, decimals(), &values);
            all_near("unscaled", &got, &nums(want), 0.0, 0.0)
        }
        "scale_values_exp" => {
            let (mean, values) = scaling::scale_values_exp(&nums(&inputs["values"]));
            all_near("mean", &[mean], &[num(&want[0])], 1e-12, 0.0)?;
            all_near("scaled", &values, &nums(&want[1]), 1e-12, 0.0)
        }
        "unscale_values_exp" => {
            let values = nums(&inputs["values"]);
            let got = scaling::unscale_values_exp(num(&inputs["avg"]), decimals(), &values);
            all_near("unscaled", &got, &nums(want), 0.0, 0.0)
        }
        operation @ ("scale_data_structure" | "scale_ds_with_ts") => {
            let rows: Vec<Vec<f64>> = list(&inputs["rows"]).iter().map(nums).collect();
            let got = scaling::scale_rows(&rows, operation == "scale_ds_with_ts");
            all_near("least", &got.least, &nums(&want[0]), 0.0, 0.0)?;
            all_near("greatest", &got.greatest, &nums(&want[1]), 0.0, 0.0)?;
            equal("decimals", &got.decimals, &list(&want[2]).iter().map(size).collect())?;
            for (row, want) in got.rows.iter().zip(list(&want[3])) {
                all_near("row", row, &nums(want), 1e-12, 0.0)?;
            }
            equal("rows", &got.rows.len(), &list(&want[3]).len())
        }
        other => Err(format!("unknown operation {other}")),
    }
}

fn time_function(case: &Value) -> CaseResult {
    let operation = text(&case["inputs"]["op"]);
    let arguments = list(&case["inputs"]["args"]);
    let at = |index: usize| int(&arguments[index]);
    let whole = |value: i64| json!(value);
    let iso = |time: chrono::NaiveDateTime| json!(time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string());
    let got = match operation {
        "current_interval_ms" => time::current_interval_ms(at(0), at(1)).map(whole),
        "next_interval_ms" => time::next_interval_ms(at(0), at(1)).map(whole),
        "previous_interval_ms" => time::previous_interval_ms(at(0), at(1)).map(whole),
        "closest_interval_ms" => time::closest_interval_ms(at(0), at(1)).map(whole),
        "time_span_ms" => {
            let part = |key: &str| arguments[0].get(key).map_or(0.0, num);
            let units = ["weeks", "days", "hours", "minutes", "seconds", "milliseconds"];
            Ok(whole(time::time_span_ms(units.map(part))))
        }
        "parse_time_interval_ms" => {
            time::parse_time_interval(text(&arguments[0])).map(|seconds| json!(seconds))
        }
        "datetime_from_ms" => time::datetime_from_ms(at(0)).map(iso),
        "millis_to_timestamp" => time::millis_to_timestamp(at(0)).map(iso),
        "parse_to_ms" | "timestamp_to_millis" => time::parse_to_ms(text(&arguments[0])).map(whole),
        "minute_in_millis" => Ok(whole(time::minute_in_millis(at(0)))),
        "hours_in_millis" => Ok(whole(time::hours_in_millis(arguments.first().map(int)))),
        "range_millis" => time::parse_to_ms(text(&arguments[0]))
            .map(|start_ms| json!(time::range_millis(start_ms, int(&arguments[1])))),
        other => return Err(format!("unknown operation {other}")),
    };
    let Some(got) = outcome(case, got)? else { return Ok(()) };
    let want = &case["output"];
    match (got.as_f64(), want.as_f64()) {
        (Some(a), Some(b)) => equal(operation, &is_same(a, b), &true),
        _ => equal(operation, &got, want),
    }
}
