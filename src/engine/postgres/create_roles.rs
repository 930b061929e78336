//! Creates the roles that a database needs and the destination lacks. A role that exists is never altered, nor are its
//! memberships.

use std::collections::HashSet;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::engine::Error;
use crate::engine::postgres::description::Role;
use crate::engine::postgres::parameter_setting::assignment;
use crate::engine::postgres::refusal::refused;
use crate::sql::postgres::{quote_identifier, quote_literal};

/// Memberships carry INHERIT and SET options from this version on.
const MEMBERSHIP_OPTIONS_SINCE: u32 = 160_000;

/// What the role that is logged in may do with roles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    pub(super) superuser: bool,
    pub(super) server_version_num: u32,
}

/// The roles of the list that the server does not have, in the list's order.
pub(super) async fn missing_roles<'a>(client: &Client, roles: &'a [Role]) -> Result<Vec<&'a Role>, Error> {
    let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let query = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname::text = ANY ($1)";
    let rows = client.query(query, &[&names]).await.map_err(|error| refused("look up roles", error))?;
    let present: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(roles.iter().filter(|role| !present.contains(&role.name)).collect())
}

/// Creates those of `roles` that are missing, each with its settings and memberships in one transaction.
///
/// Returns notes: what could not be given to a new role. After a failure the roles before it stay; they are complete.
pub(super) async fn create_roles(client: &mut Client, roles: &[Role], rights: Rights) -> Result<Vec<String>, Error> {
    let missing = missing_roles(client, roles).await?;
    let mut notes = Vec::new();
    for role in missing {
        let failed = |error| refused(format!("create role {:?}", role.name), error);
        let transaction = client.transaction().await.map_err(failed)?;
        if rights.superuser {
            // A verifier is no password, but it does not belong in the server's log either.
            let quiet = "SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1; \
                SET LOCAL log_min_error_statement = 'panic'";
            transaction.batch_execute(quiet).await.map_err(failed)?;
        }
        match transaction.batch_execute(&create_statement(role, rights, &mut notes)).await {
            Ok(()) => {}
            Err(error) if was_created_meanwhile(&error) => continue,
            Err(error) => return Err(failed(error)),
        }
        for statement in further_statements(role, rights) {
            transaction.batch_execute("SAVEPOINT extra").await.map_err(failed)?;
            if let Err(error) = transaction.batch_execute(&statement.sql).await {
                transaction.batch_execute("ROLLBACK TO SAVEPOINT extra").await.map_err(failed)?;
                let reason = refused(statement.what, error);
                notes.push(format!("role {:?} was created without something: {reason}", role.name));
            }
        }
        transaction.commit().await.map_err(failed)?;
    }
    Ok(notes)
}

/// Another restore on the same server needed the same role: it is as good as ours.
fn was_created_meanwhile(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION))
}

fn create_statement(role: &Role, rights: Rights, notes: &mut Vec<String>) -> String {
    let mut sql = format!("CREATE ROLE {}", quote_identifier(&role.name));
    let mut flag = |wanted: bool, word: &str| sql.push_str(&format!(" {}{word}", if wanted { "" } else { "NO" }));
    flag(role.inherit, "INHERIT");
    flag(role.create_role, "CREATEROLE");
    flag(role.create_db, "CREATEDB");
    flag(role.login, "LOGIN");
    let guarded = [(role.superuser, "SUPERUSER"), (role.replication, "REPLICATION"), (role.bypass_rls, "BYPASSRLS")];
    for (_, word) in guarded.iter().filter(|(wanted, _)| *wanted) {
        if rights.superuser {
            flag(true, word);
        } else {
            notes.push(format!("role {:?} was created without {word}: only a superuser can give it", role.name));
        }
    }
    sql.push_str(&format!(" CONNECTION LIMIT {}", role.connection_limit));
    if let Some(until) = &role.valid_until {
        sql.push_str(&format!(" VALID UNTIL {}", quote_literal(until)));
    }
    match &role.password_verifier {
        Some(verifier) => sql.push_str(&format!(" PASSWORD {}", quote_literal(verifier))),
        None if role.login => notes.push(format!(
            "role {:?} was created without a password: the backup could not read it; set one before it logs in",
            role.name
        )),
        None => {}
    }
    sql
}

struct Statement {
    what: String,
    sql: String,
}

fn further_statements(role: &Role, rights: Rights) -> Vec<Statement> {
    let name = quote_identifier(&role.name);
    let mut statements = Vec::new();
    let mut add = |what: String, sql: String| statements.push(Statement { what, sql });
    if let Some(comment) = &role.comment {
        add("comment".to_owned(), format!("COMMENT ON ROLE {name} IS {}", quote_literal(comment)));
    }
    for (parameter, value) in &role.settings {
        add(format!("setting {parameter:?}"), format!("ALTER ROLE {name} SET {}", assignment(parameter, value)));
    }
    for membership in &role.member_of {
        let mut options = Vec::new();
        if membership.admin {
            options.push("ADMIN OPTION".to_owned());
        }
        if rights.server_version_num >= MEMBERSHIP_OPTIONS_SINCE {
            options = vec![format!("ADMIN {}", membership.admin)];
            options.extend(membership.inherit.map(|inherit| format!("INHERIT {inherit}")));
            options.extend(membership.set.map(|set| format!("SET {set}")));
        }
        let options = if options.is_empty() { String::new() } else { format!(" WITH {}", options.join(", ")) };
        let grant = format!("GRANT {} TO {name}{options}", quote_identifier(&membership.role));
        add(format!("membership in {:?}", membership.role), grant);
    }
    statements
}
