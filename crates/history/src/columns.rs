//! Which column of a table is what, by its name.

use crate::error::short;
use crate::time::Unit;

/// Names of the time of opening, in letters and digits only, the preferred first.
const TIMES: [&str; 20] = [
    "opentimems",
    "opentime",
    "opentimes",
    "opentimeus",
    "opentimens",
    "timestampms",
    "timestamp",
    "timestamps",
    "timestampus",
    "timestampns",
    "unixtimestamp",
    "unix",
    "time",
    "timems",
    "times",
    "datetime",
    "date",
    "ts",
    "starttime",
    "start",
];
const OPENS: [&str; 4] = ["open", "openprice", "priceopen", "o"];
const HIGHS: [&str; 4] = ["high", "highprice", "pricehigh", "h"];
const LOWS: [&str; 4] = ["low", "lowprice", "pricelow", "l"];
const CLOSES: [&str; 4] = ["close", "closeprice", "priceclose", "c"];
const VOLUMES: [&str; 8] =
    ["volume", "basevolume", "volumebase", "baseassetvolume", "volumebtc", "btcvolume", "vol", "v"];
const COUNTS: [&str; 9] = [
    "tradecount",
    "tradescount",
    "numberoftrades",
    "numtrades",
    "trades",
    "tradenum",
    "count",
    "ntrades",
    "n",
];

/// A column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) index: usize,
    pub(crate) name: String,
}

/// What is read from a table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// Candles.
    Candles,
    /// One column of numbers, by its name.
    Number(&'a str),
}

/// Where the parts of a candle are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) time: Column,
    /// The unit that the name of the time tells.
    pub(crate) unit: Option<Unit>,
    /// Open, high, low, close, volume.
    pub(crate) numbers: [Column; 5],
    pub(crate) trade_count: Option<Column>,
}

impl Columns {
    /// Finds the columns that are wanted.
    ///
    /// # Errors
    /// A text that says which column is missing or there twice, and what is there.
    pub(crate) fn find(names: &[String], wanted: Wanted<'_>) -> Result<Self, String> {
        match wanted {
            Wanted::Candles => Self::of_candles(names),
            Wanted::Number(name) => Self::of_number(names, name),
        }
    }

    /// Finds the time and one column of numbers, which stands for all five of a candle: so both kinds
    /// of tables are read by the same code.
    fn of_number(names: &[String], wanted: &str) -> Result<Self, String> {
        let time = names.iter().enumerate().filter(|(_, name)| TIMES.contains(&&*plain(name)));
        let rank = |name: &str| TIMES.iter().position(|known| *known == plain(name));
        let time = time.min_by_key(|(_, name)| rank(name));
        let listed = || short(&names.join(","));
        let Some((index, time)) = time else {
            return Err(format!(
                "no column for the time (for example time, timestamp, date); found `{}`",
                listed()
            ));
        };
        let mut found = names.iter().enumerate().filter(|(_, name)| name.trim() == wanted.trim());
        let number = match (found.next(), found.next()) {
            (Some((index, name)), None) => Column { index, name: short(name) },
            (Some(_), Some(_)) => return Err(format!("column `{}` is there twice", short(wanted))),
            (None, _) => {
                return Err(format!("no column `{}`; found `{}`", short(wanted), listed()));
            }
        };
        Ok(Self {
            unit: Unit::of_name(time.trim()),
            time: Column { index, name: short(time) },
            numbers: std::array::from_fn(|_| number.clone()),
            trade_count: None,
        })
    }

    /// Finds the columns of candles by their names; capitals, blanks and signs do not matter.
    fn of_candles(names: &[String]) -> Result<Self, String> {
        let plain: Vec<String> = names.iter().map(|name| plain(name)).collect();
        let find = |known: &[&str]| -> Result<Option<Column>, String> {
            for name in known {
                let mut found =
                    plain.iter().enumerate().filter(|(_, there)| there.as_str() == *name);
                let Some((index, _)) = found.next() else { continue };
                if found.next().is_some() {
                    return Err(format!("column `{name}` is there twice"));
                }
                let name = names.get(index).map(|name| short(name)).unwrap_or_default();
                return Ok(Some(Column { index, name }));
            }
            Ok(None)
        };
        let must = |known: &[&str], what: &str| {
            let listed = || short(&names.join(","));
            find(known)?.ok_or_else(|| {
                let first = known.iter().take(3).copied().collect::<Vec<_>>().join(", ");
                format!("no column for the {what} (for example {first}); found `{}`", listed())
            })
        };
        let time = must(&TIMES, "time of opening")?;
        Ok(Self {
            unit: names.get(time.index).and_then(|name| Unit::of_name(name.trim())),
            time,
            numbers: [
                must(&OPENS, "opening price")?,
                must(&HIGHS, "highest price")?,
                must(&LOWS, "lowest price")?,
                must(&CLOSES, "closing price")?,
                must(&VOLUMES, "volume")?,
            ],
            trade_count: find(&COUNTS)?,
        })
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(header: &str) -> Result<Columns, String> {
        Columns::of_candles(&header.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn common_headers_are_understood() {
        for (header, indexes) in [
            ("open_time_ms,open,high,low,close,volume", [0, 1, 2, 3, 4, 5]),
            ("timestamp,open,high,low,close,volume,turnover", [0, 1, 2, 3, 4, 5]),
            (
                "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume",
                [0, 1, 2, 3, 4, 5],
            ),
            ("time,low,high,open,close,volume", [0, 3, 2, 1, 4, 5]),
            ("unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT", [0, 3, 4, 5, 6, 7]),
            ("date,o,h,l,c,v", [0, 1, 2, 3, 4, 5]),
        ] {
            let columns = find(header).unwrap();
            let mut found = vec![columns.time.index];
            found.extend(columns.numbers.iter().map(|column| column.index));
            assert_eq!(found, indexes, "{header}");
        }
        let columns = find("open_time_ms,open,high,low,close,volume,vwap,trade_count").unwrap();
        assert_eq!(columns.trade_count.unwrap().index, 7);
        assert_eq!(columns.unit, Some(Unit::Millis));
    }

    #[test]
    fn what_is_missing_or_twice_is_said() {
        for (header, word) in [
            ("open,high,low,close,volume", "time of opening"),
            ("time,open,high,low,volume", "closing price"),
            ("time,open,open,high,low,close,volume", "`open` is there twice"),
            ("", "time of opening"),
            ("1678406400000,1,2,3,4,5", "found `1678406400000,1"),
        ] {
            let error = find(header).unwrap_err();
            assert!(error.contains(word), "{header}: {error}");
        }
    }
}
