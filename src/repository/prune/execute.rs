//! Deletes what a plan says, stage by stage over all vaults, so that batches are full.

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::repository::prune::VaultPlan;
use crate::repository::prune::plan::{STAGES, stage};
use crate::repository::{Error, Repository};
use crate::store::ObjectKey;

/// Keys in one deletion: the most that S3 takes.
pub const BATCH_KEYS: usize = 1000;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Deletions that were sent, each of up to [`BATCH_KEYS`] objects.
    pub batches: u64,
    /// Objects that the store still locks: they stay.
    pub locked: u64,
    /// True where every version went, not only the newest.
    pub versions: bool,
    /// True where the run was stopped before the end: the next one goes on.
    pub stopped: bool,
}

/// A batch that is being filled.
#[derive(Default)]
struct Batch {
    keys: Vec<ObjectKey>,
    bytes: u64,
}

/// Deletes: markers of all vaults first, packs last, then `reports`; with `versions` every version of them. An error leaves the
/// rest for the next prune.
///
/// No pack goes before every marker that went is gone: a deletion that failed ends the work.
pub async fn execute(
    repository: &Repository,
    plans: &[VaultPlan],
    reports: &[(ObjectKey, u64)],
    versions: bool,
    stop: &CancellationToken,
) -> Result<Deleted, Error> {
    let mut deleted = Deleted { versions, ..Deleted::default() };
    for now in STAGES {
        let mut batch = Batch::default();
        for plan in plans {
            for removal in plan.granted().iter().filter(|removal| stage(&removal.object) == now) {
                batch.keys.push(removal.object.key(&plan.target));
                batch.bytes += removal.bytes;
                if batch.keys.len() == BATCH_KEYS {
                    send(repository, &mut batch, &mut deleted, stop).await?;
                }
            }
        }
        send(repository, &mut batch, &mut deleted, stop).await?;
    }
    for some in reports.chunks(BATCH_KEYS) {
        let keys = some.iter().map(|(key, _)| key.clone()).collect();
        let mut batch = Batch { keys, bytes: some.iter().map(|(_, bytes)| bytes).sum() };
        send(repository, &mut batch, &mut deleted, stop).await?;
    }
    Ok(deleted)
}

async fn send(
    repository: &Repository,
    batch: &mut Batch,
    deleted: &mut Deleted,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let Batch { keys, bytes } = std::mem::take(batch);
    deleted.stopped |= stop.is_cancelled();
    if keys.is_empty() || deleted.stopped {
        return Ok(());
    }
    let failed = |source| Error::Store { action: "delete what has expired", source };
    let mut locked = 0;
    if deleted.versions {
        locked = repository.store().destroy(&keys).await.map_err(failed)?.len() as u64;
    } else {
        repository.store().delete(&keys).await.map_err(failed)?;
    }
    deleted.locked += locked;
    deleted.objects += (keys.len() as u64).saturating_sub(locked);
    deleted.bytes += bytes;
    deleted.batches += 1;
    Ok(())
}
