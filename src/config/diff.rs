//! The difference between two configurations, and what each change needs to take effect.

use std::fmt;

use super::Config;
use super::section::{Key, Part, join};
use super::value::Value;

/// What a change of a key needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadClass {
    /// Applied at once.
    Live,
    /// The named actor restarts.
    Part(&'static str),
    /// SIGHUP or a new process; reported, and the old value stays in force until then.
    Start,
}

impl fmt::Display for ReloadClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Part(actor) => write!(f, "part ({actor})"),
            Self::Start => f.write_str("start"),
        }
    }
}

/// One key whose value changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path; entries of lists go by their name, for example `feed.binance.symbol`.
    pub key: String,
    /// Old value as TOML, secrets redacted.
    pub old: String,
    /// New value as TOML, secrets redacted.
    pub new: String,
    /// What the change needs.
    pub class: ReloadClass,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {} ({})", self.key, self.old, self.new, self.class)
    }
}

/// All keys whose values changed, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigDiff {
    /// The changes.
    pub changes: Vec<Change>,
}

impl ConfigDiff {
    /// Tells whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Tells whether some change waits for SIGHUP or a new process.
    pub fn needs_start(&self) -> bool {
        self.changes.iter().any(|change| change.class == ReloadClass::Start)
    }

    /// Returns the actors that have to restart, each once, in the order of the file.
    pub fn parts(&self) -> Vec<&'static str> {
        let mut parts = Vec::new();
        for change in &self.changes {
            if let ReloadClass::Part(actor) = change.class
                && !parts.contains(&actor)
            {
                parts.push(actor);
            }
        }
        parts
    }
}

impl ConfigDiff {
    /// Returns `new` with all keys of class [`ReloadClass::Start`] as they are in `old`: what is in
    /// force after a reload without a start. `old` and `new` are those that were compared.
    pub fn apply_without_start(&self, old: &Config, new: &Config) -> Config {
        let has_other = self.changes.iter().any(|change| change.class != ReloadClass::Start);
        if has_other { old.merge(new) } else { old.clone() }
    }
}

/// Compares two configurations key by key.
///
/// When the changes that could be applied at once break a rule between keys without those that need
/// a start, all of them wait for the start: a configuration that nobody wrote never comes into
/// force in parts that do not fit.
pub fn diff(old: &Config, new: &Config) -> ConfigDiff {
    let mut changes = Vec::new();
    old.diff(new, "", &mut changes);
    if !old.merge(new).faults().is_empty() {
        for change in &mut changes {
            change.class = ReloadClass::Start;
        }
    }
    ConfigDiff { changes }
}

/// Returns which of two values is in force after a reload without a start.
pub(super) fn merge<T: Value>(class: ReloadClass, old: &T, new: &T) -> T {
    if class == ReloadClass::Start { old.clone() } else { new.clone() }
}

/// Adds the key when its values differ.
pub(super) fn compare<T: Value>(
    old: &T,
    new: &T,
    path: &str,
    key: Option<&'static Key>,
    changes: &mut Vec<Change>,
) {
    if old == new {
        return;
    }
    if let Some(key) = key {
        changes.push(Change {
            key: join(path, key.name),
            old: old.literal(),
            new: new.literal(),
            class: key.class,
        });
    }
}
