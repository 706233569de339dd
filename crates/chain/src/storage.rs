//! Storage of the chain: keys, batched reads, values decoded by the node's metadata.

use std::collections::BTreeMap;

use forecastd_core::NetUid;
use scale_value::Value;
use subxt::Metadata;
use subxt::ext::frame_decode::storage::encode_storage_key;
use subxt::ext::scale_decode::DecodeAsType;

use crate::calls::PALLET;
use crate::error::ChainError;

/// Keys in one request; public nodes bound the work of a request.
pub(crate) const BATCH_KEYS: usize = 256;

/// Returns the full key of a storage item.
///
/// `parts`: the map keys, each encoded and hashed as the metadata says.
///
/// # Errors
/// [`ChainError::Incompatible`] when the runtime has no such item or other keys.
pub fn storage_key(
    metadata: &Metadata,
    pallet: &str,
    item: &str,
    parts: Vec<Value>,
) -> Result<Vec<u8>, ChainError> {
    encode_storage_key(pallet, item, parts, metadata, metadata.types()).map_err(|error| {
        ChainError::Incompatible {
            item: format!("storage {pallet}.{item}"),
            reason: error.to_string(),
        }
    })
}

/// Returns the key of a hyperparameter: of the subnet, or of the whole chain where it is plain.
pub(crate) fn subnet_key(
    metadata: &Metadata,
    item: &str,
    netuid: NetUid,
) -> Result<Vec<u8>, ChainError> {
    let is_map = entry(metadata, item)?.keys().len() > 0;
    let parts = if is_map { vec![Value::u128(netuid.0.into())] } else { Vec::new() };
    storage_key(metadata, PALLET, item, parts)
}

/// Returns whether the runtime has a storage item of the subtensor pallet.
pub(crate) fn has_item(metadata: &Metadata, item: &str) -> bool {
    entry(metadata, item).is_ok()
}

/// Values of the subtensor pallet's storage, read at one block.
#[derive(Debug)]
pub(crate) struct Values<'metadata> {
    metadata: &'metadata Metadata,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'metadata> Values<'metadata> {
    pub(crate) const fn new(
        metadata: &'metadata Metadata,
        values: BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Self {
        Self { metadata, values }
    }

    /// Decodes the value at a key; where it is absent, the item's default.
    pub(crate) fn get<T: DecodeAsType>(&self, item: &str, key: &[u8]) -> Result<T, ChainError> {
        self.find(item, key)?.ok_or_else(|| ChainError::Decode {
            what: format!("storage {PALLET}.{item}"),
            reason: "there is no value and no default".to_owned(),
        })
    }

    /// Decodes the value at a key; where it is absent, the item's default if it has one.
    pub(crate) fn find<T: DecodeAsType>(
        &self,
        item: &str,
        key: &[u8],
    ) -> Result<Option<T>, ChainError> {
        let entry = entry(self.metadata, item)?;
        let bytes = self.values.get(key).map(Vec::as_slice).or_else(|| entry.default_value());
        let Some(mut bytes) = bytes else { return Ok(None) };
        let decode_error = |reason: String| ChainError::Decode {
            what: format!("storage {PALLET}.{item}"),
            reason,
        };
        let value = T::decode_as_type(&mut bytes, entry.value_ty(), self.metadata.types())
            .map_err(|error| decode_error(error.to_string()))?;
        if bytes.is_empty() {
            Ok(Some(value))
        } else {
            Err(decode_error(format!("{} bytes are left over", bytes.len())))
        }
    }
}

fn entry<'metadata>(
    metadata: &'metadata Metadata,
    item: &str,
) -> Result<&'metadata subxt::metadata::StorageEntryMetadata, ChainError> {
    metadata
        .pallet_by_name(PALLET)
        .and_then(|pallet| pallet.storage())
        .and_then(|storage| storage.entry_by_name(item))
        .ok_or_else(|| ChainError::Incompatible {
            item: format!("storage {PALLET}.{item}"),
            reason: "the runtime does not have it".to_owned(),
        })
}
