//! Where the channels of one connection stand, and what is due in them. Pure.
//!
//! Two kinds of candle channels exist. Where the exchange marks final candles, the running one is
//! told from time to time and the final one a little after its end. Where it does not, every
//! execution changes the running candle and nothing is said after its end: the last state of each
//! interval is always told before the next one begins.

use std::collections::BTreeMap;

use forecastd_core::Interval;

use super::fault::{ChannelFaults, take};
use super::market::{Execution, Market};
use super::venue::{Kind, News, Shown, Topic};

/// Speeds of the channels, market time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempo {
    pub(super) has_finals: bool,
    pub(super) final_delay_ms: i64,
    /// Time between two words about a running candle.
    pub(super) forming_step_ms: i64,
    /// Time between two looks at the executions.
    pub(super) trade_step_ms: i64,
}

impl Tempo {
    /// At least two words in an interval, so that each candle is seen running.
    fn forming_step(&self, interval: Interval) -> i64 {
        self.forming_step_ms.clamp(1, (interval.as_ms() / 2).max(1))
    }
}

/// Where a candle channel stands.
#[derive(Debug)]
struct CandleCursor {
    interval: Interval,
    /// Open time of the next candle whose end is to be told; it is also the one that is running.
    next_ms: i64,
    /// Market time of the next word about the running candle.
    forming_due_ms: i64,
    /// What was told of it: unchanged candles are not repeated.
    shown: Option<(f64, f64)>,
}

#[derive(Debug)]
enum Cursor {
    Candles(CandleCursor),
    /// Told up to this time, and an execution that waits for the next one.
    Trades {
        told_ms: i64,
        held: Option<Execution>,
    },
}

/// The cursors of one connection.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    all: BTreeMap<String, (Topic, Cursor)>,
    pub(super) faults: ChannelFaults,
}

impl Cursors {
    /// Gives new topics a cursor and forgets those that were unsubscribed.
    pub(super) fn arm(&mut self, topics: &[Topic], market: &Market, now_ms: i64) {
        self.all.retain(|_, (topic, _)| topics.contains(topic));
        for topic in topics {
            let cursor = match topic.kind {
                Kind::Candles(interval) if market.has_interval(interval) => {
                    Cursor::Candles(CandleCursor {
                        interval,
                        next_ms: interval.floor(now_ms),
                        forming_due_ms: now_ms,
                        shown: None,
                    })
                }
                Kind::Trades => Cursor::Trades { told_ms: now_ms, held: None },
                Kind::Candles(_) | Kind::Silent => continue,
            };
            self.all.entry(topic.name.clone()).or_insert_with(|| (topic.clone(), cursor));
        }
    }

    /// Takes everything that is due.
    pub(super) fn publish(
        &mut self,
        market: &Market,
        tempo: &Tempo,
        now_ms: i64,
    ) -> Vec<(Topic, News)> {
        let mut due = Vec::new();
        for (topic, cursor) in self.all.values_mut() {
            match cursor {
                Cursor::Candles(cursor) => {
                    let interval = cursor.interval;
                    let shown = if tempo.has_finals {
                        cursor.marked(&mut self.faults, market, tempo, now_ms)
                    } else {
                        cursor.unmarked(&mut self.faults, market, tempo, now_ms)
                    };
                    if !shown.is_empty() {
                        due.push((topic.clone(), News::Candles(interval, shown)));
                    }
                }
                Cursor::Trades { told_ms, held } => {
                    let executions = market.executions(*told_ms, now_ms);
                    *told_ms = now_ms;
                    let told = disturbed(executions, held, &mut self.faults);
                    if !told.is_empty() {
                        due.push((topic.clone(), News::Trades(told)));
                    }
                }
            }
        }
        due
    }

    /// The market time at which something may be due next.
    pub(super) fn next_due_ms(&self, tempo: &Tempo, now_ms: i64) -> Option<i64> {
        let late_by_ms = self.faults.late_by_ms();
        let due_ms = |(_, cursor): &(Topic, Cursor)| match cursor {
            Cursor::Candles(cursor) => {
                let close_ms = cursor.next_ms + cursor.interval.as_ms();
                // After the close nothing is running until the final candle is out.
                if cursor.forming_due_ms < close_ms && now_ms < close_ms {
                    cursor.forming_due_ms
                } else if tempo.has_finals {
                    close_ms + tempo.final_delay_ms + late_by_ms
                } else {
                    close_ms + late_by_ms
                }
            }
            Cursor::Trades { told_ms, .. } => told_ms + tempo.trade_step_ms,
        };
        self.all.values().map(due_ms).min()
    }
}

