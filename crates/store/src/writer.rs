//! The one thread that writes.
//!
//! It takes what waits in the queue, checks and applies batch after batch, flushes the databases
//! touched once, and only then answers everybody, those with a conflict too: what they collided
//! with is durable when they hear of it. After an I/O error the outcome of the unflushed batches is
//! unknown (a batch is there as a whole or not at all); the store is then suspended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::batch::Batch;
use crate::codec;
use crate::databases::{self, Databases, contain};
use crate::directory;
use crate::error::StoreError;
use crate::ledger::{self, Tallies};
use crate::mark::{self, Counts, Mark};
use crate::record::Db;
use crate::store::{Shared, State};

/// Most batches that share a flush.
const GROUP_BATCHES: usize = 256;
/// Most bytes that share a flush: bounds how long the first of a group waits.
const GROUP_BYTES: usize = 8 << 20;

pub(crate) type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

pub(crate) enum Command {
    Write {
        batch: Batch,
        reply: Reply,
        /// The place in the queue; free again when the batch is answered.
        permit: Option<OwnedSemaphorePermit>,
    },
    /// Something that must not run beside a write.
    Task(Box<dyn FnOnce(&mut Writer) + Send>),
    Close(Reply),
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    tallies: BTreeMap<Db, Tallies>,
    counts: Counts,
    mark: Mark,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, databases: &Databases) -> Result<Self, StoreError> {
        let tallies = read_tallies(databases)?;
        let counts = databases.counts()?;
        let path = &shared.config.path;
        let mut mark = Mark::open(path).map_err(|error| StoreError::directory(path, error))?;
        mark.write(counts);
        Ok(Self { shared, tallies, counts, mark })
    }

    /// Works until the store is closed or its last handle is dropped.
    pub(crate) fn run(mut self, queue: &mpsc::Receiver<Command>) {
        let mut next = queue.recv().ok();
        while let Some(command) = next.take() {
            match command {
                Command::Write { batch, reply, permit } => {
                    let mut bytes = batch.bytes;
                    let mut group = vec![(batch, reply, permit)];
                    while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
                        match queue.try_recv() {
                            Ok(Command::Write { batch, reply, permit }) => {
                                bytes += batch.bytes;
                                group.push((batch, reply, permit));
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.write_group(group);
                }
                Command::Task(task) => task(&mut self),
                Command::Close(reply) => {
                    self.close();
                    reply(Ok(()));
                    return;
                }
            }
            if next.is_none() {
                next = queue.recv().ok();
            }
        }
        self.close();
    }

    pub(crate) fn databases(&self) -> Result<Arc<Databases>, StoreError> {
        self.shared.databases()
    }

    /// Opens the databases anew when they are suspended; the reserve is given up for it if need be.
    pub(crate) fn reopen(&mut self) -> Result<(), StoreError> {
        if let Ok(databases) = self.databases() {
            // A read may have failed although no write did: sled knows.
            let probe = Db::ALL.into_iter().try_for_each(|db| databases.flush(db));
            drop(databases);
            match probe {
                Ok(()) => return Ok(()),
                Err(error) => self.suspend(error),
            }
        }
        let (config, identity) = (&self.shared.config, &self.shared.identity);
        let lock = self.shared.lock().ok_or(StoreError::Closed)?;
        let mut opened = Databases::open(config, Some(identity), &lock);
        if matches!(opened, Err(StoreError::Full { .. }))
            && directory::release_reserve(&config.path)
        {
            warn!("reserve file is given up to open the store");
            opened = Databases::open(config, Some(identity), &lock);
        }
        let outcome = opened.and_then(|(databases, _)| {
            self.tallies = read_tallies(&databases)?;
            self.counts = databases.counts()?;
            Ok(databases)
        });
        match outcome {
            Ok(databases) => {
                directory::ensure_reserve(&config.path, config.reserve_bytes, config.floor_bytes);
                self.shared.set_state(State::Open(Arc::new(databases)));
                info!("store is open again");
                Ok(())
            }
            Err(error) => {
                self.shared.set_state(State::Suspended(error.clone()));
                Err(error)
            }
        }
    }

    fn write_group(&mut self, group: Vec<(Batch, Reply, Option<OwnedSemaphorePermit>)>) {
        let mut answers = Vec::with_capacity(group.len());
        let mut touched = BTreeSet::new();
        let mut failure = None;
        match self.databases() {
            Ok(databases) => {
                for (batch, reply, permit) in group {
                    let outcome = match &failure {
                        None => self.apply(&databases, &batch),
                        Some(failure) => Err(StoreError::clone(failure)),
                    };
                    if let Err(error) = &outcome
                        && !is_refusal(error)
                    {
                        failure.get_or_insert_with(|| error.clone());
                    }
                    touched.extend(batch.db);
                    answers.push((outcome, reply, permit));
                }
                let started = Instant::now();
                for db in touched {
                    if failure.is_none() {
                        failure = databases.flush(db).err();
                    }
                }
                if failure.is_none() {
                    self.mark.write(self.counts);
                }
                self.shared.meter.flushed(started.elapsed(), answers.len());
            }
            Err(error) => {
                answers.extend(
                    group.into_iter().map(|(_, reply, permit)| (Err(error.clone()), reply, permit)),
                );
            }
        }
        if let Some(error) = failure {
            self.suspend(error.clone());
            // Nothing of an unflushed group is acknowledged, not even a refusal.
            for (outcome, _, _) in &mut answers {
                *outcome = Err(error.clone());
            }
        }
        for (outcome, reply, permit) in answers {
            drop(permit);
            reply(outcome);
        }
    }

    /// Checks and applies one batch, its ledger rows included, as one atomic batch of sled.
    fn apply(&mut self, databases: &Databases, batch: &Batch) -> Result<(), StoreError> {
        let Some(db) = batch.db else { return Ok(()) };
        for condition in &batch.conditions {
            let exists = databases.get(db, &condition.row_key)?.is_some();
            if exists != condition.must_exist {
                let (record, key) = (condition.record, condition.key.clone());
                return Err(StoreError::Conflict { record, key, exists });
            }
        }
        if batch.rows.is_empty() {
            return Ok(());
        }
        let known = self.tallies.entry(db).or_default();
        let mut changes =
            Changes { known, changed: Tallies::new(), writes: sled::Batch::default() };
        for (row_key, value) in &batch.rows {
            let old = databases.get(db, row_key)?;
            let old_parts = old.as_deref().map_or(0, codec::part_count);
            changes.row(row_key, old.as_deref(), value.as_ref().map(|value| value.head.as_slice()));
            let mut parts = value.iter().flat_map(|value| &value.parts);
            for number in 1..=u8::MAX {
                let part = parts.next();
                if part.is_none() && number > old_parts {
                    break;
                }
                let key = codec::part_key(row_key, number);
                let old = databases.get(db, &key)?;
                changes.row(&key, old.as_deref(), part.map(Vec::as_slice));
            }
        }
        let Changes { changed, mut writes, .. } = changes;
        for (kind, tally) in &changed {
            writes.insert(&ledger::ledger_key(*kind), ledger::encode(*kind, *tally));
        }
        let count = self.counts.get(db) + 1;
        writes.insert(&mark::count_key(), mark::encode_count(count));
        contain(db, "writing a batch", || databases.tree(db).apply_batch(writes))?;
        known.extend(changed);
        self.counts.set(db, count);
        Ok(())
    }

    /// Closes the databases after an error: what is in memory may differ from what is on disk.
    fn suspend(&mut self, cause: StoreError) {
        error!(%cause, "store is suspended until it is reopened");
        if let State::Open(databases) = self.shared.set_state(State::Suspended(cause)) {
            databases::close(databases);
        }
    }

    fn close(&mut self) {
        if let State::Open(databases) = self.shared.set_state(State::Closed) {
            for db in Db::ALL {
                if let Err(error) = databases.flush(db) {
                    error!(%db, %error, "last flush failed");
                }
            }
            databases::close(databases);
        }
        self.shared.unlock();
    }
}

/// What a batch comes to in rows of sled, and what that does to the ledger.
struct Changes<'a> {
    known: &'a Tallies,
    changed: Tallies,
    writes: sled::Batch,
}

impl Changes<'_> {
    fn row(&mut self, row_key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        let kind = row_key.first().copied().unwrap_or(ledger::OWN_KIND);
        let known = self.known.get(&kind).copied().unwrap_or_default();
        let tally = self.changed.entry(kind).or_insert(known);
        if let Some(old) = old {
            tally.subtract(old);
        }
        match new {
            Some(new) => {
                tally.add(new);
                self.writes.insert(row_key, new);
            }
            None => self.writes.remove(row_key),
        }
    }
}

/// Refusals concern one batch; everything else concerns the store.
const fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Conflict { .. })
}

fn read_tallies(databases: &Databases) -> Result<BTreeMap<Db, Tallies>, StoreError> {
    Db::ALL.into_iter().map(|db| Ok((db, databases.tallies(db)?))).collect()
}
