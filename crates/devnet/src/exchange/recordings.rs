//! Recordings of several exchanges over the same days: the embedded set, and a file or folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forecastd_core::{Candle, Interval};
use forecastd_exchange::Exchange;
use forecastd_history::{CandleFile, HistoryError, read_candles};

/// Interval of the embedded set.
pub const EMBEDDED_INTERVAL: Interval = Interval::FIVE_MINUTES;

macro_rules! embedded {
    ($exchange:expr, $name:literal) => {{
        let path = concat!("data/multi-exchange-2023-03/", $name, "-5m.csv.gz");
        let bytes: &[u8] = include_bytes!(concat!(
            "../../../../data/multi-exchange-2023-03/",
            $name,
            "-5m.csv.gz"
        ));
        ($exchange, path, bytes)
    }};
}

const EMBEDDED: [(Exchange, &str, &[u8]); 5] = [
    embedded!(Exchange::Binance, "binance"),
    embedded!(Exchange::Bybit, "bybit"),
    embedded!(Exchange::Coinbase, "coinbase"),
    // Both interfaces are of the same market.
    embedded!(Exchange::CoinbaseAdvanced, "coinbase"),
    embedded!(Exchange::Kraken, "kraken"),
];

/// A recording for each exchange.
pub type Recordings = BTreeMap<Exchange, Vec<Candle>>;

