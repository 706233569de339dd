//! The reference's candle sources as pure functions: which queries they send and which samples they
//! make of the rows.
//!
//! Faults that are kept: a missing candle takes the next one (look-ahead), the first sample swallows
//! all earlier rows, pages are counted in samples although the exchange counts rows. The better
//! ones: the exchange clients with [`crate::features::compact`] and
//! [`crate::features::build_window`].

use crate::numeric::{exact_mean, exact_sum};
use crate::seed::SeedError;
use crate::seed::time::current_interval_ms;

/// Whose rows they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Times in ms, texts.
    Binance,
    /// Times as text in ms, texts, newest first.
    Bybit,
    /// Times in seconds, numbers, newest first.
    Coinbase,
    /// Times in seconds, texts; never pages.
    Kraken,
}

/// A cell of a row as it arrives.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A number.
    Number(f64),
    /// Text, which is converted only in mapped columns.
    Text(String),
}

/// How several rows become one in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compaction {
    Last,
    First,
    Max,
    Min,
    Sum,
    Mean,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Time of the first sample.
    pub start_ms: i64,
    /// Distance of the samples.
    pub interval_ms: i64,
    /// Number of samples.
    pub count: i64,
    /// Length of the exchange's candles.
    pub source_interval_ms: i64,
}

/// One query: open times from `from_ms` to `to_ms`, both included; Kraken has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// First open time.
    pub from_ms: i64,
    /// Last open time.
    pub to_ms: i64,
}

impl Source {
    /// Returns the source of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "binance" => Self::Binance,
            "bybit" => Self::Bybit,
            "coinbase" => Self::Coinbase,
            "kraken" => Self::Kraken,
            _ => return None,
        })
    }

    /// Returns the most rows (Coinbase: candles in the span) of one answer.
    pub const fn limit(self) -> i64 {
        match self {
            Self::Binance | Self::Bybit => 1000,
            Self::Coinbase => 300,
            Self::Kraken => 720,
        }
    }

    const fn columns(self) -> &'static [(&'static str, Compaction)] {
        use Compaction::{First, Last, Max, Mean, Min, Sum};
        match self {
            Self::Binance => &[
                ("open_time", Last),
                ("price_open", First),
                ("price_high", Max),
                ("price_low", Min),
                ("price_close", Last),
                ("volume", Sum),
                ("close_time", Last),
                ("quote_asset_volume", Sum),
                ("trades_count", Sum),
                ("taker_buy_volume_base", Sum),
                ("taker_buy_volume_quote", Sum),
            ],
            Self::Bybit => &[
                ("open_time", Last),
                ("price_open", First),
                ("price_high", Max),
                ("price_low", Min),
                ("price_close", Last),
                ("volume", Sum),
                ("turnover", Sum),
            ],
            Self::Coinbase => &[
                ("open_time", Last),
                ("price_low", Min),
                ("price_high", Max),
                ("price_open", First),
                ("price_close", Last),
                ("volume", Sum),
            ],
            Self::Kraken => &[
                ("open_time", Last),
                ("price_open", First),
                ("price_high", Max),
                ("price_low", Min),
                ("price_close", Last),
                ("vwap", Mean),
                ("volume", Sum),
                ("trades_count", Sum),
            ],
        }
    }

    /// Returns the position of a column.
    pub fn column(self, name: &str) -> Option<usize> {
        self.columns().iter().position(|(known, _)| *known == name)
    }

    /// Returns the open time of a row, ms.
    ///
    /// # Errors
    /// [`SeedError::Type`] when the first cell is no time.
    pub fn open_time_ms(self, row: &[Cell]) -> Result<i64, SeedError> {
        let value = match row.first().ok_or(SeedError::Index)? {
            Cell::Number(value) => *value,
            Cell::Text(text) => text.parse().map_err(|_| SeedError::Value)?,
        };
        #[expect(clippy::cast_possible_truncation, reason = "times are whole numbers below 2^53")]
        let time = value as i64;
        Ok(match self {
            Self::Binance | Self::Bybit => time,
            Self::Coinbase | Self::Kraken => time * 1000,
        })
    }

    /// Returns the query string that the reference sends.
    pub fn query_text(self, query: &Query, source_interval_ms: i64) -> String {
        let Query { from_ms, to_ms } = *query;
        let minutes = source_interval_ms / 60_000;
        match self {
            Self::Binance => format!(
                "symbol=BTCUSDT&interval={}&startTime={from_ms}&endTime={to_ms}&limit=1000",
                binance_interval(minutes)
            ),
            Self::Bybit => format!(
                "category=spot&symbol=BTCUSDT&start={from_ms}&end={to_ms}&interval={}&limit=1000",
                bybit_interval(minutes)
            ),
            Self::Coinbase => format!(
                "granularity={}&start={}&end={}",
                source_interval_ms / 1000,
                from_ms / 1000,
                to_ms / 1000
            ),
            Self::Kraken => {
                format!("pair=XBTUSDT&interval={minutes}&since={}", from_ms / 1000)
            }
        }
    }
}

