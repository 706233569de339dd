//! What a feed tells its owner.

use std::fmt;
use std::time::Duration;

use forecastd_core::{Candle, Trade};

/// One step of a feed, in the order in which things happened.
///
/// Over the life of a feed every final candle is told exactly once and in rising order, either as
/// [`FeedEvent::Candle`] or inside of a [`FeedEvent::Backfill`]. An interval that is skipped in that
/// order is one that the exchange itself does not have, or lies inside of a [`FeedEvent::Gap`].
#[derive(Debug, Clone, PartialEq)]
pub enum FeedEvent {
    /// The WebSocket is open.
    Connected,
    /// The exchange confirmed the subscription.
    Subscribed,
    /// A live candle.
    Candle {
        /// The candle; while it is forming its values still change.
        candle: Candle,
        /// Whether the interval is over and the values stand.
        is_final: bool,
    },
    /// An execution. Trades are told as they come; lost ones are counted, not fetched.
    Trade(Trade),
    /// The connection is lost, or could not be made.
    Disconnected {
        /// Why, for people.
        reason: String,
        /// Real time until the next attempt.
        retry_in: Duration,
    },
    /// Final candles that were fetched by REST because the stream did not bring them.
    Backfill {
        /// First open time asked for.
        from_ms: i64,
        /// End of the asked range, not included.
        to_ms: i64,
        /// The candles of the range that were not told before, oldest first; an interval that is
        /// missing between two of them does not exist on the exchange.
        candles: Vec<Candle>,
    },
    /// Final candles that cannot be had from here: the feed goes on behind them.
    Gap {
        /// First open time that is missing.
        from_ms: i64,
        /// End of the gap, not included.
        to_ms: i64,
        /// Why.
        reason: String,
    },
    /// Messages that were thrown away since the last such event.
    Dropped {
        /// What was wrong with them.
        class: DropClass,
        /// How many.
        count: u64,
    },
}

/// Why something that came from an exchange was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropClass {
    /// Not JSON, or a trade or candle that breaks the rules.
    Invalid,
    /// A binary frame; the exchanges speak text.
    Binary,
    /// Data of another symbol or interval than the subscribed one.
    Unexpected,
    /// A candle that, by this machine's clock, has not begun.
    Future,
    /// A trade that never arrived: a hole in the exchange's numbering.
    LostTrade,
    /// A trade or forming candle for which the owner's queue had no room.
    Overflow,
}

impl DropClass {
    /// All classes, in the order in which they are told.
    pub const ALL: [Self; 6] = [
        Self::Invalid,
        Self::Binary,
        Self::Unexpected,
        Self::Future,
        Self::LostTrade,
        Self::Overflow,
    ];

    /// Returns the name for logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Binary => "binary",
            Self::Unexpected => "unexpected",
            Self::Future => "future",
            Self::LostTrade => "lost_trade",
            Self::Overflow => "overflow",
        }
    }
}

impl fmt::Display for DropClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
