//! Simulators for tests and for the embedded network: everything that `forecastd dev` and the
//! adapter tests need instead of the outside world.
//!
//! All of them listen on loopback only.

pub mod chain;
pub mod exchange;
pub mod peers;
