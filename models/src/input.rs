//! What a model sees and what it must answer.

use std::sync::Arc;

use forecastd_core::{Candle, FeatureSet, Interval, StreamId, Window};

use crate::error::ModelError;

/// The greatest horizon that any model accepts, steps. Bounds memory against bad configuration.
pub const MAX_HORIZON: usize = 10_000;

/// One question to a model.
#[derive(Debug, Clone)]
pub struct ModelInput {
    /// The stream that is forecast.
    pub stream: StreamId,
    /// Grid time of the forecast's start: the close time of the newest candle, ms since the epoch.
    pub start_ms: i64,
    /// Length of a candle and spacing of the forecast closes.
    pub interval: Interval,
    /// Number of closes to forecast; step 0 closes one interval after `start_ms`.
    pub horizon: usize,
    /// The lookback window: oldest first, gap-free, the newest closes at `start_ms`.
    pub candles: Arc<[Candle]>,
    /// Their features, a row a candle, the newest row for the newest candle; absent where nobody
    /// needs any.
    pub features: Option<Arc<Window>>,
}

/// Forecasts closes from a window of candles.
pub trait Forecaster: Send {
    /// Returns the name under which the model is configured.
    fn name(&self) -> &str;

    /// Returns the features that the model reads beside the candles, if it reads any.
    fn needs(&self) -> Option<&FeatureSet> {
        None
    }

    /// Returns `input.horizon` closes in quote currency, oldest first, all finite and above zero.
    ///
    /// # Errors
    /// [`ModelError`]; the model itself stays usable.
    fn forecast(&mut self, input: &ModelInput) -> Result<Vec<f64>, ModelError>;
}

impl ModelInput {
    /// Checks that the newest `need` candles are sound, gap-free and end at the start; returns them.
    ///
    /// # Errors
    /// [`ModelError`] names the first broken rule.
    pub fn window(&self, model: &str, need: usize) -> Result<&[Candle], ModelError> {
        if self.horizon == 0 || self.horizon > MAX_HORIZON {
            return Err(ModelError::Horizon {
                model: model.to_owned(),
                can: MAX_HORIZON,
                asked: self.horizon,
            });
        }
        let got = self.candles.len();
        let need = need.max(1);
        let Some(first) = got.checked_sub(need) else {
            return Err(ModelError::ShortWindow { model: model.to_owned(), need, got });
        };
        let window = &self.candles[first..];
        check_window(window, self.interval, self.start_ms)?;
        Ok(window)
    }

    /// Writes the rows of the features of `set` for the newest `need` candles, row after row, into
    /// `rows`.
    ///
    /// # Errors
    /// [`ModelError::Feature`] names the first feature that is not there, [`ModelError::Features`]
    /// what does not fit.
    pub fn feature_rows(
        &self,
        model: &str,
        set: &FeatureSet,
        need: usize,
        rows: &mut Vec<f64>,
    ) -> Result<(), ModelError> {
        let Some(window) = &self.features else {
            return Err(ModelError::Features("there are none"));
        };
        if window.end_ms != self.start_ms || window.interval != self.interval {
            return Err(ModelError::Features("they end at another time"));
        }
        let positions = set.names().iter().map(|feature| {
            window.position(feature).ok_or_else(|| ModelError::Feature {
                model: model.to_owned(),
                feature: feature.clone(),
                reason: if window.missing.contains(feature) {
                    "has no value in some row of the window"
                } else {
                    "is not among those of the stream, add it to the stream's `features`"
                },
            })
        });
        let positions = positions.collect::<Result<Vec<usize>, ModelError>>()?;
        let is_indicator = set.warm_up() > 0;
        if is_indicator && window.indicators != set.indicators() {
            return Err(ModelError::Features(
                "the model was trained on the other definition of the indicators, change the \
                 stream's `indicators`",
            ));
        }
        let Some(skipped) = window.len().checked_sub(need) else {
            let (model, got) = (model.to_owned(), window.len());
            return Err(ModelError::ShortWindow { model, need, got });
        };
        rows.clear();
        for row in window.rows.chunks_exact(window.features.len().max(1)).skip(skipped) {
            rows.extend(positions.iter().filter_map(|position| row.get(*position)));
        }
        if rows.iter().any(|value| !value.is_finite()) {
            return Err(ModelError::Features("a value is not finite"));
        }
        Ok(())
    }