fn binance_interval(minutes: i64) -> String {
    match minutes {
        10_080 => "1w".to_owned(),
        _ if minutes % 1440 == 0 => format!("{}d", minutes / 1440),
        _ if minutes % 60 == 0 => format!("{}h", minutes / 60),
        _ => format!("{minutes}m"),
    }
}

fn bybit_interval(minutes: i64) -> String {
    match minutes {
        1440 => "D".to_owned(),
        10_080 => "W".to_owned(),
        43_200 => "M".to_owned(),
        _ => minutes.to_string(),
    }
}

/// Plans the queries of one request, page by page.
#[derive(Debug, Clone)]
pub struct Planner {
    source: Source,
    request: Request,
    from_ms: i64,
    samples_left: i64,
    page_samples: i64,
}

impl Planner {
    /// Plans the first query.
    ///
    /// # Errors
    /// [`SeedError::Value`] when Kraken is asked for more than one page.
    pub fn new(source: Source, request: Request) -> Result<Self, SeedError> {
        if source == Source::Kraken && request.count > source.limit() {
            return Err(SeedError::Value);
        }
        let before_ms = request.start_ms - request.interval_ms;
        let from_ms = current_interval_ms(before_ms, request.source_interval_ms)?;
        let page_samples = request.count.min(source.limit());
        Ok(Self { source, request, from_ms, samples_left: request.count, page_samples })
    }

    /// Returns the query of the current page.
    pub const fn query(&self) -> Query {
        let interval_ms = self.request.interval_ms;
        let to_ms = match self.source {
            Source::Binance => self.request.start_ms + interval_ms * (self.request.count - 2),
            Source::Bybit | Source::Coinbase => {
                self.from_ms + interval_ms * (self.page_samples - 1)
            }
            Source::Kraken => i64::MAX,
        };
        Query { from_ms: self.from_ms, to_ms }
    }

    /// Moves to the next page; `false` when there is none.
    ///
    /// `received`: rows of this page; `last_open_ms`: open time of the newest row so far.
    ///
    /// # Errors
    /// [`SeedError::Index`] when a next page is due but no row has ever been received.
    pub fn advance(&mut self, received: i64, last_open_ms: Option<i64>) -> Result<bool, SeedError> {
        let has_next = match self.source {
            Source::Kraken => false,
            Source::Binance => received == self.source.limit(),
            Source::Bybit | Source::Coinbase => {
                self.samples_left -= self.page_samples;
                self.page_samples = self.samples_left.min(self.source.limit());
                self.samples_left > 0
            }
        };
        if has_next {
            let last_ms = last_open_ms.ok_or(SeedError::Index)?;
            self.from_ms = last_ms + self.request.source_interval_ms;
        }
        Ok(has_next)
    }

