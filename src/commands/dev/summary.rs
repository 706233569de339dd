//! The last line of `forecastd dev`: what became of all rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Context as _;
use forecastd_core::StreamId;
use forecastd_store::{ResultRecord, RoundRecord};
use serde::Serialize;

use super::board::{self, BoardRow};
use super::network::Network;
use crate::views;

/// The end of an embedded network's run. `event` is `summary`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    event: &'static str,
    /// Market time.
    pub at_ms: i64,
    actor: &'static str,
    /// Market time that has passed since the network began.
    pub market_hours: f64,
    /// Rounds that were opened.
    pub rounds_planned: usize,
    /// Rounds with scores.
    pub rounds_scored: usize,
    /// Rounds without, by reason.
    pub rounds_void: BTreeMap<String, usize>,
    /// Rounds that are not due yet.
    pub rounds_pending: usize,
    /// Rounds that were due a market hour or more ago and have no result: must be 0.
    pub unsettled: usize,
    /// Slots between the first and the last round that were not asked.
    pub slots_skipped: usize,
    /// Best miner first.
    pub leader_board: Vec<BoardRow>,
    /// Weight settings on the chain.
    pub weights_set: usize,
    /// Actor restarts of all nodes in this process.
    pub restarts: u64,
    /// Greatest resident memory of this process, bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// A due round may wait this long for its candles before it counts as unsettled.
const SETTLING_MS: i64 = 3_600_000;

impl Summary {
    /// Returns the leader board as it stands.
    ///
    /// # Errors
    /// The validator's store cannot be read.
    pub fn rows(network: &Network) -> anyhow::Result<Vec<BoardRow>> {
        let node = network.validator().context("the network has no validator")?.node();
        let metagraph = node.boards.metagraph.load_full();
        let rows = views::scores(&node.store, None, metagraph.as_deref())?;
        Ok(board::leader_board(rows, &network.names))
    }

    /// Reads everything from the validator's store.
    ///
    /// # Errors
    /// The validator's store cannot be read.
    pub fn collect(network: &Network) -> anyhow::Result<Self> {
        let node = network.validator().context("the network has no validator")?.node();
        let now_ms = network.market.now_ms();
        let mut slots: BTreeMap<StreamId, BTreeSet<i64>> = BTreeMap::new();
        let (mut scored, mut void) = (0, BTreeMap::new());
        for row in node.store.scan::<ResultRecord>(..) {
            let ((stream, slot_ms), result) = row?;
            slots.entry(stream).or_default().insert(slot_ms);
            match result.void_reason {
                None => scored += 1,
                Some(reason) => *void.entry(reason).or_insert(0) += 1,
            }
        }
        let (mut pending, mut unsettled) = (0, 0);
        for row in node.store.scan::<RoundRecord>(..) {
            let ((stream, slot_ms), round) = row?;
            if !slots.entry(stream).or_default().insert(slot_ms) {
                continue;
            }
            if round.due_at_ms + SETTLING_MS < now_ms {
                unsettled += 1;
            } else {
                pending += 1;
            }
        }
        let (mut planned, mut skipped) = (0, 0);
        for stream in &node.settings.load().streams {
            let Some(asked) = slots.get(&stream.spec.id) else { continue };
            let span_ms = asked.last().zip(asked.first()).map_or(0, |(last, first)| last - first);
            let possible = usize::try_from(span_ms / stream.spec.round_every.as_ms()).unwrap_or(0);
            planned += asked.len();
            skipped += (possible + 1).saturating_sub(asked.len());
        }
        let weights = views::weights(&node.store, usize::MAX)?;
        Ok(Self {
            event: "summary",
            at_ms: now_ms,
            actor: "root",
            market_hours: (now_ms - network.began_ms) as f64 / 3_600_000.0,
            rounds_planned: planned,
            rounds_scored: scored,
            rounds_void: void,
            rounds_pending: pending,
            unsettled,
            slots_skipped: skipped,
            leader_board: Self::rows(network)?,
            weights_set: weights.iter().filter(|row| row.outcome == "set").count(),
            restarts: network
                .daemons
                .iter()
                .map(|(_, daemon)| daemon.node().vitals.restarts())
                .sum(),
            peak_memory_bytes: crate::memory::peak_resident_bytes(),
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after {:.1} h of market time:", self.market_hours)?;
        writeln!(
            f,
            "  rounds: {} opened, {} scored, {} void, {} not due yet, {} unsettled, {} slots skipped",
            self.rounds_planned,
            self.rounds_scored,
            self.rounds_void.values().sum::<usize>(),
            self.rounds_pending,
            self.unsettled,
            self.slots_skipped,
        )?;
        for (reason, count) in &self.rounds_void {
            writeln!(f, "  void {count} times: {reason}")?;
        }
        writeln!(
            f,
            "  weights set {} times, actors restarted {} times",
            self.weights_set, self.restarts
        )?;
        if let Some(bytes) = self.peak_memory_bytes {
            writeln!(f, "  peak memory {} MiB", bytes >> 20)?;
        }
        write!(f, "{}", board::table(&self.leader_board))
    }
}
