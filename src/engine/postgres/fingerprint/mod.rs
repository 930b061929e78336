//! The schema fast path: one query over the catalogs whose answer changes whenever the schema dump would.
//!
//! Promises: whenever the text of `pg_dump --section=pre-data --section=post-data` would change, the fingerprint changes. It
//! may change when the dump does not (a dump too many), never the other way round. It holds no OIDs and no column numbers,
//! so databases that were made separately from the same statements have the same fingerprint, on whatever server of one
//! major version, in whatever order, with whatever dropped columns. Only the order of independent statements in a dump,
//! where `pg_dump` itself falls back to OIDs, is not in it.
//!
//! Must not know: what a dump is good for, where it is stored, who shares it.

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::base::class::Class;
use crate::engine::Error;
use crate::sql::postgres::{reason, words};

use self::statement::Gate;

mod database;
mod relations;
mod statement;
mod types;

/// What is hashed first. It changes whenever the meaning of any digest does.
const FORMAT: &str = "dbkeeper schema fingerprint 1";

/// The major versions whose catalogs are known.
const MAJORS: std::ops::RangeInclusive<u32> = 13..=18;

/// The fingerprint of the current database's schema, or `None` where it cannot be sure: dump the schema then.
///
/// `None` is the answer for a server outside of PostgreSQL 13 to 18, and for a database where one of the server's own objects
/// was moved into a schema that is dumped.
///
/// Call it in the transaction whose snapshot the dump has (REPEATABLE READ, READ ONLY), with ACCESS SHARE on all tables. It
/// takes one round trip, needs no privilege, and covers what this role would dump: a role that may not see the options of
/// a user mapping or a subscription does not dump them either. Run by another role, it may differ. Settings that it needs
/// are its own and are taken back.
///
/// **After an error** the transaction is as it was before, unless the connection is gone: the caller may note the error and
/// dump. Errors are to be expected while other sessions alter functions, types or privileges.
///
/// **Limit.** The rows of the catalogs are those of the snapshot, but what the server prints of them (`pg_get_viewdef` and
/// its like) is by its current catalogs; locks keep tables still, but nothing locks functions, types and roles. `pg_dump`
/// has the same limit. A fingerprint that equals a good one is safe all the same: both halves are then as they were in the
/// good one. What makes one good is to see the same value twice: before the dump, and again after it from a **new**
/// snapshot in another transaction. A dump whose two fingerprints differ must not be reused.
pub async fn fingerprint(client: &Client, server_version_num: u32) -> Result<Option<[u8; 32]>, Error> {
    let major = server_version_num / 10_000;
    if !MAJORS.contains(&major) {
        return Ok(None);
    }
    let first = ask(client, &statement::first(major)).await?;
    let value = |name: &str| first.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let (Some(moved), Some(present)) = (value(statement::MOVED), value(statement::PRESENT)) else {
        return Err(incomplete("no word of what is there"));
    };
    if moved != "0" {
        return Ok(None);
    }
    let tokens: Vec<&str> = present.lines().collect();
    let next: Vec<&str> =
        statement::digests(major).filter(|digest| digest.gate.is_open(&tokens)).map(|digest| digest.name).collect();
    let second = if next.is_empty() { Vec::new() } else { ask(client, &statement::second(major, &next)).await? };
    let mut digests = Vec::new();
    for digest in statement::digests(major) {
        let expected = matches!(digest.gate, Gate::Always) || next.contains(&digest.name);
        let found = first.iter().chain(&second).find(|(name, _)| name == digest.name);
        match (expected, found) {
            (false, None) => {}
            (true, Some((_, value))) => digests.push((digest.name, value.as_str())),
            _ => return Err(incomplete(digest.name)),
        }
    }
    Ok(Some(combine(major, &digests)))
}

/// The rows of one statement, as name and value.
async fn ask(client: &Client, statement: &str) -> Result<Vec<(String, String)>, Error> {
    match client.simple_query(statement).await {
        Ok(answer) => Ok(answer.iter().filter_map(name_and_value).collect()),
        Err(error) => {
            // Where this fails, too, the connection is gone or there was no transaction: the first error says so.
            let _ = client.batch_execute(statement::UNDO).await;
            Err(refused(error))
        }
    }
}

fn name_and_value(message: &SimpleQueryMessage) -> Option<(String, String)> {
    match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())),
        _ => None,
    }
}

fn incomplete(details: &str) -> Error {
    Error::Mismatch { what: "the digests of the catalogs".to_owned(), details: details.to_owned() }
}

/// A digest of nothing is left out: whether it was asked for may depend on what once was there.
fn combine(major: u32, digests: &[(&str, &str)]) -> [u8; 32] {
    let nothing = hex::encode(Sha256::digest(b""));
    let mut hash = Sha256::new();
    hash.update(format!("{FORMAT}\nPostgreSQL {major}\n"));
    for (name, digest) in digests.iter().filter(|(_, digest)| *digest != nothing) {
        hash.update(format!("{name} {digest}\n"));
    }
    hash.finalize().into()
}

fn refused(error: tokio_postgres::Error) -> Error {
    Error::Database {
        action: "take the fingerprint of the schema".to_owned(),
        reason: reason(&error),
        class: if error.is_closed() { Class::Transient } else { Class::Refused },
        hint: None,
        source: words::source(error),
    }
}
