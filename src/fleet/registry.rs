//! Reading a registry in the central database: row by row, in bounded memory, and without writing anything.

use std::time::Duration;

use futures::TryStreamExt;

use crate::base::class::Class;
use crate::fleet::entry::Field;
use crate::fleet::error::Error;
use crate::sql::Server;
use crate::sql::postgres::{Connection, connect, is_transient, quote_identifier, reason};

/// More tenants than this are an error in a query.
const MAX_ROWS: usize = 1_000_000;

/// How long one question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(600);

/// A session in which nothing can be written.
pub(super) struct Reader<'a> {
    connection: Connection,
    server: &'a Server,
    database: &'a str,
}

/// A column to be read, and how many characters it may have.
pub(super) struct Wanted<'a> {
    pub(super) column: &'a str,
    pub(super) max_chars: usize,
}

impl<'a> Reader<'a> {
    pub(super) async fn open(server: &'a Server, database: &'a str) -> Result<Self, Error> {
        let reader = Self { connection: connect(server, database).await?, server, database };
        let limit_ms = QUESTION_LIMIT.as_millis();
        let begin = format!("begin read only; set local statement_timeout = {limit_ms}");
        reader.connection.batch_execute(&begin).await.map_err(|error| reader.failed(&error))?;
        Ok(reader)
    }

    /// The names of the columns that `from` has: a table, or a query in parentheses.
    pub(super) async fn columns(&self, from: &str) -> Result<Vec<String>, Error> {
        let sql = format!("select * from {from} q");
        let statement = self.connection.prepare(&sql).await.map_err(|error| self.failed(&error))?;
        Ok(statement.columns().iter().map(|column| column.name().to_owned()).collect())
    }

    /// Gives each row of `from` to `each`, as text. What is longer than wanted never leaves the server whole.
    pub(super) async fn rows(
        &self,
        from: &str,
        wanted: &[Wanted<'_>],
        mut each: impl FnMut(Vec<Field>),
    ) -> Result<(), Error> {
        let columns = wanted.iter().map(|Wanted { column, max_chars }| {
            format!("pg_catalog.left(q.{}::pg_catalog.text, {})", quote_identifier(column), max_chars + 1)
        });
        let sql = format!("select {} from {from} q", columns.collect::<Vec<_>>().join(", "));
        let parameters: [&str; 0] = [];
        let rows = self.connection.query_raw(&sql, parameters).await.map_err(|error| self.failed(&error))?;
        let mut rows = std::pin::pin!(rows);
        let mut count = 0;
        while let Some(row) = rows.try_next().await.map_err(|error| self.failed(&error))? {
            count += 1;
            if MAX_ROWS < count {
                return Err(Error::TooMany { what: "tenants", limit: MAX_ROWS });
            }
            each(wanted.iter().enumerate().map(|(at, wanted)| field(&row, at, wanted.max_chars)).collect());
        }
        Ok(())
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Error {
        failed(self.server, self.database, error)
    }
}

fn field(row: &tokio_postgres::Row, at: usize, max_chars: usize) -> Field {
    match row.try_get::<_, Option<String>>(at) {
        Ok(None) => Field::Null,
        // Bytes bound the count of characters, which is looked at only where it matters.
        Ok(Some(text)) if max_chars < text.len() && max_chars < text.chars().count() => Field::TooLong,
        Ok(Some(text)) => Field::Text(text),
        Err(_) => Field::NotText,
    }
}

/// A question that the server did not answer.
pub(super) fn failed(server: &Server, database: &str, error: &tokio_postgres::Error) -> Error {
    let code = error.code().map_or("", |code| code.code());
    let class = match code {
        "" => Class::Database,
        code if is_transient(code) => Class::Transient,
        _ => Class::Refused,
    };
    let hint = match code {
        "42P01" => Some("the registry is not in this database, or not in the search_path of the role".to_owned()),
        "42501" => Some(format!("let role {:?} read the registry (GRANT SELECT)", server.user)),
        _ => None,
    };
    let (server, database) = (server.name.clone(), database.to_owned());
    Error::Ask { server, database, reason: reason(error), class, hint }
}
