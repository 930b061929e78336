//! Asks a restored database one question, in a read-only transaction with a time limit.

use std::time::Duration;

use futures::TryStreamExt;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::base::class::Class;
use crate::engine::Error;
use crate::engine::check::{Answer, Check};
use crate::engine::postgres::refusal::{refused, unreachable};
use crate::sql;
use crate::sql::Server;

/// How much longer than its time limit a question may take before the connection is given up.
const LIMIT_MARGIN: Duration = Duration::from_secs(10);

/// Asks `check` of `database`. What the server says of a failing statement is in the error, without any value.
pub async fn ask(server: &Server, database: &str, check: &Check) -> Result<Answer, Error> {
    let client = sql::postgres::connect(server, database).await.map_err(unreachable)?;
    let limit = check.time_limit + LIMIT_MARGIN;
    match tokio::time::timeout(limit, answer(&client, check)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Database {
            action: action(check),
            reason: format!("no answer within {} s", limit.as_secs()),
            class: Class::Refused,
            hint: None,
            source: None,
        }),
    }
    // The connection ends here, and with it the transaction.
}

fn action(check: &Check) -> String {
    format!("run the check {:?}", check.name)
}

async fn answer(client: &Client, check: &Check) -> Result<Answer, Error> {
    let failed = |error| refused(action(check), error);
    let setup = format!(
        "SET default_transaction_read_only = on; SET lock_timeout = '10s'; SET statement_timeout = {}; \
         BEGIN TRANSACTION READ ONLY",
        check.time_limit.as_millis()
    );
    client.batch_execute(&setup).await.map_err(failed)?;
    // What can be prepared is one statement: nothing ends the transaction and goes on behind it.
    drop(client.prepare(&check.query).await.map_err(failed)?);
    let mut rows = std::pin::pin!(client.simple_query_raw(&check.query).await.map_err(failed)?);
    while let Some(message) = rows.try_next().await.map_err(failed)? {
        if let SimpleQueryMessage::Row(row) = message {
            return Ok(Answer::Value(row.try_get(0).map_err(failed)?.map(str::to_owned)));
        }
    }
    Ok(Answer::Nothing)
}
