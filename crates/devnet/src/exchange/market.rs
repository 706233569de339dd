//! What the simulated exchange knows at a market time. Pure.
//!
//! Closed candles are the recorded ones, exactly. Inside of a recorded candle nothing was recorded:
//! [`TRADES_PER_CANDLE`] executions are derived from its open, high, low, close and volume, so that
//! they make up exactly that candle. A falling candle visits its high first, a rising one its low.
//! They are a stand-in for real ones in number, size and path.

use std::sync::{Arc, Mutex, PoisonError};

use forecastd_core::{Candle, Interval, TradeSide};

/// Derived executions in a recorded candle that has volume; one without volume has none.
pub const TRADES_PER_CANDLE: usize = 12;
/// Positions of open, first extreme, second extreme and close in the row of executions.
const TURNS: [usize; 4] = [0, 4, 8, TRADES_PER_CANDLE - 1];
/// The exchange's smallest step of a size, 10⁻⁸.
const SIZE_STEPS: f64 = 1e8;
/// The exchange's smallest step of a price.
const PRICE_STEPS: f64 = 100.0;

/// Distortions that are kept.
const MAX_DISTORTIONS: usize = 64;

/// One derived execution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Execution {
    pub(super) id: u64,
    pub(super) time_ms: i64,
    pub(super) price: f64,
    pub(super) size: f64,
    pub(super) side: TradeSide,
}

/// One candle as the exchange shows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bar {
    pub(super) candle: Candle,
    /// First and last id of its executions; `None` without any.
    pub(super) ids: Option<(u64, u64)>,
    /// Sum of price times size over its executions.
    pub(super) turnover: f64,
}

/// Wrong prices of the candles that open in `from_ms..to_ms`.
#[derive(Debug, Clone, Copy)]
struct Distortion {
    from_ms: i64,
    to_ms: i64,
    factor: f64,
}

/// The recording and the rules for reading it.
#[derive(Debug)]
pub(super) struct Market {
    candles: Arc<[Candle]>,
    interval: Interval,
    /// Number of the first execution of each candle: rising by one, whatever is flat.
    first_ids: Vec<u64>,
    distortions: Mutex<Vec<Distortion>>,
}

impl Market {
    pub(super) fn new(candles: Arc<[Candle]>, interval: Interval) -> Self {
        let mut next_id = 1;
        let first_id = |candle: &Candle| {
            let first_id = next_id;
            next_id += if candle.volume > 0.0 { TRADES_PER_CANDLE as u64 } else { 0 };
            first_id
        };
        let first_ids = candles.iter().map(first_id).collect();
        Self { candles, interval, first_ids, distortions: Mutex::new(Vec::new()) }
    }

    /// Multiplies all prices with `factor` from the next recorded candle on, until `until_ms`.
    pub(super) fn distort(&self, factor: f64, now_ms: i64, until_ms: i64) {
        let mut all = self.distortions.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == MAX_DISTORTIONS {
            all.remove(0);
        }
        let (from_ms, to_ms) = (self.interval.next(now_ms), self.interval.ceil(until_ms));
        all.push(Distortion { from_ms, to_ms, factor });
    }

    /// Tells whether candles of `interval` can be made of the recorded ones.
    pub(super) const fn has_interval(&self, interval: Interval) -> bool {
        interval.as_ms() % self.interval.as_ms() == 0
    }

    /// Returns the first and last open time of candles of `interval`.
    fn span(&self, interval: Interval) -> Option<(i64, i64)> {
        let (first, last) = (self.candles.first()?, self.candles.last()?);
        Some((interval.floor(first.open_time_ms), interval.floor(last.open_time_ms)))
    }

    /// Returns the candle that opens at `open_ms` as far as it is known at `now_ms`.
    pub(super) fn bar(&self, interval: Interval, open_ms: i64, now_ms: i64) -> Option<Bar> {
        let end_ms = open_ms + interval.as_ms();
        let mut bar: Option<Bar> = None;
        for (first_id, candle) in self.recorded(open_ms, end_ms) {
            if let Some(part) = self.part(first_id, &candle, now_ms) {
                bar = Some(bar.map_or(part, |whole| joined(whole, part)));
            }
        }
        let mut bar = bar?;
        bar.candle.open_time_ms = open_ms;
        Some(bar)
    }

