//! Kraken's names of markets and intervals.

use forecastd_core::Interval;
use forecastd_exchange::Exchange;

/// Coins and currencies that have an old name with a letter before it.
const OLD_COINS: [&str; 8] = ["XBT", "ETH", "LTC", "XMR", "XRP", "XLM", "ZEC", "XDG"];
const OLD_CURRENCIES: [&str; 5] = ["USD", "EUR", "CAD", "GBP", "JPY"];

/// Returns the name of a market such as `BTC/USD` in REST requests.
pub(super) fn rest_pair(symbol: &str) -> String {
    let (base, quote) = parts(symbol);
    format!("{base}{quote}")
}

/// Returns the name of a market in REST answers.
pub(super) fn answer_key(symbol: &str) -> String {
    let (base, quote) = parts(symbol);
    if OLD_COINS.contains(&base) && OLD_CURRENCIES.contains(&quote) {
        format!("X{base}Z{quote}")
    } else {
        format!("{base}{quote}")
    }
}

fn parts(symbol: &str) -> (&str, &str) {
    let (base, quote) = symbol.split_once('/').unwrap_or((symbol, ""));
    (old(base), old(quote))
}

fn old(name: &str) -> &str {
    match name {
        "BTC" => "XBT",
        "DOGE" => "XDG",
        _ => name,
    }
}

/// Returns the interval of so many minutes, where Kraken has one.
pub(super) fn interval_of(minutes: i64) -> Option<Interval> {
    let interval = Interval::from_ms(minutes.checked_mul(60_000)?).ok()?;
    Exchange::Kraken.intervals().contains(&interval).then_some(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markets_have_three_names() {
        for (symbol, pair, key) in [
            ("BTC/USD", "XBTUSD", "XXBTZUSD"),
            ("BTC/USDT", "XBTUSDT", "XBTUSDT"),
            ("ETH/EUR", "ETHEUR", "XETHZEUR"),
        ] {
            assert_eq!((rest_pair(symbol).as_str(), answer_key(symbol).as_str()), (pair, key));
        }
        assert_eq!(interval_of(5), Some(Interval::FIVE_MINUTES));
        assert_eq!([interval_of(3), interval_of(0), interval_of(i64::MAX)], [None; 3]);
    }
}
