//! Reads a flat JSON object in one pass, in place: the usual form of a trade.
//!
//! A trade is read some hundred thousand times a second, and most of a general reader's time goes
//! into forms that an exchange never sends: escapes, nesting, white space, odd numbers. This one
//! gives up on all of them ([`None`]), so that whoever uses it falls back on the general reader.
//! What it does take means the same to both; the tests and the fuzz targets compare them.

use std::slice;

/// A value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flat<'a> {
    /// A text without escapes, without its quotes.
    Text(&'a [u8]),
    /// A whole number that is not negative: its digits.
    Digits(&'a [u8]),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

impl<'a> Flat<'a> {
    pub(crate) const fn text(self) -> Option<&'a [u8]> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(crate) fn number(self) -> Option<u64> {
        if let Self::Digits(text) = self { digits(text) } else { None }
    }

    pub(crate) const fn bool(self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(value) } else { None }
    }
}

/// What is left to read of an object.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Begins with an object that is the whole of `text`.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let [b'{', rest @ .., b'}'] = text.as_bytes() else { return None };
        Some(Self { rest })
    }
}

impl<'a> Iterator for Fields<'a> {
    /// Name and value; `None` for what is left to the general reader.
    type Item = Option<(&'a [u8], Flat<'a>)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() { None } else { Some(self.field()) }
    }
}

impl<'a> Fields<'a> {
    #[inline]
    fn field(&mut self) -> Option<(&'a [u8], Flat<'a>)> {
        let (name, rest) = match self.rest {
            // Most names are one letter.
            [b'"', name, b'"', rest @ ..] if !is_special(*name) => (slice::from_ref(name), rest),
            [b'"', rest @ ..] => quoted(rest)?,
            _ => return None,
        };
        let [b':', rest @ ..] = rest else { return None };
        let (value, rest) = value(rest)?;
        self.rest = match rest {
            [] => rest,
            [b',', rest @ ..] if !rest.is_empty() => rest,
            _ => return None,
        };
        Some((name, value))
    }
}

#[inline]
fn value(text: &[u8]) -> Option<(Flat<'_>, &[u8])> {
    match text {
        [b'"', rest @ ..] => {
            let (text, rest) = quoted(rest)?;
            Some((Flat::Text(text), rest))
        }
        [b'0'..=b'9', ..] => {
            let mut after = text;
            while let Some((eight, rest)) = after.split_first_chunk::<8>()
                && are_digits(u64::from_le_bytes(*eight))
            {
                after = rest;
            }
            while let [b'0'..=b'9', rest @ ..] = after {
                after = rest;
            }
            let (digits, rest) = text.split_at_checked(text.len() - after.len())?;
            // JSON has no leading zeros; what else a number may have, the next field's comma refuses.
            let is_plain = digits.len() == 1 || !digits.starts_with(b"0");
            is_plain.then_some((Flat::Digits(digits), rest))
        }
        [b't', b'r', b'u', b'e', rest @ ..] => Some((Flat::Bool(true), rest)),
        [b'f', b'a', b'l', b's', b'e', rest @ ..] => Some((Flat::Bool(false), rest)),
        [b'n', b'u', b'l', b'l', rest @ ..] => Some((Flat::Null, rest)),
        _ => None,
    }
}

const EACH: u64 = 0x0101_0101_0101_0101;
const TOP_BITS: u64 = 0x80 * EACH;

/// Whether a byte ends a text, begins an escape or may not stand in a text.
const fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

/// Returns how many of eight bytes come before the first special one.
#[inline]
const fn before_special(eight: u64) -> usize {
    // A byte's top bit is set where the byte is 0, or below 32. A borrow may set that of a byte after
    // such a one, too, but never before.
    let quote = eight ^ (b'"' as u64 * EACH);
    let escape = eight ^ (b'\\' as u64 * EACH);
    let found = (quote.wrapping_sub(EACH) & !quote)
        | (escape.wrapping_sub(EACH) & !escape)
        | (eight.wrapping_sub(0x20 * EACH) & !eight);
    (found & TOP_BITS).trailing_zeros() as usize / 8
}

