//! A simulated Binance: replays recorded candles over the real WebSocket and REST protocol.
//!
//! One listener on loopback. What has happened is decided by a market clock alone, so the replay
//! runs at any speed; pings, limits and time-outs keep real time. After the end of the recording
//! the market is silent.

mod fault;
mod http;
mod market;
pub mod recording;
mod requests;
mod session;
mod texts;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forecastd_core::{Candle, CandleError, Clock, Interval};
use forecastd_exchange::binance::interval_name;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::{JoinHandle, JoinSet};

pub use self::fault::Fault;
use self::fault::{PendingFaults, RestFault};
use self::market::Market;
pub use self::market::TRADES_PER_CANDLE;

/// Open connections, WebSocket and REST together.
const MAX_CONNECTIONS: usize = 256;
/// Faults that may wait for a connection that is busy sending.
const FAULT_QUEUE: usize = 64;
/// Pause after the system refused a connection, for example without file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the simulated exchange replays, and how.
#[derive(Debug, Clone)]
pub struct SimExchangeConfig {
    /// The recording, rising, of one interval.
    pub candles: Arc<[Candle]>,
    /// The market's name in capitals, for example `BTCUSDT`.
    pub symbol: String,
    /// Interval of the recording. Streams and REST offer it and its multiples.
    pub interval: Interval,
    /// Market time.
    pub clock: Arc<dyn Clock>,
    /// Port on loopback, 0 for a free one.
    pub port: u16,
    /// Market time between forming updates; real Binance: 2 s.
    pub forming_every: Duration,
    /// Least real time between forming updates, so that a fast replay does not flood its clients.
    /// Each candle has at least one all the same.
    pub forming_every_real: Duration,
    /// Market time from the end of an interval to its final candle; measured once: 1.76 s.
    pub final_delay: Duration,
    /// Real time between ping frames; real Binance: 20 s.
    pub ping_every: Duration,
    /// Real time after which a connection is closed; real Binance: 24 h.
    pub connection_life: Duration,
}

impl SimExchangeConfig {
    /// Settings of the real exchange for a recording of `BTCUSDT`.
    pub fn new(candles: Arc<[Candle]>, interval: Interval, clock: Arc<dyn Clock>) -> Self {
        Self {
            candles,
            symbol: "BTCUSDT".to_owned(),
            interval,
            clock,
            port: 0,
            forming_every: Duration::from_secs(2),
            forming_every_real: Duration::from_millis(100),
            final_delay: Duration::from_millis(1_700),
            ping_every: Duration::from_secs(20),
            connection_life: Duration::from_hours(24),
        }
    }

    fn validate(&self) -> Result<(), SimExchangeError> {
        let refuse = |key, value: String, rule| SimExchangeError::Config { key, value, rule };
        let is_symbol = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        if !(1..=32).contains(&self.symbol.len()) || !self.symbol.bytes().all(is_symbol) {
            let rule = "1 to 32 capitals and digits";
            return Err(refuse("symbol", self.symbol.clone(), rule));
        }
        if interval_name(self.interval).is_none() {
            return Err(refuse("interval", self.interval.to_string(), "a Binance interval"));
        }
        if self.candles.is_empty() {
            return Err(refuse("candles", "empty".to_owned(), "at least one candle"));
        }
        let mut last_ms = -1;
        for candle in self.candles.iter() {
            candle.validate(self.interval)?;
            if candle.open_time_ms <= last_ms {
                let value = candle.open_time_ms.to_string();
                return Err(refuse("candles", value, "rising in open time"));
            }
            last_ms = candle.open_time_ms;
        }
        if self.ping_every.is_zero() || self.connection_life.is_zero() {
            return Err(refuse("ping_every, connection_life", "0s".to_owned(), "above zero"));
        }
        Ok(())
    }
}

/// Why the simulated exchange cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SimExchangeError {
    /// A setting is wrong.
    #[error("simulated exchange setting `{key}` is {value}, must be {rule}")]
    Config {
        /// Name of the setting.
        key: &'static str,
        /// The refused value.
        value: String,
        /// What is accepted.
        rule: &'static str,
    },
    /// A candle of the recording breaks a rule.
    #[error("recording of the simulated exchange is not valid")]
    Candle(#[from] CandleError),
    /// The port cannot be had.
    #[error("simulated exchange cannot listen on {address}, choose another port")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    config: SimExchangeConfig,
    market: Market,
    /// The symbol as it stands in stream names.
    stream_symbol: String,
    final_delay_ms: i64,
    /// Market time between two looks at the executions.
    trade_step_ms: i64,
    faults: broadcast::Sender<Fault>,
    pending_faults: PendingFaults,
    weight: http::Weight,
    connections: AtomicU64,
    open_sockets: AtomicU64,
    rest_requests: AtomicU64,
}

