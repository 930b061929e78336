//! Finding out that a connection pooler answers in place of the server, and whether it may.
//!
//! A snapshot, a lock and a setting live in one session of the server. A pooler in transaction mode (PgBouncer, Odyssey,
//! PgCat, Supavisor) gives every transaction another session: a dump through it would be silently inconsistent. In
//! session mode a pooler is as good as the server.
//!
//! No pooler can hide: to route cancel requests it must hand out keys of its own, so the process that it announced at
//! the login is not the one that `pg_backend_pid()` names. Only then a second login tells the modes apart.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::base::class::Class;
use crate::sql::Server;
use crate::sql::postgres::error::reason;
use crate::sql::postgres::tls::Bound;
use crate::sql::postgres::{Connection, Error, login};

/// How long a pool may take to give us two sessions.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// How often two idle sessions of a pool are compared. Pools that hand out the last used session, and those that go
/// round, give themselves away in the first round; a busy pool or one that picks by chance, in one of these.
const PROBE_ROUNDS: u32 = 8;

/// The code of a request for TLS (PostgreSQL manual, "Message Formats", `SSLRequest`).
const TLS_REQUEST: [u8; 4] = 80_877_103_i32.to_be_bytes();

/// Refuses a connection whose transactions do not all run in one session of the server.
pub(super) async fn refuse(connection: &Connection, server: &Server, database: &str) -> Result<(), Error> {
    let failed = |source: tokio_postgres::Error| Error::Connect {
        server: server.name.clone(),
        database: database.to_owned(),
        reason: reason(&source),
        class: Class::Database,
        hint: None,
        source: Some(Box::new(source)),
    };
    let refused = |reason: String| Error::Pooler { server: server.name.clone(), database: database.to_owned(), reason };
    let real = backend(connection).await.map_err(failed)?;
    let announced = announced_process(connection).await.to_string();
    if announced == real {
        return Ok(());
    }
    let probe = async {
        let second = login(server, database).await?;
        for _ in 0..PROBE_ROUNDS {
            if let Some(reason) = shared_session(connection, &second, &real).await.map_err(failed)? {
                return Err(refused(reason));
            }
        }
        Ok(())
    };
    let late = || refused(format!("it gave us no second session within {} s", PROBE_LIMIT.as_secs()));
    tokio::time::timeout(PROBE_LIMIT, probe).await.unwrap_or_else(|_| Err(late()))
}

/// Looks at two open connections twice each; says how a session changed or is shared.
async fn shared_session(first: &Client, second: &Client, real: &str) -> Result<Option<String>, tokio_postgres::Error> {
    for _ in 0..2 {
        let now = backend(first).await?;
        if now != real {
            return Ok(Some(format!("one connection of ours spoke to the processes {real} and {now}")));
        }
    }
    let other = backend(second).await?;
    let again = backend(second).await?;
    if other != again {
        return Ok(Some(format!("one connection of ours spoke to the processes {other} and {again}")));
    }
    Ok((other == real).then(|| format!("two connections of ours share the process {real}")))
}

/// The process that executes our statements, by the simple protocol: poolers may refuse prepared statements.
async fn backend(client: &Client) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query("select pg_catalog.pg_backend_pid()").await?;
    let pid = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(pid.unwrap_or_default())
}

/// The process that the far end announced at the login. The library keeps it for cancel requests only: one is written
/// into memory and read there (PostgreSQL manual, "Message Formats", `CancelRequest`).
async fn announced_process(client: &Client) -> i32 {
    let (ours, mut theirs) = tokio::io::duplex(64);
    let token = client.cancel_token();
    let write = token.cancel_query_raw(ours, Untouched);
    let read = async {
        // An announced TLS request is its own message of eight bytes, and wants the letter S before anything follows.
        let mut request = [0; 16];
        theirs.read_exact(&mut request[..8]).await?;
        if request[4..8] == TLS_REQUEST {
            theirs.write_all(b"S").await?;
            theirs.read_exact(&mut request[..8]).await?;
        }
        theirs.read_exact(&mut request[8..]).await?;
        Ok::<_, std::io::Error>(i32::from_be_bytes([request[8], request[9], request[10], request[11]]))
    };
    let (_, process) = tokio::join!(write, read);
    process.unwrap_or_default()
}

/// "TLS" that changes nothing, for a request that never leaves the memory.
struct Untouched;

impl TlsConnect<DuplexStream> for Untouched {
    type Stream = Bound<DuplexStream>;
    type Error = std::io::Error;
    type Future = std::future::Ready<std::io::Result<Self::Stream>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        std::future::ready(Ok(Bound { stream, end_point: None }))
    }
}
