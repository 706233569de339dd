//! Standard output and standard error of the commands. Nothing else prints.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

/// Prints a line for people or scripts. A closed pipe is no error.
pub fn line(text: &dyn Display) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// Tells whether standard output takes colours: a terminal, and nobody said no.
pub fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Prints what went wrong on standard error.
pub fn error(text: &dyn Display) {
    drop(writeln!(std::io::stderr().lock(), "error: {text}"));
}

/// Prints a value as pretty JSON.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}
