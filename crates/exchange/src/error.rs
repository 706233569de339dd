//! What can go wrong between this process and an exchange.

use std::time::Duration;

/// Why market data could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// A setting is outside of its range.
    #[error("exchange setting `{key}` is {value}, must be {rule}")]
    Config {
        /// Name of the setting.
        key: &'static str,
        /// The refused value.
        value: String,
        /// What is accepted.
        rule: &'static str,
    },
    /// The asked time range cannot be served in one call.
    #[error("candle range {from_ms}..{to_ms} ms holds more than {limit} candles, ask for less")]
    Range {
        /// First open time asked for.
        from_ms: i64,
        /// End of the range, not included.
        to_ms: i64,
        /// Greatest number of candles in one call.
        limit: i64,
    },
    /// The exchange keeps only its newest candles, and the range begins before them.
    #[error(
        "candles from {from_ms} ms on are gone, the oldest that the exchange has is {oldest_ms} ms"
    )]
    TooOld {
        /// First open time asked for.
        from_ms: i64,
        /// First open time that can be had.
        oldest_ms: i64,
    },
    /// No connection, a broken one, or no answer in time.
    #[error("request to {path} failed, check the network, the host name and the proxy")]
    Transport {
        /// Path of the request.
        path: String,
        /// The HTTP client's error, without the address.
        #[source]
        source: reqwest::Error,
    },
    /// Too many requests (HTTP 429, or an error code that means the same), or banned for having sent
    /// too many (HTTP 418).
    #[error("exchange answered {status}, too many requests: wait {retry_after:?}")]
    RateLimited {
        /// The status.
        status: u16,
        /// Real time to wait, from the header `Retry-After` or a default.
        retry_after: Duration,
    },
    /// Refused by a firewall or for the country of this machine (HTTP 403, 451, or an error code that
    /// means the same).
    #[error("exchange refuses this address with status {status} ({message}), {advice}")]
    Blocked {
        /// The status.
        status: u16,
        /// The exchange's words, shortened.
        message: String,
        /// Which other host or way to use.
        advice: String,
    },
    /// The exchange failed (HTTP 5xx, or an error code that means the same).
    #[error("exchange failed with status {status} ({message}), try again later")]
    Server {
        /// The status.
        status: u16,
        /// The exchange's words, shortened.
        message: String,
    },
    /// The request is wrong: unknown symbol, bad parameter, or a redirect.
    #[error("exchange refused the request with status {status} ({message}), check the settings")]
    Refused {
        /// The status.
        status: u16,
        /// The exchange's own error code, where it gives one.
        code: Option<i64>,
        /// The exchange's words, shortened.
        message: String,
    },
    /// The exchange has no such market.
    #[error(
        "exchange has no market `{symbol}` ({message}), change `symbol` to one of those in {listed_at}"
    )]
    UnknownSymbol {
        /// The symbol as it was asked for.
        symbol: String,
        /// The exchange's words, shortened.
        message: String,
        /// Where the exchange lists its markets.
        listed_at: &'static str,
    },
    /// The body is longer than allowed.
    #[error("answer to {path} is longer than {limit} bytes, refused")]
    BodyTooLarge {
        /// Path of the request.
        path: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is not what the exchange documents.
    #[error(
        "answer to {path} cannot be read, check that the URL is one of this exchange: {reason}"
    )]
    Decode {
        /// Path of the request.
        path: String,
        /// What is wrong and where.
        reason: String,
    },
}

impl ExchangeError {
    /// Tells whether the same request can succeed later without anybody changing anything.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { .. }
            | Self::RateLimited { .. }
            | Self::Server { .. }
            | Self::BodyTooLarge { .. }
            | Self::Decode { .. } => true,
            Self::Config { .. }
            | Self::Range { .. }
            | Self::TooOld { .. }
            | Self::Blocked { .. }
            | Self::UnknownSymbol { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// Returns how long the exchange asked to wait, real time.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}
