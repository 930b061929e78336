//! Gives a restored database what `pg_dump -C` would carry: owner, settings, privileges, labels, and at the very end
//! comment and limits.
//!
//! Settings come after all other work, since some of them (`default_transaction_read_only`) would stop it. Comment and
//! limits come in the transaction that publishes: until then the comment is the mark, and the limits could lock us out.

use tokio_postgres::Client;

use crate::engine::Error;
use crate::engine::postgres::database_name::Mark;
use crate::engine::postgres::description::DatabaseProperties;
use crate::engine::postgres::parameter_setting::assignment;
use crate::engine::postgres::privileges::Privileges;
use crate::engine::postgres::refusal::refused;
use crate::sql::postgres::{quote_identifier, quote_literal};

/// The privileges that a database has; nothing else is written into a statement.
const PRIVILEGES: [&str; 3] = ["CONNECT", "CREATE", "TEMPORARY"];

/// Sets owner and privileges. All of it is in force afterwards, or none.
///
/// `owner` is who owns the database from now on: the recorded privileges of the recorded owner become this role's.
pub(super) async fn apply_privileges(
    client: &mut Client,
    database: &str,
    properties: &DatabaseProperties,
    owner: &str,
) -> Result<(), Error> {
    let Some(acl) = &properties.acl else { return Ok(()) };
    let failed = |error| refused(format!("grant privileges on database {database:?}"), error);
    let privileges = Privileges {
        subject: &format!("DATABASE {}", quote_identifier(database)),
        known: &PRIVILEGES,
        recorded_owner: &properties.owner,
        owner,
        return_to: "RESET ROLE",
    };
    let statements = privileges.statements(acl)?;
    let transaction = client.transaction().await.map_err(failed)?;
    for statement in statements {
        transaction.batch_execute(&statement).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// Makes `owner` the owner.
pub(super) async fn apply_owner(client: &Client, database: &str, owner: &str) -> Result<(), Error> {
    let sql = format!("ALTER DATABASE {} OWNER TO {}", quote_identifier(database), quote_identifier(owner));
    let failed = |error| refused(format!("give database {database:?} to role {owner:?}"), error);
    client.batch_execute(&sql).await.map_err(failed)
}

/// Sets what new sessions begin with, and the security labels. What the server refuses (a parameter that it does not
/// know, a right that we lack) is returned as a note: the rows are whole without it.
pub(super) async fn apply_settings(client: &Client, database: &str, properties: &DatabaseProperties) -> Vec<String> {
    let name = quote_identifier(database);
    let settings = properties.settings.iter().map(|setting| {
        let assignment = assignment(&setting.name, &setting.value);
        let subject = match &setting.role {
            None => format!("DATABASE {name}"),
            Some(role) => format!("ROLE {} IN DATABASE {name}", quote_identifier(role)),
        };
        (format!("setting {:?}", setting.name), format!("ALTER {subject} SET {assignment}"))
    });
    let labels = properties.security_labels.iter().map(|(provider, label)| {
        let (provider_name, label) = (quote_identifier(provider), quote_literal(label));
        let sql = format!("SECURITY LABEL FOR {provider_name} ON DATABASE {name} IS {label}");
        (format!("security label of {provider:?}"), sql)
    });
    let mut notes = Vec::new();
    for (what, sql) in settings.chain(labels) {
        if let Err(error) = client.batch_execute(&sql).await {
            notes.push(format!("the database is without its {what}: {}", refused("set it", error)));
        }
    }
    notes
}

/// The last statements, for the transaction that publishes: the real comment in place of the mark, and the limits.
pub(super) fn closing_statements(database: &str, properties: &DatabaseProperties) -> String {
    let name = quote_identifier(database);
    // A backup of an unfinished restore carries a mark as its comment: a published database must never look like one.
    let comment = properties.comment.as_deref().filter(|comment| Mark::parse(comment).is_none());
    let comment = comment.map_or_else(|| "NULL".to_owned(), quote_literal);
    format!(
        "COMMENT ON DATABASE {name} IS {comment}; \
         ALTER DATABASE {name} WITH CONNECTION LIMIT {} IS_TEMPLATE {} ALLOW_CONNECTIONS {}",
        properties.connection_limit, properties.is_template, properties.allow_connections
    )
}
