//! Where a moment lies in its day, week, month and year: −1 at the beginning, below 1 at the end.

use chrono::{DateTime, Datelike, Months, NaiveTime, Utc};

use super::FeatureId;

const DAY_MS: i64 = 86_400_000;
const WEEK_MS: i64 = 7 * DAY_MS;
/// The epoch was a Thursday; weeks begin on Sunday.
const WEEK_OFFSET_MS: i64 = 4 * DAY_MS;

/// Returns the value of a temporal feature at `at_ms`; `None` for other features and for times that
/// the calendar does not hold.
///
/// Golden data: `features/temporal.json`, exact in f64.
pub fn temporal_value(feature: FeatureId, at_ms: i64) -> Option<f64> {
    match feature {
        FeatureId::EPOCH_MS => Some(at_ms as f64),
        FeatureId::TIME_OF_DAY => Some(cyclic(at_ms, DAY_MS)),
        FeatureId::TIME_OF_WEEK => Some(cyclic(at_ms.checked_add(WEEK_OFFSET_MS)?, WEEK_MS)),
        FeatureId::TIME_OF_MONTH | FeatureId::TIME_OF_YEAR => {
            let (start_ms, end_ms) = term(feature, at_ms)?;
            Some(within_term(at_ms, start_ms, end_ms))
        }
        _ => None,
    }
}

/// Returns the first ms of the month or year that holds `at_ms`, and the first of the next one.
pub(crate) fn term(feature: FeatureId, at_ms: i64) -> Option<(i64, i64)> {
    let date = DateTime::<Utc>::from_timestamp_millis(at_ms)?.date_naive().with_day(1)?;
    let (first, months) = match feature {
        FeatureId::TIME_OF_MONTH => (date, Months::new(1)),
        FeatureId::TIME_OF_YEAR => (date.with_month(1)?, Months::new(12)),
        _ => return None,
    };
    let midnight_ms =
        |day: chrono::NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
    Some((midnight_ms(first), midnight_ms(first.checked_add_months(months)?)))
}

pub(crate) fn within_term(at_ms: i64, start_ms: i64, end_ms: i64) -> f64 {
    let half = (end_ms - start_ms) as f64 / 2.0;
    ((at_ms - start_ms) as f64 / half).rem_euclid(2.0) - 1.0
}

fn cyclic(at_ms: i64, period_ms: i64) -> f64 {
    (at_ms as f64 / (period_ms / 2) as f64).rem_euclid(2.0) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_period_begins_at_minus_one() {
        let new_year_2023_sunday = 1_672_531_200_000;
        for feature in 100..=103 {
            let value = temporal_value(FeatureId(feature), new_year_2023_sunday).unwrap();
            assert!((value + 1.0).abs() < 1e-15, "{feature}");
            let before = temporal_value(FeatureId(feature), new_year_2023_sunday - 1).unwrap();
            assert!(before > 0.99 && before < 1.0, "{feature}");
        }
    }

    #[test]
    fn leap_years_are_longer() {
        let noon_2_july_2024 = 1_719_878_400_000;
        let value = temporal_value(FeatureId::TIME_OF_YEAR, noon_2_july_2024).unwrap();
        assert!((value - (183.0 / 183.0 - 1.0)).abs() < 1e-12);
        assert_eq!(temporal_value(FeatureId::CLOSE, 0), None);
        assert_eq!(temporal_value(FeatureId::TIME_OF_YEAR, i64::MAX), None);
    }
}
