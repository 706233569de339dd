//! Parity with recorded traffic of the real SDK; the files are described in `tests/vectors`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::string_slice,
    reason = "helpers of tests may panic"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forecastd_core::{Hotkey, ManualClock, Signer};
use forecastd_wire::tensor::{Tensor, TensorObject};
use forecastd_wire::{
    Axon, AxonConfig, AxonTarget, Dendrite, DendriteConfig, QueryError, Revealed, signing,
};
use serde_json::Value;
use support::{FixedMiner, RealClock, dev, exchange, golden, read_request, request, vectors};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// What each file is run by; files of other SDK generations wait for the code that speaks them.
const FILES_RUN: [&str; 4] =
    ["10.5.0-axon.json", "10.5.0-dendrite.json", "legacy_signatures.json", "tensor.json"];
const FILES_LATER: [&str; 7] = [
    "6.7.0-axon.json",
    "6.7.0-dendrite.json",
    "9.12.2-axon.json",
    "9.12.2-dendrite.json",
    "btauth_http.json",
    "btauth_verify.json",
    "cross.json",
];

#[test]
fn every_golden_file_is_known() {
    let mut run = 0;
    let mut later = 0;
    for entry in std::fs::read_dir(vectors()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        match name.as_str() {
            known if FILES_RUN.contains(&known) => run += 1,
            known if FILES_LATER.contains(&known) => later += 1,
            "README.md" => {}
            unknown => panic!("golden file {unknown} is not run by any test"),
        }
    }
    assert_eq!(run, FILES_RUN.len());
    println!("{run} golden files run, {later} of later generations skipped");
}

#[test]
fn recorded_signatures_are_judged_as_the_sdk_does() {
    let file = golden("legacy_signatures.json");
    let rows = file["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 125);
    let mut valid = 0;
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap();
        let case = format!("{} {}", text("sdk"), text("case"));
        // Nonces that are no numbers never get as far as a signed text.
        if let Ok(nonce) = text("nonce").parse() {
            let message = signing::request_text(
                nonce,
                text("sender"),
                text("receiver"),
                text("uuid"),
                text("body_hash"),
            );
            assert_eq!(message, text("message"), "{case}");
        }
        let sender = Hotkey::from_ss58(text("sender")).unwrap();
        let holds = signing::parse_signature(text("signature"))
            .is_some_and(|s| signing::verify(&sender, text("message").as_bytes(), &s));
        assert_eq!(Some(holds), row["signature_valid"].as_bool(), "{case}");
        valid += usize::from(holds);
    }
    assert!(valid > 80, "{valid}");
}

