//! The synapse classes of the subnet and the request that their bodies carry.

use serde_json::{Map, Value};

/// Longest `request_uuid` or `stream_id`, bytes; the original sends 36 and 9.
const MAX_TEXT_LEN: usize = 128;
/// Most feature ids in a request; the original sends 5.
const MAX_FEATURES: usize = 1024;
/// Greatest number of values that a request may ask for; the original asks for 100.
pub(crate) const MAX_PREDICTION_SIZE: u32 = 10_000;

/// A message class; its name is the first segment of the request's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Synapse {
    /// Asks for the commitment to a forecast.
    LiveForwardHash,
    /// Asks for the forecast itself.
    LiveForward,
    /// Hands back what happened; accepted and not used.
    LiveBackward,
    /// The built-in `Synapse`: sends the request back, to show that the axon lives.
    Echo,
}

impl Synapse {
    /// All classes, in the order in which an unknown name is answered.
    pub const ALL: [Self; 4] =
        [Self::Echo, Self::LiveForwardHash, Self::LiveForward, Self::LiveBackward];

    /// Returns the class name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LiveForwardHash => "LiveForwardHash",
            Self::LiveForward => "LiveForward",
            Self::LiveBackward => "LiveBackward",
            Self::Echo => "Synapse",
        }
    }

    /// Returns the class with this wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|synapse| synapse.name() == name)
    }

    /// Returns the headers that announce the required fields, with the base64 text of the JSON of
    /// the empty value of each field's type.
    pub(crate) const fn field_headers(self) -> &'static [(&'static str, &'static str)] {
        const FORECAST: &[(&str, &str)] = &[
            ("bt_header_input_obj_request_uuid", "IiI="),
            ("bt_header_input_obj_stream_id", "IiI="),
            ("bt_header_input_obj_topic_id", "MA=="),
            ("bt_header_input_obj_feature_ids", "W10="),
            ("bt_header_input_obj_prediction_size", "MA=="),
            ("bt_header_input_obj_schema_id", "MA=="),
        ];
        const BACKWARD: &[(&str, &str)] = &[
            ("bt_header_input_obj_request_uuid", "IiI="),
            ("bt_header_input_obj_stream_id", "IiI="),
            ("bt_header_input_obj_topic_id", "MA=="),
        ];
        match self {
            Self::LiveForwardHash | Self::LiveForward => FORECAST,
            Self::LiveBackward => BACKWARD,
            Self::Echo => &[],
        }
    }
}

/// The question that a validator puts to a miner, the same for commitment and forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastRequest {
    /// Names the round; one value for commit and reveal.
    pub request_uuid: String,
    /// The stream, for example `BTCUSD-5m`.
    pub stream_id: String,
    /// The stream's topic number.
    pub topic_id: i64,
    /// Number of the feature layout.
    pub schema_id: i64,
    /// Numbers of the features that the validator would score; sent as floats.
    pub feature_ids: Vec<f64>,
    /// The number of values asked for.
    pub prediction_size: u32,
}

/// Why a body does not hold a request: the field and the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {rule}")]
pub(crate) struct FieldError {
    pub(crate) field: &'static str,
    pub(crate) rule: &'static str,
}

impl ForecastRequest {
    /// Reads the six required fields of a request's body.
    ///
    /// Numeric text counts as a number and a whole float as an integer, as the SDK's classes do.
    pub(crate) fn from_body(body: &Map<String, Value>) -> Result<Self, FieldError> {
        let prediction_size = u32::try_from(integer(body, "prediction_size")?).unwrap_or(0);
        if prediction_size == 0 || prediction_size > MAX_PREDICTION_SIZE {
            return Err(FieldError { field: "prediction_size", rule: "must be 1..10000" });
        }
        Ok(Self {
            request_uuid: text(body, "request_uuid")?,
            stream_id: text(body, "stream_id")?,
            topic_id: integer(body, "topic_id")?,
            schema_id: integer(body, "schema_id")?,
            feature_ids: floats(body, "feature_ids")?,
            prediction_size,
        })
    }

