//! Messages in memory to closed candles, on one thread.

use allocation_counter::measure as count_allocations;
use forecastd_core::bars::{BarBuilder, BarEvent, BarRules, IdRule, NumberedTrade};
use forecastd_core::{Interval, Trade};
use forecastd_exchange::{DecodeError, Message, binance};

use crate::{Failure, cpu_seconds, figure, messages};

const RUNS: usize = 9;

type Decoder = fn(&str) -> Result<Message, DecodeError>;

/// What came of one run.
#[derive(Debug, Default)]
struct Outcome {
    trades: u64,
    candles: u64,
    volume: f64,
}

/// Measures each step by itself and all together.
pub(crate) fn measure(file: &str) -> Result<(), Failure> {
    let text = messages::read(file)?;
    let lines: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
    let decoders: [(&str, Decoder); 2] = [
        ("messages to closed candles", binance::message::decode),
        ("messages to closed candles, general reader", binance::message::decode_any),
    ];
    for (metric, decode) in decoders {
        let mut rates = Vec::with_capacity(RUNS);
        let mut outcome = Outcome::default();
        let mut allocations = 0;
        for _ in 0..RUNS {
            let started = cpu_seconds();
            outcome = run(&lines, decode)?;
            rates.push(lines.len() as f64 / (cpu_seconds() - started));
        }
        let counted = count_allocations(|| {
            allocations = run(&lines, decode).map_or(0, |outcome| outcome.trades);
        });
        rates.sort_by(f64::total_cmp);
        let conditions = format!(
            "{} messages of {} bytes on average, UTF-8 check, decode, BarBuilder of one minute; {} \
             trades, {} candles, volume {:.3}; by the CPU time of the thread, median of {RUNS} runs, {:.0} best; {:.4} allocations a \
             trade",
            lines.len(),
            text.len() / lines.len().max(1) - 1,
            outcome.trades,
            outcome.candles,
            outcome.volume,
            rates.last().copied().unwrap_or_default(),
            counted.count_total as f64 / allocations.max(1) as f64,
        );
        let median = rates.get(RUNS / 2).copied().unwrap_or_default();
        figure(metric, median, "messages/s", &conditions);
    }
    Ok(())
}

fn run(lines: &[&[u8]], decode: Decoder) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut builder = BarBuilder::new(BarRules::in_order(Interval::MINUTE, IdRule::Consecutive))?;
    let (mut candles, mut volume) = (0_u64, 0.0);
    let mut sink = |event: BarEvent| {
        if let BarEvent::Closed(bar) = event {
            candles += 1;
            volume += bar.candle.volume;
        }
    };
    let mut take = |trade: &Trade| {
        let trade = NumberedTrade::from_trade(trade, IdRule::Consecutive);
        trade.map(|trade| builder.trade(&trade, &mut sink))
    };
    for line in lines {
        match decode(str::from_utf8(line)?)? {
            Message::Trade(update) => drop(take(&update.trade).ok_or("a trade without a number")?),
            other => return Err(format!("not a trade: {other:?}").into()),
        }
        outcome.trades += 1;
    }
    Ok(Outcome { candles, volume, ..outcome })
}
