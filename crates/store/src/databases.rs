//! The two sled databases: opening, checking, closing, and keeping sled's panics in.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tracing::{error, warn};

use crate::codec;
use crate::directory;
use crate::error::StoreError;
use crate::identity::{self, Identity};
use crate::ledger::{self, OWN_KIND, Tallies};
use crate::mark::{self, Counts};
use crate::record::Db;
use crate::store::StoreConfig;

/// sled writes out what is left of the log this often by itself: a second net below our flushes.
const FLUSH_EVERY_MS: u64 = 500;
/// How long handles of this process may take to go away when a database is closed or reopened.
const HANDLES_LIMIT: Duration = Duration::from_secs(5);
const HANDLES_STEP: Duration = Duration::from_millis(5);
/// How often a row of several parts is read before it counts as damaged.
const TORN_READS: u32 = 8;
/// How long closing may take as a whole before it goes on in the background.
const CLOSE_LIMIT: Duration = Duration::from_secs(15);

/// Both databases, open. Cold first, so that it is closed first.
#[derive(Debug)]
pub(crate) struct Databases {
    cold: sled::Db,
    hot: sled::Db,
    /// Last field: the directory stays locked until both are closed.
    _lock: Arc<File>,
}

impl Databases {
    /// Opens both and checks whom they belong to. `expected` is `None` for "whoever it is".
    pub(crate) fn open(
        config: &StoreConfig,
        expected: Option<&Identity>,
        lock: &Arc<File>,
    ) -> Result<(Self, Identity), StoreError> {
        let cold = open_one(config, Db::Cold)?;
        let hot = open_one(config, Db::Hot)?;
        let this = Self { cold, hot, _lock: Arc::clone(lock) };
        let identity = this.identify(expected, config)?;
        Ok((this, identity))
    }

    /// The one tree of a database.
    pub(crate) fn tree(&self, db: Db) -> &sled::Db {
        match db {
            Db::Hot => &self.hot,
            Db::Cold => &self.cold,
        }
    }

    /// Makes everything applied so far durable.
    pub(crate) fn flush(&self, db: Db) -> Result<(), StoreError> {
        contain(db, "flushing", || self.tree(db).flush()).map(drop)
    }

    pub(crate) fn get(&self, db: Db, row_key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        contain(db, "reading a row", || self.tree(db).get(row_key))
    }

    /// Reads a row with the rows that continue it.
    ///
    /// Those are read one after the other, so a write may come in between; what does not fit is
    /// read again, and if it still does not fit it is for the caller to find the damage.
    pub(crate) fn whole(&self, db: Db, row_key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        let mut last = None;
        for _ in 0..TORN_READS {
            let Some(head) = self.get(db, row_key)? else {
                return Ok(None);
            };
            let whole = self.join(db, row_key, head)?;
            if codec::part_count(&whole) == 0 || codec::unframe(row_key, &whole).is_ok() {
                return Ok(Some(whole));
            }
            last = Some(whole);
        }
        Ok(last)
    }

