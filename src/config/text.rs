//! Durations, sizes, times and addresses as people write them.
//!
//! Pure functions from text to value and back. What they refuse, they refuse with `None`: the
//! caller knows the key and says what is allowed.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};

/// Units of a duration from the longest to the shortest, ms.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of a size, bytes. Those with an `i` count in 1024, the others in 1000.
const SIZE_UNITS: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("bytes", 1),
];

/// Longest text of a URL.
const MAX_URL_CHARS: usize = 2_048;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the number of bytes as a length in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first five units that divide exactly: binary ones are what the file uses.
        for (unit, bytes) in SIZE_UNITS {
            if unit.len() == 3 && self.0 != 0 && self.0.is_multiple_of(bytes) {
                return write!(f, "{}{unit}", self.0 / bytes);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A point in time, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UtcTime {
    /// Milliseconds since the Unix epoch.
    pub ms: i64,
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_millis(self.ms) {
            Some(time) if self.ms % 1_000 == 0 => {
                f.write_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{}ms", self.ms),
        }
    }
}

/// Reads a duration: whole numbers with a unit, longest first, as in `500ms`, `30s`, `1h30m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    let mut longest_unit_ms = u64::MAX;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (count, tail) = split_number(rest)?;
        let unit_len = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(unit_len);
        let (_, unit_ms) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        if unit_ms >= longest_unit_ms {
            return None;
        }
        longest_unit_ms = unit_ms;
        total_ms = total_ms.checked_add(count.checked_mul(unit_ms)?)?;
        rest = tail;
    }
    Some(Duration::from_millis(total_ms))
}

/// Writes a duration so that [`parse_duration`] reads it back; parts below 1 ms are cut off.
pub fn format_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms) in DURATION_UNITS {
        let count = rest_ms / unit_ms;
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
            rest_ms -= count * unit_ms;
        }
    }
    text
}

/// Reads a size: a whole number with a unit, as in `64MiB` or `1GB`.
pub fn parse_size(text: &str) -> Option<ByteSize> {
    let (count, unit) = split_number(text.trim())?;
    let unit = unit.trim_start();
    let (_, bytes) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    count.checked_mul(bytes).map(ByteSize)
}

/// Reads a time: RFC 3339 (`2025-01-02T00:00:00Z`) or a date (`2025-01-02`, its first moment, UTC).
pub fn parse_time(text: &str) -> Option<UtcTime> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(UtcTime { ms: time.timestamp_millis() });
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(UtcTime { ms: date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis() })
}

/// Tells whether `text` is `scheme://host[:port][/path]` with one of `schemes` and no user part.
///
/// Credentials have no place in a URL of the configuration: it is printed in logs and status.
pub fn is_url(text: &str, schemes: &[&str]) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    schemes.contains(&scheme)
        && text.len() <= MAX_URL_CHARS
        && !host.is_empty()
        && !authority.contains('@')
        && text.chars().all(|c| c.is_ascii_graphic())
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number != 0))
}

/// Tells whether `text` may name a stream, a model, a wallet: 1..=64 of `A-Z a-z 0-9 . _ -`, not
/// beginning with a dot, so that it is safe as a file name.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Splits a whole number off the front of `text`.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_back() {
        let cases = [
            ("500ms", 500),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
        ];
        for (text, ms) in cases {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(ms), "{text}");
            assert_eq!(format_duration(duration), text);
        }
        assert_eq!(parse_duration("90s").map(format_duration).as_deref(), Some("1m30s"));
    }

    #[test]
    fn durations_without_a_unit_or_out_of_order_are_refused() {
        for text in
            ["", " ", "30", "s", "-1s", "1.5s", "30 s", "1s1h", "1s1s", "30x", "1h30", "٣s", "9é"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration("999999999999999999d"), None);
        assert_eq!(parse_duration("99999999999999999999s"), None);
    }

    #[test]
    fn sizes_are_read_and_written_back() {
        for (text, bytes, shown) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("1 GiB", 1 << 30, "1GiB"),
            ("1536KiB", 1_572_864, "1536KiB"),
            ("1GB", 1_000_000_000, "1000000000B"),
            ("0B", 0, "0B"),
            ("7B", 7, "7B"),
        ] {
            let size = parse_size(text).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
            assert_eq!(parse_size(&size.to_string()), Some(size));
        }
        for text in ["", "64", "MiB", "-1MiB", "1.5GiB", "64mib", "99999999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_dates_or_full_stamps() {
        let day = parse_time("2025-01-02").unwrap();
        assert_eq!(day.ms, 1_735_776_000_000);
        assert_eq!(parse_time("2025-01-02T01:00:00+01:00"), Some(day));
        assert_eq!(day.to_string(), "2025-01-02T00:00:00Z");
        assert_eq!(UtcTime { ms: day.ms + 5 }.to_string(), "2025-01-02T00:00:00.005Z");
        for text in ["", "yesterday", "2025-13-01", "2025-01-02T00:00:00", "1735776000"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn urls_need_a_known_scheme_and_a_host_and_no_password() {
        for text in ["ws://127.0.0.1:9944", "wss://a.example", "ws://[::1]:9944/x", "ws://[::1]"] {
            assert!(is_url(text, &["ws", "wss"]), "{text}");
        }
        for text in [
            "",
            "ws://",
            "ws:///x",
            "http://a",
            "ws://a:0",
            "ws://a:99999",
            "ws://a:b",
            "ws://u:p@h",
            "ws://a b",
            "ws//a",
            "ws://ä",
        ] {
            assert!(!is_url(text, &["ws", "wss"]), "{text}");
        }
    }

    #[test]
    fn names_are_safe_as_file_names() {
        for text in ["BTCUSD-5m", "a", "lstm_small.v2"] {
            assert!(is_name(text), "{text}");
        }
        for text in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(!is_name(text), "{text}");
        }
    }
}
