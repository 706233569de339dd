//! The pure domain of forecastd: time grid, candles, features, forecasts, commitments, scoring,
//! weights and the round state machine.
//!
//! Invariants: no I/O, no wall clock, no threads, no actors. Everything that a function needs comes
//! in through its arguments, so nothing here can fail for a reason outside of them. Floats are `f64`
//! and summed in one stated order.

pub mod candle;
pub mod clock;
pub mod forecast;
pub mod grid;
pub mod hotkey;
pub mod ids;
pub mod signer;
pub mod stream;

pub use candle::{Candle, CandleError, Trade, TradeSide};
pub use clock::{Clock, ManualClock, ScaledClock};
pub use forecast::{Forecast, ForecastError};
pub use grid::{GridError, Interval};
pub use hotkey::{Hotkey, HotkeyError};
pub use ids::{NetUid, Rao, RoundId, StreamId, Uid};
pub use signer::Signer;
pub use stream::StreamSpec;
