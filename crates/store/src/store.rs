//! The store's handle: what actors and commands call.

use std::fmt;
use std::fs::File;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};

use crate::batch::Batch;
use crate::codec;
use crate::databases::Databases;
use crate::directory;
use crate::error::StoreError;
use crate::identity::Identity;
use crate::key::KeyPrefix;
use crate::ledger;
use crate::record::{Db, Record, kind_prefix, row_key};
use crate::scan::{Scan, prefix_end};
use crate::writer::{Command, Writer};

/// Batches that may wait for the writer; more wait in [`Store::write`].
const QUEUE: usize = 1_024;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data directory, on a local disk; created where it is missing.
    pub path: PathBuf,
    /// Whom the store belongs to.
    pub identity: Identity,
    /// Page cache of each of the two databases, bytes.
    pub cache_bytes: u64,
    /// Size of a file that only takes space, given up when the disk is full; 0 for none.
    pub reserve_bytes: u64,
    /// Free space that must be left when the reserve is written, bytes; with less there is none.
    pub floor_bytes: u64,
}

impl StoreConfig {
    /// 64 MiB for both databases together.
    pub const CACHE_BYTES: u64 = 32 << 20;
    /// Room to reopen and to write some minutes' rounds.
    pub const RESERVE_BYTES: u64 = 16 << 20;
    /// A day of rounds with 256 miners takes about 30 MiB.
    pub const FLOOR_BYTES: u64 = 256 << 20;

    /// Returns the defaults for a directory and an owner.
    pub const fn new(path: PathBuf, identity: Identity) -> Self {
        Self {
            path,
            identity,
            cache_bytes: Self::CACHE_BYTES,
            reserve_bytes: Self::RESERVE_BYTES,
            floor_bytes: Self::FLOOR_BYTES,
        }
    }
}

/// Figures for status and metrics.
#[derive(Debug, Clone, Serialize)]
pub struct StoreStats {
    /// Bytes of the hot database on disk.
    pub hot_bytes: u64,
    /// Bytes of the cold database on disk.
    pub cold_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Batches that wait for the writer now.
    pub waiting: usize,
    /// Batches answered since the store was opened.
    pub batches: u64,
    /// Flushes since the store was opened; fewer than batches where batches shared one.
    pub flushes: u64,
    /// Time spent in flushes.
    pub flush_total: Duration,
    /// The longest flush.
    pub flush_longest: Duration,
    /// Why the store is suspended or closed, if it is.
    pub suspended: Option<String>,
}

/// A handle of the store. Cheap to clone; see the crate's header for what it promises.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
    places: Arc<Semaphore>,
}

