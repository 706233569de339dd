//! The bars of one stream on disk: those of each feed, and the candles merged from them.
//!
//! A feed's bar is stored as it came; what is merged from the bars may be merged anew when a late
//! one arrives, until a score was computed from it: then the candle, or the close that stood for a
//! missing one, is settled. Bars and candles are written under the stream's lock, so an older merge
//! never replaces a newer one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use forecastd_core::bars::{Bar, BarState, LeftOut, Merged, SourceId, merge_step};
use forecastd_core::{Candle, StreamId};
use forecastd_exchange::{CandleSource, ExchangeError};
use forecastd_store::{BarRecord, Batch, CandleRecord};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::error::{ActorError, StepContext, with_causes};
use crate::node::Node;
use crate::settings::{FeedSettings, StreamSettings};

/// Rows written in one batch.
const WRITE_CHUNK: usize = 500;
/// An interval that an exchange does not have this long after its end does not exist there.
const ABSENT_AFTER: Duration = Duration::from_mins(15);
/// Intervals of one feed that are remembered as not existing.
const MAX_ABSENT: usize = 20_000;
/// Without a quorum a candle waits so many times longer.
const BELOW_QUORUM_WAITS: u32 = 5;
/// Least wait for late exchanges, real time: however fast the market's clock runs, answers take
/// their time.
const LEAST_WAIT: Duration = Duration::from_millis(50);
/// Longest wait for one exchange, its turn included, real time; below the evaluator's patience.
const ASK_LIMIT: Duration = Duration::from_secs(20);
/// Wait for the last exchanges once a quorum answered, real time.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// Whether all exchanges are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// All of them: for a score.
    All,
    /// A quorum: for a forecast, which must not be late.
    Quorum,
}

/// Intervals that an exchange was asked for and does not have, by feed.
pub(super) type Absent = BTreeMap<String, BTreeSet<i64>>;

/// One stream's bars and candles.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    pub(super) node: Node,
    pub(super) settings: StreamSettings,
    /// The stream's lock.
    pub(super) lock: Arc<Mutex<()>>,
}

/// A merged candle as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    pub(super) candle: Candle,
    pub(super) state: BarState,
    /// Feeds that were left out of it although they have it.
    pub(super) left_out: Vec<LeftOut>,
}

/// What became of some intervals.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// Merged and stored, oldest first.
    pub(super) joined: Vec<Joined>,
    /// Waiting for late exchanges, with the market time at which they are merged without them.
    pub(super) waiting: Vec<(i64, i64)>,
}

/// What the exchanges gave for the missing bars.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Intervals that were asked for and do not exist.
    pub(super) absent: Absent,
    /// The feeds that did not answer.
    pub(super) failed: Vec<(String, Failure)>,
    /// How many did, or had nothing to be asked for.
    pub(super) answered: usize,
}

/// Why an exchange did not answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// Whether nothing is known about its candles; not so where it does not have the market at all.
    pub(super) is_silent: bool,
    /// How long it asked us to stay away.
    pub(super) wait: Duration,
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        let is_silent =
            !matches!(error, ExchangeError::UnknownSymbol { .. } | ExchangeError::Config { .. });
        let wait = error.retry_after().unwrap_or_default();
        Self { reason: with_causes(&error), is_silent, wait }
    }
}

impl Shelf {
    pub(super) fn stream(&self) -> &StreamId {
        &self.settings.spec.id
    }

    pub(super) fn step_ms(&self) -> i64 {
        self.settings.spec.interval.as_ms()
    }

