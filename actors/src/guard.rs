//! The one way in which actors of this crate run code: guarded.
//!
//! actix does not survive a panic in a handler: the actor is gone and nothing restarts it. Every
//! handler, future and completion therefore runs inside of [`run`] or [`run_async`]: a panic or a
//! fatal error stops the context, upon which actix' supervisor restarts the actor in place, with
//! its address and its queue. What slips through is found by the root's poll and built anew.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use futures_util::FutureExt;
use tracing::{error, info};

use crate::error::ActorError;
use crate::node::Node;
use crate::vitals::Vitals;

/// What every actor of the tree has.
pub trait Guarded: Actor<Context = Context<Self>> + Supervised {
    /// The node that the actor belongs to.
    fn node(&self) -> &Node;
    /// Its life signs.
    fn vitals(&self) -> &Arc<Vitals>;
}

/// Runs a handler's synchronous part.
///
/// # Errors
/// The error of `work`, or [`ActorError::Panicked`]; a fatal one restarts the actor.
pub fn run<A: Guarded, T>(
    actor: &mut A,
    ctx: &mut Context<A>,
    step: &'static str,
    work: impl FnOnce(&mut A, &mut Context<A>) -> Result<T, ActorError>,
) -> Result<T, ActorError> {
    actor.vitals().progress(step, &*actor.node().real);
    let faults = Arc::clone(&actor.node().faults);
    let name = actor.vitals().name().to_owned();
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
        faults.strike(&name);
        work(actor, ctx)
    }));
    let outcome = caught.unwrap_or_else(|panic| Err(ActorError::Panicked(panic_text(&*panic))));
    settle(actor, ctx, step, outcome)
}

/// Runs a handler's asynchronous part and then `complete` with its output on the actor.
///
/// The future owns all that it needs; the actor is free for other messages meanwhile. When the
/// actor restarts the future is dropped and its asker sees a closed mailbox.
pub fn run_async<A: Guarded, U: 'static, T: 'static>(
    actor: &A,
    step: &'static str,
    work: impl Future<Output = Result<U, ActorError>> + 'static,
    complete: impl FnOnce(&mut A, &mut Context<A>, U) -> Result<T, ActorError> + 'static,
) -> ResponseActFuture<A, Result<T, ActorError>> {
    actor.vitals().progress(step, &*actor.node().real);
    let faults = Arc::clone(&actor.node().faults);
    let name = actor.vitals().name().to_owned();
    let guarded = AssertUnwindSafe(async move {
        faults.strike(&name);
        work.await
    })
    .catch_unwind();
    Box::pin(wrap_future::<_, A>(guarded).map(move |caught, actor, ctx| {
        match caught.unwrap_or_else(|panic| Err(ActorError::Panicked(panic_text(&*panic)))) {
            Ok(output) => run(actor, ctx, step, move |actor, ctx| complete(actor, ctx, output)),
            Err(error) => settle(actor, ctx, step, Err(error)),
        }
    }))
}

/// Like [`run_async`], for work that nobody waits for: errors are logged, fatal ones restart.
pub fn spawn<A: Guarded, U: 'static>(
    actor: &A,
    ctx: &mut Context<A>,
    step: &'static str,
    work: impl Future<Output = Result<U, ActorError>> + 'static,
    complete: impl FnOnce(&mut A, &mut Context<A>, U) -> Result<(), ActorError> + 'static,
) -> SpawnHandle {
    let future = run_async(actor, step, work, complete);
    ctx.spawn(future.map(move |outcome, actor: &mut A, _ctx| {
        if let Err(error) = outcome
            && !error.is_fatal()
        {
            tracing::warn!(actor = actor.vitals().name(), step, %error, "step failed");
        }
    }))
}

fn settle<A: Guarded, T>(
    actor: &A,
    ctx: &mut Context<A>,
    step: &'static str,
    outcome: Result<T, ActorError>,
) -> Result<T, ActorError> {
    if let Err(error) = &outcome
        && error.is_fatal()
    {
        let name = actor.vitals().name();
        error!(actor = name, step, %error, "actor failed, restarting it");
        actor.vitals().failed(&error.to_string(), matches!(error, ActorError::Panicked(_)));
        ctx.stop();
    }
    outcome
}

/// To be called from `Supervised::restarting`: counts the restart and returns the back-off after
/// which the actor may begin again.
pub fn restarted<A: Guarded>(actor: &A) -> Duration {
    let node = actor.node();
    let policy = node.settings.load().supervision;
    let wait = actor.vitals().restarted(&policy, &*node.real);
    let reason = actor.vitals().snapshot().last_restart_reason;
    info!(actor = actor.vitals().name(), ?wait, reason, "actor restarts");
    node.events
        .emit(crate::events::Event::Restart { target: actor.vitals().name().to_owned(), reason });
    wait
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "with a value that is not text".to_owned())
}
