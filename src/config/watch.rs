//! Reading a watched file once, and telling whether its content changed.
//!
//! The reload decides by content, not by time stamps: editors touch files without changing them,
//! and orchestrators swap links to files with old dates.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Greatest size of a configuration file, bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Hash of a file's content (SHA-256).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Returns the fingerprint of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }
}

impl fmt::Display for Fingerprint {
    /// The first eight bytes in hex, enough for logs and status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Reads the whole file once, through links, and returns its text with its fingerprint.
///
/// Blocks the thread for as long as the disk takes: an actor calls it on the blocking pool.
///
/// # Errors
/// Those of opening and reading; `InvalidData` when it is larger than [`MAX_FILE_BYTES`], not a
/// plain file or not UTF-8.
pub fn read_once(path: &Path) -> io::Result<(String, Fingerprint)> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    // Opening a pipe would wait for a writer for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(invalid("is not a plain file".to_owned()));
    }
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(invalid(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let fingerprint = Fingerprint::of(&content);
    let text = String::from_utf8(content).map_err(|error| {
        invalid(format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
    })?;
    Ok((text, fingerprint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_follows_the_content_and_not_the_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "a = 1").unwrap();
        let (text, first) = read_once(&path).unwrap();
        assert_eq!(text, "a = 1");
        std::fs::write(&path, "a = 2").unwrap();
        let (_, second) = read_once(&path).unwrap();
        assert_ne!(first, second);
        std::fs::write(&path, "a = 1").unwrap();
        assert_eq!(read_once(&path).unwrap().1, first);
        // sha256("a = 1"), its first eight bytes.
        assert_eq!(first.to_string(), Fingerprint::of(b"a = 1").to_string());
        assert_eq!(first.to_string().len(), 16);
    }

    #[test]
    fn a_swapped_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new, link) =
            (dir.path().join("old"), dir.path().join("new"), dir.path().join("config.toml"));
        std::fs::write(&old, "old").unwrap();
        std::fs::write(&new, "new").unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        assert_eq!(read_once(&link).unwrap().0, "old");
        let staged = dir.path().join("staged");
        std::os::unix::fs::symlink(&new, &staged).unwrap();
        std::fs::rename(&staged, &link).unwrap();
        assert_eq!(read_once(&link).unwrap().0, "new");
    }

    #[test]
    fn large_binary_and_odd_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert_eq!(read_once(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read_once(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::write(&path, [b'a', 0xff]).unwrap();
        assert!(read_once(&path).unwrap_err().to_string().contains("UTF-8 at byte 1"));
        let limit = usize::try_from(MAX_FILE_BYTES).unwrap();
        std::fs::write(&path, vec![b'#'; limit]).unwrap();
        assert!(read_once(&path).is_ok());
        std::fs::write(&path, vec![b'#'; limit + 1]).unwrap();
        assert!(read_once(&path).unwrap_err().to_string().contains("larger than 1048576"));
    }
}
