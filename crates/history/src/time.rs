//! Times as files write them: a number in some unit, or ISO 8601.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use forecastd_core::bars::MAX_TIME_MS;

/// Unit of a number that stands for a time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    /// Guesses from the size: seconds until the year 5138, milliseconds from 1973 on, and so forth.
    pub(crate) const fn guess(number: i64) -> Self {
        match number.unsigned_abs() {
            0..100_000_000_000 => Self::Seconds,
            100_000_000_000..100_000_000_000_000 => Self::Millis,
            100_000_000_000_000..100_000_000_000_000_000 => Self::Micros,
            _ => Self::Nanos,
        }
    }

    /// Returns the time in ms; `None` beyond the year 9999 or where a part of a millisecond would
    /// be lost.
    pub(crate) fn to_ms(self, number: i64) -> Option<i64> {
        let whole = |per_ms: i64| (number % per_ms == 0).then(|| number / per_ms);
        let ms = match self {
            Self::Seconds => number.checked_mul(1_000),
            Self::Millis => Some(number),
            Self::Micros => whole(1_000),
            Self::Nanos => whole(1_000_000),
        };
        ms.filter(|ms| ms.unsigned_abs() <= MAX_TIME_MS.unsigned_abs())
    }

    /// Reads the end of a column's name, for example `open_time_ms`.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (_, last) = name.rsplit_once(|letter: char| !letter.is_alphanumeric())?;
        Some(match last.to_ascii_lowercase().as_str() {
            "s" | "sec" | "secs" | "seconds" => Self::Seconds,
            "ms" | "millis" | "milliseconds" => Self::Millis,
            "us" | "micros" | "microseconds" => Self::Micros,
            "ns" | "nanos" | "nanoseconds" => Self::Nanos,
            _ => return None,
        })
    }
}

/// How the times of one file are written; settled by its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeForm {
    Number(Unit),
    Iso,
}

impl TimeForm {
    pub(crate) const RULE: &'static str =
        "a time: whole ms, s, us or ns since 1970, or ISO 8601, as in the rows before";

    /// Finds the form of a file from its first time.
    pub(crate) fn of_first(text: &str) -> Option<Self> {
        if let Some((number, _)) = integer(text) {
            return Some(Self::Number(Unit::guess(number)));
        }
        iso_ms(text).map(|_| Self::Iso)
    }

    /// Reads a time in ms.
    pub(crate) fn read(self, text: &str) -> Option<i64> {
        match self {
            Self::Iso => iso_ms(text),
            Self::Number(unit) => match (integer(text)?, unit) {
                ((number, Some(ms)), Unit::Seconds) => unit.to_ms(number)?.checked_add(ms),
                ((number, None | Some(0)), _) => unit.to_ms(number),
                _ => None,
            },
        }
    }
}

/// Reads a whole number, and the first three digits of a fraction where there is one; a fraction
/// of a millisecond is none.
fn integer(text: &str) -> Option<(i64, Option<i64>)> {
    let Some((whole, fraction)) = text.split_once('.') else {
        return Some((text.parse().ok()?, None));
    };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || whole.starts_with('-') {
        return None;
    }
    let (thousandths, rest) = fraction.split_at_checked(3).unwrap_or((fraction, ""));
    if rest.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let ms: i64 = format!("{thousandths:0<3}").parse().ok()?;
    Some((whole.parse().ok()?, Some(ms)))
}

/// Forms without a zone, which count as UTC.
const NAIVE_FORMS: [&str; 4] =
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];

fn iso_ms(text: &str) -> Option<i64> {
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    let zoned = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%:z"))
        .ok()
        .map(|time| time.naive_utc());
    let naive =
        || NAIVE_FORMS.into_iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let time = zoned.or_else(naive).or_else(date)?.and_utc();
    let is_whole = time.timestamp_subsec_nanos() % 1_000_000 == 0;
    is_whole.then(|| time.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_in_all_its_spellings() {
        for text in [
            "1678406400000",
            "1678406400",
            "1678406400.0",
            "1678406400.000000",
            "1678406400000000",
            "1678406400000000000",
            "2023-03-10",
            "2023-03-10 00:00",
            "2023-03-10T00:00:00Z",
            "2023-03-10 00:00:00",
            "2023-03-10 00:00:00+00:00",
            "2023-03-10 00:00:00 UTC",
            "2023-03-10T01:00:00.000000000+01:00",
        ] {
            let form = TimeForm::of_first(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(form.read(text), Some(1_678_406_400_000), "{text}");
        }
    }

    #[test]
    fn fractions_and_nonsense() {
        let seconds = TimeForm::Number(Unit::Seconds);
        assert_eq!(seconds.read("5.25"), Some(5_250));
        assert_eq!(TimeForm::Number(Unit::Micros).read("1500"), None, "half a millisecond");
        for text in ["", "x", "1.2.3", "1e9", "-1.5", "5.0001", "9223372036854775807", "1.-2"] {
            assert_eq!(seconds.read(text), None, "{text}");
        }
        for text in ["", "2023-13-01", "yesterday", "2023-03-10T00:00:00.0000001Z", "10/03/2023"] {
            assert_eq!(iso_ms(text), None, "{text}");
        }
    }

    #[test]
    fn names_tell_the_unit() {
        for (name, unit) in [
            ("open_time_ms", Some(Unit::Millis)),
            ("timestamp (s)", None),
            ("timestamp_s", Some(Unit::Seconds)),
            ("ts_ns", Some(Unit::Nanos)),
            ("time", None),
            ("ms", None),
        ] {
            assert_eq!(Unit::of_name(name), unit, "{name}");
        }
    }
}
