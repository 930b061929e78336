//! Which databases a server has: one connection and one bounded question for each server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio_postgres::types::{FromSql, Type};

use crate::fleet::error::Error;
use crate::fleet::placement::Address;
use crate::fleet::registry::failed;
use crate::sql::Server;
use crate::sql::postgres::{Connection, connect};

/// More databases than this are more than a server can have files for.
const MAX_DATABASES: usize = 1_000_000;

/// How many servers are asked at once.
const MAX_SERVERS_AT_ONCE: usize = 8;

/// The databases of one server, templates left out.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) names: BTreeSet<String>,
    /// Those that match the pattern, if one was asked for.
    pub(super) matching: Vec<String>,
}

/// What each server answered.
pub(super) type Catalogs = BTreeMap<Address, Result<Catalog, Error>>;

/// A server to be asked.
pub(super) struct Question {
    pub(super) server: Arc<Server>,
    /// A database to ask in, if the server's role may not enter the one for such questions.
    pub(super) otherwise: Option<String>,
}

/// Asks each server; `pattern` is of SQL's LIKE.
pub(super) async fn read_all(questions: Vec<Question>, pattern: Option<&str>) -> Catalogs {
    let answers = futures::stream::iter(questions).map(|question| async move {
        let address = Address::of(&question.server);
        (address, read(&question, pattern).await)
    });
    answers.buffer_unordered(MAX_SERVERS_AT_ONCE).collect().await
}

async fn read(question: &Question, pattern: Option<&str>) -> Result<Catalog, Error> {
    let (connection, database) = open(question).await?;
    let failed = |error| failed(&question.server, database, &error);
    let sql = "select datname, coalesce(datname operator(pg_catalog.~~) $1::pg_catalog.text, false) \
               from pg_catalog.pg_database where not datistemplate";
    let rows = connection.query_raw(sql, [pattern]).await.map_err(failed)?;
    let mut rows = std::pin::pin!(rows);
    let mut catalog = Catalog::default();
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        if MAX_DATABASES <= catalog.names.len() {
            return Err(Error::TooMany { what: "databases on one server", limit: MAX_DATABASES });
        }
        let (Lossy(name), matches) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        if matches {
            catalog.matching.push(name.clone());
        }
        catalog.names.insert(name);
    }
    Ok(catalog)
}

async fn open(question: &Question) -> Result<(Connection, &str), Error> {
    let maintenance = &question.server.maintenance_database;
    let first = connect(&question.server, maintenance).await;
    match (&question.otherwise, first) {
        (_, Ok(connection)) => Ok((connection, maintenance)),
        (None, Err(error)) => Err(error.into()),
        // A tenant's own role may be let into the tenant's database only.
        (Some(other), Err(error)) => match connect(&question.server, other).await {
            Ok(connection) => Ok((connection, other)),
            Err(_) => Err(error.into()),
        },
    }
}

/// A database's name. Its bytes are in the encoding of whoever made it, which need not be ours.
struct Lossy(String);

impl<'a> FromSql<'a> for Lossy {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::NAME
    }
}
