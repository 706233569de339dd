//! Holds an exchange's final candles against the trades that it told.

use std::collections::BTreeMap;

use forecastd_core::bars::{Bar, BarBuilder, BarEvent, BarRules, BarState, IdRule, NumberedTrade};
use forecastd_core::{Candle, Trade};

use crate::settings::FeedSettings;

/// Trade ids are remembered to know repeated ones.
const IDS: IdRule = IdRule::Unique { remembered: 1 << 14 };
/// Greatest difference of the volumes, as a part of them: exchanges add up decimals, we add floats.
const VOLUME_PART: f64 = 1e-6;
/// Intervals that wait for their other half.
const MAX_WAITING: usize = 8;

/// The candles of one feed and the bars of its trades, until both are known.
///
/// A bar is closed by a trade of a later interval, never by the clock: the candle and the last
/// trades may come in any order, and on a fast clock late.
#[derive(Debug)]
pub(super) struct TradeCheck {
    builder: BarBuilder,
    told: BTreeMap<i64, Candle>,
    built: BTreeMap<i64, Bar>,
    newest_trade_ms: i64,
}

/// A candle that its trades contradict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    pub(super) told: Candle,
    pub(super) built: Candle,
}

impl TradeCheck {
    /// Creates the check where the feed brings trades.
    pub(super) fn of(feed: &FeedSettings) -> Option<Self> {
        let rules = BarRules::in_order(feed.config.interval, IDS);
        let builder = BarBuilder::new(rules).ok().filter(|_| feed.config.trades)?;
        let (told, built) = (BTreeMap::new(), BTreeMap::new());
        Some(Self { builder, told, built, newest_trade_ms: 0 })
    }

    /// The subscription stands.
    pub(super) fn connected(&mut self, now_ms: i64) {
        let built = &mut self.built;
        self.builder.connected(now_ms, &mut |event| keep(built, event));
    }

    /// The link is lost.
    pub(super) fn disconnected(&mut self, now_ms: i64) {
        let built = &mut self.built;
        self.builder.disconnected(now_ms, &mut |event| keep(built, event));
    }

    /// Trades were thrown away: what is open is not whole.
    pub(super) fn lost(&mut self, now_ms: i64) {
        self.disconnected(self.newest_trade_ms.min(now_ms));
        self.connected(now_ms);
    }

    /// Takes a trade; returns what it brought to light.
    pub(super) fn trade(&mut self, trade: &Trade) -> Vec<Difference> {
        let Some(trade) = NumberedTrade::from_trade(trade, IDS) else { return Vec::new() };
        self.newest_trade_ms = self.newest_trade_ms.max(trade.time_ms);
        let built = &mut self.built;
        self.builder.tick(trade.time_ms, &mut |event| keep(built, event));
        self.builder.trade(&trade, &mut |event| keep(built, event));
        if self.built.is_empty() { Vec::new() } else { self.compare() }
    }

    /// Takes a final candle; returns what it brought to light.
    pub(super) fn closed(&mut self, candle: &Candle) -> Vec<Difference> {
        self.told.insert(candle.open_time_ms, *candle);
        self.compare()
    }

    fn compare(&mut self) -> Vec<Difference> {
        let mut found = Vec::new();
        let told = &mut self.told;
        self.built.retain(|at_ms, bar| {
            let Some(told) = told.remove(at_ms) else { return true };
            // An interval without trades is told in different ways.
            let is_whole = bar.state == BarState::Complete && !bar.is_flat;
            if is_whole && differ(&told, &bar.candle) {
                found.push(Difference { told, built: bar.candle });
            }
            false
        });
        while self.built.len() > MAX_WAITING {
            self.built.pop_first();
        }
        while self.told.len() > MAX_WAITING {
            self.told.pop_first();
        }
        found
    }
}

fn keep(built: &mut BTreeMap<i64, Bar>, event: BarEvent) {
    match event {
        BarEvent::Closed(bar) => {
            built.insert(bar.candle.open_time_ms, bar);
        }
        BarEvent::Doubted { from_ms, to_ms } | BarEvent::Skipped { from_ms, to_ms } => {
            built.retain(|at_ms, _| !(from_ms..to_ms).contains(at_ms));
        }
        BarEvent::Outage { .. } => {}
    }
}

