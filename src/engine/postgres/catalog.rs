//! What the catalogs say of a database: its tables, sequences and facts, each by one query over all of them.
//!
//! Every query here runs with an empty search path, so that an unqualified name is one of `pg_catalog`. Reading decides nothing: locks are [`super::locks`]'s business, pieces
//! [`super::pieces`]'s.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};

use crate::engine::Error;
use crate::engine::postgres::session::{column, failed};
use crate::sql::postgres::quote_qualified;

/// A table by its name at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableName {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
}

impl TableName {
    pub(super) fn quoted(&self) -> String {
        quote_qualified(&self.schema, &self.name)
    }
}

/// A table as the snapshot shows it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) id: TableName,
    /// A partitioned parent: locked, but without rows of its own.
    pub(super) partitioned: bool,
    /// `relpersistence`: `p` or `u`.
    pub(super) persistence: String,
    /// True where its storage is the built-in one, which has pages, and no page means no row.
    pub(super) heap: bool,
    /// Bytes of its own pages.
    pub(super) bytes: u64,
    /// Bytes of its long values, kept apart.
    pub(super) toast_bytes: u64,
    /// The stored columns, in the order of the table.
    pub(super) columns: Vec<String>,
    /// An extension's configuration table, and the `WHERE …` that tells the user's rows from the extension's.
    pub(super) config_condition: Option<String>,
    /// Rows are hidden from us by row-level security.
    pub(super) hides_rows: bool,
    /// We hold a lock on it.
    pub(super) held: bool,
    /// At this moment it still has the name and the storage that the snapshot shows.
    pub(super) unchanged: bool,
}

/// The tables that are backed up: all that are no one else's. Temporary ones and foreign ones never are; an extension's own
/// only if the extension says so (PostgreSQL manual, 38.17.3).
pub(super) const CHOSEN: &str = "
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (SELECT u.oid, max(u.condition) AS condition
             FROM pg_extension e, ROWS FROM (unnest(e.extconfig),
                  unnest(e.extcondition)) AS u (oid, condition) GROUP BY u.oid) x ON x.oid = c.oid
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
    AND (x.oid IS NOT NULL OR NOT EXISTS (SELECT FROM pg_depend d
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
           AND d.deptype = 'e'))";

/// The names of the tables, as this moment shows them.
pub(super) async fn names(client: &Client) -> Result<Vec<Row>, tokio_postgres::Error> {
    let query =
        format!("SELECT c.oid, n.nspname::text, c.relname::text {CHOSEN} AND c.relkind IN ('r', 'p') ORDER BY c.oid");
    client.query_typed(&query, &[]).await
}

/// Takes the first three columns of any answer here.
pub(super) fn table_name(row: &Row) -> Result<TableName, Error> {
    Ok(TableName { oid: column(row, 0)?, schema: column(row, 1)?, name: column(row, 2)? })
}

/// The tables as the snapshot of the open transaction shows them, compared with what they are at this moment.
///
/// Functions that take an OID (`pg_relation_filenode`, the output of `regclass`) look at the present, plain columns at the
/// snapshot: that is how a change between the two is seen.
pub(super) async fn tables(client: &Client) -> Result<Vec<Row>, tokio_postgres::Error> {
    let query = format!(
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', c.relpersistence::text,
           c.relam IN (0, 2),
           coalesce(CASE c.relkind WHEN 'r' THEN pg_relation_size(c.oid) END, 0),
           coalesce(CASE WHEN c.reltoastrelid <> 0 THEN pg_relation_size(c.reltoastrelid) END, 0),
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum),
           CASE WHEN x.oid IS NOT NULL THEN coalesce(x.condition, '') END,
           c.relrowsecurity AND row_security_active(c.oid),
           c.oid IN (SELECT l.relation FROM pg_locks l WHERE l.locktype = 'relation' AND l.granted
                     AND l.pid = pg_backend_pid()),
           (c.relkind = 'p' OR pg_relation_filenode(c.oid) IS NOT DISTINCT FROM c.relfilenode)
             AND c.oid::regclass::text = format('%I.%I', n.nspname, c.relname)
         {CHOSEN} AND c.relkind IN ('r', 'p') ORDER BY c.oid"
    );
    client.query_typed(&query, &[]).await
}

/// Takes the answer of [`tables`].
pub(super) fn table(row: &Row) -> Result<Table, Error> {
    Ok(Table {
        id: table_name(row)?,
        partitioned: column(row, 3)?,
        persistence: column(row, 4)?,
        heap: column(row, 5)?,
        bytes: column::<i64>(row, 6)?.unsigned_abs(),
        toast_bytes: column::<i64>(row, 7)?.unsigned_abs(),
        columns: column(row, 8)?,
        config_condition: column(row, 9)?,
        hides_rows: column(row, 10)?,
        held: column(row, 11)?,
        unchanged: column(row, 12)?,
    })
}

/// Facts of the server, the database and the transaction.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) snapshot: String,
    pub(super) server_version_num: u32,
    pub(super) in_recovery: bool,
    pub(super) lc_monetary: String,
    pub(super) encoding: String,
    pub(super) large_object_page_bytes: u32,
    pub(super) large_objects: u64,
    pub(super) large_object_bytes: u64,
    /// We may read `pg_largeobject` itself.
    pub(super) reads_large_object_pages: bool,
    /// We may read the verifiers of passwords.
    pub(super) reads_passwords: bool,
    pub(super) superuser: bool,
    pub(super) user: String,
    pub(super) foreign_tables: u64,
}

