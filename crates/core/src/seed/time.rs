//! Time helpers of the reference. The better ones: [`crate::grid::Interval`], which rounds times
//! before 1970 down as well.

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::seed::SeedError;

const DAY_MS: i64 = 86_400_000;

/// Returns the grid time at or before `at_ms`, truncating towards zero.
///
/// # Errors
/// [`SeedError::ZeroDivision`].
pub fn current_interval_ms(at_ms: i64, interval_ms: i64) -> Result<i64, SeedError> {
    whole(at_ms as f64 / interval_ms as f64, f64::trunc, interval_ms)
}

/// Returns [`current_interval_ms`] of one interval later.
///
/// # Errors
/// [`SeedError::ZeroDivision`].
pub fn next_interval_ms(at_ms: i64, interval_ms: i64) -> Result<i64, SeedError> {
    current_interval_ms(at_ms + interval_ms, interval_ms)
}

/// Returns [`current_interval_ms`] of one interval earlier.
///
/// # Errors
/// [`SeedError::ZeroDivision`].
pub fn previous_interval_ms(at_ms: i64, interval_ms: i64) -> Result<i64, SeedError> {
    current_interval_ms(at_ms - interval_ms, interval_ms)
}

/// Returns the closest grid time, the even one of two.
///
/// # Errors
/// [`SeedError::ZeroDivision`].
pub fn closest_interval_ms(at_ms: i64, interval_ms: i64) -> Result<i64, SeedError> {
    whole(at_ms as f64 / interval_ms as f64, f64::round_ties_even, interval_ms)
}

fn whole(steps: f64, round: fn(f64) -> f64, interval_ms: i64) -> Result<i64, SeedError> {
    if interval_ms == 0 {
        return Err(SeedError::ZeroDivision);
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounded; saturates")]
    let steps = round(steps) as i64;
    Ok(steps.saturating_mul(interval_ms))
}

/// Returns the milliseconds of a span given in weeks, days, hours, minutes, seconds, milliseconds.
pub fn time_span_ms(parts: [f64; 6]) -> i64 {
    let units = [604_800_000.0, 86_400_000.0, 3_600_000.0, 60_000.0, 1_000.0, 1.0];
    let total: f64 = parts.iter().zip(units).map(|(part, unit)| part * unit).sum();
    #[expect(clippy::cast_possible_truncation, reason = "truncation towards zero; saturates")]
    let total_ms = total as i64;
    total_ms
}

/// Returns the SECONDS of a text such as `5:00`, in spite of the reference's name for it.
///
/// # Errors
/// [`SeedError::Value`] when a part is not a number.
pub fn parse_time_interval(text: &str) -> Result<f64, SeedError> {
    text.split(':').try_fold(0.0, |seconds, part| {
        let part: f64 = part.trim().parse().map_err(|_| SeedError::Value)?;
        Ok(seconds * 60.0 + part)
    })
}

/// Returns the date and time of a timestamp: seconds truncated towards zero, milliseconds by floor
/// modulo, so that times before 1970 with a fraction are one second late.
///
/// # Errors
/// [`SeedError::Value`] when the calendar does not hold it.
pub fn datetime_from_ms(at_ms: i64) -> Result<NaiveDateTime, SeedError> {
    let shown_ms = (at_ms / 1_000) * 1_000 + at_ms.rem_euclid(1_000);
    millis_to_timestamp(shown_ms)
}

/// Returns the date and time of a timestamp.
///
/// # Errors
/// [`SeedError::Value`] when the calendar does not hold it.
pub fn millis_to_timestamp(at_ms: i64) -> Result<NaiveDateTime, SeedError> {
    let time = DateTime::<Utc>::from_timestamp_millis(at_ms).ok_or(SeedError::Value)?;
    Ok(time.naive_utc())
}

/// Reads an ISO date and time; without an offset it is UTC.
///
/// # Errors
/// [`SeedError::Value`] for other text.
pub fn parse_to_ms(text: &str) -> Result<i64, SeedError> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let parsed = formats.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    Ok(parsed.ok_or(SeedError::Value)?.and_utc().timestamp_millis())
}

/// Returns the spans of each day from `start_ms` to `days` later: whole days, the last one up to the
/// time of the day of the start.
pub fn range_millis(start_ms: i64, days: i64) -> Vec<(i64, i64)> {
    let first = start_ms - start_ms.rem_euclid(DAY_MS);
    let mut spans: Vec<(i64, i64)> =
        (0..days).map(|day| (first + day * DAY_MS, first + (day + 1) * DAY_MS - 1)).collect();
    spans.push((first + days * DAY_MS, start_ms + days * DAY_MS));
    spans
}

/// Returns the milliseconds of minutes.
pub const fn minute_in_millis(minutes: i64) -> i64 {
    minutes * 60_000
}

/// Returns the milliseconds of hours, of a day when none is given.
pub fn hours_in_millis(hours: Option<i64>) -> i64 {
    hours.unwrap_or(24) * 3_600_000
}
