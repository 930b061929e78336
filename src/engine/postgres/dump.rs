//! The dump session of PostgreSQL: one coordinator that holds the view, and lanes that read under it.
//!
//! Lane 0 is the coordinator's own session, so that a small tenant needs one connection and no more; the others log in when
//! they are first used, import the snapshot and give their locks back after each run of parts. What a lane cannot lock at
//! once, because someone waits to change the table, is read by the coordinator, which holds the lock already. Must not know
//! what becomes of the parts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;

use crate::base::class::Class;
use crate::engine::postgres::catalog::{Table, TableName};
use crate::engine::postgres::client_program::ClientPrograms;
use crate::engine::postgres::copy_out::{self, CopyOut};
use crate::engine::postgres::description::{LARGE_OBJECTS_PART, PostgresDetails, Relation, table_part};
use crate::engine::postgres::lock_budget::LockBudget;
use crate::engine::postgres::lost::VIEW_LOST;
use crate::engine::postgres::pieces::{self, Cutting, Pieces};
use crate::engine::postgres::schema::{SchemaCache, SchemaDump};
use crate::engine::postgres::session::{self, failed, is_code};
use crate::engine::postgres::snapshot::{self, Snapshot};
use crate::engine::postgres::{database, large_objects, locks, roles};
use crate::engine::{Description, DumpSession, Error, PartKind, PartPlan, PartSink, SCHEMA_PART};
use crate::sql::Server;
use crate::sql::postgres::Connection;

/// The usual size of a piece of a large table: 8192 pages.
pub const SPLIT_BYTES: u64 = 64 << 20;
/// The usual time to wait for a lock that someone else holds.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// What a schema archive is taken to need for itself and for each table: an estimate for progress.
const SCHEMA_BYTES: (u64, u64) = (32 << 10, 2 << 10);
/// From this version on `pg_dump` counts large objects, their comments included, as data.
const LARGE_OBJECTS_ARE_DATA_SINCE: u32 = 17;

/// How a database is dumped.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// Sessions that read at the same time, at least 1; the run of `pg_dump` takes one more while it lasts.
    pub lanes: usize,
    /// How long to wait for a table that someone else has locked.
    pub lock_timeout: Duration,
    /// Tables larger than this are read in pieces of this size.
    pub split_bytes: u64,
    /// Where `pg_dump` is found.
    pub programs: Arc<ClientPrograms>,
    /// The schemas that were dumped in this run.
    pub schemas: Arc<SchemaCache>,
    /// Entries of the server's lock table that all dumps on it may take.
    pub locks: LockBudget,
}

/// How one part is read.
#[derive(Clone, Debug)]
enum Reading {
    Schema,
    /// A COPY statement, and the table that it needs locked: its place in the snapshot.
    Copy {
        statement: String,
        table: Option<usize>,
    },
}

/// A consistent view of one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresDump {
    server: Server,
    database: String,
    lock_timeout: Duration,
    snapshot: Snapshot,
    schema: SchemaDump,
    schemas: Arc<SchemaCache>,
    parts: Vec<PartPlan>,
    readings: Vec<Reading>,
    relations: Vec<Relation>,
    /// Their sessions; the first is the coordinator's and holds the view, the others are in no transaction between two reads.
    lanes: Vec<Mutex<Lane>>,
    /// Until a dump of the schema has shown otherwise.
    schema_stamp_holds: AtomicBool,
    notes: StdMutex<Vec<String>>,
}

#[derive(Debug)]
enum Lane {
    Unused,
    Open(Connection),
    /// It failed, or a read was given up in the middle.
    Lost,
}

impl Lane {
    /// Takes the session out: whoever does not put it back has closed it.
    fn take(&mut self) -> Option<Connection> {
        match std::mem::replace(self, Lane::Lost) {
            Lane::Open(connection) => Some(connection),
            Lane::Unused | Lane::Lost => None,
        }
    }
}

