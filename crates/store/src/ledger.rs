//! The ledger: for each kind, how many rows there are and the sum of their checksums.
//!
//! It lies in the same database as its rows and changes in the same batch, so after a crash it fits
//! what was recovered, and a row that vanished or came back does not fit it. sled does not notice
//! such rows by itself.

use std::collections::BTreeMap;

use crate::codec::{self, RecordProblem};
use crate::key::LAYOUT;

/// The kind of the store's own rows.
pub(crate) const OWN_KIND: u8 = 0;
const LEDGER: u8 = 1;
const VERSION: u8 = 1;

/// Number and digest of one kind's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    /// Wrapping sum of one hash for each row: does not depend on the order of changes.
    pub(crate) digest: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, value: &[u8]) {
        self.rows = self.rows.saturating_add(1);
        self.digest = self.digest.wrapping_add(row_hash(value));
    }

    pub(crate) fn subtract(&mut self, value: &[u8]) {
        self.rows = self.rows.saturating_sub(1);
        self.digest = self.digest.wrapping_sub(row_hash(value));
    }
}

/// The tallies of one database by kind.
pub(crate) type Tallies = BTreeMap<u8, Tally>;

pub(crate) fn ledger_prefix() -> [u8; 3] {
    [OWN_KIND, LAYOUT, LEDGER]
}

pub(crate) fn ledger_key(kind: u8) -> [u8; 4] {
    [OWN_KIND, LAYOUT, LEDGER, kind]
}

pub(crate) fn encode(kind: u8, tally: Tally) -> Vec<u8> {
    let mut fields = tally.rows.to_be_bytes().to_vec();
    fields.extend_from_slice(&tally.digest.to_be_bytes());
    codec::frame(&ledger_key(kind), VERSION, &fields)
}

pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<(u8, Tally), RecordProblem> {
    let [OWN_KIND, LAYOUT, LEDGER, kind] = *key else {
        return Err(RecordProblem::Key);
    };
    let (version, fields) = codec::unframe(key, value)?;
    if version != VERSION {
        return Err(RecordProblem::Version(version));
    }
    let (rows, digest) =
        fields.split_first_chunk::<8>().ok_or(RecordProblem::Length(value.len()))?;
    let digest = <[u8; 8]>::try_from(digest).map_err(|_| RecordProblem::Length(value.len()))?;
    Ok((kind, Tally { rows: u64::from_be_bytes(*rows), digest: u64::from_be_bytes(digest) }))
}

/// The checksum covers key and value, so it stands for the row. It is mixed because sums of bare
/// CRCs cancel each other for related changes (finaliser of the `SplitMix64` generator).
fn row_hash(value: &[u8]) -> u64 {
    let mut hash = u64::from(codec::stored_checksum(value)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_does_not_depend_on_the_order_of_changes() {
        let rows: Vec<Vec<u8>> = (0..20_u8).map(|n| codec::frame(&[n], 1, &[n; 9])).collect();
        let (mut forth, mut back) = (Tally::default(), Tally::default());
        for (row, reverse) in rows.iter().zip(rows.iter().rev()) {
            forth.add(row);
            back.add(reverse);
        }
        assert_eq!(forth, back);
        forth.subtract(&rows[3]);
        assert_ne!(forth, back);
        forth.add(&rows[3]);
        assert_eq!(forth, back);
        let (kind, read) = decode(&ledger_key(7), &encode(7, forth)).unwrap();
        assert_eq!((kind, read), (7, forth));
    }
}
