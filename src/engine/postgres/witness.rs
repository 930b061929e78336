//! Looks from outside at sessions of ours that are silent: an index is built, a lock is waited for, nothing at all happens.
//!
//! Promises to answer within the time that it is given, whatever the server does, and to disturb nothing. Must not know why
//! it is asked.

use std::time::Duration;

use tokio_postgres::Row;

use crate::sql::Server;
use crate::sql::postgres::{APPLICATION_NAME, Error, connect, reason};

/// Looks at our sessions on one database of one server.
#[derive(Debug)]
pub struct Witness {
    server: Server,
    database: String,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A session computes, reads or writes: it needs nothing but time.
    Works,
    /// None does. What is waited for, in words that follow "it waited for".
    Waits(String),
}

/// One of our sessions, as the server sees it.
#[derive(Clone, Debug, Default)]
struct Session {
    pid: i32,
    active: bool,
    wait_type: String,
    wait: String,
    blocker: Option<String>,
}

impl Witness {
    /// A witness of our sessions on `database`, which need not exist yet.
    pub fn new(server: &Server, database: &str) -> Self {
        Self { server: server.clone(), database: database.to_owned() }
    }

    /// Looks once, for at most `limit`.
    pub async fn look(&self, limit: Duration) -> Sight {
        let server = &self.server.name;
        match tokio::time::timeout(limit, self.sessions()).await {
            Ok(Ok(sessions)) => judge(&sessions, server),
            Ok(Err(words)) => Sight::Waits(format!("server {server:?}: {words}")),
            Err(_) => Sight::Waits(format!("an answer of server {server:?}, which accepts no new session either")),
        }
    }

    async fn sessions(&self) -> Result<Vec<Session>, String> {
        let client = connect(&self.server, &self.server.maintenance_database).await.map_err(|error| match error {
            Error::Connect { reason, .. } => reason,
            other => other.to_string(),
        })?;
        // The database that is being created is not yet one that a session can be in.
        let rows = client.query(SESSIONS, &[&APPLICATION_NAME, &self.database]).await;
        let rows = rows.map_err(|error| reason(&error))?;
        rows.iter().map(session).collect::<Result<_, _>>().map_err(|error| reason(&error))
    }
}

const SESSIONS: &str = "
    SELECT a.pid, coalesce(a.state, '') = 'active', coalesce(a.wait_event_type, ''), coalesce(a.wait_event, ''),
      b.pid, coalesce(b.usename::text, '?'), coalesce(b.state, '?'),
      coalesce(extract(epoch FROM clock_timestamp() - b.xact_start), 0)::int8
    FROM pg_catalog.pg_stat_activity a
    LEFT JOIN LATERAL (SELECT p.pid, s.usename, s.state, s.xact_start
      FROM unnest(CASE WHEN a.wait_event_type = 'Lock' THEN pg_catalog.pg_blocking_pids(a.pid) END) p (pid)
      LEFT JOIN pg_catalog.pg_stat_activity s ON s.pid = p.pid LIMIT 1) b ON true
    WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.application_name = $1
      AND (a.datname = $2 OR (a.query ~ '^(CREATE|DROP|ALTER) DATABASE' AND strpos(a.query, $2) > 0))
    ORDER BY a.pid";

fn session(row: &Row) -> Result<Session, tokio_postgres::Error> {
    let blocker: Option<i32> = row.try_get(4)?;
    let (role, state, seconds): (&str, &str, i64) = (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
    let told = |pid: i32| format!("process {pid} (role {role:?}, {state}, in a transaction for {seconds} s)");
    Ok(Session {
        pid: row.try_get(0)?,
        active: row.try_get(1)?,
        wait_type: row.try_get(2)?,
        wait: row.try_get(3)?,
        blocker: blocker.map(told),
    })
}

/// A session that waits for a lock or for its client does not work; whatever else it waits for passes by itself. Pure.
fn judge(sessions: &[Session], server: &str) -> Sight {
    let waits = |session: &&Session| matches!(session.wait_type.as_str(), "Lock" | "Client");
    if sessions.iter().any(|session| session.active && !waits(&session)) {
        return Sight::Works;
    }
    if let Some(locked) = sessions.iter().find(|session| session.wait_type == "Lock") {
        let blocker = locked.blocker.as_deref().unwrap_or("a session that has gone since");
        return Sight::Waits(format!(
            "a lock on server {server:?}: our process {} is blocked by {blocker}",
            locked.pid
        ));
    }
    let client = |wait: &str| sessions.iter().any(|session| session.active && session.wait == wait);
    let server_says = if client("ClientWrite") {
        "has rows that nobody takes"
    } else if client("ClientRead") {
        "gets no rows"
    } else {
        "has nothing to do for us"
    };
    Sight::Waits(format!("the store, or the network: server {server:?} {server_says}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(active: bool, wait_type: &str, wait: &str) -> Session {
        Session { pid: 7, active, wait_type: wait_type.to_owned(), wait: wait.to_owned(), blocker: None }
    }

    fn check(sessions: &[Session], words: &str) {
        match judge(sessions, "pg") {
            Sight::Works => assert_eq!(words, "", "{sessions:?}"),
            Sight::Waits(told) => assert!(!words.is_empty() && told.contains(words), "{sessions:?}: {told}"),
        }
    }

    #[test]
    fn a_session_that_waits_for_nobody_works_and_all_others_say_for_whom_they_wait() {
        let idle = session(false, "Client", "ClientRead");
        check(&[], "nothing to do");
        check(std::slice::from_ref(&idle), "nothing to do");
        check(&[idle.clone(), session(true, "", "")], "");
        check(&[idle.clone(), session(true, "IO", "DataFileRead")], "");
        check(&[idle.clone(), session(true, "Client", "ClientRead")], "gets no rows");
        check(&[idle.clone(), session(true, "Client", "ClientWrite")], "rows that nobody takes");
        let locked = Session { blocker: Some("process 9".to_owned()), ..session(true, "Lock", "relation") };
        check(&[idle, locked], "our process 7 is blocked by process 9");
    }
}
