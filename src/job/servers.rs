//! What the servers of a run can take, asked once before anything starts: versions, sizes, connections, client programs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::base::class::Class;
use crate::engine;
use crate::engine::postgres::client_program::ClientPrograms;
use crate::engine::postgres::lock_budget::LockBudget;
use crate::fleet::Database;
use crate::job::{chain, settled};
use crate::run::report::{TargetReport, TargetResult};
use crate::sql::Server;
use crate::sql::postgres::{Connection, connect, reason};

/// Connections that are left to the application beside those in use when the run begins.
const SPARE_CONNECTIONS: usize = 3;

/// The share of the server's lock table that dumps may take; the rest is the application's.
const LOCK_SHARE_PERCENT: u32 = 60;

/// A dump needs its own connection and one for `pg_dump`.
const LEAST_CONNECTIONS: usize = 2;

/// The server walks through all files of a database to tell its size. So only the databases of the run are asked for, and
/// many of them on several sessions at once.
const SIZES_PER_SESSION: usize = 100;
const SIZE_SESSIONS: usize = 4;

/// How often, and how many times, a server that went away is asked whether it is back: two minutes, for a restart with
/// recovery.
const RETURN_CHECK_EVERY: Duration = Duration::from_secs(1);
const RETURN_CHECKS: u32 = 120;

/// One server that answered.
struct Capacity {
    connections: usize,
    locks: u32,
    sizes: HashMap<String, u64>,
}

/// One server that did not.
struct Unusable {
    class: Class,
    reason: String,
    hint: Option<String>,
}

/// What was found out about each server of a run, by its name.
pub struct Facts {
    servers: BTreeMap<String, Result<Capacity, Unusable>>,
}

impl Facts {
    /// Asks every server that one of `databases` is on.
    ///
    /// A server that does not answer fails its own targets only. A client program that is missing or too old fails the
    /// run before anything starts.
    pub async fn examine(databases: &[Database], programs: &ClientPrograms) -> Result<Self, engine::Error> {
        let mut servers: BTreeMap<String, Result<Capacity, Unusable>> = BTreeMap::new();
        for database in databases {
            let server = &database.server;
            if !servers.contains_key(&server.name) {
                let its_own = databases.iter().filter(|other| other.server.name == server.name);
                let names: Vec<&str> = its_own.map(|database| database.name.as_str()).collect();
                servers.insert(server.name.clone(), Capacity::ask(server, &names, programs).await?);
            }
        }
        Ok(Self { servers })
    }

    /// Connections that the run may use on all servers together.
    pub fn connections_in_all(&self) -> usize {
        self.servers.values().flatten().map(|capacity| capacity.connections).sum()
    }

    /// The databases of the run whose sizes are known, at least 1.
    pub fn databases_in_all(&self) -> usize {
        self.servers.values().flatten().map(|capacity| capacity.sizes.len()).sum::<usize>().max(1)
    }

    /// One budget of connections for each server.
    pub fn budgets(&self) -> HashMap<String, Arc<Semaphore>> {
        let budget = |(name, capacity): (&String, &Result<Capacity, Unusable>)| {
            let capacity = capacity.as_ref().ok()?;
            Some((name.clone(), Arc::new(Semaphore::new(capacity.connections))))
        };
        self.servers.iter().filter_map(budget).collect()
    }

    /// One budget of locks for each server.
    pub fn lock_budgets(&self) -> HashMap<String, LockBudget> {
        let budget = |(name, capacity): (&String, &Result<Capacity, Unusable>)| {
            Some((name.clone(), LockBudget::new(capacity.as_ref().ok()?.locks)))
        };
        self.servers.iter().filter_map(budget).collect()
    }

    /// The databases that can be worked on with their sizes, the largest first, and a failure for each of the others.
    pub fn split(&self, databases: Vec<Database>) -> (Vec<(Database, u64)>, Vec<TargetReport>) {
        let (mut ready, mut failed) = (Vec::new(), Vec::new());
        for database in databases {
            match &self.servers[&database.server.name] {
                Ok(capacity) => {
                    let bytes = capacity.sizes.get(&database.name).copied().unwrap_or(0);
                    ready.push((database, bytes));
                }
                Err(unusable) => {
                    let (class, hint) = (Some(unusable.class), unusable.hint.clone());
                    let reason = Some(unusable.reason.clone());
                    let report = TargetReport::new(database.target, TargetResult::Failed, reason);
                    failed.push(TargetReport { class, hint, ..report });
                }
            }
        }
        ready.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        (ready, failed)
    }
}

