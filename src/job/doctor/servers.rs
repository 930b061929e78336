//! Each server: who answers, as whom we are logged in, what it can take, and whether its client programs are here.

use std::time::Duration;

use crate::base::class::Class;
use crate::base::units::print_duration;
use crate::job::doctor::{Check, Group};
use crate::job::{Context, chain};
use crate::sql::postgres::{Connection, NEWEST_MAJOR, connect, quote_identifier, reason};
use crate::sql::{Family, Server};

/// Connections that are left to the application.
const SPARE_CONNECTIONS: i64 = 3;
/// A dump needs its own connection and one for `pg_dump`.
const LEAST_CONNECTIONS: i64 = 2;

/// What the checks of the databases need to know of their server.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Connections that we may hold at once.
    pub(super) connections: usize,
    /// `None` where nobody said.
    pub(super) locks: Option<Locks>,
}

/// The size of the lock table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locks {
    /// `max_locks_per_transaction`.
    pub(super) each: u64,
    /// `max_connections + max_prepared_transactions`.
    pub(super) sessions: u64,
}

impl Facts {
    /// Those of a server that told nothing.
    pub(super) fn unknown(server: &Server) -> Self {
        Self { connections: server.connections.max(1), locks: None }
    }
}

/// What one query over the server's settings and our role says.
struct Answer {
    role: String,
    superuser: bool,
    reads_all: bool,
    bypasses_rls: bool,
    creates_databases: bool,
    role_limit: i32,
    standby: bool,
    tls: Option<String>,
    max_connections: i32,
    free: i32,
    locks: Locks,
}

/// Sessions of others show no kind to a role without rights, but always their database and their role.
const QUESTION: &str = "select current_user::text, r.rolsuper,
    exists (select from pg_roles g where g.rolname = 'pg_read_all_data' and pg_has_role(g.oid, 'USAGE')),
    r.rolbypassrls, r.rolcreatedb, r.rolconnlimit, pg_is_in_recovery(),
    (select s.version from pg_stat_ssl s where s.pid = pg_backend_pid() and s.ssl),
    current_setting('max_connections')::int4,
    current_setting('max_connections')::int4 - current_setting('superuser_reserved_connections')::int4
      - coalesce(current_setting('reserved_connections', true)::int4, 0)
      - (select count(*) from pg_stat_activity where datid is not null and usesysid is not null
         and coalesce(backend_type, 'client backend') = 'client backend')::int4,
    current_setting('max_locks_per_transaction')::int8,
    current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8
  from pg_roles r where r.rolname = current_user";

/// Asks a server by way of one of its databases; nothing where it cannot be used.
pub(super) async fn check(
    context: &Context,
    server: &Server,
    database: &str,
    checks: &mut Vec<Check>,
) -> Option<Facts> {
    let name = &server.name;
    if server.family != Family::Postgres {
        let check = Check::warn(Group::Servers, name, "only PostgreSQL is supported yet: nothing on it is backed up");
        checks.push(check.with_fix(Some("leave this server out of the configuration")));
        return None;
    }
    let limit = context.config.limits.no_progress;
    let asked = tokio::time::timeout(limit, question(server, database)).await;
    let (connection, answer) = match asked.unwrap_or_else(|_| Err(silent(Group::Servers, name, limit))) {
        Ok(answered) => answered,
        Err(check) => {
            checks.push(check);
            return None;
        }
    };
    checks.push(version(server, &connection, &answer));
    checks.push(Check::ok(Group::Servers, format!("{name} role"), role(&answer)));
    let room = room(server, &answer);
    let (connections, locks) = (room.0, Some(answer.locks));
    checks.push(room.1);
    let major = connection.version().major;
    drop(connection);
    check_programs(context, server, major, checks).await;
    Some(Facts { connections, locks })
}

/// What is told of a server that does not answer for so long.
pub(super) fn silent(group: Group, server: &str, limit: Duration) -> Check {
    let message = format!("no answer for {}", print_duration(limit));
    let fix = "look for a server that accepts connections and then stands still, or a firewall that forgets them";
    Check::fail(group, server, Class::Stalled, message).with_fix(Some(fix))
}

/// Logs in and asks. The error is what is told of it.
async fn question(server: &Server, database: &str) -> Result<(Connection, Answer), Check> {
    let name = &server.name;
    let connection = connect(server, database).await.map_err(|error| {
        let class = if error.class() == Class::Usage { Class::Usage } else { Class::Database };
        Check::fail(Group::Servers, name, class, chain(&error)).with_fix(error.hint())
    })?;
    let answer = ask(&connection).await.map_err(|error| {
        Check::fail(Group::Servers, name, Class::Database, format!("ask for its settings: {}", reason(&error)))
    })?;
    Ok((connection, answer))
}

async fn ask(connection: &Connection) -> Result<Answer, tokio_postgres::Error> {
    let row = connection.query_one(QUESTION, &[]).await?;
    let size = |value: i64| value.unsigned_abs();
    Ok(Answer {
        role: row.try_get(0)?,
        superuser: row.try_get(1)?,
        reads_all: row.try_get(2)?,
        bypasses_rls: row.try_get(3)?,
        creates_databases: row.try_get(4)?,
        role_limit: row.try_get(5)?,
        standby: row.try_get(6)?,
        tls: row.try_get(7)?,
        max_connections: row.try_get(8)?,
        free: row.try_get(9)?,
        locks: Locks { each: size(row.try_get(10)?), sessions: size(row.try_get(11)?) },
    })
}

