//! The reference subnet's behaviour where it differs from ours, faults included.
//!
//! Used by [`Compatibility::Seed`](crate::settings::Compatibility) and by the golden tests. New code
//! does not belong here: each function exists because recorded data of the reference needs it, and
//! each names the better one.

pub mod aggregator;
pub mod answers;
pub mod collector;
pub mod indicators;
pub mod klines;
pub mod miner;
pub mod records;
pub mod scaler;
pub mod scaling;
pub mod scoring;
pub mod temporal;
pub mod time;
pub mod weights;

/// How the reference fails; recorded data names the class of its exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// Fewer than two scores cannot be scaled.
    #[error("fewer than 2 scores, cannot scale")]
    MinResponses,
    /// Division of plain floats by zero.
    #[error("division by zero")]
    ZeroDivision,
    /// An argument outside of its range, or shapes that do not fit.
    #[error("value or shape out of range")]
    Value,
    /// A forecast has the wrong number of values.
    #[error("wrong number of values")]
    IncorrectPredictionSize,
    /// No data, or data that cannot be used.
    #[error("no usable data")]
    Runtime,
    /// Text where a number is needed.
    #[error("text where a number is needed")]
    Type,
    /// A position behind the end.
    #[error("position behind the end of a list")]
    Index,
    /// A feature that is not there.
    #[error("feature is missing")]
    Key,
}

impl SeedError {
    /// Returns the class of the exception that the reference raises.
    pub const fn class(self) -> &'static str {
        match self {
            Self::MinResponses => "MinResponsesException",
            Self::ZeroDivision => "ZeroDivisionError",
            Self::Value => "ValueError",
            Self::IncorrectPredictionSize => "IncorrectPredictionSizeError",
            Self::Runtime => "RuntimeError",
            Self::Type => "TypeError",
            Self::Index => "IndexError",
            Self::Key => "KeyError",
        }
    }
}
