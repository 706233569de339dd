//! Notices that the configuration file changed.
//!
//! Looks at the file's content by polling: editors and orchestrators replace the inode or swap a
//! link, which polling by path survives everywhere. A change counts once it has been quiet for the
//! debounce time; a file with the same content is no change. The looking is a task of its own, so
//! that whatever else its owner waits for never delays it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::watch::{Fingerprint, read_once};

/// How often the file is looked at, and how long it must be quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    poll: Duration,
    debounce: Duration,
}

/// Watches one file; dropping it ends the watching.
#[derive(Debug)]
pub struct Watcher {
    changes: mpsc::Receiver<()>,
    pace: watch::Sender<Pace>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts from the present content of `path`, inside of a runtime.
    pub fn new(path: &Path, poll: Duration, debounce: Duration) -> Self {
        // One notice is enough: its reader reads the newest content.
        let (notices, changes) = mpsc::channel(1);
        let (pace, paces) = watch::channel(Pace { poll, debounce });
        let task = tokio::spawn(look(path.to_owned(), fingerprint(path), paces, notices));
        Self { changes, pace, task }
    }

    /// Takes over new pace settings.
    pub fn set_pace(&self, poll: Duration, debounce: Duration) {
        self.pace.send_replace(Pace { poll, debounce });
    }

    /// Resolves when the content has changed and has been quiet since. May be dropped half-way.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            // The task only ends with this value.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(
    path: PathBuf,
    mut known: Option<Fingerprint>,
    paces: watch::Receiver<Pace>,
    notices: mpsc::Sender<()>,
) {
    loop {
        let pace = *paces.borrow();
        tokio::time::sleep(pace.poll).await;
        let mut now = fingerprint(&path);
        if now.is_none() || now == known {
            continue;
        }
        loop {
            tokio::time::sleep(pace.debounce).await;
            let later = fingerprint(&path);
            if later == now {
                break;
            }
            now = later;
        }
        if now.is_some() && now != known {
            known = now;
            // Full means that a notice waits, which stands for this change too.
            notices.try_send(()).ok();
        }
    }
}

/// A file that is away for a moment, as while an editor swaps it, is no change.
fn fingerprint(path: &Path) -> Option<Fingerprint> {
    read_once(path).ok().map(|(_, fingerprint)| fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_noticed_by_an_owner_that_is_always_interrupted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, "a = 1").unwrap();
        let mut watcher = Watcher::new(&path, Duration::from_millis(20), Duration::from_millis(20));
        std::fs::write(&path, "a = 2").unwrap();
        let notice = async {
            loop {
                tokio::select! {
                    biased;
                    () = watcher.changed() => return,
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), notice).await.unwrap();
    }
}
