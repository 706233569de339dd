//! Standard output and standard error of the commands. Nothing else prints.
//!
//! Whoever prints for long asks [`is_closed`] after a line, or waits for [`closed`] beside its other
//! work: a reader that goes away (`| head -1`) ends the printing, not the program's exit code.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// Whether writing to standard output failed because nobody reads it any more.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Prints a line for people or scripts. A closed pipe is no error, see [`is_closed`].
pub fn line(text: &dyn Display) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    if written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        CLOSED.store(true, Ordering::Relaxed);
    }
}

/// Tells whether nobody reads standard output any more, as far as this program has noticed.
pub fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Resolves when nobody reads standard output any more; never for a file, nor where the system
/// does not tell.
pub async fn closed() {
    // A file cannot be watched; it cannot go away either. Unchecked, because the check would make
    // standard output non-blocking, and nothing is written here.
    let watched = std::io::stdout().as_fd().try_clone_to_owned();
    let watched = watched.and_then(|output| Sender::from_file_unchecked(output.into()));
    if let Ok(watched) = watched
        && watched.ready(Interest::ERROR).await.is_ok()
    {
        CLOSED.store(true, Ordering::Relaxed);
        return;
    }
    std::future::pending::<()>().await;
}

/// Tells whether standard output takes colours: a terminal, and nobody said no.
pub fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Prints what went wrong on standard error.
pub fn error(text: &dyn Display) {
    drop(writeln!(std::io::stderr().lock(), "error: {text}"));
}

/// Prints what happens on standard error, for people.
pub fn note(text: &dyn Display) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Prints what a person should know on standard error; the command goes on.
pub fn warning(text: &dyn Display) {
    drop(writeln!(std::io::stderr().lock(), "warning: {text}"));
}

/// Prints a value as pretty JSON.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}
