//! One input series of a model as text: `close`, `rsi(14)`, `macd(12,26,9)`, `column(funding)`.
//!
//! Each value looks at a fixed number of candles ([`FeatureSpec::warm_up`] and its own), so it is the
//! same in every window that holds its row, in training and live.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::FeatureId;
use crate::indicators;
use crate::seed;
use crate::settings::Compatibility;

/// Lengths of an exponential average that its history spans: the weight of the mean that it begins
/// with has then fallen to `e^-8`, 0.03 %.
const AVERAGE_LENGTHS: usize = 5;
/// The same for Wilder's smoothing, whose α is half as large: `e^-9`, 0.01 %.
const WILDER_LENGTHS: usize = 10;
/// Longest length of an indicator, candles; keeps the greatest warm-up at 5000 candles.
const MAX_LENGTH: u16 = 500;
/// Longest name of a column, bytes.
const MAX_COLUMN_NAME: usize = 64;
/// Longest piece of a refused text that an error repeats, characters.
const MAX_SHOWN: usize = 60;

/// All forms of a feature, for error texts and documentation.
pub const FEATURE_FORMS: &str = "open, high, low, close, volume, trade_count, epoch_ms, time_of_day, \
     time_of_week, time_of_month, time_of_year, rsi(LENGTH), ema(LENGTH), macd(FAST,SLOW,SIGNAL), \
     macd_signal(FAST,SLOW,SIGNAL), macd_histogram(FAST,SLOW,SIGNAL), \
     bollinger_high(LENGTH,DEVIATIONS), bollinger_low(LENGTH,DEVIATIONS) or column(NAME)";

/// Lengths of a MACD, candles: fast below slow, both and the signal 2..=500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacdLengths {
    fast: u16,
    slow: u16,
    signal: u16,
}

/// Length and width of Bollinger's bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BollingerSize {
    length: u16,
    /// Width in hundredths of a standard deviation, so that specs can be compared.
    hundredths: u16,
}

/// Name of an extra column: 1 to 64 letters, digits, `.`, `_` or `-`, not beginning with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ColumnName(String);

/// One input series of a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FeatureSpec {
    /// A field of the candle, or where its close lies in the calendar.
    Plain(FeatureId),
    /// Relative strength index, 0..=100.
    Rsi(u16),
    /// Exponential average of the closes.
    Ema(u16),
    /// Fast minus slow average of the closes.
    Macd(MacdLengths),
    /// Average of [`Self::Macd`].
    MacdSignal(MacdLengths),
    /// [`Self::Macd`] minus [`Self::MacdSignal`].
    MacdHistogram(MacdLengths),
    /// Upper Bollinger band.
    BollingerHigh(BollingerSize),
    /// Lower Bollinger band.
    BollingerLow(BollingerSize),
    /// A column that does not come from candles.
    Column(ColumnName),
}

/// Why a text is no feature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureSpecError {
    /// No feature has this name.
    #[error("feature `{0}` is unknown, use {FEATURE_FORMS}")]
    Unknown(String),
    /// The name is known, what follows it is not as it must be.
    #[error("feature `{text}` is not written as {form}")]
    Form {
        /// The refused text, shortened.
        text: String,
        /// How it is written.
        form: &'static str,
    },
    /// A column has no possible name.
    #[error(
        "column name `{0}` must be 1 to 64 letters, digits, `.`, `_` or `-`, not beginning with a dot"
    )]
    ColumnName(String),
}

const RSI: &str = "rsi(LENGTH) with a length of 2..500 candles";
const EMA: &str = "ema(LENGTH) with a length of 2..500 candles";
const MACD: &str = "NAME(FAST,SLOW,SIGNAL) with lengths of 2..500 candles, the fast one below the \
     slow one";
const BOLLINGER: &str = "NAME(LENGTH,DEVIATIONS) with a length of 2..500 candles and 0.01..10 \
     standard deviations in steps of 0.01";
