//! Measures requests a second and latency of an axon with validly signed requests.
//!
//! ```text
//! load serve [--workers 2]                        # an axon whose forecast is always ready
//! load --address 127.0.0.1:8091 --hotkey <ss58> [--synapse commit|reveal]
//!      [--requests 20000] [--lanes 16] [--seconds 10]
//! ```
//! `serve` prints address and hotkey as one line of JSON and serves until its input is closed; the
//! other form asks any axon, the Python SDK's too, and prints one line of JSON.
//!
//! All requests are built and signed before the clock starts, so the client's work is a write and a
//! read on a kept connection. The run must end within the freshness window, 34 s after signing.
//! Each lane is a validator of its own, the mini secret of lane n (from 1) being 32 times n: an axon
//! wants the nonces of one caller in order. Commits ask with a new request id each; reveals ask for
//! what a commit before the clock starts froze. An answer without its value counts as status 0.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use forecastd_core::commitment::commitment;
use forecastd_core::{Clock, Signer};
use forecastd_wire::{
    Axon, AxonConfig, Caller, ForecastRequest, LocalSigner, Refusal, Synapse, SynapseHandler,
    signing,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

/// Longest wait for one answer; a server that hangs must not hang the measurement.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Commit,
    Reveal,
}

impl Question {
    const fn class(self) -> &'static str {
        match self {
            Self::Commit => "LiveForwardHash",
            Self::Reveal => "LiveForward",
        }
    }

    /// What a useful answer holds.
    const fn mark(self) -> &'static [u8] {
        match self {
            Self::Commit => br#""hashed_predictions":""#,
            Self::Reveal => br#""buffer":""#,
        }
    }
}

#[derive(Debug)]
struct RealClock;

impl RealClock {
    /// Nonces are nanoseconds.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.now_ms()).unwrap_or(0) * 1_000_000
    }
}

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// A miner whose forecast is always ready.
struct Ready {
    hotkey_text: String,
    values: Arc<[f64]>,
}

#[async_trait]
impl SynapseHandler for Ready {
    fn admit(&self, _: &Caller, _: Synapse) -> Result<(), String> {
        Ok(())
    }

    async fn commit(&self, _: &Caller, _: &ForecastRequest) -> Result<String, Refusal> {
        Ok(commitment(&self.hotkey_text, &self.values))
    }

    async fn reveal(&self, _: &Caller, _: &ForecastRequest) -> Result<Arc<[f64]>, Refusal> {
        Ok(Arc::clone(&self.values))
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == "serve").is_some() {
        return serve(&options(words)?).await;
    }
    let options = options(words)?;
    let requests = number(&options, "requests", 20_000)?;
    let lanes = number(&options, "lanes", 16)?.max(1);
    let limit = Duration::from_secs(number(&options, "seconds", 10)? as u64);
    let question = match options.get("synapse").map_or("reveal", String::as_str) {
        "commit" => Question::Commit,
        "reveal" => Question::Reveal,
        other => return Err(format!("{other} is neither commit nor reveal").into()),
    };
    let receiver = options.get("hotkey").ok_or("--hotkey is missing")?.clone();
    let address: SocketAddr = options.get("address").ok_or("--address is missing")?.parse()?;
    let askers = (1..=lanes)
        .map(|number| Asker::new(u8::try_from(number)?, receiver.clone()))
        .collect::<Result<Vec<_>, Failure>>()?;
    if question == Question::Reveal {
        for asker in &askers {
            let first = vec![asker.signed(Question::Commit, RealClock.now_ns(), asker.frozen)];
            let answers = lane(address, first, Question::Commit, Instant::now() + limit).await?;
            if answers.iter().any(|(status, _)| *status != 200) {
                return Err(format!("the first commit was answered {answers:?}").into());
            }
        }
    }
    let begun = Instant::now();
    let signed: Vec<_> =
        askers.iter().map(|asker| asker.sign_all(question, requests / lanes)).collect();
    let signing = begun.elapsed();
    let begun = Instant::now();
    let tasks: Vec<_> = signed
        .into_iter()
        .map(|requests| tokio::spawn(lane(address, requests, question, begun + limit)))
        .collect();
    let mut latencies = Vec::with_capacity(requests);
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for task in tasks {
        for (status, latency) in task.await?? {
            latencies.push(latency);
            *statuses.entry(status).or_default() += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let quantile = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..len")]
        let index = (share * (latencies.len().saturating_sub(1)) as f64).round() as usize;
        latencies.get(index).map_or(0.0, Duration::as_secs_f64) * 1e3
    };
    let report = serde_json::json!({
        "synapse": question.class(),
        "lanes": lanes,
        "requests": latencies.len(),
        "seconds": seconds,
        "per_second": latencies.len() as f64 / seconds,
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "greatest_ms": quantile(1.0),
        "statuses": statuses,
        "signing_seconds": signing.as_secs_f64(),
    });
    println!("{report}");
    Ok(())
}

fn options(mut words: impl Iterator<Item = String>) -> Result<BTreeMap<String, String>, Failure> {
    let mut options = BTreeMap::new();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").ok_or_else(|| format!("{word} is not an option"))?;
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        options.insert(name.to_owned(), value);
    }
    Ok(options)
}