#[test]
fn recorded_tensors_decode_to_their_python_text_and_rows_are_written_alike() {
    let file = golden("tensor.json");
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    let mut written = 0;
    for case in cases {
        let name = case["case"].as_str().unwrap();
        let tensor = Tensor::from_json(&case["tensor"]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let shape: Vec<usize> = serde_json::from_value(case["decoded_shape"].clone()).unwrap();
        assert_eq!(tensor.shape(), shape, "{name}");
        assert_eq!(Some(tensor.python_text().as_str()), case["tolist_text"].as_str(), "{name}");
        if case["numpy_dtype"] == "float64" && shape.len() == 1 {
            let object = TensorObject::from_row(&tensor.into_values());
            assert_eq!(serde_json::to_value(object).unwrap(), case["tensor"], "{name}");
            written += 1;
        }
    }
    assert_eq!(written, 5);
}

/// Milliseconds by which the recording server's clock was past the request's nonce.
const CLOCK_OFFSETS_MS: [(&str, i64); 5] = [
    ("future_nonce", -86_400_000),
    ("stale_15s", 15_000),
    ("stale_17s", 17_010),
    ("stale_5s_timeout_0_5", 5_020),
    ("stale_old_version", 3_600_000),
];

/// Cases that we answer differently on purpose: status, beginning of the message, reason.
const AXON_DIFFERENCES: [(&str, u16, &str, &str); 3] = [
    (
        "future_nonce",
        401,
        "Not Verified with error: Nonce is too far ahead: acceptable lead is 4.00 seconds",
        "an accepted future nonce would lock its hotkey out",
    ),
    ("after_future_nonce", 200, "", "the future nonce was not accepted, so it blocks nothing"),
    (
        "stale_old_version",
        401,
        "Not Verified with error: Nonce is too old: acceptable delta is 16.00 seconds",
        "a version header must not switch the freshness rule off",
    ),
];

/// Cases of classes that only the recording server had: our server does not know the name.
const AXON_OTHER_CLASSES: [&str; 8] = [
    "blacklist_exception",
    "handler_exception",
    "handler_returns_none",
    "handler_timeout",
    "priority_exception",
    "priority_exception_and_body_not_json",
    "priority_timeout",
    "required_hash_fields_ok",
];

#[tokio::test(flavor = "multi_thread")]
async fn recorded_requests_get_the_recorded_answers() {
    let file = golden("10.5.0-axon.json");
    let captures = file["captures"].as_array().unwrap();
    let bob = dev("//Bob");
    let served = captures.iter().find(|c| c["case"] == "forward_ok").unwrap();
    let served_body = json_body(&served["response"]);
    let values = Tensor::from_json(&served_body["predictions"]).unwrap().into_values();
    let mut miner = FixedMiner::new(bob.hotkey(), values);
    miner.refused = vec![dev("//Dave").hotkey()];
    let earliest = captures.iter().filter_map(nonce).min().unwrap();
    let clock = Arc::new(ManualClock::new(earliest - 86_400_000));
    let axon =
        Axon::spawn(AxonConfig::loopback(), bob, clock.clone(), Arc::new(miner)).await.unwrap();
    let mut seen = BTreeMap::new();
    for capture in captures {
        let case = capture["case"].as_str().unwrap();
        let offset = CLOCK_OFFSETS_MS.iter().find(|(name, _)| *name == case).map_or(0, |o| o.1);
        clock.set(nonce(capture).unwrap_or(earliest) + offset);
        let got = exchange(axon.address(), &raw_request(&capture["request"])).await.unwrap();
        let got_message = mask(&got.message());
        if AXON_OTHER_CLASSES.contains(&case) {
            assert_eq!(got.status, 404, "{case}");
            *seen.entry("other class").or_insert(0) += 1;
            continue;
        }
        if let Some((_, status, message, _)) = AXON_DIFFERENCES.iter().find(|d| d.0 == case) {
            assert_eq!(got.status, *status, "{case}: {got_message}");
            assert!(got_message.starts_with(message), "{case}: {got_message}");
            *seen.entry("different").or_insert(0) += 1;
            continue;
        }
        let want = &capture["response"];
        let want_body = json_body(want);
        assert_eq!(Some(u64::from(got.status)), want["status"].as_u64(), "{case}: {got_message}");
        let want_message = mask(want_body["message"].as_str().unwrap_or_default());
        assert_eq!(got_message, want_message, "{case}");
        if got.status == 200 {
            let body = got.json();
            let names =
                |body: &Value| body.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&body), names(&want_body), "{case}");
            for result in ["predictions", "hashed_predictions", "request_uuid", "feature_ids"] {
                assert_eq!(body.get(result), want_body.get(result), "{case} {result}");
            }
            // The identity is that of the headers, whatever the body claims.
            assert_eq!(
                body["dendrite"]["hotkey"].as_str(),
                header(capture, "bt_header_dendrite_hotkey")
            );
        }
        if got.json().get("detail").is_none() {
            for name in ["bt_header_axon_status_code", "bt_header_axon_status_message"] {
                let want = header_of(want, name).map(mask);
                assert_eq!(got.header(name).map(mask), want, "{case} {name}");
            }
        }
        *seen.entry("alike").or_insert(0) += 1;
    }
    println!("{seen:?}");
    assert_eq!(seen["different"], AXON_DIFFERENCES.len());
    assert_eq!(seen["other class"], AXON_OTHER_CLASSES.len());
    assert_eq!(seen.values().sum::<usize>(), captures.len());
    assert!(seen["alike"] >= 30);
    let counters = axon.counters();
    assert_eq!(counters.requests, u64::try_from(captures.len()).unwrap());
    axon.stop(support::DEADLINE).await;
}

/// The number of an internal error is random, and the list of classes is each server's own.
fn mask(text: &str) -> String {
    let cut = ["Internal Server Error #", "Available synapses ["]
        .into_iter()
        .find_map(|mark| Some(text.find(mark)? + mark.len()))
        .unwrap_or(text.len());
    text[..cut].to_owned()
}