/// Splits behind the closing quote; the opening one is already read.
#[inline]
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    let mut after = text;
    while let Some((eight, rest)) = after.split_first_chunk::<8>() {
        let before = before_special(u64::from_le_bytes(*eight));
        length += before;
        if before < 8 {
            break;
        }
        after = rest;
    }
    if after.len() < 8 {
        length += after.iter().position(|byte| is_special(*byte))?;
    }
    let (inside, rest) = text.split_at_checked(length)?;
    let [b'"', rest @ ..] = rest else { return None };
    Some((inside, rest))
}

/// Reads 1 to 19 digits and nothing else.
#[inline]
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    let more = text.len().checked_sub(8);
    match (text.split_first_chunk::<8>(), text.last_chunk::<8>(), more) {
        (Some((eight, _)), _, Some(0)) => eight_digits(u64::from_le_bytes(*eight)),
        (Some((head, _)), Some(tail), Some(more @ 1..=8)) => {
            // The last eight bytes; those of them that are already in the head count as zeros.
            let tail = u64::from_le_bytes(*tail);
            let zeros = u64::MAX.checked_shr(8 * u32::try_from(more).ok()?).unwrap_or(0);
            let tail = (tail & !zeros) | ((0x30 * EACH) & zeros);
            let head = eight_digits(u64::from_le_bytes(*head))?;
            Some(head * POWERS.get(more)? + eight_digits(tail)?)
        }
        (Some((head, rest)), _, Some(9..=11)) => {
            let head = eight_digits(u64::from_le_bytes(*head))?;
            Some(head * POWERS.get(rest.len())? + digits(rest)?)
        }
        (_, _, None) if !text.is_empty() => {
            let mut value = 0;
            for byte in text {
                let digit = byte.wrapping_sub(b'0');
                if digit > 9 {
                    return None;
                }
                value = value * 10 + u64::from(digit);
            }
            Some(value)
        }
        _ => None,
    }
}

#[inline]
const fn are_digits(eight: u64) -> bool {
    let high_halves = eight & (0xf0 * EACH);
    // Above 9 the lower half carries into the upper one.
    let carried = eight.wrapping_add(6 * EACH) & (0xf0 * EACH);
    high_halves == 0x30 * EACH && carried == high_halves
}

/// All eight at once, as the bytes of one number: neighbours are joined to pairs, pairs to fours, and
/// those to the result.
#[inline]
const fn eight_digits(all: u64) -> Option<u64> {
    const LOW_BYTES: u64 = 0x0000_00ff_0000_00ff;
    if !are_digits(all) {
        return None;
    }
    let ones = all & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = ones.wrapping_mul(10).wrapping_add(ones >> 8);
    let first = (pairs & LOW_BYTES).wrapping_mul(100 + (1_000_000 << 32));
    let second = ((pairs >> 16) & LOW_BYTES).wrapping_mul(1 + (10_000 << 32));
    Some(first.wrapping_add(second) >> 32)
}

/// Powers of ten; as doubles they are exact too.
const POWERS: [u64; 20] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
    100_000_000_000,
    1_000_000_000_000,
    10_000_000_000_000,
    100_000_000_000_000,
    1_000_000_000_000_000,
    10_000_000_000_000_000,
    100_000_000_000_000_000,
    1_000_000_000_000_000_000,
    10_000_000_000_000_000_000,
];
/// All whole numbers up to here are doubles.
const MAX_EXACT: u64 = 1 << 53;

