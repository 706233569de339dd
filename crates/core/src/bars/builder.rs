//! Bars from trades, in the order in which they arrive.
//!
//! ```text
//!  trade ──► bounded? ─► id new? ─► its bar open? ─► applied ─► a later trade or the clock
//!              │           │           │                        closes the bar ──► BarEvent
//!              ▼           ▼           ▼
//!           refused    duplicate      late                      (counted, nothing changes)
//! ```
//!
//! A bar closes as soon as a trade arrives that is `reorder_ms` younger than its end, or when the
//! clock is `grace_ms` past it. Trades that arrive out of order by less than that, or twice, change
//! nothing: a trade counts at its place by (time, id), and the volume is summed exactly.
//!
//! The link is an input. A quiet market is complete; an interval that was touched while the link
//! was down is partial until everything of it has been fetched. Before the first
//! [`BarBuilder::connected`] the link counts as down.
//!
//! Limits: [`MAX_OPEN_BARS`] open bars, 256 gaps between consecutive ids or the stated number of
//! ids without order, [`MAX_EMPTY_RUN`] empty bars in a row. Nothing is allocated after `new`. The
//! clock that is passed in is compared with the exchange's times: it should agree within the grace.

use std::collections::VecDeque;

use super::open_bar::OpenBar;
use super::seen::{ConsecutiveIds, IdGap, Seen, SeenIds, UniqueIds};
use super::{
    BarCounters, BarEvent, BarRuleError, BarRules, IdRule, MAX_EMPTY_RUN, MAX_OPEN_BARS,
    MAX_TIME_MS, NumberedTrade, TradeOutcome,
};
use crate::candle::Candle;

/// Builds the bars of one market at one exchange.
#[derive(Debug)]
pub struct BarBuilder {
    rules: BarRules,
    /// Length of a bar, for the one comparison of the fast path.
    span_ms: u64,
    /// The youngest open bar.
    current: OpenBar,
    /// A trade of this time or later has something to close or to age.
    wake_ms: i64,
    ids: SeenIds,
    newest_ms: i64,
    /// Open bars before the youngest one, oldest first.
    waiting: VecDeque<OpenBar>,
    has_begun: bool,
    /// The next first bar has no known beginning at all.
    begins_unheard: bool,
    /// No bar before this time is made: it was skipped.
    resume_ms: i64,
    previous: Option<Candle>,
    clock_ms: Option<i64>,
    /// Since when the link is down.
    down_since_ms: Option<i64>,
    has_been_up: bool,
    /// When the link came up last.
    up_since_ms: i64,
    counters: BarCounters,
}

impl BarBuilder {
    /// Creates a builder without trades whose link is down.
    ///
    /// # Errors
    /// [`BarRuleError`] when a rule is out of its bounds.
    pub fn new(rules: BarRules) -> Result<Self, BarRuleError> {
        rules.validate()?;
        let ids = match rules.ids {
            IdRule::Consecutive => SeenIds::Consecutive(ConsecutiveIds::new()),
            IdRule::Unique { remembered } => SeenIds::Unique(UniqueIds::new(remembered)),
        };
        Ok(Self {
            rules,
            span_ms: rules.interval.as_ms().unsigned_abs(),
            current: OpenBar::empty(i64::MIN),
            wake_ms: i64::MIN,
            ids,
            newest_ms: i64::MIN,
            waiting: VecDeque::with_capacity(MAX_OPEN_BARS),
            has_begun: false,
            begins_unheard: false,
            resume_ms: i64::MIN,
            previous: None,
            clock_ms: None,
            down_since_ms: Some(i64::MIN),
            has_been_up: false,
            up_since_ms: i64::MIN,
            counters: BarCounters::default(),
        })
    }

    /// Returns what was counted.
    pub const fn counters(&self) -> BarCounters {
        self.counters
    }

    /// Returns the number of open bars, at most [`MAX_OPEN_BARS`].
    pub fn open_bars(&self) -> usize {
        self.waiting.len() + usize::from(self.has_begun)
    }

    /// Takes a trade; `sink` gets what follows from it.
    #[inline]
    pub fn trade(
        &mut self,
        trade: &NumberedTrade,
        sink: &mut impl FnMut(BarEvent),
    ) -> TradeOutcome {
        let into_bar_ms = trade.time_ms.wrapping_sub(self.current.open_time_ms).cast_unsigned();
        if into_bar_ms < self.span_ms
            && trade.time_ms < self.wake_ms
            && trade.is_bounded()
            && self.ids.take_next(trade)
        {
            self.newest_ms = self.newest_ms.max(trade.time_ms);
            self.current.apply(trade);
            self.counters.applied += 1;
            return TradeOutcome::Applied;
        }
        self.place(trade, sink)
    }