/// Opens a consistent view of `database`: locks, snapshot, catalogs, fingerprint.
///
/// Nothing has been read of its rows when this returns. On failure nothing is left on the server.
pub async fn open_dump(server: &Server, database: &str, options: &DumpOptions) -> Result<PostgresDump, Error> {
    assert!(0 < options.lanes, "a dump has at least one lane");
    let connection = session::open(server, database, options.lock_timeout).await?;
    let program = options.programs.find(server, "pg_dump", connection.version().major).await?;
    let snapshot = snapshot::take(&connection, &options.locks).await?;
    let mut schema = SchemaDump {
        program,
        server: server.clone(),
        database: database.to_owned(),
        snapshot: snapshot.facts.snapshot.clone(),
        lock_timeout: options.lock_timeout,
        server_version_num: snapshot.facts.server_version_num,
        superuser: snapshot.facts.superuser,
        stamp: None,
    };
    let mut notes = Vec::new();
    match schema.find_stamp(&connection).await {
        Ok(stamp) => schema.stamp = stamp,
        // The transaction goes on: without a stamp the schema is dumped.
        Err(error) => notes.push(format!("the schema was dumped without looking whether it has changed: {error}")),
    }
    let mut lanes = vec![Mutex::new(Lane::Open(connection))];
    lanes.resize_with(options.lanes, || Mutex::new(Lane::Unused));
    let mut dump = PostgresDump {
        server: server.clone(),
        database: database.to_owned(),
        lock_timeout: options.lock_timeout,
        snapshot,
        schema,
        schemas: Arc::clone(&options.schemas),
        parts: Vec::new(),
        readings: Vec::new(),
        relations: Vec::new(),
        lanes,
        schema_stamp_holds: AtomicBool::new(true),
        notes: StdMutex::new(notes),
    };
    dump.plan(options.split_bytes);
    Ok(dump)
}

impl PostgresDump {
    /// Lays out the parts: the schema, the tables by OID, the large objects.
    fn plan(&mut self, split_bytes: u64) {
        let tables = self.snapshot.tables.iter().filter(|table| !table.partitioned).count() as u64;
        let estimated = SCHEMA_BYTES.0 + SCHEMA_BYTES.1 * tables;
        self.add(SCHEMA_PART.to_owned(), Reading::Schema, estimated, estimated);
        let cutting = Cutting::new(&self.snapshot, split_bytes);
        let stages = pieces::load_stages(&self.snapshot.tables, &self.snapshot.config_references);
        for at in 0..self.snapshot.tables.len() {
            let table = self.snapshot.tables[at].clone();
            if table.partitioned || self.is_out_of_reach(&table) {
                continue;
            }
            let pieces = cutting.pieces(&table);
            let relation = pieces::relation(&table, pieces.count(), &self.snapshot, &stages);
            self.relations.push(relation);
            self.plan_table(at, &table, pieces);
        }
        if let Some(statement) = large_objects::statement(&self.snapshot.facts) {
            let bytes = self.snapshot.facts.large_object_bytes;
            let reading = Reading::Copy { statement, table: None };
            self.add(LARGE_OBJECTS_PART.to_owned(), reading, bytes, bytes);
        }
    }

    fn plan_table(&mut self, at: usize, table: &Table, pieces: Pieces) {
        let whole_bytes = table.bytes + table.toast_bytes;
        let encoding = self.snapshot.facts.encoding.clone();
        let reading = |pages| Reading::Copy { statement: pieces::statement(table, pages, &encoding), table: Some(at) };
        match pieces {
            Pieces::None => {}
            Pieces::Whole => self.add(table_part(table.id.oid, None), reading(None), whole_bytes, whole_bytes),
            Pieces::Ranges(ranges) => {
                let each = whole_bytes / ranges.len() as u64;
                for (number, pages) in (0..).zip(ranges) {
                    self.add(table_part(table.id.oid, Some(number)), reading(Some(pages)), each, whole_bytes);
                }
            }
        }
    }

    fn add(&mut self, name: String, reading: Reading, estimated_bytes: u64, estimated_whole_bytes: u64) {
        let (kind, stamp) = match reading {
            Reading::Schema => (PartKind::Bytes, self.schema.stamp),
            Reading::Copy { .. } => (PartKind::Rows, None),
        };
        self.parts.push(PartPlan { name, kind, estimated_bytes, estimated_whole_bytes, stamp });
        self.readings.push(reading);
    }

