//! Group `rounds`.

use forecastd_core::evaluate::{RoundInput, RoundOutcome};
use forecastd_core::features::Aggregation;
use forecastd_core::numeric::to_f32;
use forecastd_core::seed::aggregator::{Samples, aggregate_sources};
use forecastd_core::seed::answers::{StoredForecast, Values, check_response, due_requests, end_ms};
use forecastd_core::seed::klines::{Cell, Planner, Request, Source, samples};
use forecastd_core::seed::scoring::{NumberKind, simple_scale_scores};
use forecastd_core::weights::{assign_uids, weight_shares};
use forecastd_core::{
    EmaState, FeatureId, Hotkey, RefusalReason, ScoringConfig, StreamId, Uid, WeightConfig,
    score_round,
};
use serde_json::Value;

use crate::scoring::{averages_near, stored};
use crate::support::{
    CaseResult, all_near, all_same, entries, equal, int, key, list, near, num, numbers_by_key,
    nums, pairs, same, singles, size, table_near, text,
};

pub fn run(file: &str, case: &Value) -> Option<CaseResult> {
    Some(match file {
        "collect_responses" => collect_responses(case),
        "due_requests" => due(case),
        "evaluate_round" => evaluate_round(case),
        "evaluate_round_with_exchange_rows" => evaluate_with_rows(case),
        "sequences" => sequence(case),
        _ => return None,
    })
}

fn values_of(response: &Value) -> Option<Values> {
    let predictions = response["predictions"].as_array()?;
    if let Some(first) = predictions.first().and_then(Value::as_array) {
        return Some(Values::Nested {
            inner: first.len(),
            has_nan: predictions.iter().any(|row| row[0] == "NaN"),
            is_deep: first.first().is_some_and(Value::is_array),
        });
    }
    let dtype = text(&response["dtype"]);
    Some(if dtype.starts_with("int") {
        Values::Integers(predictions.iter().map(int).collect())
    } else if dtype == "float32" {
        Values::Floats(singles(&response["predictions"]).into_iter().map(f64::from).collect())
    } else {
        Values::Floats(predictions.iter().map(num).collect())
    })
}

fn collect_responses(case: &Value) -> CaseResult {
    let horizon = size(&case["inputs"]["prediction_size"]);
    let mut accepted = Vec::new();
    let mut dropped = Vec::new();
    for response in list(&case["inputs"]["responses"]) {
        let hotkey = text(&response["hotkey"]);
        let values = values_of(response);
        match check_response(hotkey, values.as_ref(), response["hash"].as_str(), horizon) {
            Ok(()) => accepted.push(hotkey.to_owned()),
            Err(reason) => dropped.push((hotkey.to_owned(), reason.name().to_owned())),
        }
    }
    let want = &case["output"];
    let want_stored: Vec<String> =
        list(&want["stored"]).iter().map(|name| text(name).to_owned()).collect();
    equal("stored", &accepted, &want_stored)?;
    let want_dropped: Vec<(String, String)> = entries(&want["dropped"])
        .into_iter()
        .map(|(name, reason)| (name.to_owned(), text(reason).to_owned()))
        .collect();
    equal("dropped", &dropped, &want_dropped)?;
    if !want["end_minus_start_ms"].is_null() {
        let horizon = i64::try_from(horizon).unwrap();
        equal("end", &end_ms(0, horizon), &int(&want["end_minus_start_ms"]))?;
    }
    Ok(())
}

fn due(case: &Value) -> CaseResult {
    let files: Vec<StoredForecast> = list(&case["inputs"]["files"])
        .iter()
        .map(|file| StoredForecast {
            request: text(&file["request"]).to_owned(),
            miner: text(&file["miner"]).to_owned(),
            end_ms: int(&file["end_ms"]),
        })
        .collect();
    let got = due_requests(&files, int(&case["inputs"]["now_ms"]));
    let want: Vec<(String, Vec<String>)> = list(&case["output"])
        .iter()
        .map(|round| {
            let miners = list(&round["miners"]).iter().map(|m| text(m).to_owned()).collect();
            (text(&round["request"]).to_owned(), miners)
        })
        .collect();
    equal("due", &got, &want)
}

/// A round with everybody registered who is named anywhere.
fn round_input(predictions: &Value, closes: Vec<f64>, prior: &EmaState) -> RoundInput {
    let answers: Vec<(Hotkey, Vec<f64>)> =
        entries(predictions).into_iter().map(|(name, values)| (key(name), nums(values))).collect();
    let mut members: Vec<(Hotkey, u64)> = prior.0.keys().map(|hotkey| (*hotkey, 0)).collect();
    members.extend(answers.iter().map(|(hotkey, _)| (*hotkey, 0)));
    members.push((key("somebody else"), 0));
    RoundInput {
        stream: StreamId("BTCUSD-5m".to_owned()),
        start_ms: 0,
        horizon: 100,
        realised: closes,
        answers,
        members,
    }
}

fn names_of<'a>(inputs: &'a Value, more: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = more.collect();
    if !inputs["initial_weights"].is_null() {
        names.extend(entries(&inputs["initial_weights"]).into_iter().map(|(name, _)| name));
    }
    names
}

