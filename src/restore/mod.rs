//! Layer 3: the restore of one target: a backup's parts, through a restore session, into a destination that is proven before it is
//! published.
//!
//! Must not know which engine it loads or which store it reads from. A failure leaves the live database as it was.

pub mod export;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::base::class::Class;
use crate::base::ids::TargetId;
use crate::base::monitor::{Monitor, Progress};
use crate::base::units::print_duration;
use crate::engine::{self, Downstream, PartSource, Published, RestoreSession, SCHEMA_PART};
use crate::repository;
use crate::repository::manifest::Part;
use crate::repository::reader::{BackupReader, PartReader};

/// How long it may take to remove what a failed restore made; dropping a database takes as long as deleting its files.
const ABANDON_LIMIT: Duration = Duration::from_secs(30);

/// Why a target could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The destination failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The repository failed, or the backup is damaged.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The destination took another number of rows than the backup has.
    #[error("part {part} has {expected} rows, and the server took {taken}")]
    RowCount {
        /// The part.
        part: String,
        /// Rows in the backup.
        expected: u64,
        /// Rows that the server took.
        taken: u64,
    },
    /// The destination did not read a part to its end.
    #[error("part {part} was not read to its end")]
    Unfinished {
        /// The part.
        part: String,
    },
    /// The backup holds no schema.
    #[error("the backup holds no schema")]
    NoSchema,
    /// Nothing moved.
    #[error("nothing moved for {}: it waited for {waited_for}", print_duration(*.limit))]
    Stalled {
        /// For how long.
        limit: Duration,
        /// What did not come.
        waited_for: String,
    },
    /// The server fell silent while the databases were being renamed.
    #[error("the server fell silent for {} while the restored database was being put in place", print_duration(*.limit))]
    Unknown {
        /// For how long.
        limit: Duration,
    },
    /// It was asked to stop before it was published.
    #[error("stopped by a signal")]
    Stopped,
    /// The export could not be written.
    #[error("write the export")]
    Output {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The restore failed, and what it had made could not be removed.
    #[error("{failure}; and what was made for it could not be removed: {cleanup}")]
    Leftover {
        /// Why the restore failed.
        #[source]
        failure: Box<Error>,
        /// Why the clean-up failed.
        cleanup: engine::Error,
    },
}

impl Error {
    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::Engine(error) => error.class(),
            Self::Repository(error) => error.class(),
            Self::RowCount { .. } | Self::NoSchema => Class::Corrupt,
            Self::Unfinished { .. } | Self::Output { .. } => Class::Unexpected,
            Self::Leftover { failure, .. } => failure.class(),
            Self::Stalled { .. } | Self::Unknown { .. } => Class::Stalled,
            Self::Stopped => Class::Cancelled,
        }
    }

    /// What to type next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint().map(str::to_owned),
            Self::Repository(error) => error.hint(),
            Self::Leftover { failure, .. } => Some(leftover_hint(failure.hint())),
            Self::Stalled { .. } => Some(
                "mend that and run the same command again: nothing was replaced; [limits] no_progress says how long to wait"
                    .to_owned(),
            ),
            Self::Unknown { .. } => Some(
                "either the former or the restored database has the name, and both are whole: look with psql -l, and run the same command again if it is the former"
                    .to_owned(),
            ),
            Self::RowCount { .. } | Self::Unfinished { .. } | Self::Output { .. } => None,
            Self::NoSchema | Self::Stopped => None,
        }
    }
}

/// What is left after a failed clean-up is found again by its mark.
fn leftover_hint(hint: Option<String>) -> String {
    let removed =
        "what it made carries our mark: the next restore of this database removes it, and `dbkeeper doctor` names it";
    hint.map_or_else(|| removed.to_owned(), |hint| format!("{hint}; {removed}"))
}

/// Who is told of a restore, and what ends it early.
pub struct Watch<'a, F> {
    /// Is told what moves.
    pub monitor: &'a dyn Monitor,
    /// Resolves to the error with which a restore that is not yet being published is to end.
    pub give_up: F,
    /// How long publishing may take: it is not given up for any other reason.
    pub publish_limit: Duration,
}

/// Restores `reader`'s backup through `session` and publishes it, unless `stop` is cancelled before. A failure removes what was made.
pub async fn restore(
    target: &TargetId,
    reader: &Arc<BackupReader>,
    session: Box<dyn RestoreSession>,
    (monitor, stop): (&dyn Monitor, &CancellationToken),
) -> Result<Published, Error> {
    let give_up = async {
        stop.cancelled().await;
        Error::Stopped
    };
    restore_watched(target, reader, session, Watch { monitor, give_up, publish_limit: Duration::MAX }).await
}

/// Restores `reader`'s backup through `session` and publishes it. A failure removes what was made.
pub async fn restore_watched(
    target: &TargetId,
    reader: &Arc<BackupReader>,
    mut session: Box<dyn RestoreSession>,
    watch: Watch<'_, impl Future<Output = Error>>,
) -> Result<Published, Error> {
    let filled = tokio::select! {
        filled = fill(target, reader, session.as_mut(), watch.monitor) => filled,
        failure = watch.give_up => Err(failure),
    };
    match filled {
        // Not to be stopped any more: the renames may be on their way.
        Ok(()) => {
            let limit = watch.publish_limit;
            let published = tokio::time::timeout(limit, session.publish()).await;
            Ok(published.map_err(|_| Error::Unknown { limit })??)
        }
        Err(failure) => match abandon(session).await {
            Ok(()) => Err(failure),
            Err(cleanup) => Err(Error::Leftover { failure: Box::new(failure), cleanup }),
        },
    }
}

