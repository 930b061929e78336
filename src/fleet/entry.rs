//! What one row of a registry says, before anything is looked up.

use crate::base::secret::Secret;

/// A row that could be read.
#[derive(Debug)]
pub(super) struct Entry {
    /// The tenant's key, as the registry prints it.
    pub(super) tenant: String,
    /// The name of its database.
    pub(super) database: String,
    /// Whether there should be such a database.
    pub(super) state: State,
    /// What differs from the server that tenants are on.
    pub(super) place: Place,
    /// The row has a login of its own that cannot be read.
    pub(super) encrypted_login: bool,
}

/// Where a row says that its database is; what it leaves out is as configured.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The operator's name of a configured server.
    pub(super) server: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
}

/// What a row says about the life of its database.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is in use.
    Live,
    /// It is not to be expected, for this reason.
    Unprovisioned(String),
    /// The tenant was deleted, which leaves the database in place for a while; the time as the registry prints it.
    Deleted(String),
}

/// A row that says nothing usable, and why; never with a value that could be a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// The tenant's key as far as it is known.
    pub(super) tenant: String,
    pub(super) reason: String,
}

/// One value of a row.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Field {
    Null,
    Text(String),
    /// It is longer than any value of its kind may be.
    TooLong,
    /// It is no UTF-8, in a database whose encoding says nothing.
    NotText,
}

impl Field {
    /// The text, nothing for NULL, or why there is none; `column` is its name.
    pub(super) fn text(self, column: &str) -> Result<Option<String>, String> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::TooLong => Err(format!("column {column} is too long")),
            Self::NotText => Err(format!("column {column} is not UTF-8")),
        }
    }
}

/// The port that a text is.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("its port {text:?} is no port"))
}

/// A value that must not be empty where it is there at all.
pub(super) fn not_empty(text: Option<String>, what: &str) -> Result<Option<String>, String> {
    match text {
        Some(text) if text.is_empty() => Err(format!("its {what} is empty")),
        other => Ok(other),
    }
}
