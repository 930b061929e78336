//! The socket under a session: each address of the server in turn, and questions to a silent far end.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

use crate::sql::Server;
use crate::sql::postgres::gathering::Gathering;

/// How long one address of a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Silence after which the far end is asked whether it still lives. Firewalls forget a connection after minutes, and a
/// worker that waits for a lock or an index is silent for longer.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// The time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How many of them stay unanswered before the connection is given up.
const KEEPALIVE_RETRIES: u32 = 4;

/// A connection to a server, by TCP or in its folder.
pub(super) type Socket = Either<Gathering, UnixStream>;

/// Connects to the first address of `server` that answers. A host that begins with a slash is the folder of a Unix socket.
pub(super) async fn connect(server: &Server) -> io::Result<Socket> {
    if server.host.starts_with('/') {
        let path = std::path::Path::new(&server.host).join(format!(".s.PGSQL.{}", server.port));
        return limited(UnixStream::connect(path)).await.map(Either::Right);
    }
    let mut last = None;
    for address in tokio::net::lookup_host((server.host.as_str(), server.port)).await? {
        match limited(TcpStream::connect(address)).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
                let keepalive = keepalive.with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                return Ok(Either::Left(Gathering::new(stream)));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its name has no address")))
}

async fn limited<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECT_LIMIT.as_secs()));
    tokio::time::timeout(CONNECT_LIMIT, connecting).await.unwrap_or_else(|_| Err(late()))
}
