//! Export to one neutral file, and import into a new directory: backup, move, and compaction.
//!
//! ```text
//! "forecastd-store 1\n"  identity as JSON "\n"
//! row*:  db (1)  key length (2)  value length (4)  key  value
//! end:   0xff  number of rows (8)  CRC-32C of everything before (4)
//! ```
//! Integers are big-endian. Values are the rows as stored, continuing rows too, with their own
//! checksums, so nothing can change on the way unnoticed.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::batch::Batch;
use crate::codec::{self, MAX_VALUE_BYTES};
use crate::databases::contain;
use crate::directory;
use crate::error::StoreError;
use crate::identity::Identity;
use crate::ledger::OWN_KIND;
use crate::record::Db;
use crate::store::{Store, StoreConfig};

const MAGIC: &[u8] = b"forecastd-store 1\n";
const END: u8 = 0xff;
const MAX_KEY_BYTES: usize = 1_024;
const MAX_IDENTITY_BYTES: usize = 4_096;
/// Bytes written by one batch of an import.
const IMPORT_BYTES: usize = 1 << 20;

/// What was exported or imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Rows of both databases.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl Store {
    /// Writes all rows of both databases to `out`.
    ///
    /// Runs on the writer's thread, so the rows are of one instant; writes wait meanwhile (about a
    /// second for 200 MB). Blocks: not for an actor's thread.
    ///
    /// # Errors
    /// [`StoreError::Export`] when `out` fails; as [`Store::get`] when rows cannot be read.
    pub fn export(&self, out: impl Write + Send + 'static) -> Result<ExportReport, StoreError> {
        let identity = serde_json::to_vec(self.identity()).map_err(|error| export(&error))?;
        self.on_writer(move |writer| {
            let databases = writer.databases()?;
            let mut out = Summed { inner: out, sum: 0, bytes: 0 };
            let mut rows = 0_u64;
            out.put(MAGIC)?;
            out.put(&identity)?;
            out.put(b"\n")?;
            for db in Db::ALL {
                let mut iter = databases.tree(db).range([OWN_KIND + 1]..);
                while let Some((key, value)) =
                    contain(db, "reading rows", || iter.next().transpose())?
                {
                    // A damaged row would make a backup that cannot be restored.
                    let whole = databases.join(db, &key, value.clone())?;
                    codec::unframe(&key, &whole).map_err(|problem| StoreError::Damaged {
                        db,
                        detail: format!("row {}: {problem}", codec::hex(&key)),
                    })?;
                    let key_bytes = u16::try_from(key.len()).map_err(|error| export(&error))?;
                    let value_bytes = u32::try_from(value.len()).map_err(|error| export(&error))?;
                    out.put(&[tag(db)])?;
                    out.put(&key_bytes.to_be_bytes())?;
                    out.put(&value_bytes.to_be_bytes())?;
                    out.put(&key)?;
                    out.put(&value)?;
                    rows += 1;
                }
            }
            out.put(&[END])?;
            out.put(&rows.to_be_bytes())?;
            let sum = out.sum;
            out.put(&sum.to_be_bytes())?;
            out.inner.flush().map_err(|error| export(&error))?;
            Ok(ExportReport { rows, bytes: out.bytes })
        })
    }
}

/// Reads an exported file into a new store at `config.path`, which must not exist or be empty.
///
/// The rows go to a directory beside it, are verified there and moved into place as the last step:
/// a failed import leaves nothing under the final name.
///
/// # Errors
/// [`StoreError::Export`] when the file is cut, changed, or not an export; [`StoreError::Identity`]
/// when it belongs to somebody else; as [`Store::open`] and [`Store::write`].
pub fn import(config: &StoreConfig, input: impl Read) -> Result<ExportReport, StoreError> {
    let mut input = Summed { inner: input, sum: 0, bytes: 0 };
    read_header(&mut input)?.expect(&config.identity)?;
    import_body(config, input)
}

/// Like [`import`], whoever the file belongs to: for commands. The daemon that opens the store
/// later checks whether it is its own.
///
/// # Errors
/// As [`import`], except that nobody's identity is refused.
pub fn restore(
    path: impl Into<PathBuf>,
    cache_bytes: u64,
    input: impl Read,
) -> Result<ExportReport, StoreError> {
    let mut input = Summed { inner: input, sum: 0, bytes: 0 };
    let identity = read_header(&mut input)?;
    let config = StoreConfig { cache_bytes, ..StoreConfig::new(path.into(), identity) };
    import_body(&config, input)
}

/// Tells whether something is there that an import would replace.
fn is_taken(path: &Path) -> bool {
    fs::read_dir(path).map_or_else(|_| path.exists(), |mut entries| entries.next().is_some())
}

