//! What came true: closes that a score is computed from, and that do not change afterwards.

use forecastd_core::Candle;
use forecastd_core::realised::{Realised, realised_closes};
use forecastd_store::{Batch, CandleRecord};

use super::shelf::{Shelf, void};
use crate::error::{ActorError, StepContext};

impl Shelf {
    /// Returns what came true over the horizon that starts at `start_ms` where all of it was settled
    /// before, by this round or by others.
    pub(super) fn realised_before(&self, start_ms: i64) -> Result<Option<Realised>, ActorError> {
        let spec = &self.settings.spec;
        let candles = self.candles(start_ms, spec.end_ms(start_ms))?;
        let settled: Vec<&CandleRecord> =
            candles.values().filter(|record| record.is_settled).collect();
        if settled.len() != spec.horizon {
            return Ok(None);
        }
        let filled = settled.iter().filter(|record| !record.state.is_whole()).count();
        let closes = settled.iter().map(|record| record.candle.close).collect();
        Ok(Some(Realised::Settled { closes, filled }))
    }

    /// Returns what came true over the horizon that starts at `start_ms`, from bars up to `to_ms`.
    ///
    /// Without `may_fill` no further close is filled from the past. What is used is settled in one
    /// batch, filled closes as well: from then on no late bar changes it, and a younger round or
    /// another start sees the same closes.
    pub(super) async fn realise(
        &self,
        start_ms: i64,
        to_ms: i64,
        max_missing: usize,
        may_fill: bool,
    ) -> Result<Realised, ActorError> {
        let _held = self.lock.lock().await;
        let spec = &self.settings.spec;
        let from_ms = start_ms - self.step_ms();
        let end_ms = spec.end_ms(start_ms);
        let mut used = self.candles(from_ms, end_ms)?;
        used.retain(|_, record| record.is_settled);
        let is_filled = |(at_ms, record): &(&i64, &CandleRecord)| {
            **at_ms >= start_ms && !record.state.is_whole()
        };
        let filled_before = used.iter().filter(is_filled).count();
        let mut found: Vec<Candle> = used.values().map(|record| record.candle).collect();
        for (at_ms, bars) in self.read(from_ms, to_ms)? {
            if used.contains_key(&at_ms) {
                continue;
            }
            let merged = self.merge(at_ms, &bars)?;
            let Some(bar) = merged.bar.filter(|bar| bar.state.is_whole()) else { continue };
            found.push(bar.candle);
            if at_ms < end_ms {
                used.insert(at_ms, self.record(&merged, bar));
            }
        }
        let Some(may_miss) = max_missing.checked_sub(filled_before) else {
            return Ok(Realised::Missing { count: filled_before });
        };
        let may_miss = if may_fill { may_miss } else { 0 };
        let realised = realised_closes(spec, &found, start_ms, may_miss);
        let (closes, filled) = match realised {
            Realised::Settled { closes, filled } => (closes, filled),
            Realised::Missing { count } => {
                return Ok(Realised::Missing { count: count + filled_before });
            }
            Realised::NotYet => return Ok(Realised::NotYet),
        };
        let mut batch = Batch::new();
        let mut past = used.get(&from_ms).map(|record| record.candle);
        for at_ms in self.grid(from_ms, end_ms) {
            let known = used.remove(&at_ms).or_else(|| Some(void(&past?.flat_after(at_ms))));
            // Only the candle before the horizon may be missing: it was not needed then.
            let Some(record) = known else { continue };
            past = Some(record.candle);
            let key = (self.stream().clone(), at_ms);
            let record = CandleRecord { is_settled: true, ..record };
            batch = batch.put(&key, &record).step("encoding a candle")?;
        }
        self.node.store.write(batch).await.step("storing what a score is computed from")?;
        Ok(Realised::Settled { closes, filled: filled + filled_before })
    }
}
