//! The consistent view: all tables locked, one exported snapshot, and the proof that both mean the same tables.
//!
//! In REPEATABLE READ the snapshot is taken by the first query, not by BEGIN and not by LOCK TABLE (PostgreSQL manual, LOCK).
//! So the tables are locked first: what the snapshot shows of them can then neither be truncated, rewritten, renamed nor
//! altered before it is read. A table that came into being in between is locked afterwards and compared with what the
//! snapshot shows of it; if that differs, all begins anew, a bounded number of times.

use std::collections::HashMap;

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::base::class::Class;
use crate::engine::Error;
use crate::engine::postgres::catalog::{self, Facts, Sequence, Table, TableName};
use crate::engine::postgres::description::SequenceValue;
use crate::engine::postgres::lock_budget::{LockBudget, LockRoom};
use crate::engine::postgres::session::failed;
use crate::engine::postgres::{locks, sequences};

/// How often the view is tried before the changing tables are an error. An attempt takes milliseconds, and under a storm of
/// definitions one in three succeeds.
const ATTEMPTS: u32 = 40;
/// Who locks every table at the same time: the coordinator, and `pg_dump` while it writes the schema.
const LOCKERS: usize = 2;
/// Locks on catalogs, and on tables that come into being meanwhile.
const SPARE_LOCKS: usize = 32;
/// Tables that an error names before it says "and more".
const NAMED: usize = 5;

/// The transaction's mode, as the first statements of every session that reads.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;";

/// A consistent view of one database; it lasts as long as the transaction of the session that took it.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) facts: Facts,
    /// All tables, locked, by OID.
    pub(super) tables: Vec<Table>,
    /// The sequences whose values could not be read, because they are unlogged and this is a standby.
    pub(super) unreadable_sequences: usize,
    pub(super) sequence_values: Vec<SequenceValue>,
    /// The partitions that load through their root.
    pub(super) load_through: HashMap<u32, (String, String)>,
    /// The foreign keys among extensions' configuration tables.
    pub(super) config_references: Vec<(u32, u32)>,
    /// Its entries in the server's lock table.
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) room: Option<LockRoom>,
}

/// What one attempt came to.
enum Attempt {
    Held(Box<Snapshot>),
    /// These tables changed while we looked.
    Changed(Vec<String>),
}

/// Locks, takes the snapshot and checks; on success the session is inside the transaction, on failure outside.
pub(super) async fn take(client: &Client, budget: &LockBudget) -> Result<Snapshot, Error> {
    let mut changed = Vec::new();
    let mut room = None;
    for attempt in 0..ATTEMPTS {
        let names = catalog::names(client).await.map_err(|error| failed("list the tables", error))?;
        let names = names.iter().map(catalog::table_name).collect::<Result<Vec<_>, _>>()?;
        if room.is_none() {
            room = Some(budget.reserve(names.len() * LOCKERS + SPARE_LOCKS).await);
        }
        match try_once(client, &names, attempt.is_multiple_of(2)).await {
            Ok(Attempt::Held(snapshot)) => return Ok(Snapshot { room, ..*snapshot }),
            Ok(Attempt::Changed(tables)) => changed = tables,
            Err(error) => {
                roll_back(client).await?;
                return Err(error);
            }
        }
        roll_back(client).await?;
    }
    let more = changed.len().saturating_sub(NAMED);
    changed.truncate(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Err(Error::Database {
        action: "take a consistent view".to_owned(),
        reason: format!("tables changed in each of {ATTEMPTS} attempts, last of all: {}{more}", changed.join(", ")),
        class: Class::Transient,
        hint: Some("back up while no migration creates, drops or renames tables".to_owned()),
        source: None,
    })
}

async fn roll_back(client: &Client) -> Result<(), Error> {
    client.batch_execute("ROLLBACK").await.map_err(|error| failed("give up a transaction", error))
}

/// One attempt, in one of two ways: everything `at_once`, so that others have the least time to disturb it, or slower and
/// around tables that have vanished from the list.
async fn try_once(client: &Client, names: &[TableName], at_once: bool) -> Result<Attempt, Error> {
    let listed: Vec<&TableName> = names.iter().collect();
    let lock = async {
        match at_once {
            true => client.batch_execute(&format!("{BEGIN} {}", locks::statements(&listed))).await,
            false => {
                client.batch_execute(BEGIN).await?;
                locks::lock_existing(client, &listed).await
            }
        }
    };
    let answers = match at_once {
        true => {
            let (locked, facts, tables, sequences) =
                futures::join!(lock, catalog::facts(client), catalog::tables(client), catalog::sequences(client));
            locked.map(|()| (facts, tables, sequences))
        }
        false => match lock.await {
            Ok(()) => Ok(futures::join!(catalog::facts(client), catalog::tables(client), catalog::sequences(client))),
            Err(error) => Err(error),
        },
    };
    let (facts, tables, sequences) = match answers {
        Ok(answers) => answers,
        Err(error) if locks::is_disturbed(&error) => {
            return Ok(Attempt::Changed(vec!["one that was dropped or locked elsewhere".to_owned()]));
        }
        Err(error) => {
            roll_back(client).await?;
            return Err(locks::explain(client, names, error).await);
        }
    };
    let facts = catalog::facts_in(&facts.map_err(|error| failed("export the snapshot", error))?)?;
    let tables = tables.map_err(|error| failed("read the tables", error))?;
    let tables = tables.iter().map(catalog::table).collect::<Result<Vec<_>, _>>()?;
    let sequences = sequences.map_err(|error| failed("read the sequences", error))?;
    let sequences = sequences.iter().map(catalog::sequence).collect::<Result<Vec<_>, _>>()?;
    let tables = match settle(client, tables).await? {
        Ok(tables) => tables,
        Err(changed) => return Ok(Attempt::Changed(changed)),
    };
    check_rights(client, &facts, &tables, &sequences).await?;
    complete(client, facts, tables, &sequences).await
}

/// Locks the tables that were not listed before, and gives all of them, or the names of those that have changed.
async fn settle(client: &Client, tables: Vec<Table>) -> Result<Result<Vec<Table>, Vec<String>>, Error> {
    let late: Vec<&TableName> = tables.iter().filter(|table| !table.held).map(|table| &table.id).collect();
    if late.is_empty() {
        return Ok(changed(&tables).map_or(Ok(tables), Err));
    }
    let names = || late.iter().map(|table| table.quoted()).collect::<Vec<_>>();
    match client.batch_execute(&locks::statements(&late)).await {
        Ok(()) => {}
        Err(error) if locks::is_disturbed(&error) => return Ok(Err(names())),
        Err(error) => {
            let late: Vec<TableName> = late.iter().map(|table| (*table).clone()).collect();
            roll_back(client).await?;
            return Err(locks::explain(client, &late, error).await);
        }
    }
    let oids: Vec<u32> = late.iter().map(|table| table.oid).collect();
    // Columns of the present, by a function, against those of the snapshot.
    let columns = "
        SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
          AND (pg_identify_object('pg_class'::regclass, a.attrelid, a.attnum)).identity
              IS DISTINCT FROM format('%I.%I.%I', n.nspname, c.relname, a.attname)";
    let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&oids, Type::OID_ARRAY)];
    let (tables, columns) = futures::join!(catalog::tables(client), client.query_typed_one(columns, &parameters));
    let columns = columns.and_then(|row| row.try_get::<_, i64>(0));
    let columns = columns.map_err(|error| failed("compare the columns of new tables", error))?;
    let tables = tables.map_err(|error| failed("read the tables", error))?;
    let tables = tables.iter().map(catalog::table).collect::<Result<Vec<_>, _>>()?;
    if columns != 0 {
        return Ok(Err(names()));
    }
    Ok(changed(&tables).map_or(Ok(tables), Err))
}