fn evaluate_round(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let prior = stored(&inputs["initial_weights"]);
    if inputs["closes"].is_null() {
        // The source fails before anything is evaluated: nothing may have changed.
        equal("averages recorded", &case["output"]["weights"].is_object(), &true)?;
        let names = names_of(inputs, std::iter::empty());
        return averages_near("average", &prior, &case["output"]["weights"], &names, 0.0);
    }
    check_evaluation(inputs, &case["output"], nums(&inputs["closes"]), &prior)
}

fn check_evaluation(
    inputs: &Value,
    want: &Value,
    closes: Vec<f64>,
    prior: &EmaState,
) -> CaseResult {
    let predictions = &inputs["predictions"];
    let names = names_of(inputs, entries(predictions).into_iter().map(|(name, _)| name));
    let round = round_input(predictions, closes, prior);
    let result = score_round(&round, prior, &ScoringConfig::seed());
    let has_failed = want.get("error").is_some_and(|error| !list(error).is_empty());
    equal("failure", &result.is_err(), &has_failed)?;
    standard_rules(&round, prior)?;
    let Ok(outcome) = result else {
        equal("error", &text(&want["error"][0]), &"ValueError")?;
        return averages_near("average", prior, &want["weights"], &names, 0.0);
    };
    averages_near("average", &outcome.ema, &want["weights"], &names, 1e-11)?;
    // Files stay exactly when there was an answer but none could be scored.
    let is_removed = !outcome.scores.is_empty();
    if let Some(removed) = want["files_removed"].as_bool() {
        equal("files_removed", &is_removed, &removed)?;
    }
    if outcome.scores.is_empty() {
        return equal("no record", &want["record"].is_null(), &true);
    }
    check_scores(&outcome, want, &names)?;
    check_record(&outcome, want, &names)
}

fn check_scores(outcome: &RoundOutcome, want: &Value, names: &[&str]) -> CaseResult {
    let name = |hotkey: &Hotkey| crate::scoring::name_of(hotkey, names.iter().copied()).to_owned();
    same("importance", outcome.importance, num(&want["geometric_mean"]))?;
    let weighed: Vec<(String, f64)> =
        outcome.scores.iter().map(|score| (name(&score.hotkey), score.share)).collect();
    table_near("share", &weighed, &pairs(&want["weighed"]), 1e-11)?;
    let recorded = numbers_by_key(&want["scores"]);
    equal("scored miners", &outcome.scores.len(), &recorded.len())?;
    let mut errors = Vec::new();
    for (miner, error) in &recorded {
        let score = outcome.scores.iter().find(|score| name(&score.hotkey) == *miner);
        let score = score.ok_or_else(|| format!("{miner} was not scored"))?;
        near("error", score.rmse, *error, 1e-12, 0.0)?;
        errors.push(score.rmse);
    }
    if want["scaled"].is_null() {
        return Ok(());
    }
    let scaled = simple_scale_scores(&errors, NumberKind::Array).map_err(|e| e.to_string())?;
    let got: Vec<(String, f64)> =
        recorded.into_iter().map(|(miner, _)| miner).zip(scaled).collect();
    table_near("scaled", &got, &numbers_by_key(&want["scaled"]), 1e-11)
}

/// The reference's record of the round: each scored miner in order of arrival with its error, and
/// its average when it is above zero.
fn check_record(outcome: &RoundOutcome, want: &Value, names: &[&str]) -> CaseResult {
    let miners = list(&want["record"]["clients"][0]["streams"][0]["miners"]);
    equal("miners in the record", &miners.len(), &outcome.scores.len())?;
    for miner in miners {
        let name = text(&miner["miner_id"]);
        equal("recorded miner is named", &names.contains(&name), &true)?;
        let score = outcome.scores.iter().find(|score| score.hotkey == key(name));
        let score = score.ok_or_else(|| format!("{name} was not scored"))?;
        near("recorded error", score.rmse, num(&miner["unscaled_scores"][0][1]), 1e-12, 0.0)?;
        let average = outcome.ema.value(&key(name)).unwrap_or(0.0);
        match miner["win_scores"].as_array().and_then(|wins| wins.first()) {
            Some(win) => near("recorded average", average, num(&win[1]), 1e-11, 0.0)?,
            None => equal("share of a miner without a win", &(score.share > 0.0), &false)?,
        }
    }
    Ok(())
}

