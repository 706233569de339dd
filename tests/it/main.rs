//! Tests of the whole workspace and of the daemon, one module a topic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may panic and say why they skip"
)]

mod commands;
mod config;
#[cfg(feature = "devnet")]
mod faults;
mod features;
#[cfg(feature = "devnet")]
mod fetch;
#[cfg(feature = "devnet")]
mod history;
#[cfg(feature = "devnet")]
mod interop;
mod layering;
#[cfg(feature = "devnet")]
mod market;
#[cfg(feature = "devnet")]
mod network;
#[cfg(feature = "devnet")]
mod soak;
#[cfg(feature = "devnet")]
mod support;
