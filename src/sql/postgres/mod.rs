//! Logging in to PostgreSQL, and its quoting rules.
//!
//! A [`Connection`] is a client with the task that drives it: dropping it closes the connection and ends the task. Each
//! one is a session of a supported server, of its own for as long as it is open: a pooler that would share it is refused.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::SslMode as Mode;
use tokio_postgres::{Client, Config, NoTls};

use crate::base::class::Class;
use crate::sql::postgres::tls::{HandshakeFailed, Tls};
use crate::sql::postgres::wire::{CopySource, Tap, Wire};
use crate::sql::{Server, SslMode};

mod certificate;
mod error;
mod gathering;
mod password_file;
mod pooler;
mod quote;
mod socket;
mod tls;
mod version;
mod wire;
pub mod words;

pub use error::{Error, is_transient, reason};
pub use quote::{quote_identifier, quote_literal, quote_qualified};
pub use version::{NEWEST_MAJOR, OLDEST_MAJOR, Version, in_recovery};
pub use wire::{Copied, Rows};

/// What every session of ours calls itself in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "dbkeeper";

/// How long a whole login may take, all addresses, TLS and authentication included.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

/// An open connection to one database.
pub struct Connection {
    client: Client,
    version: Version,
    driver: tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>,
    copies: Arc<dyn CopySource>,
}

