//! Reads every row and compares with the ledger.

use serde::Serialize;

use crate::codec::{self, PART_KIND};
use crate::databases::{Databases, contain};
use crate::error::StoreError;
use crate::ledger::{OWN_KIND, Tallies};
use crate::record::Db;
use crate::records::KINDS;
use crate::store::Store;

/// Problems listed in a report; more are only counted.
const LISTED_PROBLEMS: usize = 20;

/// What [`Store::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Rows of both databases.
    pub rows: u64,
    /// Bytes of all keys and values: what a compacted store would about need.
    pub live_bytes: u64,
    /// Each kind that has rows or a ledger entry.
    pub kinds: Vec<KindReport>,
    /// The first problems, for people.
    pub problems: Vec<String>,
    /// Number of all problems.
    pub problem_count: u64,
}

/// The rows of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindReport {
    /// Name of the record.
    pub name: String,
    /// Where it lives.
    pub db: Db,
    /// Rows found.
    pub rows: u64,
    /// Rows according to the ledger.
    pub expected_rows: u64,
    /// Whether the rows are those that were written.
    pub is_whole: bool,
}

impl VerifyReport {
    /// Tells whether nothing is wrong.
    pub const fn is_ok(&self) -> bool {
        self.problem_count == 0
    }

    fn note(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < LISTED_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

impl Store {
    /// Reads every row, checks checksum, fields and values, and compares number and digest of each
    /// kind with the ledger. Blocks, and writes wait meanwhile: some microseconds a row.
    ///
    /// # Errors
    /// The cause when the database cannot be read at all; damaged rows are in the report.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        self.on_writer(|writer| {
            let databases = writer.databases()?;
            let mut report = VerifyReport::default();
            for db in Db::ALL {
                verify_one(&databases, db, &mut report)?;
            }
            Ok(report)
        })
    }
}

fn verify_one(databases: &Databases, db: Db, report: &mut VerifyReport) -> Result<(), StoreError> {
    let expected = databases.tallies(db)?;
    let mut found = Tallies::new();
    let mut rows = databases.tree(db).range([OWN_KIND + 1]..);
    while let Some((key, value)) = contain(db, "reading rows", || rows.next().transpose())? {
        report.live_bytes += (key.len() + value.len()) as u64;
        let kind = key.first().copied().unwrap_or(OWN_KIND);
        found.entry(kind).or_default().add(&value);
        if kind == PART_KIND {
            if let Some(problem) = check_part(databases, db, &key, &value)? {
                report.note(format!("{db}: part {}: {problem}", codec::hex(&key)));
            }
            continue;
        }
        report.rows += 1;
        match KINDS.iter().find(|info| info.kind == kind && info.db == db) {
            Some(info) => {
                let whole = databases.join(db, &key, value)?;
                if let Err(error) = (info.check)(&key, &whole) {
                    report.note(error.to_string());
                }
            }
            None => report.note(format!("{db}: row of unknown kind: {}", codec::hex(&key))),
        }
    }
    let mut kinds: Vec<u8> = expected.keys().chain(found.keys()).copied().collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let known = KINDS.iter().find(|info| info.kind == kind);
        let name = match known {
            Some(info) => info.name.to_owned(),
            None if kind == PART_KIND => "parts of long rows".to_owned(),
            None => format!("kind {kind}"),
        };
        let expected = expected.get(&kind).copied().unwrap_or_default();
        let found = found.get(&kind).copied().unwrap_or_default();
        if expected.rows != found.rows {
            let (is, should) = (found.rows, expected.rows);
            report.note(format!("{db}: {name} has {is} rows, must be {should}"));
        } else if expected != found {
            report.note(format!("{db}: {name} has other rows than were written"));
        }
        report.kinds.push(KindReport {
            name,
            db,
            rows: found.rows,
            expected_rows: expected.rows,
            is_whole: expected == found,
        });
    }
    Ok(())
}

/// Checks a continuing row by itself, and that the row is there which it continues.
fn check_part(
    databases: &Databases,
    db: Db,
    key: &[u8],
    value: &[u8],
) -> Result<Option<String>, StoreError> {
    if let Err(problem) = codec::unframe(key, value) {
        return Ok(Some(problem.to_string()));
    }
    let Some((row_key, number)) = codec::split_part_key(key) else {
        return Ok(Some("its key does not decode".to_owned()));
    };
    let head = databases.get(db, row_key)?;
    let parts = head.as_deref().map_or(0, codec::part_count);
    Ok((number > parts).then(|| "it continues no row".to_owned()))
}
