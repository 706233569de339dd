//! The form of a figure, the same for all benches.

use std::time::Duration;

use forecastd::output;
use serde::Serialize;

/// Which direction is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// Times and sizes.
    Less,
    /// Rates.
    More,
}

/// What the same measurement gives elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Peer {
    /// A peer was measured in the same call.
    Measured {
        /// What it is.
        name: String,
        /// Its figure in the unit of ours.
        value: f64,
    },
    /// No peer ran, with the reason.
    Missing(String),
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Figure<'a> {
    /// The bench's name.
    pub(crate) bench: &'a str,
    /// What was measured.
    pub(crate) metric: &'a str,
    /// Ours.
    pub(crate) value: f64,
    /// Of both values.
    pub(crate) unit: &'a str,
    /// Decides what a ratio above 1 means: that we are better.
    pub(crate) better: Better,
    /// The peer's.
    pub(crate) peer: Peer,
    /// How it was measured.
    pub(crate) conditions: String,
}

/// The printed form; the names are a contract with scripts.
#[derive(Serialize)]
struct Line<'a> {
    bench: &'a str,
    metric: &'a str,
    value: f64,
    unit: &'a str,
    peer: Option<&'a str>,
    peer_value: Option<f64>,
    ratio: Option<f64>,
    conditions: String,
}

impl Figure<'_> {
    /// Prints the figure as one line of JSON.
    ///
    /// # Errors
    /// Never for finite figures.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let machine = machine();
        let (peer, peer_value, conditions) = match &self.peer {
            Peer::Measured { name, value } => {
                (Some(name.as_str()), Some(*value), format!("{machine}; {}", self.conditions))
            }
            Peer::Missing(reason) => {
                (None, None, format!("{machine}; {}; no peer: {reason}", self.conditions))
            }
        };
        let ratio = peer_value.map(|peer| match self.better {
            Better::Less => peer / self.value,
            Better::More => self.value / peer,
        });
        let line = Line {
            bench: self.bench,
            metric: self.metric,
            value: rounded(self.value),
            unit: self.unit,
            peer,
            peer_value: peer_value.map(rounded),
            ratio: ratio.filter(|ratio| ratio.is_finite()).map(rounded),
            conditions,
        };
        output::line(&serde_json::to_string(&line)?);
        Ok(())
    }
}

/// Four significant digits; the rest is noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Returns cores, profile and how busy the machine is.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    let load = load.as_deref().and_then(|text| text.split(' ').next()).unwrap_or("unknown");
    format!("{cores} cores, {profile} profile, load {load}")
}

/// Returns the value below which `share` of the samples lie.
pub(crate) fn quantile_ms(samples: &mut [Duration], share: f64) -> f64 {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index below the length"
    )]
    let index = (last as f64 * share).round() as usize;
    samples.get(index).map_or(f64::NAN, Duration::as_secs_f64) * 1e3
}
