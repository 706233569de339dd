//! Settings and limits of an axon.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::error::WireError;

/// Bounds on what callers may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AxonLimits {
    /// Greatest body, bytes; a real one has 1000.
    pub body_bytes: usize,
    /// Greatest sum of header names and values, bytes; real ones have 2000.
    pub header_bytes: usize,
    /// Open connections over all workers; more wait in the system's queue.
    pub connections: usize,
    /// Time for a request from its first byte after the headers to its answer. The caller's own
    /// `timeout` header may shorten it.
    pub request_timeout: Duration,
    /// Time for the headers to arrive on a connection.
    pub head_timeout: Duration,
    /// Time that an idle connection stays open.
    pub keep_alive: Duration,
    /// Hotkeys in the replay memory.
    pub replay_entries: usize,
    /// Nonces kept for each hotkey; requests of one hotkey may overtake each other by this many.
    pub nonces_per_hotkey: usize,
}

impl Default for AxonLimits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            header_bytes: 16 * 1024,
            connections: 1024,
            request_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(15),
            replay_entries: 4096,
            nonces_per_hotkey: 256,
        }
    }
}

/// Settings of an axon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AxonConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Server threads.
    pub workers: usize,
    /// Bounds on what callers may cost.
    pub limits: AxonLimits,
    /// How far a nonce may lie ahead of our clock, and how far behind it beyond the request's own
    /// timeout. The SDK's own server allows 4 s behind and any time ahead.
    pub nonce_window: Duration,
    /// Greatest `timeout` header that widens the window of accepted nonces.
    pub max_timeout: Duration,
}

impl Default for AxonConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8091),
            workers: 2,
            limits: AxonLimits::default(),
            nonce_window: Duration::from_secs(4),
            max_timeout: Duration::from_mins(1),
        }
    }
}

impl AxonConfig {
    /// Returns the defaults on a free loopback port with one worker, for tests and simulators.
    pub fn loopback() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            workers: 1,
            ..Self::default()
        }
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// [`WireError::Setting`] for the first one that is outside.
    pub fn validate(&self) -> Result<(), WireError> {
        let limits = &self.limits;
        count("workers", self.workers, 1..=256, "1..256")?;
        count("limits.body_bytes", limits.body_bytes, 2048..=16 << 20, "2048..16777216")?;
        count("limits.header_bytes", limits.header_bytes, 4096..=128 << 10, "4096..131072")?;
        count("limits.connections", limits.connections, 1..=1 << 20, "1..1048576")?;
        count("limits.replay_entries", limits.replay_entries, 16..=1 << 20, "16..1048576")?;
        count("limits.nonces_per_hotkey", limits.nonces_per_hotkey, 1..=65_536, "1..65536")?;
        span("limits.request_timeout", limits.request_timeout)?;
        span("limits.head_timeout", limits.head_timeout)?;
        span("limits.keep_alive", limits.keep_alive)?;
        span("nonce_window", self.nonce_window)?;
        span("max_timeout", self.max_timeout)
    }
}

fn count(
    setting: &'static str,
    value: usize,
    range: std::ops::RangeInclusive<usize>,
    must: &'static str,
) -> Result<(), WireError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(WireError::Setting { setting, value: value.to_string(), must })
}

fn span(setting: &'static str, value: Duration) -> Result<(), WireError> {
    const RANGE: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_hours(1);
    if RANGE.contains(&value) {
        return Ok(());
    }
    Err(WireError::Setting { setting, value: format!("{value:?}"), must: "1ms..3600s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_zeros_are_named() {
        AxonConfig::default().validate().unwrap();
        let config = AxonConfig { workers: 0, ..AxonConfig::default() };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "axon setting `workers` is 0, must be 1..256"
        );
        let config = AxonConfig { nonce_window: Duration::ZERO, ..AxonConfig::default() };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "axon setting `nonce_window` is 0ns, must be 1ms..3600s"
        );
    }
}
