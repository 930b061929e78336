//! One vault: what its listing shows, its epochs, and its markers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::base::clock::Entropy;
use crate::base::cpu;
use crate::base::ids::{BackupId, EpochId, Hash32, RunId, TargetId};
use crate::base::secret::Secret;
use crate::codec::digest::sha256;
use crate::codec::seal::{self, Identity, Recipient};
use crate::repository::keys::VaultKeys;
use crate::repository::layout::{VaultObject, VouchId, vault_prefix};
use crate::repository::marker::{FORMAT, Marker};
use crate::repository::proof::ProofId;
use crate::repository::vouch::{SignedBy, Vouched};
use crate::repository::{Error, Repository, seal_error, signed, store_error};
use crate::store::{self, Content, ObjectKey};

/// A pack as the listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPack {
    /// The latest expiry under which it is kept.
    pub expires_at: DateTime<Utc>,
    /// Its size.
    pub bytes: u64,
}

/// Everything that one listing of a vault shows.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Epochs with their highest revision.
    pub epochs: BTreeMap<EpochId, u32>,
    /// Committed backups: those that have a marker.
    pub committed: BTreeSet<BackupId>,
    /// Backups without a marker: unfinished, crashed, or being written now.
    pub uncommitted: BTreeSet<BackupId>,
    /// Holds of backups, released ones too; the documents say until when.
    pub holds: BTreeMap<BackupId, BTreeSet<RunId>>,
    /// Holds for which a release is there.
    pub releases: BTreeSet<(BackupId, RunId)>,
    /// Packs and segments.
    pub packs: HashMap<Hash32, ListedPack>,
    /// Proof records.
    pub proofs: BTreeSet<ProofId>,
    /// Vouches for what former repository keys signed.
    pub vouches: BTreeSet<VouchId>,
    /// Sizes of manifests and indexes.
    pub documents: HashMap<VaultDocument, u64>,
    /// Objects that this version does not know.
    pub strangers: Vec<ObjectKey>,
}

/// An object of the format in a vault, as it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub object: VaultObject,
    /// Its size.
    pub bytes: u64,
    /// What the store says of its bytes.
    pub content: Option<Content>,
}

/// A sealed document of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VaultDocument {
    /// Its manifest.
    Manifest(BackupId),
    /// Its index.
    Index(BackupId),
}

impl Listing {
    fn add(&mut self, prefix: &str, object: store::ObjectMeta) -> Option<Listed> {
        let (bytes, content) = (object.bytes, object.content);
        let path = object.key.as_str().strip_prefix(prefix).unwrap_or_default();
        let found = VaultObject::parse(path);
        match found {
            Some(VaultObject::Epoch(epoch, revision)) => {
                let newest = self.epochs.entry(epoch).or_insert(revision);
                *newest = revision.max(*newest);
            }
            Some(VaultObject::Pack(expires_at, hash)) => {
                let fresh = ListedPack { expires_at, bytes };
                let known = self.packs.entry(hash).or_insert(fresh);
                if known.expires_at < expires_at {
                    *known = fresh;
                }
            }
            Some(VaultObject::Marker(id)) => {
                self.committed.insert(id);
            }
            Some(VaultObject::Hold(id, hold)) => {
                self.holds.entry(id).or_default().insert(hold);
            }
            Some(VaultObject::Release(id, hold)) => {
                self.releases.insert((id, hold));
            }
            Some(VaultObject::Proof(id)) => {
                self.proofs.insert(id);
            }
            Some(VaultObject::Manifest(id)) => {
                self.uncommitted.insert(id);
                self.documents.insert(VaultDocument::Manifest(id), bytes);
            }
            Some(VaultObject::Index(id)) => {
                self.uncommitted.insert(id);
                self.documents.insert(VaultDocument::Index(id), bytes);
            }
            None => match VouchId::parse(path) {
                Some(vouch) => drop(self.vouches.insert(vouch)),
                None => self.strangers.push(object.key),
            },
        }
        found.map(|object| Listed { object, bytes, content })
    }

    /// The newest committed backup.
    pub fn newest(&self) -> Option<BackupId> {
        self.committed.last().copied()
    }

    /// The key under which a pack lies, if it does.
    pub fn pack_key(&self, target: &TargetId, hash: Hash32) -> Option<ObjectKey> {
        self.packs.get(&hash).map(|pack| VaultObject::Pack(pack.expires_at, hash).key(target))
    }
}

