//! The pure domain of forecastd: time grid, candles, features, forecasts, commitments, scoring,
//! weights and the round state machine.
//!
//! Invariants: no I/O, no wall clock, no threads, no actors. Everything that a function needs comes
//! in through its arguments, so nothing here can fail for a reason outside of them. Floats are `f64`
//! and summed in one stated order.

pub mod bars;
pub mod candle;
pub mod clock;
pub mod commitment;
pub mod ema;
pub mod evaluate;
pub mod features;
pub mod forecast;
pub mod grid;
pub mod hotkey;
pub mod ids;
pub mod indicators;
pub mod numeric;
pub mod postprocess;
pub mod realised;
pub mod role;
pub mod rounds;
pub mod scoring;
pub mod seed;
pub mod settings;
pub mod signer;
pub mod stream;
pub mod trade_id;
pub mod weights;

pub use candle::{Candle, CandleError, Trade, TradeSide};
pub use clock::{Clock, ManualClock, ScaledClock};
pub use commitment::commitment;
pub use ema::{EmaEntry, EmaState};
pub use evaluate::{MinerScore, RoundInput, RoundOutcome, score_round};
pub use features::{
    Column, ColumnName, Columns, FeatureError, FeatureId, FeatureSet, FeatureSpec, FeatureTable,
    Lookback, Observation, Scaler, ScalerPlan, Window, build_window,
};
pub use forecast::{Forecast, ForecastError};
pub use grid::{GridError, Interval};
pub use hotkey::{Hotkey, HotkeyError};
pub use ids::{NetUid, Rao, RoundId, StreamId, Uid};
pub use role::Role;
pub use rounds::{QueryWindows, RefusalReason, RoundEvent, RoundState, VoidReason};
pub use scoring::{ScoreError, weighted_rmse};
pub use settings::{Compatibility, NewMinerStart, ScoringConfig, SettingError, WeightConfig};
pub use signer::Signer;
pub use stream::StreamSpec;
pub use trade_id::TradeId;
