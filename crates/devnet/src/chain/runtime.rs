//! The served runtime: real subtensor metadata, and what the chain needs looked up in it.
//!
//! The metadata bytes go to clients unchanged. Storage keys, call, event and error indices come
//! from the same bytes by name, so that the chain and its metadata cannot disagree.

use std::collections::BTreeMap;

use parity_scale_codec::{Compact, Decode, Encode};
use serde_json::{Value, json};
use sp_crypto_hashing::{blake2_128, blake2_256, twox_64, twox_128, twox_256};
use subxt::Metadata;
use subxt::ext::frame_decode::storage::StorageHasher;

use super::DevChainError;
use super::names::{CallName, EventName, FAULT_PALLET, Fault, Item, TRANSACTION_EXTENSIONS};

/// Complete Bittensor metadata, format V16, spec version 393.
const METADATA_V16: &[u8] = include_bytes!("../../assets/finney-full.scale");
/// The same in format V15, for clients without V16.
const METADATA_V15: &[u8] = include_bytes!("../../assets/finney-full-v15.scale");

/// The runtime of the development chain.
#[derive(Debug)]
pub(super) struct Runtime {
    items: BTreeMap<Item, StorageItem>,
    events: BTreeMap<EventName, [u8; 2]>,
    faults: BTreeMap<Fault, [u8; 2]>,
    calls: BTreeMap<CallName, [u8; 2]>,
    version: RuntimeVersion,
    encoded_version: Vec<u8>,
    existential_deposit: u64,
}

/// A storage item: where its keys begin, how they are hashed, what an absent value means.
#[derive(Debug)]
struct StorageItem {
    prefix: Vec<u8>,
    hashers: Vec<StorageHasher>,
    default: Option<Vec<u8>>,
}

impl StorageItem {
    /// Returns the storage key for the SCALE-encoded map keys `parts`.
    fn key(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = self.prefix.clone();
        for (hasher, part) in self.hashers.iter().zip(parts) {
            hash_key_part(*hasher, part, &mut key);
        }
        key
    }
}

/// `sp_version::RuntimeVersion` as the metadata's constant `System.Version` holds it.
#[derive(Debug, Clone, Decode)]
pub(super) struct RuntimeVersion {
    spec_name: String,
    impl_name: String,
    authoring_version: u32,
    pub(super) spec_version: u32,
    impl_version: u32,
    apis: Vec<([u8; 8], u32)>,
    pub(super) transaction_version: u32,
    system_version: u8,
}

impl RuntimeVersion {
    /// Returns the name of the runtime.
    pub(super) fn spec_name(&self) -> &str {
        &self.spec_name
    }
}

impl Runtime {
    /// Decodes the embedded metadata and resolves every name.
    pub(super) fn load() -> Result<Self, DevChainError> {
        let metadata = decode_metadata()?;
        check_extensions(&metadata)?;

        let mut items = BTreeMap::new();
        for &item in Item::ALL {
            items.insert(item, storage_item(&metadata, item.pallet(), item.name())?);
        }
        let mut events = BTreeMap::new();
        for &event in EventName::ALL {
            let pallet = pallet(&metadata, event.pallet())?;
            let variants = pallet.event_variants().unwrap_or_default();
            let index = variant_index(variants, event.pallet(), event.name())?;
            events.insert(event, [pallet.event_index(), index]);
        }
        let mut faults = BTreeMap::new();
        for &fault in Fault::ALL {
            let pallet = pallet(&metadata, FAULT_PALLET)?;
            let variants = pallet.error_variants().unwrap_or_default();
            let index = variant_index(variants, FAULT_PALLET, fault.name())?;
            faults.insert(fault, [pallet.error_index(), index]);
        }
        let mut calls = BTreeMap::new();
        for &call in CallName::ALL {
            let pallet = pallet(&metadata, call.pallet())?;
            let variants = pallet.call_variants().unwrap_or_default();
            let index = variant_index(variants, call.pallet(), call.name())?;
            calls.insert(call, [pallet.call_index(), index]);
        }

        let encoded_version = constant(&metadata, "System", "Version")?;
        let version = RuntimeVersion::decode(&mut &encoded_version[..])
            .map_err(|error| DevChainError::Metadata(format!("System.Version: {error}")))?;
        let existential_deposit =
            u64::decode(&mut &constant(&metadata, "Balances", "ExistentialDeposit")?[..])
                .map_err(|error| DevChainError::Metadata(format!("ExistentialDeposit: {error}")))?;
        Ok(Self { items, events, faults, calls, version, encoded_version, existential_deposit })
    }

