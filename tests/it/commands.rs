//! Commands on the data directory of a stopped daemon, as a person uses them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use forecastd_core::{Hotkey, NetUid, Role, StreamId, Uid};
use forecastd_store::{
    Batch, EmaLine, EmaRecord, Identity, ResultRecord, ScoreLine, Store, StoreConfig,
};

const SLOT_MS: i64 = 1_800_000;

fn command(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forecastd"));
    command.args(arguments).arg("--data-dir").arg(data_dir).current_dir(data_dir).env_clear();
    command
}

fn forecastd(data_dir: &Path, arguments: &[&str]) -> Output {
    command(data_dir, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

/// Expects an exit code and a part of the error.
fn fails(output: &Output, code: i32, part: &str) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(errors.contains(part), "{part} is missing in: {errors}");
    assert!(!errors.contains("panicked at") && !errors.contains("RUST_BACKTRACE"), "{errors}");
}

fn miner() -> Hotkey {
    Hotkey::from_bytes([7; 32])
}

fn result(slot: i64, rmse: f64) -> ResultRecord {
    ResultRecord {
        round_id: format!("00000000-0000-4000-8000-{slot:012}"),
        start_ms: slot * SLOT_MS,
        due_at_ms: slot * SLOT_MS,
        settled_at_ms: slot * SLOT_MS,
        sequence: 1,
        previous_slot_ms: None,
        realised: Vec::new(),
        importance: 1.0,
        scores: vec![ScoreLine {
            hotkey: miner(),
            uid: Uid(1),
            rmse: Some(rmse),
            share: 1.0,
            refusal: None,
        }],
        members: Vec::new(),
        settings: "{}".to_owned(),
        ema_digest: 0,
        void_reason: None,
    }
}

/// A stopped validator's store with two streams, `A` older than `B`.
fn fill(path: &Path) {
    let identity = Identity {
        network: "local".to_owned(),
        netuid: NetUid(8),
        hotkey: miner(),
        role: Role::Validator,
    };
    let config = StoreConfig { reserve_bytes: 0, ..StoreConfig::new(path.to_owned(), identity) };
    let store = Store::open(config).unwrap();
    for (stream, first_slot, ema) in [("A", 100, 0.2), ("B", 103, 0.6)] {
        let stream = StreamId(stream.to_owned());
        let entries =
            vec![EmaLine { hotkey: miner(), value: ema, rounds: 3, registered_at_block: 1 }];
        let mut batch = Batch::new().put(&stream, &EmaRecord { sequence: 3, entries }).unwrap();
        for slot in first_slot..first_slot + 3 {
            let key = (stream.clone(), slot * SLOT_MS);
            batch = batch.put(&key, &result(slot, slot as f64)).unwrap();
        }
        store.write_blocking(batch).unwrap();
    }
    store.close_blocking();
}

#[test]
fn several_streams_are_looked_at_together_and_an_unknown_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let scores =
        |more: &[&str]| json(&forecastd(dir.path(), &[&["scores", "--json"], more].concat()));
    let both = scores(&[]);
    assert!((both[0]["ema"].as_f64().unwrap() - 0.4).abs() < 1e-12, "{both}");
    assert_eq!((&both[0]["scored"], &both[0]["last_rmse"]), (&6.into(), &105.0.into()));
    let one = scores(&["--stream", "A"]);
    assert_eq!((&one[0]["ema"], &one[0]["scored"]), (&0.2.into(), &3.into()));

    let list = json(&forecastd(dir.path(), &["rounds", "list", "--limit", "4", "--json"]));
    let streams: Vec<_> = list.as_array().unwrap().iter().map(|row| &row["stream"]).collect();
    assert_eq!(streams, ["B", "B", "B", "A"]);
    for command in [&["scores"][..], &["rounds", "list"]] {
        let refused = forecastd(dir.path(), &[command, &["--stream", "C"]].concat());
        fails(&refused, 1, "no stream `C` in the store; known streams: A, B");
    }
}

/// Answers every request with the status of another daemon.
fn stranger() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            drop(lines.map_while(Result::ok).find(String::is_empty));
            let body = r#"{"pid":1,"hotkey":"somebody else","checks":[]}"#;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let length = body.len();
            write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    address
}

#[test]
fn an_address_file_that_was_left_behind_leads_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let left = serde_json::json!({
        "pid": 2, "hotkey": miner().to_ss58(), "http": stranger().to_string(),
    });
    std::fs::write(dir.path().join("forecastd.address.json"), left.to_string()).unwrap();
    let list = json(&forecastd(dir.path(), &["rounds", "list", "--json"]));
    assert_eq!(list.as_array().unwrap().len(), 6);
    fails(&forecastd(dir.path(), &["status"]), 69, "--data-dir var/dev");
}

