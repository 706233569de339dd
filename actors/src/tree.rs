//! A node's actor tree on a thread of its own: started, watched, stopped as a whole.
//!
//! A reload that needs it, and SIGHUP, stop the tree and start another one in the same process;
//! store, listeners, boards and life signs belong to the node and outlive it.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forecastd_chain::AxonEndpoint;
use forecastd_wire::Dendrite;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use crate::candles::{CandleClosed, CandleDoubted, Candles, CandlesBackfilled, RealisedRequest};
use crate::columns::ColumnReader;
use crate::drain::Drain;
use crate::error::{ActorError, StepContext};
use crate::evaluator::{Evaluator, RoundPending};
use crate::events::Event;
use crate::feed::Feed;
use crate::forecaster::{Forecaster, WindowReady};
use crate::housekeeper::Housekeeper;
use crate::metagraph::MetagraphReader;
use crate::node::Node;
use crate::query::Query;
use crate::responder::{Freeze, Responder, Reveal};
use crate::supervisor::{RestartActor, Root, TreeBuilder, TreeExit};
use crate::weights::{ScoresUpdated, WeightSetter};

/// Part of the time for a stop that work in progress may take.
const DRAIN_PART: f64 = 0.7;

/// What a tree needs beside its node.
#[derive(Debug, Clone)]
pub struct TreeParts {
    /// The client of a validator.
    pub dendrite: Option<Arc<Dendrite>>,
    /// The address at which a miner's axon is reached.
    pub serve: Option<AxonEndpoint>,
}

/// A running tree.
#[derive(Debug)]
pub struct Tree {
    node: Node,
    arbiter: Arbiter,
    root: Addr<Root>,
    exit: watch::Receiver<TreeExit>,
}

impl Tree {
    /// Starts the actors of the node's role on a new arbiter thread.
    ///
    /// Must be called inside of an actix system.
    ///
    /// # Errors
    /// [`ActorError::NotReady`] when the arbiter ended before the tree was built.
    pub async fn start(mut node: Node, parts: TreeParts) -> Result<Self, ActorError> {
        node.drain = Drain::default();
        let arbiter = Arbiter::new();
        let (started, built) = oneshot::channel();
        let tree_node = node.clone();
        arbiter.spawn(async move {
            // The receiver is gone only when the caller gave up; the arbiter is stopped then.
            drop(started.send(build(tree_node, parts)));
        });
        let (root, exit) = built.await.step("starting the actor tree")?;
        info!(actor = "root", node = %node.name, role = node.role.as_str(), "actor tree started");
        node.events.emit(Event::Started { role: node.role.as_str(), hotkey: node.hotkey() });
        Ok(Self { node, arbiter, root, exit })
    }

    /// The node of this tree.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Returns the actor that could not be kept alive, when the tree gave up by itself.
    pub fn has_given_up(&mut self) -> Option<String> {
        match &*self.exit.borrow_and_update() {
            TreeExit::BudgetSpent { actor } => Some(actor.clone()),
            TreeExit::Running => None,
        }
    }

    /// Resolves with the actor that could not be kept alive.
    pub async fn gave_up(&mut self) -> String {
        loop {
            if let TreeExit::BudgetSpent { actor } = &*self.exit.borrow_and_update() {
                return actor.clone();
            }
            if self.exit.changed().await.is_err() {
                return "root".to_owned();
            }
        }
    }

    /// Restarts one actor; a prefix before `:` names a group such as all feeds.
    ///
    /// # Errors
    /// [`ActorError`] when the root does not answer.
    pub async fn restart_actor(&self, name: &str, reason: &str) -> Result<bool, ActorError> {
        let message = RestartActor { name: name.to_owned(), reason: reason.to_owned() };
        self.root.send(message).await.step("restarting an actor")
    }

    /// Stops all actors: no new round is opened, queries keep the answers that arrived, a chain
    /// submission learns its outcome, then the thread ends. What is cut off after `deadline` loses
    /// nothing: durable state only changes in the store's transactions. True when nothing was cut.
    pub async fn stop(self, deadline: Duration) -> bool {
        let begun = tokio::time::Instant::now();
        let finished = self.node.drain.finish(deadline.mul_f64(DRAIN_PART)).await;
        if !finished {
            warn!(actor = "root", node = %self.node.name, "work in progress is cut off");
        }
        let deadline = deadline.saturating_sub(begun.elapsed());
        self.node.book.clear();
        self.arbiter.stop();
        let arbiter = self.arbiter;
        let joined = tokio::task::spawn_blocking(move || arbiter.join().is_ok());
        let ended = matches!(tokio::time::timeout(deadline, joined).await, Ok(Ok(true)));
        if !ended {
            warn!(actor = "root", node = %self.node.name, "actor thread did not end in time");
        }
        let graceful = finished && ended;
        self.node.events.emit(Event::Stopped { graceful });
        graceful
    }
}

fn build(node: Node, parts: TreeParts) -> (Addr<Root>, watch::Receiver<TreeExit>) {
    let role = node.role;
    let streams = node.settings.load_full();
    let mut tree = TreeBuilder::new(node);
    tree.start("candles", true, Candles::new, |book, address| {
        book.publish::<_, CandleClosed>(address);
        book.publish::<_, CandlesBackfilled>(address);
        book.publish::<_, CandleDoubted>(address);
        book.publish::<_, RealisedRequest>(address);
    });
    let serve = parts.serve;
    tree.start(
        "metagraph",
        true,
        move |node, vitals| MetagraphReader::new(node, vitals, serve),
        |_, _| {},
    );
    if role.is_miner() {
        tree.start("columns", false, ColumnReader::new, |_, _| {});
        tree.start("forecaster", true, Forecaster::new, |book, address| {
            book.publish::<_, WindowReady>(address);
        });
        tree.start("responder", true, Responder::new, |book, address| {
            book.publish::<_, Freeze>(address);
            book.publish::<_, Reveal>(address);
        });
    }
    if let (true, Some(dendrite)) = (role.is_validator(), parts.dendrite) {
        tree.start("evaluator", true, Evaluator::new, |book, address| {
            book.publish::<_, RoundPending>(address);
        });
        tree.start("weights", true, WeightSetter::new, |book, address| {
            book.publish::<_, ScoresUpdated>(address);
        });
        tree.start(
            "query",
            true,
            move |node, vitals| Query::new(node, vitals, Arc::clone(&dendrite)),
            |_, _| {},
        );
    }
    for stream in &streams.streams {
        let id = stream.spec.id.clone();
        for feed in &stream.feeds {
            let (id, feed) = (id.clone(), feed.name.clone());
            let name = format!("feed:{id}:{feed}");
            let make = move |node, vitals| Feed::new(node, vitals, id.clone(), feed.clone());
            // Where others make the quorum, one exchange's end must not be the daemon's.
            let is_needed = stream.feeds.len() <= stream.merge.quorum;
            tree.start(&name, is_needed, make, |_, _| {});
        }
    }
    tree.start("housekeeper", false, Housekeeper::new, |_, _| {});
    tree.watch()
}