/// Reads digits with or without a point between or beside them, where the result is the double that
/// is nearest to the decimal, as `f64::from_str` gives it: both parts of the one division are exact
/// then, and a division rounds to the nearest. `None` for everything else.
#[inline]
pub(crate) fn decimal(text: &[u8]) -> Option<f64> {
    // With the point at most 19 digits.
    if text.len() > 20 {
        return None;
    }
    let (number, power) = match text.iter().position(|byte| *byte == b'.') {
        None => (digits(text)?, 1),
        Some(at) => {
            let (whole, fraction) = text.split_at_checked(at)?;
            let fraction = fraction.get(1..)?;
            let power = *POWERS.get(fraction.len())?;
            (digits(whole)?.checked_mul(power)?.checked_add(digits(fraction)?)?, power)
        }
    };
    (number <= MAX_EXACT).then_some(number as f64 / power as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Vec<(String, Flat<'_>)>> {
        let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        Fields::of(text)?.map(|field| field.map(|(text, value)| (name(text), value))).collect()
    }

    #[test]
    fn a_flat_object_is_read_in_its_order() {
        let text = r#"{"e":"trade","t":17,"x":0,"m":true,"M":false,"n":null,"":""}"#;
        let want = [
            ("e", Flat::Text(b"trade")),
            ("t", Flat::Digits(b"17")),
            ("x", Flat::Digits(b"0")),
            ("m", Flat::Bool(true)),
            ("M", Flat::Bool(false)),
            ("n", Flat::Null),
            ("", Flat::Text(b"")),
        ];
        assert_eq!(read(text).unwrap(), want.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(read(r#"{"t":17}"#).unwrap().len(), 1);
        assert_eq!(read("{}").unwrap(), []);
    }

    #[test]
    fn everything_else_is_left_to_the_general_reader() {
        for text in [
            "",
            "{",
            "}",
            "[]",
            "null",
            "{,}",
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a":1"b":2}"#,
            r#"{"a":1}}"#,
            r#"{"a":1} "#,
            r#" {"a":1}"#,
            r#"{"a": 1}"#,
            r#"{"a":01}"#,
            r#"{"a":-1}"#,
            r#"{"a":1.5}"#,
            r#"{"a":1e3}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a":tru}"#,
            r#"{"a":trues}"#,
            r#"{"a":"\n"}"#,
            "{\"a\":\"\n\"}",
            r#"{"\u0061":1}"#,
            r#"{"a"}"#,
            r#"{"a":}"#,
            "{a:1}",
            r#"{"a":"1}"#,
            r#"{"a":"1"2}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn decimals_at_the_edge_of_what_is_exact() {
        assert_eq!(decimal(b"9007199254740992"), Some(9_007_199_254_740_992.0));
        assert_eq!(decimal(b"9007199254740993"), None);
        assert_eq!(decimal(b"0.0000000000000000001"), None, "21 characters");
        assert_eq!(decimal(b"0.000000000000000001"), Some(1e-18));
        assert_eq!(decimal(b"66477.91000000"), Some(66_477.91));
        for text in ["", ".", "1.", ".5", "1.2.3", "-1", "+1", "1e5", "1_0", " 1", "nan", "1\u{b2}"]
        {
            assert_eq!(decimal(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn digits_are_read_like_the_standard_library_does(text in "[0-9]{1,21}|[0-9/:]{1,10}|.{0,9}") {
            let want = text.parse().ok().filter(|_| text.len() <= 19 && !text.starts_with('+'));
            prop_assert_eq!(digits(text.as_bytes()), want);
        }

        #[test]
        fn a_decimal_is_the_double_of_the_standard_library(
            text in "[0-9]{1,12}(\\.[0-9]{1,12})?|[0-9]{15,17}|.{0,9}"
        ) {
            if let Some(value) = decimal(text.as_bytes()) {
                prop_assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
            }
        }

        #[test]
        fn what_is_read_is_json_and_means_the_same(
            text in r#"\{("[a-c]{0,2}":("[a-z]{0,3}"|[0-9]{1,3}|true|null|[a-z0-9"\\{}\[\]]{1,4}),?){0,4}\}"#
        ) {
            if let Some(fields) = read(&text) {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                for (name, flat) in &fields {
                    // Of two fields of one name the general reader keeps the last.
                    if fields.iter().filter(|field| field.0 == *name).count() > 1 {
                        continue;
                    }
                    let general = &value[name];
                    prop_assert_eq!(flat.number(), general.as_u64());
                    prop_assert_eq!(flat.bool(), general.as_bool());
                    prop_assert_eq!(flat.text(), general.as_str().map(str::as_bytes));
                }
            }
        }
    }
}
