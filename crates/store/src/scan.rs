//! Rows in the order of their keys.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Bound;
use std::sync::Arc;

use crate::codec;
use crate::databases::{Databases, contain};
use crate::error::StoreError;
use crate::record::Record;

/// An iterator over rows of one kind, from both ends. A row that cannot be read is an error of its
/// own, the others follow; an error of the database ends the iteration.
///
/// It reads on while rows are written: each row is whole, together they may be of different times.
/// An unfinished scan keeps the database open, so it is not kept across waits.
pub struct Scan<R: Record> {
    rows: Option<sled::Iter>,
    failure: Option<StoreError>,
    /// Dropped after `rows`.
    databases: Option<Arc<Databases>>,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Scan<R> {
    pub(crate) fn new(databases: Arc<Databases>, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Self {
        let rows = (!is_empty(&from, &to)).then(|| databases.tree(R::DB).range((from, to)));
        Self { rows, failure: None, databases: Some(databases), record: PhantomData }
    }

    pub(crate) fn failed(failure: StoreError) -> Self {
        Self { rows: None, failure: Some(failure), databases: None, record: PhantomData }
    }

    fn step(
        &mut self,
        take: impl Fn(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Result<(R::Key, R), StoreError>> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        loop {
            let rows = self.rows.as_mut()?;
            match contain(R::DB, "reading rows", || take(rows).transpose()) {
                // A row that was removed since sled handed it out is passed over.
                Ok(Some((row_key, head))) => {
                    if let Some(row) = self.read(&row_key, head).transpose() {
                        return Some(row);
                    }
                }
                Ok(None) => {
                    self.rows = None;
                    return None;
                }
                Err(error) => {
                    self.rows = None;
                    return Some(Err(error));
                }
            }
        }
    }

    fn read(&self, row_key: &[u8], head: sled::IVec) -> Result<Option<(R::Key, R)>, StoreError> {
        let key = codec::decode_key::<R>(row_key)?;
        let has_parts = codec::part_count(&head) > 0;
        let value = match &self.databases {
            // Read anew as a whole: the head may be of another time than its parts by now.
            Some(databases) if has_parts => match databases.whole(R::DB, row_key)? {
                Some(whole) => whole,
                None => return Ok(None),
            },
            _ => head,
        };
        Ok(Some((key, codec::decode(row_key, &value)?)))
    }
}

fn is_empty(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
        _ => false,
    }
}

/// Returns the least bytes above all that begin with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

impl<R: Record> Iterator for Scan<R> {
    type Item = Result<(R::Key, R), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Iterator::next)
    }
}

impl<R: Record> DoubleEndedIterator for Scan<R> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(DoubleEndedIterator::next_back)
    }
}

impl<R: Record> FusedIterator for Scan<R> {}

impl<R: Record> fmt::Debug for Scan<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("record", &R::NAME).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_carries() {
        assert_eq!(prefix_end(&[1, 2]), Bound::Excluded(vec![1, 3]));
        assert_eq!(prefix_end(&[1, 0xff, 0xff]), Bound::Excluded(vec![2]));
        assert_eq!(prefix_end(&[0xff]), Bound::Unbounded);
    }
}
