//! The newest candles of a stream, as a model sees them.

use std::collections::BTreeMap;

use forecastd_core::bars::BarState;
use forecastd_core::{Candle, StreamSpec};
use forecastd_models::ModelInput;

use crate::node::NewestCandle;

/// At most the lookback of consecutive candles, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    candles: BTreeMap<i64, (Candle, BarState)>,
    /// Start of the last window that was handed over, and whether its newest candle was whole.
    handed_over: Option<(i64, bool)>,
}

impl Window {
    /// Takes candles in; one that is there already is replaced.
    pub(super) fn take(&mut self, spec: &StreamSpec, candles: &[(Candle, BarState)]) {
        let rows = candles.iter().map(|(candle, state)| (candle.open_time_ms, (*candle, *state)));
        self.candles.extend(rows);
        while self.candles.len() > spec.lookback {
            self.candles.pop_first();
        }
    }

    /// Returns the open time of the newest candle.
    pub(super) fn newest_open_ms(&self) -> Option<i64> {
        self.candles.last_key_value().map(|(at_ms, _)| *at_ms)
    }

    /// Returns the newest candle.
    pub(super) fn newest(&self) -> Option<Candle> {
        self.candles.last_key_value().map(|(_, (candle, _))| *candle)
    }

    /// Returns the newest candle for the board.
    pub(super) fn board(&self, spec: &StreamSpec) -> Option<NewestCandle> {
        let newest = self.newest()?;
        let close_time_ms = newest.close_time_ms(spec.interval);
        Some(NewestCandle { close_time_ms, close: newest.close })
    }

    /// Returns the number of candles.
    pub(super) fn len(&self) -> usize {
        self.candles.len()
    }

    /// Returns the window when it is whole and was not handed over yet, or was with a newest candle
    /// that lacked exchanges.
    pub(super) fn hand_over(&mut self, spec: &StreamSpec) -> Option<ModelInput> {
        let (newest_open_ms, (_, state)) = self.candles.last_key_value()?;
        let (oldest_open_ms, _) = self.candles.first_key_value()?;
        let steps = (newest_open_ms - oldest_open_ms) / spec.interval.as_ms() + 1;
        if self.candles.len() < spec.lookback || usize::try_from(steps).ok()? != spec.lookback {
            return None;
        }
        let start_ms = newest_open_ms + spec.interval.as_ms();
        let is_whole = state.is_whole();
        // A late candle may complete a window, or change nothing about the newest one.
        if self.handed_over.is_some_and(|(at, whole)| at == start_ms && (whole || !is_whole)) {
            return None;
        }
        self.handed_over = Some((start_ms, is_whole));
        Some(ModelInput {
            stream: spec.id.clone(),
            start_ms,
            interval: spec.interval,
            horizon: spec.horizon,
            candles: self.candles.values().map(|(candle, _)| *candle).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::{Interval, StreamId};

    use super::*;

    const STEP_MS: i64 = 300_000;

    fn spec() -> StreamSpec {
        StreamSpec {
            id: StreamId("BTCUSD-5m".to_owned()),
            interval: Interval::FIVE_MINUTES,
            horizon: 4,
            lookback: 3,
            round_every: Interval::from_ms(1_800_000).unwrap(),
            topic_id: 1,
            schema_id: 1,
        }
    }

    fn row(step: i64, close: f64, state: BarState) -> (Candle, BarState) {
        let candle = Candle {
            open_time_ms: step * STEP_MS,
            open: close,
            high: close,
            low: close,
            close,
            volume: 1.0,
            trade_count: None,
        };
        (candle, state)
    }

    fn closes(input: &ModelInput) -> Vec<f64> {
        input.candles.iter().map(|candle| candle.close).collect()
    }

    #[test]
    fn a_whole_window_is_handed_over_once() {
        let mut window = Window::default();
        let whole = BarState::Complete;
        window.take(&spec(), &[row(1, 1.0, whole), row(2, 2.0, whole)]);
        assert!(window.hand_over(&spec()).is_none());
        window.take(&spec(), &[row(3, 3.0, whole)]);
        let input = window.hand_over(&spec()).unwrap();
        assert_eq!((input.start_ms, closes(&input)), (4 * STEP_MS, vec![1.0, 2.0, 3.0]));
        assert!(window.hand_over(&spec()).is_none());
        window.take(&spec(), &[row(5, 5.0, whole)]);
        assert!(window.hand_over(&spec()).is_none(), "4 is missing");
        window.take(&spec(), &[row(4, 4.0, BarState::Void)]);
        assert_eq!(closes(&window.hand_over(&spec()).unwrap()), [3.0, 4.0, 5.0]);
        assert_eq!(window.board(&spec()).unwrap().close_time_ms, 6 * STEP_MS);
    }

    #[test]
    fn a_newest_candle_that_became_whole_is_handed_over_again() {
        let mut window = Window::default();
        let older = [row(1, 1.0, BarState::Complete), row(2, 2.0, BarState::Complete)];
        window.take(&spec(), &older);
        window.take(&spec(), &[row(3, 3.0, BarState::Partial)]);
        assert_eq!(closes(&window.hand_over(&spec()).unwrap()), [1.0, 2.0, 3.0]);
        window.take(&spec(), &[row(3, 3.1, BarState::Partial)]);
        assert!(window.hand_over(&spec()).is_none());
        window.take(&spec(), &[row(3, 3.2, BarState::Complete)]);
        assert_eq!(closes(&window.hand_over(&spec()).unwrap()), [1.0, 2.0, 3.2]);
        assert!(window.hand_over(&spec()).is_none());
    }
}
