//! Technical indicators in their usual definitions. No value looks at a later close, and none is
//! shown before enough closes are there.
//!
//! All functions: `closes` oldest first; the result has the same length, `None` where no value
//! exists. A close that is not finite is an error of the caller and gives `None` for all values that
//! depend on it.

/// The two lines of [`macd`].
#[derive(Debug, Clone, PartialEq)]
pub struct Macd {
    /// Short minus long average.
    pub line: Vec<Option<f64>>,
    /// Average of the line.
    pub signal: Vec<Option<f64>>,
}

/// The three lines of [`bollinger`].
#[derive(Debug, Clone, PartialEq)]
pub struct Bollinger {
    /// Moving average.
    pub middle: Vec<Option<f64>>,
    /// Average plus deviations.
    pub upper: Vec<Option<f64>>,
    /// Average minus deviations.
    pub lower: Vec<Option<f64>>,
}

/// Exponential moving average, α = 2 / (length + 1), that begins at index `length - 1` with the
/// plain mean of the first `length` closes.
pub fn ema(closes: &[f64], length: usize) -> Vec<Option<f64>> {
    let values: Vec<Option<f64>> = closes.iter().copied().map(finite).collect();
    ema_of(&values, length)
}

/// Relative strength index by Wilder's smoothing, 0..=100, from index `period` on; 50 when nothing
/// has moved.
pub fn rsi(closes: &[f64], period: usize) -> Vec<Option<f64>> {
    let mut result = vec![None; closes.len()];
    if period == 0 || closes.len() <= period {
        return result;
    }
    let changes: Vec<f64> = closes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let count = period as f64;
    let first = &changes[..period];
    let mut gain = first.iter().map(|change| change.max(0.0)).sum::<f64>() / count;
    let mut loss = first.iter().map(|change| (-change).max(0.0)).sum::<f64>() / count;
    let mut is_broken = first.iter().any(|change| !change.is_finite());
    for index in period..closes.len() {
        if index > period {
            let change = changes[index - 1];
            is_broken |= !change.is_finite();
            gain = (gain * (count - 1.0) + change.max(0.0)) / count;
            loss = (loss * (count - 1.0) + (-change).max(0.0)) / count;
        }
        let total = gain + loss;
        let value = if total > 0.0 { 100.0 * (gain / total) } else { 50.0 };
        result[index] = finite(value).filter(|_| !is_broken);
    }
    result
}

/// Moving average convergence and divergence; each average begins with the mean of its first values.
pub fn macd(closes: &[f64], short: usize, long: usize, signal: usize) -> Macd {
    let lines = ema(closes, short).into_iter().zip(ema(closes, long));
    let line: Vec<Option<f64>> = lines.map(|(fast, slow)| finite(fast? - slow?)).collect();
    let signal = ema_of(&line, signal);
    Macd { line, signal }
}

/// Moving average with bands `deviations` population standard deviations away, from index
/// `window - 1` on. Each window is computed anew, so no rounding is carried along.
pub fn bollinger(closes: &[f64], window: usize, deviations: f64) -> Bollinger {
    let mut bands = Bollinger {
        middle: vec![None; closes.len()],
        upper: vec![None; closes.len()],
        lower: vec![None; closes.len()],
    };
    if window == 0 {
        return bands;
    }
    for (offset, part) in closes.windows(window).enumerate() {
        let (mean, deviation) = crate::numeric::mean_and_deviation(part);
        let index = offset + window - 1;
        bands.middle[index] = finite(mean);
        bands.upper[index] = finite(mean + deviations * deviation);
        bands.lower[index] = finite(mean - deviations * deviation);
    }
    bands
}

