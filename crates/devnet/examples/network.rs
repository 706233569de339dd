//! The simulated exchanges and the development chain at real time, for benches and for a daemon
//! that is started by hand.
//!
//! ```text
//! network [--recording embedded] [--netuid 8] --validator //Alice --miner //Bob [--miner <SS58 address>] [--peers 16]
//! ```
//! Registers the hotkeys given as development keys or SS58 addresses (validators with a permit),
//! starts and publishes so many further miners that answer a flat forecast, prints the addresses as
//! one line of JSON, and runs until its input is closed or SIGTERM. Every exchange runs. Their candles
//! are those of the embedded recording of Binance, or with `--recording multi-exchange` each
//! exchange's own of the embedded set; both are moved in time so that a week is still to come.

#![expect(clippy::print_stdout, reason = "the addresses are its output")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forecastd_chain::{AxonEndpoint, Chain as _, ChainConfig, Keypair, Subtensor};
use forecastd_core::{Candle, Clock, Hotkey, Interval, NetUid, Rao, Signer};
use forecastd_devnet::chain::{self, DevChainConfig, GenesisNeuron};
use forecastd_devnet::exchange::recordings::{self, Recordings};
use forecastd_devnet::exchange::{self, SimExchange, SimExchangeConfig, recording};
use forecastd_devnet::peers::{self, PeerHandle, PeerKind};
use forecastd_exchange::Exchange;
use futures_util::future::try_join_all;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

type Failure = Box<dyn Error + Send + Sync>;

/// Of all recordings.
const INTERVAL: Interval = Interval::FIVE_MINUTES;
/// Time between two blocks, so that a published axon is on the chain at once.
const BLOCK_TIME: Duration = Duration::from_millis(250);
/// How much of the recording lies ahead of now.
const AHEAD_MS: i64 = 7 * 24 * 3_600_000;
/// The chain refuses exactly 127.0.0.1 as an axon's address.
const AXON_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// The SDK's version that the peers publish.
const AXON_VERSION: u32 = 10_005_000;
const VALIDATOR_STAKE: Rao = Rao(10_000_000_000_000);
const MINER_STAKE: Rao = Rao(1_000_000_000);

/// Market time is real time here.
#[derive(Debug)]
struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

struct Options {
    candles: Recordings,
    netuid: NetUid,
    neurons: Vec<GenesisNeuron>,
    peers: Vec<Arc<Keypair>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = options(std::env::args().skip(1))?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock);
    let mut ends_ms = i64::MAX;
    let mut running: BTreeMap<Exchange, SimExchange> = BTreeMap::new();
    for (name, candles) in options.candles {
        let candles = moved(candles, clock.now_ms() + AHEAD_MS);
        let last_ms = candles.last().map_or(0, |candle| candle.close_time_ms(INTERVAL));
        ends_ms = ends_ms.min(last_ms);
        let config = SimExchangeConfig::new(name, candles.into(), INTERVAL, Arc::clone(&clock));
        running.insert(name, exchange::spawn(config).await?);
    }
    let binance = running.get(&Exchange::Binance).ok_or("the recordings lack Binance")?;
    let chain = chain::spawn(DevChainConfig {
        block_time: BLOCK_TIME,
        genesis: options.neurons,
        ..DevChainConfig::local(options.netuid, Arc::clone(&clock))
    })
    .await?;
    let client = Subtensor::new(ChainConfig::new(vec![chain.ws_url().to_owned()], options.netuid))?;
    let started = options.peers.iter().map(|key| start_peer(&client, key, &clock));
    let peers = try_join_all(started).await?;
    let addresses = serde_json::json!({
        "chain": chain.ws_url(),
        "exchange_ws": binance.ws_url,
        "exchange_rest": binance.rest_url,
        "exchanges": running.iter().map(described).collect::<serde_json::Map<_, _>>(),
        "netuid": options.netuid.0,
        "candles_end_ms": ends_ms,
    });
    println!("{addresses}");
    wait_for_end().await?;
    drop(peers);
    chain.stop().await?;
    for exchange in running.into_values() {
        exchange.stop().await;
    }
    Ok(())
}

