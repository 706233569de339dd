//! The reference's cache of feature samples.
//!
//! Its faults are kept: a start between two grid points gets the values of the one before, a call for
//! fewer samples than are cached fails, and assembled results change their precision. The better
//! one: [`crate::features::build_window`] over stored candles needs no such cache.

use indexmap::IndexMap;

use crate::features::FeatureId;
use crate::seed::SeedError;

/// Samples of several features.
pub type Samples = IndexMap<FeatureId, Vec<f64>>;

#[derive(Debug, Clone)]
struct Cached {
    samples: Samples,
    start_ms: i64,
    interval_ms: i64,
    count: i64,
}

impl Cached {
    const fn end_ms(&self) -> i64 {
        self.start_ms + self.interval_ms * self.count
    }
}

/// What one call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// The samples.
    pub samples: Samples,
    /// Whether they were assembled with the cache, which makes them double precision.
    pub is_assembled: bool,
}

/// A collector of one source with an optional cache.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    uses_cache: bool,
    cache: Option<Cached>,
}

impl Collector {
    /// Creates a collector.
    pub const fn new(uses_cache: bool) -> Self {
        Self { uses_cache, cache: None }
    }

    /// Returns `count` samples from `start_ms` on; `ask` gets start, interval and count of what the
    /// cache lacks.
    ///
    /// # Errors
    /// What `ask` returns, or [`SeedError::Runtime`] when it returns another count.
    ///
    /// Golden data: `features/collector.json`, exact.
    pub fn collect(
        &mut self,
        start_ms: i64,
        interval_ms: i64,
        count: i64,
        ask: &mut dyn FnMut(i64, i64, i64) -> Result<Samples, SeedError>,
    ) -> Result<Collected, SeedError> {
        if interval_ms == 0 {
            return Err(SeedError::ZeroDivision);
        }
        let hit = self.cache.as_ref().filter(|cached| {
            cached.interval_ms == interval_ms
                && (cached.start_ms..cached.end_ms()).contains(&start_ms)
        });
        let Some(cached) = hit else {
            let samples = checked(ask(start_ms, interval_ms, count)?, count)?;
            self.remember(&samples, start_ms, interval_ms, count);
            return Ok(Collected { samples, is_assembled: false });
        };
        let skipped = (start_ms - cached.start_ms) / interval_ms;
        let kept = cached.count - skipped;
        let from = usize::try_from(skipped).map_err(|_| SeedError::Index)?;
        let mut samples: Samples =
            cached.samples.iter().map(|(id, values)| (*id, values[from..].to_vec())).collect();
        if kept != count {
            let missing = count - kept;
            let fresh = checked(ask(cached.end_ms(), interval_ms, missing)?, missing)?;
            for (feature, values) in &mut samples {
                values.extend(fresh.get(feature).ok_or(SeedError::Runtime)?);
            }
            self.remember(&samples, start_ms, interval_ms, count);
        }
        Ok(Collected { samples, is_assembled: true })
    }

    fn remember(&mut self, samples: &Samples, start_ms: i64, interval_ms: i64, count: i64) {
        if self.uses_cache {
            self.cache = Some(Cached { samples: samples.clone(), start_ms, interval_ms, count });
        }
    }
}

fn checked(samples: Samples, count: i64) -> Result<Samples, SeedError> {
    let is_count = |values: &Vec<f64>| i64::try_from(values.len()) == Ok(count);
    if samples.values().all(is_count) { Ok(samples) } else { Err(SeedError::Runtime) }
}
