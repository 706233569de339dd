//! Sections `[[stream]]`, `[[feed]]` and `[[model]]`.

use std::path::PathBuf;
use std::time::Duration;

use forecastd_core::features::Aggregation;
use forecastd_core::{Compatibility, FeatureSpec, Interval, StreamId, StreamSpec};
use forecastd_exchange::{Exchange, ProxyUrl};
use forecastd_models::ModelKind;

use crate::config::diff::ReloadClass::{self, Live, Part, Start};
use crate::config::section::{Entry, section};
use crate::config::value::Rule::{self, Any, Float, Int, Name, Span, Symbol, Url};
use crate::config::value::{Value, quote, readable};

readable!(ModelKind, "one of burn, last, drift, ema" {
    Burn = "burn",
    Last = "last",
    Drift = "drift",
    Ema = "ema",
});

readable!(Aggregation, "one of mean, median, max, min, sum, volume_weighted" {
    Mean = "mean",
    Median = "median",
    Max = "max",
    Min = "min",
    Sum = "sum",
    VolumeWeighted = "volume_weighted",
});

impl Value for ProxyUrl {
    const EXPECTED: &'static str = "a URL with http:// or socks5:// and a port";
    const IS_SECRET: bool = true;

    fn read(value: &toml_edit::Value, _: &Rule) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn literal(&self) -> String {
        quote(&self.to_string())
    }
}

impl Value for Exchange {
    const EXPECTED: &'static str = "an exchange";

    fn expected() -> String {
        format!("one of {}", Self::ALL.map(Self::as_str).join(", "))
    }

    fn read(value: &toml_edit::Value, _: &Rule) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn literal(&self) -> String {
        quote(self.as_str())
    }
}

section! {
    /// What is forecast, and how the exchanges' candles become one. One entry a stream.
    StreamConfig
    keys {
        /// Name, also the wire's `stream_id`.
        id: String = "BTCUSD-5m", Name, "", Start, required;
        /// Length of a candle, one that its exchanges have.
        interval: Interval = "5m", Any, "", Start;
        /// Length of a forecast.
        horizon: usize = 100, Int(1, 1000), "steps", Start;
        /// Past candles that a model sees.
        lookback: usize = 500, Int(1, 5000), "candles", Start;
        /// Spacing of the rounds; a multiple of the interval.
        round_every: Interval = "30m", Any, "market time", Start;
        /// The wire's `topic_id`.
        topic_id: i64 = 1, Int(0, 2_147_483_647), "", Start;
        /// The wire's `schema_id`.
        schema_id: i64 = 1, Int(0, 2_147_483_647), "", Start;
        /// What models see of each candle; a trained model names what it needs. Besides the candle's
        /// fields and its time there are indicators, and columns of a `[[source]]`.
        features: Vec<FeatureSpec> = ["close", "high", "low", "volume", "time_of_day", "time_of_week", "time_of_month"], Any, "", Part("candles");
        /// Definition of the indicators; `seed` gives those of the original subnet.
        indicators: Compatibility = "standard", Any, "", Part("candles");
        /// Exchanges that must agree before a candle counts for a score; one with fewer is partial.
        quorum: usize = 2, Int(1, 64), "exchanges", Start;
        /// An exchange whose close is further from the median of all than this part of it is left out
        /// of a candle and reported.
        outlier_part: f64 = 0.02, Float(0.0001, 1.0), "part of the price", Start;
        /// How long a candle waits for exchanges that are late once a quorum is there; what comes
        /// later still counts until a score was computed from the candle.
        merge_wait: Duration = "3s", Span("0s", "1m"), "market time", Live;
        /// How the exchanges' opens become one.
        merge_open: Aggregation = "mean", Any, "", Start;
        /// How their highs become one.
        merge_high: Aggregation = "max", Any, "", Start;
        /// How their lows become one.
        merge_low: Aggregation = "min", Any, "", Start;
        /// How their closes become one: these are forecast and scored.
        merge_close: Aggregation = "mean", Any, "", Start;
        /// How their volumes become one.
        merge_volume: Aggregation = "sum", Any, "", Start;
    }
    parts {}
}

impl StreamConfig {
    /// Returns the stream's constants.
    pub fn spec(&self) -> StreamSpec {
        StreamSpec {
            id: StreamId(self.id.clone()),
            interval: self.interval,
            horizon: self.horizon,
            lookback: self.lookback,
            round_every: self.round_every,
            topic_id: self.topic_id,
            schema_id: self.schema_id,
        }
    }
}

