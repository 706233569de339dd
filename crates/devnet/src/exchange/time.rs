//! Times in the texts of exchanges.

use chrono::{DateTime, SecondsFormat, Utc};

/// Returns RFC 3339 in UTC with this many digits after the second.
pub(super) fn rfc3339(at_ms: i64, digits: SecondsFormat) -> String {
    date(at_ms).to_rfc3339_opts(digits, true)
}

/// Returns the form of mail headers, the year with two digits.
pub(super) fn rfc1123(at_ms: i64) -> String {
    date(at_ms).format("%a, %d %b %y %H:%M:%S +0000").to_string()
}

fn date(at_ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default()
}
