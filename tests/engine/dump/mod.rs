//! Dumps of a real PostgreSQL: each numbered point of the checklist that concerns dumping is a test below.

mod consistency;
mod objects;
mod recording;
mod rights;
mod schema;
mod shapes;
mod sizes;
mod standby;
mod text;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dbkeeper::engine::postgres::client_program::ClientPrograms;
use dbkeeper::engine::postgres::description::{PostgresDetails, Relation, table_part};
use dbkeeper::engine::postgres::dump::{DumpOptions, PostgresDump, open_dump};
use dbkeeper::engine::postgres::lock_budget::LockBudget;
use dbkeeper::engine::{DumpSession, Error};
use dbkeeper::sql::Server;

use self::recording::Recording;

/// One record of all client programs for all tests, as a job has it.
fn programs() -> Arc<ClientPrograms> {
    static PROGRAMS: OnceLock<Arc<ClientPrograms>> = OnceLock::new();
    Arc::clone(PROGRAMS.get_or_init(|| Arc::new(ClientPrograms::new(Vec::new()))))
}

/// Three lanes, and pieces so small that tables of tests are cut.
fn options() -> DumpOptions {
    DumpOptions {
        lanes: 3,
        lock_timeout: Duration::from_secs(20),
        split_bytes: 64 << 10,
        programs: programs(),
        schemas: Arc::default(),
        locks: LockBudget::new(u32::MAX),
    }
}

/// Everything that one dump gave.
#[derive(Debug)]
struct Dumped {
    parts: Recording,
    details: PostgresDetails,
    notes: Vec<String>,
}

impl Dumped {
    fn relation(&self, name: &str) -> &Relation {
        let found = self.details.relations.iter().find(|relation| relation.name == name);
        found.unwrap_or_else(|| panic!("table {name:?} is not in the dump"))
    }

    fn has(&self, name: &str) -> bool {
        self.details.relations.iter().any(|relation| relation.name == name)
    }

    /// The rows of a table, piece after piece: the order of the server.
    fn raw_rows(&self, name: &str) -> Vec<Vec<u8>> {
        let relation = self.relation(name);
        let names: Vec<String> = match relation.pieces {
            0 => Vec::new(),
            1 => vec![table_part(relation.id, None)],
            pieces => (0..pieces).map(|piece| table_part(relation.id, Some(piece))).collect(),
        };
        names.iter().flat_map(|name| self.parts.pieces(name).to_vec()).collect()
    }

    /// The same as text, without line ends.
    fn rows(&self, name: &str) -> Vec<String> {
        let text = |row: Vec<u8>| String::from_utf8(row).expect("UTF-8").trim_end_matches('\n').to_owned();
        self.raw_rows(name).into_iter().map(text).collect()
    }
}

/// Reads all parts of an open dump over all its lanes at once, and finishes it.
async fn read_all(dump: PostgresDump) -> Result<Dumped, Error> {
    let lanes = dump.lanes();
    let reads = (0..lanes).map(|lane| {
        let dump = &dump;
        async move {
            let mut sink = Recording::of(dump.parts());
            let parts: Vec<usize> = (0..dump.parts().len()).filter(|part| part % lanes == lane).collect();
            for run in parts.chunks(3) {
                dump.read(lane, run, &mut sink).await?;
            }
            Ok::<_, Error>(sink)
        }
    });
    let sinks = futures::future::try_join_all(reads).await?;
    let parts = Recording::together(sinks);
    let description = Box::new(dump).finish().await?;
    let details = serde_json::from_value(description.details).expect("details as they are stored");
    Ok(Dumped { parts, details, notes: description.notes })
}

async fn dump_with(server: &Server, database: &str, options: &DumpOptions) -> Result<Dumped, Error> {
    read_all(open_dump(server, database, options).await?).await
}

/// A dump as superuser, with the options of all tests.
async fn dump(server: &Server, database: &str) -> Dumped {
    dump_with(server, database, &options()).await.unwrap_or_else(|error| panic!("dump: {error}; {:?}", error.hint()))
}