/// The average over values that begin at some index; a gap after that ends it.
fn ema_of(values: &[Option<f64>], length: usize) -> Vec<Option<f64>> {
    let mut result = vec![None; values.len()];
    let Some(start) = values.iter().position(Option::is_some) else { return result };
    if length == 0 {
        return result;
    }
    let alpha = 2.0 / (length as f64 + 1.0);
    let mut average: Option<f64> = None;
    for index in start + length - 1..values.len() {
        average = match average {
            None if index == start + length - 1 => {
                let seed: Option<Vec<f64>> = values[start..=index].iter().copied().collect();
                seed.and_then(|seed| finite(seed.iter().sum::<f64>() / length as f64))
            }
            Some(previous) => {
                values[index].and_then(|value| finite(previous + alpha * (value - previous)))
            }
            None => None,
        };
        result[index] = average;
    }
    result
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: Option<f64>, want: f64) {
        let got = got.unwrap();
        assert!((got - want).abs() < 1e-9, "{got} {want}");
    }

    #[test]
    fn ema_uses_every_close_once() {
        let values = ema(&[1.0, 2.0, 3.0, 10.0], 3);
        assert_eq!(values[..2], [None, None]);
        near(values[2], 2.0);
        near(values[3], 6.0);
    }

    #[test]
    fn rsi_of_rising_falling_and_flat_markets() {
        let rising: Vec<f64> = (0..20).map(f64::from).collect();
        let falling: Vec<f64> = rising.iter().rev().copied().collect();
        assert_eq!(rsi(&rising, 14)[..14], [None; 14]);
        near(rsi(&rising, 14)[14], 100.0);
        near(rsi(&falling, 14)[19], 0.0);
        near(rsi(&[5.0; 20], 14)[19], 50.0);
        assert!(rsi(&[5.0; 14], 14).iter().all(Option::is_none));
    }

    #[test]
    fn rsi_of_a_known_series() {
        // First average: gains 1 + 2 over 3 changes, loss 1; then one step of Wilder's smoothing.
        let values = rsi(&[10.0, 11.0, 10.0, 12.0, 11.0], 3);
        near(values[3], 75.0);
        let (gain, loss) = (2.0 / 3.0, (2.0 / 3.0 + 1.0) / 3.0);
        near(values[4], 100.0 * gain / (gain + loss));
    }

    #[test]
    fn macd_of_a_straight_line_is_constant() {
        let closes: Vec<f64> = (0..60).map(f64::from).collect();
        let macd = macd(&closes, 12, 26, 9);
        assert_eq!(macd.line.iter().position(Option::is_some), Some(25));
        assert_eq!(macd.signal.iter().position(Option::is_some), Some(33));
        near(macd.line[59], 7.0);
        near(macd.signal[59], 7.0);
    }

    #[test]
    fn bands_forget_large_values_completely() {
        let bands = bollinger(&[1e9, 1e9 + 1.0, 1.0, 2.0, 3.0], 3, 2.0);
        near(bands.middle[4], 2.0);
        near(bands.upper[4], 2.0 + 2.0 * (2.0_f64 / 3.0).sqrt());
        assert_eq!(bollinger(&[5.0, 5.0], 2, 2.0).upper[1], Some(5.0));
    }

    #[test]
    fn no_value_depends_on_a_later_close() {
        let closes: Vec<f64> = (0..50).map(|i| 100.0 + f64::from((i * 7) % 13)).collect();
        for cut in [20, 35] {
            assert_eq!(rsi(&closes, 14)[..cut], rsi(&closes[..cut], 14)[..]);
            assert_eq!(ema(&closes, 9)[..cut], ema(&closes[..cut], 9)[..]);
            let whole = macd(&closes, 3, 6, 4);
            assert_eq!(whole.signal[..cut], macd(&closes[..cut], 3, 6, 4).signal[..]);
        }
    }

    #[test]
    fn a_bad_close_gives_no_values_instead_of_nan() {
        let closes = [1.0, f64::NAN, 3.0, 4.0, 5.0, 6.0];
        assert!(ema(&closes, 2).iter().all(Option::is_none));
        assert!(macd(&closes, 2, 3, 2).signal.iter().all(Option::is_none));
        assert!(rsi(&closes, 2).iter().all(Option::is_none));
        let bands = bollinger(&closes, 2, 2.0);
        assert_eq!(bands.middle[2], None);
        near(bands.middle[3], 3.5);
    }
}
