//! Vouches: what a former repository key had signed, and is genuine all the same.
//!
//! A vouch is a document of a vault, signed by the repository's key, with the places of other documents and the hashes of their
//! bytes. It is written once, when the key is replaced (see [`rotation`](crate::repository::rotation)), for markers, epochs,
//! holds, releases and proofs. What it names counts as if the repository's key had signed it; what only a former key signed
//! counts for nothing, at whatever time it says it was made. A vouch of a key that was itself replaced counts for nothing
//! either: its successor vouches for all that it knew.
//!
//! Nobody reads a vouch before a signature fails in a repository whose key was replaced. Then a vault costs one listing and
//! one object more, and as soon as its old backups are gone, nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::clock::Entropy;
use crate::base::ids::{BackupId, Hash32, RunId, TargetId};
use crate::codec::digest::{MacKey, sha256};
use crate::repository::expiry::pack_expiry;
use crate::repository::keys::VaultKeys;
use crate::repository::layout::{VaultObject, VouchId, vault_prefix, vouches_prefix};
use crate::repository::marker::FORMAT;
use crate::repository::prune::is_of_the_future;
use crate::repository::signed::BadDocument;
use crate::repository::vault::{Listing, Vault};
use crate::repository::{Error, signed};
use crate::store::ObjectKey;

/// A vouch names no more documents; the next ones are in another.
const MAX_DOCUMENTS: usize = 50_000;

/// Documents of one vault that are read at once.
const READS_AT_ONCE: usize = 4;

/// Who signed a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBy {
    /// The repository's key.
    Key,
    /// A former key, and the repository's key vouches for it.
    FormerKey,
    /// Without the key nobody can tell.
    Unknown,
}

/// `vouches/<key>.<id>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::repository) struct Vouch {
    format: u32,
    vault: TargetId,
    id: RunId,
    rotation: RunId,
    /// Keys relative to the vault's prefix, each with the hash of the document's bytes.
    documents: BTreeMap<String, Hash32>,
}

/// All that a repository key vouches for in one vault.
#[derive(Debug, Default)]
pub(in crate::repository) struct Vouched(BTreeMap<String, Hash32>);

/// What [`Vault::vouch_for`] did.
#[derive(Clone, Debug, Serialize)]
pub struct VouchedVault {
    /// Whose vault.
    pub target: TargetId,
    /// Documents that the new key vouches for since this call.
    pub added: usize,
    /// Documents that it vouched for before.
    pub before: usize,
    /// Documents that do not verify: one sentence each. Nobody vouches for them.
    pub refused: Vec<String>,
    /// Until when the last backup needs what the vouch names.
    pub needed_until: Option<DateTime<Utc>>,
}

