//! The normalised form of what an exchange sends, and the checks on foreign numbers.

use std::ops::RangeInclusive;

use forecastd_core::{Candle, CandleError, Interval, Trade};

/// Greatest price or size that is believed; far above any market, far below the loss of precision.
const MAX_VALUE: f64 = 1e15;
/// Latest time that is believed: the year 2100.
const MAX_TIME_MS: i64 = 4_102_444_800_000;
/// Longest decimal text that is read.
const MAX_DECIMAL_LEN: usize = 40;
/// Longest symbol that is read.
const MAX_SYMBOL_LEN: usize = 32;

/// One readable message of an exchange.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Candles, forming or final, oldest first.
    Candles(Vec<CandleUpdate>),
    /// Executions, oldest first.
    Trades(Vec<TradeUpdate>),
    /// A request was accepted.
    Ack {
        /// The request's number, where the answer repeats it.
        id: Option<u64>,
    },
    /// A request was refused.
    Nack {
        /// The exchange's words, shortened.
        reason: String,
    },
    /// The exchange is about to close the connection.
    GoingAway,
    /// Valid, but nothing that is used here.
    Other,
}

/// A candle as an exchange tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct CandleUpdate {
    /// The exchange's own spelling of the market.
    pub symbol: String,
    /// Length of the candle.
    pub interval: Interval,
    /// The checked values.
    pub candle: Candle,
    /// Whether the interval is over; `None` where the exchange does not say.
    pub is_final: Option<bool>,
}

/// An execution as an exchange tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct TradeUpdate {
    /// The exchange's own spelling of the market.
    pub symbol: String,
    /// The checked values.
    pub trade: Trade,
    /// The consecutive numbers of the executions that this message stands for; a jump from one
    /// message to the next means that some were lost. `None` where the exchange does not number.
    pub numbers: Option<RangeInclusive<u64>>,
}

/// Why a message is not used. The message is counted and dropped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON.
    #[error("message is not JSON: {0}")]
    Json(String),
    /// A trade or candle with a field missing or of the wrong type.
    #[error("{what} message has a wrong shape: {reason}")]
    Shape {
        /// The kind of message.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A number that is not a decimal, or outside of what is believed.
    #[error("field `{field}` is `{value}`, must be {rule}")]
    Value {
        /// Name of the field.
        field: &'static str,
        /// The refused text, shortened.
        value: String,
        /// What is accepted.
        rule: &'static str,
    },
    /// The candle contradicts itself.
    #[error(transparent)]
    Candle(#[from] CandleError),
}

/// Reads a decimal that must not be negative.
pub(crate) fn amount(field: &'static str, text: &str) -> Result<f64, DecodeError> {
    decimal(text).filter(|value| *value >= 0.0).ok_or_else(|| DecodeError::Value {
        field,
        value: shorten(text),
        rule: "a decimal in 0..=1e15",
    })
}

/// Reads a decimal that must be above zero.
pub(crate) fn positive(field: &'static str, text: &str) -> Result<f64, DecodeError> {
    decimal(text).filter(|value| *value > 0.0).ok_or_else(|| DecodeError::Value {
        field,
        value: shorten(text),
        rule: "a decimal above 0 and up to 1e15",
    })
}

/// Checks a time in milliseconds.
pub(crate) fn time_ms(field: &'static str, value: i64) -> Result<i64, DecodeError> {
    if (0..=MAX_TIME_MS).contains(&value) {
        return Ok(value);
    }
    let rule = "milliseconds between 1970 and 2100";
    Err(DecodeError::Value { field, value: value.to_string(), rule })
}

/// Checks and copies a symbol.
pub(crate) fn symbol(field: &'static str, text: &str) -> Result<String, DecodeError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_');
    if (1..=MAX_SYMBOL_LEN).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    let rule = "1 to 32 letters, digits, `-`, `/` or `_`";
    Err(DecodeError::Value { field, value: shorten(text), rule })
}

/// Returns the first 120 characters of a foreign text, without control characters.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(120).collect()
}

/// `f64::from_str` would also read `inf`, `nan` and texts of any length.
fn decimal(text: &str) -> Option<f64> {
    let is_part =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+');
    if text.len() > MAX_DECIMAL_LEN || !text.bytes().all(is_part) {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite() && value.abs() <= MAX_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_by_value() {
        assert_eq!(amount("v", "10.75371000"), Ok(10.753_71));
        assert_eq!(amount("v", "5.1e-05"), Ok(5.1e-5));
        assert_eq!(amount("v", "0.00000000"), Ok(0.0));
    }

    #[test]
    fn odd_decimals_are_refused() {
        let long = "1".repeat(41);
        for text in
            ["", "nan", "NaN", "inf", "-inf", "infinity", "-1", "1e16", "1e999", "1,5", " 1", &long]
        {
            assert!(amount("v", text).is_err(), "{text}");
            assert!(positive("p", text).is_err(), "{text}");
        }
        assert!(positive("p", "0").is_err());
    }

    #[test]
    fn foreign_text_is_shortened_by_characters() {
        assert_eq!(shorten("a\nb\u{1b}[31m"), "ab[31m");
        assert_eq!(shorten(&"é".repeat(500)).chars().count(), 120);
    }
}
