//! The recorded sample that the program carries.

use forecastd_core::{Candle, Interval};
use forecastd_history::{CandleFile, HistoryError};

/// Interval of the embedded sample.
pub const EMBEDDED_INTERVAL: Interval = Interval::FIVE_MINUTES;
const EMBEDDED: &[u8] = include_bytes!("../../../../data/btcusd-5m.csv.gz");
const EMBEDDED_NAME: &str = "data/btcusd-5m.csv.gz";

/// Returns the embedded sample: BTC/USDT in five minutes, 2024-07-01 to 2025-02-14, no gap.
///
/// # Errors
/// [`HistoryError`] when the program was built with a damaged file.
pub fn embedded() -> Result<Vec<Candle>, HistoryError> {
    CandleFile::from_bytes(EMBEDDED_NAME, EMBEDDED)?.strict(EMBEDDED_INTERVAL)?.collect_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_sample_is_whole() {
        let candles = embedded().unwrap();
        assert_eq!(candles.len(), 65_952);
        assert_eq!(candles[0].open_time_ms, 1_719_792_000_000);
        assert_eq!(candles[0].close.to_bits(), 62_722.08_f64.to_bits());
        let step = EMBEDDED_INTERVAL.as_ms();
        assert!(candles.windows(2).all(|two| two[1].open_time_ms - two[0].open_time_ms == step));
        assert_eq!(candles.last().unwrap().open_time_ms, 1_739_577_300_000);
    }
}
