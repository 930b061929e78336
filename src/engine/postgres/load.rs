//! Loads rows: COPY into tables, and pages into large objects, over one connection per lane.
//!
//! Rows pass through untouched, in the source database's encoding; the server's own count is handed back.

use std::collections::HashMap;

use futures::SinkExt;
use tokio::sync::{Mutex, MutexGuard};

use crate::engine::postgres::description::{LARGE_OBJECTS_PART, PostgresDetails, Relation};
use crate::engine::postgres::refusal::{refused, unreachable};
use crate::engine::{Error, PartSource};
use crate::sql;
use crate::sql::Server;
use crate::sql::postgres::{Connection, quote_identifier, quote_literal};

/// The server versions from which on these time limits exist.
const IDLE_SESSION_TIMEOUT_SINCE: u32 = 140_000;
const TRANSACTION_TIMEOUT_SINCE: u32 = 170_000;
/// Pages of large objects that are written by one statement: 256 pages of 2 KiB.
const PAGES_PER_STATEMENT: usize = 256;

/// The connections to the database that is being filled, one per lane, opened when first used.
#[derive(Debug)]
pub(super) struct Lanes {
    server: Server,
    database: String,
    setup: String,
    slots: Vec<Mutex<Option<Connection>>>,
}

/// An open lane.
pub(super) type Lane<'a> = tokio::sync::MappedMutexGuard<'a, Connection>;

impl Lanes {
    pub(super) fn new(server: Server, database: String, setup: String, count: usize) -> Self {
        let slots = (0..count.max(1)).map(|_| Mutex::new(None)).collect();
        Self { server, database, setup, slots }
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    /// The lane's connection, with our session settings. A connection that broke is opened anew.
    pub(super) async fn open(&self, lane: usize) -> Result<Lane<'_>, Error> {
        let mut slot = self.slots[lane].lock().await;
        if slot.as_ref().is_none_or(|connection| connection.is_closed()) {
            let connection = sql::postgres::connect(&self.server, &self.database).await.map_err(unreachable)?;
            let failed = |error| refused(format!("prepare a session in {:?}", self.database), error);
            connection.batch_execute(&self.setup).await.map_err(failed)?;
            *slot = Some(connection);
        }
        Ok(MutexGuard::map(slot, |slot| slot.as_mut().expect("it was opened above")))
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        for slot in &self.slots {
            slot.lock().await.take();
        }
    }
}

/// The settings of a loading session: the same meaning for each text as in the session that wrote it, no time limits, and
/// commits that need not wait for the disk (the transaction that publishes is written after them, and it waits).
pub(super) fn session_setup(server_version_num: u32, search_path: &str, lc_monetary: Option<&str>) -> String {
    let mut sql = "SET DateStyle = ISO; SET IntervalStyle = postgres; SET xmloption = content; SET array_nulls = on; \
        SET row_security = off; SET check_function_bodies = off; SET synchronous_commit = off; \
        SET default_transaction_read_only = off; SET client_min_messages = warning; SET statement_timeout = 0; \
        SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; "
        .to_owned();
    if server_version_num >= IDLE_SESSION_TIMEOUT_SINCE {
        sql.push_str("SET idle_session_timeout = 0; ");
    }
    if server_version_num >= TRANSACTION_TIMEOUT_SINCE {
        sql.push_str("SET transaction_timeout = 0; ");
    }
    if let Some(lc_monetary) = lc_monetary {
        sql.push_str(&format!("SET lc_monetary = {}; ", quote_literal(lc_monetary)));
    }
    let search_path = quote_literal(search_path);
    sql.push_str(&format!("SELECT pg_catalog.set_config('search_path', {search_path}, false)"));
    sql
}

/// What a part holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    /// Rows of a table.
    Table(&'a Relation),
    /// Pages of all large objects.
    LargeObjects,
}

/// Tells parts by their names.
#[derive(Debug)]
pub(super) struct Parts(HashMap<u32, usize>);

impl Parts {
    pub(super) fn new(details: &PostgresDetails) -> Self {
        Self(details.relations.iter().enumerate().map(|(index, relation)| (relation.id, index)).collect())
    }

    /// What the part of this name holds; `None` for names that no backup of this database has.
    pub(super) fn content<'a>(&self, details: &'a PostgresDetails, part: &str) -> Option<Content<'a>> {
        if part == LARGE_OBJECTS_PART {
            return Some(Content::LargeObjects);
        }
        let name = part.strip_prefix("table:")?;
        let id = name.split_once('/').map_or(name, |(id, _piece)| id).parse().ok()?;
        self.0.get(&id).map(|index| Content::Table(&details.relations[*index]))
    }
}

