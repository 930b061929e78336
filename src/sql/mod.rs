//! Layer 1: speaking to database servers: where they are, how to log in, TLS, quoting, versions.
//!
//! Knows connections and statements, not what is dumped or restored with them.

use std::path::PathBuf;

use crate::base::secret::Secret;

pub mod postgres;

/// Which family of servers speaks here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
}

/// How much of the server's certificate is checked; the words of libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SslMode {
    /// Plain text.
    Disable,
    /// TLS if the server offers it; nothing is checked.
    Prefer,
    /// TLS; nothing is checked.
    Require,
    /// TLS; the certificate must come from a known authority.
    VerifyCa,
    /// TLS; the certificate must come from a known authority and be the host's.
    VerifyFull,
}

/// A database server and how to log in to it. Secrets are already read: this lives as long as one job.
#[derive(Clone, Debug)]
pub struct Server {
    /// The operator's name for it, used in messages and budgets.
    pub name: String,
    /// Which protocol.
    pub family: Family,
    /// Host name, address, or the folder of a Unix socket (begins with `/`).
    pub host: String,
    /// TCP port, or the number in the name of the Unix socket.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// Its password; without one, `PGPASSFILE` and trust or peer authentication are left.
    pub password: Option<Secret>,
    /// A libpq password file, searched where `password` is none.
    pub password_file: Option<PathBuf>,
    /// The database for questions about the whole server.
    pub maintenance_database: String,
    /// How TLS is used.
    pub ssl_mode: SslMode,
    /// A PEM file of authorities to trust instead of the system's.
    pub ssl_root_cert: Option<PathBuf>,
    /// Connections that this process may hold open on it at once, at least 1.
    pub connections: usize,
    /// The folder of `pg_dump` and `pg_restore`, where it should not be searched for.
    pub client_bin: Option<PathBuf>,
}
