//! What an exchange has of its own: its numbers, its WebSocket texts and its REST interface.
//!
//! Everything else, the market, the cursors, the sockets, the faults, is shared. An exchange is a
//! folder with a [`Venue`] (`mod`), its REST routes (`rest`) and its side of a WebSocket (`session`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use forecastd_core::{Candle, Interval};
use forecastd_exchange::Exchange;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::market::{Bar, Execution, Market};
use super::{binance, bybit, coinbase, coinbase_advanced, kraken};

pub(super) type Query = BTreeMap<String, String>;
pub(super) type Reply = Response<Full<Bytes>>;

/// The rules of an exchange that are numbers. Times are real unless they say otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Least market time between two words about a running candle; zero: at every execution.
    pub(super) forming_every: Duration,
    /// Market time from the end of an interval to its final candle, where there is one.
    pub(super) final_delay: Duration,
    pub(super) has_finals: bool,
    /// Time between ping frames.
    pub(super) ping_every: Option<Duration>,
    /// Market time between heartbeats; in real time no longer either.
    pub(super) heartbeat_every: Option<Duration>,
    /// A connection without a subscription is closed after this.
    pub(super) subscribe_within: Option<Duration>,
    /// A connection without a word from the client and without data is closed after this.
    pub(super) idle_cut: Option<Duration>,
    pub(super) connection_life: Option<Duration>,
    /// Most new connections in a span.
    pub(super) connects: (u32, Duration),
    /// Most messages of a client in a second.
    pub(super) messages: Option<u32>,
}

/// One exchange. Limits of its REST interface are its own state.
pub(super) trait Venue: fmt::Debug + Send + Sync {
    fn rules(&self) -> Rules;
    /// Begins a conversation, when `path` is one of the exchange's WebSocket addresses.
    fn open(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Option<Opened>;
    /// Answers a GET request.
    fn rest(&self, path: &str, query: &Query, scene: &Scene<'_>) -> Reply;
    /// The exchange's own words for a refusal with this status.
    fn refusal(&self, status: StatusCode, now_ms: i64) -> Reply;
    /// The beginning of an answer with candles.
    fn broken_body(&self) -> &'static str;
}

/// Returns a new simulated exchange.
pub(super) fn of(exchange: Exchange) -> Box<dyn Venue> {
    match exchange {
        Exchange::Binance => Box::new(binance::Binance::new()),
        Exchange::Bybit => Box::new(bybit::Bybit::new()),
        Exchange::Coinbase => Box::new(coinbase::Coinbase::new()),
        Exchange::CoinbaseAdvanced => Box::new(coinbase_advanced::CoinbaseAdvanced::new()),
        Exchange::Kraken => Box::new(kraken::Kraken::new()),
    }
}

/// A conversation, or the refusal of an address that asks for something impossible.
pub(super) type Opened = Result<Box<dyn Dialogue>, BadAddress>;

/// The address of a handshake makes no sense.
#[derive(Debug)]
pub(super) struct BadAddress;

/// The exchange's side of one WebSocket.
pub(super) trait Dialogue: fmt::Debug + Send {
    /// What it says first.
    fn greeting(&mut self, _scene: &Scene<'_>) -> Vec<String> {
        Vec::new()
    }
    /// Answers a text of the client, snapshots included.
    fn hear(&mut self, text: &str, scene: &Scene<'_>) -> Vec<String>;
    /// What is subscribed, in the order of subscribing.
    fn topics(&self) -> &[Topic];
    /// Tells news of a subscribed topic.
    fn tell(&mut self, topic: &Topic, news: &News, scene: &Scene<'_>) -> Vec<String>;
    /// The sign of life that is due.
    fn heartbeat(&mut self, _scene: &Scene<'_>) -> Vec<String> {
        Vec::new()
    }
    /// What it says before it closes a connection because the exchange stops.
    fn farewell(&mut self, scene: &Scene<'_>) -> Vec<String>;
    /// What it says before it closes a connection that sent too much.
    fn too_fast(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// A candle or trade that contradicts itself.
    fn nonsense(&mut self, scene: &Scene<'_>) -> String;
}

/// What can be seen of the market now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) market: &'a Market,
    /// The market's name in the exchange's own spelling.
    pub(super) symbol: &'a str,
    pub(super) now_ms: i64,
}

/// What a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Candles(Interval),
    Trades,
    /// Nothing: unknown, or of another market, or without events of its own.
    Silent,
}

/// A subscribed channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// A candle to be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown {
    pub(super) bar: Bar,
    pub(super) is_final: bool,
}

/// What happened in a channel, oldest first, at least one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    Candles(Interval, Vec<Shown>),
    Trades(Vec<Execution>),
}

/// A candle's values as the shortest texts that mean them.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) open: String,
    pub(super) high: String,
    pub(super) low: String,
    pub(super) close: String,
    pub(super) volume: String,
}

impl From<&Candle> for Texts {
    fn from(candle: &Candle) -> Self {
        let text = |value: f64| value.to_string();
        Self {
            open: text(candle.open),
            high: text(candle.high),
            low: text(candle.low),
            close: text(candle.close),
            volume: text(candle.volume),
        }
    }
}

/// Returns an amount with the eight decimals that exchanges count in, without zeros at the end.
pub(super) fn amount(value: f64) -> String {
    let text = format!("{value:.8}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(super) fn success(body: &Value) -> Reply {
    reply(StatusCode::OK, body)
}

pub(super) fn reply(status: StatusCode, body: &Value) -> Reply {
    plain(status, "application/json;charset=UTF-8", body.to_string())
}

pub(super) fn plain(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// The page of a firewall in front of the exchange.
pub(super) fn firewall(status: StatusCode) -> Reply {
    let words = status.canonical_reason().unwrap_or_default();
    let body = format!(
        "<html>\r\n<head><title>{} {words}</title></head>\r\n<body>\r\n<center><h1>{} \
         {words}</h1></center>\r\n</body>\r\n</html>\r\n",
        status.as_u16(),
        status.as_u16()
    );
    plain(status, "text/html", body)
}

/// Reads a parameter that is a whole number, not negative; the name of one that is not.
pub(super) fn number(query: &Query, name: &'static str) -> Result<Option<i64>, &'static str> {
    match query.get(name) {
        None => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(value) if value >= 0 => Ok(Some(value)),
            _ => Err(name),
        },
    }
}
