//! Turns an HTTP answer into the result of a synapse, by the rules of the SDK's client.
//!
//! Deliberate differences: an error status is reported whatever the body's type is, and values that
//! come with an error status in the synapse header are not taken.

use forecastd_core::commitment::is_commitment;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value};

use crate::error::QueryError;
use crate::headers;
use crate::synapse::{ForecastRequest, Synapse};

/// Longest reason of an axon that is kept, characters.
const MAX_REASON_LEN: usize = 256;

/// The body of a good answer.
#[derive(Debug)]
pub(super) struct Answer {
    fields: Map<String, Value>,
}

impl Answer {
    /// Checks status, content type, synapse status and the required fields.
    ///
    /// A good answer without the synapse's status headers is taken: the original validator does not
    /// look at them.
    pub(super) fn decode(
        status: u16,
        map: &HeaderMap,
        body: &[u8],
        synapse: Synapse,
    ) -> Result<Self, QueryError> {
        let own_status = own_status(map);
        if status != 200 {
            let code = match own_status {
                Ok(Some(code)) if code != 200 => code,
                _ => status,
            };
            return Err(QueryError::Status { code, message: reason(map, body) });
        }
        if !is_json(map) {
            return Err(QueryError::Decode("content-type is not application/json".to_owned()));
        }
        if let Some(code) = own_status?
            && code != 200
        {
            return Err(QueryError::Status { code, message: reason(map, body) });
        }
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| QueryError::Decode(headers::one_line(&error.to_string())))?;
        let Value::Object(fields) = value else {
            return Err(QueryError::Decode("body is not a JSON object".to_owned()));
        };
        // The values of these fields are ours, so the axon's copies are only required to be there.
        ForecastRequest::from_body(&fields)
            .map_err(|error| QueryError::Decode(format!("{} {error}", synapse.name())))?;
        Ok(Self { fields })
    }

    /// Returns the commitment of a `LiveForwardHash` answer.
    pub(super) fn commitment(&self) -> Result<String, QueryError> {
        const FIELD: &str = "hashed_predictions";
        match self.fields.get(FIELD) {
            None | Some(Value::Null) => Err(QueryError::NoAnswer { field: FIELD }),
            Some(Value::String(text)) if is_commitment(text) => Ok(text.clone()),
            Some(_) => Err(QueryError::Decode(
                "`hashed_predictions` is not 64 lower-case hex digits".to_owned(),
            )),
        }
    }

    /// Returns the tensor object of a `LiveForward` answer.
    pub(super) fn predictions(&self) -> Result<&Value, QueryError> {
        const FIELD: &str = "predictions";
        match self.fields.get(FIELD) {
            None | Some(Value::Null) => Err(QueryError::NoAnswer { field: FIELD }),
            Some(value) => Ok(value),
        }
    }
}

fn is_json(map: &HeaderMap) -> bool {
    let content_type = map.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (mime, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    mime.trim().eq_ignore_ascii_case("application/json")
}

/// Reads the status that the axon put into its synapse header.
fn own_status(map: &HeaderMap) -> Result<Option<u16>, QueryError> {
    let Some(value) = map.get(headers::AXON_STATUS_CODE) else {
        return Ok(None);
    };
    let code = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    code.map(Some)
        .ok_or_else(|| QueryError::Decode("synapse status header is not a number".to_owned()))
}

/// Returns the axon's own words: the status header, else `message` of the body.
fn reason(map: &HeaderMap, body: &[u8]) -> String {
    let header = map.get(headers::AXON_STATUS_MESSAGE).and_then(|value| value.to_str().ok());
    let text = match header {
        Some(text) => text.to_owned(),
        None => serde_json::from_slice::<Value>(body)
            .ok()
            .and_then(|value| value.get("message")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| "no reason given".to_owned()),
    };
    headers::one_line(&text).chars().take(MAX_REASON_LEN).collect()
}