impl Store {
    /// Opens or creates the store of `config`.
    ///
    /// Blocks while sled reads its log (some ms; seconds for GiB): not for an actor's thread.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Directory`], [`StoreError::Identity`],
    /// [`StoreError::SchemaNewer`], [`StoreError::Damaged`]; nothing is deleted in any case.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        let expected = config.identity.clone();
        Self::open_as(config, Some(&expected))
    }

    /// Opens an existing store whoever it belongs to: for commands on a stopped daemon.
    ///
    /// `cache_bytes` is the page cache of each database.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where there is none, otherwise as [`Store::open`].
    pub fn open_existing(path: impl Into<PathBuf>, cache_bytes: u64) -> Result<Self, StoreError> {
        let path = path.into();
        if !directory::holds_store(&path) {
            return Err(StoreError::Missing { path });
        }
        let nobody = Identity {
            network: String::new(),
            netuid: forecastd_core::NetUid(0),
            hotkey: forecastd_core::Hotkey::from_bytes([0; 32]),
            role: forecastd_core::Role::Both,
        };
        let config =
            StoreConfig { cache_bytes, reserve_bytes: 0, ..StoreConfig::new(path, nobody) };
        Self::open_as(config, None)
    }

    fn open_as(config: StoreConfig, expected: Option<&Identity>) -> Result<Self, StoreError> {
        let lock = directory::lock(&config.path)?;
        let (databases, identity) = Databases::open(&config, expected, &lock)?;
        directory::ensure_reserve(&config.path, config.reserve_bytes, config.floor_bytes);
        let databases = Arc::new(databases);
        let shared = Arc::new(Shared {
            config,
            identity,
            state: RwLock::new(State::Open(Arc::clone(&databases))),
            lock: Mutex::new(Some(lock)),
            meter: Meter::default(),
        });
        let writer = Writer::new(Arc::clone(&shared), &databases)?;
        drop(databases);
        let (queue, commands) = mpsc::channel();
        thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&commands))
            .map_err(|error| StoreError::io("starting the writer thread", &error))?;
        Ok(Self { shared, queue, places: Arc::new(Semaphore::new(QUEUE)) })
    }

    /// Writes a batch and returns when it is on disk.
    ///
    /// When the returned future is dropped half-way, the batch is written as a whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a condition does not hold (nothing was written);
    /// [`StoreError::Full`] or [`StoreError::Io`] when the disk failed: the outcome is then unknown
    /// until [`Store::reopen`]; [`StoreError::Closed`]; and what is wrong with the batch itself.
    pub async fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let batch = batch.check()?;
        let place = Arc::clone(&self.places).acquire_owned().await;
        let permit = Some(place.map_err(|_| StoreError::Closed)?);
        let (answer, outcome) = oneshot::channel();
        // The caller may have gone away: its batch is written all the same.
        let reply = Box::new(move |outcome| drop(answer.send(outcome)));
        self.send(Command::Write { batch, reply, permit })?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes a batch and blocks until it is on disk: for commands and tests, never on an actor's
    /// thread.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        let batch = batch.check()?;
        self.ask(|reply| Command::Write { batch, reply, permit: None })
    }

    /// Returns a row.
    ///
    /// # Errors
    /// [`StoreError::Record`] when the row is damaged; the cause when the store is suspended.
    pub fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R>, StoreError> {
        let row_key =
            row_key::<R>(key).map_err(|reason| StoreError::Key { record: R::NAME, reason })?;
        match self.shared.databases()?.whole(R::DB, &row_key)? {
            Some(value) => codec::decode(&row_key, &value).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the rows of a range of keys, in order, from both ends.
    pub fn scan<R: Record>(&self, range: impl RangeBounds<R::Key>) -> Scan<R> {
        let encode = |key: &R::Key| {
            row_key::<R>(key).map_err(|reason| StoreError::Key { record: R::NAME, reason })
        };
        let kind = kind_prefix::<R>();
        let from = match range.start_bound() {
            Bound::Included(key) => encode(key).map(Bound::Included),
            Bound::Excluded(key) => encode(key).map(Bound::Excluded),
            Bound::Unbounded => Ok(Bound::Included(kind.clone())),
        };
        let to = match range.end_bound() {
            Bound::Included(key) => encode(key).map(Bound::Included),
            Bound::Excluded(key) => encode(key).map(Bound::Excluded),
            Bound::Unbounded => Ok(prefix_end(&kind)),
        };
        match (from, to, self.shared.databases()) {
            (Ok(from), Ok(to), Ok(databases)) => Scan::new(databases, from, to),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Scan::failed(error),
        }
    }

    /// Returns the rows whose keys begin with `prefix`, in order, from both ends: for example all
    /// answers of `(stream, slot)`; `&()` for all rows of the kind.
    pub fn scan_prefix<R: Record>(&self, prefix: &impl KeyPrefix<R::Key>) -> Scan<R> {
        let mut from = kind_prefix::<R>();
        if let Err(reason) = prefix.encode_prefix(&mut from) {
            return Scan::failed(StoreError::Key { record: R::NAME, reason });
        }
        let to = prefix_end(&from);
        match self.shared.databases() {
            Ok(databases) => Scan::new(databases, Bound::Included(from), to),
            Err(error) => Scan::failed(error),
        }
    }

    /// Returns the row with the greatest key that begins with `prefix`: the newest one of a stream.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn last<R: Record>(
        &self,
        prefix: &impl KeyPrefix<R::Key>,
    ) -> Result<Option<(R::Key, R)>, StoreError> {
        self.scan_prefix::<R>(prefix).next_back().transpose()
    }

    /// Returns the number of rows of a kind, from the ledger, without counting.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the ledger row is damaged; the cause when suspended.
    pub fn count<R: Record>(&self) -> Result<usize, StoreError> {
        let key = ledger::ledger_key(R::KIND);
        let Some(value) = self.shared.databases()?.get(R::DB, &key)? else {
            return Ok(0);
        };
        let (_, tally) = ledger::decode(&key, &value).map_err(|problem| StoreError::Damaged {
            db: R::DB,
            detail: format!("ledger row of {}: {problem}", R::NAME),
        })?;
        Ok(usize::try_from(tally.rows).unwrap_or(usize::MAX))
    }

    /// Opens a suspended store anew, and does nothing to a healthy one. To be retried with a
    /// back-off while it fails with a retryable error.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn reopen(&self) -> Result<(), StoreError> {
        let (answer, outcome) = oneshot::channel();
        self.send(Command::Task(Box::new(move |writer| drop(answer.send(writer.reopen())))))?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    /// [`Store::reopen`] for commands and tests.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn reopen_blocking(&self) -> Result<(), StoreError> {
        self.ask(|reply| Command::Task(Box::new(move |writer| reply(writer.reopen()))))
    }

    /// Writes what waits, closes both databases and gives the lock back. All handles answer
    /// [`StoreError::Closed`] from then on. Waits some seconds for scans in progress.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        let reply = Box::new(move |outcome| drop(answer.send(outcome)));
        if self.send(Command::Close(reply)).is_ok() {
            // Either way it is closed: a lost answer means the writer is gone.
            drop(closed.await);
        }
    }

    /// [`Store::close`] for commands and tests.
    pub fn close_blocking(&self) {
        // Closed before is closed as well.
        drop(self.ask(Command::Close));
    }

    /// Returns whom the store belongs to.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Returns figures for status and metrics. Reads the directory (about 0.1 ms), not the rows.
    pub fn stats(&self) -> StoreStats {
        let config = &self.shared.config;
        let meter = &self.shared.meter;
        let nanos = |value: &AtomicU64| Duration::from_nanos(value.load(Ordering::Relaxed));
        StoreStats {
            hot_bytes: directory::size_bytes(&directory::database(&config.path, Db::Hot)),
            cold_bytes: directory::size_bytes(&directory::database(&config.path, Db::Cold)),
            free_bytes: fs2::available_space(&config.path).unwrap_or(0),
            waiting: QUEUE.saturating_sub(self.places.available_permits()),
            batches: meter.batches.load(Ordering::Relaxed),
            flushes: meter.flushes.load(Ordering::Relaxed),
            flush_total: nanos(&meter.flush_nanos),
            flush_longest: nanos(&meter.flush_longest_nanos),
            suspended: self.shared.databases().err().map(|error| error.to_string()),
        }
    }

    /// Runs `work` on the writer's thread, where nothing is written meanwhile, and blocks.
    pub(crate) fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, outcome) = mpsc::sync_channel(1);
        self.send(Command::Task(Box::new(move |writer| drop(answer.send(work(writer))))))?;
        outcome.recv().unwrap_or(Err(StoreError::Closed))
    }

    fn ask(&self, command: impl FnOnce(crate::writer::Reply) -> Command) -> Result<(), StoreError> {
        let (answer, outcome) = mpsc::sync_channel(1);
        self.send(command(Box::new(move |outcome| drop(answer.send(outcome)))))?;
        outcome.recv().unwrap_or(Err(StoreError::Closed))
    }

    fn send(&self, command: Command) -> Result<(), StoreError> {
        self.queue.send(command).map_err(|_| StoreError::Closed)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.shared.config.path).finish_non_exhaustive()
    }
}

