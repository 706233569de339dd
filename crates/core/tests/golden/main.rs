//! Runs every recorded case of the reference subnet against this crate.
//!
//! The cases lie in the folder of the environment variable `FORECASTD_VECTORS`, by default
//! `tests/vectors` at the repository root. Every file of a group is read; an unknown file, function
//! or kind of case fails, and so does an empty group. Tolerances are those of
//! `tests/vectors/README.md` and stand beside each comparison.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test program: a wrong file must stop it, and the counts are its report"
)]

mod features;
mod indicators;
mod klines;
mod miner;
mod misc;
mod rounds;
mod scoring;
mod support;
mod weights;

use support::run_group;

#[test]
fn every_scoring_case_passes() {
    run_group("scoring", scoring::run);
}

#[test]
fn every_weights_case_passes() {
    run_group("weights", weights::run);
}

#[test]
fn every_rounds_case_passes() {
    run_group("rounds", rounds::run);
}

#[test]
fn every_features_case_passes() {
    run_group("features", features::run);
}

#[test]
fn every_miner_case_passes() {
    run_group("miner", miner::run);
}

#[test]
fn every_misc_case_passes() {
    run_group("misc", misc::run);
}

#[test]
fn every_indicators_case_passes() {
    run_group("indicators", indicators::run);
}

#[test]
fn every_prediction_hash_case_passes() {
    support::run_file("prediction_hash.json", misc::prediction_hash);
}

#[test]
fn percentile_tables_and_their_checks_agree() {
    scoring::percentiles(&support::read(&support::root().join("percentiles.json")));
}

#[test]
fn no_group_is_unknown() {
    // The other groups belong to the crates that speak with the network, the chain and the models.
    const KNOWN: [&str; 16] = [
        "README.md",
        "README.percentiles.md",
        "chain",
        "features",
        "indicators",
        "keras",
        "miner",
        "misc",
        "percentiles.json",
        "prediction_hash.json",
        "rounds",
        "scoring",
        "wallets",
        "weights",
        "wire",
        ".gitattributes",
    ];
    for entry in std::fs::read_dir(support::root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(KNOWN.contains(&name.as_str()), "unknown group `{name}`, write a runner for it");
    }
}