/// One target's part of the repository.
#[derive(Clone, Debug)]
pub struct Vault {
    repository: Repository,
    target: TargetId,
    keys: Option<VaultKeys>,
    /// To whom new epochs are sealed beside the recovery recipients.
    own: Option<Recipient>,
    /// What the repository key vouches for, once it was asked.
    pub(in crate::repository) vouched: Arc<OnceCell<Vouched>>,
}

/// `keys/<epoch>.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EpochDocument {
    pub(crate) format: u32,
    pub(crate) vault: TargetId,
    pub(crate) epoch: EpochId,
    pub(crate) recipient: String,
    pub(crate) sealed_to: Vec<String>,
    pub(crate) sealed: String,
    /// True if it was begun under a former repository key: it opens what is sealed to it, and nothing more is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) retired: bool,
}

/// Reads an epoch's document for its shape only.
pub(crate) fn read_epoch(bytes: &[u8]) -> Result<(), String> {
    signed::read_unverified::<EpochDocument>(bytes).map(drop).map_err(|error| error.to_string())
}

/// An epoch for writing: its public half.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Its id.
    pub id: EpochId,
    /// To whom packs and manifests are sealed.
    pub recipient: Recipient,
    /// To whom its secret is sealed.
    pub sealed_to: Vec<String>,
    /// True if it was begun under a former repository key: for reading only.
    pub retired: bool,
}

impl Epoch {
    /// True if one of these recipients' identities opens it.
    pub fn opens_for(&self, recipients: &[Recipient]) -> bool {
        recipients.iter().any(|recipient| self.sealed_to.contains(&recipient.to_string()))
    }
}

/// A marker with its authenticity.
#[derive(Clone, Debug)]
pub struct ReadMarker {
    /// The marker.
    pub marker: Marker,
    /// SHA-256 of its bytes.
    pub sha256: Hash32,
    /// False where there was no repository key to check it with.
    pub verified: bool,
    /// Who signed it.
    pub signed_by: SignedBy,
}

impl Repository {
    /// The vault of `target`, whether anything is in it yet or not.
    pub fn vault(&self, target: &TargetId) -> Vault {
        let (keys, vouched) = (self.vault_keys(target), Arc::default());
        Vault { repository: self.clone(), target: target.clone(), keys, own: None, vouched }
    }
}

impl Vault {
    /// The same vault with a recipient of the target's own: its new epochs open for it too, and never for it alone.
    pub fn with_own_recipient(self, own: Option<Recipient>) -> Self {
        Self { own, ..self }
    }

    /// The recovery recipients and the target's own, each once.
    pub(crate) fn all_recipients(&self, recovery: &[Recipient]) -> Vec<Recipient> {
        let mut all = recovery.to_vec();
        all.extend(self.own.iter().filter(|own| !recovery.contains(own)).cloned());
        all
    }

    /// Whose vault it is.
    pub fn target(&self) -> &TargetId {
        &self.target
    }

    /// The repository that it is in.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Its keys, if the repository key is there.
    pub fn keys(&self) -> Option<&VaultKeys> {
        self.keys.as_ref()
    }

    /// Its keys, for what cannot be done without them.
    pub fn writer_keys(&self, action: &'static str) -> Result<&VaultKeys, Error> {
        self.keys.as_ref().ok_or(Error::NoKey { action })
    }

    /// Lists everything in it.
    pub async fn list(&self) -> Result<Listing, Error> {
        self.list_into(|_| {}).await
    }

    /// Lists everything in it, and every object of the format one by one.
    pub async fn list_objects(&self) -> Result<(Listing, Vec<Listed>), Error> {
        let mut objects = Vec::new();
        let listing = self.list_into(|object| objects.push(object)).await?;
        Ok((listing, objects))
    }

    async fn list_into(&self, mut see: impl FnMut(Listed) + Send) -> Result<Listing, Error> {
        let prefix = vault_prefix(&self.target);
        let mut objects = self.repository.store.list(&prefix);
        let mut listing = Listing::default();
        while let Some(object) =
            objects.try_next().await.map_err(|source| Error::Store { action: "list the vault", source })?
        {
            listing.add(&prefix, object).into_iter().for_each(&mut see);
        }
        listing.uncommitted = &listing.uncommitted - &listing.committed;
        Ok(listing)
    }

