//! Plain hotkey files.
//!
//! One JSON object, written by five generations of SDKs with small differences: absent values are
//! missing or null, `cryptoType` is missing or a number, and one writer puts a broken `secretSeed`
//! beside a sound `privateKey`. Hence each secret is tried in turn, and the result is checked
//! against the public half.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use forecastd_core::{Hotkey, Signer};
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Keypair, WalletError};

/// Real files have below 1 kB.
const MAX_FILE_LEN: u64 = 64 * 1024;
const SR25519: u64 = 1;
/// Group and others may do nothing.
#[cfg(unix)]
const FOREIGN_MODE_BITS: u32 = 0o077;

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase")]
struct HotkeyFile {
    crypto_type: Option<u64>,
    public_key: Option<String>,
    account_id: Option<String>,
    ss58_address: Option<String>,
    secret_seed: Option<String>,
    private_key: Option<String>,
    secret_phrase: Option<String>,
}

/// Reads a hotkey file.
pub(super) fn read(path: &Path) -> Result<Keypair, WalletError> {
    let bytes = read_bytes(path)?;
    if let Some(kind) = encryption(&bytes) {
        return Err(WalletError::Encrypted { path: path.to_owned(), kind });
    }
    // The JSON error is not repeated: it may quote the file.
    let file: HotkeyFile = serde_json::from_slice(&bytes).map_err(|error| {
        format_error(path, format!("no hotkey JSON, see line {}", error.line()))
    })?;
    let crypto_type = file.crypto_type.unwrap_or(SR25519);
    if crypto_type != SR25519 {
        return Err(WalletError::CryptoType { path: path.to_owned(), crypto_type });
    }
    let keypair = first_usable(path, &file)?;
    check_public_half(path, &file, &keypair.hotkey())?;
    Ok(keypair)
}

fn read_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let io_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => WalletError::Missing { path: path.to_owned() },
        _ => WalletError::Io { path: path.to_owned(), source },
    };
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(io_error)?.is_file() {
        return Err(format_error(path, "it is not a regular file".to_owned()));
    }
    let file = fs::File::open(path).map_err(io_error)?;
    check_mode(path, &file.metadata().map_err(io_error)?)?;
    // The capacity is set first: a growing buffer leaves copies of the secret behind.
    let capacity = usize::try_from(MAX_FILE_LEN + 1).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        return Err(format_error(path, format!("it is longer than {MAX_FILE_LEN} bytes")));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), WalletError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & FOREIGN_MODE_BITS == 0 {
        Ok(())
    } else {
        Err(WalletError::Permissions { path: path.to_owned(), mode })
    }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path, _metadata: &fs::Metadata) -> Result<(), WalletError> {
    Ok(())
}

fn encryption(bytes: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 3] =
        [(b"$NACL", "NaCl"), (b"$ANSIBLE_VAULT", "Ansible vault"), (b"gAAAAA", "Fernet")];
    kinds.into_iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, kind)| kind)
}

fn first_usable(path: &Path, file: &HotkeyFile) -> Result<Keypair, WalletError> {
    let seed = file.secret_seed.as_deref().and_then(from_hex::<32>);
    if let Some(keypair) = seed.and_then(|seed| Keypair::from_seed(*seed).ok()) {
        return Ok(keypair);
    }
    let private_key = file.private_key.as_deref().and_then(from_hex::<64>);
    if let Some(keypair) = private_key.and_then(|key| Keypair::from_private_key(&key).ok()) {
        return Ok(keypair);
    }
    if let Some(phrase) = file.secret_phrase.as_deref() {
        return Keypair::from_mnemonic(phrase)
            .map_err(|error| format_error(path, error.to_string()));
    }
    let any = file.secret_seed.is_some() || file.private_key.is_some();
    let reason = if any {
        "its secretSeed and privateKey are malformed and it has no secretPhrase"
    } else {
        "it holds no secret, is it a public key file?"
    };
    Err(format_error(path, reason.to_owned()))
}

fn check_public_half(path: &Path, file: &HotkeyFile, hotkey: &Hotkey) -> Result<(), WalletError> {
    let mismatch = |stated: &str| WalletError::Mismatch {
        path: path.to_owned(),
        derived: hotkey.to_ss58(),
        stated: stated.to_owned(),
    };
    for stated in [&file.public_key, &file.account_id].into_iter().flatten() {
        if from_hex::<32>(stated).is_none_or(|key| *key != *hotkey.as_bytes()) {
            return Err(mismatch(stated));
        }
    }
    if let Some(stated) = &file.ss58_address
        && Hotkey::from_ss58(stated).ok() != Some(*hotkey)
    {
        return Err(mismatch(stated));
    }
    Ok(())
}

/// Reads `0x` and exactly `N` bytes of hex.
fn from_hex<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    hex::decode_to_slice(text.strip_prefix("0x")?, bytes.as_mut_slice()).ok()?;
    Some(bytes)
}

fn format_error(path: &Path, reason: String) -> WalletError {
    WalletError::Format { path: PathBuf::from(path), reason }
}
