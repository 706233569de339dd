//! Removes what is too old, in small batches.

use std::ops::Bound;

use crate::batch::Batch;
use crate::error::StoreError;
use crate::record::{Dated, Record};
use crate::store::Store;

/// Most rows removed by one batch: a writer in a hurry waits for one of these at most.
const REMOVE_ROWS: usize = 500;
/// Rows read before other tasks of the thread get their turn.
const READ_ROWS: usize = 128;

impl Store {
    /// Removes the rows of a kind that are dated before `before_ms`, and returns how many.
    ///
    /// Works in small steps and lets other tasks run in between; may be dropped half-way, what was
    /// removed by then stays removed. A row that cannot be read is left alone and its error
    /// returned at the end, so that one damaged row does not stop the others from going.
    ///
    /// # Errors
    /// As [`Store::write`] and [`Store::get`].
    pub async fn remove_older_than<R: Dated>(&self, before_ms: i64) -> Result<usize, StoreError> {
        let mut cursor = Bound::Unbounded;
        let mut removed = 0;
        let mut damaged = None;
        loop {
            let page = self.old_rows::<R>(cursor, before_ms)?;
            removed += page.batch.len();
            damaged = damaged.or(page.damaged);
            if page.batch.is_empty() {
                tokio::task::yield_now().await;
            } else {
                self.write(page.batch).await?;
            }
            match page.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        damaged.map_or(Ok(removed), Err)
    }

    /// Reads one page from `cursor` on.
    fn old_rows<R: Dated>(
        &self,
        cursor: Bound<R::Key>,
        before_ms: i64,
    ) -> Result<Page<R>, StoreError> {
        let mut page = Page { batch: Batch::new(), damaged: None, next: None };
        let limit = REMOVE_ROWS.min(READ_ROWS);
        for (read, row) in self.scan::<R>((cursor, Bound::Unbounded)).enumerate() {
            let (key, record) = match row {
                Ok(row) => row,
                Err(error @ StoreError::Record { .. }) => {
                    page.damaged.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match R::dated_ms(&key, &record) {
                Some(at_ms) if at_ms < before_ms => page.batch = page.batch.remove::<R>(&key),
                Some(_) => {
                    if let Some(group) = R::next_group(&key) {
                        page.next = Some(Bound::Included(group));
                        return Ok(page);
                    }
                }
                None => {}
            }
            if read + 1 >= limit {
                page.next = Some(Bound::Excluded(key));
                return Ok(page);
            }
        }
        Ok(page)
    }
}

/// What one step found.
struct Page<R: Record> {
    batch: Batch,
    damaged: Option<StoreError>,
    /// Where the next page begins; `None` at the end.
    next: Option<Bound<R::Key>>,
}
