//! Errors of the two ends of the protocol.

use std::net::SocketAddr;

use forecastd_core::ForecastError;

use crate::tensor::TensorError;

/// Why an axon or a dendrite could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The listening address cannot be had.
    #[error("cannot listen on {address}, free the port or choose another one")]
    Bind {
        /// The address from the configuration.
        address: SocketAddr,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// A setting is outside of its range.
    #[error("axon setting `{setting}` is {value}, must be {must}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The range.
        must: &'static str,
    },
    /// The HTTP client cannot be built.
    #[error("http client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// The bytes are not an sr25519 secret.
    #[error("signing key is not a 32-byte sr25519 mini secret")]
    Key,
}

/// Why a query brought nothing usable. It costs only the axon that was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The axon did not answer completely in time.
    #[error("no answer within {seconds} s")]
    Timeout {
        /// The time that it had.
        seconds: f64,
    },
    /// No connection came about.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// The address that the chain lists.
        address: SocketAddr,
        /// What the network says.
        reason: String,
    },
    /// The connection ended before the answer was complete, or the answer is not HTTP.
    #[error("answer broke off: {0}")]
    Broken(String),
    /// The axon refused, or names a failure.
    #[error("axon answered {code}: {message}")]
    Status {
        /// HTTP status, or the one in the synapse header where that is not 200.
        code: u16,
        /// The axon's reason; printable, at most 256 characters.
        message: String,
    },
    /// The answer is larger than the limit.
    #[error("answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The answer does not have the form of the synapse.
    #[error("answer cannot be decoded: {0}")]
    Decode(String),
    /// The synapse came back without its result.
    #[error("answer holds no {field}")]
    NoAnswer {
        /// The empty field.
        field: &'static str,
    },
    /// The tensor does not hold numbers that can be read.
    #[error("forecast tensor is refused: {0}")]
    Tensor(#[from] TensorError),
    /// The numbers are not one row.
    #[error("forecast has shape {got:?}, must be [{want}]")]
    Shape {
        /// Shape received.
        got: Vec<usize>,
        /// The number of values asked for.
        want: usize,
    },
    /// The values are too few, too many, NaN or infinite.
    #[error(transparent)]
    Values(#[from] ForecastError),
}

impl QueryError {
    /// Tells whether the same query may succeed later; a malformed answer stays malformed.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Connect { .. } | Self::Broken(_) => true,
            Self::Status { code, .. } => matches!(code, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// Returns a short constant name, for counters and leader boards.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Connect { .. } => "connect",
            Self::Broken(_) => "broken",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::Decode(_) => "decode",
            Self::NoAnswer { .. } => "no_answer",
            Self::Tensor(_) => "tensor",
            Self::Shape { .. } => "shape",
            Self::Values(_) => "values",
        }
    }
}
