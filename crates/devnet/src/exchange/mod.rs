//! Simulated exchanges: replay recorded candles over the exchange's real WebSocket and REST protocol.
//!
//! One listener on loopback for one market of one exchange. What has happened is decided by a market
//! clock alone, so the replay runs at any speed; pings, heartbeats, limits and time-outs keep real
//! time. After the end of the recording the market is silent.

mod binance;
mod bybit;
mod coinbase;
mod coinbase_advanced;
mod config;
mod cursor;
mod fault;
mod kraken;
mod limits;
mod listener;
mod market;
pub mod recording;
pub mod recordings;
mod session;
mod time;
mod venue;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

pub use self::config::{SimExchangeConfig, SimExchangeError};
use self::cursor::Tempo;
pub use self::fault::Fault;
use self::fault::{PendingFaults, RestFault, SocketFault};
use self::limits::Window;
use self::market::Market;
pub use self::market::TRADES_PER_CANDLE;
use self::venue::{Rules, Scene, Venue};

/// Faults that may wait for a connection that is busy sending.
const FAULT_QUEUE: usize = 64;
/// Bounds of a factor on all prices.
const FACTORS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// What all connections share.
#[derive(Debug)]
struct Shared {
    config: SimExchangeConfig,
    /// The exchange's own, with the settings instead of the usual values.
    rules: Rules,
    venue: Box<dyn Venue>,
    market: Market,
    faults: broadcast::Sender<Fault>,
    pending_faults: PendingFaults,
    connects: Window,
    connections: AtomicU64,
    open_sockets: AtomicU64,
    rest_requests: AtomicU64,
}

impl Shared {
    fn new(config: SimExchangeConfig) -> Self {
        let venue = venue::of(config.exchange);
        let rules = Rules {
            forming_every: config.forming_every,
            final_delay: config.final_delay,
            ping_every: config.ping_every,
            heartbeat_every: config.heartbeat_every,
            subscribe_within: config.subscribe_within,
            idle_cut: config.idle_cut,
            connection_life: config.connection_life,
            ..venue.rules()
        };
        Self {
            market: Market::new(Arc::clone(&config.candles), config.interval),
            connects: Window::new(rules.connects.0, rules.connects.1),
            faults: broadcast::channel(FAULT_QUEUE).0,
            pending_faults: PendingFaults::new(),
            connections: AtomicU64::new(0),
            open_sockets: AtomicU64::new(0),
            rest_requests: AtomicU64::new(0),
            config,
            rules,
            venue,
        }
    }

    fn scene(&self) -> Scene<'_> {
        let now_ms = self.config.clock.now_ms();
        Scene { market: &self.market, symbol: &self.config.symbol, now_ms }
    }

    /// Real time between heartbeats.
    fn heartbeat_every(&self) -> Option<Duration> {
        let every = self.rules.heartbeat_every?;
        let least = self.config.forming_every_real.min(every).max(Duration::from_millis(1));
        Some(self.config.clock.real_duration_of(every).clamp(least, every.max(least)))
    }

    fn tempo(&self) -> Tempo {
        let second = Duration::from_secs(1);
        let speed = second.as_secs_f64() / self.config.clock.real_duration_of(second).as_secs_f64();
        // Not faster than wanted in either time.
        let real = self.config.forming_every_real.as_secs_f64() * speed.clamp(1e-3, 1e9);
        let forming = Duration::from_secs_f64(real.max(self.rules.forming_every.as_secs_f64()));
        let trades = i64::try_from(TRADES_PER_CANDLE).unwrap_or(i64::MAX);
        Tempo {
            has_finals: self.rules.has_finals,
            final_delay_ms: millis(self.rules.final_delay),
            forming_step_ms: millis(forming),
            trade_step_ms: (self.config.interval.as_ms() / trades).max(1),
        }
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
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
    let exchange = config.exchange;
    let shared = Arc::new(Shared::new(config));
    let task = tokio::spawn(listener::accept(listener, Arc::clone(&shared)));
    tracing::info!(%exchange, %address, "simulated exchange listens");
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
        let shared = &self.shared;
        let pending = &shared.pending_faults;
        let now_ms = shared.config.clock.now_ms();
        match fault {
            Fault::RestStatus { status, retry_after, count } => {
                pending.add_rest(RestFault::Status { status, retry_after }, count);
            }
            Fault::RestGarbage { count } => pending.add_rest(RestFault::Garbage, count),
            Fault::RestSilence { count } => pending.add_rest(RestFault::Silence, count),
            Fault::RefuseSockets { count } => pending.add_sockets(SocketFault::Refused, count),
            Fault::DropHandshakes { count } => pending.add_sockets(SocketFault::Dropped, count),
            Fault::WrongPrices { factor, span } if FACTORS.contains(&factor) => {
                shared.market.distort(factor, now_ms, now_ms.saturating_add(millis(span)));
            }
            Fault::WrongPrices { factor, .. } => {
                tracing::warn!(factor, "wrong prices not simulated, factor must be 0.001..=1000");
            }
            fault => {
                if let Fault::Outage { span } = fault {
                    pending.set_outage(now_ms.saturating_add(millis(span)));
                }
                // Without a connection there is nothing to strike.
                drop(shared.faults.send(fault));
            }
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