impl Connection {
    /// The version of the server.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What comes next of the COPY whose stream the client has opened; the rows do not come through that stream.
    pub async fn copied(&self) -> Copied {
        std::future::poll_fn(|context| self.copies.poll_copied(context)).await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Logs in to `database` on `server`.
///
/// Nothing is tried twice, apart from `sslmode=prefer`; an error of class [`Class::Transient`] is worth a second try.
pub async fn connect(server: &Server, database: &str) -> Result<Connection, Error> {
    let connection = login(server, database).await?;
    pooler::refuse(&connection, server, database).await?;
    Ok(connection)
}

/// A session that may yet turn out to be shared.
async fn login(server: &Server, database: &str) -> Result<Connection, Error> {
    let attempt = async {
        let config = config(server, database).await?;
        let tls = Tls::of(server).await;
        let tls = tls.map_err(|reason| Error::Authorities { server: server.name.clone(), reason })?;
        let opened = match (tls, server.ssl_mode) {
            (None, _) => open(config, None, server, Mode::Disable).await,
            (Some(tls), SslMode::Prefer) => match open(config.clone(), Some(&tls), server, Mode::Prefer).await {
                Err(Refusal::Login(error)) if plain_may_do_better(&error) => {
                    open(config, None, server, Mode::Disable).await
                }
                opened => opened,
            },
            (Some(tls), _) => open(config, Some(&tls), server, Mode::Require).await,
        };
        opened.map_err(|error| refusal(server, database, error))
    };
    let late = || Error::Connect {
        server: server.name.clone(),
        database: database.to_owned(),
        reason: format!("no answer within {} s", LOGIN_LIMIT.as_secs()),
        class: Class::Database,
        hint: None,
        source: None,
    };
    tokio::time::timeout(LOGIN_LIMIT, attempt).await.unwrap_or_else(|_| Err(late()))
}

async fn config(server: &Server, database: &str) -> Result<Config, Error> {
    let mut config = Config::new();
    config.user(&server.user).dbname(database).application_name(APPLICATION_NAME);
    let from_file = match (&server.password, &server.password_file) {
        (None, Some(path)) => password_file::look_up(path, server, database).await.map_err(|unusable| {
            let open = matches!(unusable, password_file::Unusable::Open(_));
            let hint = open.then(|| format!("chmod 600 {}", path.display()));
            Error::PasswordFile { path: path.clone(), reason: unusable.to_string(), hint }
        })?,
        _ => None,
    };
    if let Some(password) = server.password.as_ref().or(from_file.as_ref()) {
        config.password(password.reveal());
    }
    Ok(config)
}

/// Why no session came about.
enum Refusal {
    Socket(io::Error),
    Login(tokio_postgres::Error),
    TooOld(Version),
}

async fn open(mut config: Config, tls: Option<&Tls>, server: &Server, mode: Mode) -> Result<Connection, Refusal> {
    config.ssl_mode(mode);
    let tap = Tap::default();
    let stream = Wire::new(socket::connect(server).await.map_err(Refusal::Socket)?, &tap);
    let (client, driver, version) = match tls {
        None => {
            let (client, driver) = config.connect_raw(stream, NoTls).await.map_err(Refusal::Login)?;
            let version = version_of(&driver);
            (client, tokio::spawn(driver), version)
        }
        Some(tls) => {
            let handshake = tls.handshake(&server.host, &tap);
            let handshake = handshake.map_err(|error| Refusal::Socket(io::Error::other(error)))?;
            let (client, driver) = config.connect_raw(stream, handshake).await.map_err(Refusal::Login)?;
            let version = version_of(&driver);
            (client, tokio::spawn(driver), version)
        }
    };
    if version.is_too_old() {
        driver.abort();
        return Err(Refusal::TooOld(version));
    }
    if version.is_untested() {
        tracing::warn!(server = server.name, %version, "server is newer than any that was tested");
    }
    let copies = tap.lock().unwrap_or_else(PoisonError::into_inner).take();
    let copies = copies.expect("a wire leaves its source when it is made");
    Ok(Connection { client, version, driver, copies })
}

fn version_of<S, T>(driver: &tokio_postgres::Connection<S, T>) -> Version
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let version = driver.parameter("server_version").and_then(Version::parse);
    version.unwrap_or(Version { major: 0, minor: 0 })
}

/// libpq's rule for `prefer`: once more without TLS where the handshake failed, or where the server refused the login
/// itself, as it does if pg_hba.conf wants no TLS.
fn plain_may_do_better(error: &tokio_postgres::Error) -> bool {
    let handshake = std::error::Error::source(error).is_some_and(|cause| cause.is::<HandshakeFailed>());
    handshake || error.code().is_some_and(|code| code.code().starts_with("28"))
}

fn refusal(server: &Server, database: &str, refusal: Refusal) -> Error {
    let source = match refusal {
        Refusal::Login(source) => source,
        Refusal::Socket(source) => {
            return Error::Connect {
                server: server.name.clone(),
                database: database.to_owned(),
                reason: format!("error connecting to {}:{}: {source}", server.host, server.port),
                class: Class::Database,
                hint: Some(format!(
                    "check that {}:{} is where server {:?} of [[servers]] is, that it is up, and that its port is open from here",
                    server.host, server.port, server.name
                )),
                source: Some(Box::new(source)),
            };
        }
        Refusal::TooOld(version) => return Error::TooOld { server: server.name.clone(), version },
    };
    let code = source.code().map_or("", |code| code.code());
    if code == "3D000" {
        return Error::NoDatabase { server: server.name.clone(), database: database.to_owned() };
    }
    Error::Connect {
        server: server.name.clone(),
        database: database.to_owned(),
        reason: reason(&source),
        class: if is_transient(code) { Class::Transient } else { Class::Database },
        hint: hint(server, database, &source),
        source: Some(Box::new(source)),
    }
}

/// What to look at after a failed login.
fn hint(server: &Server, database: &str, error: &tokio_postgres::Error) -> Option<String> {
    let Server { name, user, host, port, .. } = server;
    let no_password = reason(error).ends_with("password missing");
    match error.code().map(|code| code.code()) {
        Some("28P01") => Some(format!("check the password of role {user:?} that is configured for server {name:?}")),
        Some("53300") => Some(format!(
            "end sessions that nobody needs (SELECT pid, usename, datname, state FROM pg_stat_activity), raise max_connections, or lower `connections` of server {name:?}"
        )),
        Some("57P03") => Some("wait until the server is up, and run the same command again".to_owned()),
        Some("28000") => Some(format!(
            "pg_hba.conf on {host} must let role {user:?} in from here, with the sslmode that is configured"
        )),
        Some("42501") => {
            Some(format!("GRANT CONNECT ON DATABASE {} TO {};", quote_identifier(database), quote_identifier(user)))
        }
        None if no_password => Some(match &server.password_file {
            Some(path) => format!("{} has no line for {host}:{port} and role {user:?}", path.display()),
            None => format!("configure a password for server {name:?}"),
        }),
        _ => tls::hint(error),
    }
}
