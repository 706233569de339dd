//! Holds the configured streams against what the store has under their ids.
//!
//! Candles, rounds in flight and averages are kept by the stream's id. Under another interval,
//! horizon or market they would silently mean something else, so that needs a new id.

use anyhow::Context as _;
use forecastd_core::StreamId;
use forecastd_store::{Batch, Market, Store, StreamRecord};

use crate::config::{Config, FeedConfig, StreamConfig};

fn record(config: &Config, stream: &StreamConfig) -> StreamRecord {
    let feeds = config.feed.iter().filter(|feed| feed.stream == stream.id);
    let market = |feed: &FeedConfig| Market {
        feed: feed.name.clone(),
        exchange: feed.exchange.to_string(),
        symbol: feed.symbol(),
    };
    let mut markets: Vec<Market> = feeds.map(market).collect();
    markets.sort();
    StreamRecord { interval_ms: stream.interval.as_ms(), horizon: stream.horizon, markets }
}

/// Compares every stream with the store. Nothing is written.
///
/// Feeds may come and go, as exchanges do; but one that stays keeps its market, and one must stay:
/// otherwise the candles of another pair would continue those that are there.
///
/// # Errors
/// The first key that differs, with both values and what to do; or the store cannot be read.
pub fn check(store: &Store, config: &Config) -> anyhow::Result<()> {
    for stream in &config.stream {
        let known = store.get::<StreamRecord>(&StreamId(stream.id.clone()));
        let Some(known) = known.context("reading the streams of the store")? else { continue };
        let given = record(config, stream);
        let mut keys = vec![
            ("interval", format!("{} ms", known.interval_ms), format!("{} ms", given.interval_ms)),
            ("horizon", known.horizon.to_string(), given.horizon.to_string()),
        ];
        let mut kept = 0;
        for old in &known.markets {
            let Some(new) = given.markets.iter().find(|new| new.feed == old.feed) else { continue };
            kept += 1;
            keys.push(("exchange", old.exchange.clone(), new.exchange.clone()));
            keys.push(("symbol", old.symbol.clone(), new.symbol.clone()));
        }
        if kept == 0 && !known.markets.is_empty() {
            let names = |markets: &[Market]| {
                let text = |market: &Market| format!("{} {}", market.exchange, market.symbol);
                markets.iter().map(text).collect::<Vec<_>>().join(", ")
            };
            keys.push(("feed", names(&known.markets), names(&given.markets)));
        }
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

/// Notes what the ids of streams stand for, after [`check`].
///
/// # Errors
/// The store cannot be written.
pub async fn note(store: &Store, config: &Config) -> anyhow::Result<()> {
    for stream in &config.stream {
        let key = StreamId(stream.id.clone());
        let given = record(config, stream);
        let known = store.get::<StreamRecord>(&key).context("reading the streams of the store")?;
        if known.as_ref() != Some(&given) {
            let batch = Batch::new().put(&key, &given)?;
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

    fn config(stream: &str, feeds: &str) -> Config {
        let text = format!("[[stream]]\nid = \"BTCUSD-5m\"\nquorum = 1\n{stream}\n{feeds}");
        Config::from_text(&text, "config.toml", []).unwrap()
    }

    fn feed(name: &str, exchange: &str, symbol: &str) -> String {
        format!(
            "[[feed]]\nname = \"{name}\"\nstream = \"BTCUSD-5m\"\nexchange = \"{exchange}\"\n\
             symbol = \"{symbol}\"\n"
        )
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
        let both = feed("a", "binance", "BTCUSDT") + &feed("b", "bybit", "BTCUSDT");
        let known = config("", &both);
        check(&store, &known).unwrap();
        note(&store, &known).await.unwrap();
        check(&store, &known).unwrap();
        for (key, changed) in [
            ("horizon", config("horizon = 50", &both)),
            ("interval", config("interval = \"15m\"", &both)),
            ("symbol", config("", &feed("a", "binance", "ETHUSDT"))),
            ("exchange", config("", &feed("b", "binance", "BTCUSDT"))),
            ("feed", config("", &feed("c", "binance", "BTCUSDT"))),
        ] {
            let error = check(&store, &changed).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")) && error.contains("new id"), "{error}");
        }
        let fewer = config("", &(feed("b", "bybit", "BTCUSDT") + &feed("c", "kraken", "BTC/USD")));
        check(&store, &fewer).unwrap();
        note(&store, &fewer).await.unwrap();
        check(&store, &config("", &feed("c", "kraken", "BTC/USD"))).unwrap();
        store.close().await;
    }
}
