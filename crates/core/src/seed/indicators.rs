//! The reference's indicators. The better ones: [`crate::indicators`], which look at no later close
//! and skip none.

use std::cmp::Ordering;

use crate::seed::SeedError;

/// Relative strength index whose first value already uses the next close and counts one change twice.
///
/// # Errors
/// [`SeedError::Value`] below `period` closes.
///
/// Golden data: `indicators/rsi.json`, 1e-12 relative.
pub fn rsi(closes: &[f64], period: usize) -> Result<Vec<Option<f64>>, SeedError> {
    if period == 0 || closes.len() < period {
        return Err(SeedError::Value);
    }
    let changes: Vec<f64> = closes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let gain_of = |change: f64| if change > 0.0 { change } else { 0.0 };
    let loss_of = |change: f64| if change < 0.0 { -change } else { 0.0 };
    let count = period as f64;
    let first = &changes[..period.min(changes.len())];
    let mut gain = first.iter().map(|change| gain_of(*change)).sum::<f64>() / count;
    let mut loss = first.iter().map(|change| loss_of(*change)).sum::<f64>() / count;
    let index = |gain: f64, loss: f64| {
        if loss.abs() <= 0.0 { 100.0 } else { 100.0 - 100.0 / (1.0 + gain / loss) }
    };
    let mut result = vec![None; period - 1];
    result.push(Some(index(gain, loss)));
    for change in changes.iter().skip(period - 1) {
        gain = (gain * (count - 1.0) + gain_of(*change)) / count;
        loss = (loss * (count - 1.0) + loss_of(*change)) / count;
        result.push(Some(index(gain, loss)));
    }
    Ok(result)
}

/// Exponential average that begins one step late, so that one close is never used.
///
/// Golden data: `indicators/ema.json`, 1e-12 relative.
pub fn ema(closes: &[f64], length: usize) -> Vec<Option<f64>> {
    let alpha = 2.0 / (length as f64 + 1.0);
    let mut average = closes.iter().take(length).sum::<f64>() / length as f64;
    let mut result = vec![None; length];
    result.push(Some(average));
    for close in closes.iter().skip(length + 1) {
        average = (close - average) * alpha + average;
        result.push(Some(average));
    }
    result
}

/// MACD and its signal from exponential averages without warm-up; NaN where the input is NaN.
///
/// Golden data: `indicators/macd.json`, 1e-12 relative.
pub fn macd(closes: &[f64], short: usize, long: usize, signal: usize) -> (Vec<f64>, Vec<f64>) {
    let lines = weighted(closes, short).into_iter().zip(weighted(closes, long));
    let line: Vec<f64> = lines.map(|(fast, slow)| fast - slow).collect();
    let signal = weighted(&line, signal);
    (line, signal)
}

/// Exponentially weighted mean with carried weights over gaps.
fn weighted(values: &[f64], span: usize) -> Vec<f64> {
    let alpha = 2.0 / (span as f64 + 1.0);
    let keep = 1.0 - alpha;
    let mut mean = f64::NAN;
    let mut old_weight = 1.0;
    let mut result = Vec::with_capacity(values.len());
    for value in values {
        if mean.is_nan() {
            mean = *value;
        } else {
            old_weight *= keep;
            if !value.is_nan() {
                // Equal values stay exactly as they are.
                if mean.partial_cmp(value) != Some(Ordering::Equal) {
                    mean = (old_weight * mean + alpha * value) / (old_weight + alpha);
                }
                old_weight = 1.0;
            }
        }
        result.push(mean);
    }
    result
}

/// Middle, upper and lower band with the sample deviation; NaN before the first window.
///
/// Golden data: `indicators/bollinger.json`, 1e-9 relative; kind `large_jump` differs on purpose.
pub fn bollinger(closes: &[f64], window: usize, deviations: f64) -> [Vec<f64>; 3] {
    let mut bands = [const { Vec::new() }; 3];
    for end in 1..=closes.len() {
        let part = end.checked_sub(window).and_then(|start| closes.get(start..end));
        let (mean, deviation) = part.map_or((f64::NAN, f64::NAN), mean_and_sample_deviation);
        bands[0].push(mean);
        bands[1].push(mean + deviations * deviation);
        bands[2].push(mean - deviations * deviation);
    }
    bands
}

fn mean_and_sample_deviation(part: &[f64]) -> (f64, f64) {
    let count = part.len() as f64;
    let mean = part.iter().sum::<f64>() / count;
    let is_flat = part.windows(2).all(|pair| pair[0].total_cmp(&pair[1]).is_eq());
    if is_flat && part.len() > 1 {
        return (part[0], 0.0);
    }
    let squares: f64 = part.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, (squares / (count - 1.0)).sqrt())
}