    /// An unlogged table has no rows on a standby and cannot be read there (PostgreSQL manual, CREATE TABLE).
    fn is_out_of_reach(&self, table: &Table) -> bool {
        self.snapshot.facts.in_recovery && table.persistence == "u"
    }

    async fn read_schema(&self, part: usize, sink: &mut dyn PartSink) -> Result<(), Error> {
        let read = self.schema.read(part, &self.schemas, sink).await?;
        self.schema_stamp_holds.store(read.stamp_holds, Ordering::Relaxed);
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.extend(read.warnings.lines().map(|line| format!("the schema dump warns: {line}")));
        Ok(())
    }

    async fn read_rows(&self, lane: usize, copies: &[CopyOut], sink: &mut dyn PartSink) -> Result<(), Error> {
        if lane == 0 || !self.read_beside(lane, copies, sink).await? {
            self.read_by_coordinator(copies, sink).await?;
        }
        Ok(())
    }

    async fn read_by_coordinator(&self, copies: &[CopyOut], sink: &mut dyn PartSink) -> Result<(), Error> {
        let mut lane = self.lanes[0].lock().await;
        let connection = lane.take().ok_or_else(view_is_lost)?;
        let prepared = copy_out::prepare(&connection, copies).await;
        let prepared = prepared.map_err(|error| failed("prepare to read tables", error))?;
        copy_out::read(&connection, copies, prepared, sink).await?;
        *lane = Lane::Open(connection);
        Ok(())
    }

    /// Reads on a lane of its own; false where a table could not be locked at once, and then nothing has been read.
    async fn read_beside(&self, lane: usize, copies: &[CopyOut], sink: &mut dyn PartSink) -> Result<bool, Error> {
        let mut lane = self.lanes[lane].lock().await;
        let connection = match lane.take() {
            Some(connection) => connection,
            None => session::open(&self.server, &self.database, self.lock_timeout).await?,
        };
        // The snapshot comes first in its transaction, and a lock before the statement that would wait for it.
        let begin = format!(
            "{} SET TRANSACTION SNAPSHOT '{}'; {}",
            snapshot::BEGIN,
            self.snapshot.facts.snapshot,
            locks::at_once(&self.tables_of(copies))
        );
        let (begun, prepared) =
            futures::join!(connection.batch_execute(&begin), copy_out::prepare(&connection, copies));
        match begun {
            Ok(()) => {}
            Err(error) if is_code(&error, &SqlState::LOCK_NOT_AVAILABLE) => {
                connection.batch_execute("ROLLBACK").await.map_err(|error| failed("leave a transaction", error))?;
                *lane = Lane::Open(connection);
                return Ok(false);
            }
            Err(error) if is_gone(&error) => return Err(view_is_lost()),
            Err(error) => return Err(failed("import the snapshot", error)),
        }
        let prepared = prepared.map_err(|error| failed("prepare to read tables", error))?;
        copy_out::read(&connection, copies, prepared, sink).await?;
        // A statement that failed unseen would make this SELECT fail.
        connection
            .batch_execute("SELECT 1; COMMIT")
            .await
            .map_err(|error| failed("end a lane's transaction", error))?;
        *lane = Lane::Open(connection);
        Ok(true)
    }

    fn tables_of(&self, copies: &[CopyOut]) -> Vec<&TableName> {
        let places = copies.iter().filter_map(|copy| match self.readings.get(copy.part) {
            Some(Reading::Copy { table, .. }) => *table,
            _ => None,
        });
        let mut places: Vec<usize> = places.collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().map(|at| &self.snapshot.tables[at].id).collect()
    }

    /// What a message calls a part.
    fn told(&self, part: usize, table: Option<usize>) -> String {
        let name = &self.parts[part].name;
        table.map_or_else(|| name.clone(), |at| format!("{} ({name})", self.snapshot.tables[at].id.quoted()))
    }

