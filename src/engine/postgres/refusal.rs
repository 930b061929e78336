//! Turns what a PostgreSQL server, a login or a client program said into the engine's error, with a hint where the cause is a known one.
//!
//! It keeps the server's own words but not its detail: that holds values of rows, which belong in no message.

use tokio_postgres::error::SqlState;

use crate::base::class::Class;
use crate::engine::Error;
use crate::engine::postgres::lost;
use crate::sql;

/// The server answered no, or went away, while `action` was tried.
pub(super) fn refused(action: impl Into<String>, error: tokio_postgres::Error) -> Error {
    let (reason, class) = match error.as_db_error() {
        Some(db) => (sql::postgres::words::of(db), class_of(db.code())),
        None => (sql::postgres::reason(&error), Class::Database),
    };
    let lost = matches!(class, Class::Database | Class::Transient);
    let hint = hint(&reason).or_else(|| lost.then_some(lost::HINT)).map(str::to_owned);
    Error::Database { action: action.into(), reason, class, hint, source: sql::postgres::words::source(error) }
}

/// A statement of ours about what stands in the way, found before or after asking the server.
pub(super) fn blocked(action: impl Into<String>, reason: impl Into<String>, hint: Option<String>) -> Error {
    Error::Database { action: action.into(), reason: reason.into(), class: Class::Refused, hint, source: None }
}

/// The operator asked for something that cannot be.
pub(super) fn misused(action: impl Into<String>, reason: impl Into<String>, hint: Option<String>) -> Error {
    Error::Database { action: action.into(), reason: reason.into(), class: Class::Usage, hint, source: None }
}

/// No login.
pub(super) fn unreachable(error: sql::postgres::Error) -> Error {
    let action = match &error {
        sql::postgres::Error::Connect { server, database, .. } => {
            format!("connect to database {database:?} on server {server:?}")
        }
        _ => "connect".to_owned(),
    };
    let reason = match &error {
        sql::postgres::Error::Connect { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    Error::Database { action, reason, class: error.class(), hint: error.hint(), source: Some(Box::new(error)) }
}

/// What to type next, for the failures that restores are known for.
pub(super) fn hint(reason: &str) -> Option<&'static str> {
    let says = |words: &str| reason.contains(words);
    if says("extension control file") || (says("extension") && says("is not available")) {
        return Some("install the package of this extension on the destination server");
    }
    if says("tablespace") && says("does not exist") {
        return Some("create the tablespace, or restore without tablespaces");
    }
    if says("role") && says("does not exist") {
        return Some("create the role, let the restore create missing roles, or restore without owners and privileges");
    }
    if says("permission denied") || says("must be owner") || says("must be superuser") || says("must be member of") {
        return Some("restore as a superuser or as a member of the owning role, or without owners and privileges");
    }
    if says("in a read-only transaction") || says("during recovery") {
        return Some("the server is a standby, or was made read-only: restore to the primary, with --server NAME");
    }
    if says("does not exist") {
        return Some(
            "a function of the database may name something without its schema: restore with a search path that has this schema",
        );
    }
    None
}

fn class_of(code: &SqlState) -> Class {
    match code.code() {
        code if sql::postgres::is_transient(code) => Class::Transient,
        // Connection exceptions, and an operator's intervention such as a shutdown.
        code if code.starts_with("08") || code.starts_with("57") => Class::Database,
        _ => Class::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_hint(reason: &str, expected: Option<&str>) {
        let found = hint(reason);
        assert_eq!(found.is_some(), expected.is_some(), "{reason}");
        assert!(found.unwrap_or("").contains(expected.unwrap_or("")), "{reason}: {found:?}");
    }

    #[test]
    fn known_causes_have_a_hint_and_unknown_ones_have_none() {
        check_hint("could not open extension control file \"x\": No such file", Some("package"));
        check_hint("extension \"postgis\" is not available", Some("package"));
        check_hint("tablespace \"fast\" does not exist", Some("without tablespaces"));
        check_hint("role \"app\" does not exist", Some("create the role"));
        check_hint("permission denied for schema s", Some("superuser"));
        check_hint("function f(integer) does not exist", Some("search path"));
        check_hint("relation \"t\" does not exist", Some("search path"));
        check_hint("division by zero", None);
    }
}