/// The tables that are not now what the snapshot shows, or that nothing keeps from changing.
fn changed(tables: &[Table]) -> Option<Vec<String>> {
    let changed = tables.iter().filter(|table| !table.held || !table.unchanged);
    let changed: Vec<String> = changed.map(|table| table.id.quoted()).collect();
    (!changed.is_empty()).then_some(changed)
}

/// Refuses, before a byte is read, what would fail in the end or hide rows.
async fn check_rights(client: &Client, facts: &Facts, tables: &[Table], sequences: &[Sequence]) -> Result<(), Error> {
    let refused = |action: &str, names: Vec<String>, hint| Error::Database {
        action: action.to_owned(),
        reason: names.join(", "),
        class: Class::Refused,
        hint,
        source: None,
    };
    let hiding = tables.iter().filter(|table| table.hides_rows && !table.partitioned);
    let hiding: Vec<String> = hiding.map(|table| table.id.quoted()).collect();
    if !hiding.is_empty() {
        let user = crate::sql::postgres::quote_identifier(&facts.user);
        let action = format!("row-level security hides rows from role {:?} in", facts.user);
        return Err(refused(&action, hiding, Some(format!("ALTER ROLE {user} BYPASSRLS; (by a superuser)"))));
    }
    let unreadable: Vec<&Sequence> = sequences.iter().filter(|sequence| !sequence.readable).collect();
    if unreadable.is_empty() {
        return Ok(());
    }
    let oids: Vec<u32> = unreadable.iter().map(|sequence| sequence.id.oid).collect();
    let names = unreadable.iter().map(|sequence| sequence.id.quoted()).collect();
    Err(refused("permission denied for sequences", names, locks::grants(client, &oids).await?))
}

/// Reads what else belongs to the view.
async fn complete(client: &Client, facts: Facts, tables: Vec<Table>, sequences: &[Sequence]) -> Result<Attempt, Error> {
    let readable: Vec<&Sequence> =
        sequences.iter().filter(|sequence| !facts.in_recovery || sequence.persistence == "p").collect();
    let partitions = async {
        match tables.iter().any(|table| table.partitioned) {
            true => catalog::load_through_root(client).await,
            false => Ok(HashMap::new()),
        }
    };
    let references = async {
        match tables.iter().any(|table| table.config_condition.is_some()) {
            true => catalog::config_references(client).await,
            false => Ok(Vec::new()),
        }
    };
    let (partitions, references, values) = futures::join!(partitions, references, sequences::read(client, &readable));
    let sequence_values = match values {
        Ok(Some(values)) => values,
        Ok(None) => return Ok(Attempt::Changed(vec!["a sequence".to_owned()])),
        Err(error) if locks::is_disturbed(&error) => return Ok(Attempt::Changed(vec!["a sequence".to_owned()])),
        Err(error) => return Err(failed("read the values of sequences", error)),
    };
    Ok(Attempt::Held(Box::new(Snapshot {
        unreadable_sequences: sequences.len() - readable.len(),
        facts,
        tables,
        sequence_values,
        load_through: partitions?,
        config_references: references?,
        room: None,
    })))
}
