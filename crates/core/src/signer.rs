//! What a component needs of a key: its public half and signatures.

use std::fmt;

use crate::hotkey::Hotkey;

/// Signs with a hotkey without showing the secret.
///
/// Implementations must not print secrets in `Debug`.
pub trait Signer: Send + Sync + fmt::Debug {
    /// Returns the public key.
    fn hotkey(&self) -> Hotkey;

    /// Returns the sr25519 signature of `message` under the signing context `substrate`.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}
