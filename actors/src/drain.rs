//! The orderly end of a tree: work in progress hears of it, saves what it has and ends.
//!
//! Only work that would lose something by being dropped takes part: queries keep the answers that
//! arrived, a chain submission learns its outcome. Everything else may be dropped at any await.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The end of one tree, known to all its actors. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    token: CancellationToken,
    work: TaskTracker,
}

impl Drain {
    /// Wraps work that a stopping tree waits for.
    pub fn track<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        self.work.track_future(work)
    }

    /// Resolves when the tree stops; for `select!` at the places where the work can be left.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Tells whether the tree stops.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks all work to end and waits for it, at most `deadline`. True when all of it ended.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.token.cancel();
        self.work.close();
        tokio::time::timeout(deadline, self.work.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_told_and_waited_for() {
        let drain = Drain::default();
        let inside = drain.clone();
        let work = tokio::spawn(drain.track(async move {
            inside.begun().await;
            "saved"
        }));
        assert!(drain.finish(Duration::from_mins(1)).await);
        assert_eq!(work.await.unwrap(), "saved");
        let stuck = Drain::default();
        let held = stuck.track(std::future::pending::<()>());
        assert!(!stuck.finish(Duration::ZERO).await);
        drop(held);
    }
}