    /// Returns at most `limit` candles with an open time in `from_ms..=to_ms`, oldest first: the
    /// newest of them with `is_newest`, else the oldest. The last one may be forming.
    pub(super) fn bars(
        &self,
        interval: Interval,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
        is_newest: bool,
        now_ms: i64,
    ) -> Vec<Bar> {
        let Some((first, last)) = self.span(interval) else {
            return Vec::new();
        };
        if from_ms > now_ms {
            return Vec::new();
        }
        let first = interval.ceil(from_ms).max(first);
        let last = interval.floor(to_ms.min(now_ms)).min(last);
        let mut bars = Vec::new();
        let mut open_ms = if is_newest { last } else { first };
        while bars.len() < limit && (first..=last).contains(&open_ms) {
            bars.extend(self.bar(interval, open_ms, now_ms));
            open_ms += if is_newest { -interval.as_ms() } else { interval.as_ms() };
        }
        if is_newest {
            bars.reverse();
        }
        bars
    }

    /// Returns the executions in `after_ms < time <= to_ms`, oldest first.
    pub(super) fn executions(
        &self,
        after_ms: i64,
        to_ms: i64,
    ) -> impl Iterator<Item = Execution> + '_ {
        let from_ms = self.interval.floor(after_ms.max(0));
        self.recorded(from_ms, to_ms.saturating_add(1))
            .flat_map(|(first_id, candle)| executions_of(first_id, &candle, self.interval))
            .filter(move |execution| after_ms < execution.time_ms && execution.time_ms <= to_ms)
    }

    /// Returns the newest `limit` executions at `now_ms`, oldest first.
    pub(super) fn latest(&self, limit: usize, now_ms: i64) -> Vec<Execution> {
        let mut newest: Vec<Execution> = Vec::new();
        let end = self.candles.partition_point(|candle| candle.open_time_ms <= now_ms);
        let distortions = self.current_distortions();
        let numbered = self.candles.iter().zip(&self.first_ids).take(end);
        for (candle, first_id) in numbered.rev() {
            if newest.len() >= limit {
                break;
            }
            let candle = distorted(*candle, &distortions);
            let known = executions_of(*first_id, &candle, self.interval).into_iter().rev();
            newest.extend(known.filter(|execution| execution.time_ms <= now_ms));
        }
        newest.truncate(limit);
        newest.reverse();
        newest
    }

    /// Returns when the execution with this number happens, or the first one after it.
    pub(super) fn time_of(&self, id: u64) -> Option<i64> {
        let index = self.first_ids.partition_point(|first| *first <= id).saturating_sub(1);
        let (candle, first_id) = (self.candles.get(index)?, *self.first_ids.get(index)?);
        let executions = executions_of(first_id, candle, self.interval);
        executions.into_iter().find(|one| one.id >= id).map(|one| one.time_ms)
    }

    /// Returns the close of the last recorded candle that opens before `open_ms`.
    pub(super) fn close_before(&self, open_ms: i64) -> Option<f64> {
        let count = self.candles.partition_point(|candle| candle.open_time_ms < open_ms);
        let candle = self.candles.get(count.checked_sub(1)?)?;
        Some(distorted(*candle, &self.current_distortions()).close)
    }

    /// The recorded candles that open in `from_ms..to_ms`, with the number of their first execution.
    fn recorded(&self, from_ms: i64, to_ms: i64) -> impl Iterator<Item = (u64, Candle)> + '_ {
        let start = self.candles.partition_point(|candle| candle.open_time_ms < from_ms);
        let distortions = self.current_distortions();
        let found = self.candles.iter().zip(&self.first_ids).skip(start);
        found
            .take_while(move |(candle, _)| candle.open_time_ms < to_ms)
            .map(move |(candle, first_id)| (*first_id, distorted(*candle, &distortions)))
    }

    fn current_distortions(&self) -> Vec<Distortion> {
        self.distortions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The recorded candle as far as it is known at `now_ms`.
    fn part(&self, first_id: u64, candle: &Candle, now_ms: i64) -> Option<Bar> {
        if now_ms < candle.open_time_ms {
            return None;
        }
        if candle.close_time_ms(self.interval) <= now_ms {
            let executions = executions_of(first_id, candle, self.interval);
            let ids = executions.first().map(|first| first.id);
            let ids = ids.zip(executions.last().map(|last| last.id));
            let count = candle.trade_count.unwrap_or(executions.len() as u64);
            let turnover = executions.iter().map(|one| one.price * one.size).sum();
            return Some(Bar {
                candle: Candle { trade_count: Some(count), ..*candle },
                ids,
                turnover,
            });
        }
        let mut bar: Option<Bar> = None;
        for execution in executions_of(first_id, candle, self.interval) {
            if execution.time_ms > now_ms {
                break;
            }
            let part = Bar {
                candle: Candle {
                    open_time_ms: candle.open_time_ms,
                    open: execution.price,
                    high: execution.price,
                    low: execution.price,
                    close: execution.price,
                    volume: execution.size,
                    trade_count: Some(1),
                },
                ids: Some((execution.id, execution.id)),
                turnover: execution.price * execution.size,
            };
            bar = Some(bar.map_or(part, |whole| joined(whole, part)));
        }
        bar
    }
}

