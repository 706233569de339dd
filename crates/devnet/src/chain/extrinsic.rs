//! Signed extrinsics, version 4: decoding, and the payload that the signature covers.

use parity_scale_codec::{Compact, Decode, Encode};
use sp_crypto_hashing::blake2_256;

use super::calls::Call;
use super::runtime::{Runtime, compact_length};
use super::types::{Account, Era, Hash};

/// Version byte of a signed extrinsic of version 4.
const SIGNED_V4: u8 = 0x84;
/// Version byte of an unsigned extrinsic of version 4.
const BARE_V4: u8 = 0x04;
/// `MultiAddress::Id`.
const ADDRESS_ID: u8 = 0;
/// `MultiSignature::Sr25519`.
const SIGNATURE_SR25519: u8 = 1;
/// `CheckMetadataHash` without a hash.
const METADATA_HASH_DISABLED: u8 = 0;
/// Payloads above this are hashed before they are signed, bytes.
const MAX_PLAIN_PAYLOAD: usize = 256;
/// Signing context of Substrate.
const SIGNING_CONTEXT: &[u8] = b"substrate";

/// A decoded extrinsic whose signature has not been checked.
#[derive(Debug, Clone)]
pub(super) struct Extrinsic {
    /// The bytes as they came, length prefix included.
    pub(super) bytes: Vec<u8>,
    /// BLAKE2-256 of `bytes`: the name of the extrinsic.
    pub(super) hash: Hash,
    /// The account that signed.
    pub(super) signer: Account,
    /// Account nonce.
    pub(super) nonce: u32,
    /// Mortality.
    pub(super) era: Era,
    /// What to do.
    pub(super) call: Call,
    signature: [u8; 64],
    /// The bytes of era, nonce, tip and metadata-hash mode.
    extra: Vec<u8>,
    call_bytes: Vec<u8>,
}

/// Why bytes are not an extrinsic that the chain can check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DecodeFailure {
    /// The outer frame is broken.
    Format(String),
    /// The runtime cannot read what is inside.
    Content(String),
    /// Unsigned, or signed in a way that the chain does not check.
    NotSigned,
}

impl Extrinsic {
    /// Decodes an extrinsic from its bytes with length prefix.
    pub(super) fn decode(runtime: &Runtime, bytes: &[u8]) -> Result<Self, DecodeFailure> {
        let mut input = bytes;
        let length = Compact::<u32>::decode(&mut input)
            .map_err(|error| DecodeFailure::Format(format!("length prefix: {error}")))?;
        if usize::try_from(length.0) != Ok(input.len()) {
            let text = format!("length prefix says {}, {} bytes follow", length.0, input.len());
            return Err(DecodeFailure::Format(text));
        }
        match read::<u8>(&mut input, "version")? {
            SIGNED_V4 => {}
            BARE_V4 => return Err(DecodeFailure::NotSigned),
            other => {
                let text = format!("extrinsic version byte {other:#04x} is not 0x84");
                return Err(DecodeFailure::Content(text));
            }
        }
        if read::<u8>(&mut input, "address kind")? != ADDRESS_ID {
            return Err(DecodeFailure::Content("the sender is not given by account id".into()));
        }
        let signer: Account = read(&mut input, "sender")?;
        if read::<u8>(&mut input, "signature kind")? != SIGNATURE_SR25519 {
            return Err(DecodeFailure::Content("only sr25519 signatures are checked".into()));
        }
        let signature: [u8; 64] = read(&mut input, "signature")?;

        let extra_start = input;
        let era: Era = read(&mut input, "era")?;
        let nonce: Compact<u32> = read(&mut input, "nonce")?;
        let _tip: Compact<u64> = read(&mut input, "tip")?;
        if read::<u8>(&mut input, "metadata hash mode")? != METADATA_HASH_DISABLED {
            return Err(DecodeFailure::Content("the chain has no metadata hash to check".into()));
        }
        let extra = extra_start[..extra_start.len() - input.len()].to_vec();
        let call = Call::decode_all(runtime, input).map_err(DecodeFailure::Content)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            hash: blake2_256(bytes),
            signer,
            nonce: nonce.0,
            era,
            call,
            signature,
            extra,
            call_bytes: input.to_vec(),
        })
    }

    /// Returns the bytes that the sender must have signed if it knew this chain.
    ///
    /// `era_block_hash` is the hash of the era's first block, the genesis hash for ever.
    pub(super) fn payload(
        &self,
        spec_version: u32,
        transaction_version: u32,
        genesis_hash: &Hash,
        era_block_hash: &Hash,
    ) -> Vec<u8> {
        let mut payload = self.call_bytes.clone();
        payload.extend_from_slice(&self.extra);
        spec_version.encode_to(&mut payload);
        transaction_version.encode_to(&mut payload);
        payload.extend_from_slice(genesis_hash);
        payload.extend_from_slice(era_block_hash);
        payload.push(0); // no metadata hash
        if payload.len() > MAX_PLAIN_PAYLOAD { blake2_256(&payload).to_vec() } else { payload }
    }

    /// Says whether the signature is the signer's over `payload`.
    pub(super) fn is_signed_over(&self, payload: &[u8]) -> bool {
        let Ok(key) = schnorrkel::PublicKey::from_bytes(&self.signer) else { return false };
        let Ok(signature) = schnorrkel::Signature::from_bytes(&self.signature) else {
            return false;
        };
        key.verify_simple(SIGNING_CONTEXT, payload, &signature).is_ok()
    }
}

/// Returns the bytes of an unsigned extrinsic, as the inherent of a block has them.
pub(super) fn bare_extrinsic(call: &[u8]) -> Vec<u8> {
    let mut bytes = compact_length(call.len() + 1);
    bytes.push(BARE_V4);
    bytes.extend_from_slice(call);
    bytes
}

fn read<T: Decode>(input: &mut &[u8], what: &str) -> Result<T, DecodeFailure> {
    T::decode(input).map_err(|error| DecodeFailure::Content(format!("{what}: {error}")))
}