fn described((name, exchange): (&Exchange, &SimExchange)) -> (String, serde_json::Value) {
    let symbol = name.default_config().symbol;
    let (ws, rest) = (&exchange.ws_url, &exchange.rest_url);
    (name.to_string(), serde_json::json!({ "symbol": symbol, "ws": ws, "rest": rest }))
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, Failure> {
    let one = recording::embedded()?;
    let candles = Exchange::ALL.into_iter().map(|exchange| (exchange, one.clone())).collect();
    let mut options =
        Options { candles, netuid: NetUid(8), neurons: Vec::new(), peers: Vec::new() };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--recording" if value == "embedded" => {}
            "--recording" if value == "multi-exchange" => {
                options.candles = recordings::multi_exchange()?;
            }
            "--netuid" => options.netuid = NetUid(value.parse()?),
            "--validator" => options.neurons.push(neuron(&value, true)?),
            "--miner" => options.neurons.push(neuron(&value, false)?),
            "--peers" => {
                for number in 0..value.parse()? {
                    let uri = format!("//Peer//{number}");
                    options.neurons.push(neuron(&uri, false)?);
                    options.peers.push(Arc::new(Keypair::from_uri(&uri)?));
                }
            }
            _ => return Err(format!("{word} is not an option").into()),
        }
    }
    Ok(options)
}

fn neuron(name: &str, is_validator: bool) -> Result<GenesisNeuron, Failure> {
    let hotkey = if name.starts_with("//") {
        Keypair::from_uri(name)?.hotkey()
    } else {
        Hotkey::from_ss58(name)?
    };
    Ok(GenesisNeuron {
        hotkey,
        // Nobody signs with a coldkey here; an owner that is the hotkey itself will do.
        coldkey: *hotkey.as_bytes(),
        stake: if is_validator { VALIDATOR_STAKE } else { MINER_STAKE },
        validator_permit: is_validator,
        balance: Rao(0),
    })
}

/// Starts a miner that answers at once, and publishes its axon.
async fn start_peer(
    chain: &Subtensor,
    key: &Arc<Keypair>,
    clock: &Arc<dyn Clock>,
) -> Result<PeerHandle, Failure> {
    let signer: Arc<dyn Signer> = Arc::clone(key) as _;
    let kind = PeerKind::Late { delay: Duration::ZERO };
    let peer = peers::spawn(kind, SocketAddr::new(AXON_IP, 0), signer, Arc::clone(clock)).await?;
    let endpoint = AxonEndpoint {
        ip: peer.address().ip(),
        port: peer.address().port(),
        protocol: 4,
        version: AXON_VERSION,
    };
    chain.serve_axon(&key.chain_signer(), &endpoint).await?;
    Ok(peer)
}

/// Moves the candles by whole intervals so that the last one closes at about `end_ms`.
fn moved(candles: Vec<Candle>, end_ms: i64) -> Vec<Candle> {
    let last_ms = candles.last().map_or(0, |candle| candle.close_time_ms(INTERVAL));
    let by_ms = INTERVAL.floor(end_ms) - INTERVAL.floor(last_ms);
    candles
        .into_iter()
        .map(|candle| Candle { open_time_ms: candle.open_time_ms + by_ms, ..candle })
        .collect()
}

/// Returns when the input is closed, so that nothing stays behind when the starter dies, or at
/// SIGTERM.
async fn wait_for_end() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (closed, is_closed) = oneshot::channel();
    // Standard input can only be read by blocking; the process does not wait for this thread.
    std::thread::spawn(move || {
        closed.send(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
    });
    tokio::select! {
        _ = terminate.recv() => {}
        read = is_closed => { read??; }
    }
    Ok(())
}
