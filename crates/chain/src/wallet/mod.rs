//! Hotkeys: where they come from and how they sign.
//!
//! Coldkeys have no business on a server: nothing here reads one.

mod file;
mod keypair;

use std::path::{Path, PathBuf};

pub use keypair::{ChainSigner, Keypair};

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// There is no such file.
    #[error(
        "there is no hotkey file {}; `wallet.path` names the directory of the wallets, \
         `wallet.name` the wallet and `wallet.hotkey` the file in its `hotkeys`: correct them or \
         put the hotkey there", path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be read.
    #[error("hotkey file {} cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner may read or change the file.
    #[error(
        "hotkey file {} has mode {mode:04o}, others may read or change it: chmod 600 it", path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// The file is encrypted.
    #[error(
        "hotkey file {} is encrypted ({kind}); encrypted hotkeys are not supported yet, store it \
         without a password", path.display()
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// Kind of the encryption.
        kind: &'static str,
    },
    /// The file is not a hotkey file.
    #[error("hotkey file {} is not usable: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong; never holds a secret.
        reason: String,
    },
    /// The key is of a kind that cannot sign for a neuron.
    #[error(
        "hotkey file {} holds a key of crypto type {crypto_type}, must be 1 (sr25519): neurons \
         sign with sr25519 only", path.display()
    )]
    CryptoType {
        /// The file.
        path: PathBuf,
        /// The number in the file; 0 is ed25519.
        crypto_type: u64,
    },
    /// The secret does not belong to the public key that the file names.
    #[error(
        "hotkey file {} is inconsistent: its secret makes {derived}, it names {stated}", path.display()
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// SS58 of the key that the secret makes.
        derived: String,
        /// What the file says.
        stated: String,
    },
    /// A mnemonic, URI, seed or private key that is none.
    #[error("{what} is not valid: {reason}")]
    Secret {
        /// Kind of the secret.
        what: &'static str,
        /// What is wrong; never holds a secret.
        reason: &'static str,
    },
    /// A name of a wallet or a hotkey that is not a file name.
    #[error("{what} name `{name}` must be a plain file name without path separators")]
    Name {
        /// `wallet` or `hotkey`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl WalletError {
    /// Exit code that tells a service manager about missing permission (`EX_NOPERM`).
    pub const EXIT_PERMISSIONS: u8 = 77;

    /// Returns the exit code that fits, where there is a special one.
    pub const fn exit_code(&self) -> Option<u8> {
        match self {
            Self::Permissions { .. } => Some(Self::EXIT_PERMISSIONS),
            _ => None,
        }
    }
}

/// The layout of a wallet folder.
#[derive(Debug, Clone, Copy)]
pub struct Wallet;

impl Wallet {
    /// Returns the path of a hotkey: `<dir>/<name>/hotkeys/<hotkey>`.
    ///
    /// # Errors
    /// [`WalletError::Name`] when a name would lead elsewhere.
    pub fn hotkey_path(dir: &Path, name: &str, hotkey: &str) -> Result<PathBuf, WalletError> {
        check_name("wallet", name)?;
        check_name("hotkey", hotkey)?;
        Ok(dir.join(name).join("hotkeys").join(hotkey))
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), WalletError> {
    let plain =
        !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']);
    if plain { Ok(()) } else { Err(WalletError::Name { what, name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hotkey_lies_below_its_wallet_and_nowhere_else() {
        let dir = Path::new("wallets");
        assert_eq!(
            Wallet::hotkey_path(dir, "default", "miner 1").unwrap(),
            Path::new("wallets/default/hotkeys/miner 1")
        );
        for name in ["", ".", "..", "../other", "/etc", "a\\b"] {
            assert!(Wallet::hotkey_path(dir, name, "hot").is_err(), "{name}");
            assert!(Wallet::hotkey_path(dir, "default", name).is_err(), "{name}");
        }
    }
}
