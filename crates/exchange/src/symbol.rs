//! The exchange's spelling of a market, kept in place.

use std::fmt;
use std::ops::Deref;

/// Longest symbol that is read.
const MAX_LEN: usize = 32;

/// A market as the exchange spells it: 1 to 32 letters, digits, `-`, `/` or `_`.
///
/// It is copied like a number, so that reading a trade allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol {
    bytes: [u8; MAX_LEN],
    length: u8,
}

impl Symbol {
    /// Returns the symbol of a text; `None` when it breaks the rule.
    pub fn new(text: &str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    #[inline]
    pub(crate) fn from_bytes(text: &[u8]) -> Option<Self> {
        let length = u8::try_from(text.len()).ok().filter(|length| *length > 0)?;
        let mut bytes = [0; MAX_LEN];
        for (place, byte) in bytes.get_mut(..text.len())?.iter_mut().zip(text) {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_')) {
                return None;
            }
            *place = *byte;
        }
        Some(Self { bytes, length })
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        // Only plain letters came in.
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl Deref for Symbol {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl PartialEq<str> for Symbol {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Symbol {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_the_text_it_was_made_of() {
        let long = "A".repeat(32);
        for text in ["B", "BTCUSDT", "BTC-USD", "XBT/USD", "a_1", &long] {
            let symbol = Symbol::new(text).unwrap();
            assert_eq!(symbol, text);
            assert_eq!(
                (symbol.to_string(), format!("{symbol:?}")),
                (text.into(), format!("{text:?}"))
            );
        }
    }

    #[test]
    fn other_texts_are_no_symbols() {
        let long = "A".repeat(33);
        let longer = "A".repeat(300);
        for text in ["", " ", "BTC USD", "BTC.USD", "é", "BTC\u{0}", &long, &longer] {
            assert_eq!(Symbol::new(text), None, "{text}");
        }
    }
}
