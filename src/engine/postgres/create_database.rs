//! Creates the database that a restore fills, marked as ours from its first moment on, and drops it again.
//!
//! What sessions or people would notice (settings, limits, privileges, comment) is not set here but at the end of the
//! restore: `database_properties`.

use tokio_postgres::Client;

use crate::engine::Error;
use crate::engine::postgres::database_name::Mark;
use crate::engine::postgres::description::DatabaseProperties;
use crate::engine::postgres::refusal::{blocked, refused};
use crate::sql::postgres::{quote_identifier, quote_literal};

/// The server versions from which on `CREATE DATABASE` knows these words.
const LOCALE_PROVIDER_SINCE: u32 = 150_000;
const ICU_RULES_SINCE: u32 = 160_000;

/// What is to be created.
pub(super) struct NewDatabase<'a> {
    pub(super) name: &'a str,
    pub(super) mark: &'a Mark,
    pub(super) properties: &'a DatabaseProperties,
    /// `None` is the server's default.
    pub(super) tablespace: Option<&'a str>,
    /// `None` leaves it with the role that is logged in.
    pub(super) owner: Option<&'a str>,
    pub(super) server_version_num: u32,
}

/// Creates the database and marks it.
///
/// After a failure there is no database, except where the connection broke between the two statements: then an empty,
/// unmarked database of this name is left.
pub(super) async fn create_database(maintenance: &Client, new: &NewDatabase<'_>) -> Result<(), Error> {
    let name = new.name;
    let failed = |error| refused(format!("create database {name:?}"), error);
    maintenance.batch_execute(&statement(new)).await.map_err(failed)?;
    let mark = format!("COMMENT ON DATABASE {} IS {}", quote_identifier(name), quote_literal(&new.mark.print()));
    if let Err(error) = maintenance.batch_execute(&mark).await {
        let error = refused(format!("mark database {name:?}"), error);
        // It was created by the statement before: it is ours, whatever became of the mark.
        let _ = maintenance.batch_execute(&format!("DROP DATABASE {}", quote_identifier(name))).await;
        return Err(error);
    }
    Ok(())
}

/// Drops the database of this name, if it still carries exactly this mark. True if it was there.
pub(super) async fn drop_marked(maintenance: &Client, name: &str, mark: &Mark) -> Result<bool, Error> {
    let action = || format!("drop database {name:?}");
    let query =
        "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = $1";
    let row = maintenance.query_opt(query, &[&name]).await.map_err(|error| refused(action(), error))?;
    let Some(row) = row else { return Ok(false) };
    let comment: Option<String> = row.get(0);
    if comment.as_deref().and_then(Mark::parse).as_ref() != Some(mark) {
        return Err(blocked(action(), "it does not carry the mark of this restore", None));
    }
    let drop = format!("DROP DATABASE {}", quote_identifier(name));
    maintenance.batch_execute(&drop).await.map_err(|error| refused(action(), error))?;
    Ok(true)
}

fn statement(new: &NewDatabase<'_>) -> String {
    let properties = new.properties;
    let mut sql = format!("CREATE DATABASE {} WITH TEMPLATE = template0", quote_identifier(new.name));
    let mut add = |word: &str, value: String| sql.push_str(&format!(" {word} = {value}"));
    add("ENCODING", quote_literal(&properties.encoding));
    if new.server_version_num >= LOCALE_PROVIDER_SINCE {
        let (provider, word) = match properties.locale_provider.as_str() {
            "i" => ("icu", Some("ICU_LOCALE")),
            "b" => ("builtin", Some("BUILTIN_LOCALE")),
            _ => ("libc", None),
        };
        add("LOCALE_PROVIDER", provider.to_owned());
        if let (Some(word), Some(locale)) = (word, &properties.locale) {
            add(word, quote_literal(locale));
        }
    }
    add("LC_COLLATE", quote_literal(&properties.collate));
    add("LC_CTYPE", quote_literal(&properties.ctype));
    if let Some(rules) = properties.icu_rules.as_ref().filter(|_| new.server_version_num >= ICU_RULES_SINCE) {
        add("ICU_RULES", quote_literal(rules));
    }
    if let Some(tablespace) = new.tablespace {
        add("TABLESPACE", quote_identifier(tablespace));
    }
    if let Some(owner) = new.owner {
        add("OWNER", quote_identifier(owner));
    }
    sql
}
