//! The commitment to a forecast: a hash of the miner's hotkey and of the values as text.
//!
//! The text is the one that Python prints for a list of floats, because the peers of the subnet
//! hash that text. The hash binds the hotkey, so a commitment that is copied from another miner
//! can never be revealed by the copier.

use sha2::{Digest, Sha256};

/// Characters of a commitment: a SHA-256 in hexadecimal.
pub const COMMITMENT_LEN: usize = 64;
/// Decimal exponents in `-4..16` are written without an exponent.
const LEAST_PLAIN_EXPONENT: i32 = -4;
const FIRST_SCIENTIFIC_EXPONENT: i32 = 16;

/// Returns the commitment of `hotkey_text` (SS58) to `closes`: lower-case hex SHA-256 of
/// `<hotkey>-<list text>`.
///
/// Golden data: `prediction_hash.json`, `misc/hash_predictions.json`, exact.
pub fn commitment(hotkey_text: &str, closes: &[f64]) -> String {
    hash(hotkey_text, &list_text(closes.iter().map(|value| python_float(*value))))
}

/// Returns the commitment to a list of whole numbers, whose text has no decimal point.
pub fn commitment_of_integers(hotkey_text: &str, values: &[i64]) -> String {
    hash(hotkey_text, &list_text(values.iter().map(ToString::to_string)))
}

/// Tells whether `text` has the form of a commitment: 64 lower-case hexadecimal digits.
pub fn is_commitment(text: &str) -> bool {
    text.len() == COMMITMENT_LEN
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Returns the text of a list of floats: `[1.0, 2.5]`.
pub fn python_list(values: &[f64]) -> String {
    list_text(values.iter().map(|value| python_float(*value)))
}

/// Returns the text that Python gives a float: the shortest digits that read back to the same
/// double, `.0` on whole numbers, an exponent of at least two digits below 1e-4 and from 1e16 on.
///
/// Golden data: `misc/float_text.json`, exact.
pub fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let shortest = shortest_digits(value);
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (LEAST_PLAIN_EXPONENT..FIRST_SCIENTIFIC_EXPONENT).contains(&exponent) {
        return plain(mantissa, exponent);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// Returns the shortest digits that read back to the value, in scientific form; of two that are
/// equally close the one with the even last digit.
fn shortest_digits(value: f64) -> String {
    let shortest = format!("{value:e}");
    let mantissa = shortest.split_once('e').map_or(shortest.as_str(), |(mantissa, _)| mantissa);
    let decimals = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    // The standard library rounds such a tie up when it looks for the shortest form, and to even
    // when the number of digits is given.
    let rounded = format!("{value:.decimals$e}");
    let reads_back = rounded.parse::<f64>().is_ok_and(|back| back.to_bits() == value.to_bits());
    if reads_back { rounded } else { shortest }
}

/// Moves the point of scientific digits.
fn plain(mantissa: &str, exponent: i32) -> String {
    let (sign, size) = mantissa.strip_prefix('-').map_or(("", mantissa), |size| ("-", size));
    let digits: String = size.chars().filter(char::is_ascii_digit).collect();
    let exponent = isize::try_from(exponent).unwrap_or(0);
    let zeros = |count: isize| "0".repeat(usize::try_from(count).unwrap_or(0));
    let Ok(before_point) = usize::try_from(exponent + 1) else {
        return format!("{sign}0.{}{digits}", zeros(-exponent - 1));
    };
    if before_point == 0 {
        return format!("{sign}0.{digits}");
    }
    match digits.split_at_checked(before_point) {
        Some((whole, fraction)) if !fraction.is_empty() => format!("{sign}{whole}.{fraction}"),
        _ => {
            let missing = exponent + 1 - isize::try_from(digits.len()).unwrap_or(0);
            format!("{sign}{digits}{}.0", zeros(missing))
        }
    }
}

fn list_text(items: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&item);
    }
    text.push(']');
    text
}

fn hash(hotkey_text: &str, values_text: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(hotkey_text.as_bytes());
    hasher.update(b"-");
    hasher.update(values_text.as_bytes());
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_print_as_python_prints_them() {
        let cases = [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-123.5, "-123.5"),
            (0.05, "0.05"),
            (100.0, "100.0"),
            (1_234_567.0, "1234567.0"),
            // Lies exactly between ...312 and ...313.
            (f64::from_bits(0x3e60_0000_0000_0000), "2.9802322387695312e-08"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (1e22, "1e+22"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in cases {
            assert_eq!(python_float(value), text);
        }
        assert_eq!(python_float(f64::NAN), "nan");
    }

    proptest! {
        #[test]
        fn every_text_reads_back_to_the_same_double(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let back: f64 = python_float(value).parse().unwrap();
                prop_assert_eq!(back.to_bits(), bits);
            }
        }
    }

    #[test]
    fn commitments_have_their_form_and_bind_the_hotkey() {
        let one = commitment("a", &[1.0, 2.0]);
        assert!(is_commitment(&one));
        assert_ne!(one, commitment("b", &[1.0, 2.0]));
        assert_ne!(one, commitment_of_integers("a", &[1, 2]));
        assert!(!is_commitment(&one.to_uppercase()) && !is_commitment("ab"));
    }
}