/// What must hold for our own rules on the same input.
fn standard_rules(round: &RoundInput, prior: &EmaState) -> CaseResult {
    let config = ScoringConfig::default();
    let is_truth = round.realised.len() == round.horizon
        && round.realised.iter().all(|close| close.is_finite() && *close > 0.0);
    let outcome = match score_round(round, prior, &config) {
        Ok(outcome) => outcome,
        Err(_) if !is_truth => return Ok(()),
        Err(error) => return Err(format!("standard rules fail: {error}")),
    };
    equal("scored without truth", &is_truth, &true)?;
    for (hotkey, closes) in &round.answers {
        let is_bad = closes.len() != round.horizon || closes.iter().any(|v| !v.is_finite());
        let refused = outcome.refused.iter().find(|(key, _)| key == hotkey);
        let is_overflow = matches!(refused, Some((_, RefusalReason::ErrorOverflow)));
        equal("refusal", &refused.is_some(), &(is_bad || is_overflow))?;
    }
    let is_finite = outcome.ema.0.values().all(|entry| entry.value.is_finite());
    equal("finite averages", &is_finite, &true)?;
    let total: f64 = outcome.scores.iter().map(|score| score.share).sum();
    if outcome.scores.is_empty() {
        equal("averages of an empty round", &outcome.ema, prior)
    } else {
        near("sum of shares", total, 1.0, 1e-9, 0.0)
    }
}

const VALIDATOR_SOURCES: [&str; 3] = ["binance", "bybit", "coinbase"];

fn evaluate_with_rows(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let prior = stored(&inputs["initial_weights"]);
    let request = Request {
        start_ms: int(&inputs["start_ms"]),
        interval_ms: 300_000,
        count: 100,
        source_interval_ms: 300_000,
    };
    let mut sources = Vec::new();
    for (name, rows) in entries(&inputs["rows"]) {
        equal("known exchange", &VALIDATOR_SOURCES.contains(&name), &true)?;
        let source = Source::from_name(name).unwrap();
        if let Some(values) = rows.as_array().and_then(|rows| closes_of(source, rows, &request)) {
            sources.push(Samples::from([(FeatureId::CLOSE, values)]));
        }
    }
    let rule = |_| Aggregation::Mean;
    let merged = aggregate_sources(&sources, &[FeatureId::CLOSE], &rule, 100, true);
    let want = &case["output"];
    let Ok(merged) = merged else {
        equal("error", &text(&want["error"][0]), &"RuntimeError")?;
        let names = names_of(inputs, std::iter::empty());
        return averages_near("average", &prior, &want["weights"], &names, 0.0);
    };
    let closes = merged[&FeatureId::CLOSE].clone();
    all_same("actual", &closes, &nums(&want["actual"]))?;
    check_evaluation(inputs, want, closes, &prior)
}

/// The closes that one exchange gives, single precision; `None` when it has no rows.
fn closes_of(source: Source, rows: &[Value], request: &Request) -> Option<Vec<f64>> {
    let planner = Planner::new(source, *request).unwrap();
    let query = planner.query();
    let close = source.column("price_close").unwrap();
    let in_span = |row: &&Value| (query.from_ms..=query.to_ms).contains(&int(&row[0]));
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .filter(in_span)
        .map(|row| {
            let divisor = if source == Source::Coinbase { 1000 } else { 1 };
            let mut cells = vec![Cell::Number(0.0); close + 1];
            cells[0] = Cell::Number((int(&row[0]) / divisor) as f64);
            cells[close] = match &row[1] {
                Value::String(text) => Cell::Text(text.clone()),
                number => Cell::Number(num(number)),
            };
            cells
        })
        .collect();
    let columns = samples(source, &cells, request, &[close]).ok()?;
    Some(columns[0].iter().map(|value| f64::from(to_f32(*value))).collect())
}

fn sequence(case: &Value) -> CaseResult {
    let inputs = &case["inputs"];
    let mut state = stored(&inputs["initial_weights"]);
    let rounds = list(&inputs["rounds"]);
    let all = rounds.iter().flat_map(|r| entries(&r["predictions"])).map(|(name, _)| name);
    let names = names_of(inputs, all);
    let want = &case["output"];
    equal("rounds", &list(&want["rounds"]).len(), &rounds.len())?;
    for (round, expected) in rounds.iter().zip(list(&want["rounds"])) {
        let closes = singles(&round["closes"]).into_iter().map(f64::from).collect();
        let input = round_input(&round["predictions"], closes, &state);
        if let Ok(outcome) = score_round(&input, &state, &ScoringConfig::seed()) {
            if let Some(importance) = expected["geometric_mean"].as_f64() {
                same("importance", outcome.importance, importance)?;
            }
            state = outcome.ema;
        }
        averages_near("average", &state, &expected["weights"], &names, 1e-11)?;
    }
    let metagraph: Vec<(Hotkey, Uid)> = list(&inputs["metagraph"])
        .iter()
        .zip(0..)
        .map(|(name, uid)| (key(text(name)), Uid(uid)))
        .collect();
    let shares = weight_shares(&state, &WeightConfig::seed());
    if want["uids"].is_null() {
        return equal("weights of a failed pass", &shares.is_empty(), &true);
    }
    let (uids, sent): (Vec<i64>, Vec<f64>) = assign_uids(&shares, &metagraph)
        .into_iter()
        .map(|(uid, weight)| (i64::from(uid.0), weight))
        .unzip();
    equal("uids", &uids, &list(&want["uids"]).iter().map(int).collect())?;
    all_near("set_weights", &sent, &nums(&want["set_weights"]), 0.0, 1e-9)
}
