//! What our role may not read in a database: all that a dump would trip over, found beforehand, with the statements that mend it.
//!
//! One login and one query for each database. It changes nothing and decides nothing.

use tokio_postgres::Row;

use crate::engine::Error;
use crate::engine::postgres::catalog::CHOSEN;
use crate::engine::postgres::dump::LOCK_TIMEOUT;
use crate::engine::postgres::session::{column, failed, open};
use crate::sql::Server;
use crate::sql::postgres::{quote_identifier, quote_qualified};

/// Objects of one schema that are named one by one; where there are more, the whole schema is.
const NAMED: u64 = 5;

/// Since this major there is a role that may read everything (`pg_read_all_data`).
pub const READ_ALL_SINCE: u32 = 14;

/// What our role may do in one database.
#[derive(Clone, Debug)]
pub struct Rights {
    /// Our role.
    pub role: String,
    /// The server's major version.
    pub server_major: u32,
    /// Tables that a dump locks, partitioned parents included.
    pub tables: u64,
    /// What it may not read; nothing where a dump would find all doors open.
    pub gaps: Vec<Gap>,
}

/// A kind of thing that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GapKind {
    /// A schema without USAGE.
    Schema,
    /// Tables without SELECT.
    Tables,
    /// Sequences without SELECT.
    Sequences,
    /// Tables whose row-level security would hide rows.
    HiddenRows,
    /// Large objects without SELECT.
    LargeObjects,
}

/// Things of one kind in one schema that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gap {
    /// Of which kind.
    pub kind: GapKind,
    /// Their schema; empty for large objects.
    pub schema: String,
    /// The first of them by name.
    pub names: Vec<String>,
    /// How many there are.
    pub count: u64,
}

impl Gap {
    /// What it is, for people: `table "public"."invoices"`.
    pub fn words(&self) -> String {
        let schema = quote_identifier(&self.schema);
        let (one, many) = match self.kind {
            GapKind::Schema => return format!("schema {schema}"),
            GapKind::LargeObjects => return format!("{} large objects", self.count),
            GapKind::Sequences => ("sequence", "sequences"),
            GapKind::Tables | GapKind::HiddenRows => ("table", "tables"),
        };
        let named: Vec<String> = self.names.iter().map(|name| quote_qualified(&self.schema, name)).collect();
        match self.count {
            1 => format!("{one} {}", named.join(", ")),
            count if count <= NAMED => format!("{many} {}", named.join(", ")),
            count => format!("{count} {many} of schema {schema}"),
        }
    }

    /// The statement that closes it, for a superuser to run in this database.
    pub fn statement(&self, role: &str) -> String {
        let role = quote_identifier(role);
        let on = |kind: &str| {
            let named: Vec<String> = self.names.iter().map(|name| quote_qualified(&self.schema, name)).collect();
            match self.count <= NAMED {
                true => format!("GRANT SELECT ON {kind} {} TO {role};", named.join(", ")),
                false => {
                    let schema = quote_identifier(&self.schema);
                    format!("GRANT SELECT ON ALL {kind}S IN SCHEMA {schema} TO {role};")
                }
            }
        };
        match self.kind {
            GapKind::Schema => format!("GRANT USAGE ON SCHEMA {} TO {role};", quote_identifier(&self.schema)),
            GapKind::Tables => on("TABLE"),
            GapKind::Sequences => on("SEQUENCE"),
            GapKind::HiddenRows => format!("ALTER ROLE {role} BYPASSRLS;"),
            // Not one by one: the next object would be missing again.
            GapKind::LargeObjects => format!("GRANT SELECT ON TABLE pg_catalog.pg_largeobject TO {role};"),
        }
    }
}

/// Logs in to a database and looks at every table, sequence and large object that a dump reads.
pub async fn examine(server: &Server, database: &str) -> Result<Rights, Error> {
    let connection = open(server, database, LOCK_TIMEOUT).await?;
    let rows = connection.query_typed(&query(), &[]).await;
    let rows = rows.map_err(|error| failed("look for missing rights", error))?;
    let mut rights =
        Rights { role: String::new(), server_major: connection.version().major, tables: 0, gaps: Vec::new() };
    for row in &rows {
        take(row, &mut rights)?;
    }
    Ok(rights)
}