const PLAIN: &str = "a name without brackets";

impl ColumnName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ColumnName {
    type Err = FeatureSpecError;

    fn from_str(text: &str) -> Result<Self, FeatureSpecError> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let is_name = (1..=MAX_COLUMN_NAME).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(is_allowed);
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(FeatureSpecError::ColumnName(shorten(text)))
        }
    }
}

impl TryFrom<String> for ColumnName {
    type Error = FeatureSpecError;

    fn try_from(text: String) -> Result<Self, FeatureSpecError> {
        text.parse()
    }
}

impl From<ColumnName> for String {
    fn from(name: ColumnName) -> Self {
        name.0
    }
}

impl MacdLengths {
    const fn history(self) -> usize {
        AVERAGE_LENGTHS * (self.slow as usize + self.signal as usize)
    }
}

impl FeatureSpec {
    /// Returns the number of candles before a row that its value looks at.
    pub const fn warm_up(&self) -> usize {
        self.history() - 1
    }

    /// Returns the number of candles that a value looks at, its own included.
    const fn history(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Column(_) => 1,
            // A change needs the close before it.
            Self::Rsi(length) => WILDER_LENGTHS * *length as usize + 1,
            Self::Ema(length) => AVERAGE_LENGTHS * *length as usize,
            Self::Macd(lengths) | Self::MacdSignal(lengths) | Self::MacdHistogram(lengths) => {
                lengths.history()
            }
            Self::BollingerHigh(size) | Self::BollingerLow(size) => size.length as usize,
        }
    }

    /// Tells whether the value is a price, which only means something beside other prices.
    pub const fn is_price(&self) -> bool {
        match self {
            Self::Plain(id) => {
                matches!(*id, FeatureId::OPEN | FeatureId::HIGH | FeatureId::LOW | FeatureId::CLOSE)
            }
            Self::Ema(_) | Self::BollingerHigh(_) | Self::BollingerLow(_) => true,
            _ => false,
        }
    }

    /// Returns the name of the extra column that the feature is, if it is one.
    pub const fn column(&self) -> Option<&ColumnName> {
        match self {
            Self::Column(name) => Some(name),
            _ => None,
        }
    }

    /// Computes an indicator for the newest of `closes`; `None` for features that are none and where
    /// no value exists.
    ///
    /// `closes`: oldest first. Only the newest [`Self::warm_up`] + 1 are looked at, so that the value
    /// does not depend on how far back somebody remembers.
    pub(super) fn indicator(&self, closes: &[f64], rules: Compatibility) -> Option<f64> {
        let past = closes.get(closes.len().checked_sub(self.history())?..)?;
        let newest = |values: Vec<Option<f64>>| values.last().copied().flatten();
        let is_seed = rules == Compatibility::Seed;
        let value = match self {
            Self::Plain(_) | Self::Column(_) => None,
            Self::Rsi(length) if is_seed => {
                seed::indicators::rsi(past, usize::from(*length)).ok().and_then(newest)
            }
            Self::Rsi(length) => newest(indicators::rsi(past, usize::from(*length))),
            Self::Ema(length) if is_seed => {
                newest(seed::indicators::ema(past, usize::from(*length)))
            }
            Self::Ema(length) => newest(indicators::ema(past, usize::from(*length))),
            Self::Macd(lengths) => Some(macd(past, *lengths, rules)?.0),
            Self::MacdSignal(lengths) => Some(macd(past, *lengths, rules)?.1),
            Self::MacdHistogram(lengths) => {
                let (line, signal) = macd(past, *lengths, rules)?;
                Some(line - signal)
            }
            Self::BollingerHigh(size) => Some(bollinger(past, *size, rules)?.0),
            Self::BollingerLow(size) => Some(bollinger(past, *size, rules)?.1),
        };
        value.filter(|value| value.is_finite())
    }
}

