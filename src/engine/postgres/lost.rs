//! Tells a session that was lost from work that was refused: after a restart of the server, or a cut connection, the same
//! work may be done again.
//!
//! Pure. Must not know how often anybody tries.

use tokio_postgres::error::SqlState;

use crate::engine::Error;
use crate::sql;

/// The server's words for a session that it, or its operator, ended (PostgreSQL manual, appendix A, classes 08 and 57).
const ENDED: [SqlState; 7] = [
    SqlState::CONNECTION_EXCEPTION,
    SqlState::CONNECTION_DOES_NOT_EXIST,
    SqlState::CONNECTION_FAILURE,
    SqlState::ADMIN_SHUTDOWN,
    SqlState::CRASH_SHUTDOWN,
    SqlState::CANNOT_CONNECT_NOW,
    SqlState::IDLE_SESSION_TIMEOUT,
];

/// The words of `pg_dump` and libpq for the same.
const SAID: [&str; 8] = [
    "server closed the connection unexpectedly",
    "terminating connection due to administrator command",
    "the database system is",
    "onnection refused",
    "onnection reset",
    "connection to server was lost",
    "SSL connection has been closed",
    // The snapshot is gone with the session that exported it.
    "invalid snapshot identifier",
];

/// What a dump says of a session that ended while nobody asked it anything.
pub(super) const VIEW_LOST: &str = "the session that held it has ended, after a failure or an interrupted read";

/// What to do after a session was lost.
pub(super) const HINT: &str = "look into the server's log for why the session ended, and run the same command again";

/// True where the connection to the server ended, rather than that the server refused.
pub fn is_lost(error: &Error) -> bool {
    match error {
        Error::Database { reason, source, .. } => {
            reason == VIEW_LOST || source.as_deref().is_some_and(|cause| ended(cause))
        }
        Error::Client { reason, .. } => SAID.iter().any(|words| reason.contains(words)),
        Error::Downstream(_) | Error::Mismatch { .. } => false,
    }
}

fn ended(cause: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<tokio_postgres::Error>() {
        let socket = || std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>());
        return error.code().map_or_else(|| error.is_closed() || socket(), |code| ENDED.contains(code));
    }
    match cause.downcast_ref::<sql::postgres::Error>() {
        Some(sql::postgres::Error::Connect { source: Some(source), .. }) => {
            source.is::<std::io::Error>() || ended(source.as_ref())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::class::Class;

    fn program(reason: &str) -> Error {
        let (program, reason) = ("pg_dump".to_owned(), reason.to_owned());
        Error::Client { program, reason, class: Class::Refused, hint: None }
    }

    #[test]
    fn a_program_that_lost_its_server_says_so_and_one_that_was_refused_says_something_else() {
        assert!(is_lost(&program("exit status: 1: pg_dump: error: server closed the connection unexpectedly")));
        assert!(is_lost(&program("FATAL:  the database system is shutting down")));
        assert!(is_lost(&program("query failed: ERROR:  invalid snapshot identifier: \"00000004-0000000E-1\"")));
        assert!(!is_lost(&program("permission denied for table t")));
    }
}
