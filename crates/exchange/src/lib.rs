//! Market data from exchanges: live candles and trades by WebSocket, closed candles by REST; and numeric
//! series of Coin Metrics, which is no exchange but is asked in the same way.
//!
//! One adapter an exchange (a folder such as [`binance`]) translates its protocol into the
//! normalised [`Message`]; everything else is shared: the socket loop, the continuity of final
//! candles across outages, candles from trades, the bounded HTTP client with its pace, proxies,
//! back-off. Adapters know no actors and keep no state on disk.
//!
//! Limits: every foreign message, body, queue and number is bounded; a message that cannot be read
//! is counted ([`FeedEvent::Dropped`]) and costs nothing else.

#![warn(clippy::indexing_slicing)]

mod backoff;
pub mod binance;
pub mod bybit;
pub mod coinbase;
pub mod coinbase_advanced;
pub mod coinmetrics;
mod complaints;
mod config;
mod connect;
mod continuity;
mod error;
mod event;
mod exchange;
mod feed;
mod flat;
mod host;
mod http;
mod intervals;
pub mod kraken;
mod message;
mod numbers;
mod old_trades;
mod pace;
mod paging;
mod proxy;
mod rest;
mod rows;
mod socket;
mod source;
mod symbol;
mod tls;
mod trade_bars;

pub use binance::{BinanceFeed, BinanceRest};
pub use bybit::BybitRest;
pub use coinbase::CoinbaseRest;
pub use coinbase_advanced::CoinbaseAdvancedRest;
pub use coinmetrics::{ApiKey, CoinMetrics, SeriesConfig};
pub use config::FeedConfig;
pub use error::ExchangeError;
pub use event::{DropClass, FeedEvent};
pub use exchange::{Exchange, ExchangeFeed};
pub use host::Host;
pub use kraken::KrakenRest;
pub use message::{CandleUpdate, DecodeError, LastTrade, Message, Topic, TradeUpdate};
pub use proxy::ProxyUrl;
pub use source::CandleSource;
pub use symbol::Symbol;
pub use tls::install_tls;
