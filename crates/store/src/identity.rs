//! Whom a store belongs to, and which schema it has.
//!
//! Each database carries one row that says so, in JSON, so that every version of the program can
//! read it. A store of another network, subnet, hotkey or role, or of a newer schema, is refused.

use forecastd_core::{Hotkey, NetUid, Role};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::error::StoreError;
use crate::key::LAYOUT;
use crate::ledger::OWN_KIND;
use crate::record::Db;

/// Schema of the stores that this program writes: the key layout, the value frame, the ledger.
/// Single records carry versions of their own.
pub const SCHEMA: u32 = 1;
const VERSION: u8 = 1;
const IDENTITY: u8 = 0;

/// Whom a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the network, for example `finney`, `test` or `dev`.
    pub network: String,
    /// The subnet.
    pub netuid: NetUid,
    /// The node's key.
    pub hotkey: Hotkey,
    /// What it does.
    pub role: Role,
}

impl Identity {
    /// Refuses `given` where it differs from this stored identity.
    pub(crate) fn expect(&self, given: &Self) -> Result<(), StoreError> {
        let parts = [
            ("network", self.network.clone(), given.network.clone()),
            ("netuid", self.netuid.to_string(), given.netuid.to_string()),
            ("hotkey", self.hotkey.to_string(), given.hotkey.to_string()),
            ("role", self.role.to_string(), given.role.to_string()),
        ];
        for (what, stored, given) in parts {
            if stored != given {
                return Err(StoreError::Identity { what, stored, given });
            }
        }
        Ok(())
    }
}

/// The identity row of one database. Unknown fields of newer schemas are ignored on reading.
#[derive(Debug, Serialize, Deserialize)]
struct IdentityRow {
    schema: u32,
    database: String,
    #[serde(flatten)]
    identity: Identity,
}

/// Only the schema: the rest of a newer row may look different.
#[derive(Debug, Deserialize)]
struct SchemaOnly {
    schema: u32,
}

pub(crate) const fn identity_key() -> [u8; 3] {
    [OWN_KIND, LAYOUT, IDENTITY]
}

pub(crate) fn encode(db: Db, identity: &Identity) -> Result<Vec<u8>, StoreError> {
    let row = IdentityRow {
        schema: SCHEMA,
        database: db.as_str().to_owned(),
        identity: identity.clone(),
    };
    let json = serde_json::to_vec(&row)
        .map_err(|error| StoreError::Damaged { db, detail: format!("identity row: {error}") })?;
    Ok(codec::frame(&identity_key(), VERSION, &json))
}

pub(crate) fn decode(db: Db, value: &[u8]) -> Result<Identity, StoreError> {
    let damaged =
        |detail: String| StoreError::Damaged { db, detail: format!("identity row: {detail}") };
    let (_, json) =
        codec::unframe(&identity_key(), value).map_err(|problem| damaged(problem.to_string()))?;
    let SchemaOnly { schema } =
        serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
    if schema > SCHEMA {
        return Err(StoreError::SchemaNewer { found: schema, known: SCHEMA });
    }
    let row: IdentityRow =
        serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
    if row.database != db.as_str() {
        return Err(damaged(format!("this is the {} database", row.database)));
    }
    Ok(row.identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            network: "dev".to_owned(),
            netuid: NetUid(2),
            hotkey: Hotkey::from_bytes([7; 32]),
            role: Role::Miner,
        }
    }

    #[test]
    fn newer_schemas_and_swapped_directories_are_refused() {
        let own = encode(Db::Hot, &identity()).unwrap();
        assert_eq!(decode(Db::Hot, &own).unwrap(), identity());
        assert!(matches!(decode(Db::Cold, &own), Err(StoreError::Damaged { .. })));
        let newer = codec::frame(&identity_key(), VERSION, br#"{"schema":2,"anything":[]}"#);
        let error = decode(Db::Hot, &newer).unwrap_err();
        assert!(matches!(error, StoreError::SchemaNewer { found: 2, known: SCHEMA }));
    }

    #[test]
    fn each_part_of_the_identity_counts() {
        let other = [
            Identity { network: "test".to_owned(), ..identity() },
            Identity { netuid: NetUid(3), ..identity() },
            Identity { hotkey: Hotkey::from_bytes([8; 32]), ..identity() },
            Identity { role: Role::Validator, ..identity() },
        ];
        for (given, part) in other.iter().zip(["network", "netuid", "hotkey", "role"]) {
            let error = identity().expect(given).unwrap_err();
            assert!(matches!(error, StoreError::Identity { what, .. } if what == part));
        }
    }
}