impl Entry for StreamConfig {
    const DEFAULT_LIST: &'static str = "[[stream]]\nid = \"BTCUSD-5m\"\n";
    const LIST_CLASS: ReloadClass = Start;

    fn id(&self) -> &str {
        &self.id
    }
}

section! {
    /// Where a stream's candles come from. One entry an exchange; a stream's exchanges are merged.
    FeedConfig
    keys {
        /// Name in logs, records and messages.
        name: String = "binance", Name, "", Start, required;
        /// The stream that it feeds.
        stream: String = "BTCUSD-5m", Name, "", Start, required;
        /// The exchange.
        exchange: Exchange = "binance", Any, "", Start, required;
        /// The exchange's own spelling of the pair; its main Bitcoin market when empty.
        symbol: Option<String> = "", Symbol, "", Start;
        /// The exchange's WebSocket server; its public one when empty.
        ws_url: Option<String> = "", Url(&["ws", "wss"]), "", Part("feed");
        /// The exchange's REST server, for backfill; its public one when empty.
        rest_url: Option<String> = "", Url(&["http", "https"]), "", Part("feed");
        /// Longest wait for a connection.
        connect_timeout: Duration = "10s", Span("100ms", "2m"), "", Part("feed");
        /// A connection without market data for this long is replaced; what fits the exchange when
        /// empty.
        idle_timeout: Option<Duration> = "", Span("1s", "10m"), "", Part("feed");
        /// Longest wait for one REST answer.
        rest_timeout: Duration = "10s", Span("100ms", "2m"), "", Part("feed");
        /// Wait before the first new connection; doubles with each failure, with jitter.
        backoff_min: Duration = "500ms", Span("10ms", "1m"), "", Part("feed");
        /// Greatest wait between two connections.
        backoff_max: Duration = "30s", Span("100ms", "10m"), "", Part("feed");
        /// The proxy to the exchange, for both servers: `http://[user:password@]host:port` or
        /// `socks5://[user:password@]host:port`; the direct way when empty.
        proxy: Option<ProxyUrl> = "", Any, "", Part("feed");
        /// Whether each candle of the exchange is compared with its single trades; one that differs
        /// is asked for again before it counts. Takes a subscription to all trades.
        check_trades: bool = true, Any, "", Part("feed");
    }
    parts {}
}

impl FeedConfig {
    /// Returns the exchange's spelling of the pair.
    pub fn symbol(&self) -> String {
        self.symbol.clone().unwrap_or_else(|| self.exchange.default_config().symbol)
    }
}

impl Entry for FeedConfig {
    const DEFAULT_LIST: &'static str = r#"
[[feed]]
name = "binance"
stream = "BTCUSD-5m"
exchange = "binance"

[[feed]]
name = "bybit"
stream = "BTCUSD-5m"
exchange = "bybit"

[[feed]]
name = "coinbase"
stream = "BTCUSD-5m"
exchange = "coinbase"

[[feed]]
name = "kraken"
stream = "BTCUSD-5m"
exchange = "kraken"
"#;
    const LIST_CLASS: ReloadClass = Start;

    fn id(&self) -> &str {
        &self.name
    }
}

section! {
    /// What computes the forecasts, best first: when a model fails or is late, the next one of its
    /// stream answers.
    ModelConfig
    keys {
        /// Name in logs, records and on the command line.
        name: String = "lstm-small", Name, "", Part("model_pool"), required;
        /// The stream that it forecasts.
        stream: String = "BTCUSD-5m", Name, "", Part("model_pool"), required;
        /// What it is: a trained checkpoint or a baseline.
        kind: ModelKind = "burn", Any, "", Part("model_pool"), required;
        /// Directory of the checkpoint, for `burn`; empty for the baselines.
        checkpoint: Option<PathBuf> = "", Any, "", Part("model_pool");
        /// Threads that compute forecasts.
        workers: usize = 1, Int(1, 64), "threads", Part("model_pool");
        /// Longest wait for a forecast before the next model is asked.
        deadline: Duration = "5s", Span("10ms", "5m"), "", Part("model_pool");
    }
    parts {}
}

impl Entry for ModelConfig {
    const DEFAULT_LIST: &'static str = r#"
[[model]]
name = "lstm-small"
stream = "BTCUSD-5m"
kind = "burn"
checkpoint = "models/checkpoints/lstm-small"

[[model]]
name = "last"
stream = "BTCUSD-5m"
kind = "last"

[[model]]
name = "drift"
stream = "BTCUSD-5m"
kind = "drift"
"#;
    const LIST_CLASS: ReloadClass = Part("model_pool");

    fn id(&self) -> &str {
        &self.name
    }
}
