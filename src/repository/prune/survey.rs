//! What a pruner must know of one vault: its listing, its holds, and the markers of the backups that survive.
//!
//! A vault in which nothing has expired costs its listing and nothing else. Otherwise markers are read from the newest on until
//! enough whole backups are known, and those of held backups.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::base::ids::{BackupId, Hash32, TargetId};
use crate::repository::Error;
use crate::repository::hold::{Held, in_force};
use crate::repository::layout::VaultObject;
use crate::repository::presence::lacks;
use crate::repository::prune::record::Remembered;
use crate::repository::vault::{Listed, Listing, Vault};

/// A backup whose marker was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It verifies and the store has all of it: the packs and segments that it names, and the backup before it.
    Whole(BTreeSet<Hash32>, Option<BackupId>),
    /// It verifies, and something is missing: the same, and what is wrong.
    Broken(BTreeSet<Hash32>, Option<BackupId>, String),
    /// It does not verify; why.
    Forged(String),
}

/// One vault, as far as a pruner must know it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Whose vault.
    pub target: TargetId,
    /// Every object of the format.
    pub objects: Vec<Listed>,
    /// Markers that were read.
    pub known: BTreeMap<BackupId, Known>,
    /// Holds in force.
    pub held: BTreeMap<BackupId, Vec<Held>>,
    /// What the last prune left.
    pub remembered: Option<Remembered>,
    /// What is wrong with holds.
    pub problems: Vec<String>,
    /// When the repository's key took the place of another, if it did: what is older is believed for its vouches only.
    pub key_since: Option<DateTime<Utc>>,
    /// Vouches that do not verify: one sentence each.
    pub bad_vouches: Vec<String>,
}

impl Survey {
    /// The committed backups.
    pub fn committed(&self) -> BTreeSet<BackupId> {
        let marker = |listed: &Listed| match listed.object {
            VaultObject::Marker(id) => Some(id),
            _ => None,
        };
        self.objects.iter().filter_map(marker).collect()
    }
}

/// Surveys a vault. `cutoff` says what has expired, `now` which holds are in force.
pub async fn survey(
    vault: &Vault,
    keep_last: usize,
    (now, cutoff): (DateTime<Utc>, DateTime<Utc>),
    remembered: Option<Remembered>,
) -> Result<Survey, Error> {
    vault.writer_keys("pruning")?;
    let (listing, objects) = vault.list_objects().await?;
    let (held, problems) = in_force(vault, &listing, now).await?;
    let (mut known, mut bad_vouches) = (BTreeMap::new(), Vec::new());
    let key_since = vault.repository().key_since();
    let expired = |id: &BackupId| id.expires_at() <= cutoff;
    if listing.committed.iter().any(expired) {
        if key_since.is_some() {
            bad_vouches.extend(vault.bad_vouches(&listing).await?.iter().map(ToString::to_string));
        }
        let mut whole = 0;
        for id in listing.committed.iter().rev() {
            let read = read(vault, &listing, *id).await?;
            whole += usize::from(matches!(read, Some(Known::Whole(..))));
            known.extend(read.map(|read| (*id, read)));
            if whole >= keep_last {
                break;
            }
        }
        let unread = |id: &BackupId| expired(id) && listing.committed.contains(id) && !known.contains_key(id);
        let unread: Vec<BackupId> = held.keys().copied().filter(unread).collect();
        for id in unread {
            known.extend(read(vault, &listing, id).await?.map(|read| (id, read)));
        }
    }
    Ok(Survey { target: vault.target().clone(), objects, known, held, remembered, problems, key_since, bad_vouches })
}

/// What its marker says; `None` if it was removed since the listing.
async fn read(vault: &Vault, listing: &Listing, id: BackupId) -> Result<Option<Known>, Error> {
    let marker = match vault.marker(id).await {
        Ok(read) => read.marker,
        Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => {
            return Ok(Some(Known::Forged(error.to_string())));
        }
        Err(Error::NoBackup { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let names = marker.packs.iter().chain(&marker.segments).map(|facts| facts.sha256).collect();
    let parent = marker.parent.map(|parent| parent.id);
    let lack = lacks(vault.target(), listing, &marker).into_iter().find(|lack| lack.restores);
    Ok(Some(match lack {
        None => Known::Whole(names, parent),
        Some(lack) => Known::Broken(names, parent, format!("object {}: {}", lack.key, lack.what)),
    }))
}
