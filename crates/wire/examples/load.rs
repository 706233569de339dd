//! Measures requests a second and latency of an axon with validly signed `LiveForward` requests.
//!
//! ```text
//! load [--requests 20000] [--lanes 16] [--workers 2]                    # its own server
//! load --address 127.0.0.1:8091 --hotkey <ss58> --secret <hex of a mini secret> [...]
//! ```
//! All requests are built and signed before the clock starts, so the client's work is a write and a
//! read on a kept connection. The run must end within the freshness window, 34 s after signing.
//! With its own server, client and server share the machine's cores.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use forecastd_core::commitment::commitment;
use forecastd_core::{Clock, Hotkey, Signer};
use forecastd_wire::{
    Axon, AxonConfig, Caller, ForecastRequest, LocalSigner, Refusal, Synapse, SynapseHandler,
    signing,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

type Failure = Box<dyn Error + Send + Sync>;

const BODY: &str = concat!(
    r#"{"request_uuid":"5b0a7d3e-6a1b-4f0c-8a52-2a1f4e6d7c8b","stream_id":"BTCUSD-5m","#,
    r#""topic_id":1,"feature_ids":[1.0,2.0,3.0,4.0,5.0],"prediction_size":100,"schema_id":1}"#,
);

#[derive(Debug)]
struct RealClock;

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
    let options = options()?;
    let number = |name: &str, default: usize| -> Result<usize, Failure> {
        options.get(name).map_or(Ok(default), |text| Ok(text.parse()?))
    };
    let requests = number("requests", 20_000)?;
    let lanes = number("lanes", 16)?.max(1);
    let secret = options.get("secret").map_or(Ok(vec![1; 32]), hex::decode)?;
    let secret: [u8; 32] = secret.try_into().map_err(|_| "--secret needs 32 bytes")?;
    let signer = LocalSigner::from_mini_secret(&secret)?;
    let (axon, address, receiver) = if let Some(address) = options.get("address") {
        let hotkey = options.get("hotkey").ok_or("--address needs --hotkey")?;
        (None, address.parse()?, Hotkey::from_ss58(hotkey)?)
    } else {
        let (axon, receiver) = own_server(number("workers", 2)?).await?;
        let address = axon.address();
        (Some(axon), address, receiver)
    };
    let begun = Instant::now();
    let signed = Arc::new(sign_all(&signer, &receiver, requests));
    println!("{requests} requests signed in {:.2} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..lanes)
        .map(|_| tokio::spawn(lane(address, Arc::clone(&signed), Arc::clone(&next))))
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
        let index = (share * (latencies.len().saturating_sub(1)) as f64) as usize;
        latencies.get(index).map_or(0.0, Duration::as_secs_f64) * 1e3
    };
    println!(
        "{lanes} lanes: {:.0} requests/s, p50 {:.2} ms, p99 {:.2} ms, greatest {:.2} ms, \
         statuses {statuses:?}",
        latencies.len() as f64 / seconds,
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
    );
    if let Some(axon) = axon {
        println!("{:?}", axon.counters());
        axon.stop(Duration::from_secs(1)).await;
    }
    Ok(())
}

fn options() -> Result<BTreeMap<String, String>, Failure> {
    let mut options = BTreeMap::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").ok_or_else(|| format!("{word} is not an option"))?;
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        options.insert(name.to_owned(), value);
    }
    Ok(options)
}

async fn own_server(workers: usize) -> Result<(Axon, Hotkey), Failure> {
    let signer = LocalSigner::from_mini_secret(&[2; 32])?;
    let hotkey = signer.hotkey();
    let values: Vec<f64> = (0..100).map(|step| 43_000.1 + f64::from(step) * 1.37).collect();
    let handler = Ready { hotkey_text: hotkey.to_ss58(), values: values.into() };
    let config = AxonConfig { workers, ..AxonConfig::loopback() };
    let axon =
        Axon::spawn(config, Arc::new(signer), Arc::new(RealClock), Arc::new(handler)).await?;
    Ok((axon, hotkey))
}

fn sign_all(signer: &LocalSigner, receiver: &Hotkey, count: usize) -> Vec<Vec<u8>> {
    let sender = signer.hotkey().to_ss58();
    let receiver = receiver.to_ss58();
    let first = u64::try_from(RealClock.now_ms()).unwrap_or(0) * 1_000_000;
    let hash = signing::EMPTY_BODY_HASH;
    (first..)
        .take(count)
        .map(|nonce| {
            let text = signing::request_text(nonce, &sender, &receiver, "load", hash);
            let signature = signing::format_signature(&signer.sign(text.as_bytes()));
            format!(
                "POST /LiveForward HTTP/1.1\r\nhost: axon\r\nname: LiveForward\r\ntimeout: 30.0\r\n\
                 bt_header_dendrite_version: 10005000\r\nbt_header_dendrite_nonce: {nonce}\r\n\
                 bt_header_dendrite_uuid: load\r\nbt_header_dendrite_hotkey: {sender}\r\n\
                 bt_header_dendrite_signature: {signature}\r\ncomputed_body_hash: {hash}\r\n\
                 bt_header_input_obj_request_uuid: IiI=\r\n\
                 bt_header_input_obj_stream_id: IiI=\r\nbt_header_input_obj_topic_id: MA==\r\n\
                 bt_header_input_obj_feature_ids: W10=\r\n\
                 bt_header_input_obj_prediction_size: MA==\r\n\
                 bt_header_input_obj_schema_id: MA==\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{BODY}",
                BODY.len(),
            )
            .into_bytes()
        })
        .collect()
}

/// Sends requests in nonce order from the common list over one connection.
async fn lane(
    address: SocketAddr,
    signed: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
) -> Result<Vec<(u16, Duration)>, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8192);
    let mut seen = Vec::new();
    while let Some(request) = signed.get(next.fetch_add(1, Ordering::Relaxed)) {
        let begun = Instant::now();
        stream.write_all(request).await?;
        let status = read_answer(&mut stream, &mut buffer).await?;
        seen.push((status, begun.elapsed()));
    }
    Ok(seen)
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<u16, Failure> {
    buffer.clear();
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
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
            return Ok(status);
        }
        fill(stream, buffer).await?;
    }
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    if stream.read_buf(buffer).await? == 0 {
        return Err("the axon closed the connection".into());
    }
    Ok(())
}