/// Why recordings of several exchanges are refused.
#[derive(Debug, thiserror::Error)]
pub enum RecordingsError {
    /// The folder cannot be read.
    #[error("folder of recordings {path} cannot be read, check the path")]
    Folder {
        /// Path as given.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing of use in the folder.
    #[error("folder of recordings {path} has no file such as binance-5m.csv.gz")]
    Empty {
        /// Path as given.
        path: PathBuf,
    },
    /// Two files claim to be of the same exchange.
    #[error("recordings {first} and {second} are both of {exchange}, keep one of them")]
    Ambiguous {
        /// The exchange.
        exchange: Exchange,
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },
    /// A file is refused.
    #[error(transparent)]
    File(#[from] HistoryError),
}

/// Returns the embedded set: 2023-03-01 to 2023-03-17 in five minutes, each exchange's own prices
/// and its own holes. `data/multi-exchange-2023-03/README.md` says where it comes from.
///
/// # Errors
/// [`HistoryError`] when the program was built with a damaged file.
pub fn multi_exchange() -> Result<Recordings, HistoryError> {
    let read = |(exchange, path, bytes): (Exchange, &str, &'static [u8])| {
        let rows = CandleFile::from_bytes(path, bytes)?.strict(EMBEDDED_INTERVAL)?;
        Ok((exchange, rows.collect_all()?))
    };
    EMBEDDED.into_iter().map(read).collect()
}

/// Reads candles of `interval` from a file, which then stands for every exchange, or from a folder
/// with a file `<exchange>*.csv` or `<exchange>*.csv.gz` for each, for example `kraken-5m.csv.gz`.
///
/// # Errors
/// [`RecordingsError`] names the file.
pub fn load(path: &Path, interval: Interval) -> Result<Recordings, RecordingsError> {
    if !path.is_dir() {
        let candles = read_candles(path, interval)?;
        return Ok(Exchange::ALL.into_iter().map(|one| (one, candles.clone())).collect());
    }
    let folder = |source| RecordingsError::Folder { path: path.to_owned(), source };
    let mut files: BTreeMap<Exchange, PathBuf> = BTreeMap::new();
    for entry in path.read_dir().map_err(folder)? {
        let file = entry.map_err(folder)?.path();
        let Some(exchange) = exchange_of(&file) else { continue };
        if let Some(other) = files.insert(exchange, file.clone()) {
            let (first, second) = if other < file { (other, file) } else { (file, other) };
            return Err(RecordingsError::Ambiguous { exchange, first, second });
        }
    }
    if files.is_empty() {
        return Err(RecordingsError::Empty { path: path.to_owned() });
    }
    let read =
        |(exchange, file): (Exchange, PathBuf)| Ok((exchange, read_candles(&file, interval)?));
    files.into_iter().map(read).collect()
}

/// The exchange whose name begins the file's, where the name ends there. The longest one counts.
fn exchange_of(file: &Path) -> Option<Exchange> {
    let name = file.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".csv")?;
    let is_of = |exchange: &Exchange| {
        let rest = stem.strip_prefix(exchange.as_str());
        rest.is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_alphanumeric()))
    };
    Exchange::ALL.into_iter().filter(is_of).max_by_key(|exchange| exchange.as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_677_628_800_000;
    const END_MS: i64 = 1_679_097_600_000;
    const STEP_MS: i64 = 300_000;

    #[test]
    fn the_embedded_set_covers_the_same_days_with_each_exchanges_holes() {
        let all = multi_exchange().unwrap();
        let whole = usize::try_from((END_MS - START_MS) / STEP_MS).unwrap();
        for (exchange, candles) in &all {
            assert_eq!(candles[0].open_time_ms, START_MS, "{exchange}");
            assert_eq!(candles.last().unwrap().open_time_ms, END_MS - STEP_MS, "{exchange}");
            assert!(candles.iter().all(|candle| candle.volume > 0.0), "{exchange}");
        }
        let missing: Vec<usize> = all.values().map(|candles| whole - candles.len()).collect();
        assert_eq!(missing, MISSING);
        // Silicon Valley Bank: USDC fell off its peg, so that Bybit's BTC/USDC rose above the rest.
        let at = |exchange: Exchange, open_ms: i64| {
            let found = all[&exchange].iter().find(|candle| candle.open_time_ms == open_ms);
            found.unwrap().close
        };
        let saturday_ms = 1_678_521_600_000;
        let ratio = at(Exchange::Bybit, saturday_ms) / at(Exchange::Binance, saturday_ms);
        assert!((1.05..1.2).contains(&ratio), "{ratio}");
    }

    /// Of Binance, Bybit, twice Coinbase, and Kraken.
    const MISSING: [usize; 5] = [0, 0, 55, 55, 1];

    #[test]
    fn names_of_files_name_the_exchange() {
        let of = |name: &str| exchange_of(Path::new("x").join(name).as_path());
        assert_eq!(of("binance-5m.csv.gz"), Some(Exchange::Binance));
        assert_eq!(of("kraken.csv"), Some(Exchange::Kraken));
        assert_eq!(of("bybit_BTCUSDC.csv"), Some(Exchange::Bybit));
        assert_eq!(of("coinbase-5m.csv"), Some(Exchange::Coinbase));
        assert_eq!(of("coinbase_advanced-5m.csv"), Some(Exchange::CoinbaseAdvanced));
        for name in ["binanceus-5m.csv", "README.md", "binance-5m.json", "5m-binance.csv", ".csv"] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn a_folder_has_one_file_an_exchange_and_a_file_stands_for_all() {
        let text = "open_time_ms,open,high,low,close,volume\n0,1,2,0.5,1.5,3\n";
        let folder = tempfile::tempdir().unwrap();
        let empty = load(folder.path(), EMBEDDED_INTERVAL).unwrap_err();
        assert!(matches!(empty, RecordingsError::Empty { .. }), "{empty}");
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("kraken-5m.csv"), text).unwrap();
        std::fs::write(file("bybit.csv"), text.replace("1.5", "1.25")).unwrap();
        std::fs::write(file("README.md"), "words").unwrap();
        let all = load(folder.path(), EMBEDDED_INTERVAL).unwrap();
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), [Exchange::Bybit, Exchange::Kraken]);
        assert_eq!(all[&Exchange::Bybit][0].close.to_bits(), 1.25_f64.to_bits());
        let one = load(&file("kraken-5m.csv"), EMBEDDED_INTERVAL).unwrap();
        assert!(one.keys().copied().eq(Exchange::ALL));
        std::fs::write(file("kraken-1m.csv"), text).unwrap();
        let twice = load(folder.path(), EMBEDDED_INTERVAL).unwrap_err().to_string();
        assert!(twice.contains("kraken-1m.csv and") && twice.contains("kraken-5m.csv"), "{twice}");
        let missing = load(&file("nothing"), EMBEDDED_INTERVAL).unwrap_err().to_string();
        assert!(missing.contains("nothing"), "{missing}");
    }
}
