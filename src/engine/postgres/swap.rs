//! Puts the restored database in the place of the live one, by two renames in one transaction.
//!
//! The first rename takes the live database's exclusive lock, so that newcomers wait; meanwhile a second session ends those
//! that are connected, within the five seconds that the server grants (`CountOtherDBBackends`). At any time a kill leaves
//! either the old or the new database under the live name, never none.

use std::time::Duration;

use futures::future::{Either, select};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::engine::Error;
use crate::engine::postgres::refusal::{blocked, refused, unreachable};
use crate::sql;
use crate::sql::Server;
use crate::sql::postgres::quote_identifier;

/// How often the renames are tried; each try lasts at most five seconds on the server.
const ATTEMPTS: u32 = 4;
/// How often the second session looks for connected clients.
const TERMINATE_EVERY: Duration = Duration::from_millis(20);
/// How often it is asked, before the first rename, whether the ended clients are gone.
const GONE_CHECKS: u32 = 50;

/// The databases of a swap.
#[derive(Debug)]
pub(super) struct Swap<'a> {
    pub(super) server: &'a Server,
    /// The restored database, under the name of its restore.
    pub(super) work: &'a str,
    /// The name that it is to have.
    pub(super) live: &'a str,
    /// The name that the live database gets, if there is one.
    pub(super) former: &'a str,
    /// What the same transaction does after the renames: comment and limits.
    pub(super) closing: &'a str,
    /// False where no database may have the name yet.
    pub(super) may_replace: bool,
}

/// What stands in the way of renaming a live database.
#[derive(Debug)]
pub(super) struct LiveState {
    pub(super) accepts_connections: bool,
    pub(super) prepared_transactions: i64,
    pub(super) replication_slots: i64,
    pub(super) may_rename: bool,
}

/// What is known of the database `name`; `None` if there is no such database.
pub(super) async fn live_state(client: &Client, name: &str) -> Result<Option<LiveState>, Error> {
    let query = "SELECT d.datallowconn, \
        (SELECT count(*) FROM pg_catalog.pg_prepared_xacts p WHERE p.database = d.datname), \
        (SELECT count(*) FROM pg_catalog.pg_replication_slots s WHERE s.database = d.datname), \
        r.rolsuper OR (r.rolcreatedb AND pg_catalog.pg_has_role(d.datdba, 'USAGE')) \
        FROM pg_catalog.pg_database d, pg_catalog.pg_roles r WHERE d.datname = $1 AND r.rolname = current_user";
    let row = client.query_opt(query, &[&name]).await;
    let row = row.map_err(|error| refused(format!("look at database {name:?}"), error))?;
    Ok(row.map(|row| LiveState {
        accepts_connections: row.get(0),
        prepared_transactions: row.get(1),
        replication_slots: row.get(2),
        may_rename: row.get(3),
    }))
}

/// Refuses to replace a live database that something holds on to by more than a session.
pub(super) fn check_replaceable(name: &str, state: &LiveState) -> Result<(), Error> {
    let action = format!("replace database {name:?}");
    if !state.may_rename {
        let hint = "restore as a superuser, or as its owner with CREATEDB";
        return Err(blocked(action, "the role may not rename it", Some(hint.to_owned())));
    }
    if !state.accepts_connections {
        let hint = "somebody closed it on purpose: open it with ALTER DATABASE … ALLOW_CONNECTIONS true, or restore under another name";
        return Err(blocked(action, "it does not accept connections", Some(hint.to_owned())));
    }
    if state.prepared_transactions > 0 {
        let reason = format!("it has {} prepared transactions", state.prepared_transactions);
        let hint = "finish them: they are listed in pg_prepared_xacts";
        return Err(blocked(action, reason, Some(hint.to_owned())));
    }
    if state.replication_slots > 0 {
        let reason = format!(
            "it has {} logical replication slots, which would stay with the former database",
            state.replication_slots
        );
        let hint =
            "drop them (pg_replication_slots) and create them again after the restore, or restore under another name";
        return Err(blocked(action, reason, Some(hint.to_owned())));
    }
    Ok(())
}

/// Renames; returns whether there was a live database, which is now called [`Swap::former`].
///
/// After a failure both databases have the names that they had, and the hint says so.
pub(super) async fn put_in_place(client: &mut Client, swap: &Swap<'_>) -> Result<bool, Error> {
    put_in_place_or_leave(client, swap).await.map_err(|mut error| {
        if let Error::Database { hint, .. } = &mut error {
            let kept = format!("the restored database is whole and called {:?} until the next restore", swap.work);
            *hint = Some(hint.take().map_or_else(|| kept.clone(), |hint| format!("{hint}; {kept}")));
        }
        error
    })
}

