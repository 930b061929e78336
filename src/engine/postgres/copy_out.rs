//! Rows out of the server: one COPY after the other on one session, the rows pushed as they come.
//!
//! The server waits for us at no point between two tables: statements are prepared ahead, and the next COPY is on its way
//! while the rows of the one before are still coming. Back-pressure is TCP's: while the sink has no room nothing is read.

use futures::StreamExt;
use tokio_postgres::{Client, CopyOutStream, Statement};

use crate::engine::postgres::session::failed;
use crate::engine::{Error, PartSink};
use crate::sql::postgres::{Connection, Copied};

/// Statements that are prepared ahead of their turn.
const PREPARED_AHEAD: usize = 64;

/// One part to read on a session.
#[derive(Clone, Debug)]
pub(super) struct CopyOut {
    /// Its index among the session's parts.
    pub(super) part: usize,
    /// Its name, for messages.
    pub(super) name: String,
    /// The COPY statement.
    pub(super) statement: String,
}

/// Prepares the first statements of a run, so that a caller can send other things at the same time.
pub(super) async fn prepare(client: &Client, copies: &[CopyOut]) -> Result<Vec<Statement>, tokio_postgres::Error> {
    let ahead = copies.iter().take(PREPARED_AHEAD);
    futures::future::try_join_all(ahead.map(|copy| client.prepare(&copy.statement))).await
}

/// Reads the parts, in this order, into the sink; `prepared` are the statements of the first of them.
///
/// On failure the session is in the middle of an answer and must be closed.
pub(super) async fn read(
    connection: &Connection,
    copies: &[CopyOut],
    prepared: Vec<Statement>,
    sink: &mut dyn PartSink,
) -> Result<(), Error> {
    let mut prepared = prepared;
    for run in copies.chunks(PREPARED_AHEAD) {
        if prepared.is_empty() {
            prepared = prepare(connection, run).await.map_err(|error| failed("prepare to read tables", error))?;
        }
        read_run(connection, run, &std::mem::take(&mut prepared), sink).await?;
    }
    Ok(())
}

async fn read_run(
    connection: &Connection,
    run: &[CopyOut],
    statements: &[Statement],
    sink: &mut dyn PartSink,
) -> Result<(), Error> {
    let start = async |at: usize| match (run.get(at), statements.get(at)) {
        (Some(copy), Some(statement)) => {
            let stream = connection.copy_out(statement).await;
            stream.map(Some).map_err(|error| failed(format!("read {}", copy.name), error))
        }
        _ => Ok(None),
    };
    let mut current = start(0).await?;
    for (at, copy) in run.iter().enumerate() {
        let stream = current.take().expect("there is a stream for each part of the run");
        (_, current) = futures::try_join!(drain(connection, copy, stream, sink), start(at + 1))?;
    }
    Ok(())
}

async fn drain(
    connection: &Connection,
    copy: &CopyOut,
    stream: CopyOutStream,
    sink: &mut dyn PartSink,
) -> Result<(), Error> {
    sink.begin(copy.part).await?;
    loop {
        match connection.copied().await {
            Copied::Rows(rows) => {
                for row in rows.iter() {
                    push(copy, row, sink).await?;
                }
            }
            Copied::End(counted) => return Ok(sink.end(Some(counted)).await?),
            Copied::Broken => return Err(why_broken(copy, stream).await),
        }
    }
}

async fn push(copy: &CopyOut, row: &[u8], sink: &mut dyn PartSink) -> Result<(), Error> {
    if row.last() != Some(&b'\n') {
        return Err(Error::Mismatch {
            what: format!("a row of {}", copy.name),
            details: format!("{} bytes without a line end", row.len()),
        });
    }
    if sink.push(row) {
        sink.drain().await?;
    }
    Ok(())
}

/// The server's own words, which the client library was given.
async fn why_broken(copy: &CopyOut, stream: CopyOutStream) -> Error {
    let mut stream = std::pin::pin!(stream);
    match stream.next().await {
        Some(Err(error)) => failed(format!("read {}", copy.name), error),
        Some(Ok(_)) | None => Error::Mismatch {
            what: format!("the answer to the COPY of {}", copy.name),
            details: "it ended without the server's count of rows".to_owned(),
        },
    }
}
