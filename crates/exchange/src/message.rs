//! The normalised form of what an exchange sends, and the checks on foreign numbers.

use std::ops::RangeInclusive;

use chrono::DateTime;
use forecastd_core::features::column::MAX_MAGNITUDE;
use forecastd_core::{Candle, CandleError, Interval, Trade};

use crate::flat;
use crate::symbol::Symbol;

/// Greatest price or size that is believed; far above any market, far below the loss of precision.
const MAX_VALUE: f64 = 1e15;
/// Latest time that is believed: the year 2100.
const MAX_TIME_MS: i64 = 4_102_444_800_000;
/// Longest decimal text that is read.
const MAX_DECIMAL_LEN: usize = 40;
/// Longest text of a time that is read; RFC 3339 with nanoseconds takes 35.
const MAX_TIME_LEN: usize = 40;

/// One readable message of an exchange.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Candles, forming or final, oldest first.
    Candles(Vec<CandleUpdate>),
    /// One execution: the usual case, without a list around it.
    Trade(TradeUpdate),
    /// Executions, oldest first.
    Trades(Vec<TradeUpdate>),
    /// The newest execution that the exchange knows of, told at intervals: the proof that none was
    /// lost, or that some were. It says nothing about the other channels.
    LastTrade(LastTrade),
    /// A request was accepted.
    Ack {
        /// The request's number, where the answer repeats it.
        id: Option<u64>,
    },
    /// The whole list of what is subscribed now; the answer of exchanges that number no requests.
    Subscriptions(Vec<Topic>),
    /// A request was refused.
    Nack {
        /// The exchange's words, shortened.
        reason: String,
    },
    /// A sign of life of the connection. It says nothing about the data: a refused or silent
    /// subscription leaves it running.
    Heartbeat,
    /// The answer to a ping of this side; like a heartbeat no sign of data.
    Pong,
    /// The exchange tells its own state.
    Status {
        /// Whether it works as usual.
        is_online: bool,
        /// The exchange's word for the state, shortened.
        state: String,
    },
    /// The exchange is about to close the connection.
    GoingAway,
    /// Valid, but nothing that is used here.
    Other,
}

/// The newest execution of one market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastTrade {
    /// The market, as the exchange spells it.
    pub symbol: Symbol,
    /// Its number in the numbering of [`TradeUpdate::numbers`].
    pub number: u64,
    /// When the exchange said so.
    pub time_ms: i64,
}

/// A channel of one market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The exchange's name of the channel.
    pub channel: String,
    /// The market, as the exchange spells it; of no meaning for a channel without markets.
    pub symbol: String,
}

/// A candle as an exchange tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct CandleUpdate {
    /// The exchange's own spelling of the market.
    pub symbol: Symbol,
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
    pub symbol: Symbol,
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
    decimal(text, MAX_VALUE).filter(|value| *value >= 0.0).ok_or_else(|| DecodeError::Value {
        field,
        value: shorten(text),
        rule: "a decimal in 0..=1e15",
    })
}

/// Reads a decimal that must be above zero.
pub(crate) fn positive(field: &'static str, text: &str) -> Result<f64, DecodeError> {
    decimal(text, MAX_VALUE).filter(|value| *value > 0.0).ok_or_else(|| DecodeError::Value {
        field,
        value: shorten(text),
        rule: "a decimal above 0 and up to 1e15",
    })
}

/// Reads a decimal of any sign and unit: a metric may be larger than any price.
pub(crate) fn signed(field: &'static str, text: &str) -> Result<f64, DecodeError> {
    decimal(text, MAX_MAGNITUDE).ok_or_else(|| DecodeError::Value {
        field,
        value: shorten(text),
        rule: "a decimal in -1e30..=1e30",
    })
}

/// Checks an amount that came as a JSON number. The parser rounds correctly, so that it is the same
/// value as that of the digits in the message.
pub(crate) fn amount_number(field: &'static str, value: f64) -> Result<f64, DecodeError> {
    if (0.0..=MAX_VALUE).contains(&value) {
        return Ok(value);
    }
    Err(DecodeError::Value { field, value: value.to_string(), rule: "a number in 0..=1e15" })
}

/// Checks a price or size that came as a JSON number.
pub(crate) fn positive_number(field: &'static str, value: f64) -> Result<f64, DecodeError> {
    if value > 0.0 {
        return amount_number(field, value);
    }
    let rule = "a number above 0 and up to 1e15";
    Err(DecodeError::Value { field, value: value.to_string(), rule })
}

