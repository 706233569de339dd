//! Bars: candles with their history. Built from trades, joined into longer ones, merged across
//! exchanges.
//!
//! A [`Bar`] is a [`Candle`] that also says how much of its interval was heard. [`BarBuilder`] makes
//! bars from trades, link events and clock ticks; [`BarSeries`] keeps them, takes backfilled candles
//! in and refuses changes of what a score was computed from; [`compact_bars`] joins short ones;
//! [`merge_bars`] makes one of several exchanges' bars; a [`Survey`] tells what a series lacks.
//!
//! Limits: nothing here fetches, stores or reads a clock. What was not heard is said, never guessed.

mod builder;
mod compact;
mod merge;
mod open_bar;
mod rules;
mod seen;
mod series;
mod survey;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::candle::{Candle, Trade};

pub use builder::BarBuilder;
pub use compact::{CompactError, compact_bars};
pub use merge::{
    LeftOut, LeftOutReason, MAX_SOURCES, MergeError, MergeRules, Merged, SourceId, merge_bars,
    merge_step, realised_on_quorum,
};
pub use rules::{
    BarCounters, BarEvent, BarRuleError, BarRules, IdRule, MAX_EMPTY_RUN, MAX_OPEN_BARS,
    MAX_REMEMBERED, TradeOutcome,
};
pub use series::{BarSeries, Change, ChangeError, Doubts, MAX_SERIES};
pub use survey::{Finding, GapReport, LISTED_FLAT_RUN, MAX_LISTED, Run, Survey, check_candle};

/// Highest price that is taken in, quote currency.
pub const MAX_PRICE: f64 = 1e15;
/// Greatest size of one trade that is taken in, base asset: 2^40.
pub const MAX_SIZE: f64 = 1_099_511_627_776.0;
/// Greatest volume of a bar, base asset: 2^48; a sum stops there.
pub const MAX_VOLUME: f64 = 281_474_976_710_656.0;
/// Latest time that is taken in: the last millisecond of the year 9999.
pub const MAX_TIME_MS: i64 = 253_402_300_799_999;

/// How much of its interval a bar knows, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BarState {
    /// The link was up over the whole interval and no trade is known to be lost.
    Complete,
    /// Something was missed, and fetched from the exchange afterwards.
    Backfilled,
    /// A part of the interval or some of its trades were missed.
    Partial,
    /// Nothing of the interval was heard; the prices are the close before it.
    Void,
}

impl BarState {
    /// Tells whether a score may be computed from such a bar.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Complete | Self::Backfilled)
    }
}

/// A candle and how it came about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Prices, volume and number of trades.
    pub candle: Candle,
    /// How much of the interval is known.
    pub state: BarState,
    /// No trade fell into the interval: the prices are the close before it, carried on.
    pub is_flat: bool,
    /// Id of the first trade by (time, id); none where there was no trade or the source does not tell.
    pub first_id: Option<u64>,
    /// Id of the last trade by (time, id).
    pub last_id: Option<u64>,
}

impl Bar {
    /// Creates the bar of a candle that was fetched from the exchange.
    ///
    /// A candle without volume whose source does not count trades, or counts none, is flat.
    pub fn backfilled(candle: Candle) -> Self {
        let is_flat = candle.volume <= 0.0 && candle.trade_count.unwrap_or(0) == 0;
        Self { candle, state: BarState::Backfilled, is_flat, first_id: None, last_id: None }
    }
}

/// One execution as the builder takes it: 32 bytes, the id a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberedTrade {
    /// Time of the execution, milliseconds since 1970.
    pub time_ms: i64,
    /// The exchange's number of the trade, or a number made from its text.
    pub id: u64,
    /// Price in the quote currency.
    pub price: f64,
    /// Amount of the base asset.
    pub size: f64,
}

impl NumberedTrade {
    /// Creates it from a normalised trade; `None` when that has no id, or one that is not a decimal
    /// number where `ids` are consecutive.
    ///
    /// A text that is not a number becomes the first eight bytes of its SHA-256: two of a million
    /// remembered ids collide with a chance below one in ten million.
    #[inline]
    pub fn from_trade(trade: &Trade, ids: IdRule) -> Option<Self> {
        let id = trade.trade_id.as_ref()?;
        let id = match (id.number(), ids) {
            (Some(number), _) => number,
            (None, IdRule::Consecutive) => return None,
            (None, IdRule::Unique { .. }) => {
                let digest: [u8; 32] = Sha256::digest(id.to_string()).into();
                let (head, _) = digest.split_first_chunk::<8>()?;
                u64::from_be_bytes(*head)
            }
        };
        Some(Self { time_ms: trade.time_ms, id, price: trade.price, size: trade.size })
    }

    /// Tells whether every number is finite and within the bounds of this module.
    #[inline]
    pub fn is_bounded(&self) -> bool {
        // Written so that NaN fails each comparison.
        self.price > 0.0
            && self.price <= MAX_PRICE
            && self.size >= 0.0
            && self.size <= MAX_SIZE
            && self.time_ms >= 0
            && self.time_ms <= MAX_TIME_MS
            && self.id < u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TradeId, TradeSide};

    fn trade(id: Option<&str>) -> Trade {
        Trade {
            time_ms: 5,
            price: 2.0,
            size: 3.0,
            trade_id: id.map(TradeId::from),
            side: TradeSide::Buy,
        }
    }

    #[test]
    fn ids_become_numbers() {
        let unique = IdRule::Unique { remembered: 16 };
        let number = |id, rule| NumberedTrade::from_trade(&trade(id), rule).map(|trade| trade.id);
        assert_eq!(number(Some("42"), IdRule::Consecutive), Some(42));
        assert_eq!(number(Some("42"), unique), Some(42));
        assert_eq!(number(Some("a-b"), IdRule::Consecutive), None);
        assert_eq!(number(None, unique), None);
        assert_eq!(number(Some("a-b"), unique), number(Some("a-b"), unique));
        assert_ne!(number(Some("a-b"), unique), number(Some("a-c"), unique));
    }

    #[test]
    fn numbers_beyond_the_bounds_are_refused() {
        let good = NumberedTrade { time_ms: 0, id: 1, price: 1.0, size: 0.0 };
        assert!(good.is_bounded());
        for price in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e15] {
            assert!(!NumberedTrade { price, ..good }.is_bounded(), "{price}");
        }
        for size in [-1.0, f64::NAN, f64::INFINITY, 2e12] {
            assert!(!NumberedTrade { size, ..good }.is_bounded(), "{size}");
        }
        assert!(!NumberedTrade { time_ms: -1, ..good }.is_bounded());
        assert!(!NumberedTrade { time_ms: MAX_TIME_MS + 1, ..good }.is_bounded());
        assert!(!NumberedTrade { id: u64::MAX, ..good }.is_bounded());
    }

    #[test]
    fn states_are_ordered_from_best_to_worst() {
        assert!(BarState::Complete < BarState::Backfilled);
        assert!(BarState::Backfilled < BarState::Partial && BarState::Partial < BarState::Void);
        assert!(BarState::Backfilled.is_whole() && !BarState::Partial.is_whole());
    }
}
