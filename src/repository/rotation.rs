//! Replacing the repository key: the new one is the only one that signs, and what the former one had signed stays genuine.
//!
//! A key that leaked signs whatever its thief likes, at any date. So after a rotation a signature of the former key proves
//! nothing, and nothing is believed for it. What it had signed before is believed because the new key *vouches* for it: in
//! each vault a signed list of documents, each with the hash of its bytes ([`vouch`](crate::repository::vouch)). A hash is bound
//! to one content, so whoever has the former key can add nothing to the list, and the former key is not needed to read it.
//!
//! Three steps, none of which overwrites anything:
//!
//! 1. `retired.<former>.<new>.json`, signed by the former key: from here on every job that still has it is refused.
//! 2. Vault by vault, a vouch for every document that verifies and that the new key does not know yet. Repeated until a pass
//!    finds nothing more, so a writer that was under way when the first step came is waited for, as far as it ends in time.
//! 3. `done.<new>.json`, signed by the new key: from here on it is the repository's. It holds the former keys, sealed to a key
//!    that follows from the new one: they still tell whether an old chunk is what its id says, and they decide nothing.
//!
//! Between the first and the last step neither key opens the repository; both say that the rotation must be finished. After a
//! kill the same call goes on: what is vouched for is not read again. Nobody who lacks the former key can do the first
//! step, so a planted object stops no writer; whoever has it can, and is loud.
//!
//! A vouched epoch is for reading only. The thief may have planted, before the rotation, one whose secret is the thief's own, so
//! writers begin epochs of their own (see [`EpochDocument`](crate::repository::vault::EpochDocument)), and with other keys for
//! chunks the first backup stores everything once more.
//!
//! Of two rotations at once the first goes on, and the other is told. Whoever has the former key, and may put objects, can still
//! be a nuisance: until our first step lies there, a step of the thief's to a key of the thief's own stops every job and our
//! rotation too; and a `done` of that key beside it, whenever it is put before ours, stops our last step. Both are told with
//! the thief's key's name, and end when somebody who may delete takes that folder of `rotations/` away. No such step lets the
//! thief's key open a repository that has ours, and none that comes after our last one changes anything for us.
//!
//! Where the former key is lost, nothing can be proven any more: the new key then vouches for what is there
//! ([`Former::Lost`]), and the operator is told so.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use zeroize::Zeroizing;

use crate::base::clock::Entropy;
use crate::base::ids::RunId;
use crate::base::repository_key::RepositoryKey;
use crate::base::secret::Secret;
use crate::codec::digest::sha256;
use crate::codec::seal;
use crate::repository::keys::{self, KeyId, RepositoryId};
use crate::repository::layout::{self, RotationDocument};
use crate::repository::marker::FORMAT;
use crate::repository::standing::{Done, Replaced, Retired, Standing, standing};
use crate::repository::{Error, Repository, reports, signed};
use crate::store::{self, ObjectKey, ObjectStore};

/// The key that is replaced.
#[derive(Clone, Copy)]
pub enum Former<'a> {
    /// It is there: what it signed is proven.
    Known(&'a [u8; 32]),
    /// It is lost: what is there is believed.
    Lost,
}

/// A rotation that has begun.
#[derive(Clone, Debug)]
pub struct Rotation {
    id: RunId,
    /// The first step was taken by an earlier call.
    resumed: bool,
    /// The repository as the former key sees it; unproven where that is lost.
    pub former: Repository,
    /// The repository as the new key sees it.
    pub renewed: Repository,
}

/// What [`begin`] found.
pub enum Begun {
    /// It is to be done, or to be finished.
    Rotation(Rotation),
    /// The new key is the repository's already.
    Done(Repository),
}

