//! The node's view of its subnet: who is registered, with what stake, and where to be reached.
//!
//! Receives: its own timer. Sends: nothing; publishes the metagraph on the board. Owns nothing in
//! the store. A chain that cannot be read leaves the last view in place and is said to be down;
//! the next reading is tried after the usual pause. On restart: reads at once.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_chain::{AxonEndpoint, Metagraph};
use forecastd_core::Hotkey;
use tracing::{info, warn};

use crate::error::{ActorError, StepContext};
use crate::guard;
use crate::node::Node;
use crate::vitals::Vitals;

/// Least real time between two readings, however fast the market clock runs.
const LEAST_PAUSE: Duration = Duration::from_millis(500);
/// Pause after a failed reading, real time.
const FAILED_PAUSE: Duration = Duration::from_secs(3);
/// Readings in a row behind the known view after which the chain itself went back, or the known
/// view was wrong.
const LAGGING_READINGS: u32 = 10;

#[derive(Message)]
#[rtype(result = "()")]
struct Read;

/// The metagraph actor, see the module.
#[derive(Debug)]
pub struct MetagraphReader {
    node: Node,
    vitals: Arc<Vitals>,
    /// Where this node's axon is to be found; none for a node that serves nobody.
    serve: Option<AxonEndpoint>,
    /// Readings in a row that were behind the known view.
    lagging: u32,
    resume_after: Duration,
}

impl MetagraphReader {
    /// Creates the actor; `serve` is published on the chain when the chain says something else.
    pub const fn new(node: Node, vitals: Arc<Vitals>, serve: Option<AxonEndpoint>) -> Self {
        Self { node, vitals, serve, lagging: 0, resume_after: Duration::ZERO }
    }

    fn take(&mut self, ctx: &mut Context<Self>, read: Result<Metagraph, ActorError>) {
        let pause = match read {
            Ok(metagraph) => {
                let before = self.node.boards.metagraph.load_full();
                let newer = before.as_ref().filter(|view| view.block > metagraph.block);
                if let Some(before) = newer.filter(|_| self.lagging < LAGGING_READINGS) {
                    self.lagging += 1;
                    // Another node of the chain, behind the one that was read before.
                    warn!(
                        actor = "metagraph",
                        block = metagraph.block,
                        known = before.block,
                        "the chain's node lags, keeping the newer view"
                    );
                    ctx.run_later(FAILED_PAUSE, |_, ctx| ctx.notify(Read));
                    return;
                }
                self.lagging = 0;
                report_changes(before.as_deref(), &metagraph);
                self.node.boards.update(|live| {
                    live.head_block = live.head_block.max(metagraph.block);
                    live.chain_connected = true;
                });
                self.node.boards.metagraph.store(Some(Arc::new(metagraph)));
                let every = self.node.settings.load().metagraph_every;
                self.node.market.real_duration_of(every).max(LEAST_PAUSE)
            }
            Err(error) => {
                warn!(actor = "metagraph", %error, "chain not read, keeping the last view");
                self.node.boards.update(|live| live.chain_connected = false);
                FAILED_PAUSE
            }
        };
        ctx.run_later(pause, |_, ctx| ctx.notify(Read));
    }
}

/// Reads the metagraph and, when the chain lists another axon than ours, serves ours.
async fn read(node: Node, serve: Option<AxonEndpoint>) -> Result<Metagraph, ActorError> {
    let metagraph = node.chain.metagraph().await.step("reading the metagraph")?;
    let own = metagraph.by_hotkey(&node.hotkey());
    if let (Some(wanted), Some(neuron)) = (&serve, own)
        && !is_served(neuron.axon.as_ref(), wanted)
    {
        match node.chain.serve_axon(&node.key.chain_signer(), wanted).await {
            Ok(submitted) => info!(
                actor = "metagraph",
                block = submitted.block,
                ip = %wanted.ip,
                port = wanted.port,
                "axon is served on the chain"
            ),
            // Read again soon: an unknown outcome shows in the next metagraph.
            Err(error) => warn!(actor = "metagraph", %error, "axon not served on the chain"),
        }
    }
    Ok(metagraph)
}

fn is_served(listed: Option<&AxonEndpoint>, wanted: &AxonEndpoint) -> bool {
    listed.is_some_and(|listed| listed.ip == wanted.ip && listed.port == wanted.port)
}

fn report_changes(before: Option<&Metagraph>, after: &Metagraph) {
    let Some(before) = before else {
        info!(
            actor = "metagraph",
            block = after.block,
            neurons = after.neurons.len(),
            "first view"
        );
        return;
    };
    for neuron in &after.neurons {
        let known = before.neurons.iter().find(|known| known.uid == neuron.uid);
        let same = known.is_some_and(|known| {
            known.hotkey == neuron.hotkey && known.registered_at_block == neuron.registered_at_block
        });
        if !same {
            let hotkey: Hotkey = neuron.hotkey;
            info!(actor = "metagraph", uid = %neuron.uid, hotkey = %hotkey.short(), "uid has a new owner");
        }
    }
}

impl Actor for MetagraphReader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.resume_after, |_, ctx| ctx.notify(Read));
    }
}

impl Supervised for MetagraphReader {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<Read> for MetagraphReader {
    type Result = ();

    fn handle(&mut self, _: Read, ctx: &mut Self::Context) {
        let work = read(self.node.clone(), self.serve);
        // The outcome is data here: a failed reading must arm the next one too.
        let work = async move { Ok(work.await) };
        guard::spawn(self, ctx, "reading the chain", work, |actor, ctx, outcome| {
            actor.take(ctx, outcome);
            Ok(())
        });
    }
}

crate::life_signs!(MetagraphReader);
