//! A log file that is renamed when it is full, so that the total size is bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Permissions of a new log file: the group may read it, others not.
const MODE: u32 = 0o640;

/// When a file is renamed and how many renamed ones stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationLimits {
    /// Greatest size of a file, bytes; a single longer line still goes into one file.
    pub size: u64,
    /// Renamed files that are kept, at least 1.
    pub files: u32,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    limits: RotationLimits,
    file: File,
    size: u64,
}

/// The file; clones write to the same one.
///
/// Every `write` must be whole lines: a rotation never splits one.
#[derive(Debug, Clone)]
pub struct RotatingFile(Arc<Mutex<State>>);

impl RotatingFile {
    /// Opens `path` for appending and creates its directory.
    ///
    /// # Errors
    /// Those of creating and opening.
    pub fn open(path: &Path, limits: RotationLimits) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let (file, size) = open(path)?;
        let state = State { path: path.to_owned(), limits, file, size };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Opens the path anew, after something else renamed the file.
    ///
    /// # Errors
    /// Those of opening; the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        let mut state = self.state();
        (state.file, state.size) = open(&state.path)?;
        Ok(())
    }

    /// Sets new limits; they hold from the next line on.
    pub fn set_limits(&self, limits: RotationLimits) {
        let mut state = self.state();
        let files = state.limits.files.max(1);
        for number in limits.files.max(1) + 1..=files {
            // What is not there needs no removing.
            drop(fs::remove_file(numbered(&state.path, number)));
        }
        state.limits = limits;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for RotatingFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.write_all(lines)?;
        Ok(lines.len())
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let length = lines.len() as u64;
        if state.size > 0 && state.size.saturating_add(length) > state.limits.size {
            // When renaming fails (a directory that became read-only), writing goes on in the old
            // file: a log beyond its size is better than none. The next line tries again.
            if let Err(error) = state.rotate() {
                state.file.write_all(lines)?;
                state.size = state.size.saturating_add(length);
                return Err(error);
            }
        }
        state.file.write_all(lines)?;
        state.size = state.size.saturating_add(length);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    /// Moves every file one number up, the oldest one away, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.limits.files.max(1)).rev() {
            match fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::rename(&self.path, numbered(&self.path, 1)) {
            // Removed by hand: the new file simply begins.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }
}

/// Returns the path of the rotated file with this number.
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(MODE).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}