fn import_body(
    config: &StoreConfig,
    mut input: Summed<impl Read>,
) -> Result<ExportReport, StoreError> {
    if is_taken(&config.path) {
        let detail = format!("{} exists already, name a new directory", config.path.display());
        return Err(StoreError::Export { detail });
    }
    let mut name = config.path.clone().into_os_string();
    name.push(".importing");
    let beside = PathBuf::from(name);
    if beside.exists() {
        let detail = format!("{} is left of an earlier import, remove it", beside.display());
        return Err(StoreError::Export { detail });
    }
    let store =
        Store::open(StoreConfig { path: beside.clone(), reserve_bytes: 0, ..config.clone() })?;
    let outcome = import_rows(&store, &mut input).and_then(|rows| {
        let report = store.verify()?;
        match report.problems.first() {
            Some(problem) => Err(StoreError::Export { detail: problem.clone() }),
            None => Ok(ExportReport { rows, bytes: input.bytes }),
        }
    });
    store.close_blocking();
    drop(store);
    let place = |report| {
        fs::rename(&beside, &config.path)
            .map(|()| report)
            .map_err(|error| StoreError::directory(&config.path, error))
    };
    let outcome = outcome.and_then(place);
    if outcome.is_err() && directory::holds_store(&beside) {
        // Made by this call from a file that still exists: nothing is lost with it.
        fs::remove_dir_all(&beside).map_err(|error| StoreError::directory(&beside, error))?;
    }
    outcome
}

fn read_header(input: &mut Summed<impl Read>) -> Result<Identity, StoreError> {
    let mut magic = vec![0; MAGIC.len()];
    input.take(&mut magic)?;
    if magic != MAGIC {
        return Err(StoreError::Export { detail: "it is not a store export".to_owned() });
    }
    let mut json = Vec::new();
    let mut byte = [0];
    loop {
        input.take(&mut byte)?;
        if byte == *b"\n" {
            break;
        }
        if json.len() >= MAX_IDENTITY_BYTES {
            return Err(StoreError::Export { detail: "its identity line is too long".to_owned() });
        }
        json.extend_from_slice(&byte);
    }
    serde_json::from_slice(&json).map_err(|error| export(&error))
}

fn import_rows(store: &Store, input: &mut Summed<impl Read>) -> Result<u64, StoreError> {
    let mut rows = 0_u64;
    let mut batch = Batch::raw(Db::Cold);
    loop {
        let mut first = [0];
        input.take(&mut first)?;
        if first == [END] {
            break;
        }
        let db = match first {
            [0] => Db::Cold,
            [1] => Db::Hot,
            [other] => {
                return Err(StoreError::Export { detail: format!("row {rows} has tag {other}") });
            }
        };
        let (mut key_bytes, mut value_bytes) = ([0; 2], [0; 4]);
        input.take(&mut key_bytes)?;
        input.take(&mut value_bytes)?;
        let key_bytes = usize::from(u16::from_be_bytes(key_bytes));
        let value_bytes = usize::try_from(u32::from_be_bytes(value_bytes)).unwrap_or(usize::MAX);
        if key_bytes > MAX_KEY_BYTES || value_bytes > MAX_VALUE_BYTES {
            return Err(StoreError::Export { detail: format!("row {rows} is too large") });
        }
        let (mut key, mut value) = (vec![0; key_bytes], vec![0; value_bytes]);
        input.take(&mut key)?;
        input.take(&mut value)?;
        let is_own = key.first().is_none_or(|kind| *kind == OWN_KIND);
        // A row that is continued is checked with its parts, when all of them are there.
        let is_continued = codec::part_count(&value) > 0;
        if is_own || (!is_continued && codec::unframe(&key, &value).is_err()) {
            return Err(StoreError::Export { detail: format!("row {rows} is damaged") });
        }
        if batch.db != Some(db) || batch.bytes >= IMPORT_BYTES {
            store.write_blocking(std::mem::replace(&mut batch, Batch::raw(db)))?;
        }
        batch.put_row(key, value);
        rows += 1;
    }
    store.write_blocking(batch)?;
    let mut count = [0; 8];
    input.take(&mut count)?;
    let sum = input.sum;
    let mut stored_sum = [0; 4];
    input.take(&mut stored_sum)?;
    if u64::from_be_bytes(count) != rows || u32::from_be_bytes(stored_sum) != sum {
        return Err(StoreError::Export { detail: "its rows do not fit its checksum".to_owned() });
    }
    Ok(rows)
}

const fn tag(db: Db) -> u8 {
    match db {
        Db::Cold => 0,
        Db::Hot => 1,
    }
}

fn export(error: &dyn std::error::Error) -> StoreError {
    StoreError::Export { detail: error.to_string() }
}

/// A stream with the checksum and the number of the bytes that went through it.
struct Summed<T> {
    inner: T,
    sum: u32,
    bytes: u64,
}

impl<T> Summed<T> {
    fn count(&mut self, bytes: &[u8]) {
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<T: Write> Summed<T> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.write_all(bytes).map_err(|error| export(&error))?;
        self.count(bytes);
        Ok(())
    }
}

impl<T: Read> Summed<T> {
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => StoreError::Export { detail: "it is cut".to_owned() },
            _ => export(&error),
        })?;
        self.count(bytes);
        Ok(())
    }
}