/// Reads an RFC 3339 time; what is finer than a millisecond is cut off.
pub(crate) fn rfc3339_ms(field: &'static str, text: &str) -> Result<i64, DecodeError> {
    let read =
        if text.len() <= MAX_TIME_LEN { DateTime::parse_from_rfc3339(text).ok() } else { None };
    let at = read.ok_or_else(|| DecodeError::Value {
        field,
        value: shorten(text),
        rule: "a time such as 2026-01-02T03:04:05.678Z",
    })?;
    time_ms(field, at.timestamp_millis())
}

/// Reads seconds since 1970 with or without a fraction, from text: a double would move the last
/// digits. What is finer than a millisecond is cut off.
pub(crate) fn seconds_ms(field: &'static str, text: &str) -> Result<i64, DecodeError> {
    let wrong = || {
        let rule = "seconds since 1970, with or without a fraction";
        DecodeError::Value { field, value: shorten(text), rule }
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| {
        (1..=MAX_TIME_LEN).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_number(whole) || !is_number(fraction) {
        return Err(wrong());
    }
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    let millis = fraction.bytes().chain([b'0'; 3]).take(3);
    let millis = millis.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let at_ms =
        seconds.checked_mul(1000).and_then(|ms| ms.checked_add(millis)).ok_or_else(wrong)?;
    time_ms(field, at_ms)
}

/// Reads JSON of any shape.
pub(crate) fn json(text: &str) -> Result<serde_json::Value, DecodeError> {
    serde_json::from_str(text).map_err(|error| DecodeError::Json(shorten(&error.to_string())))
}

/// What is wrong with the shape of a message or body.
pub(crate) fn shape(what: &'static str, error: &serde_json::Error) -> DecodeError {
    DecodeError::Shape { what, reason: shorten(&error.to_string()) }
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
pub(crate) fn symbol(field: &'static str, text: &str) -> Result<Symbol, DecodeError> {
    let rule = "1 to 32 letters, digits, `-`, `/` or `_`";
    Symbol::new(text).ok_or_else(|| DecodeError::Value { field, value: shorten(text), rule })
}

/// Returns the first 120 characters of a foreign text, without control characters.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(120).collect()
}

/// Like [`positive`], of a text whose form needs no further check; `None` says nothing.
#[inline]
pub(crate) fn plain_positive(text: &[u8]) -> Option<f64> {
    flat::decimal(text).filter(|value| *value > 0.0 && *value <= MAX_VALUE)
}

/// `f64::from_str` would also read `inf`, `nan` and texts of any length.
fn decimal(text: &str, most: f64) -> Option<f64> {
    if let Some(value) = flat::decimal(text.as_bytes()) {
        return Some(value).filter(|value| *value <= most);
    }
    let is_part =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+');
    if text.len() > MAX_DECIMAL_LEN || !text.bytes().all(is_part) {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite() && value.abs() <= most)
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
        for text in ["", "nan", "inf", "1e31", "-1e31", "1e999", "0x1", &long] {
            assert!(signed("m", text).is_err(), "{text}");
        }
        assert_eq!(signed("m", "-0.00012"), Ok(-0.000_12));
        assert_eq!(signed("m", "-1e30"), Ok(-1e30));
    }

    #[test]
    fn numbers_have_the_bounds_of_texts() {
        assert_eq!(amount_number("v", 0.0), Ok(0.0));
        assert_eq!(positive_number("p", 5.1e-5), Ok(5.1e-5));
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e16] {
            assert!(amount_number("v", value).is_err(), "{value}");
            assert!(positive_number("p", value).is_err(), "{value}");
        }
        assert!(positive_number("p", 0.0).is_err());
    }

    #[test]
    fn times_are_cut_to_milliseconds() {
        assert_eq!(rfc3339_ms("t", "2021-04-17T16:43:37.999999Z"), Ok(1_618_677_817_999));
        assert_eq!(rfc3339_ms("t", "2026-09-10T17:32:00.000000000Z"), Ok(1_789_061_520_000));
        assert_eq!(seconds_ms("t", "1534614057.321997"), Ok(1_534_614_057_321));
        assert_eq!(seconds_ms("t", "1534614057.3"), Ok(1_534_614_057_300));
        assert_eq!(seconds_ms("t", "1534614057"), Ok(1_534_614_057_000));
        for text in
            ["", ".", "1.", ".5", "-1", "1e9", "99999999999999999999", "9999999999", "1.2.3"]
        {
            assert!(seconds_ms("t", text).is_err(), "{text}");
        }
        for text in ["", "yesterday", "2021-04-17", "2221-04-17T16:43:37Z", "1969-01-01T00:00:00Z"]
        {
            assert!(rfc3339_ms("t", text).is_err(), "{text}");
        }
    }

    #[test]
    fn foreign_text_is_shortened_by_characters() {
        assert_eq!(shorten("a\nb\u{1b}[31m"), "ab[31m");
        assert_eq!(shorten(&"é".repeat(500)).chars().count(), 120);
    }
}
