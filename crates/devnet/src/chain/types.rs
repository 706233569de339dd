//! SCALE shapes of the values that the development chain stores, signs and answers with.

use parity_scale_codec::{Compact, Decode, Encode, Input};
use serde_json::{Value, json};
use sp_crypto_hashing::blake2_256;

/// A 32-byte hash: of a block, an extrinsic, a state.
pub(super) type Hash = [u8; 32];

/// A 32-byte account: hotkey or coldkey.
pub(super) type Account = [u8; 32];

/// Returns `0x` and lower-case hex.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// A block header, `sp_runtime::generic::Header` with BLAKE2-256.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Header {
    pub(super) parent_hash: Hash,
    #[codec(compact)]
    pub(super) number: u32,
    pub(super) state_root: Hash,
    pub(super) extrinsics_root: Hash,
    /// Digest items; this chain has no authorship, so there are none.
    pub(super) digest: Vec<Vec<u8>>,
}

impl Header {
    /// Returns the block hash.
    pub(super) fn hash(&self) -> Hash {
        blake2_256(&self.encode())
    }

    /// Returns the JSON form of the RPC.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "parentHash": to_hex(&self.parent_hash),
            "number": format!("0x{:x}", self.number),
            "stateRoot": to_hex(&self.state_root),
            "extrinsicsRoot": to_hex(&self.extrinsics_root),
            "digest": { "logs": [] },
        })
    }
}

/// `frame_system::AccountInfo` with the balances' account data. Amounts in RAO.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct AccountInfo {
    pub(super) nonce: u32,
    pub(super) consumers: u32,
    pub(super) providers: u32,
    pub(super) sufficients: u32,
    pub(super) free: u64,
    pub(super) reserved: u64,
    pub(super) frozen: u64,
    pub(super) flags: u128,
}

/// `AxonInfo` of the pallet: where a neuron serves. All zero = not served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct AxonInfo {
    pub(super) block: u64,
    pub(super) version: u32,
    pub(super) ip: u128,
    pub(super) port: u16,
    pub(super) ip_type: u8,
    pub(super) protocol: u8,
    pub(super) placeholder1: u8,
    pub(super) placeholder2: u8,
}

/// `PrometheusInfo` of the pallet. All zero = not served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct PrometheusInfo {
    pub(super) block: u64,
    pub(super) version: u32,
    pub(super) ip: u128,
    pub(super) port: u16,
    pub(super) ip_type: u8,
}

/// One row of `NeuronInfoRuntimeApi_get_neurons_lite`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct NeuronInfoLite {
    pub(super) hotkey: Account,
    pub(super) coldkey: Account,
    #[codec(compact)]
    pub(super) uid: u16,
    #[codec(compact)]
    pub(super) netuid: u16,
    pub(super) active: bool,
    pub(super) axon_info: AxonInfo,
    pub(super) prometheus_info: PrometheusInfo,
    pub(super) stake: Vec<(Account, Compact<u64>)>,
    #[codec(compact)]
    pub(super) rank: u16,
    #[codec(compact)]
    pub(super) emission: u64,
    #[codec(compact)]
    pub(super) incentive: u16,
    #[codec(compact)]
    pub(super) consensus: u16,
    #[codec(compact)]
    pub(super) trust: u16,
    #[codec(compact)]
    pub(super) validator_trust: u16,
    #[codec(compact)]
    pub(super) dividends: u16,
    #[codec(compact)]
    pub(super) last_update: u64,
    pub(super) validator_permit: bool,
    #[codec(compact)]
    pub(super) pruning_score: u16,
}

/// `frame_system::DispatchEventInfo`.
#[derive(Debug, Clone, Copy, Encode)]
pub(super) struct DispatchInfo {
    #[codec(compact)]
    ref_time: u64,
    #[codec(compact)]
    proof_size: u64,
    class: u8,
    pays_fee: u8,
}

impl DispatchInfo {
    const REF_TIME: u64 = 200_000_000;
    const PROOF_SIZE: u64 = 4_000;

    /// Returns the info of a normal call.
    pub(super) const fn normal(pays_fee: bool) -> Self {
        let pays_fee = if pays_fee { 0 } else { 1 };
        Self { ref_time: Self::REF_TIME, proof_size: Self::PROOF_SIZE, class: 0, pays_fee }
    }

    /// Returns the info of an inherent.
    pub(super) const fn mandatory() -> Self {
        Self { ref_time: Self::REF_TIME, proof_size: Self::PROOF_SIZE, class: 2, pays_fee: 0 }
    }
}

/// How long a transaction may wait, `sp_runtime::generic::Era`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// For ever; signed with the genesis hash.
    Immortal,
    /// From the block with number ≡ `phase` (mod `period`) for `period` blocks.
    Mortal {
        /// Power of two, 4 to 65536 blocks.
        period: u64,
        /// Below `period`.
        phase: u64,
    },
}

impl Era {
    /// Returns the block whose hash was signed, for a transaction that is checked at `current`.
    pub(super) fn birth(self, current: u64) -> u64 {
        match self {
            Self::Immortal => 0,
            Self::Mortal { period, phase } => {
                (current.max(phase) - phase) / period * period + phase
            }
        }
    }
}

impl Decode for Era {
    fn decode<I: Input>(input: &mut I) -> Result<Self, parity_scale_codec::Error> {
        let first = input.read_byte()?;
        if first == 0 {
            return Ok(Self::Immortal);
        }
        let encoded = u64::from(u16::from_le_bytes([first, input.read_byte()?]));
        let period = 2_u64 << (encoded % 16);
        let quantize_factor = (period >> 12).max(1);
        let phase = (encoded >> 4) * quantize_factor;
        if period >= 4 && phase < period {
            Ok(Self::Mortal { period, phase })
        } else {
            Err("era has an impossible period and phase".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eras_decode_as_the_vectors_say() {
        assert_eq!(Era::decode(&mut &[0][..]), Ok(Era::Immortal));
        let era = Era::decode(&mut &[0x05, 0x01][..]).unwrap();
        assert_eq!(era, Era::Mortal { period: 64, phase: 16 });
        assert_eq!(era.birth(5_512_400), 5_512_400);
        assert_eq!(era.birth(5_512_463), 5_512_400);
        assert_eq!(era.birth(5_512_464), 5_512_464);
        assert!(Era::decode(&mut &[0x01, 0xff][..]).is_err());
        assert!(Era::decode(&mut &[0x05][..]).is_err());
    }

    #[test]
    fn an_unserved_axon_is_34_zero_bytes() {
        assert_eq!(AxonInfo::default().encode(), [0; 34]);
        assert_eq!(PrometheusInfo::default().encode().len(), 31);
    }
}
