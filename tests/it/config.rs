//! `forecastd check-config` as scripts and service managers see it.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in `dir` with a clean environment but for `variables`.
fn forecastd(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forecastd"))
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_printed_defaults_are_the_shipped_file_and_pass_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let printed = forecastd(dir.path(), &["check-config", "--defaults"], &[]);
    assert_eq!(printed.status.code(), Some(0));
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    assert_eq!(text(&printed.stdout), std::fs::read_to_string(shipped).unwrap());
    std::fs::write(dir.path().join("config.toml"), &printed.stdout).unwrap();
    let checked = forecastd(dir.path(), &["check-config"], &[]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    // A check writes nothing.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn every_fault_is_on_a_line_of_its_own_and_the_exit_code_is_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = "[miner]\nlisten = \"nowhere\"\n[validator]\nconcurency = 5\n";
    std::fs::write(dir.path().join("bad.toml"), file).unwrap();
    let variables = [("FORECASTD__LOG__LEVEL", "loud")];
    let checked = forecastd(dir.path(), &["check-config", "bad.toml"], &variables);
    assert_eq!(checked.status.code(), Some(78));
    let found = text(&checked.stderr);
    for fault in [
        "bad.toml:2:10: `miner.listen` is \"nowhere\", must be an IP address with a port",
        "bad.toml:4:1: `validator.concurency` is not a key; did you mean `validator.concurrency`",
        "environment variable FORECASTD__LOG__LEVEL: `log.level` is loud, must be one of error",
    ] {
        assert!(found.contains(fault), "{fault} is missing in:\n{found}");
    }
    let checked = forecastd(dir.path(), &["check-config", "bad.toml", "--json"], &variables);
    assert_eq!(checked.status.code(), Some(78));
    let faults: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(faults.as_array().unwrap().len(), 3);
    assert_eq!(faults[0]["line"], 2);
    assert_eq!(faults[0]["key"], "miner.listen");
}

#[test]
fn a_missing_file_and_a_wrong_command_line_have_their_own_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    for command in [["check-config", "none.toml"], ["run", "miner"]] {
        let failed = forecastd(dir.path(), &command, &[]);
        assert_eq!(failed.status.code(), Some(78), "{command:?}");
        assert!(text(&failed.stderr).contains("check-config --defaults > config.toml"));
    }
    assert_eq!(forecastd(dir.path(), &["check-confg"], &[]).status.code(), Some(64));
    assert_eq!(forecastd(dir.path(), &["--version"], &[]).status.code(), Some(0));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
