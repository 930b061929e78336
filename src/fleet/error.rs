//! Why there is no discovery at all. What is wrong with one tenant is a finding, not an error.

use crate::base::class::Class;
use crate::sql::postgres;

/// Why nothing could be discovered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server that must answer does not.
    #[error(transparent)]
    Server(#[from] postgres::Error),
    /// A question to the central database or to a server's catalog failed.
    #[error("ask database {database:?} on server {server:?} for the tenants: {reason}")]
    Ask {
        /// The operator's name for the server.
        server: String,
        /// The database.
        database: String,
        /// The server's own words.
        reason: String,
        /// What it means.
        class: Class,
        /// What to do about it, where that is known.
        hint: Option<String>,
    },
    /// The registry is not of the shape that was announced.
    #[error("{registry} has no usable columns: {problem}; found: {found}")]
    Columns {
        /// What was read: a table, or the query.
        registry: &'static str,
        /// What is wrong.
        problem: String,
        /// The columns that are there.
        found: String,
        /// What is expected.
        expected: &'static str,
    },
    /// The registry is in the central database, and none is configured.
    #[error("this way of discovery asks the central database, and none is configured")]
    NoCentral,
    /// More than any fleet has: a query that multiplies rows, more likely.
    #[error("{what} are more than {limit}")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Discovery speaks to PostgreSQL only.
    #[error("server {server:?} is no PostgreSQL server")]
    Family {
        /// The operator's name for the server.
        server: String,
    },
}

impl Error {
    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::Server(error) => error.class(),
            Self::Ask { class, .. } => *class,
            Self::Columns { .. } | Self::NoCentral | Self::TooMany { .. } | Self::Family { .. } => Class::Usage,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Server(error) => error.hint(),
            Self::Ask { hint, .. } => hint.clone(),
            Self::Columns { expected, .. } => Some(format!("expected are {expected}")),
            Self::NoCentral => Some("add a section [central]".to_owned()),
            Self::TooMany { .. } => Some("the query must give one row for each tenant".to_owned()),
            Self::Family { .. } => None,
        }
    }
}
