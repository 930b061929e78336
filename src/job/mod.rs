//! Layer 5: whole jobs over the fleet, one file per kind.
//!
//! A job reads secrets, opens the repository, finds the fleet, works on every selected target and reports. Must not know the
//! command line: it is handed a [`Context`](context::Context) and a request, and returns a report or an error.

pub mod backup;
pub mod checkpoint;
pub mod context;
pub mod copy;
pub(crate) mod damage;
pub mod doctor;
pub mod drill;
pub mod erase;
pub mod export;
pub mod freshness;
pub mod hold;
pub mod init;
pub mod keys;
pub mod list;
pub(crate) mod places;
pub mod prune;
pub mod restore;
mod restore_options;
pub mod restore_run;
pub mod rotate;
pub mod servers;
pub mod verify;
pub mod watchdog;

pub use crate::job::context::Context;

use crate::base::class::Class;
use crate::base::ids::{BackupId, TargetId};
use crate::engine::postgres::lost::is_lost;
use crate::{config, engine, fleet, repository, restore as restoring, sql, store};

/// Why a whole job failed. What fails for one target is in the report instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration, or a secret that it names.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// A database server.
    #[error(transparent)]
    Sql(#[from] sql::postgres::Error),
    /// Discovery.
    #[error(transparent)]
    Fleet(#[from] fleet::Error),
    /// Selection.
    #[error(transparent)]
    Select(#[from] fleet::SelectError),
    /// A client program, or a server's catalogs.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// One restore.
    #[error(transparent)]
    Restore(#[from] restoring::Error),
    /// Nothing fits the selection.
    #[error("nothing is selected: {what}")]
    NothingSelected {
        /// What was looked for.
        what: String,
    },
    /// What was asked for cannot be done as it was asked.
    #[error("{what}")]
    Refused {
        /// What and why.
        what: String,
        /// What to type instead.
        hint: String,
    },
    /// The run was stopped from outside.
    #[error("stopped by a signal")]
    Stopped,
    /// Nobody answered.
    #[error("{what}: no answer for {}", crate::base::units::print_duration(*.limit))]
    Silent {
        /// What was asked.
        what: &'static str,
        /// For how long.
        limit: std::time::Duration,
    },
    /// The configuration does not name it.
    #[error("{target} is not in the configuration")]
    Unconfigured {
        /// What is missing.
        target: TargetId,
    },
    /// A backup is damaged.
    #[error("backup {backup} of {target} is damaged: {touched}")]
    BadBackup {
        /// Whose backup.
        target: TargetId,
        /// Which.
        backup: BackupId,
        /// What cannot be restored from it.
        touched: String,
        /// What to type next.
        hint: String,
        /// What was found.
        #[source]
        source: Box<Error>,
    },
    /// All that was stored of it was destroyed on purpose.
    #[error("{target} was erased on {}: the signed record of it is {record}", .at.format("%Y-%m-%d %H:%M UTC"))]
    Erased {
        /// Whose backups.
        target: TargetId,
        /// When.
        at: chrono::DateTime<chrono::Utc>,
        /// The key of the record.
        record: store::ObjectKey,
    },
    /// A backup that a checkpoint saw is not there any more.
    #[error("{target} is not as the checkpoint of {taken_at} saw it: {what}")]
    Behind {
        /// Whose backup.
        target: TargetId,
        /// When the checkpoint was taken.
        taken_at: String,
        /// What is missing.
        what: String,
    },
    /// Something else, in words.
    #[error("{what}")]
    Other {
        /// What.
        what: String,
        /// Its meaning.
        class: Class,
    },
}

impl Error {
    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Repository(error) => error.class(),
            Self::Sql(error) => settled(error.class()),
            Self::Fleet(error) => settled(error.class()),
            Self::Select(error) => error.class(),
            Self::Engine(error) => error.class(),
            Self::Restore(restoring::Error::Engine(cause)) if is_lost(cause) => Class::Database,
            Self::Restore(error) => error.class(),
            Self::NothingSelected { .. } | Self::Erased { .. } => Class::Empty,
            Self::Refused { .. } | Self::Unconfigured { .. } => Class::Usage,
            Self::Stopped => Class::Cancelled,
            Self::Silent { .. } => Class::Stalled,
            Self::BadBackup { source, .. } => source.class(),
            Self::Behind { .. } => Class::Tampered,
            Self::Other { class, .. } => *class,
        }
    }

    /// What to type next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Repository(error) => error.hint(),
            Self::Sql(error) => error.hint(),
            Self::Fleet(error) => error.hint(),
            Self::Select(error) => error.hint(),
            Self::Engine(error) => error.hint().map(str::to_owned),
            Self::Restore(error) => error.hint(),
            Self::Refused { hint, .. } | Self::BadBackup { hint, .. } => Some(hint.clone()),
            Self::NothingSelected { .. } => Some("run `dbkeeper doctor` to see what there is".to_owned()),
            Self::Unconfigured { .. } => Some("add it to dbkeeper.toml, or check the name".to_owned()),
            Self::Behind { .. } => Some(
                "look for the missing backup in a copy of the repository, or name a backup with --backup to restore it all the same".to_owned(),
            ),
            Self::Silent { .. } => Some(
                "look for a server that accepts connections and then stands still; [limits] no_progress says how long to wait"
                    .to_owned(),
            ),
            Self::Erased { .. } => Some(
                "nothing of it can be restored from here: look for a copy that somebody else keeps, if that is allowed".to_owned(),
            ),
            Self::Stopped | Self::Other { .. } => None,
        }
    }
}

/// Nobody above tries again: a server that is full or starting is one that could not be reached.
fn settled(class: Class) -> Class {
    if class == Class::Transient { Class::Database } else { class }
}

/// An error with all its causes in one line, each said once.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}
