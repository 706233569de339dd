//! An exchange's id of a trade.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The exchange's id of a trade: nearly always a number, which is kept as one, so that a trade is
/// read and handed on without an allocation; else the exchange's text.
///
/// It is written, and read back, as text: readers in other languages lose the last digits of large
/// numbers. A text is a number only when the number is written in the same way: `7` is, `07` is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TradeId(Repr);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Number(u64),
    Text(Box<str>),
}

impl TradeId {
    /// Returns the number that the id is or stands for, where it is one.
    #[inline]
    pub fn number(&self) -> Option<u64> {
        match &self.0 {
            Repr::Number(number) => Some(*number),
            Repr::Text(text) => text.parse().ok(),
        }
    }
}

impl From<u64> for TradeId {
    fn from(number: u64) -> Self {
        Self(Repr::Number(number))
    }
}

impl From<&str> for TradeId {
    fn from(text: &str) -> Self {
        let is_plain = !text.starts_with(['0', '+']) || text == "0";
        match text.parse() {
            Ok(number) if is_plain => Self(Repr::Number(number)),
            _ => Self(Repr::Text(text.into())),
        }
    }
}

impl From<String> for TradeId {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for TradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Number(number) => number.fmt(f),
            Repr::Text(text) => text.fmt(f),
        }
    }
}

impl Serialize for TradeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TradeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_written_as_it_was_read() {
        for text in ["0", "42", "18446744073709551615", "18446744073709551616", "007", "+5", "a-b"]
        {
            let id = TradeId::from(text);
            assert_eq!(id.to_string(), text);
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<TradeId>(&json).unwrap(), id);
        }
    }

    #[test]
    fn what_stands_for_a_number_has_one() {
        assert_eq!(TradeId::from("42"), TradeId::from(42));
        assert_ne!(TradeId::from("042"), TradeId::from(42));
        assert_eq!(TradeId::from("042").number(), Some(42));
        assert_eq!(TradeId::from("a-b").number(), None);
        assert_eq!(TradeId::from("18446744073709551616").number(), None);
    }
}
