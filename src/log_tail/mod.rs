//! Follows the log file by its path, across rotation and truncation.
//!
//! [`Tail::poll`] is one step without waiting, so that callers decide about time. It reads the old
//! file to its end before the next one, finds all files of several rotations at once by their
//! numbers (`.1`, `.2`, …), survives a missing file, and keeps at most [`MAX_LINE`] bytes of a line
//! and [`POLL_BYTES`] a step in memory.
//!
//! Files are told apart by device and inode. The file that is read and the one before it stay open,
//! so their inodes cannot be given to new files in the meantime.
//!
//! Limits: rotation by copy and truncation loses what was written between copy and truncation, and
//! a file that grew beyond the old position before the next step is not noticed; rename and SIGUSR1
//! lose nothing. More rotations between two steps than files are kept lose the oldest ones.

mod backward;
mod filter;

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::logging::numbered;

pub use filter::{LineFilter, actor_of};

/// Longest line that is handed on, bytes; the rest of a longer one is skipped.
pub const MAX_LINE: usize = 64 * 1024;

/// Most bytes that one step reads.
pub const POLL_BYTES: usize = 4 * 1024 * 1024;

/// How often [`follow`] looks for new lines.
pub const POLL_EVERY: Duration = Duration::from_millis(200);

/// Bytes of one read.
const BLOCK: usize = 64 * 1024;

/// Highest number of a rotated file that is looked for.
const MAX_FILES: u32 = 64;

/// Numbers without a file that end the search: a rotation in progress leaves one gap.
const MAX_GAPS: u32 = 3;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text without its line break; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether the end is missing: too long, or the file ended within the line.
    pub is_cut: bool,
}

/// Device and inode.
type FileId = (u64, u64);

/// An open file with the position up to which it was read.
#[derive(Debug)]
struct OpenFile {
    file: File,
    id: FileId,
    offset: u64,
    partial: Vec<u8>,
    is_skipping: bool,
}

/// A position in a log that grows and rotates.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// The file that is read.
    current: Option<OpenFile>,
    /// The file before it: what the search for newer files must not go beyond.
    previous: Option<OpenFile>,
    /// Newer files, oldest first.
    next: VecDeque<OpenFile>,
}

impl Tail {
    /// Begins with the first line of the file at `path`, which need not exist yet.
    pub fn from_start(path: &Path) -> Self {
        // One that cannot be opened is reported by the first step that needs it.
        let previous = OpenFile::open(&numbered(path, 1)).ok().flatten();
        Self { path: path.to_owned(), current: None, previous, next: VecDeque::new() }
    }

    /// Begins with the last `lines` lines that `filter` admits, those of rotated files included.
    ///
    /// Reads backwards in blocks; what is not needed is not read.
    ///
    /// # Errors
    /// Those of opening and reading, except that a missing file is none.
    pub fn from_end(path: &Path, lines: usize, filter: &LineFilter) -> io::Result<Self> {
        let mut next = VecDeque::new();
        let mut missing = lines;
        let mut files = newest_first(path, &[])?.into_iter();
        for mut file in files.by_ref() {
            let (offset, found) = backward::last_lines(&file.file, missing, filter)?;
            file.offset = offset;
            missing -= found.min(missing);
            next.push_front(file);
            if missing == 0 {
                break;
            }
        }
        Ok(Self { path: path.to_owned(), current: None, previous: files.next(), next })
    }

    /// Adds the lines that came since the last step, [`POLL_BYTES`] at most; call it again at once
    /// when there were any.
    ///
    /// # Errors
    /// Those of opening and reading, except that a missing file is none. The position stays, the
    /// next call goes on.
    pub fn poll(&mut self, out: &mut Vec<Line>) -> io::Result<()> {
        let mut budget = POLL_BYTES;
        loop {
            if self.next.is_empty() && self.has_moved_on()? {
                self.find_next()?;
            }
            let Some(current) = &mut self.current else {
                self.current = self.next.pop_front();
                if self.current.is_none() {
                    return Ok(());
                }
                continue;
            };
            // Newer files were found before this read: their writer is done with this one.
            if !current.read(out, &mut budget)? {
                return Ok(());
            }
            let Some(next) = self.next.pop_front() else { return Ok(()) };
            current.end(out);
            self.previous = self.current.replace(next);
        }
    }