    /// Fetches one object.
    pub(crate) async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let got = self.repository.store.get(key).await;
        got.map_err(|source| store_error("read from the vault", source))
    }

    /// Stores one object.
    pub(crate) async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let done = self.repository.store.put(key, body).await;
        done.map_err(|source| Error::Store { action: "write to the vault", source })
    }

    /// Lengthens the lock of an object, where the store locks objects. One that is not there has none.
    pub(crate) async fn retain(&self, key: &ObjectKey, until: DateTime<Utc>) -> Result<(), Error> {
        match self.repository.store.retain(key, until).await {
            Err(error) if error.is_not_found() => Ok(()),
            done => done.map_err(|source| Error::Store { action: "lock what opens the backup", source }),
        }
    }

    /// Asks the store whether it keeps an object whole: an answer that said so may have been wrong.
    pub(crate) async fn prove_size(&self, key: &ObjectKey, sent: u64) -> Result<(), Error> {
        let found = self.repository.store.head(key).await;
        let kept = found.map_err(|source| Error::Store { action: "look at what was stored", source })?.bytes;
        if kept == sent { Ok(()) } else { Err(Error::Torn { key: key.clone(), sent, kept }) }
    }

    /// Reads a marker and checks that it is this backup's.
    pub async fn marker(&self, id: BackupId) -> Result<ReadMarker, Error> {
        let key = VaultObject::Marker(id).key(&self.target);
        let bytes = match self.repository.store.get(&key).await {
            Err(error) if error.is_not_found() => {
                return Err(Error::NoBackup { target: self.target.clone(), wanted: id.to_string() });
            }
            got => got.map_err(|source| store_error("read a marker", source))?,
        };
        let (marker, signed_by): (Marker, SignedBy) = self.read_signed(&bytes, &key).await?;
        let (here, repository) = (&self.target, self.repository.id().to_string());
        let its_own = marker.id == id && marker.vault == *here && marker.repository == repository;
        if !its_own || marker.expires_at != id.expires_at() || marker.format != FORMAT {
            return Err(Error::Tampered { key, what: "it describes another backup".to_owned() });
        }
        Ok(ReadMarker { marker, sha256: sha256(&bytes), verified: self.keys.is_some(), signed_by })
    }

    pub(crate) async fn epoch_document(&self, epoch: EpochId, revision: u32) -> Result<EpochDocument, Error> {
        let key = VaultObject::Epoch(epoch, revision).key(&self.target);
        let (mut document, signed_by): (EpochDocument, SignedBy) =
            self.read_signed(&self.get(&key).await?, &key).await?;
        document.retired |= signed_by == SignedBy::FormerKey;
        if document.epoch != epoch || document.vault != self.target || document.format != FORMAT {
            return Err(Error::Tampered { key, what: "it describes another epoch".to_owned() });
        }
        Ok(document)
    }

    /// Reads an epoch's object and checks that it is its own.
    pub(crate) async fn check_epoch(&self, epoch: EpochId, revision: u32) -> Result<(), Error> {
        self.epoch_document(epoch, revision).await.map(drop)
    }

    /// The newest epoch whose object verifies, for writing; what does not verify is told in `problems`.
    pub async fn newest_epoch(&self, listing: &Listing, problems: &mut Vec<String>) -> Result<Option<Epoch>, Error> {
        for (epoch, revision) in listing.epochs.iter().rev() {
            if let Some(found) = self.verified_epoch(*epoch, *revision, problems).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The epochs, the newest first, whose object verifies and opens for one of `recovery`, and that are not retired.
    ///
    /// What is sealed to any other epoch nobody could restore, or somebody else might read: no new backup may need it.
    pub async fn restorable_epochs(
        &self,
        listing: &Listing,
        recovery: &[Recipient],
        problems: &mut Vec<String>,
    ) -> Result<Vec<Epoch>, Error> {
        let mut restorable = Vec::new();
        for (epoch, revision) in listing.epochs.iter().rev() {
            match self.verified_epoch(*epoch, *revision, problems).await? {
                Some(found) if found.retired => {}
                Some(found) if found.opens_for(recovery) => restorable.push(found),
                Some(other) => problems.push(format!(
                    "epoch {epoch} is sealed to {} and to no configured recipient: nothing of it is used",
                    other.sealed_to.join(", ")
                )),
                None => {}
            }
        }
        Ok(restorable)
    }

    /// The newest revision of an epoch that verifies.
    async fn verified_epoch(
        &self,
        epoch: EpochId,
        newest: u32,
        problems: &mut Vec<String>,
    ) -> Result<Option<Epoch>, Error> {
        for revision in (1..=newest).rev() {
            let document = match self.epoch_document(epoch, revision).await {
                Ok(document) => document,
                Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => {
                    problems.push(format!("{error}; it was not used"));
                    continue;
                }
                // A later revision may stand alone.
                Err(Error::Store { source, .. }) if source.is_not_found() && revision < newest => continue,
                Err(error) => return Err(error),
            };
            let key = VaultObject::Epoch(epoch, revision).key(&self.target);
            let parsed = document.recipient.parse();
            let recipient: Recipient =
                parsed.map_err(|error: seal::Error| Error::Damaged { key: key.clone(), what: error.to_string() })?;
            if !recipient.is_native() {
                return Err(Error::Damaged { key, what: "data is sealed to no plugin".to_owned() });
            }
            let EpochDocument { sealed_to, retired, .. } = document;
            return Ok(Some(Epoch { id: epoch, recipient, sealed_to, retired }));
        }
        Ok(None)
    }

    /// Begins a new epoch: a fresh key pair, whose secret is sealed to `recovery` and to the target's own recipient.
    pub async fn begin_epoch(
        &self,
        recovery: &[Recipient],
        now: DateTime<Utc>,
        entropy: &dyn Entropy,
    ) -> Result<Epoch, Error> {
        let keys = self.writer_keys("beginning an epoch")?;
        if recovery.is_empty() {
            return Err(Error::NoRecipient);
        }
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        entropy.fill(secret.as_mut());
        let identity = Identity::from_bytes(&secret);
        let id = EpochId::new(now, entropy.tail());
        let recipients = self.all_recipients(recovery);
        let sealed_to: Vec<String> = recipients.iter().map(Recipient::to_string).collect();
        let document = EpochDocument {
            format: FORMAT,
            vault: self.target.clone(),
            epoch: id,
            recipient: identity.recipient().to_string(),
            sealed_to: sealed_to.clone(),
            sealed: self.seal_secret(&identity, recipients).await?,
            retired: false,
        };
        let key = VaultObject::Epoch(id, 1).key(&self.target);
        let body = Bytes::from(signed::write(&document, &key, &keys.mac));
        self.put(&key, body.clone()).await?;
        // Everything that is sealed to it is lost with it: it is read once before anything is.
        let kept = self.get(&key).await?;
        if kept != body {
            return Err(Error::Torn { key, sent: body.len() as u64, kept: kept.len() as u64 });
        }
        Ok(Epoch { id, recipient: identity.recipient().clone(), sealed_to, retired: false })
    }

    /// Seals an epoch's secret. May run plugins, so it happens where waiting is allowed.
    pub(crate) async fn seal_secret(&self, identity: &Identity, recipients: Vec<Recipient>) -> Result<String, Error> {
        let secret = identity.to_secret();
        let sealed = cpu::run(move || seal::seal_text(&secret, &recipients)).await;
        sealed.map_err(|source| Error::Plugin { target: self.target.clone(), source })
    }

    /// Opens an epoch's secret for restoring, from the newest revision that one of `identities` opens.
    pub async fn open_epoch(
        &self,
        listing: &Listing,
        epoch: EpochId,
        identities: &[Identity],
    ) -> Result<Identity, Error> {
        let newest = listing.epochs.get(&epoch).copied().unwrap_or(1);
        let mut failure = None;
        for revision in (1..=newest).rev() {
            match self.open_revision(epoch, revision, identities).await {
                Ok(identity) => return Ok(identity),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.expect("revisions count from 1"))
    }

    async fn open_revision(&self, epoch: EpochId, revision: u32, identities: &[Identity]) -> Result<Identity, Error> {
        let document = self.epoch_document(epoch, revision).await?;
        let key = VaultObject::Epoch(epoch, revision).key(&self.target);
        let (sealed, identities) = (document.sealed, identities.to_vec());
        let opened = cpu::run(move || seal::open_text(&sealed, &identities)).await;
        let secret: Secret =
            opened.map_err(|error| seal_error(error, key.clone(), &self.target, document.sealed_to.clone()))?;
        let identity =
            Identity::parse(&secret).map_err(|error| Error::Damaged { key: key.clone(), what: error.to_string() })?;
        if identity.recipient().to_string() != document.recipient {
            return Err(Error::Tampered { key, what: "its secret is not that of its recipient".to_owned() });
        }
        Ok(identity)
    }
}
