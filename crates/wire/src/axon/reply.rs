//! Answers: status, synapse headers and JSON body.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::counters::Outcome;
use super::service::{InFlight, Shared};
use crate::headers;
use crate::synapse::Synapse;

/// Longest reason that is sent back, characters.
const MAX_MESSAGE_LEN: usize = 1024;

/// Request headers that an answer repeats, as the SDK's server does.
const REPEATED: [&str; 10] = [
    headers::TIMEOUT,
    headers::AXON_IP,
    headers::AXON_PORT,
    headers::DENDRITE_IP,
    headers::DENDRITE_VERSION,
    headers::DENDRITE_NONCE,
    headers::DENDRITE_UUID,
    headers::DENDRITE_HOTKEY,
    headers::DENDRITE_SIGNATURE,
    headers::BODY_HASH,
];

/// How a request is answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) outcome: Outcome,
    status: u16,
    /// Text of the status header; `None` for the web framework's own errors.
    message: Option<String>,
    body: Bytes,
    /// What really was wrong, for our log only.
    detail: Option<String>,
    close: bool,
    allow: bool,
}

impl Reply {
    /// The answer that was asked for.
    pub(super) fn success(body: &Map<String, Value>) -> Self {
        Self {
            outcome: Outcome::Answered,
            status: 200,
            message: Some("Success".to_owned()),
            body: to_bytes(body),
            detail: None,
            close: false,
            allow: false,
        }
    }

    /// An error with a reason that the caller reads.
    pub(super) fn error(status: u16, message: impl Into<String>, outcome: Outcome) -> Self {
        let message: String = message.into().chars().take(MAX_MESSAGE_LEN).collect();
        Self {
            outcome,
            status,
            body: to_bytes(&json!({ "message": message })),
            message: Some(message),
            detail: None,
            close: false,
            allow: false,
        }
    }

    /// An error in the form of the web framework below the SDK.
    pub(super) fn framework(status: u16, detail: &Value) -> Self {
        Self {
            outcome: Outcome::Malformed,
            status,
            message: None,
            body: to_bytes(&json!({ "detail": detail })),
            detail: None,
            close: false,
            allow: status == 405,
        }
    }

    /// The bare 500 by which the SDK answers whatever it cannot parse; the reason is logged under
    /// the same number.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::unexplained(detail, Outcome::Malformed)
    }

    /// The bare 500 for a failure of our own.
    pub(super) fn failed(detail: impl Into<String>) -> Self {
        Self::unexplained(detail, Outcome::Failed)
    }

    fn unexplained(detail: impl Into<String>, outcome: Outcome) -> Self {
        let number = uuid::Uuid::new_v4();
        let mut reply = Self::error(500, format!("Internal Server Error #{number}"), outcome);
        reply.detail = Some(format!("#{number}: {}", detail.into()));
        reply
    }

    /// Lets the connection end with this answer.
    pub(super) const fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Builds the response. `request`: headers to repeat. `process_secs`: time since the start.
    pub(super) fn into_response(
        self,
        shared: &Shared,
        synapse: Option<Synapse>,
        request: &HeaderMap,
        process_secs: f64,
        in_flight: InFlight,
    ) -> HttpResponse<BoxBody> {
        if let Some(detail) = &self.detail {
            if self.outcome == Outcome::Failed {
                tracing::error!(%detail, "synapse handler failed");
            } else {
                tracing::debug!(%detail, "malformed request");
            }
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        response.content_type("application/json");
        if let Some(message) = &self.message {
            let name = synapse.unwrap_or(Synapse::Echo).name();
            put(&mut response, headers::NAME, name);
            put(&mut response, headers::AXON_STATUS_CODE, &status.as_u16().to_string());
            put(&mut response, headers::AXON_STATUS_MESSAGE, message);
            let process_time = headers::python_seconds(process_secs);
            put(&mut response, headers::AXON_PROCESS_TIME, &process_time);
            put(&mut response, headers::AXON_HOTKEY, &shared.hotkey_text);
            if synapse.is_some() {
                for name in REPEATED {
                    if let Some(value) = request.get(name) {
                        response.insert_header((HeaderName::from_static(name), value.clone()));
                    }
                }
            }
        }
        if self.allow {
            response.insert_header(("allow", "POST, GET"));
        }
        if self.close {
            response.force_close();
        }
        response.body(CountedBody { bytes: Some(self.body), _in_flight: in_flight })
    }
}

fn put(response: &mut HttpResponseBuilder, name: &'static str, text: &str) {
    response.insert_header((HeaderName::from_static(name), headers::one_line(text)));
}

fn to_bytes(value: &impl serde::Serialize) -> Bytes {
    // A JSON value has text keys and no foreign serializer: it cannot fail.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

/// A body that keeps its request counted as under way until it has been written.
struct CountedBody {
    bytes: Option<Bytes>,
    _in_flight: InFlight,
}

impl MessageBody for CountedBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(self.bytes.take().map(Ok))
    }
}