    /// The link is up from `at_ms` on.
    pub fn connected(&mut self, at_ms: i64, sink: &mut impl FnMut(BarEvent)) {
        let at_ms = at_ms.clamp(0, MAX_TIME_MS);
        self.tick(at_ms, sink);
        let Some(from_ms) = self.down_since_ms else { return };
        self.cover(at_ms, sink);
        // The interval in which the link came up is not whole, even at its first millisecond: what
        // the exchange sent before the subscription was heard is unknown.
        self.miss(from_ms, at_ms + 1);
        self.down_since_ms = None;
        self.up_since_ms = at_ms;
        if std::mem::replace(&mut self.has_been_up, true) {
            self.counters.outages += 1;
            sink(BarEvent::Outage { from_ms, to_ms: at_ms });
        }
    }

    /// The link is down, and nothing was heard from `at_ms` on; that may lie in the past.
    ///
    /// Each open bar loses its certainty, also one that ended before `at_ms`: its last trades may
    /// have been on their way.
    pub fn disconnected(&mut self, at_ms: i64, sink: &mut impl FnMut(BarEvent)) {
        let at_ms = at_ms.clamp(0, MAX_TIME_MS);
        self.tick(at_ms, sink);
        if self.down_since_ms.is_some() {
            return;
        }
        self.cover(at_ms, sink);
        self.doubt(at_ms, i64::MAX, sink);
        self.down_since_ms = Some(at_ms);
        let interval_ms = self.rules.interval.as_ms();
        for bar in self.waiting.iter_mut().chain([&mut self.current]) {
            let end_ms = bar.open_time_ms.saturating_add(interval_ms);
            bar.miss(at_ms.min(end_ms - 1), at_ms + 1, end_ms);
        }
    }

    /// The clock shows `now_ms`. A clock that went back changes nothing.
    ///
    /// Wanted once a second or so: it closes the bars of a quiet market, and trades more than
    /// `ahead_ms` in front of the last tick or link event are refused.
    pub fn tick(&mut self, now_ms: i64, sink: &mut impl FnMut(BarEvent)) {
        let now_ms = now_ms.clamp(0, MAX_TIME_MS);
        self.clock_ms = Some(self.clock_ms.map_or(now_ms, |before| before.max(now_ms)));
        if self.has_begun {
            self.settle(sink);
            self.plan();
        }
    }

    /// Every trade of `from_ms..to_ms` has been fetched from the exchange and given to
    /// [`Self::trade`]: open bars miss nothing of it any more. Ids that are still missing in it do
    /// not exist.
    pub fn fetched(&mut self, from_ms: i64, to_ms: i64) {
        let interval_ms = self.rules.interval.as_ms();
        let is_inside = |gap: &IdGap| from_ms <= gap.after_ms && gap.before_ms < to_ms;
        for bar in self.waiting.iter_mut().chain([&mut self.current]) {
            let end_ms = bar.open_time_ms.saturating_add(interval_ms);
            bar.fetched(from_ms, to_ms, end_ms);
            bar.is_filled |= self
                .ids
                .gaps()
                .iter()
                .any(|gap| is_inside(gap) && gap.touches(bar.open_time_ms, end_ms));
        }
        if let Some(gaps) = self.ids.gaps_mut() {
            gaps.retain(|gap| !is_inside(gap));
        }
    }