/// What readers and the writer share.
pub(crate) struct Shared {
    pub(crate) config: StoreConfig,
    pub(crate) identity: Identity,
    state: RwLock<State>,
    lock: Mutex<Option<Arc<File>>>,
    pub(crate) meter: Meter,
}

/// Whether the databases can be used.
pub(crate) enum State {
    Open(Arc<Databases>),
    Suspended(StoreError),
    Closed,
}

impl Shared {
    pub(crate) fn databases(&self) -> Result<Arc<Databases>, StoreError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(databases) => Ok(Arc::clone(databases)),
            State::Suspended(cause) => Err(cause.clone()),
            State::Closed => Err(StoreError::Closed),
        }
    }

    /// Returns the state before.
    pub(crate) fn set_state(&self, state: State) -> State {
        let mut current = self.state.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, state)
    }

    pub(crate) fn lock(&self) -> Option<Arc<File>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn unlock(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Counters of the writer.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    batches: AtomicU64,
    flushes: AtomicU64,
    flush_nanos: AtomicU64,
    flush_longest_nanos: AtomicU64,
}

impl Meter {
    pub(crate) fn flushed(&self, took: Duration, batches: usize) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.batches.fetch_add(batches as u64, Ordering::Relaxed);
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.flush_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.flush_longest_nanos.fetch_max(nanos, Ordering::Relaxed);
    }
}
