//! Tests of the whole workspace and of the daemon, one module a topic.

mod config;
mod layering;
#[cfg(feature = "devnet")]
mod network;
