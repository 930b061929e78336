//! The locks that keep tables as they are while a dump reads them, and who is in their way.
//!
//! ACCESS SHARE is the weakest lock: it stops nothing but TRUNCATE, DROP, rewrites and renames. Must not know snapshots.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::base::class::Class;
use crate::engine::Error;
use crate::engine::postgres::catalog::TableName;
use crate::engine::postgres::session::{column, failed, is_code};
use crate::sql::postgres::{quote_identifier, reason};

/// Tables that one LOCK statement names.
const LOCK_BATCH: usize = 1000;
/// Culprits that an error names, and tables that a hint names, before it says "and more".
const NAMED: usize = 5;

/// Statements that lock these tables, but neither their children nor their partitions.
pub(super) fn statements(tables: &[&TableName]) -> String {
    tables.chunks(LOCK_BATCH).map(|batch| format!("{} IN ACCESS SHARE MODE;", lock(batch))).collect()
}

/// The statement that locks these tables at once or fails at once.
pub(super) fn at_once(tables: &[&TableName]) -> String {
    if tables.is_empty() { String::new() } else { format!("{} IN ACCESS SHARE MODE NOWAIT;", lock(tables)) }
}

fn lock(tables: &[&TableName]) -> String {
    let names: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.quoted())).collect();
    format!("LOCK TABLE {}", names.join(", "))
}

