//! What a client may ask over the WebSocket (`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`,
//! `SET_PROPERTY`, `GET_PROPERTY`), with the documented answers and errors. Pure.

use forecastd_exchange::binance::interval_of;
use serde_json::{Value, json};

use super::texts;
use crate::exchange::venue::{Kind, Topic};

/// Most streams over one connection, as documented.
const MAX_STREAMS: usize = 1024;
/// Longest stream name that is kept.
const MAX_NAME_LEN: usize = 64;
/// Longest request id that is a text.
const MAX_ID_LEN: usize = 36;

/// Error codes of the WebSocket.
const UNKNOWN_PROPERTY: i64 = 0;
const WRONG_TYPE: i64 = 1;
const INVALID_REQUEST: i64 = 2;
const INVALID_JSON: i64 = 3;

/// Reads a stream name of the market `symbol` (lower case). What is unknown is acknowledged like a good
/// one and silent for ever, as on the real exchange.
fn stream(name: &str, symbol: &str) -> Topic {
    let topic = name.strip_prefix(symbol).and_then(|rest| rest.strip_prefix('@'));
    let kind = match topic {
        Some("trade") => Kind::Trades,
        Some(topic) => {
            let interval = topic.strip_prefix("kline_").and_then(interval_of);
            interval.map_or(Kind::Silent, Kind::Candles)
        }
        None => Kind::Silent,
    };
    Topic { name: name.to_owned(), kind }
}

/// The subscriptions of one connection.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// In the order of subscribing.
    pub(super) streams: Vec<Topic>,
    /// Whether events are wrapped as `{"stream":..,"data":..}`.
    pub(super) is_combined: bool,
}

impl Subscriptions {
    /// Adds streams by name; names that are there already stay as they are.
    pub(super) fn add<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
        symbol: &str,
    ) -> Result<(), String> {
        for name in names {
            if name.is_empty() || name.len() > MAX_NAME_LEN {
                return Err("Invalid request: invalid stream".to_owned());
            }
            if self.streams.iter().any(|stream| stream.name == name) {
                continue;
            }
            if self.streams.len() == MAX_STREAMS {
                return Err(format!("Invalid request: more than {MAX_STREAMS} streams"));
            }
            self.streams.push(stream(name, symbol));
        }
        Ok(())
    }

    /// Carries out one request and returns the text of the answer.
    pub(super) fn answer(&mut self, text: &str, symbol: &str) -> Value {
        let request: Value = match serde_json::from_str(text) {
            Ok(request) => request,
            Err(error) => {
                return texts::error(INVALID_JSON, &format!("Invalid JSON: {error}"), None);
            }
        };
        let id = request.get("id").cloned().unwrap_or(Value::Null);
        let is_id = match &id {
            Value::Null => true,
            Value::Number(number) => number.is_i64() || number.is_u64(),
            Value::String(text) => text.len() <= MAX_ID_LEN,
            _ => false,
        };
        if !is_id {
            return texts::error(INVALID_REQUEST, "Invalid request: invalid id", None);
        }
        match self.carry_out(&request, symbol) {
            Ok(result) => json!({ "result": result, "id": id }),
            Err((code, message)) => texts::error(code, &message, Some(&id)),
        }
    }

    fn carry_out(&mut self, request: &Value, symbol: &str) -> Result<Value, (i64, String)> {
        let invalid = |message: String| (INVALID_REQUEST, message);
        let method = request
            .get("method")
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("Invalid request: missing field `method`".to_owned()))?;
        match method {
            "SUBSCRIBE" => {
                self.add(names(request).map_err(invalid)?, symbol).map_err(invalid)?;
                Ok(Value::Null)
            }
            "UNSUBSCRIBE" => {
                let names = names(request).map_err(invalid)?;
                self.streams.retain(|stream| !names.contains(&stream.name.as_str()));
                Ok(Value::Null)
            }
            "LIST_SUBSCRIPTIONS" => {
                Ok(self.streams.iter().map(|stream| json!(stream.name)).collect())
            }
            "GET_PROPERTY" | "SET_PROPERTY" => self.property(method, request),
            other => Err(invalid(format!(
                "Invalid request: unknown variant `{}`, expected one of `SUBSCRIBE`, \
                 `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`",
                other.chars().take(MAX_NAME_LEN).collect::<String>()
            ))),
        }
    }

    fn property(&mut self, method: &str, request: &Value) -> Result<Value, (i64, String)> {
        let params = request.get("params").and_then(Value::as_array);
        let name = params.and_then(|params| params.first()).and_then(Value::as_str);
        if name != Some("combined") {
            return Err((UNKNOWN_PROPERTY, "Unknown property".to_owned()));
        }
        if method == "GET_PROPERTY" {
            return Ok(json!(self.is_combined));
        }
        let value = params.and_then(|params| params.get(1)).and_then(Value::as_bool);
        self.is_combined =
            value.ok_or_else(|| (WRONG_TYPE, "Invalid value type: expected Boolean".to_owned()))?;
        Ok(Value::Null)
    }
}