    /// Returns the storage key of `item` for the SCALE-encoded map keys `parts`; fewer parts than
    /// the item has give the prefix under which the entries lie.
    pub(super) fn key(&self, item: Item, parts: &[&[u8]]) -> Vec<u8> {
        self.item(item).key(parts)
    }

    /// Returns the value that an absent entry of `item` stands for, if it has one.
    pub(super) fn default_value(&self, item: Item) -> Option<&[u8]> {
        self.item(item).default.as_deref()
    }

    #[expect(clippy::expect_used, reason = "load resolves every item or fails")]
    fn item(&self, item: Item) -> &StorageItem {
        self.items.get(&item).expect("storage item resolved at start")
    }

    /// Returns pallet and variant index of an event.
    #[expect(clippy::expect_used, reason = "load resolves every event or fails")]
    pub(super) fn event(&self, event: EventName) -> [u8; 2] {
        *self.events.get(&event).expect("event resolved at start")
    }

    /// Returns pallet and variant index of a module error.
    #[expect(clippy::expect_used, reason = "load resolves every error or fails")]
    pub(super) fn fault(&self, fault: Fault) -> [u8; 2] {
        *self.faults.get(&fault).expect("error resolved at start")
    }

    /// Returns the call with these indices, if the development chain executes it.
    pub(super) fn call(&self, indices: [u8; 2]) -> Option<CallName> {
        self.calls.iter().find(|(_, known)| **known == indices).map(|(name, _)| *name)
    }

    /// Returns pallet and variant index of a call.
    #[expect(clippy::expect_used, reason = "load resolves every call or fails")]
    pub(super) fn call_indices(&self, call: CallName) -> [u8; 2] {
        *self.calls.get(&call).expect("call resolved at start")
    }

    /// Returns the least balance that an account keeps, RAO.
    pub(super) const fn existential_deposit(&self) -> u64 {
        self.existential_deposit
    }

    /// Returns spec and transaction version.
    pub(super) const fn version(&self) -> &RuntimeVersion {
        &self.version
    }

    /// Returns the answer to `Core_version`.
    pub(super) fn encoded_version(&self) -> &[u8] {
        &self.encoded_version
    }

    /// Returns the answer to `state_getRuntimeVersion`.
    pub(super) fn version_json(&self) -> Value {
        let version = &self.version;
        let apis: Vec<Value> = version
            .apis
            .iter()
            .map(|(id, number)| json!([format!("0x{}", hex::encode(id)), number]))
            .collect();
        json!({
            "specName": version.spec_name,
            "implName": version.impl_name,
            "authoringVersion": version.authoring_version,
            "specVersion": version.spec_version,
            "implVersion": version.impl_version,
            "apis": apis,
            "transactionVersion": version.transaction_version,
            "systemVersion": version.system_version,
            "stateVersion": version.system_version,
        })
    }

    /// Returns the answer to `Metadata_metadata_versions`.
    pub(super) fn metadata_versions() -> Vec<u8> {
        vec![15_u32, 16].encode()
    }

    /// Returns the answer to `Metadata_metadata_at_version`: SCALE `Option<Vec<u8>>`.
    pub(super) fn metadata_at_version(version: u32) -> Vec<u8> {
        let bytes = match version {
            15 => METADATA_V15,
            16 => METADATA_V16,
            _ => return vec![0],
        };
        let mut answer = vec![1];
        answer.extend(compact_length(bytes.len()));
        answer.extend_from_slice(bytes);
        answer
    }

