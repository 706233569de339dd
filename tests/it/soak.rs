//! A running network under kill -9, reloads and a long run. The short forms are part of every test
//! run; `scripts/soak` runs the long ones, which are ignored here, and prints their figures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forecastd_core::{Signer as _, VoidReason};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::support::{DEADLINE, Talker, ask, dev, key, signal};

/// Keys of the embedded miners that answer honestly: model, last, drift.
const HONEST: [&str; 3] = ["//Miner//0", "//Miner//1", "//Miner//2"];

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn random() -> StdRng {
    let seed = setting("SEED", "1").parse().unwrap();
    println!("SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A copy of the shipped configuration, and its text.
fn configuration(directory: &Path) -> (PathBuf, String) {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    let text = std::fs::read_to_string(shipped).unwrap();
    let path = directory.join("config.toml");
    std::fs::write(&path, &text).unwrap();
    (path, text)
}

/// Gives a key of the shipped file another value; the key must be there once.
fn replaced(text: &str, key: &str, value: &str) -> String {
    let start = format!("{key} = ");
    assert_eq!(text.lines().filter(|line| line.starts_with(&start)).count(), 1, "{key}");
    text.lines()
        .map(|line| {
            if line.starts_with(&start) { format!("{start}{value}\n") } else { format!("{line}\n") }
        })
        .collect()
}

/// What the network said that it had done.
#[derive(Debug, Default)]
struct Said {
    opened: BTreeSet<String>,
    committed: BTreeSet<(String, String)>,
    scored: BTreeMap<String, usize>,
    void: BTreeMap<String, usize>,
    skipped: u64,
    weights: usize,
}

impl Said {
    fn hear(&mut self, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("round_opened") => {
                assert!(self.opened.insert(text("round")), "opened twice: {event}");
            }
            Some("commitment") if event["node"] == "validator" => {
                self.committed.insert((text("round"), text("hotkey")));
            }
            Some("round_scored") => *self.scored.entry(text("round")).or_default() += 1,
            Some("round_void") => *self.void.entry(text("reason")).or_default() += 1,
            Some("slots_skipped") => self.skipped += event["count"].as_u64().unwrap_or_default(),
            Some("weights_set") if event["outcome"] == "set" => self.weights += 1,
            _ => {}
        }
    }

    /// Compares with what the stopped network has on disk; returns the figures.
    async fn check(&self, data_dir: &Path) -> Value {
        let rounds = ask(data_dir, &["rounds", "list", "--limit", "1000"]).await;
        let rounds = rounds.as_array().unwrap();
        assert!(rounds.len() < 1000, "more rounds than the list shows");
        let id = |round: &Value| round["round_id"].as_str().unwrap().to_owned();
        let slots: BTreeSet<i64> =
            rounds.iter().map(|round| round["start_ms"].as_i64().unwrap()).collect();
        assert_eq!(slots.len(), rounds.len(), "a slot was asked twice");
        let known: BTreeSet<String> = rounds.iter().map(id).collect();
        let lost: Vec<_> = self.opened.difference(&known).collect();
        assert!(lost.is_empty(), "opened and lost: {lost:?}");
        for (round, times) in &self.scored {
            assert_eq!(*times, 1, "round {round} was scored more than once");
        }
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
        let honest = HONEST.map(|uri| key(uri).hotkey().to_ss58());
        for round in rounds {
            *states.entry(round["state"].as_str().unwrap().to_owned()).or_default() += 1;
            let whole = ask(data_dir, &["rounds", "show", &id(round)]).await;
            let miners = whole["miners"].as_array().unwrap();
            let told: Vec<_> = self.committed.iter().filter(|(of, _)| *of == id(round)).collect();
            for (_, hotkey) in &told {
                assert!(miners.iter().any(|miner| miner["hotkey"] == **hotkey), "{whole}");
            }
            // What was told was on disk: such a round cannot end as one that got no commitment.
            let has_none = whole["void_reason"] == VoidReason::NoCommitments.to_string();
            assert!(told.is_empty() || !has_none, "commitments were told and lost: {whole}");
            for miner in miners
                .iter()
                .filter(|miner| honest.iter().any(|hotkey| miner["hotkey"] == **hotkey))
            {
                let Some(refusal) = miner["refusal"].as_str() else { continue };
                // An honest miner that lost its commitment could not reveal what fits it.
                assert!(!refusal.contains("commit"), "{refusal}: {whole}");
                // A validator that has not read the chain yet must wait for it.
                assert!(!refusal.contains("no axon"), "{refusal}: {whole}");
                *refusals.entry(refusal.to_owned()).or_default() += 1;
            }
        }
        for round in self.scored.keys() {
            let whole = ask(data_dir, &["rounds", "show", round]).await;
            assert_eq!(whole["state"], "done", "scored and lost: {whole}");
        }
        let replays = ask(data_dir, &["rounds", "replay", "--all"]).await;
        let same = replays.as_array().unwrap().iter().filter(|one| one["verdict"] == "same");
        json!({
            "rounds": rounds.len(), "states": states, "told_scored": self.scored.len(),
            "told_commitments": self.committed.len(), "replayed_same": same.count(),
            "void": self.void, "honest_refusals": refusals, "skipped": self.skipped,
            "weights_set": self.weights,
        })
    }
}

/// Kills the network `kills` times at random instants, lets it go on, and checks the books.
async fn killed(kills: usize, speed: &str, events_per_life: std::ops::Range<usize>) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let (config, _) = configuration(directory.path());
    let data_dir = directory.path().join("net");
    let mut random = random();
    let mut said = Said::default();
    for _ in 0..kills {
        let mut network = Talker::start(dev(&data_dir, &config, &["--speed", speed]));
        let life = random.random_range(events_per_life.clone());
        for _ in 0..life {
            let event = tokio::time::timeout(DEADLINE, network.next()).await.unwrap();
            said.hear(&event.expect("the network runs until it is killed"));
        }
        // Right after a line would always be between two steps; this is anywhere.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..100))).await;
        network.process.start_kill().unwrap();
        while let Some(event) = network.next().await {
            said.hear(&event);
        }
        network.process.wait().await.unwrap();
    }
    let mut network = Talker::start(dev(&data_dir, &config, &["--speed", speed]));
    let last = network.wait_for(|event| event["event"] == "round_opened").await;
    said.hear(&last);
    signal(&network.process, "TERM");
    while let Some(event) = network.next().await {
        said.hear(&event);
    }
    assert_eq!(network.process.wait().await.unwrap().code(), Some(0), "a graceful stop");
    let mut figures = said.check(&data_dir).await;
    figures["kills"] = kills.into();
    figures
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_network_is_killed() {
    let figures = killed(4, "600", 40..160).await;
    assert!(figures["rounds"].as_u64().unwrap() > 0, "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes many minutes, scripts/soak kill runs it"]
async fn kill() {
    let kills = setting("TIMES", "50").parse().unwrap();
    println!("{}", killed(kills, &setting("SPEED", "600"), 1..600).await);
}

/// One edit of the configuration file.
struct Edit {
    text: String,
    /// Lines that the answer must contain when the file is to be refused.
    refused: Option<[&'static str; 2]>,
}

fn edit(shipped: &str, n: usize) -> Edit {
    let good = |text: String| Edit { text, refused: None };
    let bad = |text: String, reason: [&'static str; 2]| Edit { text, refused: Some(reason) };
    match n % 8 {
        0 => bad(replaced(shipped, "settle_delay", "\"soon\""), ["settle_delay", "duration"]),
        1 => good(replaced(shipped, "absurd_factor", &format!("{}.5", 2 + n))),
        2 => bad(format!("{shipped}nonsense = [\n"), ["config.toml:", "]"]),
        3 => good(replaced(shipped, "ema_length", &(40 + n).to_string())),
        4 => {
            bad(replaced(shipped, "settle_delay", "\"1h\"\nsettel = 1"), ["settel", "is not a key"])
        }
        5 => good(replaced(shipped, "concurrency", &(200 + n).to_string())),
        6 => bad(replaced(shipped, "round_every", "\"7m\""), ["round_every", "multiple"]),
        _ => good(replaced(shipped, "metagraph_every", &format!("\"{}m\"", 11 + n))),
    }
}

/// Reads on to the wanted event without missing what is said meanwhile.
async fn next(network: &mut Talker, said: &mut Said, wanted: impl Fn(&Value) -> bool) -> Value {
    let read = async {
        loop {
            let event = network.next().await.expect("the network runs on");
            said.hear(&event);
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the network says it in time")
}

/// Edits the file `edits` times under a running network and sends SIGHUP after each fifth edit.
async fn reloaded(edits: usize, speed: &str) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let (config, shipped) = configuration(directory.path());
    let data_dir = directory.path().join("net");
    let mut said = Said::default();
    let mut network = Talker::start(dev(&data_dir, &config, &["--speed", speed]));
    let pid = network.process.id();
    let (mut accepted, mut refused, mut hangups) = (0, 0, 0);
    next(&mut network, &mut said, |event| event["event"] == "commitment").await;
    for n in 0..edits {
        let edit = edit(&shipped, n);
        let draft = config.with_extension("draft");
        std::fs::write(&draft, &edit.text).unwrap();
        std::fs::rename(&draft, &config).unwrap();
        let answer = next(&mut network, &mut said, |event| {
            event["event"] == "reload" && event["node"] == "validator"
        })
        .await;
        let detail = answer["detail"].to_string();
        assert_eq!(answer["accepted"], edit.refused.is_none(), "{answer}");
        if let Some(reasons) = edit.refused {
            refused += 1;
            for part in reasons.iter().chain(&["config.toml:"]) {
                assert!(detail.contains(part), "{part}: {answer}");
            }
        } else {
            accepted += 1;
        }
        if n % 5 == 4 {
            hangups += 1;
            signal(&network.process, "HUP");
            // The validator's tree restarts, or says why not.
            let answer = next(&mut network, &mut said, |event| {
                let is_tree = event["event"] == "restart" && event["target"] == "tree";
                event["node"] == "validator" && (is_tree || event["event"] == "reload")
            })
            .await;
            let is_refused = answer["event"] == "reload";
            assert_eq!(is_refused, edit.refused.is_some(), "{answer}");
        }
    }
    assert_eq!(network.process.id(), pid);
    next(&mut network, &mut said, |event| event["event"] == "commitment").await;
    signal(&network.process, "TERM");
    let mut summary = Value::Null;
    while let Some(event) = network.next().await {
        said.hear(&event);
        summary = event;
    }
    assert_eq!(network.process.wait().await.unwrap().code(), Some(0), "a graceful stop");
    let mut figures = said.check(&data_dir).await;
    figures["edits"] = json!({ "accepted": accepted, "refused": refused, "hangups": hangups });
    figures["restarts"] = summary["restarts"].clone();
    figures
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_and_hangups_lose_nothing_and_a_bad_file_changes_nothing() {
    let figures = reloaded(10, "600").await;
    assert_eq!(figures["edits"]["hangups"], 2, "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, scripts/soak reload runs it"]
async fn reload() {
    let edits = setting("TIMES", "100").parse().unwrap();
    println!("{}", reloaded(edits, &setting("SPEED", "600")).await);
}

/// A long run without disturbance: every due round is settled, in order, and replays the same.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, scripts/soak settle runs it"]
async fn settle() {
    let directory = tempfile::tempdir().unwrap();
    let (config, _) = configuration(directory.path());
    let data_dir = directory.path().join("net");
    let (span, speed, seed) =
        (setting("SPAN", "72h"), setting("SPEED", "600"), setting("SEED", "1"));
    let arguments = ["--for", &span, "--speed", &speed, "--seed", &seed];
    let mut network = Talker::start(dev(&data_dir, &config, &arguments));
    let mut said = Said::default();
    let mut order = Vec::new();
    let mut summary = Value::Null;
    while let Some(event) = network.next().await {
        said.hear(&event);
        if event["event"] == "round_scored" {
            order.push(event["start_ms"].as_i64().unwrap());
        }
        summary = event;
    }
    println!("{summary}");
    assert!(order.is_sorted(), "rounds are scored oldest first");
    assert_eq!(network.process.wait().await.unwrap().code(), Some(0), "every due round is settled");
    let mut figures = said.check(&data_dir).await;
    figures["speed"] = speed.into();
    println!("{figures}");
    assert_eq!((&summary["unsettled"], &summary["slots_skipped"]), (&0.into(), &0.into()));
}