    /// Returns the newest close, or 0 for an empty window (which [`Self::window`] refuses).
    pub fn last_close(&self) -> f64 {
        self.candles.last().map_or(0.0, |candle| candle.close)
    }
}

/// Checks that `window` is sound, gap-free and that its newest candle closes at `end_ms`.
fn check_window(window: &[Candle], interval: Interval, end_ms: i64) -> Result<(), ModelError> {
    let mut expected_ms = end_ms;
    for candle in window.iter().rev() {
        candle.validate(interval)?;
        expected_ms = expected_ms.saturating_sub(interval.as_ms());
        if candle.open_time_ms != expected_ms {
            return Err(ModelError::Gap { expected_ms, found_ms: candle.open_time_ms });
        }
    }
    Ok(())
}

/// Checks a model's answer: `horizon` finite prices above zero.
///
/// # Errors
/// [`ModelError::OutputLength`] or [`ModelError::OutputValue`] for the first bad value.
pub fn check_output(model: &str, closes: &[f64], horizon: usize) -> Result<(), ModelError> {
    if closes.len() != horizon {
        return Err(ModelError::OutputLength {
            model: model.to_owned(),
            got: closes.len(),
            want: horizon,
        });
    }
    let is_bad = |value: &f64| !value.is_finite() || *value <= 0.0;
    if let Some(index) = closes.iter().position(is_bad) {
        let value = closes[index];
        return Err(ModelError::OutputValue { model: model.to_owned(), index, value });
    }
    Ok(())
}

/// A forecaster whose answers are checked before anyone sees them.
pub(crate) struct Checked<F>(pub(crate) F);

