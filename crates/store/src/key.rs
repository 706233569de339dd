//! Keys: how rows are found and in which order they lie.
//!
//! A row's key is `[kind, layout]` and then the parts of the record's key, each of fixed width and
//! encoded so that the order of the bytes is the order of the values. Texts are padded with zero
//! bytes to their width (and may not contain one), so two streams never interleave, whatever their
//! names, and `a` sorts before `ab`. Integers are big-endian, signed ones with the sign bit flipped.

use std::fmt;

use forecastd_core::{Hotkey, StreamId};

/// Longest stream id in a key, bytes.
pub const MAX_STREAM_ID_BYTES: usize = 32;
/// Longest other text in a key, bytes; a UUID has 36.
pub const MAX_TEXT_KEY_BYTES: usize = 64;
/// Version of the layout above; the second byte of every key.
pub(crate) const LAYOUT: u8 = 1;

/// Why a key cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A text is empty.
    #[error("text is empty")]
    Empty,
    /// A text is longer than its place in the key.
    #[error("text has {bytes} bytes, must be at most {limit}")]
    TooLong {
        /// Length of the text.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A text holds the padding byte.
    #[error("text contains a zero byte")]
    ZeroByte,
}

/// One part of a key: fixed width, ordered like its values.
pub trait KeyPart: fmt::Debug + Clone + Ord + Send + 'static {
    /// Bytes of the encoded form.
    const WIDTH: usize;

    /// Appends exactly [`Self::WIDTH`] bytes.
    ///
    /// # Errors
    /// [`KeyError`] when the value has no encoded form.
    fn encode_part(&self, out: &mut Vec<u8>) -> Result<(), KeyError>;

    /// Reads `bytes`, which are [`Self::WIDTH`] long; `None` when they are not an encoded value.
    fn decode_part(bytes: &[u8]) -> Option<Self>;
}

/// The key of a record kind: one part, or a tuple of them.
pub trait StoreKey: fmt::Debug + Clone + Ord + Send + 'static {
    /// Appends the encoded form; its order is the order of the keys.
    ///
    /// # Errors
    /// [`KeyError`] when a part has no encoded form.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), KeyError>;

    /// Reads the encoded form; `None` when `bytes` are not one.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// Leading parts of a key `K`, or `()` for all keys.
pub trait KeyPrefix<K> {
    /// Appends the encoded form.
    ///
    /// # Errors
    /// [`KeyError`] when a part has no encoded form.
    fn encode_prefix(&self, out: &mut Vec<u8>) -> Result<(), KeyError>;
}

impl KeyPart for i64 {
    const WIDTH: usize = 8;

    fn encode_part(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        out.extend_from_slice(&(self.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        Ok(())
    }

    fn decode_part(bytes: &[u8]) -> Option<Self> {
        let bits = u64::from_be_bytes(bytes.try_into().ok()?);
        Some((bits ^ (1 << 63)).cast_signed())
    }
}

impl KeyPart for u64 {
    const WIDTH: usize = 8;

    fn encode_part(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        out.extend_from_slice(&self.to_be_bytes());
        Ok(())
    }

    fn decode_part(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(bytes.try_into().ok()?))
    }
}

impl KeyPart for Hotkey {
    const WIDTH: usize = 32;

    fn encode_part(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        out.extend_from_slice(self.as_bytes());
        Ok(())
    }

    fn decode_part(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_bytes(bytes.try_into().ok()?))
    }
}

impl KeyPart for StreamId {
    const WIDTH: usize = MAX_STREAM_ID_BYTES;

    fn encode_part(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        encode_text(&self.0, Self::WIDTH, out)
    }

    fn decode_part(bytes: &[u8]) -> Option<Self> {
        decode_text(bytes).map(Self)
    }
}

impl KeyPart for String {
    const WIDTH: usize = MAX_TEXT_KEY_BYTES;

    fn encode_part(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        encode_text(self, Self::WIDTH, out)
    }

    fn decode_part(bytes: &[u8]) -> Option<Self> {
        decode_text(bytes)
    }
}

