//! Group `weights`.

use forecastd_core::seed::SeedError;
use forecastd_core::seed::weights::{min_max_scale, weight_pass};
use forecastd_core::weights::{assign_uids, to_u16, weight_shares, yeo_johnson};
use forecastd_core::{Hotkey, Uid, WeightConfig};
use serde_json::Value;

use crate::scoring::{name_of, stored};
use crate::support::{
    CaseResult, all_near, all_same, entries, equal, key, list, near, num, nums, outcome, text,
};

pub fn run(file: &str, case: &Value) -> Option<CaseResult> {
    Some(match file {
        "min_max_scalar_list" => min_max(case),
        "vali_set_weights" => set_weights(case),
        "yeojohnson" => yeojohnson(case),
        _ => return None,
    })
}

fn min_max(case: &Value) -> CaseResult {
    let scaled = min_max_scale(&nums(&case["inputs"]["values"])).ok_or(SeedError::Value);
    match outcome(case, scaled)? {
        Some(got) => all_same("scaled", &got, &nums(&case["output"])),
        None => Ok(()),
    }
}

fn yeojohnson(case: &Value) -> CaseResult {
    let lambda = num(&case["inputs"]["lmbda"]);
    let got = yeo_johnson(num(&case["inputs"]["x"]), lambda);
    // The error of the logarithm is multiplied by up to λ·log1p(x).
    let relative = if lambda >= 1000.0 { 1e-10 } else { 1e-13 };
    near("transformed", got, num(&case["output"]), relative, 0.0)
}

fn set_weights(case: &Value) -> CaseResult {
    let want = &case["output"];
    let state = stored(&case["inputs"]["weights"]);
    let stored_names: Vec<&str> = match &case["inputs"]["weights"] {
        Value::Null => Vec::new(),
        weights => entries(weights).into_iter().map(|(name, _)| name).collect(),
    };
    let averages: Vec<(Hotkey, f64)> =
        state.0.iter().map(|(hotkey, entry)| (*hotkey, entry.value)).collect();
    let pass = weight_pass(&averages);
    for (what, got) in
        [("mean", pass.mean), ("std_dev", pass.deviation), ("lower_bound", pass.lower_bound)]
    {
        if let Some(expected) = want.get(what) {
            near(what, got, num(expected), 1e-12, 0.0)?;
        }
    }
    let names = |keys: &[Hotkey]| -> Vec<String> {
        keys.iter().map(|key| name_of(key, stored_names.iter().copied()).to_owned()).collect()
    };
    let texts = |value: &Value| -> Vec<String> {
        list(value).iter().map(|name| text(name).to_owned()).collect()
    };
    if let Some(kept) = want.get("kept") {
        equal("kept", &names(&pass.kept), &texts(kept))?;
    }
    if let Some(transformed) = want.get("transformed") {
        all_near("transformed", &pass.transformed, &nums(transformed), 1e-10, 0.0)?;
    }
    equal("success", &pass.scaled.is_some(), &want.get("error").is_none())?;
    let metagraph: Vec<(Hotkey, Uid)> = list(&case["inputs"]["metagraph"])
        .iter()
        .zip(0..)
        .map(|(name, uid)| (key(text(name)), Uid(uid)))
        .collect();
    let Some(scaled) = &pass.scaled else {
        equal("error", &text(&want["error"]), &"ValueError")?;
        return equal("removed", &texts(&want["removed"]), &Vec::new());
    };
    let values: Vec<f64> = scaled.iter().map(|(_, value)| *value).collect();
    all_near("scaled", &values, &nums(&want["scaled"]), 0.0, 1e-10)?;
    let (uids, sent): (Vec<i64>, Vec<f64>) = assign_uids(scaled, &metagraph)
        .into_iter()
        .map(|(uid, weight)| (i64::from(uid.0), weight))
        .unzip();
    equal("uids", &uids, &list(&want["uids"]).iter().map(crate::support::int).collect())?;
    all_near("set_weights", &sent, &nums(&want["set_weights"]), 0.0, 1e-10)?;
    let removed: Vec<Hotkey> = pass
        .kept
        .iter()
        .copied()
        .filter(|hotkey| !metagraph.iter().any(|(known, _)| known == hotkey))
        .collect();
    equal("removed", &names(&removed), &texts(&want["removed"]))?;
    ours(&state, &metagraph)
}

/// The standard transform must give usable weights for every recorded state.
fn ours(state: &forecastd_core::EmaState, metagraph: &[(Hotkey, Uid)]) -> CaseResult {
    let shares = weight_shares(state, &WeightConfig::default());
    let is_sound = state.0.values().all(|entry| entry.value.is_finite());
    let has_standing = state.0.values().any(|entry| entry.value > 0.0);
    equal("our weights are set", &!shares.is_empty(), &(is_sound && has_standing))?;
    let total: f64 = shares.iter().map(|(_, share)| share).sum();
    if !shares.is_empty() {
        near("sum of our weights", total, 1.0, 1e-9, 0.0)?;
    }
    let sent = to_u16(&assign_uids(&shares, metagraph));
    let best = sent.iter().map(|(_, weight)| *weight).max();
    equal("our best weight", &best.unwrap_or(u16::MAX), &u16::MAX)
}