    /// Stores bars of a feed that are better than what is there, and returns the open times of all:
    /// of one that is known its merge may have failed.
    ///
    /// A wrong bar is left out: its feed waits for an answer, and refusing would stop all after it.
    pub(super) async fn put(&self, feed: &str, bars: &[Bar]) -> Result<Vec<i64>, ActorError> {
        let _held = self.lock.lock().await;
        let (mut new, mut open_times) = (Vec::new(), Vec::with_capacity(bars.len()));
        for bar in bars {
            if let Err(error) = bar.candle.validate(self.settings.spec.interval) {
                warn!(actor = "candles", feed, %error, "wrong candle left out");
                continue;
            }
            open_times.push(bar.candle.open_time_ms);
            let key = (self.stream().clone(), bar.candle.open_time_ms, feed.to_owned());
            let there = self.node.store.get::<BarRecord>(&key).step("looking a bar up")?;
            if there.is_none_or(|there| is_better(&there.bar, bar)) {
                new.push(*bar);
            }
        }
        for chunk in new.chunks(WRITE_CHUNK) {
            let mut batch = Batch::new();
            for bar in chunk {
                let key = (self.stream().clone(), bar.candle.open_time_ms, feed.to_owned());
                batch = batch.put(&key, &BarRecord { bar: *bar }).step("encoding a bar")?;
            }
            self.node.store.write(batch).await.step("storing bars")?;
        }
        Ok(open_times)
    }

