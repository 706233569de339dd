//! Bars against the exchanges' own, and against those that others made of the same trades.

use std::collections::BTreeMap;

use forecastd_core::bars::{Bar, BarState, compact_bars};
use forecastd_core::{Candle, Interval};

use crate::support::{MINUTE_MS, assert_same, build, candles, trades, whole};

#[test]
fn kraken_trades_give_the_minutes_that_kraken_gives() {
    let bars = build(&trades("kraken-trades-2025-11-10"), Interval::MINUTE);
    let own: BTreeMap<i64, Candle> =
        candles("kraken-exchange-1m-2025-11-10").iter().map(|c| (c.open_time_ms, *c)).collect();
    let (mut traded, mut flat) = (0, 0);
    // The recording begins and ends within a minute, so the outermost bars are not whole.
    let last_traded = bars.iter().rposition(|bar| !bar.is_flat).unwrap();
    for bar in &bars[1..last_traded] {
        let want = own[&bar.candle.open_time_ms];
        assert_same(&bar.candle, &want);
        assert_eq!(bar.candle.trade_count, want.trade_count);
        assert_eq!(bar.state, BarState::Complete);
        assert_eq!(bar.is_flat, want.trade_count == Some(0));
        if bar.is_flat { flat += 1 } else { traded += 1 }
    }
    let span = bars[1].candle.open_time_ms..bars[last_traded].candle.open_time_ms;
    assert_eq!(own.range(span).count(), traded + flat, "no minute is missing");
    assert_eq!((traded, flat), (272, 137));
}

/// Bars with a trade must be the recorded ones; flat ones are where a row is missing.
fn assert_recorded(bars: &[Bar], recorded: &[Candle]) {
    let own: BTreeMap<i64, &Candle> = recorded.iter().map(|c| (c.open_time_ms, c)).collect();
    let traded: Vec<&Bar> = bars.iter().filter(|bar| !bar.is_flat).collect();
    assert_eq!(traded.len(), recorded.len());
    for bar in bars {
        match own.get(&bar.candle.open_time_ms) {
            Some(want) => assert_same(&bar.candle, want),
            None => assert!(bar.is_flat, "{bar:?}"),
        }
    }
}

#[test]
fn kraken_trades_of_two_days_give_their_minutes_and_five_minutes() {
    let trades = trades("kraken-trades-2023-11");
    let skipped = |pair: &[forecastd_core::bars::NumberedTrade]| pair[1].id - pair[0].id > 1;
    let jumps = trades.windows(2).filter(|pair| skipped(pair)).count();
    let minutes = build(&trades, Interval::MINUTE);
    assert_recorded(&minutes, &candles("kraken-1m-2023-11"));
    let fives = candles("kraken-5m-2023-11");
    assert_recorded(&build(&trades, Interval::FIVE_MINUTES), &fives);
    assert_recorded(
        &compact_bars(&minutes, Interval::MINUTE, Interval::FIVE_MINUTES).unwrap(),
        &fives,
    );
    let partial = minutes.iter().filter(|bar| bar.state == BarState::Partial).count();
    assert!(jumps > 0 && partial >= jumps, "{jumps} jumps of ids, {partial} partial minutes");
}

#[test]
fn coinbase_seconds_give_its_minutes() {
    let second = Interval::from_ms(1_000).unwrap();
    for day in ["07", "08"] {
        let seconds = whole(&candles(&format!("coinbase-1s-2016-10-{day}")));
        let minutes = compact_bars(&seconds, second, Interval::MINUTE).unwrap();
        assert_recorded(&minutes, &candles(&format!("coinbase-1m-2016-10-{day}")));
        assert!(minutes.iter().all(|bar| bar.state == BarState::Partial), "seconds are missing");
    }
}

#[test]
fn binance_minutes_give_its_five_minutes_around_the_halt() {
    let minutes = whole(&candles("binance-1m-2023-03-24"));
    let fives = compact_bars(&minutes, Interval::MINUTE, Interval::FIVE_MINUTES).unwrap();
    let recorded = candles("binance-5m-2023-03-24");
    assert_eq!(fives.len(), recorded.len());
    for (five, want) in fives.iter().zip(&recorded) {
        assert_same(&five.candle, want);
        assert_eq!(five.state, BarState::Complete);
    }
    let halt = fives
        .windows(2)
        .find(|pair| pair[1].candle.open_time_ms - pair[0].candle.open_time_ms > 5 * MINUTE_MS);
    assert!(halt.is_some_and(|pair| pair[0].is_flat), "flat first, then no bars at all");
}
