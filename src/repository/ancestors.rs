//! Which of a vault's listed backups count for a writer: those whose markers verify.
//!
//! Anybody who may put objects can plant a marker. One that does not verify is told and passed over: it is nobody's parent,
//! takes no period of retention and is not the newest. One marker is read in the usual run: the newest, whose index names the
//! elders that were proven before.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::base::ids::BackupId;
use crate::codec::digest::sha256;
use crate::repository::Error;
use crate::repository::expiry::{Life, RetentionPolicy};
use crate::repository::index::Index;
use crate::repository::keys::VaultKeys;
use crate::repository::layout::VaultObject;
use crate::repository::marker::{Marker, Parent};
use crate::repository::presence::lacks;
use crate::repository::vault::{Listing, ReadMarker, Vault};
use crate::repository::vouch::SignedBy;

/// So many genuine backups are tried for their index before the vault is taken as new.
const INDEXES_TRIED: usize = 3;

/// So many markers that do not verify are read in one run. Whatever lies beyond counts as none: a period that is taken as free
/// costs a longer life, and a parent that is not found costs storing chunks again.
const MARKERS_REFUTED: usize = 16;

/// What is known of a vault's committed backups.
#[derive(Debug, Default)]
pub(crate) struct Ancestors {
    /// The newest genuine backup.
    pub parent: Option<Parent>,
    /// The newest usable index.
    pub index: Option<Index>,
    genuine: BTreeSet<BackupId>,
    refuted: BTreeSet<BackupId>,
    problems: Vec<String>,
}

impl Ancestors {
    /// Finds the newest genuine backup and the newest usable index.
    pub(crate) async fn find(vault: &Vault, keys: &VaultKeys, listing: &Listing) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut indexes = 0;
        for id in listing.committed.iter().rev() {
            let Some(read) = found.read(vault, *id).await? else {
                if found.refuted.len() < MARKERS_REFUTED { continue } else { break }
            };
            if found.parent.is_none() {
                found.parent = Some(Parent { id: *id, sha256: read.sha256 });
                found.tell_lacks(vault, listing, &read.marker);
            }
            // Its index, and those of all before it, know chunks by the ids of another key.
            if read.signed_by == SignedBy::FormerKey {
                break;
            }
            found.index = found.usable_index(vault, keys, &read.marker).await?;
            indexes += 1;
            if found.index.is_some() || indexes == INDEXES_TRIED {
                break;
            }
        }
        let elders = found.index.iter().flat_map(|index| index.elders.iter().copied());
        let elders: Vec<BackupId> = elders.filter(|id| listing.committed.contains(id)).collect();
        found.genuine.extend(elders);
        Ok(found)
    }

    /// The marker, if it verifies; what does not is told once.
    async fn read(&mut self, vault: &Vault, id: BackupId) -> Result<Option<ReadMarker>, Error> {
        match vault.marker(id).await {
            Ok(read) => {
                self.genuine.insert(id);
                Ok(Some(read))
            }
            // Deleted since the listing, by a pruner: nothing is wrong.
            Err(Error::NoBackup { .. }) => Ok(None),
            Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => {
                self.refuted.insert(id);
                self.problems.push(format!("{error}; it counts as no backup"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The index of a genuine backup, if its bytes are those that the marker names.
    async fn usable_index(&mut self, vault: &Vault, keys: &VaultKeys, marker: &Marker) -> Result<Option<Index>, Error> {
        let key = VaultObject::Index(marker.id).key(vault.target());
        let inline = marker.index_inline.as_ref().map(|text| BASE64_STANDARD.decode(text).unwrap_or_default());
        let got = match inline {
            Some(sealed) => Ok(Bytes::from(sealed)),
            None => vault.get(&key).await,
        };
        let sealed = match got {
            Ok(sealed) => sealed,
            Err(Error::Store { source, .. }) if source.is_not_found() => {
                self.problems
                    .push(format!("object {key} is missing, though its backup exists; chunks are stored again"));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let opened = match sha256(&sealed) == marker.index.sha256 {
            true => Index::open(&sealed, &keys.index, vault.target()).map_err(|error| error.to_string()),
            false => Err("its bytes are not those that the marker names".to_owned()),
        };
        match opened {
            Ok(index) if index.id == marker.id => return Ok(Some(index)),
            Ok(_) => self.problems.push(format!("object {key} is the index of another backup; it was not used")),
            Err(what) => self.problems.push(format!("object {key} is damaged: {what}; it was not used")),
        }
        Ok(None)
    }

    fn tell_lacks(&mut self, vault: &Vault, listing: &Listing, marker: &Marker) {
        for lack in lacks(vault.target(), listing, marker).into_iter().filter(|lack| lack.restores) {
            let id = marker.id;
            self.problems.push(format!("backup {id} cannot be restored in full: object {}: {}", lack.key, lack.what));
        }
    }

    /// The life of a backup that begins at `now`. Only genuine backups serve a period.
    pub(crate) async fn life_at(
        &mut self,
        vault: &Vault,
        listing: &Listing,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Life, Error> {
        for class in policy.classes() {
            let serving = |id: &&BackupId| policy.serves(class, now, **id);
            if self.genuine.iter().any(|id| serving(&id)) {
                continue;
            }
            let mut served = false;
            for id in listing.committed.iter().rev().filter(serving) {
                if self.refuted.len() >= MARKERS_REFUTED || served {
                    break;
                }
                served = !self.refuted.contains(id) && self.read(vault, *id).await?.is_some();
            }
            if !served {
                break;
            }
        }
        Ok(policy.life_at(now, self.genuine.iter().copied()))
    }

    /// The newest genuine backup of each period that `now` is in: what the next writer need not read again.
    pub(crate) fn elders(&self, policy: &RetentionPolicy, now: DateTime<Utc>) -> Vec<BackupId> {
        let newest = |class| self.genuine.iter().rev().find(|id| policy.serves(class, now, **id)).copied();
        let elders: BTreeSet<BackupId> = policy.classes().filter_map(newest).collect();
        elders.into_iter().collect()
    }

    /// Adds what was noticed elsewhere.
    pub(crate) fn tell(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// What an operator should know.
    pub(crate) fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }
}
