//! The data file: the state after one block, written whole or not at all.
//!
//! Layout: magic `FDVC`, format version u16 LE, payload length u64 LE, SCALE payload, BLAKE2-256 of
//! all before. It is written to a neighbouring temporary file, synced, and renamed over the old one.

use std::fs::{File, TryLockError, rename};
use std::io::{Read, Write};
use std::path::Path;

use parity_scale_codec::{Decode, Encode};
use sp_crypto_hashing::blake2_256;

use super::DevChainError;
use super::types::{Hash, Header};

const MAGIC: &[u8; 4] = b"FDVC";
const FORMAT_VERSION: u16 = 1;
const PREFIX_LEN: usize = 4 + 2 + 8;
const CHECKSUM_LEN: usize = 32;
/// Largest data file that is read, bytes; a real one is below 2 MiB.
const MAX_FILE_LEN: u64 = 256 * 1024 * 1024;

/// What the data file holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Saved {
    /// Subnet that the chain was made for.
    pub(super) netuid: u16,
    /// Spec version of the runtime that wrote the state.
    pub(super) spec_version: u32,
    /// Header of block 0.
    pub(super) genesis: Header,
    /// Header of the block after which the state stands.
    pub(super) head: Header,
    /// The chain was stopped in order: no later block has been announced.
    pub(super) is_clean: bool,
    /// All keys and values.
    pub(super) state: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The right to write a data file; the system takes it back when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock of a data file, a neighbouring file with the ending `lock`; `None` when another
/// chain holds it.
pub(super) fn lock(path: &Path) -> Result<Option<Lock>, DevChainError> {
    let open = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        File::options().create(true).truncate(false).write(true).open(path.with_extension("lock"))
    };
    let file = open().map_err(|source| DevChainError::Write { path: path.to_owned(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => {
            Err(DevChainError::Write { path: path.to_owned(), source })
        }
    }
}

/// Reads the data file; `None` when there is none.
pub(super) fn load(path: &Path) -> Result<Option<Saved>, DevChainError> {
    let read_error = |source| DevChainError::Read { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read_error(error)),
    };
    let length = file.metadata().map_err(read_error)?.len();
    let damaged = |reason: String| DevChainError::Damaged { path: path.to_owned(), reason };
    if length > MAX_FILE_LEN {
        return Err(damaged(format!("{length} bytes are more than {MAX_FILE_LEN}")));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(read_error)?;
    decode(&bytes).map(Some).map_err(damaged)
}

/// Writes the data file durably.
pub(super) fn save(path: &Path, saved: &Saved) -> Result<(), DevChainError> {
    let bytes = encode(saved);
    let write = || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)?;
        }
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        rename(&temporary, path)?;
        // The rename is durable once the folder is.
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    write().map_err(|source| DevChainError::Write { path: path.to_owned(), source })
}

fn encode(saved: &Saved) -> Vec<u8> {
    let payload = saved.encode();
    let mut bytes = Vec::with_capacity(PREFIX_LEN + payload.len() + CHECKSUM_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&payload);
    let checksum = blake2_256(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Saved, String> {
    let Some(body_len) = bytes.len().checked_sub(CHECKSUM_LEN).filter(|len| *len >= PREFIX_LEN)
    else {
        return Err(format!("{} bytes are too few", bytes.len()));
    };
    let (body, checksum) = bytes.split_at(body_len);
    let (prefix, payload) = body.split_at(PREFIX_LEN);
    if !prefix.starts_with(MAGIC) {
        return Err("it does not begin with FDVC".into());
    }
    let version = u16::from_le_bytes([prefix[4], prefix[5]]);
    if version != FORMAT_VERSION {
        return Err(format!("format version {version} is not {FORMAT_VERSION}"));
    }
    let hash: Hash = blake2_256(body);
    if hash != checksum {
        return Err("the checksum does not match".into());
    }
    let mut input = payload;
    let saved = Saved::decode(&mut input).map_err(|error| format!("the payload: {error}"))?;
    if input.is_empty() { Ok(saved) } else { Err(format!("{} bytes too many", input.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let header = Header {
            parent_hash: [1; 32],
            number: 7,
            state_root: [2; 32],
            extrinsics_root: [3; 32],
            digest: Vec::new(),
        };
        Saved {
            netuid: 8,
            spec_version: 393,
            genesis: header.clone(),
            head: header,
            is_clean: true,
            state: vec![(b"key".to_vec(), b"value".to_vec())],
        }
    }

    #[test]
    fn a_file_reads_back_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/chain.bin");
        assert_eq!(load(&path).unwrap(), None);
        save(&path, &saved()).unwrap();
        save(&path, &saved()).unwrap();
        assert_eq!(load(&path).unwrap(), Some(saved()));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_data_file_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/chain.bin");
        let held = lock(&path).unwrap();
        assert!(held.is_some());
        assert!(lock(&path).unwrap().is_none());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let good = encode(&saved());
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x40;
            assert!(decode(&bad).is_err(), "byte {index}");
            assert!(decode(&good[..index]).is_err(), "cut at {index}");
        }
        assert_eq!(decode(&good), Ok(saved()));
    }
}