impl ChannelFaults {
    const fn late_by_ms(&self) -> i64 {
        if self.late > 0 { self.late_by_ms } else { 0 }
    }
}

impl CandleCursor {
    /// The final candles that are due, then the running one.
    fn marked(
        &mut self,
        faults: &mut ChannelFaults,
        market: &Market,
        tempo: &Tempo,
        now_ms: i64,
    ) -> Vec<Shown> {
        let mut told = Vec::new();
        loop {
            let close_ms = self.next_ms + self.interval.as_ms();
            if now_ms < close_ms + tempo.final_delay_ms + faults.late_by_ms() {
                break;
            }
            if let Some(bar) = market.bar(self.interval, self.next_ms, now_ms) {
                let shown = Shown { bar, is_final: true };
                take(&mut faults.late);
                let (is_lost, is_repeated) = (take(&mut faults.lost), take(&mut faults.repeated));
                let count = if is_lost { 0 } else { 1 + usize::from(is_repeated) };
                told.extend(std::iter::repeat_n(shown, count));
            }
            self.pass(close_ms);
        }
        let close_ms = self.next_ms + self.interval.as_ms();
        if now_ms < close_ms {
            told.extend(self.running(market, tempo, now_ms));
        }
        told
    }

    /// The last state of each interval that is over, then the running one.
    fn unmarked(
        &mut self,
        faults: &mut ChannelFaults,
        market: &Market,
        tempo: &Tempo,
        now_ms: i64,
    ) -> Vec<Shown> {
        let mut told = Vec::new();
        loop {
            let close_ms = self.next_ms + self.interval.as_ms();
            if now_ms < close_ms + faults.late_by_ms() {
                break;
            }
            let traded =
                market.bar(self.interval, self.next_ms, now_ms).filter(|bar| bar.ids.is_some());
            if let Some(bar) = traded {
                let is_known = self.shown == Some((bar.candle.close, bar.candle.volume));
                // A candle that was begun is also told to its end.
                let is_lost = self.shown.is_none() && take(&mut faults.lost);
                take(&mut faults.late);
                let is_repeated = !is_lost && take(&mut faults.repeated);
                let count = usize::from(!is_known && !is_lost) + usize::from(is_repeated);
                told.extend(std::iter::repeat_n(Shown { bar, is_final: false }, count));
            }
            self.pass(close_ms);
        }
        let last_ms = self.next_ms + self.interval.as_ms();
        let is_muted = self.shown.is_none() && faults.lost > 0;
        // The last state of a late candle is what is late.
        let is_held = faults.late > 0 && now_ms >= last_ms - tempo.trade_step_ms;
        if !is_muted && !is_held {
            told.extend(self.running(market, tempo, now_ms).filter(|one| one.bar.ids.is_some()));
        }
        told
    }

    fn pass(&mut self, close_ms: i64) {
        self.next_ms = close_ms;
        self.forming_due_ms = close_ms;
        self.shown = None;
    }

    fn running(&mut self, market: &Market, tempo: &Tempo, now_ms: i64) -> Option<Shown> {
        if now_ms < self.forming_due_ms {
            return None;
        }
        self.forming_due_ms = now_ms + tempo.forming_step(self.interval);
        let bar = market.bar(self.interval, self.next_ms, now_ms)?;
        let state = Some((bar.candle.close, bar.candle.volume));
        if self.shown == state {
            return None;
        }
        self.shown = state;
        Some(Shown { bar, is_final: false })
    }
}

/// The executions as they are told.
fn disturbed(
    executions: impl Iterator<Item = Execution>,
    held: &mut Option<Execution>,
    faults: &mut ChannelFaults,
) -> Vec<Execution> {
    let mut told = Vec::new();
    for execution in executions {
        if take(&mut faults.lost_trades) {
            continue;
        }
        if let Some(earlier) = held.take() {
            told.extend([execution, earlier]);
            continue;
        }
        if take(&mut faults.reordered_trades) {
            *held = Some(execution);
            continue;
        }
        let count = 1 + usize::from(take(&mut faults.repeated_trades));
        told.extend(std::iter::repeat_n(execution, count));
    }
    told
}
