//! Removes what the retention no longer covers, in small batches, and looks after disk and candles.
//!
//! A store that failed is reopened, with an alarm until that succeeds; others say that the
//! disk has less room than the floor, or that a stream has no fresh candles. Receives: its own timers. Sends: nothing. Deletes `CandleRecord`s, `ForecastRecord`s,
//! `FrozenRecord`s, `ScoredAnswerRecord`s and `EmaHistoryRecord`s older than the retention; results,
//! the EMA and weight records stay. On restart: goes on with the next batch.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tracing::{debug, warn};

use crate::guard;
use crate::ledger;
use crate::node::Node;
use crate::vitals::Vitals;

/// Market time between two cleanings.
const EVERY: Duration = Duration::from_hours(6);
/// Least real time between two cleanings.
const LEAST_PAUSE: Duration = Duration::from_secs(10);

/// Candle lengths after which the newest closed candle is stale.
const STALE_CANDLES: i64 = 3;
/// Real time between two looks at disk and candles.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Message)]
#[rtype(result = "()")]
struct Clean;

#[derive(Message)]
#[rtype(result = "()")]
struct LookAtDisk;

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

    fn clean(&self, ctx: &mut Context<Self>) {
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
    }
}

impl Actor for Housekeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.resume_after, |_, ctx| ctx.notify(Clean));
        ctx.run_interval(LOOK_EVERY, |_, ctx| ctx.notify(LookAtDisk));
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
        if let Err(error) = guard::run(self, ctx, "cleaning", |actor, ctx| {
            actor.clean(ctx);
            Ok(())
        }) {
            warn!(actor = "housekeeper", %error, "cleaning failed");
        }
    }
}

/// Raises an alarm for each stream whose newest closed candle is old, on all of its sources.
fn look_at_candles(node: &Node) {
    let live = node.boards.live();
    for stream in &node.settings.load().streams {
        let spec = &stream.spec;
        let about = format!("candles of {}", spec.id);
        if let Some(newest) = live.newest_candle.get(&spec.id) {
            let age_ms = node.market.now_ms().saturating_sub(newest.close_time_ms);
            if age_ms > STALE_CANDLES * spec.interval.as_ms() {
                node.raise_alarm(&about, format!("the newest closed {} s ago", age_ms / 1_000));
            } else {
                node.clear_alarm(&about);
            }
        }
        let Some(feeds) = live.feeds.get(&spec.id) else { continue };
        for (name, status) in feeds {
            let about = format!("feed {name} of {}", spec.id);
            // One that was taken out of the configuration is missed by nobody.
            let since_ms = status.down_since_ms.filter(|_| stream.feed(name).is_some());
            let down_ms = since_ms.map(|since_ms| node.market.now_ms() - since_ms);
            match down_ms.filter(|down_ms| *down_ms > STALE_CANDLES * spec.interval.as_ms()) {
                Some(down_ms) => {
                    let seconds = down_ms / 1_000;
                    node.raise_alarm(
                        &about,
                        format!("down for {seconds} s: {}", status.last_error),
                    );
                }
                None => node.clear_alarm(&about),
            }
        }
    }
}

/// Reopens a failed store and compares the free space with the floor.
async fn look_at_disk(node: &Node) {
    let stats = node.store.stats();
    if let Some(cause) = stats.suspended {
        node.raise_alarm("store", cause);
        if let Err(error) = node.store.reopen().await {
            debug!(actor = "housekeeper", %error, "store not reopened yet");
            return;
        }
    }
    node.clear_alarm("store");
    let floor = node.settings.load().store_floor_bytes;
    if stats.free_bytes < floor {
        let what = format!("{} bytes are free, below `store.floor` of {floor}", stats.free_bytes);
        node.raise_alarm("disk", what);
    } else {
        node.clear_alarm("disk");
    }
}

impl Handler<LookAtDisk> for Housekeeper {
    type Result = ();

    fn handle(&mut self, _: LookAtDisk, ctx: &mut Self::Context) {
        let node = self.node.clone();
        let work = async move {
            look_at_candles(&node);
            look_at_disk(&node).await;
            Ok(())
        };
        guard::spawn(self, ctx, "looking at the disk", work, |_, _, ()| Ok(()));
    }
}

crate::life_signs!(Housekeeper);