/// Locks those of the tables that still exist, inside the open transaction; takes no snapshot.
///
/// A batch that names a missing table is halved until only that one is left out.
pub(super) async fn lock_existing(client: &Client, tables: &[&TableName]) -> Result<(), tokio_postgres::Error> {
    let mut open: Vec<&[&TableName]> = tables.chunks(LOCK_BATCH).rev().collect();
    while let Some(batch) = open.pop() {
        let statement = format!("SAVEPOINT batch; {} RELEASE SAVEPOINT batch", statements(batch));
        match client.batch_execute(&statement).await {
            Ok(()) => {}
            Err(error) if is_missing(&error) => {
                client.batch_execute("ROLLBACK TO SAVEPOINT batch; RELEASE SAVEPOINT batch").await?;
                let (left, right) = batch.split_at(batch.len() / 2);
                open.extend([right, left].into_iter().filter(|half| !half.is_empty() && half.len() < batch.len()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// True where someone changed tables at the same moment, so that another attempt is in place: a name means no table any more
/// (dropped, renamed, taken by a view), or they locked the same tables in another order and the server chose us to give way.
pub(super) fn is_disturbed(error: &tokio_postgres::Error) -> bool {
    is_missing(error) || is_code(error, &SqlState::T_R_DEADLOCK_DETECTED)
}

/// True where a name means no table any more: dropped, renamed, or taken by a view.
fn is_missing(error: &tokio_postgres::Error) -> bool {
    let codes = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME, SqlState::WRONG_OBJECT_TYPE];
    codes.iter().any(|code| is_code(error, code))
}

/// Says why tables could not be locked; needs a session without an open transaction.
pub(super) async fn explain(client: &Client, tables: &[TableName], error: tokio_postgres::Error) -> Error {
    let action = format!("lock {} tables", tables.len());
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let told = if is_code(&error, &SqlState::LOCK_NOT_AVAILABLE) {
        blockers(client, &oids).await
    } else if is_code(&error, &SqlState::OUT_OF_MEMORY) {
        lock_table(client, tables.len()).await
    } else if is_code(&error, &SqlState::INSUFFICIENT_PRIVILEGE) {
        grants(client, &oids).await.map(|hint| (String::new(), hint))
    } else {
        Ok((String::new(), None))
    };
    let Ok((facts, hint)) = told else { return failed(action, error) };
    let reason = if facts.is_empty() { reason(&error) } else { format!("{}: {facts}", reason(&error)) };
    let passing = is_code(&error, &SqlState::LOCK_NOT_AVAILABLE) || is_code(&error, &SqlState::OUT_OF_MEMORY);
    match failed(action, error) {
        Error::Database { action, class, hint: usual, source, .. } => {
            let class = if passing { Class::Transient } else { class };
            Error::Database { action, reason, class, hint: hint.or(usual), source }
        }
        other => other,
    }
}

/// Who holds, or waits for, a lock that keeps us out: process, role, state and age, never the statement.
async fn blockers(client: &Client, oids: &[u32]) -> Result<(String, Option<String>), Error> {
    let query = "
        SELECT n.nspname::text, c.relname::text, l.pid, l.granted, coalesce(a.usename::text, '?'), coalesce(a.state, '?'),
          coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::int8,
          ARRAY(SELECT p::text FROM unnest(CASE WHEN l.pid IS NULL OR l.granted THEN '{}' ELSE pg_blocking_pids(l.pid) END) p)
        FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY ($1)
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND l.pid IS DISTINCT FROM pg_backend_pid()
        ORDER BY l.granted DESC, c.oid";
    let rows = client.query_typed(query, &[(&oids, Type::OID_ARRAY)]).await;
    let rows = rows.map_err(|error| failed("look for the blocker", error))?;
    let mut facts = Vec::new();
    let mut first = None;
    for row in rows.iter().take(NAMED) {
        let table = format!("{}.{}", quote_identifier(column(row, 0)?), quote_identifier(column(row, 1)?));
        let (granted, role, state): (bool, &str, &str) = (column(row, 3)?, column(row, 4)?, column(row, 5)?);
        let seconds: i64 = column(row, 6)?;
        let Some(pid) = column::<Option<i32>>(row, 2)? else {
            facts.push(format!("{table} is locked by a prepared transaction (see pg_prepared_xacts)"));
            continue;
        };
        first = first.or(Some(pid));
        let who = format!("process {pid} (role {role:?}, {state}, in a transaction for {seconds} s)");
        let waits_for: Vec<&str> = column(row, 7)?;
        facts.push(match (granted, waits_for.as_slice()) {
            (true, _) => format!("{table} is locked by {who}"),
            (false, []) => format!("{table} is wanted by {who}"),
            (false, pids) => format!("{table} is wanted by {who}, which waits for process {}", pids.join(", ")),
        });
    }
    let facts = if facts.is_empty() { "the blocker has gone since".to_owned() } else { facts.join("; ") };
    let hint = first.map(|pid| format!("wait for it, or end it with: SELECT pg_terminate_backend({pid});"));
    Ok((facts, hint))
}

/// The size of the server's lock table, which all databases and all their dumps share (PostgreSQL manual, 20.12).
async fn lock_table(client: &Client, tables: usize) -> Result<(String, Option<String>), Error> {
    let query = "SELECT current_setting('max_locks_per_transaction')::int8,
        current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8";
    let row = client.query_typed_one(query, &[]).await.map_err(|error| failed("read the server's limits", error))?;
    let (each, sessions): (i64, i64) = (column(&row, 0)?, column(&row, 1)?);
    let facts = format!(
        "this database needs {tables} locks; the server has room for about {} in all (max_locks_per_transaction = {each})",
        each.saturating_mul(sessions)
    );
    let wanted = i64::try_from(tables).unwrap_or(i64::MAX) / sessions.max(1) * 2 + 64;
    let hint = format!(
        "set max_locks_per_transaction = {} in postgresql.conf and restart the server, or back up fewer databases at once",
        wanted.max(each.saturating_mul(2))
    );
    Ok((facts, Some(hint)))
}

/// The statements that would let us read these tables and sequences; `None` where nothing is missing.
pub(super) async fn grants(client: &Client, oids: &[u32]) -> Result<Option<String>, Error> {
    let query = "
        SELECT n.nspname::text, c.relname::text, c.relkind = 'S', NOT has_schema_privilege(n.oid, 'USAGE'),
          NOT has_table_privilege(c.oid, 'SELECT'), current_user::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY ($1)
          AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
        ORDER BY c.oid";
    let rows = client.query_typed(query, &[(&oids, Type::OID_ARRAY)]).await;
    let rows = rows.map_err(|error| failed("look for missing rights", error))?;
    let Some(first) = rows.first() else { return Ok(None) };
    let user = quote_identifier(column(first, 5)?);
    let mut schemas: Vec<String> = Vec::new();
    let mut statements: Vec<String> = Vec::new();
    for row in &rows {
        let schema = quote_identifier(column(row, 0)?);
        if column(row, 3)? && !schemas.contains(&schema) {
            statements.push(format!("GRANT USAGE ON SCHEMA {schema} TO {user};"));
            schemas.push(schema.clone());
        }
        if column(row, 4)? {
            let kind = if column(row, 2)? { "SEQUENCE" } else { "TABLE" };
            let name = quote_identifier(column(row, 1)?);
            statements.push(format!("GRANT SELECT ON {kind} {schema}.{name} TO {user};"));
        }
    }
    let more = statements.len().saturating_sub(NAMED);
    statements.truncate(NAMED);
    let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
    Ok(Some(format!(
        "{}{more} or, from PostgreSQL 14 on, for all: GRANT pg_read_all_data TO {user};",
        statements.join(" ")
    )))
}
