//! Sessions of the dump: the settings that make their text faithful, and what their errors mean.
//!
//! Must not know what is read through them.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSql;

use crate::base::class::Class;
use crate::engine::Error;
use crate::engine::postgres::lost;
use crate::sql::Server;
use crate::sql::postgres::{Connection, connect, is_transient, quote_literal, reason, words};

/// What every session is set to, where the server knows the parameter.
///
/// The first group keeps a long dump alive, the second one makes every value print the same and without loss on any server
/// (the settings of `pg_dump`, `setup_connection`), the third keeps foreign code out and row security loud, the last keeps
/// the server's effort to one process for each of our sessions.
const SETTINGS: [(&str, &str); 22] = [
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "UTC"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("xmloption", "content"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    ("synchronize_seqscans", "off"),
    ("search_path", ""),
    ("row_security", "off"),
    ("restrict_nonsystem_relation_kind", "view, foreign-table"),
    ("client_min_messages", "warning"),
    ("default_transaction_deferrable", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    ("enable_tidscan", "on"),
];

/// Opens a session; what is sent next waits for nothing but the login.
pub(super) async fn open(server: &Server, database: &str, lock_timeout: Duration) -> Result<Connection, Error> {
    let connection = connect(server, database).await.map_err(|error| Error::Database {
        action: "log in".to_owned(),
        reason: error.to_string(),
        class: error.class(),
        hint: error.hint(),
        source: Some(Box::new(error)),
    })?;
    connection
        .batch_execute(&settings(lock_timeout))
        .await
        .map_err(|error| failed(format!("set up a session on database {database:?}"), error))?;
    Ok(connection)
}

/// One statement for all settings; `current_setting` is null for a parameter that this server does not know.
fn settings(lock_timeout: Duration) -> String {
    let mut values: Vec<String> =
        SETTINGS.iter().map(|(name, value)| format!("({}, {})", quote_literal(name), quote_literal(value))).collect();
    values.push(format!("('lock_timeout', '{}')", lock_timeout.as_millis()));
    format!(
        "SELECT pg_catalog.set_config(s.name, s.value, false) FROM (VALUES {}) AS s (name, value) \
         WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL",
        values.join(", ")
    )
}

/// The server refused, or the connection broke.
pub(super) fn failed(action: impl Into<String>, error: tokio_postgres::Error) -> Error {
    Error::Database {
        action: action.into(),
        reason: reason(&error),
        class: class(&error),
        hint: hint(&error),
        source: words::source(error),
    }
}

fn class(error: &tokio_postgres::Error) -> Class {
    match error.code() {
        Some(code) if is_transient(code.code()) => Class::Transient,
        Some(code) if code.code().starts_with("28") || code.code().starts_with("3D") => Class::Database,
        Some(_) => Class::Refused,
        None if is_lost(error) => Class::Transient,
        None => Class::Unexpected,
    }
}

/// True where the connection ended without a word of the server.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
}

fn hint(error: &tokio_postgres::Error) -> Option<String> {
    match error.code() {
        // A read-only transaction meets this code on a standby only: a recovery conflict (PostgreSQL manual, 27.4.2).
        Some(code) if *code == SqlState::T_R_SERIALIZATION_FAILURE => Some(
            "set hot_standby_feedback = on at the standby, or raise its max_standby_streaming_delay, or read the primary"
                .to_owned(),
        ),
        Some(code) if *code == SqlState::CHARACTER_NOT_IN_REPERTOIRE => Some(
            "a name that is not valid UTF-8, in a database of encoding SQL_ASCII, cannot be backed up: rename it".to_owned(),
        ),
        None if is_lost(error) => Some(lost::HINT.to_owned()),
        _ => None,
    }
}

/// True where the server answered with this code.
pub(super) fn is_code(error: &tokio_postgres::Error, code: &SqlState) -> bool {
    error.code() == Some(code)
}

/// A column of a catalog row.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Error> {
    row.try_get(at).map_err(|error| failed("understand the catalog", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_sets_all_and_skips_what_the_server_does_not_know() {
        let statement = settings(Duration::from_millis(1500));
        assert!(statement.contains("('lock_timeout', '1500')"), "{statement}");
        assert!(statement.contains("('restrict_nonsystem_relation_kind', 'view, foreign-table')"));
        assert!(statement.ends_with("current_setting(s.name, true) IS NOT NULL"));
    }
}
