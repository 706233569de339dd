//! The daemon: configuration, commands, signals, reload, logs and the operator's interface around
//! the actor tree.
//!
//! Features: `devnet` (default) compiles the embedded network of `forecastd dev`.

pub mod admin;
pub mod assemble;
pub mod assets;
pub mod bar_page;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod exit;
pub mod log_tail;
pub mod logging;
pub mod memory;
pub mod output;
pub mod reload;
pub mod signals;
pub mod streams;
pub mod views;
