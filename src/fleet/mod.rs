//! Layer 2: what exists: the central database, the tenants of the application's own registry, and who is selected.
//!
//! Discovery is read anew at every run and reports what does not fit: nobody is missed in silence. Knows the registry's
//! conventions and the names of databases; must not know how they are dumped or where they are stored.
//!
//! One way through: a row of the registry is read by its convention (`stancl`, `spatie`, `query`) into an entry; the entry
//! is placed on a server (`placement`); the databases of each server are listed once (`catalog`) and laid against the
//! entries (`reconcile`). All of it but the two readings is pure.

use std::sync::Arc;

use crate::base::ids::TargetId;
use crate::sql::Server;

mod catalog;
mod discover;
mod entry;
mod error;
mod known;
mod laravel;
mod placement;
mod query;
mod reconcile;
mod registry;
mod selection;
mod spatie;
mod stancl;

pub use discover::{Discover, Sources, discover};
pub use error::Error;
pub use known::compare_with_known;
pub use selection::{SelectError, Selection, select};

/// A database that is to be protected, and where it is.
#[derive(Clone, Debug)]
pub struct Database {
    /// Whose it is.
    pub target: TargetId,
    /// The server, with all overrides of the registry applied (host, port, user, password). Shared by all tenants on it
    /// that have no login of their own.
    pub server: Arc<Server>,
    /// The name of the database on that server.
    pub name: String,
}

/// What discovery found.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// The databases that can be backed up, in order of their targets: the central one first, if one is configured.
    pub databases: Vec<Database>,
    /// What does not fit. A target that is named here and not in `databases` is not protected.
    pub findings: Vec<Finding>,
}

/// Something in the registry or on a server that an operator must know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Which kind of thing.
    pub kind: FindingKind,
    /// The tenant, as the registry prints its key; empty where the finding is about a database without a row.
    pub tenant: String,
    /// The server's name.
    pub server: String,
    /// The database's name; empty where it could not be read.
    pub database: String,
    /// One sentence: what, and why it matters.
    pub message: String,
}

/// What a finding is about. The first group leaves somebody unprotected and fails the run (exit 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// A registry row names a database that does not exist.
    RowWithoutDatabase,
    /// A registry row cannot be read (bad JSON, encrypted, wrong shape, impossible name, unknown server).
    UnreadableRow,
    /// A server cannot be asked which databases it has; those that the registry names are tried all the same.
    UnreachableServer,
    /// Two rows name the same database: it is backed up for both, but a restore of one is a restore of the other.
    SharedDatabase,
    /// A database that looks like a tenant's has no row.
    DatabaseWithoutRow,
    /// A row says that the tenant has no database yet or any more (pending, deleted, `tenancy_create_database` false).
    Unprovisioned,
    /// A row is marked as deleted and its database is still there: it is backed up.
    DeletedTenant,
    /// A row has a login of its own that only the application can decrypt: the server's configured role is used.
    EncryptedLogin,
    /// A tenant that has no backup in the repository yet.
    NewTenant,
    /// A tenant that has backups in the repository and is in the registry no longer.
    GoneTenant,
}

impl FindingKind {
    /// True where somebody is not protected by this run.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::RowWithoutDatabase | Self::UnreadableRow | Self::UnreachableServer)
    }
}
