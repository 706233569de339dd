//! Reading of the recorded files, and a builder that feeds a series.

use std::io::Read as _;
use std::path::PathBuf;

use forecastd_core::bars::{
    Bar, BarBuilder, BarEvent, BarRules, BarSeries, BarState, IdRule, NumberedTrade,
};
use forecastd_core::{Candle, Interval};

pub(crate) const MINUTE_MS: i64 = 60_000;

fn rows(name: &str) -> Vec<Vec<String>> {
    let folder = std::env::var_os("FORECASTD_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data"),
        PathBuf::from,
    );
    let path = folder.join(format!("{name}.csv.bz2"));
    let file =
        std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    bzip2::read::BzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Trades of columns `time_ms,trade_id,price,size`.
pub(crate) fn trades(name: &str) -> Vec<NumberedTrade> {
    let trade = |row: Vec<String>| NumberedTrade {
        time_ms: row[0].parse().unwrap(),
        id: row[1].parse().unwrap(),
        price: row[2].parse().unwrap(),
        size: row[3].parse().unwrap(),
    };
    rows(name).into_iter().map(trade).collect()
}

/// Candles of columns `open_time_ms,open,high,low,close,volume`; the count is the last of eight.
pub(crate) fn candles(name: &str) -> Vec<Candle> {
    let candle = |row: Vec<String>| Candle {
        open_time_ms: row[0].parse().unwrap(),
        open: row[1].parse().unwrap(),
        high: row[2].parse().unwrap(),
        low: row[3].parse().unwrap(),
        close: row[4].parse().unwrap(),
        volume: row[5].parse().unwrap(),
        trade_count: (row.len() == 8).then(|| row[7].parse().unwrap()),
    };
    rows(name).into_iter().map(candle).collect()
}

/// Recorded candles as whole bars.
pub(crate) fn whole(candles: &[Candle]) -> Vec<Bar> {
    let bar = |candle: &Candle| Bar { state: BarState::Complete, ..Bar::backfilled(*candle) };
    candles.iter().map(bar).collect()
}

/// One exchange: a builder, its series, and what it told.
pub(crate) struct Market {
    pub(crate) builder: BarBuilder,
    pub(crate) series: BarSeries,
    pub(crate) outages: Vec<(i64, i64)>,
}

impl Market {
    pub(crate) fn new(interval: Interval, reorder_ms: i64) -> Self {
        let rules = BarRules { reorder_ms, ..BarRules::in_order(interval, IdRule::Consecutive) };
        Self {
            builder: BarBuilder::new(rules).unwrap(),
            series: BarSeries::new(interval, 20_000),
            outages: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, step: impl FnOnce(&mut BarBuilder, &mut dyn FnMut(BarEvent))) {
        let (series, outages) = (&mut self.series, &mut self.outages);
        step(&mut self.builder, &mut |event| match event {
            BarEvent::Closed(bar) => {
                series.record(bar).unwrap();
            }
            BarEvent::Doubted { from_ms, to_ms } => {
                series.doubt(from_ms, to_ms);
            }
            BarEvent::Outage { from_ms, to_ms } => outages.push((from_ms, to_ms)),
            BarEvent::Skipped { .. } => panic!("{event:?}"),
        });
    }

    pub(crate) fn trade(&mut self, trade: &NumberedTrade) {
        self.step(|builder, mut sink| {
            builder.trade(trade, &mut sink);
        });
    }

    pub(crate) fn tick(&mut self, now_ms: i64) {
        self.step(|builder, mut sink| builder.tick(now_ms, &mut sink));
    }

    pub(crate) fn link(&mut self, is_up: bool, at_ms: i64) {
        self.step(|builder, mut sink| {
            if is_up {
                builder.connected(at_ms, &mut sink);
            } else {
                builder.disconnected(at_ms, &mut sink);
            }
        });
    }
}

/// The bars of recorded trades, with the link up all the time and a clock at the trades' times.
pub(crate) fn build(trades: &[NumberedTrade], interval: Interval) -> Vec<Bar> {
    let mut market = Market::new(interval, 0);
    market.link(true, 0);
    for trade in trades {
        market.tick(trade.time_ms);
        market.trade(trade);
    }
    market.tick(trades[trades.len() - 1].time_ms + 2 * interval.as_ms() + 3_000);
    market.series.bars().copied().collect()
}

/// Prices and times must be equal, the volume within 1e-12 of itself.
pub(crate) fn assert_same(got: &Candle, want: &Candle) {
    let prices = |c: &Candle| (c.open_time_ms, c.open, c.high, c.low, c.close);
    assert_eq!(prices(got), prices(want));
    let apart = (got.volume - want.volume).abs();
    assert!(apart <= 1e-12 * want.volume, "{got:?} {want:?}");
}
