//! The embedded network as a user starts it: the whole job, end to end, in one process.

use std::path::Path;
use std::process::{Command, Output};

/// Market time that leaves a few rounds due: the horizon, the settle delay, and some slots.
const SPAN: &str = "12h";

fn forecastd(arguments: &[&str], data_dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forecastd"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .env("FORECASTD__HTTP__LISTEN", "127.0.0.1:0")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn rounds_are_asked_scored_and_paid_and_a_second_start_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = forecastd(&["dev", "--for", SPAN, "--json"], dir.path());
    let events = lines(&first);
    let count = |name: &str| events.iter().filter(|line| line["event"] == name).count();
    let summary = events.last().unwrap();
    let errors = String::from_utf8_lossy(&first.stderr);
    assert_eq!(summary["event"], "summary", "{errors}");
    assert!(first.status.success(), "{summary}\n{errors}");

    for event in ["started", "forecast", "round_opened", "commitment", "reveal", "refusal"] {
        assert!(count(event) > 0, "no {event}");
    }
    let scored = summary["rounds_scored"].as_u64().unwrap();
    assert!(scored > 0 && summary["unsettled"] == 0, "{summary}");
    assert_eq!(u64::try_from(count("round_scored")).unwrap(), scored);
    assert!(summary["weights_set"].as_u64().unwrap() > 0, "{summary}");

    let board = summary["leader_board"].as_array().unwrap();
    let row = |name: &str| board.iter().find(|row| row["name"] == name).unwrap();
    for honest in ["model", "last", "drift"] {
        assert_eq!(row(honest)["scored"].as_u64(), Some(scored), "{summary}");
    }
    for (hostile, reason) in
        [("copier", "copied"), ("liar", "must be 100|not finite"), ("silent", "no answer in time")]
    {
        let row = row(hostile);
        assert!(row["ema"].is_null() && row["weight"] == 0, "{row}");
        let said = row["last_refusal"].as_str().unwrap();
        assert!(reason.split('|').any(|part| said.contains(part)), "{hostile}: {said}");
    }

    let replayed = forecastd(&["rounds", "replay", "--all"], dir.path());
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stdout));

    let second = forecastd(&["dev", "--for", "13h", "--json"], dir.path());
    let events = lines(&second);
    let summary = events.last().unwrap();
    assert!(second.status.success(), "{summary}");
    assert!(summary["rounds_scored"].as_u64().unwrap() > scored, "{summary}");
    let replayed = forecastd(&["rounds", "replay", "--all"], dir.path());
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stdout));
}
