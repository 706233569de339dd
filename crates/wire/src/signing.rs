//! The signed text of a request, and sr25519 signatures over it.
//!
//! Signed bytes: `<nonce>.<sender>.<receiver>.<uuid>.<body hash>`, signing context `substrate`.
//! The subnet's classes put no field under the body hash, so **bodies are not signed**: nothing
//! secret may be decided from a body alone.

use std::fmt;

use forecastd_core::{Hotkey, Signer};
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey, PublicKey, Signature};

use crate::error::WireError;

const SIGNING_CONTEXT: &[u8] = b"substrate";

/// SHA3-256 of the empty text: the body hash of every class without `required_hash_fields`.
pub const EMPTY_BODY_HASH: &str =
    "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a";

/// Returns the text that a dendrite signs. `sender` and `receiver` are SS58 texts.
pub fn request_text(
    nonce: u64,
    sender: &str,
    receiver: &str,
    uuid: &str,
    body_hash: &str,
) -> String {
    format!("{nonce}.{sender}.{receiver}.{uuid}.{body_hash}")
}

/// Tells whether `signature` is the sr25519 signature of `message` by `hotkey`.
pub fn verify(hotkey: &Hotkey, message: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(public) = PublicKey::from_bytes(hotkey.as_bytes()) else {
        return false;
    };
    let Ok(signature) = Signature::from_bytes(signature) else {
        return false;
    };
    public.verify_simple(SIGNING_CONTEXT, message, &signature).is_ok()
}

/// Reads a signature from `0x` and 128 hex digits; the `0x` may be missing.
pub fn parse_signature(text: &str) -> Option<[u8; 64]> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut signature = [0; 64];
    hex::decode_to_slice(digits, &mut signature).ok()?;
    Some(signature)
}

/// Returns the text form of a signature: `0x` and 128 hex digits.
pub fn format_signature(signature: &[u8; 64]) -> String {
    format!("0x{}", hex::encode(signature))
}

/// A signer that holds its secret in memory, for the embedded network and for tests.
///
/// Wallet files and dev URIs are the chain crate's business.
pub struct LocalSigner {
    keypair: Keypair,
    hotkey: Hotkey,
}

impl LocalSigner {
    /// Expands a 32-byte mini secret in Substrate's way (ed25519 expansion).
    ///
    /// # Errors
    /// [`WireError::Key`] when the bytes are not a mini secret.
    pub fn from_mini_secret(secret: &[u8; 32]) -> Result<Self, WireError> {
        let mini = MiniSecretKey::from_bytes(secret).map_err(|_| WireError::Key)?;
        let keypair = mini.expand_to_keypair(ExpansionMode::Ed25519);
        let hotkey = Hotkey::from_bytes(keypair.public.to_bytes());
        Ok(Self { keypair, hotkey })
    }
}

impl Signer for LocalSigner {
    fn hotkey(&self) -> Hotkey {
        self.hotkey
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.keypair.sign_simple(SIGNING_CONTEXT, message).to_bytes()
    }
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner").field("hotkey", &self.hotkey).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use sha3::{Digest, Sha3_256};

    use super::*;

    #[test]
    fn empty_body_hash_is_sha3_of_nothing() {
        assert_eq!(hex::encode(Sha3_256::digest(b"")), EMPTY_BODY_HASH);
    }

    #[test]
    fn own_signatures_hold_and_altered_ones_do_not() {
        let signer = LocalSigner::from_mini_secret(&[7; 32]).unwrap();
        let signature = signer.sign(b"text");
        assert!(verify(&signer.hotkey(), b"text", &signature));
        assert!(!verify(&signer.hotkey(), b"texd", &signature));
        for index in 0..64 {
            let mut bad = signature;
            bad[index] ^= 1;
            assert!(!verify(&signer.hotkey(), b"text", &bad), "byte {index}");
        }
        assert!(!verify(&Hotkey::from_bytes([0xff; 32]), b"text", &signature));
    }

    #[test]
    fn signature_text_round_trips_and_bad_text_is_refused() {
        let signature = [0xab; 64];
        let text = format_signature(&signature);
        assert_eq!(parse_signature(&text), Some(signature));
        assert_eq!(parse_signature(text.trim_start_matches("0x")), Some(signature));
        let short = format!("0x{}", "a".repeat(127));
        for bad in ["", "0x", "0x00", "zz", &short, &format!("{text}00")] {
            assert_eq!(parse_signature(bad), None, "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", LocalSigner::from_mini_secret(&[7; 32]).unwrap());
        assert!(text.starts_with("LocalSigner { hotkey: Hotkey(5"), "{text}");
        assert!(!text.contains("keypair"));
    }
}