/// The stream names of a request.
fn names(request: &Value) -> Result<Vec<&str>, String> {
    let params = request.get("params").ok_or("Invalid request: missing field `params`")?;
    let params = params.as_array().ok_or("Invalid request: `params` must be a list")?;
    let name = |value: &'_ Value| value.as_str().map(str::len).map(drop);
    if params.iter().any(|value| name(value).is_none()) {
        return Err("Invalid request: `params` must be a list of texts".to_owned());
    }
    Ok(params.iter().filter_map(Value::as_str).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(subscriptions: &mut Subscriptions, text: &str) -> String {
        subscriptions.answer(text, "btcusdt").to_string()
    }

    #[test]
    fn requests_get_the_documented_answers() {
        let mut all = Subscriptions::default();
        for (request, answer) in [
            (
                r#"{"method":"SUBSCRIBE","params":["btcusdt@kline_5m","x@y"],"id":1}"#,
                r#"{"result":null,"id":1}"#,
            ),
            (
                r#"{"method":"SUBSCRIBE","params":["btcusdt@kline_5m"],"id":"a"}"#,
                r#"{"result":null,"id":"a"}"#,
            ),
            (
                r#"{"method":"LIST_SUBSCRIPTIONS","id":2}"#,
                r#"{"result":["btcusdt@kline_5m","x@y"],"id":2}"#,
            ),
            (
                r#"{"method":"UNSUBSCRIBE","params":["x@y"],"id":null}"#,
                r#"{"result":null,"id":null}"#,
            ),
            (
                r#"{"method":"GET_PROPERTY","params":["combined"],"id":3}"#,
                r#"{"result":false,"id":3}"#,
            ),
            (
                r#"{"method":"SET_PROPERTY","params":["combined",true],"id":4}"#,
                r#"{"result":null,"id":4}"#,
            ),
            (
                r#"{"method":"GET_PROPERTY","params":["combined"],"id":5}"#,
                r#"{"result":true,"id":5}"#,
            ),
        ] {
            assert_eq!(ask(&mut all, request), answer, "{request}");
        }
        assert_eq!(all.streams.len(), 1);
    }

    #[test]
    fn wrong_requests_get_their_code() {
        for (request, code) in [
            ("{", 3),
            ("{}", 2),
            (r#"{"method":"BUY","id":1}"#, 2),
            (r#"{"method":"SUBSCRIBE","id":1}"#, 2),
            (r#"{"method":"SUBSCRIBE","params":"a","id":1}"#, 2),
            (r#"{"method":"SUBSCRIBE","params":[1],"id":1}"#, 2),
            (r#"{"method":"SUBSCRIBE","params":[],"id":{}}"#, 2),
            (r#"{"method":"SET_PROPERTY","params":["combined",1],"id":1}"#, 1),
            (r#"{"method":"GET_PROPERTY","params":["speed"],"id":1}"#, 0),
        ] {
            let answer = Subscriptions::default().answer(request, "btcusdt");
            assert_eq!(answer["code"], code, "{request}: {answer}");
        }
    }

    #[test]
    fn stream_names_are_read_with_their_case() {
        let kind = |name| stream(name, "btcusdt").kind;
        assert_eq!(kind("btcusdt@trade"), Kind::Trades);
        assert!(matches!(kind("btcusdt@kline_5m"), Kind::Candles(_)));
        for name in
            ["BTCUSDT@trade", "btcusdt@kline_1M", "btcusdt@depth", "ethusdt@trade", "btcusdt"]
        {
            assert_eq!(kind(name), Kind::Silent, "{name}");
        }
    }
}