/// Begins to replace the repository key by `new`, or goes on where that was interrupted.
///
/// Puts one object, after which jobs with the former key are refused. Refuses where another key is about to become the
/// repository's, and a key that had been replaced before.
pub async fn begin(
    store: Arc<dyn ObjectStore>,
    former: Former<'_>,
    new: &[u8; 32],
    (now, entropy): (DateTime<Utc>, &dyn Entropy),
) -> Result<Begun, Error> {
    let document = Repository::read_document(store.as_ref()).await?;
    let id = Repository::parse_document(store.as_ref(), &document)?;
    let location = store.location();
    let mut going_on = match standing(store.as_ref(), (&document, id), new).await? {
        Standing::Current(replaced) => return Ok(Begun::Done(Repository::assembled(store, id, new, replaced))),
        Standing::Retired { at, successor, .. } => return Err(Error::KeyReplaced { location, at, successor }),
        Standing::Coming(rotation) => Some(rotation),
        Standing::Unknown => None,
    };
    let (mut replaced, mut of_former) =
        (Replaced { at: now, former: Vec::new(), lost: true, documents: BTreeMap::new() }, None);
    let mut resumed = false;
    if let Former::Known(key) = former {
        let successor = KeyId::of(new, id);
        let before = match standing(store.as_ref(), (&document, id), key).await? {
            Standing::Current(before) => {
                going_on = Some(retire(store.as_ref(), (key, id), successor, (now, entropy)).await?);
                before
            }
            Standing::Retired { successor: planned, at, finished, all, before, .. } => {
                // Whoever has the former key can plant others beside ours: ours goes on, wherever it stands among them.
                going_on = all.iter().find(|(_, planned, _)| *planned == successor).map(|(rotation, ..)| *rotation);
                match (going_on, finished) {
                    (Some(_), _) => resumed = true,
                    (None, true) => return Err(Error::KeyReplaced { location, at, successor: planned }),
                    (None, false) => return Err(Error::RotationUnfinished { location, successor: Some(planned) }),
                }
                before
            }
            Standing::Coming(_) | Standing::Unknown => return Err(Error::WrongKey { location }),
        };
        replaced.former.push(Zeroizing::new(*key));
        replaced.former.extend(before.iter().flat_map(|before| before.former.iter().cloned()));
        replaced.lost = before.as_ref().is_some_and(|before| before.lost);
        of_former = Some(Repository::assembled(Arc::clone(&store), id, key, before));
    }
    let former = match of_former {
        Some(former) => former,
        None => Repository::open_without_key(Arc::clone(&store)).await?,
    };
    let id_of_rotation = going_on.unwrap_or_else(|| RunId::new(now, entropy.tail()));
    let renewed = Repository::assembled(store, id, new, Some(replaced));
    let rotation = Rotation { id: id_of_rotation, resumed, former, renewed };
    rotation.check_alone().await?;
    Ok(Begun::Rotation(rotation))
}

/// The first step: from here on jobs with the former key are refused.
async fn retire(
    store: &dyn ObjectStore,
    (key, id): (&[u8; 32], RepositoryId),
    successor: KeyId,
    (now, entropy): (DateTime<Utc>, &dyn Entropy),
) -> Result<RunId, Error> {
    let rotation = RunId::new(now, entropy.tail());
    let (format, repository, key_id) = (FORMAT, id.to_string(), KeyId::of(key, id));
    let retired = Retired { format, repository, rotation, key: key_id, successor, at: now };
    let place = layout::rotation(&rotation, RotationDocument::Retired(key_id, successor));
    let body = signed::write(&retired, &place, &keys::repository_mac(key, id));
    match put(store, &place, body).await? {
        true => Ok(rotation),
        false => Err(Error::Damaged { key: place, what: "the store does not keep it as it was put".to_owned() }),
    }
}

