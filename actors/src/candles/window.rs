//! The newest candles of a stream, as a model sees them.

use std::collections::BTreeMap;

use forecastd_core::bars::BarState;
use forecastd_core::{Candle, Columns, Interval, StreamSpec};
use forecastd_models::ModelInput;
use tracing::debug;

use crate::model_input::{model_input, needed_candles};
use crate::node::NewestCandle;
use crate::settings::StreamSettings;

/// At most the lookback of consecutive candles and the warm-up of the features, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    candles: BTreeMap<i64, (Candle, BarState)>,
    /// Start of the last window that was handed over, and whether its newest candle was whole.
    handed_over: Option<(i64, bool)>,
}

impl Window {
    /// Takes candles in; one that is there already is replaced.
    pub(super) fn take(&mut self, settings: &StreamSettings, candles: &[(Candle, BarState)]) {
        let rows = candles.iter().map(|(candle, state)| (candle.open_time_ms, (*candle, *state)));
        self.candles.extend(rows);
        while self.candles.len() > needed_candles(settings) {
            self.candles.pop_first();
        }
    }

    /// Returns the first hole: the open times of the candles before and behind it.
    pub(super) fn hole(&self, interval: Interval) -> Option<(i64, i64)> {
        let times = self.candles.keys().zip(self.candles.keys().skip(1));
        let mut holes = times.filter(|(at_ms, next_ms)| *next_ms - *at_ms != interval.as_ms());
        holes.next().map(|(at_ms, next_ms)| (*at_ms, *next_ms))
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

    /// The window that was handed over last did not arrive.
    pub(super) const fn take_back(&mut self) {
        self.handed_over = None;
    }

    /// Returns the window when it is whole and was not handed over yet, or was with a newest candle
    /// that lacked exchanges.
    pub(super) fn hand_over(
        &mut self,
        settings: &StreamSettings,
        columns: &Columns,
    ) -> Option<ModelInput> {
        let spec = &settings.spec;
        let (newest_open_ms, (_, state)) = self.candles.last_key_value()?;
        let (oldest_open_ms, _) = self.candles.first_key_value()?;
        let steps = (newest_open_ms - oldest_open_ms) / spec.interval.as_ms() + 1;
        // Without its warm-up a feature is missing, and the models that need none answer.
        let count = self.candles.len();
        if count < spec.lookback || usize::try_from(steps).ok()? != count {
            return None;
        }
        let start_ms = newest_open_ms + spec.interval.as_ms();
        let is_whole = state.is_whole();
        // A late candle may complete a window, or change nothing about the newest one.
        if self.handed_over.is_some_and(|(at, whole)| at == start_ms && (whole || !is_whole)) {
            return None;
        }
        let candles: Vec<Candle> = self.candles.values().map(|(candle, _)| *candle).collect();
        match model_input(settings, &candles, columns) {
            Ok(input) => {
                self.handed_over = Some((start_ms, is_whole));
                Some(input)
            }
            Err(error) => {
                debug!(actor = "candles", stream = %spec.id, %error, "no window");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use forecastd_core::{Column, Compatibility, FeatureSet, Observation};

    use super::*;
    use crate::testing;

    const STEP_MS: i64 = 300_000;

    fn settings_with(features: &[&str]) -> StreamSettings {
        let names = features.iter().map(|name| name.parse().unwrap()).collect();
        let features = FeatureSet::new(names, Compatibility::Standard).unwrap();
        StreamSettings { features, ..testing::stream() }
    }

    fn settings() -> StreamSettings {
        settings_with(&["close"])
    }

    fn hand_over(window: &mut Window) -> Option<ModelInput> {
        window.hand_over(&settings(), &Columns::default())
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
        window.take(&settings(), &[row(1, 1.0, whole), row(2, 2.0, whole)]);
        assert!(hand_over(&mut window).is_none());
        window.take(&settings(), &[row(3, 3.0, whole)]);
        let input = hand_over(&mut window).unwrap();
        assert_eq!((input.start_ms, closes(&input)), (4 * STEP_MS, vec![1.0, 2.0, 3.0]));
        assert!(hand_over(&mut window).is_none());
        window.take(&settings(), &[row(5, 5.0, whole)]);
        assert!(hand_over(&mut window).is_none(), "4 is missing");
        window.take(&settings(), &[row(4, 4.0, BarState::Void)]);
        assert_eq!(closes(&hand_over(&mut window).unwrap()), [3.0, 4.0, 5.0]);
        assert_eq!(window.board(&settings().spec).unwrap().close_time_ms, 6 * STEP_MS);
    }

    #[test]
    fn a_newest_candle_that_became_whole_is_handed_over_again() {
        let mut window = Window::default();
        let older = [row(1, 1.0, BarState::Complete), row(2, 2.0, BarState::Complete)];
        window.take(&settings(), &older);
        window.take(&settings(), &[row(3, 3.0, BarState::Partial)]);
        assert_eq!(closes(&hand_over(&mut window).unwrap()), [1.0, 2.0, 3.0]);
        window.take(&settings(), &[row(3, 3.1, BarState::Partial)]);
        assert!(hand_over(&mut window).is_none());
        window.take(&settings(), &[row(3, 3.2, BarState::Complete)]);
        assert_eq!(closes(&hand_over(&mut window).unwrap()), [1.0, 2.0, 3.2]);
        assert!(hand_over(&mut window).is_none());
    }

    #[test]
    fn the_features_come_with_the_candles_once_their_warm_up_is_there() {
        let settings = settings_with(&["close", "ema(2)", "column(news)", "column(none)"]);
        let told = Observation { at_ms: 0, known_ms: 12 * STEP_MS, value: 7.0 };
        let column = Column::new(vec![told], i64::MAX).unwrap();
        let columns: Columns = [("news".parse().unwrap(), column)].into_iter().collect();
        let mut window = Window::default();
        let candles: Vec<(Candle, BarState)> =
            (1..12).map(|step| row(step, step as f64, BarState::Complete)).collect();
        window.take(&settings, &candles);
        // Nine candles of warm-up and three rows make twelve.
        let early = window.hand_over(&settings, &columns).unwrap().features.unwrap();
        assert!(early.missing.contains(&"ema(2)".parse().unwrap()));
        window.take(&settings, &[row(12, 12.0, BarState::Complete)]);
        let input = window.hand_over(&settings, &columns).unwrap();
        assert_eq!(closes(&input), [10.0, 11.0, 12.0]);
        let features = input.features.unwrap();
        // Two rows close before the value of the column was known.
        assert_eq!(features.missing, ["column(news)", "column(none)"].map(|n| n.parse().unwrap()));
        assert_eq!((features.len(), features.features.len()), (3, 2));
        assert_eq!(features.column(&"close".parse().unwrap()).unwrap(), [10.0, 11.0, 12.0]);
        assert_eq!(window.len(), 12);
    }
}
