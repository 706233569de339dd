//! Where closed candles are asked for: one client a feed, shared by all who ask, so that an
//! exchange's limits hold for all of them together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use forecastd_core::{Clock, StreamId};
use forecastd_exchange::{CandleSource, ExchangeError, FeedConfig};

use crate::settings::FeedSettings;

/// The clients by stream and feed.
#[derive(Debug, Default)]
pub struct Sources(Mutex<BTreeMap<(StreamId, String), Known>>);

#[derive(Debug)]
struct Known {
    config: FeedConfig,
    source: Arc<dyn CandleSource>,
}

impl Sources {
    /// Returns the client of `feed`, a new one after a change of its settings.
    ///
    /// # Errors
    /// [`ExchangeError::Config`] when the settings are not ones of that exchange.
    pub fn get(
        &self,
        stream: &StreamId,
        feed: &FeedSettings,
        market: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn CandleSource>, ExchangeError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (stream.clone(), feed.name.clone());
        if let Some(known) = known.get(&key).filter(|known| known.config == feed.config) {
            return Ok(Arc::clone(&known.source));
        }
        let config = feed.config.clone();
        let (_, source) = feed.exchange.open(config.clone(), Arc::clone(market), 0)?;
        known.insert(key, Known { config, source: Arc::clone(&source) });
        Ok(source)
    }
}
