//! Holds the configured streams against what the store has under their ids.
//!
//! Candles, rounds in flight and averages are kept by the stream's id. Under another interval,
//! horizon or market they would silently mean something else, so that needs a new id.

use anyhow::Context as _;
use forecastd_core::StreamId;
use forecastd_store::{Batch, Store, StreamRecord};

use crate::config::{Config, StreamConfig};

fn record(stream: &StreamConfig) -> StreamRecord {
    StreamRecord {
        interval_ms: stream.interval.as_ms(),
        horizon: stream.horizon,
        exchange: stream.exchange.to_string(),
        symbol: stream.symbol.clone(),
    }
}

/// Compares every stream with the store. Nothing is written.
///
/// # Errors
/// The first key that differs, with both values and what to do; or the store cannot be read.
pub fn check(store: &Store, config: &Config) -> anyhow::Result<()> {
    for stream in &config.stream {
        let known = store.get::<StreamRecord>(&StreamId(stream.id.clone()));
        let Some(known) = known.context("reading the streams of the store")? else { continue };
        let given = record(stream);
        let keys = [
            ("interval", format!("{} ms", known.interval_ms), format!("{} ms", given.interval_ms)),
            ("horizon", known.horizon.to_string(), given.horizon.to_string()),
            ("exchange", known.exchange, given.exchange),
            ("symbol", known.symbol, given.symbol),
        ];
        for (key, known, given) in keys {
            anyhow::ensure!(
                known == given,
                "config key `{key}` of stream {} is {given}, but the data directory has candles and \
                 rounds of {known} under this id; give the stream a new id or use another data \
                 directory",
                stream.id
            );
        }
    }
    Ok(())
}

/// Notes what the ids of new streams stand for, after [`check`].
///
/// # Errors
/// The store cannot be written.
pub async fn note(store: &Store, config: &Config) -> anyhow::Result<()> {
    for stream in &config.stream {
        let key = StreamId(stream.id.clone());
        if store.get::<StreamRecord>(&key).context("reading the streams of the store")?.is_none() {
            let batch = Batch::new().put(&key, &record(stream))?;
            store.write(batch).await.context("storing what a stream's id stands for")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use forecastd_core::{Hotkey, NetUid, Role};
    use forecastd_store::{Identity, StoreConfig};

    use super::*;

    fn config(keys: &str) -> Config {
        let text = format!("[[stream]]\nid = \"BTCUSD-5m\"\n{keys}");
        Config::from_text(&text, "config.toml", []).unwrap()
    }

    #[tokio::test]
    async fn an_id_keeps_its_meaning() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity {
            network: "local".to_owned(),
            netuid: NetUid(8),
            hotkey: Hotkey::from_bytes([1; 32]),
            role: Role::Validator,
        };
        let store = Store::open(StoreConfig::new(directory.path().join("data"), identity)).unwrap();
        check(&store, &config("")).unwrap();
        note(&store, &config("")).await.unwrap();
        check(&store, &config("")).unwrap();
        for (key, text) in [
            ("horizon", "horizon = 50"),
            ("interval", "interval = \"15m\""),
            ("symbol", "symbol = \"ETHUSDT\""),
        ] {
            let error = check(&store, &config(text)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")) && error.contains("new id"), "{error}");
        }
        store.close().await;
    }
}