fn version(server: &Server, connection: &Connection, answer: &Answer) -> Check {
    let Server { name, host, port, .. } = server;
    let way = match &answer.tls {
        Some(version) => format!("over {version}"),
        None if host.starts_with('/') => "over a Unix socket".to_owned(),
        None => "without TLS".to_owned(),
    };
    let standby = if answer.standby { ", a standby: it can be backed up, not restored to" } else { "" };
    let version = connection.version();
    let message = format!("PostgreSQL {version} at {host}:{port} {way}, no pooler{standby}");
    if version.is_untested() {
        let message = format!("{message}; dbkeeper is tested up to PostgreSQL {NEWEST_MAJOR}");
        return Check::warn(Group::Servers, name, message).with_fix(Some("install the newest dbkeeper"));
    }
    Check::ok(Group::Servers, name, message)
}

fn role(answer: &Answer) -> String {
    let has = |right: bool, words: &'static str| right.then_some(words);
    let rights = match answer.superuser {
        true => vec!["a superuser"],
        false => [
            has(answer.reads_all, "pg_read_all_data"),
            has(answer.bypasses_rls, "BYPASSRLS"),
            has(answer.creates_databases, "CREATEDB"),
        ]
        .into_iter()
        .flatten()
        .collect(),
    };
    let rights = if rights.is_empty() { "no rights over all databases".to_owned() } else { rights.join(", ") };
    let restores = if answer.superuser || answer.creates_databases {
        ""
    } else {
        "; it cannot create databases: restores need another role"
    };
    format!("{:?}: {rights}{restores}", answer.role)
}

/// How many connections we may hold, and whether that is what was configured.
fn room(server: &Server, answer: &Answer) -> (usize, Check) {
    let (name, role) = (format!("{} connections", server.name), quote_identifier(&answer.role));
    let wanted = i64::try_from(server.connections).unwrap_or(i64::MAX);
    let free = i64::from(answer.free);
    let limit = if answer.role_limit < 0 || answer.superuser { i64::MAX } else { i64::from(answer.role_limit) };
    let usable = (free - SPARE_CONNECTIONS).min(limit).min(wanted);
    let permits = usize::try_from(usable.max(1)).unwrap_or(1);
    let of = format!("{free} of {} are free, {wanted} are configured", answer.max_connections);
    if limit < wanted {
        let message = format!("{of}, and the role may have {limit}");
        let fix = format!("ALTER ROLE {role} CONNECTION LIMIT {};", wanted + 1);
        let check = match limit < LEAST_CONNECTIONS {
            true => Check::fail(Group::Servers, name, Class::Database, message),
            false => Check::warn(Group::Servers, name, message),
        };
        return (permits, check.with_fix(Some(fix)));
    }
    let most = (free - SPARE_CONNECTIONS).max(LEAST_CONNECTIONS);
    let fix = format!("connections = {most} for server {:?} in dbkeeper.toml, or raise max_connections", server.name);
    let check = match usable {
        usable if free < LEAST_CONNECTIONS => {
            Check::fail(Group::Servers, name, Class::Database, format!("{of}: a backup could use {}", usable.max(0)))
        }
        usable if usable < wanted => {
            Check::warn(Group::Servers, name, format!("{of}, of which {SPARE_CONNECTIONS} are left to the application"))
        }
        _ => return (permits, Check::ok(Group::Servers, name, of)),
    };
    (permits, check.with_fix(Some(fix)))
}

async fn check_programs(context: &Context, server: &Server, major: u32, checks: &mut Vec<Check>) {
    let programs = context.programs();
    for program in ["pg_dump", "pg_restore"] {
        let name = format!("{} {program}", server.name);
        checks.push(match programs.find(server, program, major).await {
            Ok(found) => Check::ok(Group::Servers, name, format!("{} at {}", found.version, found.path.display())),
            Err(error) => Check::fail(Group::Servers, name, error.class(), chain(&error)).with_fix(error.hint()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::doctor::Status;
    use crate::sql::SslMode;

    fn check_room(free: i32, role_limit: i32, expected: (usize, Status), fix: &str) {
        let server = Server {
            name: "pg".to_owned(),
            family: Family::Postgres,
            host: "h".to_owned(),
            port: 5432,
            user: "b".to_owned(),
            password: None,
            password_file: None,
            maintenance_database: "postgres".to_owned(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            connections: 8,
            client_bin: None,
        };
        let answer = Answer {
            role: "b".to_owned(),
            superuser: false,
            reads_all: false,
            bypasses_rls: false,
            creates_databases: false,
            role_limit,
            standby: false,
            tls: None,
            max_connections: 100,
            free,
            locks: Locks { each: 64, sessions: 100 },
        };
        let (permits, check) = room(&server, &answer);
        assert_eq!((permits, check.status), expected, "{}", check.message);
        assert!(check.fix.unwrap_or_default().starts_with(fix), "{free} {role_limit}");
    }

    #[test]
    fn what_is_free_and_what_the_role_may_have_both_bound_us() {
        check_room(90, -1, (8, Status::Ok), "");
        check_room(11, -1, (8, Status::Ok), "");
        check_room(10, -1, (7, Status::Warn), "connections = 7");
        check_room(1, -1, (1, Status::Fail), "connections = 2");
        check_room(90, 4, (4, Status::Warn), "ALTER ROLE \"b\" CONNECTION LIMIT 9;");
        check_room(90, 1, (1, Status::Fail), "ALTER ROLE");
    }
}
