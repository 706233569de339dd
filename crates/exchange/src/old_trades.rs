//! Candles that an exchange does not keep any more, built from the trades that it does keep.

use forecastd_core::bars::{BarBuilder, BarEvent, BarRules, BarState, IdRule, NumberedTrade};
use forecastd_core::{Candle, Interval, Trade};

use crate::continuity::Range;
use crate::error::ExchangeError;
use crate::message::DecodeError;
use crate::rest::Request;

/// Trade ids that are remembered: the pages overlap by the trades of one moment.
const IDS: IdRule = IdRule::Unique { remembered: 1 << 14 };
/// Most requests for one range; a thousand trades each.
pub(crate) const MAX_REQUESTS: usize = 5_000;

/// Rising trades and the moment from which to go on, nanoseconds.
pub(crate) type TradesPage = (Vec<Trade>, i64);

/// How an exchange is asked for trades of long ago.
pub(crate) struct TradesApi {
    /// Makes the request for those after a moment, nanoseconds since 1970.
    pub(crate) request: fn(&str, i64) -> Request,
    /// Reads an answer.
    pub(crate) read: fn(&[u8]) -> Result<TradesPage, DecodeError>,
}

/// The candles of a range while its trades come in.
pub(crate) struct OldTrades {
    range: Range,
    builder: BarBuilder,
    candles: Vec<Candle>,
    newest_ms: i64,
}

impl OldTrades {
    /// Begins with the trades at the first moment of `range`.
    pub(crate) fn new(range: Range, interval: Interval) -> Option<Self> {
        let mut builder = BarBuilder::new(BarRules::in_order(interval, IDS)).ok()?;
        // What lies before the range is not asked for.
        builder.connected(range.from_ms - 1, &mut |_| ());
        Some(Self { range, builder, candles: Vec::new(), newest_ms: i64::MIN })
    }

    /// Takes a page of trades; returns whether trades behind the range were seen.
    pub(crate) fn take(&mut self, trades: &[Trade]) -> bool {
        for trade in trades {
            let Some(trade) = NumberedTrade::from_trade(trade, IDS) else { continue };
            if trade.time_ms < self.range.from_ms {
                continue;
            }
            if trade.time_ms >= self.range.to_ms {
                return true;
            }
            self.newest_ms = self.newest_ms.max(trade.time_ms);
            let (candles, range) = (&mut self.candles, self.range);
            self.builder.tick(trade.time_ms, &mut |event| keep(candles, range, event));
            self.builder.trade(&trade, &mut |event| keep(candles, range, event));
        }
        false
    }

    /// All trades of the range are there: returns its candles. An interval without a trade is flat
    /// at the close before, as exchanges give it that have candles of such intervals; before the
    /// first trade there is none.
    pub(crate) fn finish(mut self) -> Vec<Candle> {
        let (candles, range) = (&mut self.candles, self.range);
        if self.newest_ms > i64::MIN {
            let end_ms = range.to_ms + 60_000;
            self.builder.tick(end_ms, &mut |event| keep(candles, range, event));
        }
        self.candles
    }
}

fn keep(candles: &mut Vec<Candle>, range: Range, event: BarEvent) {
    if let BarEvent::Closed(bar) = event
        && bar.state == BarState::Complete
        && (range.from_ms..range.to_ms).contains(&bar.candle.open_time_ms)
    {
        candles.push(bar.candle);
    }
}

/// Returns the moment before `at_ms`, nanoseconds: what is asked for begins behind it.
pub(crate) fn just_before(at_ms: i64) -> Result<i64, ExchangeError> {
    at_ms.checked_mul(1_000_000).map(|ns| ns - 1).ok_or_else(|| ExchangeError::Config {
        key: "from_ms",
        value: at_ms.to_string(),
        rule: "a time before the year 2262",
    })
}

#[cfg(test)]
mod tests {
    use forecastd_core::TradeSide;

    use super::*;

    const STEP: i64 = 300_000;

    fn trade(id: u64, time_ms: i64, price: f64) -> Trade {
        Trade { time_ms, price, size: 0.25, trade_id: Some(id.into()), side: TradeSide::Buy }
    }

    #[test]
    fn whole_intervals_become_candles_and_quiet_ones_are_flat() {
        let range = Range { from_ms: STEP, to_ms: 5 * STEP };
        let mut old = OldTrades::new(range, Interval::FIVE_MINUTES).unwrap();
        assert!(!old.take(&[
            trade(1, STEP - 1, 9.0),
            trade(2, STEP, 10.0),
            trade(3, STEP + 5, 12.0)
        ]));
        // Pages overlap.
        assert!(!old.take(&[trade(3, STEP + 5, 12.0), trade(4, 2 * STEP - 1, 11.0)]));
        assert!(!old.take(&[trade(5, 4 * STEP + 7, 20.0)]));
        assert!(old.take(&[trade(6, 5 * STEP, 30.0)]));
        let candles = old.finish();
        let told: Vec<_> =
            candles.iter().map(|c| (c.open_time_ms / STEP, c.close, c.trade_count)).collect();
        let want = [(1, 11.0, Some(3)), (2, 11.0, Some(0)), (3, 11.0, Some(0)), (4, 20.0, Some(1))];
        assert_eq!(told, want);
        assert_eq!((candles[0].open, candles[0].high, candles[0].low), (10.0, 12.0, 10.0));
    }

    #[test]
    fn a_range_without_trades_has_no_candles() {
        let range = Range { from_ms: STEP, to_ms: 5 * STEP };
        let mut old = OldTrades::new(range, Interval::FIVE_MINUTES).unwrap();
        assert!(old.take(&[trade(6, 9 * STEP, 30.0)]));
        assert_eq!(old.finish(), []);
    }
}
