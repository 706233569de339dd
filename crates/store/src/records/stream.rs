//! What a stream's id stands for in this store.

use forecastd_core::StreamId;
use serde::{Deserialize, Serialize};

use crate::record::{Db, InvalidRecord, Record, check_text};

/// Most markets of a stream.
const MAX_MARKETS: usize = 64;

/// The meaning of a stream's candles, rounds and averages. Key: stream. Rows of one meaning must
/// never be read with another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Candle length, ms.
    pub interval_ms: i64,
    /// Closes in a forecast.
    pub horizon: usize,
    /// The markets whose bars are merged.
    pub markets: Vec<Market>,
}

/// One market of a stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Market {
    /// Name of the feed.
    pub feed: String,
    /// The exchange, for example `binance`.
    pub exchange: String,
    /// The exchange's name of the pair.
    pub symbol: String,
}

impl Record for StreamRecord {
    const KIND: u8 = 22;
    const VERSION: u8 = 2;
    const DB: Db = Db::Cold;
    const NAME: &'static str = "stream";
    type Key = StreamId;

    fn validate(&self) -> Result<(), InvalidRecord> {
        if self.markets.len() > MAX_MARKETS {
            let rule = format!("has {} entries, must have at most 64", self.markets.len());
            return Err(InvalidRecord { field: "markets", rule });
        }
        for market in &self.markets {
            check_text("feed", &market.feed)?;
            check_text("exchange", &market.exchange)?;
            check_text("symbol", &market.symbol)?;
        }
        Ok(())
    }

    fn upgrade(version: u8, payload: &[u8]) -> Option<Self> {
        /// The fields of version 1, of a single market without a name.
        #[derive(Deserialize)]
        struct Version1 {
            interval_ms: i64,
            horizon: usize,
            exchange: String,
            symbol: String,
        }
        if version != 1 {
            return None;
        }
        let old: Version1 = postcard::from_bytes(payload).ok()?;
        let feed = old.exchange.clone();
        let market = Market { feed, exchange: old.exchange, symbol: old.symbol };
        Some(Self { interval_ms: old.interval_ms, horizon: old.horizon, markets: vec![market] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_one_exchange_is_read_as_one_market() {
        let payload =
            postcard::to_allocvec(&(300_000_i64, 100_usize, "binance", "BTCUSDT")).unwrap();
        let record = StreamRecord::upgrade(1, &payload).unwrap();
        let market = Market {
            feed: "binance".to_owned(),
            exchange: "binance".to_owned(),
            symbol: "BTCUSDT".to_owned(),
        };
        let want = StreamRecord { interval_ms: 300_000, horizon: 100, markets: vec![market] };
        assert_eq!(record, want);
        assert_eq!(StreamRecord::upgrade(0, &payload), None);
    }
}
