//! Placeholder.
pub mod cli;
pub mod clock;
pub mod config;
pub mod exit;
pub mod log_tail;
pub mod logging;
