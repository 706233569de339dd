//! Sections `[[stream]]` and `[[model]]`.

use std::path::PathBuf;
use std::time::Duration;

use forecastd_core::{Compatibility, FeatureSpec, Interval, StreamId, StreamSpec};
use forecastd_models::ModelKind;

use crate::config::diff::ReloadClass::{self, Part, Start};
use crate::config::section::{Entry, section};
use crate::config::value::Rule::{Any, Int, Name, Span, Url};
use crate::config::value::{choices, readable};

readable!(ModelKind, "one of burn, last, drift, ema" {
    Burn = "burn",
    Last = "last",
    Drift = "drift",
    Ema = "ema",
});

choices! {
    /// Where a stream's candles come from.
    SourceExchange, "one of binance" {
        /// Binance spot.
        Binance = "binance",
    }
}

section! {
    /// What is forecast, and where its candles come from. One entry a stream.
    StreamConfig
    keys {
        /// Name, also the wire's `stream_id`.
        id: String = "BTCUSD-5m", Name, "", Start, required;
        /// Length of a candle, one that the exchange has.
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
        /// The exchange that the candles come from.
        exchange: SourceExchange = "binance", Any, "", Start;
        /// The exchange's name of the pair.
        symbol: String = "BTCUSDT", Name, "", Start;
        /// The exchange's WebSocket server.
        ws_url: String = "wss://data-stream.binance.vision", Url(&["ws", "wss"]), "", Part("feed");
        /// The exchange's REST server, for backfill.
        rest_url: String = "https://data-api.binance.vision", Url(&["http", "https"]), "", Part("feed");
        /// Longest wait for a connection.
        connect_timeout: Duration = "10s", Span("100ms", "2m"), "", Part("feed");
        /// A connection that is silent for this long is replaced.
        idle_timeout: Duration = "1m", Span("1s", "10m"), "", Part("feed");
        /// Longest wait for one REST answer.
        rest_timeout: Duration = "10s", Span("100ms", "2m"), "", Part("feed");
        /// Wait before the first new connection; doubles with each failure, with jitter.
        backoff_min: Duration = "500ms", Span("10ms", "1m"), "", Part("feed");
        /// Greatest wait between two connections.
        backoff_max: Duration = "30s", Span("100ms", "10m"), "", Part("feed");
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
