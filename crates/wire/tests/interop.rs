//! Our server and client with the real Python SDK, in both directions.
//!
//! `FORECASTD_PYTHON` names a Python with the SDK; `scripts/interop` makes one. Without it there is
//! nothing to test against, and the tests say so and return.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "helpers of tests may panic and say why they skip"
)]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use forecastd_core::{Hotkey, Signer};
use forecastd_wire::{
    Axon, AxonConfig, AxonTarget, Dendrite, DendriteConfig, QueryError, Revealed,
};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;
use support::{FixedMiner, RealClock, dev, prices, request};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Importing the SDK takes seconds, many times that on a busy machine.
const START_DEADLINE: Duration = Duration::from_mins(4);
/// Time for one query; the slow miner takes longer than its own, shorter one.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Real miners at once.
const PARALLEL: usize = 3;

fn python() -> Option<PathBuf> {
    let python = std::env::var_os("FORECASTD_PYTHON").map(PathBuf::from);
    if python.is_none() {
        println!("skipped: FORECASTD_PYTHON is not set, run scripts/interop");
    }
    python
}

fn script(python: &Path, name: &str) -> Command {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop");
    let mut command = Command::new(python);
    command
        .arg(format!("{folder}/{name}"))
        .env("PYTHONPATH", format!("{folder}/torch_shim"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs the real validator against an axon; returns whether it was content, and what it said.
async fn validate(python: &Path, address: SocketAddr, hotkey: Hotkey) -> (bool, Vec<Value>) {
    let mut command = script(python, "legacy_validator.py");
    command.args(["--uri", "//Alice", "--delay", "0.2", "--target"]);
    command.arg(format!("{address}:{hotkey}"));
    let output = tokio::time::timeout(START_DEADLINE, command.output()).await.unwrap().unwrap();
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!lines.is_empty(), "the validator said nothing: {errors}");
    (output.status.success(), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_validator_accepts_our_commitment_and_forecast() {
    let Some(python) = python() else { return };
    let bob = dev("//Bob");
    let miner = Arc::new(FixedMiner::new(bob.hotkey(), prices()));
    let axon =
        Axon::spawn(AxonConfig::loopback(), bob.clone(), Arc::new(RealClock), miner).await.unwrap();
    let (content, lines) = validate(&python, axon.address(), bob.hotkey()).await;
    assert!(content, "{lines:?}");
    let forward = lines.iter().find(|line| line["step"] == "forward").unwrap();
    assert_eq!(forward["status"], 200);
    assert_eq!(forward["match"], true);
    assert_eq!(forward["length"], 100);
    assert_eq!(axon.counters().answered, 2);
    axon.stop(QUERY_TIMEOUT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_validator_reads_our_refusal() {
    let Some(python) = python() else { return };
    let bob = dev("//Bob");
    let mut miner = FixedMiner::new(bob.hotkey(), prices());
    miner.refused = vec![dev("//Alice").hotkey()];
    let axon =
        Axon::spawn(AxonConfig::loopback(), bob.clone(), Arc::new(RealClock), Arc::new(miner))
            .await
            .unwrap();
    let (content, lines) = validate(&python, axon.address(), bob.hotkey()).await;
    assert!(!content);
    let hash = lines.iter().find(|line| line["step"] == "hash").unwrap();
    assert_eq!(hash["status"], 403);
    let message = hash["message"].as_str().unwrap();
    assert!(message.starts_with("Forbidden. Key is blacklisted: 5Grw"), "{message}");
    axon.stop(QUERY_TIMEOUT).await;
}

/// A running real miner; its process ends with this value.
struct RealMiner {
    _process: Child,
    address: SocketAddr,
    commitment: Option<String>,
}

async fn start_miner(python: &Path, misbehaviour: &str) -> RealMiner {
    // The SDK cannot take a free port by itself, so one is found for it.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut command = script(python, "legacy_miner.py");
    command.args(["--uri", "//Bob", "--seed", "7", "--port", &address.port().to_string()]);
    command.args(["--misbehave", misbehaviour, "--delay", "4"]).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the miner ended");
            if let Ok(event) = serde_json::from_str::<Value>(&line)
                && event["event"] == "ready"
            {
                return event;
            }
        }
    };
    let ready = tokio::time::timeout(START_DEADLINE, ready).await.expect("the miner starts");
    // Keep reading, so that the miner never blocks on a full pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let up = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(START_DEADLINE, up).await.expect("the miner listens");
    let commitment = ready["hash"].as_str().map(str::to_owned);
    RealMiner { _process: process, address, commitment }
}

type Asked = (Result<String, QueryError>, Result<Revealed, QueryError>);

async fn ask(miner: &RealMiner, timeout: Duration) -> Asked {
    let config = DendriteConfig::default();
    let dendrite = Dendrite::new(dev("//Alice"), Arc::new(RealClock), config).unwrap();
    let target = AxonTarget { hotkey: dev("//Bob").hotkey(), address: miner.address };
    let question = request("3f2a7f52-3d5c-4f6e-9f0e-2f4f6f8f0f1f");
    let commitment = dendrite.commit(&target, &question, timeout).await;
    (commitment, dendrite.reveal(&target, &question, timeout).await)
}

/// What our client must make of each kind of real miner: kind of the two results, and whether the
/// values fit the commitment.
const MINERS: [(&str, &str, &str, bool); 15] = [
    ("none", "ok", "ok", true),
    ("float32", "ok", "ok", true),
    ("wrong-hash", "ok", "ok", false),
    ("changed-after-hash", "ok", "ok", false),
    ("null-hash", "no_answer", "ok", false),
    ("nan", "ok", "values", false),
    ("inf", "ok", "values", false),
    ("short", "ok", "values", false),
    ("long", "ok", "values", false),
    ("two-dim", "ok", "shape", false),
    ("no-predictions", "ok", "no_answer", false),
    ("garbage", "ok", "tensor", false),
    ("refuse", "status", "status", false),
    ("error", "status", "status", false),
    ("slow", "timeout", "timeout", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn our_client_judges_real_miners() {
    let Some(python) = python() else { return };
    let bob = dev("//Bob").hotkey();
    let asked = stream::iter(MINERS).map(|expected| {
        let python = &python;
        async move {
            let miner = start_miner(python, expected.0).await;
            let slow = expected.0 == "slow";
            let timeout = if slow { Duration::from_secs(1) } else { QUERY_TIMEOUT };
            (expected, ask(&miner, timeout).await, miner.commitment)
        }
    });
    let results: Vec<_> = asked.buffer_unordered(PARALLEL).collect().await;
    assert_eq!(results.len(), MINERS.len());
    for ((name, hash_kind, reveal_kind, fits), (hash, revealed), announced) in results {
        assert_eq!(
            hash.as_ref().map_or_else(QueryError::kind, |_| "ok"),
            hash_kind,
            "{name}: {hash:?}"
        );
        let kind = revealed.as_ref().map_or_else(QueryError::kind, |_| "ok");
        assert_eq!(kind, reveal_kind, "{name}: {revealed:?}");
        if let Ok(text) = &hash {
            assert_eq!(Some(text), announced.as_ref(), "{name}");
        }
        let matched = match (&hash, &revealed) {
            (Ok(hash), Ok(revealed)) => revealed.matches(&bob, hash),
            _ => false,
        };
        assert_eq!(matched, fits, "{name}");
        match (name, hash) {
            ("refuse", Err(QueryError::Status { code, message })) => {
                assert_eq!(code, 403);
                assert!(message.starts_with("Forbidden. Key is blacklisted: 5Grw"), "{message}");
            }
            ("error", Err(QueryError::Status { code, .. })) => assert_eq!(code, 500),
            _ => {}
        }
    }
}
