//! Erasing a target for good: first the sealed secrets, without which nothing of the vault can ever be read; then all the rest.
//!
//! What is about to be destroyed, and afterwards what was, is written down below `runs/`, signed, and never pruned. Erasing again
//! after a failure goes on where it stopped. It cannot reach copies of the bucket that somebody else keeps.

use std::collections::BTreeSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::base::ids::{BackupId, EpochId, RunId, TargetId};
use crate::repository::hold::{Held, in_force};
use crate::repository::layout::{self, VaultObject, vault_prefix};
use crate::repository::marker::FORMAT;
use crate::repository::vault::Vault;
use crate::repository::{Error, Repository, signed};
use crate::store::{Locked, ObjectKey, ObjectMeta};

/// The worker's name of the record that is written before.
pub const BEFORE: &str = "erase";

/// The worker's name of the record that is written after.
const AFTER: &str = "erase-done";

/// Keys in one deletion.
const BATCH_KEYS: usize = 1000;

/// A writer may still put objects while they are deleted; after so many rounds the rest is told.
const ROUNDS: usize = 3;

/// What there is to destroy.
#[derive(Clone, Debug, Serialize)]
pub struct Inventory {
    /// Whose vault.
    pub target: TargetId,
    /// The epochs whose sealed secrets go first.
    pub epochs: Vec<EpochId>,
    /// Committed backups.
    pub backups: usize,
    /// The newest of them.
    pub newest: Option<BackupId>,
    /// All objects, those that this version does not know too.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Backups that are held.
    pub held: Vec<(BackupId, Held)>,
    #[serde(skip)]
    secrets: Vec<ObjectKey>,
    #[serde(skip)]
    others: Vec<ObjectKey>,
}

/// `runs/<run id>/erase.json`, and `erase-done.json` with what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// 1.
    pub format: u32,
    /// The run that erases.
    pub run_id: RunId,
    /// Whose vault.
    pub target: TargetId,
    /// When this was written.
    pub at: DateTime<Utc>,
    /// The epochs whose sealed secrets are destroyed.
    pub epochs: Vec<EpochId>,
    /// Committed backups.
    pub backups: usize,
    /// Objects that are destroyed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is left: keys. Empty in the record that is written before.
    pub left: Vec<String>,
    /// Of it, what the store locks, with the time until which it does.
    #[serde(default)]
    pub locked: Vec<(String, DateTime<Utc>)>,
}

/// Looks at all that is in a vault.
pub async fn inventory(vault: &Vault, now: DateTime<Utc>) -> Result<Inventory, Error> {
    vault.writer_keys("erasing")?;
    let (listing, target) = (vault.list().await?, vault.target());
    let (held, _) = in_force(vault, &listing, now).await?;
    let mut inventory = Inventory {
        target: target.clone(),
        epochs: listing.epochs.keys().copied().collect(),
        backups: listing.committed.len(),
        newest: listing.newest(),
        objects: 0,
        bytes: 0,
        held: held.into_iter().flat_map(|(id, holds)| holds.into_iter().map(move |hold| (id, hold))).collect(),
        secrets: Vec::new(),
        others: Vec::new(),
    };
    for ObjectMeta { key, bytes, .. } in list(vault).await? {
        inventory.objects += 1;
        inventory.bytes += bytes;
        if is_secret(vault, &key) { inventory.secrets.push(key) } else { inventory.others.push(key) }
    }
    Ok(inventory)
}

fn is_secret(vault: &Vault, key: &ObjectKey) -> bool {
    let path = key.as_str().strip_prefix(&vault_prefix(vault.target())).unwrap_or_default();
    path.starts_with("keys/")
}

async fn list(vault: &Vault) -> Result<Vec<ObjectMeta>, Error> {
    let prefix = vault_prefix(vault.target());
    let listed: Result<Vec<ObjectMeta>, _> = vault.repository().store().list(&prefix).try_collect().await;
    listed.map_err(|source| Error::Store { action: "list the vault", source })
}

/// Writes down what goes, destroys it, looks what is left, and writes that down too.
pub async fn erase(vault: &Vault, inventory: &Inventory, run: RunId) -> Result<Record, Error> {
    let repository = vault.repository();
    let Inventory { target, epochs, backups, objects, bytes, .. } = inventory;
    let mut record = Record {
        format: FORMAT,
        run_id: run,
        target: target.clone(),
        at: run.started_at(),
        epochs: epochs.clone(),
        backups: *backups,
        objects: *objects,
        bytes: *bytes,
        left: Vec::new(),
        locked: Vec::new(),
    };
    put(repository, run, BEFORE, &record).await?;
    let mut locked = delete(repository, &inventory.secrets).await?;
    // From here on nothing of it can be read; a marker tells of a backup that is none any more, so markers are next.
    let (markers, rest): (Vec<ObjectKey>, Vec<ObjectKey>) = inventory.others.iter().cloned().partition(|key| {
        let path = key.as_str().strip_prefix(&vault_prefix(target)).unwrap_or_default();
        matches!(VaultObject::parse(path), Some(VaultObject::Marker(_)))
    });
    locked.extend(delete(repository, &markers).await?);
    locked.extend(delete(repository, &rest).await?);
    let mut left = BTreeSet::new();
    for _ in 0..ROUNDS {
        left = list(vault).await?.into_iter().map(|object| object.key).collect();
        if left.len() <= locked.len() {
            break;
        }
        delete(repository, &left.iter().cloned().collect::<Vec<_>>()).await?;
    }
    if locked.len() < left.len() {
        left = list(vault).await?.into_iter().map(|object| object.key).collect();
    }
    record.left = left.iter().map(ToString::to_string).collect();
    record.locked = locked.into_iter().map(|locked| (locked.key.to_string(), locked.until)).collect();
    put(repository, run, AFTER, &record).await?;
    Ok(record)
}

/// Destroys objects with all their versions; returns what the store still locks.
async fn delete(repository: &Repository, keys: &[ObjectKey]) -> Result<Vec<Locked>, Error> {
    let mut locked = Vec::new();
    for batch in keys.chunks(BATCH_KEYS) {
        let done = repository.store().destroy(batch).await;
        locked.extend(done.map_err(|source| Error::Store { action: "destroy the vault", source })?);
    }
    Ok(locked)
}

async fn put(repository: &Repository, run: RunId, worker: &str, record: &Record) -> Result<(), Error> {
    let mac = repository.mac().ok_or(Error::NoKey { action: "erasing" })?;
    let key = layout::run_report(&run, worker);
    let put = repository.store().put(&key, Bytes::from(signed::write(record, &key, &mac))).await;
    put.map_err(|source| Error::Store { action: "write down what is destroyed", source })
}
