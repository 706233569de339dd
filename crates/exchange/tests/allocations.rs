//! The way of a trade from its text into a candle allocates nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test helpers may panic"
)]

use std::path::PathBuf;

use forecastd_core::Interval;
use forecastd_core::bars::{BarBuilder, BarEvent, BarRules, IdRule, NumberedTrade};
use forecastd_exchange::{Message, binance};

/// The recorded raw trades, each `count` times with rising numbers, a second apart.
fn trades(count: i64) -> Vec<String> {
    let given = std::env::var_os("FORECASTD_FIXTURES").map(PathBuf::from);
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
    let path =
        given.unwrap_or_else(|| default.into()).join("exchanges/binance/ws/raw-stream.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let is_trade = |line: &&str| line.starts_with(r#"{"e":"trade""#);
    let recorded = text.lines().find(is_trade).expect("no recorded trade");
    let (number, at) = (r#""t":12345"#, r#""T":1672515782136"#);
    assert!(recorded.contains(number) && recorded.contains(at), "{recorded}");
    let later = |index: i64| {
        let number_later = format!(r#""t":{}"#, 12_345 + index);
        let at_later = format!(r#""T":{}"#, 1_672_515_782_136 + index * 1_000);
        recorded.replace(number, &number_later).replace(at, &at_later)
    };
    (0..count).map(later).collect()
}

#[test]
fn a_trade_allocates_nothing_on_its_way_into_a_candle() {
    let trades = trades(1_000);
    let rules = BarRules::in_order(Interval::MINUTE, IdRule::Consecutive);
    let mut builder = BarBuilder::new(rules).unwrap();
    let mut candles = 0;
    let mut sink = |event| candles += u64::from(matches!(event, BarEvent::Closed(_)));
    let mut taken = 0;
    let counted = allocation_counter::measure(|| {
        for text in &trades {
            let Ok(Message::Trade(update)) = binance::message::decode(text) else { continue };
            let trade = NumberedTrade::from_trade(&update.trade, IdRule::Consecutive);
            if let Some(trade) = trade {
                builder.trade(&trade, &mut sink);
                taken += 1;
            }
        }
    });
    assert_eq!((taken, builder.counters().applied), (1_000, 1_000));
    assert_eq!(candles, 16);
    assert_eq!(counted.count_total, 0);
}