/// Loads the rows of a table, or of a piece of it, in one transaction; returns how many the server took.
///
/// After a failure none of them is in the table.
pub(super) async fn load_table(
    connection: &Connection,
    relation: &Relation,
    encoding: &str,
    source: &mut dyn PartSource,
) -> Result<u64, Error> {
    let failed = |error| refused(format!("load table {}.{}", relation.schema, relation.name), error);
    let sink = connection.copy_in(&copy_statement(relation, encoding)).await.map_err(failed)?;
    let mut sink = std::pin::pin!(sink);
    // A failure here drops the sink, and with it the COPY.
    while let Some(piece) = source.next().await? {
        sink.feed(piece).await.map_err(failed)?;
    }
    sink.finish().await.map_err(failed)
}

fn copy_statement(relation: &Relation, encoding: &str) -> String {
    let target = copy_target(relation, quote_identifier);
    format!("COPY {target} FROM STDIN WITH (FORMAT text, ENCODING {})", quote_literal(encoding))
}

/// Where the rows of a relation go, as `COPY` names it, with names written by `quote`.
///
/// Without an explicit list of columns only where there is none to name: an empty list is not in the grammar.
pub(super) fn copy_target(relation: &Relation, quote: impl Fn(&str) -> String) -> String {
    let (schema, name) = match &relation.load_through {
        Some((schema, name)) => (schema, name),
        None => (&relation.schema, &relation.name),
    };
    let columns: Vec<String> = relation.columns.iter().map(|column| quote(column)).collect();
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    format!("{}.{}{columns}", quote(schema), quote(name))
}

/// Writes pages into large objects, which exist already; returns how many pages were written.
///
/// Pages that are not in the source stay holes. After a failure some pages are written.
pub(super) async fn load_large_objects(
    connection: &Connection,
    page_bytes: u32,
    source: &mut dyn PartSource,
) -> Result<u64, Error> {
    let failed = |error| refused("write large objects", error);
    // `lo_put` and not a COPY into pg_largeobject: a catalog cannot be written without allow_system_table_mods.
    let query = "SELECT count(pg_catalog.lo_put(loid, page * $4, data)) \
        FROM unnest($1::oid[], $2::int8[], $3::bytea[]) AS pages(loid, page, data)";
    let statement = connection.prepare(query).await.map_err(failed)?;
    let mut written = 0;
    while let Some(piece) = source.next().await? {
        let pages = parse_pages(&piece)?;
        for batch in pages.chunks(PAGES_PER_STATEMENT) {
            let objects: Vec<u32> = batch.iter().map(|page| page.object).collect();
            let numbers: Vec<i64> = batch.iter().map(|page| page.number).collect();
            let data: Vec<&[u8]> = batch.iter().map(|page| page.data.as_slice()).collect();
            let page_bytes = i64::from(page_bytes);
            connection.query_one(&statement, &[&objects, &numbers, &data, &page_bytes]).await.map_err(failed)?;
            written += batch.len() as u64;
        }
    }
    Ok(written)
}

/// One row of `pg_largeobject`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) object: u32,
    pub(super) number: i64,
    pub(super) data: Vec<u8>,
}

/// The rows `loid`, `pageno`, `data` of `pg_largeobject` in COPY's text format, where a bytea begins with `\\x`.
pub(super) fn parse_pages(rows: &[u8]) -> Result<Vec<Page>, Error> {
    let bad = || Error::Mismatch {
        what: "a page of a large object".to_owned(),
        details: "the row is not an object, a page number and bytes in hexadecimal".to_owned(),
    };
    let page = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b'\t');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u32>().ok();
        let (object, number) = (number()?, i64::from(number()?));
        let data = hex::decode(fields.next()?.strip_prefix(b"\\\\x")?).ok()?;
        fields.next().is_none().then_some(Page { object, number, data })
    };
    let rows = rows.strip_suffix(b"\n").unwrap_or(rows);
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    rows.split(|byte| *byte == b'\n').map(|line| page(line).ok_or_else(bad)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_and_a_row_of_another_shape_is_an_error() {
        let pages = parse_pages(b"16566\t0\t\\\\x00ff\n16566\t7\t\\\\x\n").unwrap();
        let expected = [
            Page { object: 16566, number: 0, data: vec![0, 255] },
            Page { object: 16566, number: 7, data: Vec::new() },
        ];
        assert_eq!(pages, expected);
        for wrong in ["1\t2\n", "1\t2\t\\x00\n", "1\t-2\t\\\\x00\n", "1\t2\t\\\\x0\n", "1\t2\t\\\\x00\t3\n", "\n\n"] {
            assert!(parse_pages(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