    /// Tells whether a page that fails after all retries fails the request.
    pub const fn is_failure_final(&self) -> bool {
        matches!(self.source, Source::Binance)
    }
}

/// Makes the samples of the mapped columns from rows in rising order; one list a column.
///
/// # Errors
/// [`SeedError::Runtime`] without rows (Kraken: when they are too young), [`SeedError::Type`] when
/// rows are merged whose unmapped columns hold text.
///
/// Golden data: `features/klines_*.json`, exact.
pub fn samples(
    source: Source,
    rows: &[Vec<Cell>],
    request: &Request,
    mapped: &[usize],
) -> Result<Vec<Vec<f64>>, SeedError> {
    let Some(first) = rows.first() else { return Err(SeedError::Runtime) };
    if source == Source::Kraken {
        let planner = Planner::new(source, *request)?;
        let end_ms = planner.from_ms + request.interval_ms * (request.count - 2);
        if source.open_time_ms(first)? > end_ms {
            return Err(SeedError::Runtime);
        }
    }
    let rows: Vec<Vec<Cell>> =
        rows.iter().map(|row| converted(row, mapped)).collect::<Result<_, _>>()?;
    let mut columns = vec![Vec::new(); mapped.len()];
    let mut index = 0;
    let mut at_ms = request.start_ms;
    for _ in 0..request.count {
        let begin = index;
        let mut taken = 0;
        // The row of this sample when none closes in time: the next one.
        while source.open_time_ms(&rows[index])? + request.source_interval_ms <= at_ms {
            taken += 1;
            if index + 1 == rows.len() {
                break;
            }
            index += 1;
        }
        let group = &rows[begin..begin + taken];
        let merged = match group {
            [] => rows[index].clone(),
            [only] => only.clone(),
            _ => compacted(source, group)?,
        };
        for (column, position) in columns.iter_mut().zip(mapped) {
            match merged.get(*position).ok_or(SeedError::Index)? {
                Cell::Number(value) => column.push(*value),
                Cell::Text(_) => return Err(SeedError::Type),
            }
        }
        at_ms += request.interval_ms;
    }
    Ok(columns)
}

fn converted(row: &[Cell], mapped: &[usize]) -> Result<Vec<Cell>, SeedError> {
    let mut row = row.to_vec();
    for position in mapped {
        let cell = row.get_mut(*position).ok_or(SeedError::Index)?;
        if let Cell::Text(text) = cell {
            *cell = Cell::Number(text.parse().map_err(|_| SeedError::Value)?);
        }
    }
    Ok(row)
}

fn compacted(source: Source, group: &[Vec<Cell>]) -> Result<Vec<Cell>, SeedError> {
    let mut merged = group.last().ok_or(SeedError::Index)?.clone();
    for (position, (_, compaction)) in source.columns().iter().enumerate() {
        let cells = || group.iter().map(|row| row.get(position).ok_or(SeedError::Index));
        let numbers = || {
            cells()
                .map(|cell| match cell? {
                    Cell::Number(value) => Ok(*value),
                    Cell::Text(_) => Err(SeedError::Type),
                })
                .collect::<Result<Vec<f64>, _>>()
        };
        let is_text = cells().any(|cell| matches!(cell, Ok(Cell::Text(_))));
        let value = match compaction {
            Compaction::Last => continue,
            // Text can be compared, only not added.
            Compaction::Max | Compaction::Min | Compaction::First if is_text => continue,
            Compaction::First => numbers()?[0],
            Compaction::Max => numbers()?.into_iter().fold(f64::NEG_INFINITY, f64::max),
            Compaction::Min => numbers()?.into_iter().fold(f64::INFINITY, f64::min),
            Compaction::Sum => exact_sum(&numbers()?),
            Compaction::Mean => exact_mean(&numbers()?),
        };
        if let Some(cell) = merged.get_mut(position) {
            *cell = Cell::Number(value);
        }
    }
    Ok(merged)
}
