//! What is wrong with a configuration, and where.

use std::fmt;

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named, or `environment`.
    pub file: String,
    /// Line, from 1; 0 when the fault has no place in a file.
    pub line: usize,
    /// Column in characters, from 1; 0 when the fault has no place in a file.
    pub column: usize,
    /// The key with its section, for example `validator.query_timeout`; empty for a fault of the
    /// whole file.
    pub key: String,
    /// What is wrong and which values are allowed.
    pub reason: String,
    /// What to do about it, where there is something to suggest.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        f.write_str(&self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// All faults of a configuration, in the order of the file; never empty when returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigErrors {
    /// The faults.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// Returns the number of faults.
    pub fn len(&self) -> usize {
        self.errors.len()
    }

    /// Tells whether there is no fault.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Iterates over the faults.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.errors.iter()
    }

    /// Makes the errors of a file that could not be used at all.
    pub(crate) fn whole_file(file: &str, reason: String, hint: Option<String>) -> Self {
        let file = file.to_owned();
        let key = String::new();
        Self { errors: vec![ConfigError { file, line: 0, column: 0, key, reason, hint }] }
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    /// One fault a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(error, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