#[test]
fn a_directory_without_store_or_log_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["scores"][..], &["rounds", "list"], &["store", "verify"]] {
        fails(&forecastd(dir.path(), command), 73, "--data-dir var/dev");
    }
    fails(&forecastd(dir.path(), &["logs"]), 1, "there is no log");
    fails(&forecastd(dir.path(), &["rounds", "show", "../status"]), 64, "hexadecimal digits");
    fails(&forecastd(dir.path(), &["rounds", "show", ""]), 64, "ID");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is created");
}

#[test]
fn a_store_is_verified_saved_and_restored_and_a_damaged_one_is_74() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    fill(&data);
    let file = dir.path().join("backup");
    let file = file.to_str().unwrap();
    let exported = json(&forecastd(&data, &["store", "export", file, "--json"]));
    assert_eq!(exported["rows"], 8);
    fails(&forecastd(&data, &["store", "export", file]), 1, "exists already");
    fails(&forecastd(&data, &["store", "import", file]), 74, "exists already");

    let restored = dir.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    assert_eq!(forecastd(&restored, &["store", "import", file]).status.code(), Some(0));
    let verified = json(&forecastd(&restored, &["store", "verify", "--json"]));
    assert_eq!((&verified["rows"], &verified["problem_count"]), (&8.into(), &0.into()));
    let repaired = json(&forecastd(&restored, &["store", "repair", "--json"]));
    assert_eq!((&repaired["is_ok"], &repaired["lost_batches"]), (&true.into(), &0.into()));

    let store = Store::open_existing(&restored, 4 << 20).unwrap();
    for command in [&["verify"][..], &["export", "other"], &["repair"]] {
        let refused = forecastd(&restored, &[&["store"], command].concat());
        fails(&refused, 75, "in use by another process");
    }
    store.close_blocking();

    let log = restored.join("cold/db");
    let bytes: Vec<u8> = std::fs::read(&log).unwrap().iter().map(|byte| byte ^ 0x5a).collect();
    std::fs::write(&log, bytes).unwrap();
    fails(&forecastd(&restored, &["store", "verify"]), 74, "");
    fails(&forecastd(&restored, &["scores"]), 74, "");
}

#[test]
fn a_log_ends_with_its_reader_and_knows_its_actors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    let line = r#"{"ts":"2025-01-01T00:00:00.000Z","level":"info","actor":"feed","event":"x"}"#;
    let lines = format!("{line}\n").repeat(50);
    std::fs::write(dir.path().join("log/forecastd.log"), lines).unwrap();
    fails(&forecastd(dir.path(), &["logs", "--actor", "fed"]), 1, "it has lines of feed");

    let mut follower = command(dir.path(), &["logs", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    let mut output = follower.stdout.take().unwrap();
    output.read_exact(&mut first).unwrap();
    drop(output);
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn a_check_says_what_is_missing_and_prints_its_faults_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = "[network]\nendpoints = [\"ws://127.0.0.1:1\"]\ncall_timeout = \"1s\"\n\
                [wallet]\npath = \"wallets\"\n[miner]\nlisten = \"127.0.0.1:0\"\n\
                [http]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(dir.path().join("config.toml"), file).unwrap();
    let offline = forecastd(dir.path(), &["check-config"]);
    assert_eq!(offline.status.code(), Some(0));
    let said = text(&offline.stderr);
    assert!(said.contains("warning: model `lstm-small`") && said.contains("unpacks"), "{said}");

    let online = forecastd(dir.path(), &["check-config", "--online", "--json"]);
    assert_eq!(online.status.code(), Some(78));
    let faults = json(&online);
    let wallet = faults.as_array().unwrap().iter().find(|fault| fault["key"] == "wallet").unwrap();
    let reason = wallet["reason"].as_str().unwrap();
    assert!(reason.contains("wallets/default/hotkeys/default"), "{reason}");
    assert!(reason.contains("`wallet.path`") && !reason.contains("os error"), "{reason}");
}

#[test]
fn models_that_are_not_there_and_checkpoints_that_are_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data/btcusd-5m.csv.gz");
    let tested = forecastd(dir.path(), &["model", "backtest", "--data", data, "--model", "mine"]);
    fails(&tested, 1, "neither mine nor models/checkpoints/mine");
    std::fs::create_dir_all(dir.path().join("out/mine")).unwrap();
    std::fs::write(dir.path().join("out/mine/config.json"), "{}").unwrap();
    let arguments = ["model", "train", "--data", data, "--name", "mine", "--out", "out"];
    fails(&forecastd(dir.path(), &arguments), 1, "--force");
}
