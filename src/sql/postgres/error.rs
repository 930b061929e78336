//! Why a server cannot be used, and what its error codes mean for a second try.

use std::path::PathBuf;

use crate::base::class::Class;
use crate::sql::postgres::version::{OLDEST_MAJOR, Version};
use crate::sql::postgres::words;

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No login.
    #[error("connect to database {database:?} on server {server:?}: {reason}")]
    Connect {
        /// The operator's name for the server.
        server: String,
        /// The database.
        database: String,
        /// The server's own words.
        reason: String,
        /// Transient, or for good.
        class: Class,
        /// What to type next, where that is known.
        hint: Option<String>,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The server is there and has no such database.
    #[error("server {server:?} has no database {database:?}")]
    NoDatabase {
        /// The operator's name for the server.
        server: String,
        /// The database.
        database: String,
    },
    /// The password file must not or cannot be used.
    #[error("password file {} is not used: {reason}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to type next, where that is known.
        hint: Option<String>,
    },
    /// There is nothing to check a certificate against.
    #[error("certificates to trust for server {server:?}: {reason}")]
    Authorities {
        /// The operator's name for the server.
        server: String,
        /// What is wrong with the file, or with the system's certificates.
        reason: String,
    },
    /// The server is older than anything we speak to.
    #[error("server {server:?} is PostgreSQL {version}, older than {OLDEST_MAJOR}")]
    TooOld {
        /// The operator's name for the server.
        server: String,
        /// Its version.
        version: Version,
    },
    /// A proxy stands between us and the server and gives each transaction another session.
    #[error("server {server:?} answers for database {database:?} through a connection pooler: {reason}")]
    Pooler {
        /// The operator's name for the server.
        server: String,
        /// The database.
        database: String,
        /// What gave it away.
        reason: String,
    },
}

impl Error {
    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::Connect { class, .. } => *class,
            Self::NoDatabase { .. } => Class::Database,
            Self::PasswordFile { .. } | Self::Authorities { .. } => Class::Usage,
            Self::TooOld { .. } | Self::Pooler { .. } => Class::Refused,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Connect { hint, .. } | Self::PasswordFile { hint, .. } => hint.clone(),
            Self::NoDatabase { .. } => Some(
                "it was dropped or renamed: `dbkeeper doctor` compares the registry with what the servers have".to_owned(),
            ),
            Self::Authorities { .. } => Some("name a PEM file with the certificate of the server's authority".to_owned()),
            Self::TooOld { .. } => Some(format!("upgrade it to PostgreSQL {OLDEST_MAJOR} or newer")),
            Self::Pooler { .. } => Some(
                "use the port of PostgreSQL itself (5432), not that of the pooler (6432), or a pool of it in session mode"
                    .to_owned(),
            ),
        }
    }
}

/// True where the server refused for a passing reason (PostgreSQL manual, appendix A), so that a new connection may
/// succeed later: it starts, stops or is full, or a deadlock or serialization failure hit us.
pub fn is_transient(sqlstate: &str) -> bool {
    const PASSING: [&str; 11] =
        ["08000", "08003", "08006", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "57P05"];
    PASSING.contains(&sqlstate)
}

/// The server's own words, without values of rows, or the cause of a failure on the way.
///
/// The error becomes the source of ours by [`words::source`] only: it prints its detail.
pub fn reason(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        return text;
    };
    words::of(db)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_starting_server_is_transient_and_a_wrong_password_is_not() {
        for code in ["57P03", "53300", "40P01", "08006"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["28P01", "28000", "3D000", "42501", "53100", "08P01", "XX000", ""] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
