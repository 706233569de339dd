//! The root of a node's actor tree: starts the actors, watches their life signs, builds a dead or
//! hung one anew, and gives up when a restart budget is spent.
//!
//! Receives: [`RestartActor`] (reload, tests), its own tick. Sends: [`Ping`] to every actor each
//! second, [`Stop`] to one that must restart. Owns nothing in the store.
//! In-place restarts (errors, panics) are actix' supervisor's work, see `guard`; the root counts
//! them. An essential actor over its budget ends the tree with [`TreeExit::BudgetSpent`], an
//! optional one is marked degraded and left alone.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::prelude::*;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::events::Event;
use crate::guard::Guarded;
use crate::node::Node;
use crate::vitals::Vitals;

/// How often life signs are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Silence of the root itself that means that everything stood still.
const PAUSE: Duration = Duration::from_secs(5);

/// Asks an actor for a sign of life.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Ping;

/// Tells an actor to stop its context; its supervisor restarts it with fresh state.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Restarts one actor by name, for instance after its settings changed.
#[derive(Debug, Clone, Message)]
#[rtype(result = "bool")]
pub struct RestartActor {
    /// The actor's name.
    pub name: String,
    /// Why, for the log.
    pub reason: String,
}

/// Why a tree ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeExit {
    /// It runs.
    Running,
    /// An essential actor could not be kept alive.
    BudgetSpent {
        /// Which.
        actor: String,
    },
}

/// Implements [`Ping`] and [`Stop`] for an actor of the tree.
#[macro_export]
macro_rules! life_signs {
    ($actor:ty) => {
        impl actix::Handler<$crate::supervisor::Ping> for $actor {
            type Result = ();

            fn handle(&mut self, _: $crate::supervisor::Ping, ctx: &mut actix::Context<Self>) {
                // A struck fault point stops the context; the ping itself has no answer to give.
                drop($crate::guard::run(self, ctx, "alive", |_, _| Ok(())));
            }
        }

        impl actix::Handler<$crate::supervisor::Stop> for $actor {
            type Result = ();

            fn handle(&mut self, _: $crate::supervisor::Stop, ctx: &mut actix::Context<Self>) {
                actix::ActorContext::stop(ctx);
            }
        }

        impl $crate::guard::Guarded for $actor {
            fn node(&self) -> &$crate::node::Node {
                &self.node
            }

            fn vitals(&self) -> &std::sync::Arc<$crate::vitals::Vitals> {
                &self.vitals
            }
        }
    };
}

struct Child {
    vitals: Arc<Vitals>,
    ping: Recipient<Ping>,
    stop: Recipient<Stop>,
    build: Box<dyn Fn() -> (Recipient<Ping>, Recipient<Stop>)>,
}

/// Starts the actors of a tree.
pub struct TreeBuilder {
    node: Node,
    children: Vec<Child>,
}

impl std::fmt::Debug for TreeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TreeBuilder({}, {} actors)", self.node.name, self.children.len())
    }
}

impl TreeBuilder {
    /// Begins a tree for `node`. Must run on the arbiter that the actors shall live on.
    pub fn new(node: Node) -> Self {
        Self { node, children: Vec::new() }
    }

    /// Starts one supervised actor: `make` builds it, `publish` puts its messages into the book.
    /// Both run again when the actor has to be built anew.
    pub fn start<A>(
        &mut self,
        name: &str,
        essential: bool,
        make: impl Fn(Node, Arc<Vitals>) -> A + 'static,
        publish: impl Fn(&crate::address_book::AddressBook, &Addr<A>) + 'static,
    ) where
        A: Guarded + Handler<Ping> + Handler<Stop>,
        A::Context: ToEnvelope<A, Ping> + ToEnvelope<A, Stop>,
    {
        let vitals = self.node.vitals.of(name, essential);
        let (node, life) = (self.node.clone(), Arc::clone(&vitals));
        let build = Box::new(move || {
            let actor = make(node.clone(), Arc::clone(&life));
            let address = Supervisor::start(|_| actor);
            publish(&node.book, &address);
            (address.clone().recipient(), address.recipient())
        });
        let (ping, stop) = build();
        self.children.push(Child { vitals, ping, stop, build });
    }

    /// Ends the building: the root now watches the actors.
    pub fn watch(self) -> (Addr<Root>, watch::Receiver<TreeExit>) {
        let (exit, watcher) = watch::channel(TreeExit::Running);
        let root = Root { node: self.node, children: self.children, exit };
        let address = root.start();
        (address, watcher)
    }
}

/// The root actor, see the module.
pub struct Root {
    node: Node,
    children: Vec<Child>,
    exit: watch::Sender<TreeExit>,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Root({})", self.node.name)
    }
}

impl Root {
    fn tick(&mut self) {
        let policy = self.node.settings.load().supervision;
        let own = self.node.vitals.of("root", true);
        // After a pause of the whole process, or a corrected clock, nobody had a chance to move.
        let paused = own.is_silent_for(PAUSE, &*self.node.real);
        own.progress("watching", &*self.node.real);
        if paused {
            warn!(actor = "root", "the process was paused or the clock was set");
            for child in &self.children {
                child.vitals.progress("after a pause", &*self.node.real);
            }
        }
        for child in &mut self.children {
            let name = child.vitals.name().to_owned();
            if child.vitals.snapshot().degraded {
                continue;
            }
            if child.vitals.is_budget_spent(&policy, &*self.node.real) {
                if child.vitals.is_essential() {
                    error!(actor = name, "restart budget of an essential actor is spent");
                    self.exit.send_replace(TreeExit::BudgetSpent { actor: name });
                } else {
                    child.vitals.give_up();
                    let what = format!("actor {name} is given up after too many restarts");
                    self.node.raise_alarm(&format!("actor {name}"), what);
                }
                continue;
            }
            if !child.ping.connected() {
                rebuild(child, &self.node, "found dead");
            } else if child.vitals.is_hung(&policy, &*self.node.real) {
                // It lost its timer or its queue: a blocked arbiter would hold this tick up too,
                // and shows in `/healthz` instead.
                drop(child.stop.try_send(Stop));
                rebuild(child, &self.node, "no progress");
            } else if child.ping.try_send(Ping).is_err() {
                warn!(actor = name, "mailbox full, ping left out");
            }
        }
    }
}

fn rebuild(child: &mut Child, node: &Node, reason: &str) {
    let policy = node.settings.load().supervision;
    warn!(actor = child.vitals.name(), reason, "building the actor anew");
    child.vitals.failed(reason, false);
    child.vitals.restarted(&policy, &*node.real);
    child.vitals.progress("rebuilt", &*node.real);
    let (ping, stop) = (child.build)();
    child.ping = ping;
    child.stop = stop;
    node.events
        .emit(Event::Restart { target: child.vitals.name().to_owned(), reason: reason.to_owned() });
}

impl Actor for Root {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick();
        ctx.run_interval(TICK, |root, _| root.tick());
    }
}

impl Handler<RestartActor> for Root {
    type Result = bool;

    fn handle(&mut self, message: RestartActor, _: &mut Self::Context) -> bool {
        let prefix = format!("{}:", message.name);
        let mut found = false;
        for child in &self.children {
            let name = child.vitals.name();
            if name == message.name || name.starts_with(&prefix) {
                info!(actor = name, reason = message.reason, "restart asked for");
                child.vitals.ask_for_restart(&message.reason);
                found |= child.stop.try_send(Stop).is_ok();
            }
        }
        found
    }
}
