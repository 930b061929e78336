//! The keys of a vault in the hands of people: to whom its epochs are sealed, sealing them to others, and beginning new ones.
//!
//! Nothing stored is overwritten: an epoch that is sealed to others gets a further revision, and data is never touched. So an
//! earlier recipient still opens the earlier revision as long as it is there, and nobody can take back a secret that was
//! read: who is to be shut out is shut out of what is stored from now on, by a new epoch.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use serde::Serialize;

use crate::base::clock::Entropy;
use crate::base::ids::{EpochId, TargetId};
use crate::codec::seal::{Identity, Recipient};
use crate::repository::expiry::pack_expiry;
use crate::repository::layout::{VaultObject, vault_prefix};
use crate::repository::marker::FORMAT;
use crate::repository::vault::{Epoch, EpochDocument, Listing, Vault};
use crate::repository::{Error, signed};
use crate::store::{self, LockState};

/// Two who reseal the same epoch at once each find a number of their own within so many tries.
const MAX_TRIES: u32 = 8;

/// One epoch of a vault.
#[derive(Clone, Debug, Serialize)]
pub struct EpochFacts {
    /// Its id; it begins with the time when it was begun.
    pub epoch: EpochId,
    /// Its newest revision.
    pub revision: u32,
    /// To whom the newest revision is sealed.
    pub sealed_to: Vec<String>,
    /// True if it was begun under a former repository key: writers do not use it.
    pub retired: bool,
    /// Who opens an earlier revision and not the newest.
    pub formerly_sealed_to: Vec<String>,
}

/// The keys of one vault.
#[derive(Clone, Debug, Serialize)]
pub struct VaultKeysFacts {
    /// Whose vault.
    pub target: TargetId,
    /// Its epochs, the oldest first; the last is the one that writers use.
    pub epochs: Vec<EpochFacts>,
    /// Objects that are damaged or forged: one sentence each.
    pub problems: Vec<String>,
}

/// What [`Vault::reseal`] did.
#[derive(Clone, Debug, Serialize)]
pub struct Resealed {
    /// Whose vault.
    pub target: TargetId,
    /// Epochs that were sealed to the recipients already.
    pub unchanged: usize,
    /// Epochs that got a new revision.
    pub resealed: usize,
    /// Who still opens an earlier revision, and is no recipient now.
    pub still_open_to: Vec<String>,
    /// Epochs that could not be sealed anew: one sentence each.
    pub problems: Vec<String>,
}