impl<F: Forecaster> Forecaster for Checked<F> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn needs(&self) -> Option<&FeatureSet> {
        self.0.needs()
    }

    fn forecast(&mut self, input: &ModelInput) -> Result<Vec<f64>, ModelError> {
        let closes = self.0.forecast(input)?;
        check_output(self.0.name(), &closes, input.horizon)?;
        Ok(closes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A window of `closes` at five minutes that ends at a grid time in 2024.
    pub(crate) fn input_of(closes: &[f64], horizon: usize) -> ModelInput {
        let interval = Interval::FIVE_MINUTES;
        let start_ms = 1_717_200_000_000;
        let count = i64::try_from(closes.len()).unwrap();
        let candles = closes
            .iter()
            .zip(0_i64..)
            .map(|(close, index)| Candle {
                open_time_ms: start_ms - (count - index) * interval.as_ms(),
                open: *close,
                high: *close,
                low: *close,
                close: *close,
                volume: 1.0,
                trade_count: None,
            })
            .collect();
        let (stream, features) = (StreamId("BTCUSD-5m".into()), None);
        ModelInput { stream, start_ms, interval, horizon, candles, features }
    }

    #[test]
    fn a_sound_window_is_accepted_and_cut_to_the_newest_candles() {
        let input = input_of(&[1.0, 2.0, 3.0], 5);
        let window = input.window("m", 2).unwrap();
        assert_eq!(window.iter().map(|c| c.close).collect::<Vec<_>>(), [2.0, 3.0]);
    }

    #[test]
    fn bad_windows_are_refused_with_the_broken_rule() {
        let sound = input_of(&[1.0, 2.0, 3.0], 5);
        let change = |edit: fn(&mut Vec<Candle>)| {
            let mut candles = sound.candles.to_vec();
            edit(&mut candles);
            let input = ModelInput { candles: candles.into(), ..sound.clone() };
            input.window("m", 2).map(<[Candle]>::len)
        };
        assert!(matches!(change(|c| c.truncate(1)), Err(ModelError::ShortWindow { .. })));
        assert!(matches!(change(|c| c.truncate(2)), Err(ModelError::Gap { .. })));
        assert!(matches!(
            change(|c| {
                c.remove(1);
            }),
            Err(ModelError::Gap { .. })
        ));
        assert!(matches!(change(|c| c.swap(1, 2)), Err(ModelError::Gap { .. })));
        assert!(matches!(change(|c| c[2].close = f64::NAN), Err(ModelError::Candle(_))));
        assert!(matches!(change(|c| c[1].low = -1.0), Err(ModelError::Candle(_))));
        let late = ModelInput { start_ms: sound.start_ms + 300_000, ..sound.clone() };
        assert!(matches!(late.window("m", 1), Err(ModelError::Gap { .. })));
        let endless = ModelInput { horizon: usize::MAX, ..sound.clone() };
        assert!(matches!(endless.window("m", 1), Err(ModelError::Horizon { .. })));
    }

    #[test]
    fn features_are_found_by_name_and_must_belong_to_the_candles() {
        use forecastd_core::{Columns, Compatibility, FeatureTable};
        let of = |names: &[&str], indicators| {
            let names = names.iter().map(|name| name.parse().unwrap()).collect();
            FeatureSet::new(names, indicators).unwrap()
        };
        let closes: Vec<f64> = (1..30).map(f64::from).collect();
        let sound = input_of(&closes, 5);
        let standard = Compatibility::Standard;
        let given = of(&["low", "ema(2)", "close"], standard);
        let table = FeatureTable::new(&sound.candles, sound.interval, &Columns::default(), given);
        let window = table.window(&sound.stream, 24, 28).unwrap();
        let input = ModelInput { features: Some(Arc::new(window.clone())), ..sound.clone() };
        let mut rows = Vec::new();
        let wanted = of(&["close", "low"], Compatibility::Seed);
        input.feature_rows("m", &wanted, 2, &mut rows).unwrap();
        assert_eq!(rows, [28.0, 28.0, 29.0, 29.0]);
        let mut refused = |input: &ModelInput, set: &FeatureSet, need| {
            input.feature_rows("m", set, need, &mut rows).unwrap_err().to_string()
        };
        assert!(refused(&input, &wanted, 6).contains("needs 6 candles"));
        assert!(refused(&sound, &wanted, 2).contains("there are none"));
        let late = ModelInput { start_ms: sound.start_ms + 300_000, ..input.clone() };
        assert!(refused(&late, &wanted, 2).contains("another time"));
        let seed = of(&["ema(2)"], Compatibility::Seed);
        assert!(refused(&input, &seed, 2).contains("`indicators`"));
        let more = of(&["close", "rsi(2)"], standard);
        assert!(refused(&input, &more, 2).contains("rsi(2), which is not among"));
        let missing = vec!["rsi(2)".parse().unwrap()];
        let mut changed = Window { missing, ..window };
        let of_window = |window: &Window| ModelInput {
            features: Some(Arc::new(window.clone())),
            ..sound.clone()
        };
        assert!(refused(&of_window(&changed), &more, 2).contains("no value"));
        changed.rows[14] = f64::NAN;
        assert!(refused(&of_window(&changed), &wanted, 2).contains("not finite"));
    }

    #[test]
    fn answers_of_wrong_length_or_value_do_not_leave() {
        struct Fixed(Vec<f64>);
        impl Forecaster for Fixed {
            fn name(&self) -> &'static str {
                "fixed"
            }
            fn forecast(&mut self, _: &ModelInput) -> Result<Vec<f64>, ModelError> {
                Ok(self.0.clone())
            }
        }
        let input = input_of(&[1.0], 2);
        let answer = |values: &[f64]| Checked(Fixed(values.to_vec())).forecast(&input);
        assert_eq!(answer(&[1.0, 2.0]).unwrap(), [1.0, 2.0]);
        assert!(matches!(answer(&[1.0]), Err(ModelError::OutputLength { got: 1, want: 2, .. })));
        for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            let refused = answer(&[1.0, bad]);
            assert!(matches!(refused, Err(ModelError::OutputValue { index: 1, .. })), "{bad}");
        }
    }
}