async fn put_in_place_or_leave(client: &mut Client, swap: &Swap<'_>) -> Result<bool, Error> {
    let oid = oid_of(client, swap.work).await?;
    let mut attempt = 1;
    loop {
        let state = live_state(client, swap.live).await?.filter(|_| swap.may_replace);
        let result = match &state {
            None => rename(client, swap, false).await,
            Some(state) => {
                check_replaceable(swap.live, state)?;
                rename_and_terminate(client, swap).await?
            }
        };
        let error = match result {
            Ok(()) => return Ok(state.is_some()),
            Err(error) => error,
        };
        if error.as_db_error().is_none() && arrived(swap, oid).await {
            return Ok(state.is_some());
        }
        if error.code() != Some(&SqlState::OBJECT_IN_USE) || attempt == ATTEMPTS {
            return Err(refused(format!("put database {:?} in place of {:?}", swap.work, swap.live), error));
        }
        attempt += 1;
    }
}

/// Leaves the restored database where it is, and makes its comment and limits final.
pub(super) async fn leave_beside(client: &mut Client, database: &str, closing: &str) -> Result<(), Error> {
    let failed = |error| refused(format!("publish database {database:?}"), error);
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.batch_execute(&format!("SET LOCAL synchronous_commit = on; {closing}")).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Renames while a second session ends whoever is connected to the live database.
///
/// The outer error is that of the second session: without it the renames cannot succeed while clients are connected.
async fn rename_and_terminate(
    client: &mut Client,
    swap: &Swap<'_>,
) -> Result<Result<(), tokio_postgres::Error>, Error> {
    let server = swap.server;
    let second = sql::postgres::connect(server, &server.maintenance_database).await.map_err(unreachable)?;
    let failed = |error| refused(format!("end the sessions of database {:?}", swap.live), error);
    // Most are gone before the lock is taken, so that newcomers wait for milliseconds only.
    for _ in 0..GONE_CHECKS {
        if terminate(&second, swap.live).await.map_err(failed)? == 0 {
            break;
        }
        tokio::time::sleep(TERMINATE_EVERY).await;
    }
    let renames = std::pin::pin!(rename(client, swap, true));
    let terminations = std::pin::pin!(async {
        loop {
            if let Err(error) = terminate(&second, swap.live).await {
                return error;
            }
            tokio::time::sleep(TERMINATE_EVERY).await;
        }
    });
    match select(renames, terminations).await {
        Either::Left((result, _)) => Ok(result),
        Either::Right((error, renames)) => match renames.await {
            Ok(()) => Ok(Ok(())),
            Err(_) => Err(failed(error)),
        },
    }
}

async fn terminate(client: &Client, database: &str) -> Result<i64, tokio_postgres::Error> {
    // The server itself ends autovacuum workers, which only a superuser may do.
    let query = "SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
        WHERE datname = $1 AND pid <> pg_catalog.pg_backend_pid() \
        AND backend_type IS DISTINCT FROM 'autovacuum worker'";
    Ok(client.query_one(query, &[&database]).await?.get(0))
}

async fn rename(client: &mut Client, swap: &Swap<'_>, is_there: bool) -> Result<(), tokio_postgres::Error> {
    let (work, live) = (quote_identifier(swap.work), quote_identifier(swap.live));
    let transaction = client.transaction().await?;
    // Whatever the server's default is: when this returns, all that the restore wrote is on disk.
    transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
    if is_there {
        let former = quote_identifier(swap.former);
        transaction.batch_execute(&format!("ALTER DATABASE {live} RENAME TO {former}")).await?;
    }
    transaction.batch_execute(&format!("ALTER DATABASE {work} RENAME TO {live}; {}", swap.closing)).await?;
    transaction.commit().await
}

async fn oid_of(client: &Client, database: &str) -> Result<u32, Error> {
    let query = "SELECT oid FROM pg_catalog.pg_database WHERE datname = $1";
    let row = client.query_opt(query, &[&database]).await;
    let row = row.map_err(|error| refused(format!("look at database {database:?}"), error))?;
    let gone = || blocked(format!("publish database {database:?}"), "it is gone", None);
    Ok(row.ok_or_else(gone)?.get(0))
}

/// After the connection broke: true if the renames were committed all the same.
async fn arrived(swap: &Swap<'_>, oid: u32) -> bool {
    let Ok(client) = sql::postgres::connect(swap.server, &swap.server.maintenance_database).await else { return false };
    oid_of(&client, swap.live).await.is_ok_and(|live| live == oid)
}
