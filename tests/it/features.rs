//! A network on features of a configuration, from training to the check of what a stream lacks.

use std::path::Path;
use std::process::{Command, Output};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/btcusd-5m.csv.gz");

fn forecastd(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forecastd"));
    command.args(arguments).current_dir(directory).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn succeeds(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_network_is_trained_tested_and_checked_on_features_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let config = format!(
        "[[stream]]\nid = \"BTCUSD-5m\"\nfeatures = [\"close\", \"column(flow)\"]\n\
         [[source]]\nname = \"flow\"\nkind = \"file\"\npath = \"{DATA}\"\ncolumn = \"volume\"\n\
         every = \"5m\"\npublication_delay = \"1m\"\n\
         [[model]]\nname = \"mine\"\nstream = \"BTCUSD-5m\"\nkind = \"burn\"\n\
         checkpoint = \"out/mine\"\n"
    );
    std::fs::write(dir.join("config.toml"), config).unwrap();
    let mut train = vec!["model", "train", "--data", DATA, "--name", "mine", "--out", "out"];
    train.extend(["--from", "2024-11-01", "--to", "2024-11-20", "--epochs", "1", "--features"]);

    let wrong = forecastd(dir, &[&train[..], &["close", "rsi(1)"]].concat());
    assert_eq!(wrong.status.code(), Some(64));
    assert!(text(&wrong.stderr).contains("rsi(LENGTH) with a length of 2..500 candles"));
    let gone = forecastd(dir, &[&train[..], &["close", "column(gone)"]].concat());
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("column(gone) needs a [[source]] of this name"));

    let names = ["close", "volume", "rsi(14)", "time_of_day", "column(flow)"];
    let said = succeeds(&forecastd(dir, &[&train[..], &names].concat()));
    assert!(said.contains("out of sample"), "{said}");
    let checkpoint = std::fs::read(dir.join("out/mine/config.json")).unwrap();
    let checkpoint: serde_json::Value = serde_json::from_slice(&checkpoint).unwrap();
    assert_eq!(checkpoint["network"]["features"]["names"], serde_json::json!(names));
    assert_eq!(checkpoint["scaling"]["features"].as_array().unwrap().len(), names.len());
    let card = std::fs::read_to_string(dir.join("out/mine/README.md")).unwrap();
    assert!(card.contains("`column(flow)`") && card.contains("140 candles of warm-up"), "{card}");

    let test = ["model", "backtest", "--data", DATA, "--from", "2024-12-01", "--to", "2024-12-08"];
    let report = succeeds(&forecastd(dir, &[&test[..], &["--json"]].concat()));
    let score: serde_json::Value = serde_json::from_str(report.lines().next().unwrap()).unwrap();
    assert_eq!(score["model"], "mine");
    assert!(score["windows"].as_u64().unwrap() > 10, "{score}");

    let checked = forecastd(dir, &["check-config"]);
    succeeds(&checked);
    let said = text(&checked.stderr);
    assert!(said.contains("model `mine` needs volume, rsi(14), time_of_day; add"), "{said}");
}
