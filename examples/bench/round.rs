//! Scoring a round of 256 answers of 100 steps, alone and with the durable write of the result.
//!
//! The second figure runs the validator's own path (`forecastd_actors::ledger`): answers read from
//! the store, scored, and result, averages, history and answers written in one flushed batch. The
//! peer does the original's work with numpy; it is only believed when its averages are ours.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use forecastd::{assemble, clock::SystemClock, config::Config};
use forecastd_actors::drain::Drain;
use forecastd_actors::events::EventSink;
use forecastd_actors::ledger::{ScoredRound, clear_hot, hot_answers};
use forecastd_actors::node::Node;
use forecastd_chain::{ChainConfig, Keypair, Subtensor};
use forecastd_core::{
    Clock, EmaState, Hotkey, NetUid, Role, RoundInput, RoundState, ScoringConfig, Signer as _,
    StreamSpec, Uid, score_round,
};
use forecastd_store::{AnswerRecord, AskedMiner, Batch, Identity, RoundRecord, Store, StoreConfig};
use serde_json::Value;
use tokio::time::Instant;

use crate::Programs;
use crate::network::Folder;
use crate::process::output_of;
use crate::report::{Better, Figure, Peer, quantile_ms};

const BENCH: &str = "round";
const ROUNDS: usize = 400;
const MINERS: u16 = 256;
/// Rounds that the peer gets, over and over.
const PEER_INPUTS: usize = 4;
/// Relative difference of averages that is rounding.
const TOLERANCE: f64 = 1e-9;
const NETUID: NetUid = NetUid(8);
const REGISTERED_AT: u64 = 1_000;

/// Measures and prints.
pub(crate) async fn run(programs: &Programs) -> anyhow::Result<()> {
    let folder = Folder::new(programs, "round")?;
    let node = node(folder.path())?;
    let spec = node.settings.load().streams.first().context("no stream")?.spec.clone();
    let (mut scoring, mut storing) = (Vec::new(), Vec::new());
    let config = ScoringConfig::default();
    let mut averages = EmaState::default();
    for number in 0..ROUNDS {
        let input = round(&spec, number);
        let begun = Instant::now();
        averages = score_round(&input, &averages, &config)?.ema;
        scoring.push(begun.elapsed());
        storing.push(settle(&node, &spec, &input, &config).await?);
    }
    node.store.close().await;
    let peer = peer(programs, folder.path(), &spec).await;
    let with_peer = |field: &str, how: &str| match &peer {
        Ok((name, said)) => said[field].as_f64().map_or_else(
            || Peer::Missing(format!("it did not say {field}")),
            |value| Peer::Measured { name: format!("{name}{how}"), value },
        ),
        Err(error) => Peer::Missing(format!("{error:#}")),
    };
    let detail = format!("{ROUNDS} rounds of {MINERS} answers of {} steps", spec.horizon);
    let durable = format!(
        "{detail}; answers read from the store, result flushed in one transaction, a flush of 256 \
         KiB to this disk takes {:.1} ms",
        flush_ms(folder.path())?
    );
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let peer = with_peer(&format!("score_{name}_ms"), "");
        figure(&format!("score {name}"), quantile_ms(&mut scoring, share), peer, &detail)?;
    }
    let stores = [
        (
            "score and store",
            "score_and_store",
            ", answers in memory, averages and record written as JSON without a flush",
        ),
        (
            "score and store, both flushed",
            "score_and_store_flushed",
            ", answers in memory, averages and record written as JSON and flushed",
        ),
    ];
    // Without a peer the second would be the first again.
    let compared = if peer.is_ok() { 2 } else { 1 };
    for (metric, field, how) in stores.into_iter().take(compared) {
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let peer = with_peer(&format!("{field}_{name}_ms"), how);
            let value = quantile_ms(&mut storing, share);
            figure(&format!("{metric} {name}"), value, peer, &durable)?;
        }
    }
    Ok(())
}

/// Returns the median time that the disk takes to make something durable.
fn flush_ms(folder: &Path) -> anyhow::Result<f64> {
    let mut file = std::fs::File::create(folder.join("flush"))?;
    let content = vec![1; 256 * 1024];
    let mut samples = Vec::new();
    for _ in 0..50 {
        file.write_all(&content)?;
        let begun = Instant::now();
        file.sync_data()?;
        samples.push(begun.elapsed());
    }
    Ok(quantile_ms(&mut samples, 0.5))
}

fn figure(metric: &str, value: f64, peer: Peer, conditions: &str) -> anyhow::Result<()> {
    let conditions = conditions.to_owned();
    Figure { bench: BENCH, metric, value, unit: "ms", better: Better::Less, peer, conditions }
        .print()
}

/// Returns what the ledger needs of a validator; its chain is never asked.
fn node(folder: &Path) -> anyhow::Result<Node> {
    let config = Config::from_text("[[stream]]\nid = \"BTCUSD-5m\"\n", "bench", [])?;
    let key = Keypair::from_uri("//Validator")?;
    let identity = Identity {
        network: "bench".to_owned(),
        netuid: NETUID,
        hotkey: key.hotkey(),
        role: Role::Validator,
    };
    let store = Store::open(StoreConfig::new(folder.join("store"), identity))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let name: Arc<str> = "bench".into();
    Ok(Node {
        name: Arc::clone(&name),
        role: Role::Validator,
        key: Arc::new(key),
        market: Arc::clone(&clock),
        real: Arc::clone(&clock),
        store,
        chain: Arc::new(Subtensor::new(ChainConfig::new(config.network.node_urls(), NETUID))?),
        settings: Arc::new(ArcSwap::from_pointee(assemble::settings(&config, 1))),
        boards: Arc::default(),
        book: Arc::default(),
        sources: Arc::default(),
        vitals: Arc::default(),
        events: EventSink::new(clock, name),
        faults: Arc::default(),
        drain: Drain::default(),
    })
}

