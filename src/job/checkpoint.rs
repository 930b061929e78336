//! The checkpoint job: the newest backup of every vault, or every backup, in one signed line; and reading such a line.

use futures::StreamExt;

use crate::base::class::Class;
use crate::base::ids::TargetId;
use crate::job::{Context, Error};
use crate::repository::checkpoint::{BadCheckpoint, Checkpoint, MAX_CHECKPOINT_BYTES};
use crate::repository::vault::{ReadMarker, Vault};
use crate::repository::{self, Repository};

/// Vaults that are looked at at once.
const VAULTS_AT_ONCE: usize = 16;

/// A checkpoint that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The line, without its end.
    pub line: String,
    /// Vaults that it names.
    pub vaults: usize,
    /// Backups that it names.
    pub backups: usize,
    /// Markers that do not verify, and folders that are no vaults: one sentence each.
    pub problems: Vec<String>,
}

/// Which backups a checkpoint names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The newest of each vault; one marker is read of each.
    Newest,
    /// All; every marker is read.
    Every,
}

/// Takes a checkpoint of the whole repository. Only backups whose markers verify are named.
pub async fn take(context: &Context, depth: Depth) -> Result<Taken, Error> {
    let repository = context.open_repository().await?;
    let mac = repository.checkpoint_mac().ok_or(repository::Error::NoKey { action: "taking a checkpoint" })?;
    let (targets, strangers) = repository.vaults().await?;
    let mut problems: Vec<String> =
        strangers.into_iter().map(|folder| format!("{folder} is no vault of ours")).collect();
    let mut checkpoint = Checkpoint::new(&repository, context.clock.now(), depth == Depth::Every);
    let vaults: Vec<Vault> = targets.iter().map(|target| repository.vault(target)).collect();
    let reads = vaults.iter().map(|vault| genuine(vault, depth));
    let mut reads = futures::stream::iter(reads).buffered(VAULTS_AT_ONCE);
    while let Some(read) = reads.next().await {
        let (markers, bad) = read?;
        problems.extend(bad);
        for read in markers {
            checkpoint.add(&read.marker.vault, read.marker.id, &read.sha256);
        }
    }
    if checkpoint.count() == 0 {
        return Err(Error::NothingSelected { what: "the repository holds no backup".to_owned() });
    }
    let (vaults, backups) = (checkpoint.targets().count(), checkpoint.count());
    Ok(Taken { line: checkpoint.print(&mac), vaults, backups, problems })
}

/// The markers of a vault that verify, the newest first; one, or all of them.
async fn genuine(vault: &Vault, depth: Depth) -> Result<(Vec<ReadMarker>, Vec<String>), Error> {
    let (mut markers, mut problems) = (Vec::new(), Vec::new());
    for id in vault.list().await?.committed.into_iter().rev() {
        match vault.marker(id).await {
            Ok(read) => markers.push(read),
            Err(error @ (repository::Error::Damaged { .. } | repository::Error::Tampered { .. })) => {
                problems.push(error.to_string());
            }
            // Removed by a pruner since the listing.
            Err(repository::Error::NoBackup { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if depth == Depth::Newest && !markers.is_empty() {
            break;
        }
    }
    Ok((markers, problems))
}

/// Reads a checkpoint of this repository: the last line, where there are several.
pub(super) fn read(text: &str, repository: &Repository) -> Result<Checkpoint, Error> {
    let bad = |error: BadCheckpoint| Error::Other {
        what: format!("the checkpoint cannot be used: {error}"),
        class: match error {
            BadCheckpoint::Mac => Class::Tampered,
            BadCheckpoint::FormerKey => Class::Key,
            BadCheckpoint::Shape(_) | BadCheckpoint::OtherRepository => Class::Usage,
        },
    };
    if text.len() > MAX_CHECKPOINT_BYTES {
        return Err(bad(BadCheckpoint::Shape("it is too large")));
    }
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    Checkpoint::parse(last, repository).map_err(bad)
}

/// The targets of a checkpoint that are not among `known`.
pub(super) fn without_vault(checkpoint: &Checkpoint, known: &[TargetId]) -> Vec<TargetId> {
    checkpoint.targets().filter(|target| !known.contains(target)).cloned().collect()
}