/// Exports the snapshot of the open transaction and reads the facts.
pub(super) async fn facts(client: &Client) -> Result<Row, tokio_postgres::Error> {
    let query = format!(
        "SELECT pg_export_snapshot(), current_setting('server_version_num')::int4,
           pg_is_in_recovery(), current_setting('lc_monetary'),
           (SELECT pg_encoding_to_char(d.encoding)::text FROM pg_database d
             WHERE d.datname = current_database()),
           current_setting('block_size')::int4 / 4,
           (SELECT count(*) FROM pg_largeobject_metadata),
           pg_relation_size('pg_largeobject'),
           has_table_privilege('pg_largeobject', 'SELECT'),
           has_column_privilege('pg_authid', 'rolpassword', 'SELECT'),
           (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user), current_user::text,
           (SELECT count(*) {CHOSEN} AND c.relkind = 'f')"
    );
    client.query_typed_one(&query, &[]).await
}

/// Takes the answer of [`facts`].
pub(super) fn facts_in(row: &Row) -> Result<Facts, Error> {
    Ok(Facts {
        snapshot: column(row, 0)?,
        server_version_num: column::<i32>(row, 1)?.unsigned_abs(),
        in_recovery: column(row, 2)?,
        lc_monetary: column(row, 3)?,
        encoding: column(row, 4)?,
        large_object_page_bytes: column::<i32>(row, 5)?.unsigned_abs(),
        large_objects: column::<i64>(row, 6)?.unsigned_abs(),
        large_object_bytes: column::<i64>(row, 7)?.unsigned_abs(),
        reads_large_object_pages: column(row, 8)?,
        reads_passwords: column(row, 9)?,
        superuser: column(row, 10)?,
        user: column(row, 11)?,
        foreign_tables: column::<i64>(row, 12)?.unsigned_abs(),
    })
}

/// A sequence as the snapshot shows it.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) id: TableName,
    /// `relpersistence`: `p` or `u`.
    pub(super) persistence: String,
    /// We may read its value.
    pub(super) readable: bool,
}

/// The sequences, those of identity columns and of extensions' configuration included.
pub(super) async fn sequences(client: &Client) -> Result<Vec<Row>, tokio_postgres::Error> {
    let query = format!(
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relpersistence::text,
           coalesce(has_schema_privilege(n.oid, 'USAGE'), true)
             AND coalesce(has_table_privilege(c.oid, 'SELECT'), true)
         {CHOSEN} AND c.relkind = 'S' ORDER BY c.oid"
    );
    client.query_typed(&query, &[]).await
}

/// Takes the answer of [`sequences`].
pub(super) fn sequence(row: &Row) -> Result<Sequence, Error> {
    Ok(Sequence { id: table_name(row)?, persistence: column(row, 3)?, readable: column(row, 4)? })
}

/// The partitions whose rows must go through their root, and that root: those below a hash partitioning on an enum.
///
/// An enum value hashes by its OID, which a restore changes, so a row may belong to another leaf there (`pg_dump.c`,
/// `getPartitioningInfo`).
pub(super) async fn load_through_root(client: &Client) -> Result<HashMap<u32, (String, String)>, Error> {
    let query = "
        WITH RECURSIVE below (oid) AS (
            SELECT p.partrelid FROM pg_partitioned_table p WHERE EXISTS (
                SELECT FROM pg_opclass o JOIN pg_am a ON a.oid = o.opcmethod
                WHERE o.oid = ANY (p.partclass::oid[]) AND o.opcname = 'enum_ops'
                  AND o.opcnamespace = 'pg_catalog'::regnamespace AND a.amname = 'hash')
            UNION SELECT i.inhrelid FROM pg_inherits i JOIN below b ON b.oid = i.inhparent)
        SELECT c.oid, n.nspname::text, r.relname::text
        FROM below b JOIN pg_class c ON c.oid = b.oid AND c.relkind = 'r'
        JOIN pg_class r ON r.oid = pg_partition_root(c.oid)
        JOIN pg_namespace n ON n.oid = r.relnamespace";
    let rows = client.query_typed(query, &[]).await.map_err(|error| failed("read the partitions", error))?;
    rows.iter().map(|row| Ok((column(row, 0)?, (column(row, 1)?, column(row, 2)?)))).collect()
}

/// The foreign keys among extensions' configuration tables: which table refers to which.
pub(super) async fn config_references(client: &Client) -> Result<Vec<(u32, u32)>, Error> {
    let query = "
        SELECT k.conrelid, k.confrelid FROM pg_constraint k
        WHERE k.contype = 'f' AND k.conrelid <> k.confrelid
          AND k.conrelid IN (SELECT unnest(extconfig) FROM pg_extension)
          AND k.confrelid IN (SELECT unnest(extconfig) FROM pg_extension)";
    let rows = client.query_typed(query, &[]).await.map_err(|error| failed("read the foreign keys", error))?;
    rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?))).collect()
}