    /// Returns the metadata for `state_getMetadata`. A stock node answers with V14; this chain has
    /// no V14 file, so it gives V15.
    pub(super) const fn legacy_metadata() -> &'static [u8] {
        METADATA_V15
    }
}

/// Returns the SCALE length prefix of `length` items.
pub(super) fn compact_length(length: usize) -> Vec<u8> {
    Compact(u32::try_from(length).unwrap_or(u32::MAX)).encode()
}

fn decode_metadata() -> Result<Metadata, DevChainError> {
    Metadata::decode_from(METADATA_V16)
        .map_err(|error| DevChainError::Metadata(format!("does not decode: {error}")))
}

/// Returns the storage key of any item of the metadata, for comparing with recorded keys.
#[cfg(test)]
pub(super) fn recorded_key(pallet: &str, name: &str, parts: &[&[u8]]) -> Vec<u8> {
    storage_item(&decode_metadata().unwrap(), pallet, name).unwrap().key(parts)
}

fn check_extensions(metadata: &Metadata) -> Result<(), DevChainError> {
    let extrinsic = metadata.extrinsic();
    if !extrinsic.supported_versions().contains(&4) {
        return Err(DevChainError::Metadata("lacks extrinsic version 4".into()));
    }
    let names: Vec<&str> = extrinsic
        .transaction_extensions_by_version(0)
        .map(|extensions| extensions.map(|extension| extension.identifier()).collect())
        .unwrap_or_default();
    if names == TRANSACTION_EXTENSIONS {
        return Ok(());
    }
    Err(DevChainError::Metadata(format!("has other transaction extensions: {}", names.join(", "))))
}

fn pallet<'a>(
    metadata: &'a Metadata,
    name: &str,
) -> Result<subxt::metadata::PalletMetadata<'a>, DevChainError> {
    metadata
        .pallet_by_name(name)
        .ok_or_else(|| DevChainError::Metadata(format!("lacks the pallet {name}")))
}

fn storage_item(
    metadata: &Metadata,
    pallet_name: &str,
    name: &str,
) -> Result<StorageItem, DevChainError> {
    let missing = || DevChainError::Metadata(format!("lacks {pallet_name}.{name}"));
    let storage = pallet(metadata, pallet_name)?.storage().ok_or_else(missing)?;
    let entry = storage.entry_by_name(name).ok_or_else(missing)?;
    let mut prefix = twox_128(storage.prefix().as_bytes()).to_vec();
    prefix.extend(twox_128(name.as_bytes()));
    Ok(StorageItem {
        prefix,
        hashers: entry.keys().map(|key| key.hasher).collect(),
        default: entry.default_value().map(<[u8]>::to_vec),
    })
}

fn variant_index(
    variants: &[scale_info::Variant<scale_info::form::PortableForm>],
    pallet: &str,
    name: &str,
) -> Result<u8, DevChainError> {
    variants
        .iter()
        .find(|variant| variant.name == name)
        .map(|variant| variant.index)
        .ok_or_else(|| DevChainError::Metadata(format!("lacks {pallet}.{name}")))
}

fn constant(metadata: &Metadata, pallet_name: &str, name: &str) -> Result<Vec<u8>, DevChainError> {
    pallet(metadata, pallet_name)?
        .constant_by_name(name)
        .map(|constant| constant.value().to_vec())
        .ok_or_else(|| DevChainError::Metadata(format!("lacks the constant {pallet_name}.{name}")))
}

fn hash_key_part(hasher: StorageHasher, part: &[u8], key: &mut Vec<u8>) {
    match hasher {
        StorageHasher::Identity => key.extend_from_slice(part),
        StorageHasher::Blake2_128 => key.extend(blake2_128(part)),
        StorageHasher::Blake2_256 => key.extend(blake2_256(part)),
        StorageHasher::Blake2_128Concat => {
            key.extend(blake2_128(part));
            key.extend_from_slice(part);
        }
        StorageHasher::Twox128 => key.extend(twox_128(part)),
        StorageHasher::Twox256 => key.extend(twox_256(part)),
        StorageHasher::Twox64Concat => {
            key.extend(twox_64(part));
            key.extend_from_slice(part);
        }
    }
}