    /// Returns the bars of `[from_ms, to_ms)` by interval, each with the feed's place in the
    /// settings. Bars of feeds that are not configured any more are passed over.
    pub(super) fn read(
        &self,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<BTreeMap<i64, Vec<(usize, Bar)>>, ActorError> {
        let mut steps: BTreeMap<i64, Vec<(usize, Bar)>> = BTreeMap::new();
        let least = |at_ms| (self.stream().clone(), at_ms, "\u{1}".to_owned());
        for row in self.node.store.scan::<BarRecord>(least(from_ms)..least(to_ms)) {
            let ((_, at_ms, name), record) = row.step("reading bars")?;
            let place = self.settings.feeds.iter().position(|feed| feed.name == name);
            if let Some(place) = place {
                steps.entry(at_ms).or_default().push((place, record.bar));
            }
        }
        Ok(steps)
    }

    /// Returns the stored candles of `[from_ms, to_ms)`.
    pub(super) fn candles(
        &self,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<BTreeMap<i64, CandleRecord>, ActorError> {
        let range = (self.stream().clone(), from_ms)..(self.stream().clone(), to_ms);
        let rows = self.node.store.scan::<CandleRecord>(range);
        rows.map(|row| row.map(|((_, at_ms), record)| (at_ms, record)).step("reading candles"))
            .collect()
    }

    /// Returns the open times of `[from_ms, to_ms)` whose candles do not change any more.
    fn settled(&self, from_ms: i64, to_ms: i64) -> Result<BTreeSet<i64>, ActorError> {
        let candles = self.candles(from_ms, to_ms)?.into_iter();
        Ok(candles.filter(|(_, record)| record.is_settled).map(|(at_ms, _)| at_ms).collect())
    }

    /// Asks each exchange for the bars of `[from_ms, to_ms)` that are missing or not whole, stores
    /// them, and tells what could not be had. `absent` is not asked for again.
    ///
    /// With [`Patience::Quorum`] the last exchanges get a moment only once a quorum answered: they
    /// may have to wait for their turn, and their bars can come later.
    pub(super) async fn fetch_missing(
        &self,
        from_ms: i64,
        to_ms: i64,
        absent: &Absent,
        patience: Patience,
    ) -> Result<Fetched, ActorError> {
        let steps = self.read(from_ms, to_ms)?;
        let settled = self.settled(from_ms, to_ms)?;
        let nothing = BTreeSet::new();
        let feeds = self.settings.feeds.iter().enumerate();
        let mut questions: FuturesUnordered<_> = feeds
            .filter_map(|(place, feed)| {
                let known = absent.get(&feed.name).unwrap_or(&nothing);
                let is_wanted = |at_ms: &i64| !settled.contains(at_ms) && !known.contains(at_ms);
                let range = self.wanted(place, &steps, (from_ms, to_ms), is_wanted)?;
                Some(self.ask(feed, range))
            })
            .collect();
        // A feed without a question has what it needs.
        let mut answered = self.settings.feeds.len() - questions.len();
        let mut fetched = Fetched { absent: Absent::new(), failed: Vec::new(), answered: 0 };
        let known_from_ms = self.node.market.now_ms() - millis(ABSENT_AFTER);
        loop {
            let has_quorum = answered >= self.settings.merge.quorum;
            let next = if has_quorum && patience == Patience::Quorum {
                timeout(LAST_ANSWERS, questions.next()).await.unwrap_or_default()
            } else {
                questions.next().await
            };
            let Some((feed, (from_ms, to_ms), answer)) = next else { break };
            match answer {
                Ok(candles) => {
                    answered += 1;
                    let bars: Vec<Bar> = candles.into_iter().map(Bar::backfilled).collect();
                    self.put(&feed.name, &bars).await?;
                    let have: BTreeSet<i64> =
                        bars.iter().map(|bar| bar.candle.open_time_ms).collect();
                    // Only a later candle in the same answer proves that one does not exist.
                    let proven_to_ms = have.last().copied().unwrap_or(i64::MIN).min(known_from_ms);
                    let lacking = self
                        .grid(from_ms, to_ms.min(proven_to_ms))
                        .filter(|at_ms| !have.contains(at_ms))
                        .take(MAX_ABSENT)
                        .collect();
                    fetched.absent.insert(feed.name.clone(), lacking);
                }
                Err(failure) => {
                    let reason = &failure.reason;
                    debug!(actor = "candles", feed = feed.name, reason, "bars not fetched");
                    fetched.failed.push((feed.name.clone(), failure));
                }
            }
        }
        fetched.answered = answered;
        Ok(fetched)
    }

    /// Makes a feed's bar partial and asks the exchange once more for it. Without an answer it stays
    /// partial: it is asked for again before a score is computed from it.
    pub(super) async fn doubt(&self, feed: &str, at_ms: i64) -> Result<(), ActorError> {
        let Some(settings) = self.settings.feed(feed) else { return Ok(()) };
        let key = (self.stream().clone(), at_ms, feed.to_owned());
        {
            let _held = self.lock.lock().await;
            let there = self.node.store.get::<BarRecord>(&key).step("looking a bar up")?;
            let is_settled = !self.settled(at_ms, at_ms + 1)?.is_empty();
            let Some(BarRecord { bar }) = there.filter(|_| !is_settled) else { return Ok(()) };
            let record = BarRecord { bar: Bar { state: BarState::Partial, ..bar } };
            let batch = Batch::new().put(&key, &record).step("encoding a bar")?;
            self.node.store.write(batch).await.step("storing a doubt")?;
        }
        match self.ask(settings, (at_ms, at_ms + self.step_ms())).await.2 {
            Ok(candles) => {
                let bars: Vec<Bar> = candles.into_iter().map(Bar::backfilled).collect();
                self.put(feed, &bars).await?;
            }
            Err(failure) => {
                let reason = failure.reason;
                warn!(actor = "candles", feed, reason, at_ms, "candle not confirmed");
            }
        }
        Ok(())
    }

    /// Returns the least range that holds all bars which the feed at `place` lacks.
    fn wanted(
        &self,
        place: usize,
        steps: &BTreeMap<i64, Vec<(usize, Bar)>>,
        (from_ms, to_ms): (i64, i64),
        is_wanted: impl Fn(&i64) -> bool,
    ) -> Option<(i64, i64)> {
        let is_whole = |at_ms: &i64| {
            let bars = steps.get(at_ms).map(Vec::as_slice).unwrap_or_default();
            bars.iter().any(|(of, bar)| *of == place && bar.state.is_whole())
        };
        let mut lacking =
            self.grid(from_ms, to_ms).filter(|at_ms| !is_whole(at_ms) && is_wanted(at_ms));
        let first_ms = lacking.next()?;
        let last_ms = lacking.last().unwrap_or(first_ms);
        Some((first_ms, last_ms + self.step_ms()))
    }

    async fn ask<'a>(
        &self,
        feed: &'a FeedSettings,
        (from_ms, to_ms): (i64, i64),
    ) -> (&'a FeedSettings, (i64, i64), Result<Vec<Candle>, Failure>) {
        let ask = async {
            let node = &self.node;
            let source: Arc<dyn CandleSource> =
                node.sources.get(self.stream(), feed, &node.market)?;
            let reach_ms = source
                .reach()
                .map_or(i64::MAX, |reach| i64::from(reach).saturating_mul(self.step_ms()));
            let newest_ms = self.settings.spec.interval.floor(node.market.now_ms());
            let from_ms = from_ms.max(newest_ms.saturating_sub(reach_ms));
            if from_ms >= to_ms {
                return Ok(Vec::new());
            }
            let interval = self.settings.spec.interval;
            source.candles(&feed.config.symbol, interval, from_ms, to_ms).await
        };
        let answer = match timeout(ASK_LIMIT, ask).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure {
                reason: format!("no answer within {ASK_LIMIT:?}"),
                is_silent: true,
                wait: Duration::ZERO,
            }),
        };
        (feed, (from_ms, to_ms), answer)
    }

    /// Merges those of the intervals that need not wait and stores what came out.
    ///
    /// An interval waits for the feeds that are connected and have not brought it, at most until
    /// its deadline. What is settled stays.
    pub(super) async fn decide(&self, open_times_ms: &[i64]) -> Result<Decided, ActorError> {
        let _held = self.lock.lock().await;
        let mut decided = Decided::default();
        let now_ms = self.node.market.now_ms();
        let connected = self.connected();
        let mut ready = Vec::new();
        for at_ms in open_times_ms.iter().copied() {
            let bars = self.read(at_ms, at_ms + 1)?.remove(&at_ms).unwrap_or_default();
            let whole = || bars.iter().filter(|(_, bar)| bar.state.is_whole());
            let is_there = |place: &usize| whole().any(|(of, _)| of == place);
            let has_quorum = whole().count() >= self.settings.merge.quorum;
            let due_ms = self.due_ms(at_ms, has_quorum);
            if now_ms >= due_ms || (has_quorum && connected.iter().all(is_there)) {
                ready.push((at_ms, bars));
            } else {
                decided.waiting.push((at_ms, due_ms));
            }
        }
        decided.joined = self.join(ready).await?;
        Ok(decided)
    }

    /// Merges all of `[from_ms, to_ms)` as far as bars are there, and stores what changed. The caller
    /// holds the stream's lock.
    pub(super) async fn join_range(
        &self,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Joined>, ActorError> {
        let steps = self.read(from_ms, to_ms)?;
        self.join(steps.into_iter().collect()).await
    }

    async fn join(&self, steps: Vec<(i64, Vec<(usize, Bar)>)>) -> Result<Vec<Joined>, ActorError> {
        let mut joined = Vec::with_capacity(steps.len());
        let mut records = Vec::with_capacity(steps.len());
        let ends = steps.iter().map(|(at_ms, _)| *at_ms);
        let (first_ms, last_ms) = (ends.clone().min().unwrap_or(0), ends.max().unwrap_or(0));
        let settled = self.settled(first_ms, last_ms + 1)?;
        for (at_ms, bars) in steps.iter().filter(|(at_ms, _)| !settled.contains(at_ms)) {
            let merged = self.merge(*at_ms, bars)?;
            let Some(bar) = merged.bar else { continue };
            records.push(self.record(&merged, bar));
            let left_out = merged.left_out;
            joined.push(Joined { candle: bar.candle, state: bar.state, left_out });
        }
        self.write_candles(&records).await?;
        Ok(joined)
    }

    pub(super) fn merge(&self, at_ms: i64, bars: &[(usize, Bar)]) -> Result<Merged, ActorError> {
        let feeds = self.settings.feeds.iter().enumerate();
        let parts: Vec<(SourceId, Option<Bar>)> = feeds
            .map(|(place, _)| {
                let bar = bars.iter().find(|(of, _)| *of == place).map(|(_, bar)| *bar);
                (source_id(place), bar)
            })
            .collect();
        merge_step(at_ms, &parts, self.settings.spec.interval, &self.settings.merge)
            .step("merging bars")
    }

    /// Returns the stored form of a merged bar.
    pub(super) fn record(&self, merged: &Merged, bar: Bar) -> CandleRecord {
        let is_used = |place: usize| {
            !merged.left_out.iter().any(|left_out| left_out.source == source_id(place))
        };
        let feeds = self.settings.feeds.iter().enumerate();
        let used: Vec<&str> = feeds
            .filter(|(place, _)| is_used(*place))
            .map(|(_, feed)| feed.name.as_str())
            .collect();
        CandleRecord {
            candle: bar.candle,
            state: bar.state,
            source: used.join(","),
            is_settled: false,
        }
    }

    /// Writes candles that differ from the stored ones; a settled one stays.
    async fn write_candles(&self, records: &[CandleRecord]) -> Result<(), ActorError> {
        for chunk in records.chunks(WRITE_CHUNK) {
            let mut batch = Batch::new();
            for record in chunk {
                let key = (self.stream().clone(), record.candle.open_time_ms);
                let there = self.node.store.get::<CandleRecord>(&key).step("reading a candle")?;
                if there.as_ref() != Some(record) && there.is_none_or(|there| !there.is_settled) {
                    batch = batch.put(&key, record).step("encoding a candle")?;
                }
            }
            if !batch.is_empty() {
                self.node.store.write(batch).await.step("storing candles")?;
            }
        }
        Ok(())
    }

    /// Stores flat candles for intervals that no exchange has, so that everybody sees what they are.
    pub(super) async fn put_void(&self, candles: &[Candle]) -> Result<(), ActorError> {
        let records: Vec<CandleRecord> = candles.iter().map(void).collect();
        self.write_candles(&records).await
    }

    /// Returns the market time at which an interval is merged with what is there.
    fn due_ms(&self, open_ms: i64, has_quorum: bool) -> i64 {
        let wait = self.settings.merge_wait;
        let second = Duration::from_secs(1);
        let real = self.node.market.real_duration_of(second).as_secs_f64().max(1e-9);
        let least = LEAST_WAIT.as_secs_f64() / real;
        let wait = wait.max(Duration::try_from_secs_f64(least).unwrap_or_default());
        let waits = if has_quorum { 1 } else { BELOW_QUORUM_WAITS };
        open_ms + self.step_ms() + millis(wait * waits)
    }

    /// Returns the places of the feeds whose subscription stands.
    fn connected(&self) -> Vec<usize> {
        let live = self.node.boards.live();
        let Some(status) = live.feeds.get(self.stream()) else { return Vec::new() };
        let feeds = self.settings.feeds.iter().enumerate();
        feeds
            .filter(|(_, feed)| status.get(&feed.name).is_some_and(|status| status.connected))
            .map(|(place, _)| place)
            .collect()
    }

    pub(super) fn grid(&self, from_ms: i64, to_ms: i64) -> impl Iterator<Item = i64> + use<> {
        let step_ms = self.step_ms();
        let first_ms = self.settings.spec.interval.ceil(from_ms);
        let count = to_ms.saturating_sub(first_ms).max(0).saturating_add(step_ms - 1) / step_ms;
        (0..count).map(move |index| first_ms + index * step_ms)
    }
}

/// Returns the record of a candle that stands for an interval which no exchange has.
pub(super) const fn void(candle: &Candle) -> CandleRecord {
    CandleRecord {
        candle: *candle,
        state: BarState::Void,
        source: String::new(),
        is_settled: false,
    }
}

/// A complete bar stays; of two that were fetched the later answer wins.
fn is_better(there: &Bar, new: &Bar) -> bool {
    let is_later_answer = new.state == BarState::Backfilled && there != new;
    there.state != BarState::Complete && (new.state < there.state || is_later_answer)
}

/// Returns the feed's number in a merge.
pub(super) fn source_id(place: usize) -> SourceId {
    SourceId(u16::try_from(place).unwrap_or(u16::MAX))
}

/// Adds what is known not to exist, within its bound; the oldest are forgotten.
pub(super) fn remember(absent: &mut Absent, more: Absent) {
    for (feed, open_times) in more {
        let known = absent.entry(feed).or_default();
        known.extend(open_times);
        while known.len() > MAX_ABSENT {
            known.pop_first();
        }
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}