fn differ(told: &Candle, built: &Candle) -> bool {
    let prices = |candle: &Candle| [candle.open, candle.high, candle.low, candle.close];
    let is_price_off =
        prices(told).iter().zip(prices(built)).any(|(a, b)| a.to_bits() != b.to_bits());
    let volume = (told.volume - built.volume).abs();
    let is_count_off =
        told.trade_count.zip(built.trade_count).is_some_and(|(told, built)| told != built);
    is_price_off || volume > VOLUME_PART * told.volume.max(built.volume) || is_count_off
}

#[cfg(test)]
mod tests {
    use forecastd_core::{Interval, TradeSide};
    use forecastd_exchange::{Exchange, FeedConfig};

    use super::*;

    const MINUTE: i64 = 60_000;

    fn check() -> TradeCheck {
        let config = FeedConfig {
            interval: Interval::MINUTE,
            trades: true,
            ..Exchange::Binance.default_config()
        };
        let name = "binance".to_owned();
        TradeCheck::of(&FeedSettings { name, exchange: Exchange::Binance, config }).unwrap()
    }

    fn trade(id: u64, time_ms: i64, price: f64) -> Trade {
        Trade { time_ms, price, size: 0.5, trade_id: Some(id.into()), side: TradeSide::Buy }
    }

    fn candle(open_time_ms: i64, prices: [f64; 4], trades: u64) -> Candle {
        let [open, high, low, close] = prices;
        let volume = 0.5 * trades as f64;
        Candle { open_time_ms, open, high, low, close, volume, trade_count: Some(trades) }
    }

    /// Heard from the middle of minute 0 on, with three trades in minute 1 and one behind it.
    fn heard() -> TradeCheck {
        let mut check = check();
        check.connected(30_000);
        let trades = [(40_000, 9.0), (MINUTE, 10.0), (MINUTE + 1, 12.0), (2 * MINUTE - 1, 11.0)];
        for (id, (at_ms, price)) in trades.into_iter().enumerate() {
            assert_eq!(check.trade(&trade(id as u64, at_ms, price)), []);
        }
        check
    }

    /// What comes to light with the candle first, and with the next trade first.
    fn both_ways(told: &Candle, before: impl Fn(&mut TradeCheck)) -> [usize; 2] {
        let next = trade(9, 2 * MINUTE, 11.0);
        let mut candle_first = heard();
        before(&mut candle_first);
        let found = candle_first.closed(told).len() + candle_first.trade(&next).len();
        let mut trade_first = heard();
        before(&mut trade_first);
        [found, trade_first.trade(&next).len() + trade_first.closed(told).len()]
    }

    #[test]
    fn a_candle_of_its_trades_is_no_difference() {
        let told = candle(MINUTE, [10.0, 12.0, 10.0, 11.0], 3);
        assert_eq!(both_ways(&told, |_| ()), [0, 0]);
    }

    #[test]
    fn each_value_is_compared() {
        let good = candle(MINUTE, [10.0, 12.0, 10.0, 11.0], 3);
        for told in [
            candle(MINUTE, [10.1, 12.0, 10.0, 11.0], 3),
            candle(MINUTE, [10.0, 12.1, 10.0, 11.0], 3),
            candle(MINUTE, [10.0, 12.0, 9.9, 11.0], 3),
            candle(MINUTE, [10.0, 12.0, 10.0, 11.1], 3),
            Candle { volume: 1.6, ..good },
            Candle { trade_count: Some(4), ..good },
        ] {
            assert_eq!(both_ways(&told, |_| ()), [1, 1], "{told:?}");
        }
    }

    #[test]
    fn what_was_not_heard_as_a_whole_proves_nothing() {
        let first = candle(0, [1.0, 1.0, 1.0, 1.0], 1);
        assert_eq!(both_ways(&first, |_| ()), [0, 0]);
        let told = candle(MINUTE, [1.0, 1.0, 1.0, 1.0], 3);
        assert_eq!(both_ways(&told, |check| check.lost(2 * MINUTE)), [0, 0]);
        let cut = |check: &mut TradeCheck| check.disconnected(2 * MINUTE - 1);
        assert_eq!(both_ways(&told, cut), [0, 0]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut check = heard();
        for minute in 0..1_000 {
            check.closed(&candle(minute * MINUTE, [1.0, 1.0, 1.0, 1.0], 1));
            assert!(check.told.len() <= MAX_WAITING);
        }
    }
}