fn nonce(capture: &Value) -> Option<i64> {
    let nonce: i64 = header(capture, "bt_header_dendrite_nonce")?.parse().ok()?;
    Some(nonce / 1_000_000)
}

fn header<'a>(capture: &'a Value, name: &str) -> Option<&'a str> {
    header_of(&capture["request"], name)
}

fn header_of<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    let headers = message["headers"].as_array()?;
    headers.iter().find(|pair| pair[0] == name)?[1].as_str()
}

fn body_bytes(message: &Value) -> Vec<u8> {
    STANDARD.decode(message["body_base64"].as_str().unwrap_or_default()).unwrap()
}

fn json_body(message: &Value) -> Value {
    serde_json::from_slice(&body_bytes(message)).unwrap_or(Value::Null)
}

fn raw_request(message: &Value) -> Vec<u8> {
    raw_message(message["request_line"].as_str().unwrap(), message)
}

fn raw_message(first_line: &str, message: &Value) -> Vec<u8> {
    let mut raw = format!("{first_line}\r\n").into_bytes();
    for pair in message["headers"].as_array().unwrap() {
        let line = format!("{}: {}\r\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        raw.extend_from_slice(line.as_bytes());
    }
    raw.extend_from_slice(b"\r\n");
    raw.extend_from_slice(&body_bytes(message));
    raw
}

/// Answers that we judge differently on purpose: our kind of result and the reason.
const DENDRITE_DIFFERENCES: [(&str, &str, &str); 13] = [
    ("dec_500_text", "status", "an error status says more than the type of its body"),
    ("dec_redirect", "status", "redirects are not followed, the status is shown"),
    ("dec_200_header_says_403", "status", "values beside an error status are not taken"),
    ("dec_dtype_float64", "ok", "both spellings of the type are read"),
    ("npmode_dec_dtype_torch_float64", "ok", "both spellings of the type are read"),
    ("dec_full_body_no_bt_headers", "ok", "the original validator does not read the status"),
    ("dec_hyphen_headers", "ok", "the original validator does not read the status"),
    ("dec_nan", "values", "NaN is refused at receipt"),
    ("dec_inf", "values", "infinity is refused at receipt"),
    ("dec_len_99", "values", "a wrong length is refused at receipt"),
    ("dec_scalar", "shape", "a forecast is one row"),
    ("dec_shape_1x100", "shape", "a forecast is one row"),
    ("dec_shape_2d", "shape", "a forecast is one row"),
];

#[tokio::test(flavor = "multi_thread")]
async fn recorded_answers_are_decoded_as_the_sdk_does() {
    let file = golden("10.5.0-dendrite.json");
    let captures = file["captures"].as_array().unwrap();
    let bob = dev("//Bob").hotkey();
    let config = DendriteConfig::default();
    let dendrite = Dendrite::new(dev("//Alice"), Arc::new(RealClock), config).unwrap();
    let mut seen = BTreeMap::new();
    for capture in captures {
        let case = capture["case"].as_str().unwrap();
        let outcome = &capture["dendrite_outcome"];
        let wants_hash = capture["request"]["path"] == "/LiveForwardHash";
        let (result, sent) = ask(&dendrite, bob, capture, wants_hash).await;
        if let Some((_, body)) = &sent {
            check_request_form(case, capture, body);
        }
        let kind = match &result {
            Ok(_) => "ok",
            Err(error) => error.kind(),
        };
        let different = DENDRITE_DIFFERENCES.iter().find(|d| d.0 == case);
        let want = different.map_or_else(|| expected_kinds(outcome), |d| vec![d.1]);
        assert!(want.contains(&kind), "{case}: {result:?}, want {want:?}");
        match &result {
            Ok(Got::Commitment(text)) => {
                assert_eq!(outcome["hashed_predictions"].as_str(), Some(text.as_str()), "{case}");
            }
            Ok(Got::Forecast(revealed)) => {
                assert_eq!(revealed.values.len(), 100, "{case}");
                if let Some(commitment) = outcome["commitment_of_values"].as_str() {
                    assert!(revealed.matches(&bob, commitment), "{case}");
                    let first = outcome["first"].as_str().unwrap();
                    assert!(revealed.commitment_text.starts_with(&format!("[{first}, ")), "{case}");
                }
            }
            Err(QueryError::Status { message, .. }) if different.is_none() => {
                assert_eq!(outcome["status_message"].as_str(), Some(message.as_str()), "{case}");
            }
            Err(_) => {}
        }
        let group = if different.is_some() { "different" } else { "alike" };
        *seen.entry(group).or_insert(0) += 1;
    }
    println!("{seen:?}");
    assert_eq!(seen["different"], DENDRITE_DIFFERENCES.len());
    assert!(seen["alike"] >= 45, "{seen:?}");
}

#[derive(Debug)]
enum Got {
    Commitment(String),
    Forecast(Revealed),
}

/// Returns our kinds of result that mean what the SDK's client reported.
fn expected_kinds(outcome: &Value) -> Vec<&'static str> {
    if outcome.get("predictions_error").is_some() {
        return vec!["tensor"];
    }
    match outcome["status_code"].as_u64() {
        Some(200) if outcome.get("predictions_len").is_some() => vec!["ok"],
        Some(200) if outcome["hashed_predictions"].is_string() => vec!["ok"],
        Some(200) => vec!["no_answer"],
        Some(400) => vec!["broken"],
        Some(403) => vec!["status"],
        // The SDK refuses an unknown type or shape while it builds the class.
        Some(422) => vec!["decode", "tensor"],
        Some(503) => vec!["connect"],
        other => panic!("status {other:?} has no counterpart"),
    }
}