/// Restores without publishing, until `give_up` resolves. Afterwards the caller looks at what is there, and [`abandon`]s the
/// session, whatever came of it.
pub async fn rehearse(
    target: &TargetId,
    reader: &Arc<BackupReader>,
    session: &mut dyn RestoreSession,
    (monitor, give_up): (&dyn Monitor, impl Future<Output = Error>),
) -> Result<(), Error> {
    tokio::select! {
        filled = fill(target, reader, session, monitor) => filled,
        failure = give_up => Err(failure),
    }
}

/// Removes what a session made. A server that stands still does not hold up the report of it.
pub async fn abandon(session: Box<dyn RestoreSession>) -> Result<(), engine::Error> {
    let silent = || engine::Error::Database {
        action: "remove the unfinished database".to_owned(),
        reason: format!("the server did not answer for {}", print_duration(ABANDON_LIMIT)),
        class: Class::Stalled,
        hint: None,
        source: None,
    };
    tokio::time::timeout(ABANDON_LIMIT, session.abandon()).await.unwrap_or_else(|_| Err(silent()))
}

async fn fill(
    target: &TargetId,
    reader: &Arc<BackupReader>,
    session: &mut dyn RestoreSession,
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    let schema = reader.part(SCHEMA_PART).ok_or(Error::NoSchema)?;
    let mut source = Source { parts: reader.read(schema), target, monitor, ended: false };
    session.prepare(&mut source).await.map_err(unwrap_downstream)?;
    source.check_ended(schema)?;
    let session_ref: &dyn RestoreSession = session;
    for parts in stages(&reader.manifest().parts, |part| session_ref.stage(part)) {
        let queue = Mutex::new(VecDeque::from(parts));
        let lanes =
            (0..session_ref.lanes()).map(|lane| load_parts(lane, target, reader, session_ref, (&queue, monitor)));
        try_join_all(lanes).await?;
    }
    session.complete().await.map_err(unwrap_downstream)
}

/// The parts to load, stage by stage; in each the largest first, so that none is left alone at the end. Pure.
fn stages(parts: &[Part], stage: impl Fn(&str) -> Option<u32>) -> Vec<Vec<&Part>> {
    let mut stages: BTreeMap<u32, Vec<&Part>> = BTreeMap::new();
    for part in parts.iter().filter(|part| part.name != SCHEMA_PART) {
        if let Some(stage) = stage(&part.name) {
            stages.entry(stage).or_default().push(part);
        }
    }
    let mut stages: Vec<Vec<&Part>> = stages.into_values().collect();
    for parts in &mut stages {
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    }
    stages
}

async fn load_parts(
    lane: usize,
    target: &TargetId,
    reader: &Arc<BackupReader>,
    session: &dyn RestoreSession,
    (queue, monitor): (&Mutex<VecDeque<&Part>>, &dyn Monitor),
) -> Result<(), Error> {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(part) = next else { return Ok(()) };
        let mut source = Source { parts: reader.read(part), target, monitor, ended: false };
        let taken = session.load(lane, &part.name, &mut source).await.map_err(unwrap_downstream)?;
        source.check_ended(part)?;
        if taken != part.rows {
            return Err(Error::RowCount { part: part.name.clone(), expected: part.rows, taken });
        }
        monitor.target_advances(target, Progress { rows: taken, parts: 1, ..Progress::default() });
    }
}

/// A failure of our own side that went through the engine is ours again.
fn unwrap_downstream(error: engine::Error) -> Error {
    match error {
        engine::Error::Downstream(Downstream { class, source }) => match source.downcast::<repository::Error>() {
            Ok(own) => Error::Repository(*own),
            Err(source) => match source.downcast::<std::io::Error>() {
                Ok(source) => Error::Output { source: *source },
                Err(source) => Error::Engine(engine::Error::Downstream(Downstream { class, source })),
            },
        },
        other => Error::Engine(other),
    }
}

struct Source<'a> {
    parts: PartReader,
    target: &'a TargetId,
    monitor: &'a dyn Monitor,
    ended: bool,
}

impl Source<'_> {
    /// A part counts only if it was read to its end, where its checksum is compared.
    fn check_ended(&self, part: &Part) -> Result<(), Error> {
        if self.ended { Ok(()) } else { Err(Error::Unfinished { part: part.name.clone() }) }
    }
}

#[async_trait]
impl PartSource for Source<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Downstream> {
        let next = self.parts.next().await;
        let next = next.map_err(|error| Downstream { class: error.class(), source: Box::new(error) })?;
        match &next {
            Some(piece) => {
                let delta = Progress { bytes: piece.len() as u64, ..Progress::default() };
                self.monitor.target_advances(self.target, delta);
            }
            None => self.ended = true,
        }
        Ok(next)
    }
}
