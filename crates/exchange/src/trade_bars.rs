//! Final candles from trades, for an exchange that has no candle channel.
//!
//! Only a candle of which surely every trade was heard is given out. The interval in which a
//! subscription began, one that an outage or a lost trade touched and one without trades are left to
//! the clock and REST, like every candle that a stream did not bring.
//!
//! All times are the exchange's: those of its trades, and those at which it says which trade is its
//! newest. A clock of this machine that is wrong cannot close a candle too early.

use forecastd_core::bars::{BarBuilder, BarEvent, BarRules, BarState, IdRule, NumberedTrade};
use forecastd_core::{Candle, Interval, Trade};

use crate::config::refuse;
use crate::error::ExchangeError;
use crate::numbers::{Newest, Place};

/// How far the times of two trades may contradict their order.
const REORDER_MS: i64 = 1_000;
/// The builder compares with the exchange's last word, which may be old.
const LONGEST_AHEAD_MS: i64 = 7 * 24 * 3_600_000;
/// How far in front of this machine's clock a time of the exchange is believed.
const AHEAD_MS: i64 = 60_000;

/// Builds the candles of one market.
#[derive(Debug)]
pub(crate) struct TradeBars {
    rules: BarRules,
    builder: BarBuilder,
    is_subscribed: bool,
    /// Whether the link counts as up: since the first word about the newest trade.
    is_up: bool,
    /// Everything that happened before this time arrived.
    sure_ms: i64,
    /// Latest time that the exchange told.
    heard_ms: i64,
}

impl TradeBars {
    pub(crate) fn new(interval: Interval) -> Result<Self, ExchangeError> {
        let rules = BarRules {
            reorder_ms: REORDER_MS,
            // Times far ahead are kept away by `is_ahead`, which knows the time better.
            ahead_ms: LONGEST_AHEAD_MS,
            ..BarRules::in_order(interval, IdRule::Consecutive)
        };
        let builder = BarBuilder::new(rules)
            .map_err(|_| refuse("interval", &interval, "long enough to be built from trades"))?;
        let (is_subscribed, is_up) = (false, false);
        Ok(Self { rules, builder, is_subscribed, is_up, sure_ms: 0, heard_ms: 0 })
    }

    /// Tells whether `time_ms` lies too far in front of this machine's clock to be true.
    pub(crate) const fn is_ahead(time_ms: i64, now_ms: i64) -> bool {
        time_ms > now_ms.saturating_add(AHEAD_MS)
    }

    /// A subscription is confirmed. The link is up once the exchange says which trade is its newest.
    pub(crate) const fn subscribed(&mut self) {
        self.is_subscribed = true;
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self) -> Vec<Candle> {
        self.is_subscribed = false;
        self.down()
    }

    /// Something may have been missed: what is open now is not known to be whole.
    pub(crate) fn doubt(&mut self) -> Vec<Candle> {
        if !self.is_up {
            return Vec::new();
        }
        let mut closed = self.down();
        closed.extend(self.up());
        closed
    }

    /// Takes a trade with its place in the row.
    pub(crate) fn trade(&mut self, trade: &Trade, place: Place) -> Vec<Candle> {
        if place == Place::Repeated {
            return Vec::new();
        }
        let Some(numbered) = NumberedTrade::from_trade(trade, self.rules.ids) else {
            return self.doubt();
        };
        if place == Place::Anew {
            self.restart();
        }
        self.heard_ms = self.heard_ms.max(trade.time_ms);
        // Before the trade: it may close what the lost ones belong to.
        let mut closed =
            if matches!(place, Place::AfterLost(_)) { self.doubt() } else { Vec::new() };
        self.builder.trade(&numbered, &mut keep_whole(&mut closed));
        if self.is_up {
            self.sure_ms = self.sure_ms.max(trade.time_ms);
        }
        closed
    }

    /// Takes the time at which the exchange said which trade is its newest, and what that means.
    pub(crate) fn named(&mut self, time_ms: i64, newest: Newest) -> Vec<Candle> {
        self.heard_ms = self.heard_ms.max(time_ms);
        if !self.is_up {
            return if self.is_subscribed { self.up() } else { Vec::new() };
        }
        match newest {
            Newest::Lost(_) => self.doubt(),
            Newest::OnItsWay => Vec::new(),
            Newest::Arrived => {
                self.sure_ms = self.sure_ms.max(time_ms);
                let mut closed = Vec::new();
                self.builder.tick(time_ms, &mut keep_whole(&mut closed));
                closed
            }
        }
    }

    fn up(&mut self) -> Vec<Candle> {
        let mut closed = Vec::new();
        self.builder.connected(self.heard_ms, &mut keep_whole(&mut closed));
        self.is_up = true;
        self.sure_ms = self.heard_ms;
        closed
    }

    fn down(&mut self) -> Vec<Candle> {
        let mut closed = Vec::new();
        if std::mem::replace(&mut self.is_up, false) {
            self.builder.disconnected(self.sure_ms, &mut keep_whole(&mut closed));
        }
        closed
    }

    /// Begins anew with nothing heard, and a link that comes up with the next word.
    fn restart(&mut self) {
        // The rules are those that a builder was made of before.
        if let Ok(builder) = BarBuilder::new(self.rules) {
            self.builder = builder;
        }
        self.is_up = false;
    }
}

fn keep_whole(closed: &mut Vec<Candle>) -> impl FnMut(BarEvent) {
    |event| match event {
        // Without trades the exchange has no candle either.
        BarEvent::Closed(bar) if bar.state == BarState::Complete && !bar.is_flat => {
            closed.push(bar.candle);
        }
        BarEvent::Doubted { from_ms, to_ms } => {
            tracing::debug!(from_ms, to_ms, "closed candles may lack trades");
        }
        BarEvent::Closed(_) | BarEvent::Outage { .. } | BarEvent::Skipped { .. } => {}
    }
}

#[cfg(test)]
mod tests;
