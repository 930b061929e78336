//! What restores leave on a server: unfinished databases of killed runs, and former live databases that were kept.
//!
//! An unfinished database is dropped only if its comment is our mark, its name is one of ours, nobody is connected to it
//! and no restore of the same destination runs. Former databases are never dropped here: they are the operator's.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use crate::engine::Error;
use crate::engine::postgres::create_database::drop_marked;
use crate::engine::postgres::database_name::{BEFORE_INFIX, Mark, RESTORE_INFIX, beside, is_beside, time_of};
use crate::engine::postgres::refusal::{blocked, refused, unreachable};
use crate::sql;
use crate::sql::Server;

/// How many seconds, from that of the restore on, are looked at for free names.
const TIMES_TRIED: i64 = 600;

/// How often a claim is tried that another session has.
const CLAIM_TRIES: u32 = 50;
/// How long is waited between two tries.
const CLAIM_EVERY: Duration = Duration::from_millis(100);

/// A database that an earlier restore began and did not finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its name.
    pub name: String,
    /// The name that it was to have.
    pub destination: String,
    /// The run that made it.
    pub run: String,
    /// Its size, where we may ask for it.
    pub bytes: Option<u64>,
    /// Sessions that are connected to it.
    pub sessions: u64,
}

/// A former live database that a restore kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// Its name.
    pub name: String,
    /// The name that it had, cut if it was long.
    pub live: String,
    /// When the restore that replaced it began.
    pub replaced_at: DateTime<Utc>,
    /// Its size, where we may ask for it.
    pub bytes: Option<u64>,
}

/// All that restores left on one server.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    /// Databases of killed or running restores.
    pub unfinished: Vec<Unfinished>,
    /// Former live databases.
    pub former: Vec<Former>,
}

/// What became of the leftovers of one destination.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    /// The databases that were dropped.
    pub dropped: Vec<String>,
    /// Those that were not, each with the reason.
    pub kept: Vec<String>,
}

/// Lists what restores left on the server.
pub async fn list_leftovers(server: &Server) -> Result<Leftovers, Error> {
    let client = sql::postgres::connect(server, &server.maintenance_database).await.map_err(unreachable)?;
    list(&client).await
}

/// Drops the unfinished databases of one destination, unless a restore of it is running.
pub async fn remove_leftovers(server: &Server, destination: &str) -> Result<Removal, Error> {
    let client = sql::postgres::connect(server, &server.maintenance_database).await.map_err(unreachable)?;
    if !claim_destination(&client, destination).await? {
        let reason = format!("a restore of {destination:?} is running");
        return Ok(Removal { dropped: Vec::new(), kept: vec![reason] });
    }
    remove_claimed(&client, destination).await
}

/// Claims a destination for the life of this session; false if another restore has it.
///
/// A restore that has just ended, or was killed, holds its claim until the server sees that: for that long it is asked again.
///
/// The claim is an advisory lock in the maintenance database: it ends with the session, however that ends.
pub(super) async fn claim_destination(client: &Client, destination: &str) -> Result<bool, Error> {
    let digest = Sha256::digest(format!("dbkeeper restore {destination}").as_bytes());
    let key = i64::from_le_bytes(digest[..8].try_into().expect("eight bytes are eight bytes"));
    let failed = |error| refused(format!("claim destination {destination:?}"), error);
    for _ in 0..CLAIM_TRIES {
        let row = client.query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&key]).await.map_err(failed)?;
        if row.get(0) {
            return Ok(true);
        }
        tokio::time::sleep(CLAIM_EVERY).await;
    }
    Ok(false)
}

/// Drops the unfinished databases of a destination that this session has claimed.
pub(super) async fn remove_claimed(client: &Client, destination: &str) -> Result<Removal, Error> {
    let mut removal = Removal::default();
    for leftover in list(client).await?.unfinished {
        if leftover.destination != destination {
            continue;
        }
        let mark = Mark { destination: leftover.destination, run: leftover.run };
        if leftover.sessions > 0 {
            let sessions = leftover.sessions;
            removal.kept.push(format!("{:?}: {sessions} sessions are connected to it", leftover.name));
            continue;
        }
        match drop_marked(client, &leftover.name, &mark).await {
            Ok(_) => removal.dropped.push(leftover.name),
            Err(error) => removal.kept.push(format!("{:?}: {error}", leftover.name)),
        }
    }
    Ok(removal)
}

async fn list(client: &Client) -> Result<Leftovers, Error> {
    let query = "SELECT d.datname::text, pg_catalog.shobj_description(d.oid, 'pg_database'), \
        CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') THEN pg_catalog.pg_database_size(d.oid) END, \
        (SELECT count(*) FROM pg_catalog.pg_stat_activity a \
         WHERE a.datid = d.oid AND a.backend_type IS DISTINCT FROM 'autovacuum worker') \
        FROM pg_catalog.pg_database d WHERE strpos(d.datname::text, $1) > 0 OR strpos(d.datname::text, $2) > 0 ORDER BY 1";
    let rows = client.query(query, &[&RESTORE_INFIX, &BEFORE_INFIX]).await;
    let mut found = Leftovers::default();
    for row in rows.map_err(|error| refused("list databases", error))? {
        let name: String = row.get(0);
        let comment: Option<String> = row.get(1);
        let bytes = row.get::<_, Option<i64>>(2).and_then(|bytes| u64::try_from(bytes).ok());
        let sessions = u64::try_from(row.get::<_, i64>(3)).unwrap_or(0);
        if let Some(mark) = comment.as_deref().and_then(Mark::parse) {
            if is_beside(&name, &mark.destination, RESTORE_INFIX) {
                let (destination, run) = (mark.destination, mark.run);
                found.unfinished.push(Unfinished { name, destination, run, bytes, sessions });
            }
        } else if let Some((live, replaced_at)) = time_of(&name, BEFORE_INFIX) {
            let live = live.to_owned();
            found.former.push(Former { name, live, replaced_at, bytes });
        }
    }
    Ok(found)
}

/// The first second, from `time` on, for which no database has a name that a restore of `destination` would give.
///
/// Two restores of one destination can begin within one second, and the clock may have been set back.
pub(super) async fn free_time(client: &Client, destination: &str, time: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    let query = "SELECT datname::text FROM pg_catalog.pg_database WHERE strpos(datname::text, $1) > 0 OR strpos(datname::text, $2) > 0";
    let rows = client.query(query, &[&RESTORE_INFIX, &BEFORE_INFIX]).await;
    let taken: BTreeSet<String> =
        rows.map_err(|error| refused("list databases", error))?.iter().map(|row| row.get(0)).collect();
    let is_free = |time: &DateTime<Utc>| {
        [RESTORE_INFIX, BEFORE_INFIX].iter().all(|infix| !taken.contains(&beside(destination, infix, *time)))
    };
    (0..TIMES_TRIED).map(|later| time + TimeDelta::seconds(later)).find(is_free).ok_or_else(|| {
        let hint = "drop those that you no longer need: `dbkeeper doctor` lists them";
        blocked(
            format!("name the databases of a restore of {destination:?}"),
            format!("those of the next {TIMES_TRIED} seconds are taken"),
            Some(hint.to_owned()),
        )
    })
}
