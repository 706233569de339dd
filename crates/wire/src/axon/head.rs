//! What the headers of a request say, and whether they may be believed.

use actix_web::http::header::HeaderMap;
use forecastd_core::Hotkey;

use super::reply::Reply;
use super::service::Shared;
use super::{Caller, counters::Outcome};
use crate::headers;
use crate::signing;
use crate::synapse::Synapse;

/// What the SDK assumes when a request names no timeout, seconds.
const DEFAULT_TIMEOUT_SECS: f64 = 12.0;

/// The parsed headers of one request. Nothing in it is proven.
#[derive(Debug)]
pub(super) struct Head<'a> {
    /// Seconds that the caller waits; finite and not negative.
    pub(super) timeout_secs: f64,
    pub(super) version: Option<u64>,
    nonce: Option<u64>,
    uuid: Option<&'a str>,
    hotkey: Option<&'a str>,
    signature: Option<&'a str>,
    body_hash: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// Reads the headers; the SDK answers each of these errors with a bare 500.
    pub(super) fn parse(map: &'a HeaderMap, synapse: Synapse) -> Result<Self, Reply> {
        for (name, _) in synapse.field_headers() {
            if !map.contains_key(*name) {
                return Err(Reply::malformed(format!("header `{name}` is missing")));
            }
        }
        let timeout_secs = match text(map, headers::TIMEOUT)? {
            None => DEFAULT_TIMEOUT_SECS,
            Some(text) => {
                text.parse().ok().filter(|secs: &f64| secs.is_finite() && *secs >= 0.0).ok_or_else(
                    || Reply::malformed("header `timeout` is not a number of seconds"),
                )?
            }
        };
        Ok(Self {
            timeout_secs,
            version: integer(map, headers::DENDRITE_VERSION)?,
            nonce: integer(map, headers::DENDRITE_NONCE)?,
            uuid: text(map, headers::DENDRITE_UUID)?,
            hotkey: text(map, headers::DENDRITE_HOTKEY)?,
            signature: text(map, headers::DENDRITE_SIGNATURE)?,
            body_hash: text(map, headers::BODY_HASH)?,
        })
    }

    /// Returns the hotkey that the caller claims.
    pub(super) fn claimed(&self) -> Result<Hotkey, Reply> {
        let Some(text) = self.hotkey else {
            return Err(unverified("No SS58 formatted address or public key provided."));
        };
        Hotkey::from_ss58(text).map_err(|error| unverified(&error.to_string()))
    }

    /// Checks nonce and signature, then uses up the nonce.
    pub(super) fn verify(&self, shared: &Shared, caller: &Caller) -> Result<(), Reply> {
        let nonce = self.nonce.ok_or_else(|| unverified("Missing Nonce"))?;
        let signature_text = self.signature.ok_or_else(|| unverified("Missing Signature"))?;
        let window = shared.window(self.timeout_secs);
        let replayed = |error: super::replay::NonceError| {
            Reply::error(401, format!("Not Verified with error: {error}"), Outcome::Replayed)
        };
        shared.replay().check(&caller.hotkey, nonce, window).map_err(replayed)?;
        let message = signing::request_text(
            nonce,
            &caller.hotkey.to_ss58(),
            &shared.hotkey_text,
            self.uuid.unwrap_or("None"),
            self.body_hash.unwrap_or("None"),
        );
        let holds = signing::parse_signature(signature_text).is_some_and(|signature| {
            signing::verify(&caller.hotkey, message.as_bytes(), &signature)
        });
        if !holds || self.uuid.is_none() || self.body_hash.is_none() {
            let text = format!("Signature mismatch with {message} and {signature_text}");
            return Err(unverified(&text));
        }
        shared.replay().accept(&caller.hotkey, nonce, window).map_err(replayed)
    }

    /// Checks the announced body hash: the classes of the subnet hash no field.
    pub(super) fn check_body_hash(&self) -> Result<(), Reply> {
        if self.body_hash == Some(signing::EMPTY_BODY_HASH) {
            return Ok(());
        }
        Err(Reply::malformed("header `computed_body_hash` does not fit the body"))
    }

    /// The caller's name for its client.
    pub(super) fn uuid(&self) -> &str {
        self.uuid.unwrap_or_default()
    }
}

fn unverified(reason: &str) -> Reply {
    Reply::error(401, format!("Not Verified with error: {reason}"), Outcome::Unverified)
}

fn text<'a>(map: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Reply> {
    let Some(value) = map.get(name) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| Reply::malformed(format!("header `{name}` is not plain ASCII")))?;
    Ok(Some(text.trim()))
}

/// Reads a decimal number. Signs, blanks and leading zeros are refused, so that the signed text
/// can be made from the number.
fn integer(map: &HeaderMap, name: &'static str) -> Result<Option<u64>, Reply> {
    let Some(text) = text(map, name)? else {
        return Ok(None);
    };
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = if plain { text.parse().ok() } else { None };
    number
        .map(Some)
        .ok_or_else(|| Reply::malformed(format!("header `{name}` is not a decimal number")))
}
