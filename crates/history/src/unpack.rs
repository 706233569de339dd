//! Unpacking with a bound: what a file is, is told by its first bytes.

use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;

use crate::error::{HistoryError, Place};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// A frame that only carries a comment; some programs write one first.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
const BZIP2: &[u8] = b"BZh";
/// Bytes that tell what a file is.
pub(crate) const MAGIC_BYTES: usize = 8;
/// Largest window that a zstd file may ask for, as a power of two: 128 MiB, the tool's own limit.
const ZSTD_WINDOW_LOG: u32 = 27;

/// A reader of the plain bytes, at most `limit` of them.
pub(crate) type Plain = Box<dyn BufRead + Send>;

/// Unpacks `packed` by its first bytes.
///
/// # Errors
/// The first bytes cannot be read, or promise a zstd window that is too large.
pub(crate) fn unpack(packed: impl Read + Send + 'static, limit: u64) -> io::Result<Plain> {
    let mut packed = packed;
    let start = peek(&mut packed)?;
    let whole = Cursor::new(start.clone()).chain(packed);
    let skippable = start.get(1..4) == Some(ZSTD_SKIPPABLE)
        && start.first().is_some_and(|byte| byte & 0xf0 == 0x50);
    let plain: Box<dyn Read + Send> = if start.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(whole))
    } else if start.starts_with(ZSTD) || skippable {
        let mut decoder = zstd::stream::read::Decoder::new(whole)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        Box::new(decoder)
    } else if start.starts_with(BZIP2) {
        Box::new(MultiBzDecoder::new(whole))
    } else {
        Box::new(whole)
    };
    Ok(Box::new(BufReader::new(Bounded { inner: plain, left: limit })))
}

/// Takes up to [`MAGIC_BYTES`] first bytes out of a reader.
pub(crate) fn peek(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(MAGIC_BYTES);
    reader.take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Fails instead of ending early: a bomb must not pass for a short file.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(count as u64) else {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "too large after unpacking"));
        };
        self.left = left;
        Ok(count)
    }
}

/// Turns an error of reading into one with file and place.
pub(crate) fn read_error(file: &str, place: Place, limit: u64, source: io::Error) -> HistoryError {
    let file = file.to_owned();
    if source.kind() == ErrorKind::FileTooLarge {
        let limit = format!("{limit} bytes");
        return HistoryError::TooLarge { file, place, what: "the unpacked file", limit };
    }
    HistoryError::Read { file, place, source }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"open_time_ms,open\n1,2\n";

    fn packed() -> Vec<(&'static str, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TEXT).unwrap();
        let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip.write_all(TEXT).unwrap();
        let mut commented = vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, b'h', b'i'];
        let zstd = zstd::encode_all(TEXT, 3).unwrap();
        commented.extend(&zstd);
        vec![
            ("plain", TEXT.to_vec()),
            ("gzip", gzip.finish().unwrap()),
            ("bzip2", bzip.finish().unwrap()),
            ("zstd", zstd),
            ("zstd with a comment", commented),
        ]
    }

    fn plain(bytes: Vec<u8>, limit: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        unpack(Cursor::new(bytes), limit)?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn each_packing_is_told_by_its_first_bytes_and_members_are_joined() {
        for (name, bytes) in packed() {
            assert_eq!(plain(bytes.clone(), 100).unwrap(), TEXT, "{name}");
            let twice = [bytes.clone(), bytes].concat();
            assert_eq!(plain(twice, 100).unwrap(), [TEXT, TEXT].concat(), "{name}");
        }
        assert_eq!(plain(Vec::new(), 1).unwrap(), b"");
    }

    #[test]
    fn a_cut_file_is_an_error_wherever_it_is_cut() {
        for (name, bytes) in packed().into_iter().skip(1) {
            // The first bytes tell what it is; without them it would be text.
            for end in 8..bytes.len() {
                let cut = plain(bytes[..end].to_vec(), 100);
                // Only a comment may stand alone.
                assert!(
                    cut.is_err() || cut.is_ok_and(|text| text.is_empty() && end <= 10),
                    "{name} {end}"
                );
            }
        }
    }

    #[test]
    fn what_unpacks_to_too_much_fails() {
        for (name, bytes) in packed() {
            let size = TEXT.len() as u64;
            assert!(plain(bytes.clone(), size).is_ok(), "{name}");
            let error = plain(bytes, size - 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FileTooLarge, "{name}");
        }
    }
}