impl Shared {
    /// Market time between forming updates of `interval`: not faster than wanted in either time,
    /// but at least two in a candle.
    fn forming_step_ms(&self, interval: Interval) -> i64 {
        let second = Duration::from_secs(1);
        let speed = second.as_secs_f64() / self.config.clock.real_duration_of(second).as_secs_f64();
        let real = self.config.forming_every_real.as_secs_f64() * speed.clamp(1e-3, 1e9);
        let step = Duration::from_secs_f64(real.max(self.config.forming_every.as_secs_f64()));
        millis(step).clamp(1, (interval.as_ms() / 2).max(1))
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}

/// A running simulated exchange. Dropping it cuts all connections and frees the port.
#[derive(Debug)]
pub struct SimExchange {
    /// `ws://127.0.0.1:port`, the value of a feed's `ws_url`.
    pub ws_url: String,
    /// `http://127.0.0.1:port`, the value of a feed's `rest_url`.
    pub rest_url: String,
    shared: Arc<Shared>,
    listener: Listener,
}

/// The task that owns the port and all connections.
#[derive(Debug)]
struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a simulated exchange on loopback.
///
/// # Errors
/// [`SimExchangeError`] when the recording or a setting is wrong, or the port is taken.
pub async fn spawn(config: SimExchangeConfig) -> Result<SimExchange, SimExchangeError> {
    config.validate()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let (listener, address) =
        bound.await.map_err(|source| SimExchangeError::Bind { address, source })?;
    let execution_step =
        config.interval.as_ms() / i64::try_from(TRADES_PER_CANDLE).unwrap_or(i64::MAX);
    let shared = Arc::new(Shared {
        market: Market::new(Arc::clone(&config.candles), config.interval),
        stream_symbol: config.symbol.to_ascii_lowercase(),
        final_delay_ms: millis(config.final_delay),
        trade_step_ms: execution_step.max(1),
        faults: broadcast::channel(FAULT_QUEUE).0,
        pending_faults: PendingFaults::default(),
        weight: http::Weight::new(),
        connections: AtomicU64::new(0),
        open_sockets: AtomicU64::new(0),
        rest_requests: AtomicU64::new(0),
        config,
    });
    let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
    tracing::info!(%address, "simulated exchange listens");
    Ok(SimExchange {
        ws_url: format!("ws://{address}"),
        rest_url: format!("http://{address}"),
        shared,
        listener: Listener(task),
    })
}

impl SimExchange {
    /// Makes something go wrong; see [`Fault`] for what it strikes.
    pub fn fault(&self, fault: Fault) {
        let pending = &self.shared.pending_faults;
        match fault {
            Fault::RestStatus { status, retry_after, count } => {
                pending.add_rest(RestFault::Status { status, retry_after }, count);
            }
            Fault::RestGarbage { count } => pending.add_rest(RestFault::Garbage, count),
            Fault::RestSilence { count } => pending.add_rest(RestFault::Silence, count),
            Fault::RefuseSockets { count } => pending.add_refused_sockets(count),
            // Without a connection there is nothing to strike.
            fault => drop(self.shared.faults.send(fault)),
        }
    }

    /// Returns how many WebSocket connections were opened since the start.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Returns how many WebSocket connections are open now.
    pub fn open_sockets(&self) -> u64 {
        self.shared.open_sockets.load(Ordering::Relaxed)
    }

    /// Returns how many REST requests came since the start.
    pub fn rest_requests(&self) -> u64 {
        self.shared.rest_requests.load(Ordering::Relaxed)
    }

    /// Cuts all connections and returns when the port is free.
    pub async fn stop(mut self) {
        self.listener.0.abort();
        // An aborted task answers with an error, which is the wanted end.
        drop((&mut self.listener.0).await);
    }
}

/// Accepts until it is aborted; its connections end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            biased;
            Some(_) = connections.join_next(), if connections.len() >= MAX_CONNECTIONS => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no-delay not set");
                    }
                    connections.spawn(http::serve(stream, Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