impl Rotation {
    /// The id of the rotation.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// An error where another key is about to take the place of the same one, or has: only one of them may.
    ///
    /// Of two that began at once the first goes on. One that goes on later asks only whether another is finished: else whoever
    /// has the former key could forestall it for ever, with a rotation dated before every other.
    async fn check_alone(&self) -> Result<(), Error> {
        let (Some(former), Some(new)) = (&self.former.key, self.renewed.key_id()) else { return Ok(()) };
        let store = self.renewed.store.as_ref();
        let document = Repository::read_document(store).await?;
        let Standing::Retired { all, .. } = standing(store, (&document, self.renewed.id), former).await? else {
            return Ok(());
        };
        let location = store.location();
        let mut others = all.into_iter().filter(|(_, successor, _)| *successor != new).peekable();
        let first = others.peek().copied();
        if let Some((rotation, successor, _)) = others.find(|(.., finished)| *finished) {
            return Err(Error::KeyReplaced { location, at: rotation.started_at(), successor });
        }
        match first {
            Some((rotation, successor, _)) if !self.resumed && (rotation, successor) < (self.id, new) => {
                Err(Error::RotationUnfinished { location, successor: Some(successor) })
            }
            _ => Ok(()),
        }
    }

    /// Makes the new key the repository's. Every vault must have been vouched for. The object is locked until `keep`, where
    /// objects are locked.
    pub async fn finish(
        self,
        (now, entropy): (DateTime<Utc>, &dyn Entropy),
        keep: Option<DateTime<Utc>>,
    ) -> Result<Repository, Error> {
        let no_key = || Error::NoKey { action: "replacing the repository key" };
        let (mac, key) = (self.renewed.mac().ok_or_else(no_key)?, self.renewed.key_id().ok_or_else(no_key)?);
        let replaced = self.renewed.replaced.as_deref().ok_or_else(no_key)?;
        self.check_alone().await?;
        let documents = reports::that_decide(&self.former, now).await?;
        let mut done = Done {
            format: FORMAT,
            repository: self.renewed.id.to_string(),
            rotation: self.id,
            key,
            at: now,
            former_keys: self.renewed.seal_former(&replaced.former)?,
            former_lost: replaced.lost,
            documents,
        };
        let store = Arc::clone(&self.renewed.store);
        let mut place = layout::rotation(&done.rotation, RotationDocument::Done(key));
        if !put(store.as_ref(), &place, signed::write(&done, &place, &mac)).await? {
            // Something else lies there: torn by the store, or planted by somebody who saw the first step.
            done.rotation = RunId::new(now, entropy.tail());
            place = layout::rotation(&done.rotation, RotationDocument::Done(key));
            if !put(store.as_ref(), &place, signed::write(&done, &place, &mac)).await? {
                return Err(Error::Damaged { key: place, what: "the store does not keep it as it was put".to_owned() });
            }
        }
        if let Some(until) = keep {
            let first = |former| layout::rotation(&self.id, RotationDocument::Retired(former, key));
            // Without the first step the former key would open the repository again.
            for place in self.former.key_id().map(first).into_iter().chain([place]) {
                let retained = store.retain(&place, until).await;
                retained.map_err(|source| Error::Store { action: "lock what names the repository key", source })?;
            }
        }
        let secret = self.renewed.key.as_ref().ok_or_else(no_key)?;
        Repository::open(store, secret).await
    }
}

/// Stores a document and reads it once, since everything depends on it: true if it is there as it was put.
async fn put(store: &dyn ObjectStore, place: &ObjectKey, body: Vec<u8>) -> Result<bool, Error> {
    let body = Bytes::from(body);
    let failed = |source| Error::Store { action: "write down that the repository key is replaced", source };
    match store.put_new(place, body.clone()).await {
        // An answer was lost and this is the second try, or it is something else: its bytes tell.
        Err(store::Error::Exists { .. }) => {}
        done => done.map_err(failed)?,
    }
    Ok(store.get(place).await.map_err(failed)? == body)
}

impl Repository {
    /// A repository whose key is known to be what the caller says.
    fn assembled(store: Arc<dyn ObjectStore>, id: RepositoryId, key: &[u8; 32], replaced: Option<Replaced>) -> Self {
        Self { store, id, key: Some(Arc::new(Zeroizing::new(*key))), replaced: replaced.map(Arc::new) }
    }