fn joined(whole: Bar, part: Bar) -> Bar {
    let (a, b) = (whole.candle, part.candle);
    let candle = Candle {
        open_time_ms: a.open_time_ms,
        open: a.open,
        high: a.high.max(b.high),
        low: a.low.min(b.low),
        close: b.close,
        // What adding up in binary leaves behind is none of the exchange's steps.
        volume: ((a.volume + b.volume) * SIZE_STEPS).round() / SIZE_STEPS,
        trade_count: Some(a.trade_count.unwrap_or(0) + b.trade_count.unwrap_or(0)),
    };
    let ids = match (whole.ids, part.ids) {
        (Some((first, _)), Some((_, last))) => Some((first, last)),
        (ids, None) | (None, ids) => ids,
    };
    Bar { candle, ids, turnover: whole.turnover + part.turnover }
}

/// A wrong price lies on the exchange's steps like a right one, and above zero.
fn distorted(mut candle: Candle, distortions: &[Distortion]) -> Candle {
    let at_ms = candle.open_time_ms;
    for distortion in distortions.iter().filter(|one| (one.from_ms..one.to_ms).contains(&at_ms)) {
        for price in [&mut candle.open, &mut candle.high, &mut candle.low, &mut candle.close] {
            let wrong = (*price * distortion.factor * PRICE_STEPS).round() / PRICE_STEPS;
            *price = wrong.max(1.0 / PRICE_STEPS);
        }
    }
    candle
}

/// The derived executions of a recorded candle.
fn executions_of(first_id: u64, candle: &Candle, interval: Interval) -> Vec<Execution> {
    if candle.volume <= 0.0 {
        return Vec::new();
    }
    let extremes = if candle.close >= candle.open {
        [candle.low, candle.high]
    } else {
        [candle.high, candle.low]
    };
    let prices = [candle.open, extremes[0], extremes[1], candle.close];
    let share =
        (candle.volume / TRADES_PER_CANDLE as f64 * SIZE_STEPS).floor().max(1.0) / SIZE_STEPS;
    let mut last_price = candle.open;
    let mut executions = Vec::with_capacity(TRADES_PER_CANDLE);
    for step in 0..TRADES_PER_CANDLE {
        let price = path(step, prices).clamp(candle.low, candle.high);
        let is_last = step == TRADES_PER_CANDLE - 1;
        let rest = candle.volume - share * step as f64;
        executions.push(Execution {
            id: first_id + step as u64,
            time_ms: candle.open_time_ms
                + interval.as_ms() * i64::try_from(step).unwrap_or(0)
                    / i64::try_from(TRADES_PER_CANDLE).unwrap_or(1),
            price,
            size: if is_last { rest.max(1.0 / SIZE_STEPS) } else { share },
            side: if price >= last_price { TradeSide::Buy } else { TradeSide::Sell },
        });
        last_price = price;
    }
    executions
}

