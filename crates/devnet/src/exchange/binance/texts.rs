//! The texts that the simulated exchange sends: field names, order and decimals as documented.

use forecastd_core::{Interval, TradeSide};
use serde_json::{Value, json};

use crate::exchange::market::{Bar, Execution};

/// Prices and amounts travel as text with eight decimals.
fn decimal(value: f64) -> String {
    format!("{value:.8}")
}

/// A `kline` event.
pub(super) fn kline(
    symbol: &str,
    interval_name: &str,
    interval: Interval,
    bar: &Bar,
    is_final: bool,
    now_ms: i64,
) -> Value {
    let candle = &bar.candle;
    // Without executions the exchange writes -1.
    let id = |id: Option<u64>| id.map_or(json!(-1), |id| json!(id));
    json!({
        "e": "kline", "E": now_ms, "s": symbol,
        "k": {
            "t": candle.open_time_ms, "T": candle.close_time_ms(interval) - 1,
            "s": symbol, "i": interval_name,
            "f": id(bar.ids.map(|ids| ids.0)), "L": id(bar.ids.map(|ids| ids.1)),
            "o": decimal(candle.open), "c": decimal(candle.close),
            "h": decimal(candle.high), "l": decimal(candle.low),
            "v": decimal(candle.volume), "n": candle.trade_count.unwrap_or(0), "x": is_final,
            "q": decimal(bar.turnover),
            "V": decimal(candle.volume / 2.0), "Q": decimal(bar.turnover / 2.0),
            "B": "0"
        }
    })
}

/// A row of `/api/v3/klines`.
pub(super) fn kline_row(interval: Interval, bar: &Bar) -> Value {
    let candle = &bar.candle;
    json!([
        candle.open_time_ms,
        decimal(candle.open),
        decimal(candle.high),
        decimal(candle.low),
        decimal(candle.close),
        decimal(candle.volume),
        candle.close_time_ms(interval) - 1,
        decimal(bar.turnover),
        candle.trade_count.unwrap_or(0),
        decimal(candle.volume / 2.0),
        decimal(bar.turnover / 2.0),
        "0"
    ])
}

/// A `trade` event.
pub(super) fn trade(symbol: &str, execution: &Execution, now_ms: i64) -> Value {
    json!({
        "e": "trade", "E": now_ms, "s": symbol, "t": execution.id,
        "p": decimal(execution.price), "q": decimal(execution.size), "T": execution.time_ms,
        "m": execution.side == TradeSide::Sell, "M": true
    })
}

/// A row of `/api/v3/trades`.
pub(super) fn trade_row(execution: &Execution) -> Value {
    json!({
        "id": execution.id,
        "price": decimal(execution.price),
        "qty": decimal(execution.size),
        "quoteQty": decimal(execution.price * execution.size),
        "time": execution.time_ms,
        "isBuyerMaker": execution.side == TradeSide::Sell,
        "isBestMatch": true
    })
}

/// A row of `/api/v3/aggTrades`.
pub(super) fn aggregate_row(execution: &Execution) -> Value {
    json!({
        "a": execution.id, "p": decimal(execution.price), "q": decimal(execution.size),
        "f": execution.id, "l": execution.id, "T": execution.time_ms,
        "m": execution.side == TradeSide::Sell, "M": true
    })
}

/// The warning before a planned stop.
pub(super) fn server_shutdown(now_ms: i64) -> Value {
    json!({ "e": "serverShutdown", "E": now_ms })
}

/// An error body, REST and WebSocket alike; `id` only over WebSocket.
pub(super) fn error(code: i64, message: &str, id: Option<&Value>) -> Value {
    let mut body = json!({ "code": code, "msg": message });
    if let (Some(id), Some(fields)) = (id, body.as_object_mut()) {
        fields.insert("id".to_owned(), id.clone());
    }
    body
}

/// `/api/v3/exchangeInfo`, as far as a reader of market data needs it.
pub(super) fn exchange_info(symbol: &str, now_ms: i64, weight_limit: u32) -> Value {
    json!({
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [
            { "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_limit }
        ],
        "exchangeFilters": [],
        "symbols": [{ "symbol": symbol, "status": "TRADING" }]
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forecastd_exchange::Message;
    use forecastd_exchange::binance::{message, rest};

    use super::*;
    use crate::exchange::market::Market;
    use crate::exchange::recording;

    #[test]
    fn every_recorded_candle_survives_the_texts_bit_for_bit() {
        let candles: Arc<[_]> = recording::embedded().unwrap().into();
        let interval = recording::EMBEDDED_INTERVAL;
        let market = Market::new(Arc::clone(&candles), interval);
        for candle in candles.iter().step_by(17) {
            let want = forecastd_core::Candle { trade_count: Some(12), ..*candle };
            let bar = market.bar(interval, candle.open_time_ms, i64::MAX).unwrap();
            let body = json!([kline_row(interval, &bar)]).to_string();
            assert_eq!(rest::decode_klines(body.as_bytes(), interval).unwrap(), [want]);
            let text = kline("BTCUSDT", "5m", interval, &bar, true, 0).to_string();
            let Ok(Message::Candles(updates)) = message::decode(&text) else { panic!("{text}") };
            assert_eq!((updates[0].candle, updates[0].is_final), (want, Some(true)));
        }
    }
}