fn take(row: &Row, rights: &mut Rights) -> Result<(), Error> {
    let (number, word): (i32, String) = (column(row, 0)?, column(row, 1)?);
    let count = column::<i64>(row, 2)?.unsigned_abs();
    let kind = match number {
        1 => GapKind::Schema,
        2 => GapKind::Tables,
        3 => GapKind::Sequences,
        4 => GapKind::HiddenRows,
        5 => GapKind::LargeObjects,
        _ => {
            (rights.role, rights.tables) = (word, count);
            return Ok(());
        }
    };
    let names: Option<Vec<String>> = column(row, 3)?;
    rights.gaps.push(Gap { kind, schema: word, names: names.unwrap_or_default(), count });
    Ok(())
}

/// One row about the role, and one for each kind and schema with a gap.
///
/// A large object is read through its pages, which takes one right for all, or else through its own rights (PostgreSQL
/// manual, 35.3); `has_largeobject_privilege` is of version 18 only.
fn query() -> String {
    format!(
        "WITH chosen AS MATERIALIZED (
           SELECT c.relkind, c.relname::text AS name, n.nspname::text AS schema, has_schema_privilege(n.oid, 'USAGE') AS enters,
             has_table_privilege(c.oid, 'SELECT') AS reads, c.relrowsecurity AND row_security_active(c.oid) AS hides
           {CHOSEN} AND c.relkind IN ('r', 'p', 'S')),
         gap (kind, schema, name) AS (
           SELECT DISTINCT 1, schema, NULL::text FROM chosen WHERE NOT enters
           UNION ALL SELECT CASE relkind WHEN 'S' THEN 3 ELSE 2 END, schema, name FROM chosen WHERE NOT reads
           UNION ALL SELECT 4, schema, name FROM chosen WHERE hides AND relkind = 'r'
           UNION ALL SELECT 5, '', NULL FROM pg_largeobject_metadata m
             WHERE NOT has_table_privilege('pg_largeobject', 'SELECT') AND NOT current_setting('lo_compat_privileges')::bool
               AND NOT CASE WHEN m.lomacl IS NULL THEN pg_has_role(m.lomowner, 'USAGE') ELSE EXISTS (
                 SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                   AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE'))) END)
         SELECT 0, current_user::text, (SELECT count(*) FROM chosen WHERE relkind <> 'S'), NULL::text[]
         UNION ALL SELECT kind, schema, count(*), (array_agg(name ORDER BY name) FILTER (WHERE name IS NOT NULL))[1:{NAMED}]
           FROM gap GROUP BY kind, schema
         ORDER BY 1, 2"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: GapKind, count: u64, words: &str, statement: &str) {
        let names = (0..count.min(NAMED)).map(|number| format!("t\"{number}")).collect();
        let gap = Gap { kind, schema: "s".to_owned(), names, count };
        assert_eq!((gap.words().as_str(), gap.statement("r").as_str()), (words, statement));
    }

    #[test]
    fn few_things_are_named_and_many_are_a_schema() {
        check(GapKind::Schema, 1, "schema \"s\"", "GRANT USAGE ON SCHEMA \"s\" TO \"r\";");
        let one = "\"s\".\"t\"\"0\"";
        check(GapKind::Tables, 1, &format!("table {one}"), &format!("GRANT SELECT ON TABLE {one} TO \"r\";"));
        let two = format!("{one}, \"s\".\"t\"\"1\"");
        check(GapKind::Sequences, 2, &format!("sequences {two}"), &format!("GRANT SELECT ON SEQUENCE {two} TO \"r\";"));
        let all = "GRANT SELECT ON ALL TABLES IN SCHEMA \"s\" TO \"r\";";
        check(GapKind::Tables, 6, "6 tables of schema \"s\"", all);
        check(GapKind::HiddenRows, 1, &format!("table {one}"), "ALTER ROLE \"r\" BYPASSRLS;");
    }
}
