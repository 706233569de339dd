//! Bounds for a Parquet file from outside, which the library takes on trust.
//!
//! A page says in its header how large it unpacks, and the library makes room for that at once: up
//! to 2 GiB for a file of a few bytes. The headers are therefore walked through beforehand. They
//! are structs in Thrift's compact form; of them only the two sizes are read.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Greatest part of a file that is read at once: a page, or the description at the end.
const MAX_PART_BYTES: u64 = 64 << 20;
/// Greatest header of a page; it may hold the least and the greatest value.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// Structs within structs in a header.
const MAX_DEPTH: u8 = 8;

/// A file whose parts are read only up to a bound.
#[derive(Debug)]
pub(super) struct GuardedFile {
    file: File,
    length: u64,
}

impl GuardedFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// Checks the headers of all pages of a column chunk.
    ///
    /// # Errors
    /// A page that is or unpacks to more than the bound, or a header that is none.
    pub(super) fn check_pages(&self, start: u64, length: u64) -> io::Result<()> {
        let end = start.checked_add(length).filter(|end| *end <= self.length);
        let end = end.ok_or_else(|| invalid("a column lies outside of the file"))?;
        let mut file = BufReader::new(self.file.try_clone()?);
        file.seek(SeekFrom::Start(start))?;
        let mut at = start;
        while at < end {
            let mut header = Header { input: (&mut file).take(MAX_HEADER_BYTES), sizes: [None; 2] };
            header.read_struct(0)?;
            let header_bytes = MAX_HEADER_BYTES - header.input.limit();
            let [Some(unpacked), Some(packed)] = header.sizes else {
                return Err(invalid("a page without its size"));
            };
            if [unpacked, packed].into_iter().any(|size| size > MAX_PART_BYTES) {
                return Err(invalid("a page of more than 64 MiB"));
            }
            at = at.saturating_add(header_bytes).saturating_add(packed);
            file.seek_relative(packed.cast_signed())?;
        }
        Ok(())
    }
}

impl Length for GuardedFile {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for GuardedFile {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.length);
        if end.is_none() || length as u64 > MAX_PART_BYTES {
            return Err(ParquetError::General(format!(
                "a part of {length} bytes at {start} lies outside of the file or is over 64 MiB"
            )));
        }
        self.file.get_bytes(start, length)
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// A page's header while it is read.
struct Header<R> {
    input: R,
    /// Fields 2 and 3 of the outer struct: bytes unpacked and packed.
    sizes: [Option<u64>; 2],
}

impl<R: Read> Header<R> {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        let [byte] = byte;
        Ok(byte)
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid("a number that does not end"))
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn read_struct(&mut self, depth: u8) -> io::Result<()> {
        let mut id = 0_u64;
        loop {
            let head = self.byte()?;
            let (step, kind) = (u64::from(head >> 4), head & 0x0f);
            if kind == 0 {
                return Ok(());
            }
            // A long step is written out, in zigzag.
            id = if step == 0 { self.varint()? >> 1 } else { id.saturating_add(step) };
            match (depth, id, kind) {
                (0, 2 | 3, 5) => {
                    let number = self.varint()?;
                    if number & 1 == 1 {
                        return Err(invalid("a page with a negative size"));
                    }
                    let [unpacked, packed] = &mut self.sizes;
                    *(if id == 2 { unpacked } else { packed }) = Some(number >> 1);
                }
                _ => self.skip_field(kind, depth)?,
            }
        }
    }

    fn skip_field(&mut self, kind: u8, depth: u8) -> io::Result<()> {
        match kind {
            1 | 2 => Ok(()),
            3 => self.skip(1),
            4..=6 => self.varint().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(length)
            }
            12 if depth < MAX_DEPTH => self.read_struct(depth + 1),
            _ => Err(invalid("a page header with an unknown field")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn check(bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        GuardedFile::new(file)?.check_pages(0, bytes.len() as u64)
    }

    /// Type 0, unpacked and packed size in zigzag, a nested struct with text, the page.
    fn page(unpacked: &[u8], body: usize) -> Vec<u8> {
        let packed = u8::try_from(body * 2).unwrap();
        let mut bytes = vec![0x15, 0, 0x15];
        bytes.extend(unpacked);
        bytes.extend([0x15, packed, 0x2c, 0x15, 6, 0x18, 2, b'h', b'i', 0x11, 0, 0]);
        bytes.extend(vec![7; body]);
        bytes
    }

    #[test]
    fn pages_are_walked_and_large_ones_refused() {
        let small = page(&[20], 5);
        check(&[small.clone(), small.clone(), page(&[0], 0)].concat()).unwrap();
        // 2^31 - 1 in zigzag.
        let bomb = page(&[0xfe, 0xff, 0xff, 0xff, 0x0f], 5);
        let error = check(&[small.clone(), bomb].concat()).unwrap_err();
        assert!(error.to_string().contains("64 MiB"), "{error}");
        assert!(check(&page(&[21], 5)).is_err(), "negative");
        for end in 1..small.len() - 5 {
            assert!(check(&small[..end]).is_err(), "cut at {end}");
        }
        assert!(check(&[0x1c; 100]).is_err(), "structs without end");
        assert!(check(&[0xff; 100]).is_err());
    }

    #[test]
    fn a_part_outside_of_the_file_is_not_read() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = GuardedFile::new(file).unwrap();
        assert_eq!(file.get_bytes(2, 3).unwrap(), &b"234"[..]);
        assert!(file.get_bytes(8, 3).is_err());
        assert!(file.get_bytes(u64::MAX, 3).is_err());
        assert!(file.check_pages(0, 11).is_err());
    }
}