/// The price at `step` on straight lines through the turns.
fn path(step: usize, prices: [f64; 4]) -> f64 {
    for leg in 0..TURNS.len() - 1 {
        let (from, to) = (TURNS[leg], TURNS[leg + 1]);
        if step == from {
            return prices[leg];
        }
        if step < to {
            let share = (step - from) as f64 / (to - from) as f64;
            let price = prices[leg] + (prices[leg + 1] - prices[leg]) * share;
            return (price * PRICE_STEPS).round() / PRICE_STEPS;
        }
    }
    prices[TURNS.len() - 1]
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "recorded values pass through unchanged")]
mod tests {
    use super::*;
    use crate::exchange::recording;

    const FIVE: Interval = Interval::FIVE_MINUTES;

    fn sample() -> Vec<Candle> {
        let mut candles = recording::embedded().unwrap();
        candles.truncate(600);
        candles
    }

    fn market(candles: &[Candle]) -> Market {
        Market::new(candles.into(), FIVE)
    }

    #[test]
    fn executions_make_up_exactly_their_candle() {
        let candles = sample();
        for (index, candle) in candles.iter().enumerate() {
            let all = executions_of(index as u64, candle, FIVE);
            assert_eq!(all.len(), TRADES_PER_CANDLE);
            let prices: Vec<f64> = all.iter().map(|execution| execution.price).collect();
            let high = prices.iter().copied().fold(f64::MIN, f64::max);
            let low = prices.iter().copied().fold(f64::MAX, f64::min);
            assert_eq!(
                [prices[0], high, low, prices[11]],
                [candle.open, candle.high, candle.low, candle.close]
            );
            let volume: f64 = all.iter().map(|execution| execution.size).sum();
            assert!((volume - candle.volume).abs() < 1e-9 * candle.volume.max(1.0));
            assert!(all.iter().all(|execution| execution.size > 0.0));
            assert!(all.windows(2).all(|two| two[0].time_ms < two[1].time_ms));
            assert!(all[11].time_ms < candle.close_time_ms(FIVE));
        }
    }

    #[test]
    fn a_forming_candle_knows_nothing_of_its_future() {
        let candles = sample();
        let market = market(&candles);
        let first = &candles[0];
        let start = market.bar(FIVE, first.open_time_ms, first.open_time_ms).unwrap().candle;
        assert_eq!([start.open, start.high, start.low, start.close], [first.open; 4]);
        let mut seen = 0;
        for at_ms in (first.open_time_ms..first.close_time_ms(FIVE)).step_by(7_000) {
            let bar = market.bar(FIVE, first.open_time_ms, at_ms).unwrap();
            bar.candle.validate(FIVE).unwrap();
            let known: Vec<_> = market.executions(first.open_time_ms - 1, at_ms).collect();
            let volume: f64 = known.iter().map(|execution| execution.size).sum();
            assert!((bar.candle.volume - volume).abs() < 1e-9);
            assert_eq!(bar.candle.close, known.last().unwrap().price);
            assert!(bar.candle.high <= first.high && bar.candle.low >= first.low);
            seen += usize::from(bar.candle.close.to_bits() != first.close.to_bits());
        }
        assert!(seen > 10);
        let done = market.bar(FIVE, first.open_time_ms, first.close_time_ms(FIVE)).unwrap().candle;
        assert_eq!(done, Candle { trade_count: Some(12), ..*first });
        assert_eq!(market.bar(FIVE, candles[1].open_time_ms, first.open_time_ms), None);
    }

