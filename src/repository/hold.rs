//! Holds: a backup is kept until a date, whatever its expiry, with everything that it names.
//!
//! A hold is an object of its own and so is its release: nothing stored is overwritten, and whoever may put objects may hold
//! and release without the right to delete. Both are signed, since a planted release would hand a backup to the pruner. A hold
//! that does not verify keeps its backup all the same, and is told: to keep too much does no harm.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::clock::Entropy;
use crate::base::ids::{BackupId, RunId, TargetId};
use crate::repository::layout::VaultObject;
use crate::repository::marker::FORMAT;
use crate::repository::presence::lacks;
use crate::repository::vault::{Listing, Vault};
use crate::repository::{Error, signed};

/// The longest reason, in bytes. It is stored readable.
pub const MAX_REASON_BYTES: usize = 500;

/// `hold.<id>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// 1.
    pub format: u32,
    /// Whose backup is held.
    pub vault: TargetId,
    /// Which.
    pub backup: BackupId,
    /// The hold's own id; says when it was made.
    pub id: RunId,
    /// Until when the backup is kept.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// `release.<id>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::repository) struct Release {
    format: u32,
    vault: TargetId,
    backup: BackupId,
    id: RunId,
    released_at: DateTime<Utc>,
}

/// Why a backup is kept now, whatever its expiry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The hold's id.
    pub id: RunId,
    /// Until when; `None` where the hold's object does not verify, so that it keeps until somebody looks.
    pub until: Option<DateTime<Utc>>,
    /// Why, in the words of who made it.
    pub reason: String,
}

/// The holds of a vault that are in force at `now`, and what is wrong with their objects, one sentence each.
///
/// Reads one object for each hold, and one for each release: nothing in a vault without holds.
pub async fn in_force(
    vault: &Vault,
    listing: &Listing,
    now: DateTime<Utc>,
) -> Result<(BTreeMap<BackupId, Vec<Held>>, Vec<String>), Error> {
    let (mut held, mut problems): (BTreeMap<BackupId, Vec<Held>>, _) = (BTreeMap::new(), Vec::new());
    let all = listing.holds.iter().flat_map(|(backup, ids)| ids.iter().map(|id| (*backup, *id)));
    for (backup, id) in all.collect::<Vec<(BackupId, RunId)>>() {
        let until = match read_hold(vault, backup, id).await {
            Ok(None) => continue,
            Ok(Some(hold)) if hold.until <= now => continue,
            Ok(Some(hold)) => Held { id, until: Some(hold.until), reason: hold.reason },
            Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => {
                problems.push(format!("{error}; backup {backup} is kept because of it"));
                Held { id, until: None, reason: "its hold does not verify".to_owned() }
            }
            Err(error) => return Err(error),
        };
        if !is_released(vault, listing, backup, id, &mut problems).await? {
            held.entry(backup).or_default().push(until);
        }
    }
    Ok((held, problems))
}

/// The hold; `None` if it was removed since the listing.
async fn read_hold(vault: &Vault, backup: BackupId, id: RunId) -> Result<Option<Hold>, Error> {
    let key = VaultObject::Hold(backup, id).key(vault.target());
    let Some(bytes) = get(vault, &key).await? else { return Ok(None) };
    let (hold, _): (Hold, _) = vault.read_signed(&bytes, &key).await?;
    if (hold.format, &hold.vault, hold.backup, hold.id) != (FORMAT, vault.target(), backup, id) {
        return Err(Error::Tampered { key, what: "it describes another hold".to_owned() });
    }
    Ok(Some(hold))
}

async fn is_released(
    vault: &Vault,
    listing: &Listing,
    backup: BackupId,
    id: RunId,
    problems: &mut Vec<String>,
) -> Result<bool, Error> {
    if !listing.releases.contains(&(backup, id)) {
        return Ok(false);
    }
    let key = VaultObject::Release(backup, id).key(vault.target());
    let Some(bytes) = get(vault, &key).await? else { return Ok(false) };
    match vault.read_signed::<Release>(&bytes, &key).await {
        Ok((release, _)) => {
            let facts = (release.format, &release.vault, release.backup, release.id);
            Ok(facts == (FORMAT, vault.target(), backup, id))
        }
        Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => {
            problems.push(format!("{error}; the hold stays in force"));
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn get(vault: &Vault, key: &crate::store::ObjectKey) -> Result<Option<Bytes>, Error> {
    match vault.get(key).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Store { source, .. }) if source.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Holds a backup. Afterwards it is looked at once more: what a pruner took meanwhile is an error, not a hold.
pub async fn place(
    vault: &Vault,
    backup: BackupId,
    until: DateTime<Utc>,
    reason: &str,
    (now, entropy): (DateTime<Utc>, &dyn Entropy),
) -> Result<Hold, Error> {
    let keys = vault.writer_keys("holding a backup")?;
    check_whole(vault, backup).await?;
    let id = RunId::new(now, entropy.tail());
    let hold = Hold { format: FORMAT, vault: vault.target().clone(), backup, id, until, reason: reason.to_owned() };
    let key = VaultObject::Hold(backup, id).key(vault.target());
    vault.put(&key, Bytes::from(signed::write(&hold, &key, &keys.mac))).await?;
    check_whole(vault, backup).await?;
    Ok(hold)
}

/// The backup's marker verifies, and the store has all that it names.
async fn check_whole(vault: &Vault, backup: BackupId) -> Result<(), Error> {
    let (listing, read) = (vault.list().await?, vault.marker(backup).await?);
    let lack = lacks(vault.target(), &listing, &read.marker).into_iter().find(|lack| lack.restores);
    lack.map_or(Ok(()), |lack| {
        let key = VaultObject::Marker(backup).key(vault.target());
        Err(Error::Damaged { key, what: format!("it needs object {}: {}", lack.key, lack.what) })
    })
}

/// Releases every hold of a backup that is in force; returns how many.
pub async fn release(vault: &Vault, backup: BackupId, now: DateTime<Utc>) -> Result<usize, Error> {
    let keys = vault.writer_keys("releasing a backup")?;
    let listing = vault.list().await?;
    let (held, _) = in_force(vault, &listing, now).await?;
    let held = held.get(&backup).map(Vec::as_slice).unwrap_or_default();
    for one in held {
        let release = Release { format: FORMAT, vault: vault.target().clone(), backup, id: one.id, released_at: now };
        let key = VaultObject::Release(backup, one.id).key(vault.target());
        vault.put(&key, Bytes::from(signed::write(&release, &key, &keys.mac))).await?;
    }
    Ok(held.len())
}