    /// Puts the rows that continue `head` behind it.
    pub(crate) fn join(
        &self,
        db: Db,
        row_key: &[u8],
        head: sled::IVec,
    ) -> Result<sled::IVec, StoreError> {
        let count = codec::part_count(&head);
        if count == 0 {
            return Ok(head);
        }
        let parts = (1..=count)
            .map(|number| self.get(db, &codec::part_key(row_key, number)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(codec::join(&head, &parts))
    }

    /// Reads the ledger of one database.
    pub(crate) fn tallies(&self, db: Db) -> Result<Tallies, StoreError> {
        let mut tallies = Tallies::new();
        let mut rows = self.tree(db).scan_prefix(ledger::ledger_prefix());
        while let Some((key, value)) =
            contain(db, "reading the ledger", || rows.next().transpose())?
        {
            let (kind, tally) = ledger::decode(&key, &value).map_err(|problem| {
                StoreError::Damaged { db, detail: format!("ledger row: {problem}") }
            })?;
            tallies.insert(kind, tally);
        }
        Ok(tallies)
    }

    /// Reads how many batches each database has seen.
    pub(crate) fn counts(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        for db in Db::ALL {
            if let Some(value) = self.get(db, &mark::count_key())? {
                let count = mark::decode_count(&value).map_err(|problem| StoreError::Damaged {
                    db,
                    detail: format!("count row: {problem}"),
                })?;
                counts.set(db, count);
            }
        }
        Ok(counts)
    }

    /// Refuses a database that has lost acknowledged batches; one in `new` has none to lose.
    fn compare_with_mark(&self, config: &StoreConfig, new: &[Db]) -> Result<(), StoreError> {
        let Some(mark) = mark::read(&config.path) else {
            return Ok(());
        };
        let counts = self.counts()?;
        for db in Db::ALL {
            let (is, must) = (counts.get(db), mark.get(db));
            if is < must && !new.contains(&db) {
                let detail = format!(
                    "{} acknowledged batches are missing at its end ({is} of {must} are there)",
                    must - is
                );
                return Err(StoreError::Damaged { db, detail });
            }
        }
        Ok(())
    }

    fn identify(
        &self,
        expected: Option<&Identity>,
        config: &StoreConfig,
    ) -> Result<Identity, StoreError> {
        let stored = |db: Db| -> Result<Option<Identity>, StoreError> {
            match self.get(db, &identity::identity_key())? {
                Some(value) => identity::decode(db, &value).map(Some),
                None if self.is_empty(db)? => Ok(None),
                None => Err(StoreError::Damaged {
                    db,
                    detail: "rows are there, the identity row is not".to_owned(),
                }),
            }
        };
        let (cold, hot) = (stored(Db::Cold)?, stored(Db::Hot)?);
        if cold.is_none() && hot.is_some() {
            // The cold database is written first, so no crash leaves this behind.
            let detail = "it is empty although the hot database is not".to_owned();
            return Err(StoreError::Damaged { db: Db::Cold, detail });
        }
        let Some(identity) = cold.as_ref().or(expected) else {
            return Err(StoreError::Missing { path: config.path.clone() });
        };
        for known in [cold.as_ref(), hot.as_ref()].into_iter().flatten() {
            known.expect(expected.unwrap_or(identity))?;
        }
        let known = [(Db::Cold, cold.is_some()), (Db::Hot, hot.is_some())];
        let new: Vec<Db> = known.iter().filter(|(_, is)| !is).map(|(db, _)| *db).collect();
        self.compare_with_mark(config, &new)?;
        for db in new {
            if db == Db::Hot && cold.is_some() {
                warn!(
                    "hot database is new although the cold one is not, rounds in flight are gone"
                );
            }
            let value = identity::encode(db, identity)?;
            contain(db, "writing the identity", || {
                self.tree(db).insert(identity::identity_key(), value.as_slice())
            })?;
            self.flush(db)?;
        }
        Ok(identity.clone())
    }

    /// Tells whether there is no row but the store's own.
    fn is_empty(&self, db: Db) -> Result<bool, StoreError> {
        let mut rows = self.tree(db).range([OWN_KIND + 1]..);
        let first = contain(db, "reading the first row", || rows.next().transpose())?;
        Ok(first.is_none() && self.tallies(db)?.is_empty())
    }
}

fn open_one(config: &StoreConfig, db: Db) -> Result<sled::Db, StoreError> {
    let path = directory::database(&config.path, db);
    let aside = directory::set_aside_unfinished(&path)
        .map_err(|error| StoreError::directory(&path, error))?;
    for file in &aside {
        warn!(%db, file = %file.display(), "unfinished snapshot set aside");
    }
    let mut waited = Duration::ZERO;
    loop {
        let opened = contain(db, "opening", || {
            sled::Config::new()
                .path(&path)
                .cache_capacity(config.cache_bytes)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open()
        });
        match opened {
            // The directory's own lock is held, so the holder is an old handle of this process.
            Err(StoreError::Io { detail, .. }) if detail.contains("could not acquire lock") => {
                if waited >= HANDLES_LIMIT {
                    return Err(StoreError::Locked { path });
                }
                thread::park_timeout(HANDLES_STEP);
                waited += HANDLES_STEP;
            }
            outcome => return outcome,
        }
    }
}

thread_local! {
    /// Whether this thread is inside of a call whose panics become errors.
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether a panic comes out of sled, on a damaged database: the store turns those into
/// [`StoreError::Damaged`], so a command's panic hook need not print them as well.
pub fn is_contained(panic: &PanicHookInfo<'_>) -> bool {
    // sled's own threads panic too when the caller's does; nobody catches those, nobody waits for
    // them either.
    let is_sled = panic.location().is_some_and(|place| place.file().contains("/sled-"));
    is_sled || IS_CONTAINED.with(Cell::get)
}

/// Runs a call into sled; its panics become [`StoreError::Damaged`].
pub(crate) fn contain<T>(
    db: Db,
    what: &'static str,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, StoreError> {
    let before = IS_CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    IS_CONTAINED.set(before);
    match outcome {
        Ok(outcome) => outcome.map_err(|error| StoreError::sled(db, what, &error)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(StoreError::Damaged { db, detail: format!("{what}: panicked: {text}") })
        }
    }
}

/// Closes the databases once the last reader is done with them.
///
/// sled joins a thread of its own there, which a damaged database can hold up for ever: therefore
/// on a thread of its own, and after [`CLOSE_LIMIT`] without waiting for it.
pub(crate) fn close(databases: Arc<Databases>) {
    let (done, closed) = mpsc::channel::<()>();
    let work = move || {
        let mut waited = Duration::ZERO;
        while Arc::strong_count(&databases) > 1 && waited < HANDLES_LIMIT {
            thread::park_timeout(HANDLES_STEP);
            waited += HANDLES_STEP;
        }
        if catch_unwind(AssertUnwindSafe(move || drop(databases))).is_err() {
            error!("sled panicked while it was closed");
        }
        drop(done);
    };
    if let Err(error) = thread::Builder::new().name("store-close".to_owned()).spawn(work) {
        error!(%error, "no thread to close the store on");
        return;
    }
    if closed.recv_timeout(CLOSE_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
        error!("closing the store takes too long, it goes on in the background");
    }
}