impl Vault {
    /// The epochs with their highest revision, from the folder of the keys alone: the rest of a vault may be long.
    pub async fn list_epochs(&self) -> Result<BTreeMap<EpochId, u32>, Error> {
        let prefix = vault_prefix(self.target());
        let keys = format!("{prefix}keys/");
        let failed = |source| Error::Store { action: "list the keys of a vault", source };
        let mut epochs = BTreeMap::new();
        let mut objects = self.repository().store().list(&keys);
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            let path = object.key.as_str().strip_prefix(&prefix).unwrap_or_default();
            if let Some(VaultObject::Epoch(epoch, revision)) = VaultObject::parse(path) {
                let newest = epochs.entry(epoch).or_insert(revision);
                *newest = revision.max(*newest);
            }
        }
        Ok(epochs)
    }

    /// To whom every epoch is sealed, and was.
    pub async fn key_facts(&self) -> Result<VaultKeysFacts, Error> {
        let (mut epochs, mut problems) = (Vec::new(), Vec::new());
        for (epoch, newest) in self.list_epochs().await? {
            let mut revisions = Vec::new();
            for revision in (1..=newest).rev() {
                revisions.extend(self.revision(epoch, revision, &mut problems).await?.map(|found| (revision, found)));
            }
            let mut revisions = revisions.into_iter();
            let Some((revision, document)) = revisions.next() else { continue };
            let now: BTreeSet<&String> = document.sealed_to.iter().collect();
            let earlier: BTreeSet<String> = revisions.flat_map(|(_, earlier)| earlier.sealed_to).collect();
            let formerly_sealed_to = earlier.into_iter().filter(|one| !now.contains(one)).collect();
            let sealed_to = document.sealed_to.clone();
            let retired = document.retired;
            epochs.push(EpochFacts { epoch, revision, sealed_to, retired, formerly_sealed_to });
        }
        Ok(VaultKeysFacts { target: self.target().clone(), epochs, problems })
    }

    /// A revision that verifies; what does not is told in `problems`.
    async fn revision(
        &self,
        epoch: EpochId,
        revision: u32,
        problems: &mut Vec<String>,
    ) -> Result<Option<EpochDocument>, Error> {
        match self.epoch_document(epoch, revision).await {
            Ok(document) => Ok(Some(document)),
            Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => {
                problems.push(error.to_string());
                Ok(None)
            }
            Err(Error::Store { source, .. }) if source.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Seals the secret of every epoch to `recovery` and the target's own recipient, and to nobody else; what is sealed to them
    /// already is left as it is.
    ///
    /// Reads and writes only the small objects of the keys. After a failure half-way the epochs before it are done, and the
    /// same call goes on with the others.
    pub async fn reseal(&self, recovery: &[Recipient], identities: &[Identity]) -> Result<Resealed, Error> {
        self.writer_keys("sealing the keys of a vault")?;
        if recovery.is_empty() {
            return Err(Error::NoRecipient);
        }
        let recipients = self.all_recipients(recovery);
        let VaultKeysFacts { target, epochs, problems } = self.key_facts().await?;
        let wanted: BTreeSet<String> = recipients.iter().map(ToString::to_string).collect();
        let listing = Listing {
            epochs: epochs.iter().map(|epoch| (epoch.epoch, epoch.revision)).collect(),
            ..Listing::default()
        };
        let mut done = Resealed { target, unchanged: 0, resealed: 0, still_open_to: Vec::new(), problems };
        let mut open_to = BTreeSet::new();
        for facts in epochs {
            let sealed_to: BTreeSet<String> = facts.sealed_to.iter().cloned().collect();
            open_to.extend(sealed_to.iter().chain(&facts.formerly_sealed_to).cloned());
            if sealed_to == wanted {
                done.unchanged += 1;
                continue;
            }
            match self.open_epoch(&listing, facts.epoch, identities).await {
                Ok(identity) => {
                    self.put_revision(&facts, &identity, &recipients).await?;
                    done.resealed += 1;
                }
                Err(error @ (Error::Damaged { .. } | Error::Tampered { .. } | Error::WrongIdentity { .. })) => {
                    let hint = error.hint().unwrap_or_default();
                    done.problems.push(format!("epoch {} was left as it is: {error} ({hint})", facts.epoch));
                }
                Err(error) => return Err(error),
            }
        }
        done.still_open_to = open_to.into_iter().filter(|one| !wanted.contains(one)).collect();
        Ok(done)
    }

    /// Stores the next revision of an epoch, and reads it once: with it the former may be deleted one day.
    async fn put_revision(
        &self,
        facts: &EpochFacts,
        identity: &Identity,
        recipients: &[Recipient],
    ) -> Result<(), Error> {
        let keys = self.writer_keys("sealing the keys of a vault")?;
        let document = EpochDocument {
            format: FORMAT,
            vault: self.target().clone(),
            epoch: facts.epoch,
            recipient: identity.recipient().to_string(),
            sealed_to: recipients.iter().map(ToString::to_string).collect(),
            sealed: self.seal_secret(identity, recipients.to_vec()).await?,
            // Sealed anew it opens what it opened, and stays closed for what comes.
            retired: facts.retired,
        };
        for revision in facts.revision + 1..=facts.revision + MAX_TRIES {
            let key = VaultObject::Epoch(facts.epoch, revision).key(self.target());
            let body = Bytes::from(signed::write(&document, &key, &keys.mac));
            match self.repository().store().put_new(&key, body.clone()).await {
                // Somebody else does the same: whose number is the highest counts.
                Err(store::Error::Exists { .. }) => continue,
                done => done.map_err(|source| Error::Store { action: "store the keys of a vault", source })?,
            }
            let kept = self.get(&key).await?;
            return match kept == body {
                true => self.retain_as_needed(&key).await,
                false => Err(Error::Torn { key, sent: body.len() as u64, kept: kept.len() as u64 }),
            };
        }
        let key = VaultObject::Epoch(facts.epoch, facts.revision + 1).key(self.target());
        Err(Error::Store { action: "store the keys of a vault", source: store::Error::Exists { key } })
    }

    /// Locks a revision as long as the packs that it opens, where objects are locked: its name tells no time.
    async fn retain_as_needed(&self, key: &store::ObjectKey) -> Result<(), Error> {
        let state = self.repository().store().lock_state().await;
        let state = state.map_err(|source| Error::Store { action: "ask whether objects are locked", source })?;
        if state == LockState::NotAsked {
            return Ok(());
        }
        match self.list().await?.committed.iter().map(pack_expiry).max() {
            Some(until) => self.retain(key, until).await,
            None => Ok(()),
        }
    }

    /// Begins a new epoch, which writers use from their next backup on. `None` where the vault has no keys yet.
    pub async fn rotate(
        &self,
        recovery: &[Recipient],
        now: DateTime<Utc>,
        entropy: &dyn Entropy,
    ) -> Result<Option<Epoch>, Error> {
        let Some(newest) = self.list_epochs().await?.into_keys().next_back() else { return Ok(None) };
        // The newest counts: a clock that is behind must not hide the new one.
        let now = now.max(newest.created_at() + TimeDelta::seconds(1));
        self.begin_epoch(recovery, now, entropy).await.map(Some)
    }
}
