//! Columns that do not come from candles: each value with the time at which it became known.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ColumnName;

/// Most values of one column; protects memory against a wrong file or a hostile server.
pub const MAX_OBSERVATIONS: usize = 2_000_000;
/// Greatest magnitude of a value: squares and sums of such values stay finite.
pub const MAX_MAGNITUDE: f64 = 1e30;

/// One value of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// The time that the value is about, ms since the epoch.
    pub at_ms: i64,
    /// The first time at which anybody could have known it, ms since the epoch; not before `at_ms`.
    pub known_ms: i64,
    /// The value, finite.
    pub value: f64,
}

/// Why values are no column.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ColumnError {
    /// A value is NaN, infinite or absurd.
    #[error("value at {at_ms} ms is {value}, must be a number of at most 1e30 in magnitude")]
    Value {
        /// Its own time.
        at_ms: i64,
        /// The value.
        value: f64,
    },
    /// A value was known before its own time.
    #[error("value at {at_ms} ms became known at {known_ms} ms, before its own time")]
    Early {
        /// Its own time.
        at_ms: i64,
        /// The time at which it became known.
        known_ms: i64,
    },
    /// There are too many values.
    #[error(
        "column has {0} values, must have at most 2000000; keep fewer or use a longer interval"
    )]
    TooMany(usize),
}

/// What was known of one column at each moment.
///
/// At a moment the newest value by its own time counts among those that were known; of several
/// versions of one value, the one that was known last. So a late correction changes what comes after
/// it and nothing before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Column {
    /// Rising by `known_ms`, each newer by its own time than the one before or a version of it.
    steps: Vec<Observation>,
    max_age_ms: i64,
}

/// The extra columns of one moment, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Columns(BTreeMap<ColumnName, Arc<Column>>);

impl Column {
    /// Creates a column; the order of `observations` does not matter, except that of two versions of
    /// one value that became known at the same time the later in the list holds.
    ///
    /// `max_age_ms`: a value whose own time is longer ago than this is not used any more.
    ///
    /// # Errors
    /// [`ColumnError`] for the first bad value.
    pub fn new(mut observations: Vec<Observation>, max_age_ms: i64) -> Result<Self, ColumnError> {
        if observations.len() > MAX_OBSERVATIONS {
            return Err(ColumnError::TooMany(observations.len()));
        }
        for Observation { at_ms, known_ms, value } in observations.iter().copied() {
            if !value.is_finite() || value.abs() > MAX_MAGNITUDE {
                return Err(ColumnError::Value { at_ms, value });
            }
            if known_ms < at_ms {
                return Err(ColumnError::Early { at_ms, known_ms });
            }
        }
        observations.sort_by_key(|step| (step.known_ms, step.at_ms));
        let mut newest_ms = i64::MIN;
        observations.retain(|step| {
            let is_newer = step.at_ms >= newest_ms;
            newest_ms = newest_ms.max(step.at_ms);
            is_newer
        });
        Ok(Self { steps: observations, max_age_ms })
    }

    /// Returns the value that was the newest known one at `now_ms`; `None` before the first and when
    /// it is too old.
    pub fn value_at(&self, now_ms: i64) -> Option<f64> {
        let known = self.steps.partition_point(|step| step.known_ms <= now_ms);
        let step = self.steps.get(known.checked_sub(1)?)?;
        (now_ms.saturating_sub(step.at_ms) <= self.max_age_ms).then_some(step.value)
    }

    /// Returns the newest value by its own time.
    pub fn newest(&self) -> Option<Observation> {
        self.steps.last().copied()
    }

    /// Returns the number of values that can be seen at some moment.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Tells whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl Columns {
    /// Adds or replaces a column.
    pub fn insert(&mut self, name: ColumnName, column: Arc<Column>) {
        self.0.insert(name, column);
    }

    /// Returns a column.
    pub fn get(&self, name: &ColumnName) -> Option<&Column> {
        self.0.get(name).map(|column| &**column)
    }

    /// Returns the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &ColumnName> {
        self.0.keys()
    }
}

impl FromIterator<(ColumnName, Column)> for Columns {
    fn from_iter<T: IntoIterator<Item = (ColumnName, Column)>>(columns: T) -> Self {
        Self(columns.into_iter().map(|(name, column)| (name, Arc::new(column))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at_ms: i64, known_ms: i64, value: f64) -> Observation {
        Observation { at_ms, known_ms, value }
    }

    fn column(observations: &[Observation]) -> Column {
        Column::new(observations.to_vec(), 1_000).unwrap()
    }

    #[test]
    fn a_value_counts_from_the_time_at_which_it_was_known() {
        let column = column(&[seen(20, 35, 2.0), seen(10, 15, 1.0)]);
        let at = |now_ms| column.value_at(now_ms);
        assert_eq!([at(14), at(15), at(34), at(35)], [None, Some(1.0), Some(1.0), Some(2.0)]);
        assert_eq!(column.newest(), Some(seen(20, 35, 2.0)));
    }

    #[test]
    fn a_correction_changes_only_what_comes_after_it() {
        let first = seen(10, 15, 1.0);
        let column = column(&[first, seen(10, 40, 9.0), seen(20, 25, 2.0), seen(20, 30, 3.0)]);
        let at = |now_ms| column.value_at(now_ms);
        assert_eq!([at(15), at(25), at(30)], [Some(1.0), Some(2.0), Some(3.0)]);
        // The correction of an older value comes when a newer one is known: nothing changes.
        assert_eq!(at(40), Some(3.0));
        assert_eq!(column.len(), 3);
    }

    #[test]
    fn an_old_value_is_not_carried_on_for_ever() {
        let column = column(&[seen(10, 15, 1.0)]);
        assert_eq!((column.value_at(1_010), column.value_at(1_011)), (Some(1.0), None));
        assert_eq!(column.value_at(i64::MAX), None);
        assert_eq!(column.value_at(i64::MIN), None);
    }

    #[test]
    fn bad_values_never_get_in() {
        for value in [f64::NAN, f64::INFINITY, -f64::INFINITY, 1.1e30, -1.1e30] {
            let error = Column::new(vec![seen(1, 1, 0.0), seen(2, 2, value)], 1).unwrap_err();
            assert!(matches!(error, ColumnError::Value { at_ms: 2, .. }), "{error}");
        }
        let early = Column::new(vec![seen(5, 4, 0.0)], 1);
        assert_eq!(early, Err(ColumnError::Early { at_ms: 5, known_ms: 4 }));
        let many = vec![seen(0, 0, 0.0); MAX_OBSERVATIONS + 1];
        assert_eq!(Column::new(many, 1), Err(ColumnError::TooMany(MAX_OBSERVATIONS + 1)));
        assert!(Column::new(Vec::new(), 1).unwrap().is_empty());
    }
}