/// Returns the newest line and signal.
fn macd(closes: &[f64], lengths: MacdLengths, rules: Compatibility) -> Option<(f64, f64)> {
    let MacdLengths { fast, slow, signal } = lengths;
    let (fast, slow, signal) = (usize::from(fast), usize::from(slow), usize::from(signal));
    if rules == Compatibility::Seed {
        let (line, signal) = seed::indicators::macd(closes, fast, slow, signal);
        return line.last().copied().zip(signal.last().copied());
    }
    let lines = indicators::macd(closes, fast, slow, signal);
    lines.line.last().copied().flatten().zip(lines.signal.last().copied().flatten())
}

/// Returns the newest upper and lower band.
fn bollinger(closes: &[f64], size: BollingerSize, rules: Compatibility) -> Option<(f64, f64)> {
    let (length, deviations) = (usize::from(size.length), f64::from(size.hundredths) / 100.0);
    if rules == Compatibility::Seed {
        let [_, high, low] = seed::indicators::bollinger(closes, length, deviations);
        return high.last().copied().zip(low.last().copied());
    }
    let bands = indicators::bollinger(closes, length, deviations);
    bands.upper.last().copied().flatten().zip(bands.lower.last().copied().flatten())
}

impl From<FeatureId> for FeatureSpec {
    fn from(id: FeatureId) -> Self {
        Self::Plain(id)
    }
}

impl fmt::Display for FeatureSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let macd = |f: &mut fmt::Formatter<'_>, name: &str, lengths: &MacdLengths| {
            write!(f, "{name}({},{},{})", lengths.fast, lengths.slow, lengths.signal)
        };
        let bollinger = |f: &mut fmt::Formatter<'_>, name: &str, size: &BollingerSize| {
            write!(f, "{name}({},{})", size.length, f64::from(size.hundredths) / 100.0)
        };
        match self {
            Self::Plain(id) => id.fmt(f),
            Self::Rsi(length) => write!(f, "rsi({length})"),
            Self::Ema(length) => write!(f, "ema({length})"),
            Self::Macd(lengths) => macd(f, "macd", lengths),
            Self::MacdSignal(lengths) => macd(f, "macd_signal", lengths),
            Self::MacdHistogram(lengths) => macd(f, "macd_histogram", lengths),
            Self::BollingerHigh(size) => bollinger(f, "bollinger_high", size),
            Self::BollingerLow(size) => bollinger(f, "bollinger_low", size),
            Self::Column(name) => write!(f, "column({name})"),
        }
    }
}

impl FromStr for FeatureSpec {
    type Err = FeatureSpecError;

    fn from_str(text: &str) -> Result<Self, FeatureSpecError> {
        let text = text.trim();
        let (name, arguments) = match text.split_once('(') {
            Some((name, rest)) => (name.trim_end(), rest.strip_suffix(')')),
            None => (text, None),
        };
        let wrong = |form| FeatureSpecError::Form { text: shorten(text), form };
        let parts: Vec<&str> =
            arguments.map_or_else(Vec::new, |list| list.split(',').map(str::trim).collect());
        let length = |form: &'static str| match parts[..] {
            [length] => parse_length(length).ok_or_else(|| wrong(form)),
            _ => Err(wrong(form)),
        };
        let macd = || {
            let lengths = match parts[..] {
                [fast, slow, signal] => {
                    parse_length(fast).zip(parse_length(slow)).zip(parse_length(signal))
                }
                _ => None,
            };
            lengths
                .filter(|((fast, slow), _)| fast < slow)
                .map(|((fast, slow), signal)| MacdLengths { fast, slow, signal })
                .ok_or_else(|| wrong(MACD))
        };
        let bollinger = || {
            let size = match parts[..] {
                [length, width] => parse_length(length).zip(parse_hundredths(width)),
                _ => None,
            };
            size.map(|(length, hundredths)| BollingerSize { length, hundredths })
                .ok_or_else(|| wrong(BOLLINGER))
        };
        Ok(match name {
            "rsi" => Self::Rsi(length(RSI)?),
            "ema" => Self::Ema(length(EMA)?),
            "macd" => Self::Macd(macd()?),
            "macd_signal" => Self::MacdSignal(macd()?),
            "macd_histogram" => Self::MacdHistogram(macd()?),
            "bollinger_high" => Self::BollingerHigh(bollinger()?),
            "bollinger_low" => Self::BollingerLow(bollinger()?),
            "column" => Self::Column(arguments.unwrap_or_default().trim().parse()?),
            plain => match FeatureId::from_name(plain) {
                Some(_) if text != plain => return Err(wrong(PLAIN)),
                Some(id) => Self::Plain(id),
                None => return Err(FeatureSpecError::Unknown(shorten(text))),
            },
        })
    }
}

