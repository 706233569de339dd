//! The public key of a neuron and its SS58 text form.

use std::fmt;
use std::str::FromStr;

use blake2::{Blake2b512, Digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// SS58 prefix of Substrate's generic accounts, the one that Bittensor uses.
pub const SS58_PREFIX: u8 = 42;
const CHECKSUM_CONTEXT: &[u8] = b"SS58PRE";
const CHECKSUM_LEN: usize = 2;
const KEY_LEN: usize = 32;
/// Longest text that can be a 32-byte key with a one-byte prefix; longer input is refused unread.
const MAX_TEXT_LEN: usize = 64;

/// The sr25519 public key of a neuron; its text form is SS58 with prefix 42.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hotkey([u8; KEY_LEN]);

/// Why a text is not a hotkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HotkeyError {
    /// The text holds a character outside of base 58, or is far too long.
    #[error("hotkey is not base-58 text of a 32-byte key")]
    NotBase58,
    /// The decoded length is not prefix + key + checksum.
    #[error("hotkey decodes to {0} bytes, must be 35")]
    Length(usize),
    /// The address belongs to another network.
    #[error("hotkey has SS58 prefix {0}, must be 42")]
    Prefix(u8),
    /// The last two bytes do not fit the others: a typing error.
    #[error("hotkey has a wrong checksum, check it for typing errors")]
    Checksum,
}

impl Hotkey {
    /// Wraps the 32 bytes of a public key.
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes of the public key.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Returns the SS58 text, 48 characters for prefix 42.
    pub fn to_ss58(&self) -> String {
        let mut raw = Vec::with_capacity(1 + KEY_LEN + CHECKSUM_LEN);
        raw.push(SS58_PREFIX);
        raw.extend_from_slice(&self.0);
        let checksum = checksum(&raw);
        raw.extend_from_slice(&checksum);
        bs58::encode(raw).into_string()
    }

    /// Reads an SS58 text with prefix 42.
    ///
    /// # Errors
    /// [`HotkeyError`] says which rule the text breaks.
    pub fn from_ss58(text: &str) -> Result<Self, HotkeyError> {
        if text.len() > MAX_TEXT_LEN {
            return Err(HotkeyError::NotBase58);
        }
        let raw = bs58::decode(text).into_vec().map_err(|_| HotkeyError::NotBase58)?;
        if raw.len() != 1 + KEY_LEN + CHECKSUM_LEN {
            return Err(HotkeyError::Length(raw.len()));
        }
        let (body, sum) = raw.split_at(1 + KEY_LEN);
        if body[0] != SS58_PREFIX {
            return Err(HotkeyError::Prefix(body[0]));
        }
        if checksum(body) != sum {
            return Err(HotkeyError::Checksum);
        }
        let mut key = [0; KEY_LEN];
        key.copy_from_slice(&body[1..]);
        Ok(Self(key))
    }

    /// Returns the first eight characters of the SS58 text, for logs and tables.
    pub fn short(&self) -> String {
        self.to_ss58().chars().take(8).collect()
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hasher = Blake2b512::new();
    hasher.update(CHECKSUM_CONTEXT);
    hasher.update(body);
    let digest = hasher.finalize();
    [digest[0], digest[1]]
}

impl fmt::Display for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_ss58())
    }
}

impl fmt::Debug for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hotkey({})", self.to_ss58())
    }
}

impl FromStr for Hotkey {
    type Err = HotkeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_ss58(text)
    }
}

impl Serialize for Hotkey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.to_ss58())
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Hotkey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::from_ss58(&text).map_err(serde::de::Error::custom)
        } else {
            <[u8; KEY_LEN]>::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

    #[test]
    fn alice_round_trips() {
        let alice = Hotkey::from_ss58(ALICE).unwrap();
        assert_eq!(alice.to_ss58(), ALICE);
        assert_eq!(alice.as_bytes()[..4], [0xd4, 0x35, 0x93, 0xc7]);
    }

    #[test]
    fn typing_errors_are_refused() {
        assert_eq!(Hotkey::from_ss58(""), Err(HotkeyError::Length(0)));
        assert_eq!(Hotkey::from_ss58("0OIl"), Err(HotkeyError::NotBase58));
        assert_eq!(Hotkey::from_ss58(&"1".repeat(5000)), Err(HotkeyError::NotBase58));
        let swapped = ALICE.replace("KutQY", "KutYQ");
        assert_eq!(Hotkey::from_ss58(&swapped), Err(HotkeyError::Checksum));
    }
}
