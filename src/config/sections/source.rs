//! Section `[[source]]`.

use std::path::PathBuf;
use std::time::Duration;

use forecastd_core::features::FEATURE_FORMS;
use forecastd_core::{FeatureSpec, Interval};
use forecastd_exchange::SeriesConfig;
use forecastd_exchange::coinmetrics::Endpoint;

use crate::config::diff::ReloadClass::{self, Part};
use crate::config::section::{Entry, section};
use crate::config::value::Rule::{self, Any, Name, Span, Url};
use crate::config::value::{Value, choices, quote};

choices! {
    /// Where the numbers of a column come from.
    SourceKind, "one of file, coinmetrics" {
        /// A column of a table on this machine.
        File = "file",
        /// A series of Coin Metrics.
        CoinMetrics = "coinmetrics",
    }
}

impl Value for FeatureSpec {
    const EXPECTED: &'static str = FEATURE_FORMS;

    fn read(value: &toml_edit::Value, _: &Rule) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn literal(&self) -> String {
        quote(&self.to_string())
    }
}

impl Value for Endpoint {
    const EXPECTED: &'static str = "an end point such as market-candles or asset-metrics";

    fn read(value: &toml_edit::Value, _: &Rule) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn literal(&self) -> String {
        quote(self.as_str())
    }
}

section! {
    /// Columns of numbers beside the candles, for the features `column(NAME)` of streams. One entry a
    /// column; one that no stream names is not read.
    SourceConfig
    keys {
        /// Name of the column.
        name: String = "reference-rate", Name, "", Part("columns"), required;
        /// Where its numbers come from.
        kind: SourceKind = "coinmetrics", Any, "", Part("columns"), required;
        /// For `file`: a table with a header and a column of times, CSV (plain, gzip, zstd or bzip2) or
        /// Parquet; read again when it changes.
        path: Option<PathBuf> = "", Any, "", Part("columns");
        /// For `file`: the header of the column.
        column: String = "", Any, "", Part("columns");
        /// For `coinmetrics`: the server; the public one when empty, that of the community without a
        /// key.
        url: Option<String> = "", Url(&["http", "https"]), "", Part("columns");
        /// For `coinmetrics`: which kind of series, for example `market-candles`, `asset-metrics`,
        /// `market-openinterest`, `market-funding-rates`.
        endpoint: Option<Endpoint> = "", Any, "", Part("columns");
        /// For `coinmetrics`: the market, asset, pair, exchange or institution, for example
        /// `binance-btc-usdt-spot` or `btc`.
        of: String = "", Any, "", Part("columns");
        /// For `coinmetrics`: the metric or the field of a row, for example `ReferenceRateUSD`,
        /// `candle_trades_count`, `rate`.
        metric: String = "", Any, "", Part("columns");
        /// For `coinmetrics`: name of the environment variable that holds the key; no key is sent when
        /// empty. The key itself does not belong in this file.
        api_key_env: String = "", Any, "", Part("columns");
        /// For `coinmetrics`: longest wait for one answer.
        timeout: Duration = "30s", Span("100ms", "5m"), "", Part("columns");
        /// Length of the interval that a value is about, at whose end it can be known; for samples that
        /// are about a moment, empty.
        every: Option<Interval> = "", Any, "", Part("columns");
        /// Time from the end of its interval until a value is published and read here; no row sees a
        /// value earlier, in training as well as live, so it must not be too short.
        publication_delay: Duration = "1m", Span("0s", "31d"), "market time", Part("columns");
        /// A value whose interval began longer ago is not used any more; models that need it then
        /// leave the forecast to the next one.
        max_age: Duration = "1d", Span("1s", "90d"), "market time", Part("columns");
        /// How often new values are asked for; a change of a file is looked for.
        refresh_every: Duration = "5m", Span("1s", "1d"), "market time", Part("columns");
    }
    parts {}
}

impl SourceConfig {
    /// Returns the series of a source of kind `coinmetrics`.
    pub fn series(&self) -> Option<SeriesConfig> {
        Some(SeriesConfig {
            endpoint: self.endpoint?,
            of: self.of.clone(),
            metric: self.metric.clone(),
            every: self.every,
            publication_delay: self.publication_delay,
        })
    }
}

impl Entry for SourceConfig {
    const DEFAULT_LIST: &'static str = r#"
[[source]]
name = "reference-rate"
kind = "coinmetrics"
endpoint = "asset-metrics"
of = "btc"
metric = "ReferenceRateUSD"
every = "1d"
publication_delay = "2h"
max_age = "4d"
"#;
    const LIST_CLASS: ReloadClass = Part("columns");

    fn id(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn errors(text: &str) -> String {
        match Config::from_text(text, "config.toml", []) {
            Ok(_) => "no error".to_owned(),
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn features_and_sources_fit_together() {
        let text = r#"
[[stream]]
id = "BTCUSD-5m"
features = ["close", "rsi(14)", "macd(12,26,9)", "column(oi)", "column(funding)"]
indicators = "seed"
[[source]]
name = "oi"
kind = "file"
path = "oi.parquet"
column = "open interest"
every = "5m"
[[source]]
name = "funding"
kind = "coinmetrics"
endpoint = "market-funding-rates"
of = "binance-BTCUSDT-future"
metric = "rate"
api_key_env = "COINMETRICS_KEY"
"#;
        let config = Config::from_text(text, "config.toml", []).unwrap();
        assert_eq!(config.stream[0].features.len(), 5);
        assert_eq!(config.source.len(), 2);
        assert!(config.source[1].series().is_some_and(|series| series.validate().is_ok()));
    }

    #[test]
    fn faults_name_line_key_and_what_is_allowed() {
        let text = r#"
[[stream]]
id = "A"
features = ["close", "rsi(1)"]
[[stream]]
id = "B"
features = ["close", "close"]
[[stream]]
id = "C"
features = ["column(gone)"]
[[source]]
name = "one"
kind = "file"
[[source]]
name = "one"
kind = "coinmetrics"
endpoint = "market-candles"
of = "binance-btc-usdt-spot"
metric = "price_close"
api_key_env = "not a name"
max_age = "30s"
[[source]]
name = "three"
kind = "coinmetrics"
endpoint = "market-trades"
"#;
        let found = errors(text);
        for part in [
            "config.toml:4:12: `stream[0].features` is [\"close\", \"rsi(1)\"], must be a list in \
             brackets, each",
            "rsi(LENGTH)",
            "config.toml:7:12: `stream[1].features` cannot be used: feature close is listed twice",
            "`stream[2].features` names column(gone), which no [[source]] has",
            "`source[0].path` is empty",
            "`source[0].column` is empty",
            "`source[1].name` is \"one\" as that of an earlier source",
            "`source[1].api_key_env` has a value that is not allowed",
            "setting `every` is not set, must be 1s, 1m, 5m",
            "`source[1].max_age` is 30s, must be longer than",
            "`source[2].endpoint` is \"market-trades\", must be",
        ] {
            assert!(found.contains(part), "{part}\n{found}");
        }
        assert!(!found.contains("not a name"), "{found}");
    }
}
