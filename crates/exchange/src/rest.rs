//! What the REST clients share: one way to ask for closed candles, of which each exchange only states
//! its own rules.

use std::sync::Arc;

use forecastd_core::{Candle, Clock, Interval};

use crate::continuity::Range;
use crate::error::ExchangeError;
use crate::http::{HttpClient, Manners, Way};
use crate::intervals::{self, Intervals};
use crate::message::{CandleUpdate, DecodeError, symbol};
use crate::old_trades::{MAX_REQUESTS, OldTrades, TradesApi, just_before};
use crate::paging::{Closing, check_page, existing, keep_closed, pages, unreadable};

/// Reads a body; the symbol and interval are those that were asked for.
type ReadRows = fn(&[u8], &str, Interval) -> Result<Vec<CandleUpdate>, DecodeError>;

/// How one exchange is asked for candles.
pub(crate) struct CandleApi {
    pub(crate) intervals: &'static Intervals,
    /// The intervals in words.
    pub(crate) interval_rule: &'static str,
    /// Checks a symbol and returns its spelling in requests.
    pub(crate) symbol: fn(&str) -> Result<String, ExchangeError>,
    /// Most intervals to ask for at once, so that nothing of the answer is ever cut off; the row at
    /// the end of the page comes on top where the exchange includes both ends.
    pub(crate) page_intervals: i64,
    /// Whether rows outside of what was asked for are usual, and not a sign of a broken answer.
    pub(crate) is_loose: bool,
    /// Where the exchange has only its newest candles: how many an answer holds at least when older
    /// ones are gone.
    pub(crate) newest: Option<usize>,
    /// How many of its newest intervals can be had, where that is limited.
    pub(crate) reach: Option<u32>,
    pub(crate) closing: Closing,
    /// Makes the request of one page from symbol, name of the interval and open times.
    pub(crate) request: fn(&str, &'static str, Range) -> Request,
    /// Reads an answer into rising rows.
    pub(crate) read: ReadRows,
    /// Tells by status, code and words whether a refusal means that there is no such market.
    pub(crate) is_unknown: fn(u16, Option<i64>, &str) -> bool,
    /// How to ask for old trades, where the exchange keeps them longer than its candles.
    pub(crate) trades: Option<TradesApi>,
    pub(crate) manners: &'static Manners,
}

/// One GET.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
}

/// A client of one host of one exchange.
#[derive(Debug)]
pub(crate) struct RestClient {
    api: &'static CandleApi,
    http: HttpClient,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for CandleApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandleApi").finish_non_exhaustive()
    }
}

