//! Removes what the retention no longer covers, in small batches.
//!
//! Receives: its own timer. Sends: nothing. Deletes `CandleRecord`s, `ForecastRecord`s,
//! `FrozenRecord`s, `ScoredAnswerRecord`s and `EmaHistoryRecord`s older than the retention; results,
//! the EMA and weight records stay. On restart: goes on with the next batch.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tracing::{debug, warn};

use crate::error::ActorError;
use crate::guard;
use crate::ledger;
use crate::node::Node;
use crate::vitals::Vitals;

/// Market time between two cleanings.
const EVERY: Duration = Duration::from_hours(6);
/// Least real time between two cleanings.
const LEAST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Message)]
#[rtype(result = "()")]
struct Clean;

/// The housekeeper, see the module.
#[derive(Debug)]
pub struct Housekeeper {
    node: Node,
    vitals: Arc<Vitals>,
    resume_after: Duration,
}

impl Housekeeper {
    /// Creates the actor.
    pub const fn new(node: Node, vitals: Arc<Vitals>) -> Self {
        Self { node, vitals, resume_after: LEAST_PAUSE }
    }

    fn clean(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let node = self.node.clone();
        let work = async move { Ok(ledger::forget_old(&node).await) };
        guard::spawn(self, ctx, "forgetting old records", work, |actor, ctx, outcome| {
            match outcome {
                Ok(removed) => debug!(actor = "housekeeper", removed, "old records removed"),
                Err(error) => warn!(actor = "housekeeper", %error, "old records not removed"),
            }
            let pause = actor.node.market.real_duration_of(EVERY).max(LEAST_PAUSE);
            ctx.run_later(pause, |_, ctx| ctx.notify(Clean));
            Ok(())
        });
        Ok(())
    }
}

impl Actor for Housekeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.resume_after, |_, ctx| ctx.notify(Clean));
    }
}

impl Supervised for Housekeeper {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.resume_after = guard::restarted(self).max(LEAST_PAUSE);
    }
}

impl Handler<Clean> for Housekeeper {
    type Result = ();

    fn handle(&mut self, _: Clean, ctx: &mut Self::Context) {
        if let Err(error) = guard::run(self, ctx, "cleaning", Self::clean) {
            warn!(actor = "housekeeper", %error, "cleaning failed");
        }
    }
}

crate::life_signs!(Housekeeper);
