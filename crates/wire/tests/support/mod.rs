//! Keys, clocks and raw HTTP for the tests of this crate.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use forecastd_core::commitment::commitment;
use forecastd_core::{Clock, Hotkey, Signer};
use forecastd_wire::{
    AxonTarget, Caller, ForecastRequest, LocalSigner, Refusal, Synapse, SynapseHandler,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time that anything in these tests may take before it counts as hanging.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The secrets behind the public development keys, which every Substrate chain knows.
const DEV_SECRETS: [(&str, &str); 4] = [
    ("//Alice", "e5be9a5092b81bca64be81d212e7f2f9eba183bb7a90954f7b76361f6edb5c0a"),
    ("//Bob", "398f0c28f98885e046333d4a41c19cee4c37368a9832c6502f6cfd182e2aef89"),
    ("//Charlie", "bc1ede780f784bb6991a585e4f6e61522c14e1cae6ad0895fb57b9a205a8f938"),
    ("//Dave", "868020ae0687dda7d57565093a69090211449845a7e11453612800b663307246"),
];

/// The real time.
#[derive(Debug)]
pub(crate) struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).unwrap()
    }
}

/// Returns the signer of a development key.
pub(crate) fn dev(uri: &str) -> Arc<LocalSigner> {
    let (_, secret) = DEV_SECRETS.iter().find(|(name, _)| *name == uri).expect("known dev key");
    let mut bytes = [0; 32];
    hex::decode_to_slice(secret, &mut bytes).unwrap();
    Arc::new(LocalSigner::from_mini_secret(&bytes).unwrap())
}

/// Returns one of many keys.
pub(crate) fn numbered(number: u8) -> Arc<LocalSigner> {
    Arc::new(LocalSigner::from_mini_secret(&[number; 32]).unwrap())
}

/// The folder of the golden files of this crate.
pub(crate) fn vectors() -> PathBuf {
    let root = std::env::var_os("FORECASTD_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors")),
        PathBuf::from,
    );
    root.join("wire")
}

/// Reads a golden file.
pub(crate) fn golden(name: &str) -> Value {
    let path = vectors().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The request that the original validator sends.
pub(crate) fn request(uuid: &str) -> ForecastRequest {
    ForecastRequest {
        request_uuid: uuid.to_owned(),
        stream_id: "BTCUSD-5m".to_owned(),
        topic_id: 1,
        schema_id: 1,
        feature_ids: vec![1.0, 2.0, 3.0, 4.0, 5.0],
        prediction_size: 100,
    }
}

/// A miner with fixed values, who refuses the hotkeys that it is told to.
pub(crate) struct FixedMiner {
    pub(crate) hotkey: Hotkey,
    pub(crate) values: Arc<[f64]>,
    pub(crate) refused: Vec<Hotkey>,
    pub(crate) calls: AtomicUsize,
}

impl FixedMiner {
    pub(crate) fn new(hotkey: Hotkey, values: Vec<f64>) -> Self {
        Self { hotkey, values: values.into(), refused: Vec::new(), calls: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl SynapseHandler for FixedMiner {
    fn admit(&self, caller: &Caller, _: Synapse) -> Result<(), String> {
        if self.refused.contains(&caller.hotkey) { Err(caller.hotkey.to_ss58()) } else { Ok(()) }
    }

    async fn commit(&self, _: &Caller, _: &ForecastRequest) -> Result<String, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(commitment(&self.hotkey.to_ss58(), &self.values))
    }

    async fn reveal(&self, _: &Caller, _: &ForecastRequest) -> Result<Arc<[f64]>, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::clone(&self.values))
    }
}

/// A hundred prices that differ in their last digits.
pub(crate) fn prices() -> Vec<f64> {
    (0..100).map(|step| 43_000.0 + f64::from(step) * 1.37 + 0.1).collect()
}

pub(crate) fn target(signer: &dyn Signer, address: SocketAddr) -> AxonTarget {
    AxonTarget { hotkey: signer.hotkey(), address }
}

/// A raw HTTP answer.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends bytes and reads one answer; `None` when the connection ends without one.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<RawAnswer> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_answer(&mut stream).await
}

/// Reads one answer with a content length.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Option<RawAnswer> {
    tokio::time::timeout(DEADLINE, read_answer_unbounded(stream)).await.expect("answer in time")
}

async fn read_answer_unbounded(stream: &mut TcpStream) -> Option<RawAnswer> {
    let mut raw = Vec::new();
    let end = loop {
        if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut raw).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("header with a value");
            (name.to_owned(), value.to_owned())
        })
        .collect();
    let length: usize = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.parse().unwrap());
    while raw.len() < end + 4 + length {
        if stream.read_buf(&mut raw).await.ok()? == 0 {
            return None;
        }
    }
    Some(RawAnswer { status, headers, body: raw[end + 4..end + 4 + length].to_vec() })
}

/// Reads a whole request from a client, headers and body.
pub(crate) async fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut raw = Vec::new();
    loop {
        if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(raw[..end].to_vec()).unwrap();
            let length: usize = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                })
                .unwrap_or(0);
            if raw.len() >= end + 4 + length {
                return (head, raw[end + 4..].to_vec());
            }
        }
        assert!(stream.read_buf(&mut raw).await.unwrap() > 0, "request broke off");
    }
}
