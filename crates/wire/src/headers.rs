//! Header names of the protocol and the forms of their values.

use reqwest::header::HeaderValue;

pub(crate) const NAME: &str = "name";
pub(crate) const TIMEOUT: &str = "timeout";
pub(crate) const HEADER_SIZE: &str = "header_size";
pub(crate) const TOTAL_SIZE: &str = "total_size";
pub(crate) const BODY_HASH: &str = "computed_body_hash";

pub(crate) const AXON_IP: &str = "bt_header_axon_ip";
pub(crate) const AXON_PORT: &str = "bt_header_axon_port";
pub(crate) const AXON_HOTKEY: &str = "bt_header_axon_hotkey";
pub(crate) const AXON_STATUS_CODE: &str = "bt_header_axon_status_code";
pub(crate) const AXON_STATUS_MESSAGE: &str = "bt_header_axon_status_message";
pub(crate) const AXON_PROCESS_TIME: &str = "bt_header_axon_process_time";

pub(crate) const DENDRITE_IP: &str = "bt_header_dendrite_ip";
pub(crate) const DENDRITE_VERSION: &str = "bt_header_dendrite_version";
pub(crate) const DENDRITE_NONCE: &str = "bt_header_dendrite_nonce";
pub(crate) const DENDRITE_UUID: &str = "bt_header_dendrite_uuid";
pub(crate) const DENDRITE_HOTKEY: &str = "bt_header_dendrite_hotkey";
pub(crate) const DENDRITE_SIGNATURE: &str = "bt_header_dendrite_signature";

/// Longest text that goes into a header value, bytes.
const MAX_VALUE_LEN: usize = 1024;

/// Returns `text` as one line of printable ASCII of at most 1024 bytes.
///
/// A line break in a header would let a caller forge headers, and breaks the SDK's own server.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .take(MAX_VALUE_LEN)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

/// Returns a header value for any text, see [`one_line`].
pub(crate) fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(one_line(text)).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

/// Returns seconds as Python prints a float: `12.0`.
pub(crate) fn python_seconds(seconds: f64) -> String {
    forecastd_core::commitment::python_float(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_break_reaches_a_header() {
        let text = value("a\r\nset-cookie: x\u{e9}\0");
        assert_eq!(text.to_str().unwrap(), "a??set-cookie: x??");
        assert_eq!(value(&"x".repeat(5000)).len(), 1024);
    }
}
