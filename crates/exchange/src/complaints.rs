//! How often a repeated warning is written.

use std::time::Duration;

use tokio::time::Instant;

/// Shortest real time between two lines.
const EVERY: Duration = Duration::from_mins(1);

/// Counts what is not written.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    unwritten: u64,
    next_at: Option<Instant>,
}

impl Complaints {
    /// Counts one more; returns how many there were since the last line when it is time for the next.
    pub(crate) fn count(&mut self) -> Option<u64> {
        self.unwritten = self.unwritten.saturating_add(1);
        let now = Instant::now();
        if self.next_at.is_some_and(|next| now < next) {
            return None;
        }
        self.next_at = Some(now + EVERY);
        Some(std::mem::take(&mut self.unwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_written_and_then_one_a_minute() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.count(), Some(1));
        assert_eq!((complaints.count(), complaints.count()), (None, None));
        tokio::time::advance(EVERY).await;
        assert_eq!(complaints.count(), Some(3));
        assert_eq!(complaints.count(), None);
    }
}
