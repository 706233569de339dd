//! Notices that the configuration file changed.
//!
//! Looks at the file's content by polling: editors and orchestrators replace the inode or swap a
//! link, which polling by path survives everywhere. A change counts once it has been quiet for the
//! debounce time; a file with the same content is no change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::watch::{Fingerprint, read_once};

/// Watches one file.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    known: Option<Fingerprint>,
    poll: Duration,
    debounce: Duration,
}

impl Watcher {
    /// Starts from the present content of `path`.
    pub fn new(path: &Path, poll: Duration, debounce: Duration) -> Self {
        Self { path: path.to_owned(), known: fingerprint(path), poll, debounce }
    }

    /// Takes over new pace settings.
    pub const fn set_pace(&mut self, poll: Duration, debounce: Duration) {
        self.poll = poll;
        self.debounce = debounce;
    }

    /// Resolves when the content has changed and has been quiet since. May be dropped half-way.
    pub async fn changed(&mut self) {
        loop {
            tokio::time::sleep(self.poll).await;
            let mut now = fingerprint(&self.path);
            if now.is_none() || now == self.known {
                continue;
            }
            loop {
                tokio::time::sleep(self.debounce).await;
                let later = fingerprint(&self.path);
                if later == now {
                    break;
                }
                now = later;
            }
            if now.is_some() && now != self.known {
                self.known = now;
                return;
            }
        }
    }
}

/// A file that is away for a moment, as while an editor swaps it, is no change.
fn fingerprint(path: &Path) -> Option<Fingerprint> {
    read_once(path).ok().map(|(_, fingerprint)| fingerprint)
}
