//! The memory of a fetch into a file: `FILE.part`, candles as text behind a line that says of what.
//!
//! Rows are appended in rising order and forced to disk page by page, each page with a checksum
//! behind it. After a kill or a power cut the end may be torn: what comes behind the last page whose
//! checksum fits is cut off and fetched again. Nothing before it can be missing, so there is never a
//! hole and never a row twice.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forecastd_core::{Candle, Interval};
use forecastd_history::{CandleFile, HistoryError, MAX_LINE_BYTES, StrictRows, csv_row};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What a draft holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftHead {
    /// The exchange.
    pub exchange: String,
    /// Its name of the market.
    pub symbol: String,
    /// Length of a candle, ms.
    pub interval_ms: i64,
    /// First open time that was asked for.
    pub from_ms: i64,
}

/// A draft, open for appending; no other process can open it meanwhile.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    file: File,
    interval: Interval,
    next_ms: i64,
    rows: u64,
}

/// Returns the name of the draft of a file.
pub fn draft_path(out: &Path) -> PathBuf {
    let mut path = OsString::from(out.as_os_str());
    path.push(".part");
    PathBuf::from(path)
}

impl Draft {
    /// Opens the draft of `out`: a new one, or where an earlier run was stopped.
    ///
    /// # Errors
    /// Another process has it, it belongs to another fetch, or it cannot be read or written.
    pub fn open(out: &Path, head: &DraftHead) -> anyhow::Result<Self> {
        let path = draft_path(out);
        let reading = || format!("opening {}", path.display());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).with_context(reading)?;
        file.try_lock()
            .with_context(|| format!("{} is in use by another process", path.display()))?;
        let interval = Interval::from_ms(head.interval_ms)?;
        let start = format!("# {}\n{}\n", serde_json::to_string(head)?, forecastd_history::HEADER);
        let (mut next_ms, mut rows) = (head.from_ms, 0);
        let there = first_bytes(&mut file, start.len()).with_context(reading)?;
        if there == start.as_bytes() {
            let sound = sound_part(&path, &mut file, start.len(), interval)?;
            (next_ms, rows) = (sound.next_ms.unwrap_or(next_ms), sound.rows);
        } else {
            // Killed while the first lines were written; anything else is not ours to replace.
            let is_torn = start.as_bytes().starts_with(&there);
            anyhow::ensure!(
                is_torn,
                "{} belongs to another fetch; remove it, or name another file with --out",
                path.display()
            );
            file.set_len(0).with_context(reading)?;
            file.rewind()?;
            file.write_all(start.as_bytes()).with_context(reading)?;
        }
        file.seek(SeekFrom::End(0)).with_context(reading)?;
        file.sync_all().with_context(reading)?;
        Ok(Self { path, file, interval, next_ms, rows })
    }

    /// Returns the first open time that is not fetched yet.
    pub const fn next_ms(&self) -> i64 {
        self.next_ms
    }

    /// Returns the number of candles in it.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends candles, which follow on those before, and returns when they are on disk.
    ///
    /// # Errors
    /// A candle does not follow, or the disk fails.
    pub fn append(&mut self, candles: &[Candle]) -> anyhow::Result<()> {
        let mut text = Vec::new();
        let mut next_ms = self.next_ms;
        for candle in candles {
            candle.validate(self.interval).context("checking a candle of the exchange")?;
            anyhow::ensure!(
                candle.open_time_ms >= next_ms,
                "the exchange gave the candle of {} ms out of turn",
                candle.open_time_ms
            );
            csv_row(&mut text, candle)?;
            next_ms = candle.close_time_ms(self.interval);
        }
        if candles.is_empty() {
            return Ok(());
        }
        text.extend_from_slice(mark(Sha256::digest(&text).as_slice()).as_bytes());
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("writing {}", self.path.display()))?;
        self.next_ms = next_ms;
        self.rows += candles.len() as u64;
        Ok(())
    }

    /// Reads everything that is in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn candles(&self) -> Result<StrictRows, HistoryError> {
        CandleFile::open(&self.path)?.strict(self.interval)
    }

    /// Removes it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path)
            .with_context(|| format!("removing {}", self.path.display()))
    }
}

fn first_bytes(file: &mut File, count: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[derive(Debug, Default)]
struct Sound {
    next_ms: Option<i64>,
    rows: u64,
}

/// Cuts off everything behind the last page whose mark fits and returns what is left.
fn sound_part(
    path: &Path,
    file: &mut File,
    start: usize,
    interval: Interval,
) -> anyhow::Result<Sound> {
    let good = end_of_pages(file, start as u64)?;
    file.set_len(good).with_context(|| format!("cutting the torn end of {}", path.display()))?;
    let mut sound = Sound::default();
    for candle in CandleFile::open(path)?.strict(interval)? {
        sound.next_ms = Some(candle?.close_time_ms(interval));
        sound.rows += 1;
    }
    Ok(sound)
}

/// Returns the offset behind the last page, from `start` on, whose mark fits.
fn end_of_pages(file: &mut File, start: u64) -> anyhow::Result<u64> {
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    let (mut offset, mut good) = (start, start);
    let mut page = Sha256::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        offset += (&mut reader).take(limit).read_until(b'\n', &mut line)? as u64;
        if !line.ends_with(b"\n") {
            return Ok(good);
        }
        if !line.starts_with(b"#") {
            page.update(&line);
        } else if line == mark(page.finalize_reset().as_slice()).as_bytes() {
            good = offset;
        } else {
            return Ok(good);
        }
    }
}

/// The line behind a page: a checksum of its lines.
fn mark(digest: &[u8]) -> String {
    format!("# {}\n", hex::encode(digest))
}
