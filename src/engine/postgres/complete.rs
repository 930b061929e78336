//! What comes after the rows: values of sequences, and statistics for the planner.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use tokio_postgres::Client;

use crate::engine::Error;
use crate::engine::postgres::description::{PostgresDetails, SequenceValue};
use crate::engine::postgres::load::Lanes;
use crate::engine::postgres::refusal::{blocked, refused};
use crate::sql::postgres::quote_qualified;

/// Sequences that are set by one statement.
const SEQUENCES_PER_STATEMENT: usize = 500;
/// Tables, and bytes of tables, that are analysed by one statement.
const TABLES_PER_ANALYZE: usize = 50;
const BYTES_PER_ANALYZE: i64 = 64 << 20;

/// Sets every sequence to the recorded value. `is_partial` allows sequences to be missing.
pub(super) async fn set_sequences(client: &Client, sequences: &[SequenceValue], is_partial: bool) -> Result<(), Error> {
    let query = "SELECT name FROM unnest($1::text[], $2::int8[], $3::bool[]) AS s(name, value, is_called) \
        WHERE CASE WHEN pg_catalog.to_regclass(name) IS NULL THEN true \
        ELSE pg_catalog.setval(pg_catalog.to_regclass(name), value, is_called) IS NULL END";
    for batch in sequences.chunks(SEQUENCES_PER_STATEMENT) {
        let names: Vec<String> = batch.iter().map(|one| quote_qualified(&one.schema, &one.name)).collect();
        let values: Vec<i64> = batch.iter().map(|one| one.last_value).collect();
        let are_called: Vec<bool> = batch.iter().map(|one| one.is_called).collect();
        let missing = client.query(query, &[&names, &values, &are_called]).await;
        let missing = missing.map_err(|error| refused("set the values of sequences", error))?;
        if let Some(row) = missing.first().filter(|_| !is_partial) {
            let name: String = row.get(0);
            return Err(blocked(format!("set the value of sequence {name}"), "the schema did not create it", None));
        }
    }
    Ok(())
}

/// Deletes the rows that `CREATE EXTENSION` put into configuration tables where the backup has rows of its own.
///
/// Only what the extension's own filter calls user data: that is what a backup holds of such a table.
pub(super) async fn empty_configuration_tables(client: &Client, details: &PostgresDetails) -> Result<(), Error> {
    let mut relations: Vec<_> = details.relations.iter().filter(|relation| relation.extension_config).collect();
    // The tables that point to others come last in the load, so they are emptied first.
    relations.sort_by_key(|relation| std::cmp::Reverse(relation.load_stage));
    for relation in relations {
        let table = quote_qualified(&relation.schema, &relation.name);
        let failed = |error| refused(format!("empty the configuration table {table}"), error);
        let query = "SELECT c.condition FROM pg_catalog.pg_extension e, \
            unnest(e.extconfig, e.extcondition) AS c(relation, condition) \
            WHERE c.relation = pg_catalog.to_regclass($1)";
        let row = client.query_opt(query, &[&table]).await.map_err(failed)?;
        let Some(row) = row else { continue };
        let condition: Option<String> = row.get(0);
        let delete = format!("DELETE FROM ONLY {table} {}", condition.unwrap_or_default());
        client.batch_execute(&delete).await.map_err(failed)?;
    }
    Ok(())
}

/// Collects statistics of all tables, on all lanes. What fails is returned as notes: no row depends on it.
///
/// Tables with foreign children are left out, their own partitions are not: analysing them would connect to other servers.
pub(super) async fn analyze(lanes: &Lanes) -> Result<Vec<String>, Error> {
    let statements = analyze_statements(&*lanes.open(0).await?).await?;
    let next = AtomicUsize::new(0);
    let (next, statements) = (&next, &statements);
    let workers = (0..lanes.count().min(statements.len())).map(|lane| async move {
        let connection = lanes.open(lane).await?;
        let mut notes = Vec::new();
        while let Some(statement) = statements.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = connection.batch_execute(statement).await {
                notes.push(format!("some tables have no statistics yet: {}", refused("analyze", error)));
            }
        }
        Ok(notes)
    });
    let notes: Result<Vec<Vec<String>>, Error> = join_all(workers).await.into_iter().collect();
    Ok(notes?.concat())
}

async fn analyze_statements(client: &Client) -> Result<Vec<String>, Error> {
    // ANALYZE of a partitioned table analyses its partitions too; of a parent with foreign children, those as well.
    let query = "WITH RECURSIVE tainted AS ( \
            SELECT i.inhparent AS oid FROM pg_catalog.pg_inherits i \
            JOIN pg_catalog.pg_class f ON f.oid = i.inhrelid WHERE f.relkind = 'f' \
            UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN tainted t ON t.oid = i.inhrelid) \
        SELECT n.nspname::text, c.relname::text, \
            coalesce((SELECT sum(pg_catalog.pg_relation_size(p.relid)) FROM pg_catalog.pg_partition_tree(c.oid) p), \
                pg_catalog.pg_relation_size(c.oid))::int8 AS bytes \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' \
            AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
            AND c.oid NOT IN (SELECT oid FROM tainted) \
            AND (NOT c.relispartition OR (c.relkind = 'r' AND pg_catalog.pg_partition_root(c.oid) IN (SELECT oid FROM tainted))) \
        ORDER BY bytes DESC";
    let rows = client.query(query, &[]).await.map_err(|error| refused("list the tables to analyze", error))?;
    let mut statements = Vec::new();
    let mut batch: Vec<String> = Vec::new();
    let mut batch_bytes = 0;
    for row in rows {
        let (schema, name, bytes): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
        if !batch.is_empty() && (batch.len() == TABLES_PER_ANALYZE || batch_bytes + bytes > BYTES_PER_ANALYZE) {
            statements.push(format!("ANALYZE {}", std::mem::take(&mut batch).join(", ")));
            batch_bytes = 0;
        }
        batch.push(quote_qualified(&schema, &name));
        batch_bytes += bytes;
    }
    if !batch.is_empty() {
        statements.push(format!("ANALYZE {}", batch.join(", ")));
    }
    Ok(statements)
}