    /// Opens it with this key, or says what the key is.
    pub(in crate::repository) async fn open_as(
        store: Arc<dyn ObjectStore>,
        (document, id): (&[u8], RepositoryId),
        key: &[u8; 32],
    ) -> Result<Self, Error> {
        let location = store.location();
        match standing(store.as_ref(), (document, id), key).await? {
            Standing::Current(replaced) => Ok(Self::assembled(store, id, key, replaced)),
            Standing::Retired { finished: true, at, successor, .. } => {
                Err(Error::KeyReplaced { location, at, successor })
            }
            Standing::Retired { successor, .. } => {
                Err(Error::RotationUnfinished { location, successor: Some(successor) })
            }
            Standing::Coming(_) => Err(Error::RotationUnfinished { location, successor: None }),
            Standing::Unknown => Err(Error::WrongKey { location }),
        }
    }

    /// An error if the key has been replaced since the repository was opened.
    pub async fn check_still_current(&self) -> Result<(), Error> {
        let Some(key) = &self.key else { return Ok(()) };
        Self::open(Arc::clone(&self.store), key).await.map(drop)
    }

    /// The name of its key.
    pub fn key_id(&self) -> Option<KeyId> {
        self.key.as_ref().map(|key| KeyId::of(key, self.id))
    }

    /// When its key took the place of another, if it did.
    pub fn key_since(&self) -> Option<DateTime<Utc>> {
        self.replaced.as_ref().map(|replaced| replaced.at)
    }

    /// What its key replaced.
    pub(crate) fn replaced(&self) -> Option<&Replaced> {
        self.replaced.as_deref()
    }

    /// The names of the former keys that are known.
    pub(crate) fn former_ids(&self) -> impl Iterator<Item = KeyId> {
        self.replaced.iter().flat_map(|it| it.former.iter()).map(|key| KeyId::of(key, self.id))
    }

    fn seal_former(&self, former: &[Zeroizing<[u8; 32]>]) -> Result<String, Error> {
        let own = self.key.as_ref().ok_or(Error::NoKey { action: "replacing the repository key" })?;
        let mut text = Zeroizing::new(String::new());
        for key in former {
            let line = RepositoryKey::from_bytes(key).print();
            text.push_str(line.reveal());
            text.push('\n');
        }
        let recipient = keys::former_keys(own, self.id).recipient().clone();
        let sealed = seal::seal_text(&Secret::new(text.to_string()), &[recipient]);
        Ok(sealed.expect("a recipient that is no plugin's never fails"))
    }

    /// Reads a record below `runs/` that decides something: signed by the repository's key, or vouched for when it became so.
    pub(crate) fn read_record<T: serde::de::DeserializeOwned>(
        &self,
        bytes: &[u8],
        place: &ObjectKey,
    ) -> Result<T, signed::BadDocument> {
        let Some(mac) = self.mac() else { return signed::read_unverified(bytes) };
        let vouched = || {
            let named = self.replaced.as_ref()?.documents.get(place.as_str())?;
            (*named == sha256(bytes)).then_some(())
        };
        match signed::read(bytes, place, &mac) {
            Err(signed::BadDocument::Mac) if vouched().is_some() => signed::read_unverified(bytes),
            read => read,
        }
    }

    /// Checks a report that people read and that decides nothing: one of before the key was replaced may have a signature of a
    /// former key.
    pub(crate) fn check_report(&self, bytes: &[u8], place: &ObjectKey) -> Result<(), signed::BadDocument> {
        let read = self.read_record::<serde_json::Value>(bytes, place).map(drop);
        let (Err(signed::BadDocument::Mac), Some(replaced)) = (&read, &self.replaced) else { return read };
        let began = layout::parse_run_report(place).map(|(run, _)| run.started_at());
        let is_old = began.is_some_and(|at| at <= replaced.at);
        let mut former = replaced.former.iter().map(|key| keys::repository_mac(key, self.id));
        let fits = replaced.lost || former.any(|mac| signed::is_signed_by(bytes, place, &mac));
        if is_old && fits { signed::read_unverified::<serde_json::Value>(bytes).map(drop) } else { read }
    }
}