/// Waits until a server that went away answers again; false where it does not in time, or `stop` is cancelled.
pub(super) async fn is_back(server: &Server, stop: &CancellationToken, alive: impl Fn()) -> bool {
    for _ in 0..RETURN_CHECKS {
        alive();
        if stop.is_cancelled() {
            return false;
        }
        if connect(server, &server.maintenance_database).await.is_ok() {
            return true;
        }
        tokio::time::sleep(RETURN_CHECK_EVERY).await;
    }
    false
}

impl Capacity {
    async fn ask(
        server: &Server,
        databases: &[&str],
        programs: &ClientPrograms,
    ) -> Result<Result<Self, Unusable>, engine::Error> {
        let client = match connect(server, &server.maintenance_database).await {
            Ok(client) => client,
            Err(error) => return Ok(Err(Unusable::unreached(&error))),
        };
        programs.find(server, "pg_dump", client.version().major).await?;
        let room = match client.query_one(ROOM, &[]).await {
            Ok(room) => room,
            Err(error) => return Ok(Err(Unusable::refused(&error))),
        };
        let free = usize::try_from(room.get::<_, i32>(0)).unwrap_or(0).saturating_sub(SPARE_CONNECTIONS);
        let connections = server.connections.min(free).max(LEAST_CONNECTIONS);
        let locks = u32::try_from(room.get::<_, i64>(1)).unwrap_or(u32::MAX) / 100 * LOCK_SHARE_PERCENT;
        let sizes = sizes(server, client, databases, connections.min(SIZE_SESSIONS)).await;
        Ok(sizes.map(|sizes| Self { connections, locks, sizes }))
    }
}

impl Unusable {
    fn unreached(error: &crate::sql::postgres::Error) -> Self {
        Self { class: settled(error.class()), reason: chain(error), hint: error.hint() }
    }

    fn refused(error: &tokio_postgres::Error) -> Self {
        Self { class: Class::Database, reason: reason(error), hint: None }
    }
}

/// The sizes of these databases, by name; `first` is an open session, and no more than `sessions` are used.
async fn sizes(
    server: &Server,
    first: Connection,
    databases: &[&str],
    sessions: usize,
) -> Result<HashMap<String, u64>, Unusable> {
    let sessions = databases.len().div_ceil(SIZES_PER_SESSION).clamp(1, sessions);
    let mut first = Some(first);
    let asked = databases.chunks(databases.len().div_ceil(sessions).max(1)).map(|names| {
        let open = first.take();
        async move {
            let client = match open {
                Some(client) => client,
                None => connect(server, &server.maintenance_database).await.map_err(|e| Unusable::unreached(&e))?,
            };
            client.query(SIZES, &[&names]).await.map_err(|error| Unusable::refused(&error))
        }
    });
    let rows = futures::future::try_join_all(asked).await?;
    // A name in another encoding is nobody's here.
    let size = |row: &tokio_postgres::Row| {
        Some((row.try_get(0).ok()?, u64::try_from(row.try_get::<_, i64>(1).ok()?).unwrap_or(0)))
    };
    Ok(rows.iter().flatten().filter_map(size).collect())
}

/// Connections that are free now, those kept for superusers left out; entries of the shared lock table.
const ROOM: &str =
    "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - (select count(*) from pg_stat_activity where coalesce(backend_type, 'client backend') = 'client backend')::int,
    current_setting('max_locks_per_transaction')::bigint
    * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)";

/// Sizes decide only about order and lanes: a database whose size may not be read counts as empty, and so does one that is
/// being dropped, or whose drop was interrupted: it has no size.
const SIZES: &str = "select datname::text, case when has_database_privilege(oid, 'CONNECT')
    then coalesce(pg_database_size(oid), 0) else 0 end from pg_database where datallowconn and datname = any ($1)";
