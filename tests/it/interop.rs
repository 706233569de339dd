//! The daemon as a process with the real Python SDK as its other side.
//!
//! `FORECASTD_PYTHON` names a Python with the SDK; `scripts/test` makes one. Without it there is
//! nothing to test against, and the tests say so and return.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use forecastd_core::{Interval, Signer as _};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{
    DEADLINE, Surroundings, Talker, ask, daemon, free_axon_address, key, ready, stop,
};

fn python() -> Option<PathBuf> {
    let python = std::env::var_os("FORECASTD_PYTHON").map(PathBuf::from);
    if python.is_none() {
        println!("skipped: FORECASTD_PYTHON is not set, run scripts/test");
    }
    python
}

fn script(python: &Path, name: &str) -> Command {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop");
    let mut command = Command::new(python);
    command
        .arg(format!("{folder}/{name}"))
        .env("PYTHONPATH", format!("{folder}/torch_shim"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Reads the address that the daemon wrote for other programs.
fn axon_address(directory: &Path) -> String {
    let text = std::fs::read_to_string(directory.join("data/forecastd.address.json")).unwrap();
    let addresses: Value = serde_json::from_str(&text).unwrap();
    addresses["axon"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_validator_gets_commitment_and_values_of_a_running_miner() {
    let Some(python) = python() else { return };
    let surroundings = Surroundings::start(Interval::FIVE_MINUTES, &["//Bob"]).await;
    let directory = tempfile::tempdir().unwrap();
    let listen = "[miner]\nlisten = \"127.0.0.1:0\"\n";
    let config = surroundings.configure(directory.path(), "//Bob", listen);
    let mut miner = Talker::start(daemon("miner", &config));
    let started = miner.wait_for(|event| event["http"].is_string()).await;
    let forecast = miner.wait_for(|event| event["event"] == "forecast").await;
    assert_eq!(forecast["model"], "lstm-small", "{forecast}");
    ready(&started).await;
    let miner = miner.drain();

    let mut validator = script(&python, "legacy_validator.py");
    let target = format!("{}:{}", axon_address(directory.path()), key("//Bob").hotkey());
    validator.args(["--uri", "//Alice", "--delay", "0.2", "--target", &target]);
    let output = tokio::time::timeout(DEADLINE, validator.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let forward = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["step"] == "forward")
        .unwrap();
    assert_eq!((&forward["match"], &forward["length"]), (&true.into(), &100.into()), "{said}");
    stop(miner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_validator_gets_commitment_and_values_of_real_miners() {
    let Some(python) = python() else { return };
    let minute = Interval::from_ms(60_000).unwrap();
    let surroundings = Surroundings::start(minute, &["//Bob", "//Charlie"]).await;
    let mut miners = Vec::new();
    for (uri, misbehaviour) in [("//Bob", "none"), ("//Charlie", "changed-after-hash")] {
        let address = free_axon_address();
        let mut command = script(&python, "legacy_miner.py");
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        command.args(["--uri", uri, "--bind", &ip, "--ip", &ip, "--port", &port]);
        command.args(["--misbehave", misbehaviour]);
        let mut miner = Talker::start(command);
        miner.wait_for(|event| event["event"] == "ready").await;
        miners.push(miner.drain());
        surroundings.serve(uri, address).await;
    }
    let directory = tempfile::tempdir().unwrap();
    // Rounds of a minute, so that the test meets one soon.
    let quick =
        "[validator]\nallow_local_axons = true\nreveal_after = \"2s\"\nquery_timeout = \"20s\"\n";
    let config = surroundings.configure(directory.path(), "//Alice", quick);
    let mut validator = Talker::start(daemon("validator", &config));
    let hotkey = |uri: &str| key(uri).hotkey().to_ss58();
    let (bob, charlie) = (hotkey("//Bob"), hotkey("//Charlie"));
    let commitment = validator
        .wait_for(|event| event["event"] == "commitment" && event["hotkey"] == bob.as_str())
        .await;
    let refusal = validator.wait_for(|event| event["event"] == "refusal").await;
    assert_eq!(refusal["hotkey"], charlie.as_str(), "{refusal}");
    assert_eq!(refusal["reason"], "values do not match the commitment", "{refusal}");
    let reveal = validator
        .wait_for(|event| event["event"] == "reveal" && event["hotkey"] == bob.as_str())
        .await;
    assert_eq!(reveal["round"], commitment["round"]);

    let data_dir = directory.path().join("data");
    let round = ask(&data_dir, &["rounds", "show", reveal["round"].as_str().unwrap()]).await;
    assert_eq!((&round["asked"], &round["answered"]), (&2.into(), &1.into()), "{round}");
    stop(validator.drain()).await;
}