    /// Checks the three required fields of a `LiveBackward` body and returns them.
    pub(crate) fn backward_fields(
        body: &Map<String, Value>,
    ) -> Result<(String, String, i64), FieldError> {
        Ok((text(body, "request_uuid")?, text(body, "stream_id")?, integer(body, "topic_id")?))
    }

    /// Writes the body fields of this request in the order of the SDK's class.
    pub(crate) fn write_fields(&self, body: &mut Map<String, Value>) {
        body.insert("request_uuid".into(), self.request_uuid.as_str().into());
        body.insert("stream_id".into(), self.stream_id.as_str().into());
        body.insert("samples".into(), Value::Null);
        body.insert("topic_id".into(), self.topic_id.into());
        body.insert("feature_ids".into(), self.feature_ids.clone().into());
        body.insert("prediction_size".into(), self.prediction_size.into());
        body.insert("schema_id".into(), self.schema_id.into());
    }
}

fn field<'a>(body: &'a Map<String, Value>, field: &'static str) -> Result<&'a Value, FieldError> {
    body.get(field).ok_or(FieldError { field, rule: "is missing" })
}

fn text(body: &Map<String, Value>, name: &'static str) -> Result<String, FieldError> {
    let error = |rule| FieldError { field: name, rule };
    let Value::String(text) = field(body, name)? else {
        return Err(error("must be text"));
    };
    if text.is_empty() || text.len() > MAX_TEXT_LEN {
        return Err(error("must have 1..128 bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(error("must not hold control characters"));
    }
    Ok(text.clone())
}

fn integer(body: &Map<String, Value>, name: &'static str) -> Result<i64, FieldError> {
    let value = field(body, name)?;
    let whole = match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    whole.ok_or(FieldError { field: name, rule: "must be a 64-bit integer" })
}

fn whole(value: f64) -> Option<i64> {
    // Beyond 2^53 a float no longer names one integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "range and fraction are checked")]
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

fn floats(body: &Map<String, Value>, name: &'static str) -> Result<Vec<f64>, FieldError> {
    let error = |rule| FieldError { field: name, rule };
    let Value::Array(items) = field(body, name)? else {
        return Err(error("must be a list"));
    };
    if items.len() > MAX_FEATURES {
        return Err(error("must have at most 1024 entries"));
    }
    items
        .iter()
        .map(|item| match item {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        })
        .map(|number| number.filter(|value| value.is_finite()))
        .collect::<Option<_>>()
        .ok_or(error("must hold finite numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    const GOOD: &str = r#"{"request_uuid":"u","stream_id":"BTCUSD-5m","topic_id":"1",
        "feature_ids":[1,"2",3.5],"prediction_size":100.0,"schema_id":-1}"#;

    #[test]
    fn numeric_text_and_whole_floats_count_as_numbers() {
        let request = ForecastRequest::from_body(&body(GOOD)).unwrap();
        assert_eq!(request.topic_id, 1);
        assert_eq!(request.schema_id, -1);
        assert_eq!(request.prediction_size, 100);
        assert_eq!(request.feature_ids, [1.0, 2.0, 3.5]);
    }

    #[test]
    fn each_broken_field_is_named() {
        let cases = [
            ("request_uuid", r#""""#),
            ("request_uuid", r#""a\nb""#),
            ("stream_id", "5"),
            ("topic_id", "null"),
            ("topic_id", "1.5"),
            ("topic_id", "1e300"),
            ("feature_ids", "[null]"),
            ("feature_ids", r#"["nan"]"#),
            ("prediction_size", "0"),
            ("prediction_size", "-1"),
            ("prediction_size", "4294967296"),
            ("prediction_size", r#""many""#),
        ];
        for (name, bad) in cases {
            let mut fields = body(GOOD);
            fields.insert(name.to_owned(), serde_json::from_str(bad).unwrap());
            let error = ForecastRequest::from_body(&fields).unwrap_err();
            assert_eq!(error.field, name, "{bad}");
            fields.remove(name);
            assert_eq!(ForecastRequest::from_body(&fields).unwrap_err().field, name);
        }
    }
}