    /// Takes a trade that is not simply the next one of the youngest bar.
    #[inline(never)]
    fn place(&mut self, trade: &NumberedTrade, sink: &mut impl FnMut(BarEvent)) -> TradeOutcome {
        let latest_ms = self.clock_ms.map_or(i64::MAX, |now_ms| now_ms + self.rules.ahead_ms);
        if !trade.is_bounded() || trade.time_ms > latest_ms {
            self.counters.refused += 1;
            return TradeOutcome::Refused;
        }
        match self.ids.observe(trade, self.newest_ms.saturating_add(self.rules.reorder_ms)) {
            Seen::New => {}
            Seen::Before => {
                self.counters.duplicates += 1;
                return TradeOutcome::Duplicate;
            }
            Seen::Restarted => {
                self.counters.id_restarts += 1;
                self.cover(trade.time_ms, sink);
                self.lose(self.newest_ms, trade.time_ms);
                self.doubt(self.newest_ms, trade.time_ms, sink);
            }
        }
        if let Some(gap) = self.ids.take_forgotten() {
            self.lose(gap.after_ms, gap.before_ms);
            if !gap.is_lost {
                self.counters.lost = self.counters.lost.saturating_add(gap.count());
                self.doubt(gap.after_ms, gap.before_ms, sink);
            }
        }
        self.newest_ms = self.newest_ms.max(trade.time_ms);
        if self.has_begun {
            self.settle(sink);
        }
        let open_ms = self.rules.interval.floor(trade.time_ms);
        if !self.has_begun && open_ms >= self.resume_ms {
            self.begin(trade.time_ms, sink);
        }
        if self.has_begun {
            self.extend_to(open_ms, sink);
        }
        let is_applied = self.bar_at(open_ms).map(|bar| bar.apply(trade)).is_some();
        self.plan();
        if is_applied {
            self.counters.applied += 1;
            return TradeOutcome::Applied;
        }
        self.counters.late += 1;
        self.doubt(trade.time_ms, trade.time_ms, sink);
        TradeOutcome::Late
    }

    /// Opens the first bars: those that trades reordered before this one may still belong to.
    fn begin(&mut self, time_ms: i64, sink: &mut impl FnMut(BarEvent)) {
        let open_ms = self.rules.interval.floor(time_ms);
        let first_ms = self.rules.interval.floor(time_ms - self.rules.reorder_ms);
        self.has_begun = true;
        self.current = OpenBar::empty(first_ms.max(self.resume_ms));
        self.extend_to(open_ms, sink);
        let begins_unheard = std::mem::replace(&mut self.begins_unheard, false);
        let heard_ms = if begins_unheard { i64::MAX } else { self.up_since_ms.saturating_add(1) };
        self.miss(i64::MIN, heard_ms);
    }

    /// Makes the bar of `open_ms` and all before it open.
    fn extend_to(&mut self, open_ms: i64, sink: &mut impl FnMut(BarEvent)) {
        while self.current.open_time_ms < open_ms {
            // One place is the current bar's.
            if self.waiting.len() + 1 >= MAX_OPEN_BARS {
                self.close_oldest(sink);
            }
            self.waiting.push_back(self.current);
            self.current = OpenBar::empty(self.current.open_time_ms + self.rules.interval.as_ms());
        }
    }

    /// Makes the bar in which `at_ms` lies open, so that it can be marked.
    fn cover(&mut self, at_ms: i64, sink: &mut impl FnMut(BarEvent)) {
        if self.has_begun {
            self.extend_to(self.rules.interval.floor(at_ms), sink);
            self.plan();
        }
    }

    fn bar_at(&mut self, open_ms: i64) -> Option<&mut OpenBar> {
        if self.current.open_time_ms == open_ms {
            return Some(&mut self.current);
        }
        let from_oldest_ms = open_ms - self.waiting.front()?.open_time_ms;
        let index = usize::try_from(from_oldest_ms / self.rules.interval.as_ms()).ok()?;
        if from_oldest_ms < 0 { None } else { self.waiting.get_mut(index) }
    }

    /// Returns the open time of the oldest open bar.
    fn oldest_open_ms(&self) -> Option<i64> {
        let oldest = self.waiting.front().unwrap_or(&self.current);
        self.has_begun.then_some(oldest.open_time_ms)
    }

    /// Returns the time up to which everything should have arrived.
    fn settled_ms(&self) -> i64 {
        let by_trade_ms = self.newest_ms.saturating_sub(self.rules.reorder_ms);
        let by_clock_ms =
            self.clock_ms.map_or(i64::MIN, |now| now.saturating_sub(self.rules.grace_ms));
        by_trade_ms.max(by_clock_ms)
    }

