//! Coinbase Exchange's stream messages and REST bodies.

#![no_main]

#[path = "../../crates/exchange/tests/fixtures/checks.rs"]
#[allow(dead_code, reason = "each target uses one of the checks")]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::coinbase(input));