/// Plays the recorded answer to our client; returns what the client made of it and what it sent.
async fn ask(
    dendrite: &Dendrite,
    hotkey: Hotkey,
    capture: &Value,
    wants_hash: bool,
) -> (Result<Got, QueryError>, Option<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = if let Some(line) = capture["response"]["status_line"].as_str() {
        let raw = raw_message(line, &capture["response"]);
        Some(tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let sent = read_request(&mut stream).await;
            stream.write_all(&raw).await.unwrap();
            stream.shutdown().await.unwrap();
            sent
        }))
    } else {
        drop(listener);
        None
    };
    let target = AxonTarget { hotkey, address };
    let question = request("00000000-0000-4000-8000-000000000099");
    let result = if wants_hash {
        dendrite.commit(&target, &question, support::DEADLINE).await.map(Got::Commitment)
    } else {
        dendrite.reveal(&target, &question, support::DEADLINE).await.map(Got::Forecast)
    };
    let sent = match server {
        Some(server) => Some(server.await.unwrap()),
        None => None,
    };
    (result, sent)
}

/// Compares body fields of our request with the SDK's: names, order and JSON types.
fn check_request_form(case: &str, capture: &Value, body: &[u8]) {
    let ours: Value = serde_json::from_slice(body).unwrap();
    let theirs = json_body(&capture["request"]);
    let form = |value: &Value| {
        let fields = value.as_object().unwrap();
        fields.iter().map(|(name, value)| (name.clone(), kind_of(value))).collect::<Vec<_>>()
    };
    assert_eq!(form(&ours), form(&theirs), "{case}");
    for end in ["dendrite", "axon"] {
        assert_eq!(form(&ours[end]), form(&theirs[end]), "{case} {end}");
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_headers_are_those_of_the_sdk() {
    let file = golden("10.5.0-dendrite.json");
    let capture = &file["captures"].as_array().unwrap()[0];
    let config = DendriteConfig::default();
    let dendrite = Dendrite::new(dev("//Alice"), Arc::new(RealClock), config).unwrap();
    let (_, sent) = ask(&dendrite, dev("//Bob").hotkey(), capture, false).await;
    let (head, _) = sent.unwrap();
    let ours: BTreeMap<&str, &str> =
        head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
    for pair in capture["request"]["headers"].as_array().unwrap() {
        let (name, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        match name {
            // We take no compressed answers, and do not claim to be Python.
            "Accept-Encoding" | "User-Agent" => continue,
            _ => {}
        }
        let own = ours.get(name).or_else(|| ours.get(name.to_ascii_lowercase().as_str()));
        let own = own.unwrap_or_else(|| panic!("{name} is not sent: {head}"));
        let constant = name.starts_with("bt_header_input_obj_")
            || ["name", "computed_body_hash", "bt_header_dendrite_version", "Content-Type"]
                .contains(&name)
            || name.ends_with("_hotkey");
        if constant {
            assert_eq!(*own, value, "{name}");
        }
    }
}