    /// Ages gaps and closes bars, as far as everything should have arrived.
    fn settle(&mut self, sink: &mut impl FnMut(BarEvent)) {
        let settled_ms = self.settled_ms();
        self.age_gaps(settled_ms, sink);
        let interval = self.rules.interval;
        let is_long = (settled_ms.saturating_sub(self.current.open_time_ms)) / interval.as_ms()
            > MAX_EMPTY_RUN;
        if is_long {
            while !self.waiting.is_empty() {
                self.close_oldest(sink);
            }
            self.close_oldest(sink);
            let from_ms = self.current.open_time_ms;
            self.resume_ms = interval.floor(settled_ms);
            sink(BarEvent::Skipped { from_ms, to_ms: self.resume_ms });
            self.current = OpenBar::empty(i64::MIN);
            self.has_begun = false;
            self.begins_unheard = true;
            self.previous = None;
            return;
        }
        while self.oldest_open_ms().is_some_and(|open_ms| open_ms + interval.as_ms() <= settled_ms)
        {
            self.close_oldest(sink);
        }
    }

    fn age_gaps(&mut self, settled_ms: i64, sink: &mut impl FnMut(BarEvent)) {
        for index in 0..self.ids.gaps().len() {
            let gap = self.ids.gaps()[index];
            if gap.is_lost || gap.before_ms > settled_ms {
                continue;
            }
            if let Some(gaps) = self.ids.gaps_mut() {
                gaps[index].is_lost = true;
            }
            self.counters.lost = self.counters.lost.saturating_add(gap.count());
            self.doubt(gap.after_ms, gap.before_ms, sink);
        }
    }

    /// Tells that closed bars may lack something of `from_ms..=to_ms`.
    fn doubt(&self, from_ms: i64, to_ms: i64, sink: &mut impl FnMut(BarEvent)) {
        let Some(oldest_ms) = self.oldest_open_ms() else { return };
        let to_ms = to_ms.max(from_ms);
        let from_ms = self.rules.interval.floor(from_ms);
        let to_ms = if to_ms < oldest_ms { self.rules.interval.next(to_ms) } else { oldest_ms };
        // Nothing was closed before the first bar.
        if self.previous.is_some() && from_ms < to_ms {
            sink(BarEvent::Doubted { from_ms, to_ms });
        }
    }

    /// Marks every open bar that touches `from_ms..=to_ms` as one that lacks trades.
    fn lose(&mut self, from_ms: i64, to_ms: i64) {
        let interval_ms = self.rules.interval.as_ms();
        for bar in self.waiting.iter_mut().chain([&mut self.current]) {
            let end_ms = bar.open_time_ms.saturating_add(interval_ms);
            bar.has_lost |= bar.open_time_ms <= to_ms && end_ms > from_ms;
        }
    }

    /// Marks that `from_ms..to_ms` was not heard.
    fn miss(&mut self, from_ms: i64, to_ms: i64) {
        let interval_ms = self.rules.interval.as_ms();
        for bar in self.waiting.iter_mut().chain([&mut self.current]) {
            bar.miss(from_ms, to_ms, bar.open_time_ms.saturating_add(interval_ms));
        }
    }

    fn close_oldest(&mut self, sink: &mut impl FnMut(BarEvent)) {
        let interval = self.rules.interval;
        let mut bar = self.waiting.pop_front().unwrap_or_else(|| {
            let next_ms = self.current.open_time_ms + interval.as_ms();
            std::mem::replace(&mut self.current, OpenBar::empty(next_ms))
        });
        let (open_ms, end_ms) = (bar.open_time_ms, bar.open_time_ms + interval.as_ms());
        if let Some(down_ms) = self.down_since_ms {
            bar.miss(down_ms, end_ms, end_ms);
        }
        // A gap that may still be filled by reordered trades casts its doubt when it is too old.
        let has_gap = self.ids.gaps().iter().any(|gap| gap.is_lost && gap.touches(open_ms, end_ms));
        if let Some(closed) = bar.close(interval, has_gap, self.previous.as_ref()) {
            self.previous = Some(closed.candle);
            sink(BarEvent::Closed(closed));
        }
    }

    /// Notes when the next trade has to close or to age something.
    fn plan(&mut self) {
        let Some(oldest_ms) = self.oldest_open_ms() else {
            self.wake_ms = i64::MIN;
            return;
        };
        let end_ms = oldest_ms + self.rules.interval.as_ms();
        let young = self.ids.gaps().iter().filter(|gap| !gap.is_lost).map(|gap| gap.before_ms);
        let settled_ms = young.min().map_or(end_ms, |gap_ms| gap_ms.min(end_ms));
        self.wake_ms = settled_ms.saturating_add(self.rules.reorder_ms);
    }
}

#[cfg(test)]
mod tests;
