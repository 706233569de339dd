//! Exit codes of every command.
//!
//! Service managers and scripts decide by them whether to start the daemon again, so a code keeps
//! its meaning. Numbers from 64 follow `sysexits.h`.

use std::fmt;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Asked to stop and everything was finished, or the check passed.
    Done,
    /// Stopped at the deadline or by a second signal with work left for the next start, or a check
    /// found a difference. Durable state is consistent.
    Unfinished,
    /// Wrong command line.
    Usage,
    /// Something that an explicit `--require-…` demands is missing.
    Unavailable,
    /// The restart budget of an essential actor is spent, or an invariant failed.
    Internal,
    /// The data directory cannot be created or is not writable.
    DataDir,
    /// The store is damaged or failed to read or write; nothing was deleted.
    Store,
    /// Another process uses the data directory.
    InUse,
    /// A key file is unreadable or its permissions are too open.
    Key,
    /// The configuration is invalid.
    Config,
}

impl Exit {
    /// Every way to end, in the order of the codes.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Unfinished,
        Self::Usage,
        Self::Unavailable,
        Self::Internal,
        Self::DataDir,
        Self::Store,
        Self::InUse,
        Self::Key,
        Self::Config,
    ];

    /// Returns the number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unfinished => 1,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::DataDir => 73,
            Self::Store => 74,
            Self::InUse => 75,
            Self::Key => 77,
            Self::Config => 78,
        }
    }

    /// Returns the way to end that has this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "finished",
            Self::Unfinished => "stopped with work left, or a difference was found",
            Self::Usage => "wrong command line",
            Self::Unavailable => "a required dependency is missing",
            Self::Internal => "internal failure",
            Self::DataDir => "data directory cannot be used",
            Self::Store => "store damaged or unreadable",
            Self::InUse => "data directory in use by another process",
            Self::Key => "key file unreadable or too open",
            Self::Config => "configuration invalid",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones_and_go_back() {
        let codes: Vec<u8> = Exit::ALL.into_iter().map(Exit::code).collect();
        assert_eq!(codes, [0, 1, 64, 69, 70, 73, 74, 75, 77, 78]);
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code()), Some(exit));
        }
        assert_eq!(Exit::from_code(2), None);
    }
}