    /// Tells whether the path leads to another file than the one that is read.
    fn has_moved_on(&self) -> io::Result<bool> {
        let Some(current) = &self.current else { return Ok(true) };
        match std::fs::metadata(&self.path) {
            Ok(found) => Ok((found.dev(), found.ino()) != current.id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn find_next(&mut self) -> io::Result<()> {
        let known: Vec<FileId> =
            [&self.current, &self.previous].into_iter().flatten().map(|file| file.id).collect();
        self.next = newest_first(&self.path, &known)?.into_iter().rev().collect();
        Ok(())
    }
}

impl OpenFile {
    /// Opens a file at its start; `None` when there is none.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        let id = (found.dev(), found.ino());
        Ok(Some(Self { file, id, offset: 0, partial: Vec::new(), is_skipping: false }))
    }

    /// Reads to the end or until the budget is used; true at the end.
    fn read(&mut self, out: &mut Vec<Line>, budget: &mut usize) -> io::Result<bool> {
        if self.file.metadata()?.len() < self.offset {
            self.end(out);
            self.offset = 0;
        }
        let mut block = vec![0; BLOCK];
        while *budget > 0 {
            let count = match self.file.read_at(&mut block, self.offset) {
                Ok(0) => return Ok(true),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.offset += count as u64;
            *budget = budget.saturating_sub(count);
            self.split(block.get(..count).unwrap_or_default(), out);
        }
        Ok(false)
    }

    fn split(&mut self, bytes: &[u8], out: &mut Vec<Line>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            if !self.is_skipping {
                let room = MAX_LINE - self.partial.len();
                self.is_skipping = text.len() > room;
                self.partial.extend_from_slice(text.get(..room).unwrap_or(text));
            }
            if is_whole {
                out.push(line(&self.partial, self.is_skipping));
                self.partial.clear();
                self.is_skipping = false;
            }
        }
    }

    /// Hands on a last line without a line break: nothing follows any more.
    fn end(&mut self, out: &mut Vec<Line>) {
        if !self.partial.is_empty() {
            out.push(line(&self.partial, true));
        }
        self.partial.clear();
        self.is_skipping = false;
    }
}

/// Hands each line to `emit`, and new ones as they come, until `stop` is ready.
///
/// Blocks the thread while it reads: for the command line, not for an actor.
///
/// # Errors
/// Those of reading and of `emit`.
pub async fn follow(
    tail: &mut Tail,
    filter: &LineFilter,
    mut emit: impl FnMut(&Line) -> io::Result<()>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    tokio::pin!(stop);
    let mut lines = Vec::new();
    loop {
        let pause = if emit_new(tail, filter, &mut lines, &mut emit)? {
            Duration::ZERO
        } else {
            POLL_EVERY
        };
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Hands the lines that are there now to `emit` and returns.
///
/// # Errors
/// Those of reading and of `emit`.
pub fn show(
    tail: &mut Tail,
    filter: &LineFilter,
    mut emit: impl FnMut(&Line) -> io::Result<()>,
) -> io::Result<()> {
    let mut lines = Vec::new();
    while emit_new(tail, filter, &mut lines, &mut emit)? {}
    Ok(())
}

/// One step; true when there were lines.
fn emit_new(
    tail: &mut Tail,
    filter: &LineFilter,
    lines: &mut Vec<Line>,
    emit: &mut impl FnMut(&Line) -> io::Result<()>,
) -> io::Result<bool> {
    lines.clear();
    tail.poll(lines)?;
    for line in lines.iter().filter(|line| filter.admits(&line.text)) {
        emit(line)?;
    }
    Ok(!lines.is_empty())
}

fn line(bytes: &[u8], is_cut: bool) -> Line {
    Line { text: String::from_utf8_lossy(bytes).into_owned(), is_cut }
}

/// Opens the file and its rotated ones, newest first, up to a known one.
///
/// Rotation moves files to higher numbers and the search goes the same way: a file that moves
/// meanwhile is seen again and not missed, and the order in which files are seen last is theirs. A
/// file newer than all that were seen is found by the next search. An empty newest file is left for
/// later: whoever made it may still let the daemon write to the old one.
fn newest_first(path: &Path, known: &[FileId]) -> io::Result<Vec<OpenFile>> {
    let mut files: Vec<OpenFile> = Vec::new();
    let mut gaps = 0;
    for number in 0..=MAX_FILES {
        let found = match number {
            0 => OpenFile::open(path)?,
            _ => OpenFile::open(&numbered(path, number))?,
        };
        let Some(file) = found else {
            gaps += 1;
            if gaps > MAX_GAPS {
                break;
            }
            continue;
        };
        gaps = 0;
        if known.contains(&file.id) {
            break;
        }
        if number == 0 && file.file.metadata()?.len() == 0 {
            continue;
        }
        files.retain(|seen| seen.id != file.id);
        files.push(file);
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