    #[test]
    fn longer_candles_are_made_of_the_recorded_ones() {
        let candles = sample();
        let market = market(&candles);
        let hour = "1h".parse().unwrap();
        let open_ms = candles[0].open_time_ms;
        let bar = market.bar(hour, open_ms, open_ms + 3_600_000).unwrap();
        let parts = &candles[..12];
        assert_eq!(bar.candle.open, parts[0].open);
        assert_eq!(bar.candle.close, parts[11].close);
        assert_eq!(bar.candle.high, parts.iter().map(|c| c.high).fold(f64::MIN, f64::max));
        assert_eq!(bar.candle.low, parts.iter().map(|c| c.low).fold(f64::MAX, f64::min));
        assert_eq!(bar.ids, Some((1, 144)));
        assert!(market.has_interval(hour) && !market.has_interval(Interval::MINUTE));
    }

    #[test]
    fn ranges_follow_the_exchanges_rules() {
        let candles = sample();
        let market = market(&candles);
        let (start, step) = (candles[0].open_time_ms, FIVE.as_ms());
        let now = start + 10 * step + 1;
        let opens = |from, to, limit, newest| {
            let bars = market.bars(FIVE, from, to, limit, newest, now);
            bars.iter().map(|bar| (bar.candle.open_time_ms - start) / step).collect::<Vec<_>>()
        };
        assert_eq!(opens(0, i64::MAX, 3, true), [8, 9, 10]);
        assert_eq!(opens(start + 1, i64::MAX, 3, false), [1, 2, 3]);
        assert_eq!(opens(0, start + 5 * step, 2, true), [4, 5]);
        assert_eq!(opens(start, start + step, 500, false), [0, 1]);
        assert_eq!(opens(start + 11 * step, i64::MAX, 500, false), [0; 0]);
        assert_eq!(opens(i64::MAX, i64::MAX, 500, false), [0; 0]);
    }

    #[test]
    fn the_newest_executions_are_those_of_the_whole_row() {
        let mut candles = sample();
        candles[5].volume = 0.0;
        let market = market(&candles);
        let now_ms = candles[9].open_time_ms + 100_000;
        let all: Vec<_> = market.executions(0, now_ms).collect();
        assert_eq!(all.len(), 8 * TRADES_PER_CANDLE + 5);
        for limit in [0, 1, 17, 60, 5000] {
            let newest = &all[all.len().saturating_sub(limit)..];
            assert_eq!(market.latest(limit, now_ms), newest, "{limit}");
        }
        assert!(all.windows(2).all(|two| two[0].id + 1 == two[1].id));
        assert!(all.iter().all(|one| market.time_of(one.id) == Some(one.time_ms)));
        assert_eq!(market.close_before(candles[9].open_time_ms), Some(candles[8].close));
        assert_eq!(market.close_before(candles[0].open_time_ms), None);
    }

    #[test]
    fn wrong_prices_hold_for_whole_candles_and_end() {
        let candles = sample();
        let market = market(&candles);
        let step = FIVE.as_ms();
        let now_ms = candles[3].open_time_ms + 1;
        market.distort(1.5, now_ms, now_ms + step);
        let close = |index: usize| {
            market.bar(FIVE, candles[index].open_time_ms, i64::MAX).unwrap().candle.close
        };
        assert_eq!([close(3), close(5)], [candles[3].close, candles[5].close]);
        assert!((close(4) - candles[4].close * 1.5).abs() <= 0.006);
        let wrong = market.bar(FIVE, candles[4].open_time_ms, i64::MAX).unwrap().candle;
        wrong.validate(FIVE).unwrap();
        let last = market.executions(0, candles[5].open_time_ms - 1).last().unwrap();
        assert_eq!(last.price, wrong.close);
    }

    #[test]
    fn a_hole_in_the_recording_stays_a_hole() {
        let mut candles = sample();
        let lost = candles.remove(3);
        let market = market(&candles);
        assert_eq!(market.bar(FIVE, lost.open_time_ms, i64::MAX), None);
        let bars = market.bars(FIVE, 0, i64::MAX, 5, false, lost.open_time_ms * 2);
        assert!(bars.iter().all(|bar| bar.candle.open_time_ms != lost.open_time_ms));
        assert_eq!(bars.len(), 5);
    }
}