    fn notes(&self) -> Vec<String> {
        let facts = &self.snapshot.facts;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unlogged = self.snapshot.tables.iter().filter(|table| self.is_out_of_reach(table));
        let unlogged: Vec<String> = unlogged.map(|table| table.id.quoted()).collect();
        if !unlogged.is_empty() {
            notes.push(format!(
                "the source is a standby, where unlogged tables have no rows: not included: {}",
                unlogged.join(", ")
            ));
        }
        if self.snapshot.unreadable_sequences > 0 {
            let count = self.snapshot.unreadable_sequences;
            notes.push(format!("the source is a standby: the values of {count} unlogged sequences are not included"));
        }
        if facts.foreign_tables > 0 {
            let count = facts.foreign_tables;
            notes.push(format!("the rows of {count} foreign tables live on other servers and are not included"));
        }
        if !facts.reads_passwords {
            notes.push(format!("role {:?} may not read the verifiers of passwords: they are not included", facts.user));
        }
        notes
    }
}

/// A snapshot lasts as long as the transaction that exported it: up to 16 the server calls its name invalid, then undefined.
fn is_gone(error: &tokio_postgres::Error) -> bool {
    is_code(error, &SqlState::INVALID_PARAMETER_VALUE) || is_code(error, &SqlState::UNDEFINED_OBJECT)
}

fn view_is_lost() -> Error {
    Error::Database {
        action: "read under the snapshot".to_owned(),
        reason: VIEW_LOST.to_owned(),
        class: Class::Transient,
        hint: None,
        source: None,
    }
}

#[async_trait]
impl DumpSession for PostgresDump {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn parts(&self) -> &[PartPlan] {
        &self.parts
    }

    async fn read(&self, lane: usize, parts: &[usize], sink: &mut dyn PartSink) -> Result<(), Error> {
        let mut copies: Vec<CopyOut> = Vec::new();
        for &part in parts {
            match &self.readings[part] {
                Reading::Copy { statement, table } => {
                    copies.push(CopyOut { part, name: self.told(part, *table), statement: statement.clone() });
                }
                Reading::Schema => {
                    if !copies.is_empty() {
                        self.read_rows(lane, &std::mem::take(&mut copies), sink).await?;
                    }
                    self.read_schema(part, sink).await?;
                }
            }
        }
        if copies.is_empty() { Ok(()) } else { self.read_rows(lane, &copies, sink).await }
    }

    fn stamp_holds(&self, part: usize) -> bool {
        !matches!(self.readings[part], Reading::Schema) || self.schema_stamp_holds.load(Ordering::Relaxed)
    }

    async fn finish(self: Box<Self>) -> Result<Description, Error> {
        let connection = self.lanes[0].lock().await.take().ok_or_else(view_is_lost)?;
        let facts = &self.snapshot.facts;
        // The first statement after the parts: it fails if the transaction, and with it the view, has not lasted.
        let (database, roles, large_objects) = futures::try_join!(
            database::read(&connection, facts.server_version_num),
            roles::read(&connection, facts.server_version_num, facts.reads_passwords),
            large_objects::read(&connection, facts),
        )?;
        connection.batch_execute("COMMIT").await.map_err(|error| failed("end the transaction", error))?;
        let details = PostgresDetails {
            server_version_num: facts.server_version_num,
            pg_dump_version: self.schema.program.version.clone(),
            from_standby: facts.in_recovery,
            lc_monetary: facts.lc_monetary.clone(),
            database,
            roles,
            relations: self.relations.clone(),
            sequences: self.snapshot.sequence_values.clone(),
            large_objects: facts.large_objects,
            large_object_page_bytes: facts.large_object_page_bytes,
            large_object_metadata: large_objects.metadata,
        };
        let mut notes = self.notes();
        if LARGE_OBJECTS_ARE_DATA_SINCE <= self.schema.program.major {
            let unreadable = large_objects.unreadable_comments.iter();
            notes.extend(
                unreadable.map(|oid| format!("the comment of large object {oid} is not UTF-8 and not included")),
            );
        }
        Ok(Description {
            engine: "postgresql".to_owned(),
            version: connection.version().to_string(),
            server: self.server.name.clone(),
            source: self.database.clone(),
            details: serde_json::to_value(&details).expect("details hold only strings as keys"),
            notes,
        })
    }
}