/// Puts a round in flight into the store, settles it, and returns how long the settling took.
async fn settle(
    node: &Node,
    spec: &StreamSpec,
    input: &RoundInput,
    config: &ScoringConfig,
) -> anyhow::Result<Duration> {
    let record = record(spec, input);
    let mut batch = Batch::new().put(&(spec.id.clone(), input.start_ms), &record)?;
    for (hotkey, closes) in &input.answers {
        let commitment = forecastd_core::commitment::commitment(&hotkey.to_ss58(), closes);
        let answer = AnswerRecord { closes: closes.clone(), commitment };
        batch = batch.put(&(spec.id.clone(), input.start_ms, *hotkey), &answer)?;
    }
    node.store.write(batch).await?;
    let (realised, members) = (input.realised.clone(), input.members.clone());

    let begun = Instant::now();
    let answers = hot_answers(node, spec, &record)?;
    let scored = ScoredRound::compute(node, spec, &record, realised, members, answers, config)?;
    node.store.write(scored.batch).await?;
    let took = begun.elapsed();

    anyhow::ensure!(scored.scored == usize::from(MINERS), "only {} were scored", scored.scored);
    clear_hot(node, spec, &record).await?;
    Ok(took)
}

fn record(spec: &StreamSpec, input: &RoundInput) -> RoundRecord {
    let asked = (0..MINERS).zip(&input.answers).map(|(number, (hotkey, _))| AskedMiner {
        hotkey: *hotkey,
        uid: Uid(number),
        registered_at_block: REGISTERED_AT,
        commitment: None,
        refusal: None,
    });
    RoundRecord {
        round_id: format!("round-{}", input.start_ms),
        start_ms: input.start_ms,
        due_at_ms: spec.end_ms(input.start_ms),
        state: RoundState::Pending,
        asked: asked.collect(),
        opened_at_ms: input.start_ms,
        last_close: input.realised.first().copied().unwrap_or(1.0),
    }
}

/// A round of random walks, the same in every run.
fn round(spec: &StreamSpec, number: usize) -> RoundInput {
    let start_ms = spec.round_every.as_ms() * i64::try_from(number + 1).unwrap_or(1);
    let mut random = Random(number as u64 + 1);
    let realised = random.walk(spec.horizon);
    let answers: Vec<_> =
        (0..MINERS).map(|miner| (hotkey(miner), random.walk(spec.horizon))).collect();
    let members = answers.iter().map(|(hotkey, _)| (*hotkey, REGISTERED_AT)).collect();
    let (stream, horizon) = (spec.id.clone(), spec.horizon);
    RoundInput { stream, start_ms, horizon, realised, answers, members }
}

fn hotkey(miner: u16) -> Hotkey {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&miner.to_be_bytes());
    Hotkey::from_bytes(bytes)
}

/// xorshift64: good enough for prices, and no dependency.
struct Random(u64);

impl Random {
    /// Between -1 and 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn walk(&mut self, steps: usize) -> Vec<f64> {
        let mut close = 60_000.0;
        let mut step = || {
            close *= 1.0 + 0.001 * self.next();
            // Realised closes reach the original in single precision.
            f64::from(forecastd_core::numeric::to_f32(close))
        };
        (0..steps).map(|_| step()).collect()
    }
}

/// Runs the original's scoring in Python on the first rounds and checks its averages.
async fn peer(
    programs: &Programs,
    folder: &Path,
    spec: &StreamSpec,
) -> anyhow::Result<(String, Value)> {
    let name = programs.python.scoring().map_err(anyhow::Error::msg)?;
    let rounds: Vec<RoundInput> = (0..PEER_INPUTS).map(|number| round(spec, number)).collect();
    let documents: Vec<Value> = rounds.iter().map(document).collect();
    let file = folder.join("rounds.json");
    std::fs::write(&file, serde_json::to_string(&documents)?)?;
    let mut command = programs.python.script(&programs.repository.join("scripts/peers/scoring.py"));
    command.arg("--rounds").arg(&file).args(["--repeat", &ROUNDS.to_string()]);
    command.arg("--tables").arg(programs.repository.join("tests/vectors/scoring/tables.json"));
    command.arg("--folder").arg(folder.join("peer"));
    let said = output_of(command).await?;

    let mut ours = EmaState::default();
    for input in &rounds {
        ours = score_round(input, &ours, &ScoringConfig::seed())?.ema;
    }
    for (hotkey, entry) in &ours.0 {
        let theirs = said["weights"][hotkey.to_ss58()].as_f64().context("an average is missing")?;
        let difference = (theirs - entry.value).abs();
        anyhow::ensure!(
            difference <= TOLERANCE * entry.value.abs().max(TOLERANCE),
            "the peer's average of {hotkey} is {theirs}, not {}",
            entry.value
        );
    }
    Ok((name, said))
}

fn document(input: &RoundInput) -> Value {
    let predictions: serde_json::Map<String, Value> =
        input.answers.iter().map(|(key, closes)| (key.to_ss58(), closes.clone().into())).collect();
    serde_json::json!({ "closes": input.realised, "predictions": predictions })
}