impl RestClient {
    pub(crate) fn new(
        api: &'static CandleApi,
        way: &Way<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ExchangeError> {
        Ok(Self { api, http: HttpClient::new(way, api.manners)?, clock })
    }

    pub(crate) const fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Returns the checked spelling of a symbol in requests.
    pub(crate) fn symbol(&self, symbol: &str) -> Result<String, ExchangeError> {
        (self.api.symbol)(symbol)
    }

    /// Does what [`crate::CandleSource::candles`] promises.
    pub(crate) async fn candles(
        &self,
        symbol: &str,
        interval: Interval,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Candle>, ExchangeError> {
        let symbol = self.symbol(symbol)?;
        let name = intervals::named(self.api.intervals, interval, self.api.interval_rule)?;
        let Some(range) = existing(interval, from_ms, to_ms, self.clock.now_ms())? else {
            return Ok(Vec::new());
        };
        let mut candles: Vec<Candle> = Vec::new();
        for page in pages(range, interval, self.api.page_intervals) {
            let mut rows = self.page(&symbol, name, interval, page).await?;
            keep_closed(&mut rows, interval, self.api.closing, self.clock.now_ms());
            // The row at the end of the page was only the proof for the one before it.
            let closed = rows.into_iter().map(|row| row.candle);
            candles.extend(closed.filter(|row| row.open_time_ms < page.to_ms));
        }
        Ok(candles)
    }

    /// Does what [`crate::CandleSource::check_symbol`] promises.
    pub(crate) async fn check_symbol(
        &self,
        symbol: &str,
        interval: Interval,
    ) -> Result<(), ExchangeError> {
        let symbol = self.symbol(symbol)?;
        let name = intervals::named(self.api.intervals, interval, self.api.interval_rule)?;
        let to_ms = interval.floor(self.clock.now_ms());
        let page = Range { from_ms: (to_ms - interval.as_ms()).max(0), to_ms };
        match self.page(&symbol, name, interval, page).await {
            // Gone or not, there were candles.
            Ok(_) | Err(ExchangeError::TooOld { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Does what [`crate::CandleSource::candles_from_trades`] promises.
    pub(crate) async fn candles_from_trades(
        &self,
        symbol: &str,
        interval: Interval,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Option<Vec<Candle>>, ExchangeError> {
        let Some(api) = &self.api.trades else { return Ok(None) };
        let symbol = self.symbol(symbol)?;
        let to_ms = to_ms.min(interval.floor(self.clock.now_ms()));
        let Some(range) = existing(interval, from_ms, to_ms, self.clock.now_ms())? else {
            return Ok(Some(Vec::new()));
        };
        let Some(mut old) = OldTrades::new(range, interval) else { return Ok(None) };
        let mut since_ns = just_before(range.from_ms)?;
        for _ in 0..MAX_REQUESTS {
            let Request { path, query } = (api.request)(&symbol, since_ns);
            let query: Vec<(&str, &str)> =
                query.iter().map(|(key, value)| (*key, &**value)).collect();
            let body =
                self.http.get(&path, &query).await.map_err(|error| self.named(&symbol, error))?;
            let (trades, next_ns) = (api.read)(&body).map_err(|error| unreadable(&path, &error))?;
            // Where the exchange does not get on, there is nothing more.
            if old.take(&trades) || trades.is_empty() || next_ns <= since_ns {
                return Ok(Some(old.finish()));
            }
            since_ns = next_ns;
        }
        Err(ExchangeError::Config {
            key: "to_ms",
            value: to_ms.to_string(),
            rule: "close enough to from_ms for 5000 requests of trades",
        })
    }

    pub(crate) const fn reach(&self) -> Option<u32> {
        self.api.reach
    }

    async fn page(
        &self,
        symbol: &str,
        name: &'static str,
        interval: Interval,
        page: Range,
    ) -> Result<Vec<CandleUpdate>, ExchangeError> {
        let Request { path, query } = (self.api.request)(symbol, name, page);
        let query: Vec<(&str, &str)> = query.iter().map(|(key, value)| (*key, &**value)).collect();
        let body = self.http.get(&path, &query).await.map_err(|error| self.named(symbol, error))?;
        let mut rows =
            (self.api.read)(&body, symbol, interval).map_err(|error| unreadable(&path, &error))?;
        // A full answer says nothing about what was before it: such candles exist and are gone.
        if let (Some(newest), Some(first)) = (self.api.newest, rows.first())
            && rows.len() >= newest
            && page.from_ms < first.candle.open_time_ms
        {
            let oldest_ms = first.candle.open_time_ms;
            return Err(ExchangeError::TooOld { from_ms: page.from_ms, oldest_ms });
        }
        if self.api.is_loose {
            rows.retain(|row| (page.from_ms..=page.to_ms).contains(&row.candle.open_time_ms));
        }
        let limit = usize::try_from(self.api.page_intervals).unwrap_or(usize::MAX);
        check_page(&path, &rows, page, limit.saturating_add(1))?;
        Ok(rows)
    }

    /// Says of a refusal that it is the symbol which is wrong, where it is.
    fn named(&self, symbol: &str, error: ExchangeError) -> ExchangeError {
        match error {
            ExchangeError::Refused { status, code, message }
                if (self.api.is_unknown)(status, code, &message) =>
            {
                let (symbol, listed_at) = (symbol.to_owned(), self.api.manners.symbols);
                ExchangeError::UnknownSymbol { symbol, message, listed_at }
            }
            other => other,
        }
    }
}

/// Makes the public client of an exchange of its [`CandleApi`].
macro_rules! rest_client {
    ($(#[$about:meta])* $name:ident, $api:expr) => {
        $(#[$about])*
        #[derive(Debug)]
        pub struct $name {
            rest: $crate::rest::RestClient,
        }

        impl $name {
            /// Creates a client of the host `rest_url` (`https://host`, without a path), without a proxy.
            ///
            /// `clock`: market time, which tells what has closed. `timeout`: real time for one request.
            ///
            /// # Errors
            /// [`ExchangeError::Config`](crate::ExchangeError::Config) when the address cannot be one.
            pub fn new(
                rest_url: &str,
                clock: std::sync::Arc<dyn forecastd_core::Clock>,
                timeout: std::time::Duration,
            ) -> Result<Self, $crate::ExchangeError> {
                let way = $crate::http::Way { rest_url, timeout, proxy: None };
                Ok(Self { rest: $crate::rest::RestClient::new(&$api, &way, clock)? })
            }

            /// Creates a client of the host, time-out and proxy of a feed's settings.
            ///
            /// # Errors
            /// [`ExchangeError::Config`](crate::ExchangeError::Config) when the address cannot be one.
            pub fn from_config(
                config: &$crate::FeedConfig,
                clock: std::sync::Arc<dyn forecastd_core::Clock>,
            ) -> Result<Self, $crate::ExchangeError> {
                Ok(Self { rest: $crate::rest::RestClient::new(&$api, &config.into(), clock)? })
            }
        }

        #[async_trait::async_trait]
        impl $crate::CandleSource for $name {
            async fn candles(
                &self,
                symbol: &str,
                interval: forecastd_core::Interval,
                from_ms: i64,
                to_ms: i64,
            ) -> Result<Vec<forecastd_core::Candle>, $crate::ExchangeError> {
                self.rest.candles(symbol, interval, from_ms, to_ms).await
            }

            async fn check_symbol(
                &self,
                symbol: &str,
                interval: forecastd_core::Interval,
            ) -> Result<(), $crate::ExchangeError> {
                self.rest.check_symbol(symbol, interval).await
            }

            async fn candles_from_trades(
                &self,
                symbol: &str,
                interval: forecastd_core::Interval,
                from_ms: i64,
                to_ms: i64,
            ) -> Result<Option<Vec<forecastd_core::Candle>>, $crate::ExchangeError> {
                self.rest.candles_from_trades(symbol, interval, from_ms, to_ms).await
            }

            fn reach(&self) -> Option<u32> {
                self.rest.reach()
            }
        }
    };
}
pub(crate) use rest_client;

/// Gives the candles of an answer that does not say which are final the form of those that do.
pub(crate) fn unmarked(
    rows: Vec<Candle>,
    market: &str,
    interval: Interval,
) -> Result<Vec<CandleUpdate>, DecodeError> {
    let symbol = symbol("symbol", market)?;
    let update = |candle| CandleUpdate { symbol, interval, candle, is_final: None };
    Ok(rows.into_iter().map(update).collect())
}