impl TryFrom<String> for FeatureSpec {
    type Error = FeatureSpecError;

    fn try_from(text: String) -> Result<Self, FeatureSpecError> {
        text.parse()
    }
}

impl From<FeatureSpec> for String {
    fn from(spec: FeatureSpec) -> Self {
        spec.to_string()
    }
}

fn parse_length(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| is_plain)?;
    (2..=MAX_LENGTH).contains(&length).then_some(length)
}

/// Reads `2`, `2.5` or `2.25` as hundredths, 1..=1000.
fn parse_hundredths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| {
        (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_digits(whole) || !is_digits(part) || part.len() > 2 {
        return None;
    }
    let tenths: u16 = if part.len() == 1 { 10 } else { 1 };
    let part = part.parse::<u16>().ok()?.checked_mul(tenths)?;
    let hundredths = whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(part)?;
    (1..=1_000).contains(&hundredths).then_some(hundredths)
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> FeatureSpec {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            "open",
            "close",
            "trade_count",
            "time_of_year",
            "epoch_ms",
            "rsi(14)",
            "ema(50)",
            "macd(12,26,9)",
            "macd_signal(12,26,9)",
            "macd_histogram(2,500,500)",
            "bollinger_high(20,2)",
            "bollinger_low(20,2.5)",
            "bollinger_low(20,0.01)",
            "column(funding-rate.BTC)",
        ] {
            assert_eq!(spec(text).to_string(), text);
            let json = serde_json::to_string(&spec(text)).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<FeatureSpec>(&json).unwrap(), spec(text));
        }
        assert_eq!(spec(" macd( 12 , 26,9 ) ").to_string(), "macd(12,26,9)");
        assert_eq!(spec("bollinger_high(20,2.50)"), spec("bollinger_high(20,2.5)"));
    }

    #[test]
    fn every_other_form_is_refused_with_what_is_allowed() {
        let refused = |text: &str| text.parse::<FeatureSpec>().unwrap_err();
        for text in ["", "closes", "CLOSE", "7", "rsi14", "(14)", "é(1)"] {
            let error = refused(text);
            assert!(matches!(error, FeatureSpecError::Unknown(_)), "{text}");
            assert!(error.to_string().contains("macd(FAST,SLOW,SIGNAL)"), "{error}");
        }
        for text in [
            "rsi",
            "rsi()",
            "rsi(14",
            "rsi(1)",
            "rsi(501)",
            "rsi(+14)",
            "rsi(14.0)",
            "rsi(14,2)",
            "rsi(99999999999)",
            "ema(0)",
            "macd(26,12,9)",
            "macd(12,12,9)",
            "macd(12,26)",
            "macd(12,26,9,1)",
            "bollinger_high(20)",
            "bollinger_high(20,0)",
            "bollinger_high(20,0.001)",
            "bollinger_high(20,10.01)",
            "bollinger_high(20,-2)",
            "bollinger_high(20,NaN)",
            "bollinger_high(20,99999)",
            "close(3)",
            "close()",
        ] {
            assert!(matches!(refused(text), FeatureSpecError::Form { .. }), "{text}");
        }
        for text in ["column", "column()", "column(a b)", "column(.a)", "column(a,b)"] {
            assert!(matches!(refused(text), FeatureSpecError::ColumnName(_)), "{text}");
        }
        let long = format!("column({})", "x".repeat(65));
        assert!(refused(&long).to_string().len() < 200);
        assert!(serde_json::from_str::<FeatureSpec>("\"rsi(0)\"").is_err());
    }

    #[test]
    fn a_value_looks_at_its_warm_up_and_nothing_before() {
        let mut closes: Vec<f64> =
            (0..5_100).map(|i| 100.0 + f64::from((i * 37) % 101) / 7.0).collect();
        for text in [
            "rsi(14)",
            "rsi(500)",
            "ema(50)",
            "ema(500)",
            "macd(12,26,9)",
            "macd_signal(12,26,9)",
            "macd_histogram(499,500,500)",
            "bollinger_high(20,2)",
            "bollinger_low(20,2)",
        ] {
            for rules in [Compatibility::Standard, Compatibility::Seed] {
                let feature = spec(text);
                let history = feature.warm_up() + 1;
                assert!(history <= 5_001, "{text}");
                let value = feature.indicator(&closes, rules).unwrap();
                let cut = closes.len() - history;
                let same = feature.indicator(&closes[cut..], rules).unwrap();
                assert_eq!(value.to_bits(), same.to_bits(), "{text}");
                assert_eq!(feature.indicator(&closes[cut + 1..], rules), None, "{text}");
                closes[cut - 1] += 50.0;
                assert_eq!(feature.indicator(&closes, rules), Some(value), "{text}");
                closes[cut - 1] -= 50.0;
                let oldest = closes[cut];
                closes[cut] *= 100.0;
                assert_ne!(feature.indicator(&closes, rules), Some(value), "{text} {rules:?}");
                closes[cut] = oldest;
            }
        }
    }

    #[test]
    fn a_longer_history_would_change_next_to_nothing() {
        let closes: Vec<f64> =
            (0..5_100).map(|i| 40_000.0 + f64::from((i * 7_919) % 1_009)).collect();
        let near = |got: Option<f64>, want: Option<f64>, within: f64| {
            let (got, want) = (got.unwrap(), want.unwrap());
            assert!((got - want).abs() < within, "{got} {want}");
        };
        let rules = Compatibility::Standard;
        let whole = crate::indicators::rsi(&closes, 14);
        near(spec("rsi(14)").indicator(&closes, rules), whole[5_099], 0.02);
        let whole = crate::indicators::ema(&closes, 50);
        near(spec("ema(50)").indicator(&closes, rules), whole[5_099], 0.2);
        let whole = crate::indicators::macd(&closes, 12, 26, 9);
        near(spec("macd(12,26,9)").indicator(&closes, rules), whole.line[5_099], 0.1);
        near(spec("macd_signal(12,26,9)").indicator(&closes, rules), whole.signal[5_099], 0.1);
    }

    #[test]
    fn the_references_variants_differ_and_their_histogram_is_the_difference() {
        let closes: Vec<f64> = (0..400).map(|i| 100.0 + f64::from((i * 37) % 101) / 7.0).collect();
        let value = |text: &str, rules| spec(text).indicator(&closes, rules).unwrap();
        for text in ["rsi(14)", "ema(9)", "macd(12,26,9)", "bollinger_high(20,2)"] {
            let (ours, seeds) =
                (value(text, Compatibility::Standard), value(text, Compatibility::Seed));
            assert!((ours - seeds).abs() > 0.0, "{text}");
        }
        for rules in [Compatibility::Standard, Compatibility::Seed] {
            let [line, signal, histogram] = ["macd", "macd_signal", "macd_histogram"]
                .map(|name| value(&format!("{name}(12,26,9)"), rules));
            assert_eq!(histogram.to_bits(), (line - signal).to_bits());
        }
    }
}