fn number(
    options: &BTreeMap<String, String>,
    name: &str,
    default: usize,
) -> Result<usize, Failure> {
    options.get(name).map_or(Ok(default), |text| Ok(text.parse()?))
}

/// An axon that answers as fast as the protocol allows.
async fn serve(options: &BTreeMap<String, String>) -> Result<(), Failure> {
    let signer = LocalSigner::from_mini_secret(&[255; 32])?;
    let hotkey_text = signer.hotkey().to_ss58();
    let values: Vec<f64> = (0..100).map(|step| 43_000.1 + f64::from(step) * 1.37).collect();
    let handler = Ready { hotkey_text: hotkey_text.clone(), values: values.into() };
    let config = AxonConfig { workers: number(options, "workers", 2)?, ..AxonConfig::loopback() };
    let axon =
        Axon::spawn(config, Arc::new(signer), Arc::new(RealClock), Arc::new(handler)).await?;
    println!("{}", serde_json::json!({ "address": axon.address(), "hotkey": hotkey_text }));
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    axon.stop(Duration::from_secs(1)).await;
    Ok(())
}

/// Who asks whom.
struct Asker {
    signer: LocalSigner,
    receiver: String,
    /// The request id of all reveals.
    frozen: Uuid,
}

impl Asker {
    fn new(number: u8, receiver: String) -> Result<Self, Failure> {
        let signer = LocalSigner::from_mini_secret(&[number; 32])?;
        Ok(Self { signer, receiver, frozen: Uuid::new_v4() })
    }

    fn sign_all(&self, question: Question, count: usize) -> Vec<Vec<u8>> {
        let first = RealClock.now_ns();
        let signed = (first..).take(count).map(|nonce| {
            let id = if question == Question::Commit { Uuid::new_v4() } else { self.frozen };
            self.signed(question, nonce, id)
        });
        signed.collect()
    }

    fn signed(&self, question: Question, nonce: u64, request: Uuid) -> Vec<u8> {
        let sender = self.signer.hotkey().to_ss58();
        let uuid = "load";
        let hash = signing::EMPTY_BODY_HASH;
        let text = signing::request_text(nonce, &sender, &self.receiver, uuid, hash);
        let signature = signing::format_signature(&self.signer.sign(text.as_bytes()));
        let class = question.class();
        let body = format!(
            r#"{{"request_uuid":"{request}","stream_id":"BTCUSD-5m","topic_id":1,"feature_ids":[1.0,2.0,3.0,4.0,5.0],"prediction_size":100,"schema_id":1}}"#
        );
        format!(
            "POST /{class} HTTP/1.1\r\nhost: axon\r\nname: {class}\r\ntimeout: 30.0\r\n\
             bt_header_dendrite_version: 10005000\r\nbt_header_dendrite_nonce: {nonce}\r\n\
             bt_header_dendrite_uuid: {uuid}\r\nbt_header_dendrite_hotkey: {sender}\r\n\
             bt_header_dendrite_signature: {signature}\r\ncomputed_body_hash: {hash}\r\n\
             bt_header_input_obj_request_uuid: IiI=\r\n\
             bt_header_input_obj_stream_id: IiI=\r\nbt_header_input_obj_topic_id: MA==\r\n\
             bt_header_input_obj_feature_ids: W10=\r\n\
             bt_header_input_obj_prediction_size: MA==\r\n\
             bt_header_input_obj_schema_id: MA==\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len(),
        )
        .into_bytes()
    }
}

/// Sends requests in nonce order over one connection until they or the time are used up.
async fn lane(
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    question: Question,
    until: Instant,
) -> Result<Vec<(u16, Duration)>, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8192);
    let mut seen = Vec::with_capacity(requests.len());
    for request in &requests {
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        stream.write_all(request).await?;
        let answer = read_answer(&mut stream, &mut buffer, question);
        let status = tokio::time::timeout(ANSWER_LIMIT, answer).await??;
        seen.push((status, begun.elapsed()));
    }
    Ok(seen)
}

async fn read_answer(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    question: Question,
) -> Result<u16, Failure> {
    buffer.clear();
    loop {
        if let Some(end) = position(buffer, b"\r\n\r\n") {
            let head = std::str::from_utf8(buffer.get(..end).unwrap_or_default())?;
            let status = head.split(' ').nth(1).ok_or("answer without a status")?.parse()?;
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .ok_or("answer without a length")?
                .parse()?;
            while buffer.len() < end + 4 + length {
                fill(stream, buffer).await?;
            }
            let is_empty = status == 200 && position(buffer, question.mark()).is_none();
            return Ok(if is_empty { 0 } else { status });
        }
        fill(stream, buffer).await?;
    }
}

fn position(buffer: &[u8], wanted: &[u8]) -> Option<usize> {
    buffer.windows(wanted.len()).position(|window| window == wanted)
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    if stream.read_buf(buffer).await? == 0 {
        return Err("the axon closed the connection".into());
    }
    Ok(())
}