impl Vault {
    /// Reads a signed document of this vault, and tells who signed it.
    pub(crate) async fn read_signed<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        key: &ObjectKey,
    ) -> Result<(T, SignedBy), Error> {
        let bad = |error| match error {
            BadDocument::Mac => Error::Tampered { key: key.clone(), what: error.to_string() },
            BadDocument::Shape(what) => Error::Damaged { key: key.clone(), what },
        };
        let Some(keys) = self.keys() else {
            return signed::read_unverified(bytes).map(|read| (read, SignedBy::Unknown)).map_err(bad);
        };
        match signed::read(bytes, key, &keys.mac) {
            Err(BadDocument::Mac) if self.repository().replaced().is_some() => {}
            read => return read.map(|read| (read, SignedBy::Key)).map_err(bad),
        }
        let path = key.as_str().strip_prefix(&vault_prefix(self.target())).unwrap_or_default();
        if self.vouched().await?.0.get(path) == Some(&sha256(bytes)) {
            return signed::read_unverified(bytes).map(|read| (read, SignedBy::FormerKey)).map_err(bad);
        }
        let what = match self.former_keys().any(|keys| signed::is_signed_by(bytes, key, &keys.mac)) {
            true => "it was signed with a former repository key after that was replaced, or since",
            false => "its signature does not verify",
        };
        Err(Error::Tampered { key: key.clone(), what: what.to_owned() })
    }

    /// The keys of this vault that follow from the former repository keys that are known.
    fn former_keys(&self) -> impl Iterator<Item = VaultKeys> {
        let former = self.repository().replaced().into_iter().flat_map(|replaced| replaced.former.iter());
        former.map(|key| VaultKeys::derive(key, self.repository().id(), self.target()))
    }

    /// The keys of which one made the ids of a backup's chunks; none where that cannot be known.
    pub(crate) fn chunk_ids(&self, signed_by: SignedBy) -> Vec<MacKey> {
        let lost = self.repository().replaced().is_some_and(|replaced| replaced.lost);
        match signed_by {
            SignedBy::Key => self.keys().map(|keys| keys.chunk_id.clone()).into_iter().collect(),
            SignedBy::FormerKey if !lost => self.former_keys().map(|keys| keys.chunk_id).collect(),
            SignedBy::FormerKey | SignedBy::Unknown => Vec::new(),
        }
    }

    /// All that the repository's key vouches for here; read once.
    async fn vouched(&self) -> Result<&Vouched, Error> {
        self.vouched.get_or_try_init(|| self.read_vouches()).await
    }

    async fn read_vouches(&self) -> Result<Vouched, Error> {
        let (prefix, vault) = (vouches_prefix(self.target()), vault_prefix(self.target()));
        let failed = |source| Error::Store { action: "list the vouches of a vault", source };
        let mut objects = self.repository().store().list(&prefix);
        let (mut ids, mut vouched) = (Vec::new(), Vouched::default());
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            ids.extend(object.key.as_str().strip_prefix(&vault).and_then(VouchId::parse));
        }
        for id in ids.into_iter().filter(|id| Some(id.by) == self.repository().key_id()) {
            match self.read_vouch(id).await {
                Ok(documents) => vouched.0.extend(documents),
                // It vouches for nothing. Verification tells it.
                Err(Error::Damaged { .. } | Error::Tampered { .. }) => {}
                Err(Error::Store { source, .. }) if source.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(vouched)
    }

    async fn read_vouch(&self, id: VouchId) -> Result<BTreeMap<String, Hash32>, Error> {
        let (place, mac) = (id.key(self.target()), &self.writer_keys("reading a vouch")?.mac);
        let bytes = self.get(&place).await?;
        let vouch: Vouch = signed::read(&bytes, &place, mac).map_err(|error| match error {
            BadDocument::Mac => Error::Tampered { key: place.clone(), what: error.to_string() },
            BadDocument::Shape(what) => Error::Damaged { key: place.clone(), what },
        })?;
        match (vouch.format, &vouch.vault, vouch.id) == (FORMAT, self.target(), id.id) {
            true => Ok(vouch.documents),
            false => Err(Error::Tampered { key: place, what: "it vouches for another vault".to_owned() }),
        }
    }

    /// What is wrong with the vouches of the repository's key.
    pub(crate) async fn bad_vouches(&self, listing: &Listing) -> Result<Vec<Error>, Error> {
        let mut bad = Vec::new();
        for id in listing.vouches.iter().filter(|id| Some(id.by) == self.repository().key_id()) {
            match self.read_vouch(*id).await {
                Ok(_) => {}
                Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => bad.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(bad)
    }

    /// An error if this vault tells of a key that took the place of ours: then this job must store nothing more.
    ///
    /// Asks the store only where a vouch of an unknown key is listed; anybody may have planted that.
    pub(crate) async fn check_key_is_current(&self, listing: &Listing) -> Result<(), Error> {
        let ours: Vec<_> = self.repository().key_id().into_iter().chain(self.repository().former_ids()).collect();
        match listing.vouches.iter().all(|vouch| ours.contains(&vouch.by)) {
            true => Ok(()),
            false => self.repository().check_still_current().await,
        }
    }

    /// Vouches for every document of this vault that `former`, the same vault under the former key, takes as genuine and that
    /// the new key does not know yet.
    ///
    /// Reads each signed document once and puts one object for up to 50,000 of them; where nothing is new, it puts none. After
    /// a failure half-way the same call does what is left.
    pub async fn vouch_for(
        &self,
        former: &Self,
        rotation: RunId,
        (now, entropy): (DateTime<Utc>, &dyn Entropy),
    ) -> Result<VouchedVault, Error> {
        let by = self.repository().key_id().ok_or(Error::NoKey { action: "vouching" })?;
        let (listing, objects) = self.list_objects().await?;
        let known = &self.vouched().await?.0;
        let prefix = vault_prefix(self.target());
        // One of the future would be the newest for years: what is kept for being the newest would go.
        let early = |id: &BackupId| is_of_the_future(id.created_at(), now);
        let is_signed = |object: &VaultObject| match object {
            VaultObject::Pack(..) | VaultObject::Index(_) | VaultObject::Manifest(_) => false,
            VaultObject::Marker(id) => !early(id),
            _ => true,
        };
        let places =
            objects.iter().map(|listed| listed.object).filter(is_signed).map(|object| object.key(self.target()));
        let unknown =
            |place: &ObjectKey| place.as_str().strip_prefix(&prefix).is_some_and(|path| !known.contains_key(path));
        let places: Vec<ObjectKey> = places.filter(unknown).collect();
        drop(objects);
        let mut report = VouchedVault {
            target: self.target().clone(),
            added: 0,
            before: known.len(),
            refused: Vec::new(),
            needed_until: listing.committed.iter().filter(|id| !early(id)).map(pack_expiry).max(),
        };
        for id in listing.committed.iter().filter(|id| early(id)) {
            let place = VaultObject::Marker(*id).key(self.target());
            report.refused.push(format!("object {place}: it is dated later than now, and was not made then"));
        }
        let mut reads = futures::stream::iter(places)
            .map(|place| async move { (self.examine(former, &place).await, place) })
            .buffered(READS_AT_ONCE);
        let mut documents = BTreeMap::new();
        while let Some((examined, place)) = reads.next().await {
            match examined {
                Ok(Some(hash)) => {
                    let path = place.as_str().strip_prefix(&prefix).unwrap_or_default();
                    documents.insert(path.to_owned(), hash);
                }
                Ok(None) => {}
                Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => report.refused.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        drop(reads);
        report.added = documents.len();
        let mut rest = documents.into_iter().peekable();
        while rest.peek().is_some() {
            let id = VouchId { by, id: RunId::new(now, entropy.tail()) };
            let documents = rest.by_ref().take(MAX_DOCUMENTS).collect();
            let vouch = Vouch { format: FORMAT, vault: self.target().clone(), id: id.id, rotation, documents };
            self.put_vouch(id, &vouch, report.needed_until).await?;
        }
        Ok(report)
    }

    /// The hash of a document that only the former key signed; `None` where the new key signed it, or it is gone.
    async fn examine(&self, former: &Self, place: &ObjectKey) -> Result<Option<Hash32>, Error> {
        let bytes = match self.get(place).await {
            Err(Error::Store { source, .. }) if source.is_not_found() => return Ok(None),
            got => got?,
        };
        if signed::is_signed_by(&bytes, place, &self.writer_keys("vouching")?.mac) {
            return Ok(None);
        }
        let read = former.read_signed::<serde::de::IgnoredAny>(&bytes, place).await;
        read.map(|_| Some(sha256(&bytes)))
    }

    async fn put_vouch(&self, id: VouchId, vouch: &Vouch, until: Option<DateTime<Utc>>) -> Result<(), Error> {
        let place = id.key(self.target());
        let body = Bytes::from(signed::write(vouch, &place, &self.writer_keys("vouching")?.mac));
        self.put(&place, body.clone()).await?;
        // All that is old is believed for its sake: it is read once before that is said to be so.
        let kept = self.get(&place).await?;
        if kept != body {
            return Err(Error::Torn { key: place, sent: body.len() as u64, kept: kept.len() as u64 });
        }
        match until {
            Some(until) => self.retain(&place, until).await,
            None => Ok(()),
        }
    }
}

/// Reads a vouch for its shape only.
pub(in crate::repository) fn read_shape(bytes: &[u8]) -> Result<(), String> {
    signed::read_unverified::<Vouch>(bytes).map(drop).map_err(|error| error.to_string())
}