fn encode_text(text: &str, width: usize, out: &mut Vec<u8>) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    if text.len() > width {
        return Err(KeyError::TooLong { bytes: text.len(), limit: width });
    }
    if text.bytes().any(|byte| byte == 0) {
        return Err(KeyError::ZeroByte);
    }
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len() + width - text.len(), 0);
    Ok(())
}

fn decode_text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, padding) = bytes.split_at_checked(end)?;
    if text.is_empty() || padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    String::from_utf8(text.to_vec()).ok()
}

impl<A: KeyPart> StoreKey for A {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        self.encode_part(out)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == A::WIDTH).then(|| A::decode_part(bytes)).flatten()
    }
}

impl<A: KeyPart, B: KeyPart> StoreKey for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        self.0.encode_part(out)?;
        self.1.encode_part(out)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, second) = bytes.split_at_checked(A::WIDTH)?;
        Some((A::decode_part(first)?, B::decode(second)?))
    }
}

impl<A: KeyPart, B: KeyPart, C: KeyPart> StoreKey for (A, B, C) {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        self.0.encode_part(out)?;
        self.1.encode_part(out)?;
        self.2.encode_part(out)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_at_checked(A::WIDTH)?;
        let (second, third) = rest.split_at_checked(B::WIDTH)?;
        Some((A::decode_part(first)?, B::decode_part(second)?, C::decode(third)?))
    }
}

impl<K> KeyPrefix<K> for () {
    fn encode_prefix(&self, _: &mut Vec<u8>) -> Result<(), KeyError> {
        Ok(())
    }
}

impl<A: KeyPart, B: KeyPart> KeyPrefix<(A, B)> for A {
    fn encode_prefix(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        self.encode_part(out)
    }
}

impl<A: KeyPart, B: KeyPart, C: KeyPart> KeyPrefix<(A, B, C)> for A {
    fn encode_prefix(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        self.encode_part(out)
    }
}

impl<A: KeyPart, B: KeyPart, C: KeyPart> KeyPrefix<(A, B, C)> for (A, B) {
    fn encode_prefix(&self, out: &mut Vec<u8>) -> Result<(), KeyError> {
        self.0.encode_part(out)?;
        self.1.encode_part(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Key = (StreamId, i64, Hotkey);

    fn bytes(key: &impl StoreKey) -> Vec<u8> {
        let mut out = Vec::new();
        key.encode(&mut out).unwrap();
        out
    }

    fn stream() -> impl Strategy<Value = StreamId> {
        "[A-Za-z0-9é-]{1,8}".prop_map(StreamId)
    }

    fn key() -> impl Strategy<Value = Key> {
        let time = prop_oneof![any::<i64>(), -3_i64..3];
        (stream(), time, any::<[u8; 32]>()).prop_map(|(s, t, h)| (s, t, Hotkey::from_bytes(h)))
    }

    proptest! {
        #[test]
        fn order_of_bytes_is_order_of_keys(a in key(), b in key()) {
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
        }

        #[test]
        fn keys_round_trip(a in key(), text in "[!-~]{1,64}", number: u64) {
            prop_assert_eq!(Key::decode(&bytes(&a)), Some(a.clone()));
            let frozen = (a.2, text);
            prop_assert_eq!(<(Hotkey, String)>::decode(&bytes(&frozen)), Some(frozen));
            prop_assert_eq!(u64::decode(&bytes(&number)), Some(number));
        }

        #[test]
        fn foreign_bytes_never_panic(raw in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(key) = Key::decode(&raw) {
                prop_assert_eq!(bytes(&key), raw);
            }
        }
    }

    #[test]
    fn streams_whose_names_begin_alike_do_not_interleave() {
        let (short, long) = (StreamId("BTC".to_owned()), StreamId("BTC-5m".to_owned()));
        assert!(bytes(&(short, i64::MAX)) < bytes(&(long, i64::MIN)));
    }

    #[test]
    fn texts_that_would_be_cut_or_mixed_up_are_refused() {
        let encode = |text: &str| StreamId(text.to_owned()).encode(&mut Vec::new());
        assert_eq!(encode(""), Err(KeyError::Empty));
        assert_eq!(encode("a\0b"), Err(KeyError::ZeroByte));
        assert_eq!(encode(&"x".repeat(33)), Err(KeyError::TooLong { bytes: 33, limit: 32 }));
    }
}
