//! What a key is to a repository: the documents below `rotations/`, and what they prove.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::class::Class;
use crate::base::ids::{Hash32, RunId};
use crate::base::repository_key::RepositoryKey;
use crate::codec::seal;
use crate::repository::keys::{self, KeyId, RepositoryId};
use crate::repository::layout::{self, RotationDocument};
use crate::repository::marker::FORMAT;
use crate::repository::{Error, Repository, signed};
use crate::store::{ObjectKey, ObjectStore};

/// So many documents of rotations of one key are looked through; more have been planted.
const MAX_DOCUMENTS: usize = 1000;

/// `retired.<former>.<new>.json`: signed by the former key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retired {
    pub(super) format: u32,
    pub(super) repository: String,
    pub(super) rotation: RunId,
    pub(super) key: KeyId,
    pub(super) successor: KeyId,
    pub(super) at: DateTime<Utc>,
}

/// `done.<new>.json`: signed by the new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) format: u32,
    pub(super) repository: String,
    pub(super) rotation: RunId,
    pub(super) key: KeyId,
    pub(super) at: DateTime<Utc>,
    /// The former keys that are known, the newest first, one a line, sealed.
    pub(super) former_keys: String,
    /// True where one of the former keys was lost.
    pub(super) former_lost: bool,
    /// Records below `runs/` that still decide something, by their keys.
    pub(super) documents: BTreeMap<String, Hash32>,
}

/// What a repository key replaced.
pub(crate) struct Replaced {
    /// When it became the repository's.
    pub(crate) at: DateTime<Utc>,
    /// The former keys that are known, the newest first.
    pub(crate) former: Vec<Zeroizing<[u8; 32]>>,
    /// True where one of them was lost.
    pub(crate) lost: bool,
    pub(super) documents: BTreeMap<String, Hash32>,
}

/// What a key is to a repository.
pub(super) enum Standing {
    /// It signs.
    Current(Option<Replaced>),
    /// It has a successor, which signs already if `finished`.
    Retired {
        /// To which key: of more than one that the key signed one that is finished, or else the first.
        successor: KeyId,
        at: DateTime<Utc>,
        finished: bool,
        /// Every rotation that the key signed, to which key, and whether that one is finished: whoever has the key can sign more
        /// than one.
        all: BTreeSet<(RunId, KeyId, bool)>,
        before: Option<Replaced>,
    },
    /// It is to be the next one.
    Coming(RunId),
    /// None of these.
    Unknown,
}

/// What the store has below `rotations/`.
struct Listed {
    /// The documents that name one of the keys that were asked for.
    documents: Vec<(RunId, RotationDocument, ObjectKey)>,
    /// Every key of which a `done` is there, whoever put it.
    done: BTreeSet<KeyId>,
}

/// Lists the documents of rotations that name one of these keys. What names others is none of theirs, however much of it lies
/// there.
async fn documents(store: &dyn ObjectStore, keys: &[KeyId]) -> Result<Listed, Error> {
    let failed = |source| Error::Store { action: "look for rotations of the repository key", source };
    let mut listed = Listed { documents: Vec::new(), done: BTreeSet::new() };
    let mut objects = store.list(layout::ROTATIONS_PREFIX);
    while let Some(object) = objects.try_next().await.map_err(failed)? {
        let Some((id, document)) = layout::parse_rotation(&object.key) else { continue };
        let names_ours = match document {
            RotationDocument::Retired(former, successor) => keys.contains(&former) || keys.contains(&successor),
            RotationDocument::Done(of) => {
                listed.done.insert(of);
                keys.contains(&of)
            }
        };
        if !names_ours {
            continue;
        }
        if listed.documents.len() == MAX_DOCUMENTS {
            let what = format!("there are more than {MAX_DOCUMENTS} documents of rotations of one key");
            return Err(Error::Tampered { key: object.key, what });
        }
        listed.documents.push((id, document, object.key));
    }
    Ok(listed)
}

/// The bytes of a document; `None` where it is gone, or cannot be read for good: whoever plants something may lock it away.
async fn readable(store: &dyn ObjectStore, place: &ObjectKey) -> Result<Option<Bytes>, Error> {
    match store.get(place).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.class().is_transient() || matches!(error.class(), Class::Stalled | Class::Cancelled) => {
            Err(Error::Store { action: "read a rotation of the repository key", source: error })
        }
        Err(_) => Ok(None),
    }
}

/// A document that this key signed and that is what its name says; `None` for any other.
async fn signed_by<T: serde::de::DeserializeOwned>(
    store: &dyn ObjectStore,
    place: &ObjectKey,
    (key, id): (&[u8; 32], RepositoryId),
) -> Result<Option<T>, Error> {
    let bytes = readable(store, place).await?;
    Ok(bytes.and_then(|bytes| signed::read(&bytes, place, &keys::repository_mac(key, id)).ok()))
}

/// Finds out what `key` is to the repository whose `dbkeeper.json` is `document`.
pub(super) async fn standing(
    store: &dyn ObjectStore,
    (document, id): (&[u8], RepositoryId),
    key: &[u8; 32],
) -> Result<Standing, Error> {
    let (own, name) = (KeyId::of(key, id), id.to_string());
    let listed = documents(store, &[own]).await?;
    let (mut done, mut retired): (Option<Done>, Vec<Retired>) = (None, Vec::new());
    for (rotation, what, place) in &listed.documents {
        match what {
            RotationDocument::Done(of) if *of == own => {
                let read: Option<Done> = signed_by(store, place, (key, id)).await?;
                let fits =
                    |it: &Done| (it.format, &it.repository, it.rotation, it.key) == (FORMAT, &name, *rotation, own);
                done = read.filter(fits).or(done);
            }
            RotationDocument::Retired(of, successor) if *of == own => {
                let read: Option<Retired> = signed_by(store, place, (key, id)).await?;
                let fits = |it: &Retired| {
                    (it.format, &it.repository, it.rotation) == (FORMAT, &name, *rotation)
                        && (it.key, it.successor) == (own, *successor)
                };
                retired.extend(read.filter(fits));
            }
            _ => {}
        }
    }
    let place = layout::repository_document();
    let is_first = signed::is_signed_by(document, &place, &keys::repository_mac(key, id));
    let is_coming = |(rotation, what, _): &(RunId, RotationDocument, ObjectKey)| match what {
        RotationDocument::Retired(_, successor) if *successor == own => Some(*rotation),
        _ => None,
    };
    let is_own = is_first || done.is_some();
    let before = done.map(|done| done.open(key, id)).transpose()?;
    let is_finished = |it: &Retired| listed.done.contains(&it.successor);
    let all = retired.iter().map(|it| (it.rotation, it.successor, is_finished(it))).collect();
    Ok(match retired.into_iter().min_by_key(|it| (!is_finished(it), it.rotation)) {
        Some(it) => {
            let (finished, Retired { successor, at, .. }) = (is_finished(&it), it);
            Standing::Retired { successor, at, finished, all, before }
        }
        None if is_own => Standing::Current(before),
        None => listed.documents.iter().find_map(is_coming).map_or(Standing::Unknown, Standing::Coming),
    })
}

impl Done {
    /// Opens the former keys.
    pub(super) fn open(self, key: &[u8; 32], id: RepositoryId) -> Result<Replaced, Error> {
        let place = layout::rotation(&self.rotation, RotationDocument::Done(self.key));
        let damaged = |what: String| Error::Damaged { key: place.clone(), what };
        let opened = seal::open_text(&self.former_keys, &[keys::former_keys(key, id)]);
        let opened = opened.map_err(|error| damaged(error.to_string()))?;
        let former =
            opened.reveal().lines().map(|line| RepositoryKey::parse(line).map(|it| Zeroizing::new(*it.bytes())));
        let former: Result<Vec<_>, _> = former.collect();
        let former = former.map_err(|error| damaged(format!("it holds {error}")))?;
        Ok(Replaced { at: self.at, former, lost: self.former_lost, documents: self.documents })
    }
}

/// The documents on the rotations that led to this key, proven: a copy needs them as the repository does.
pub(super) async fn proven_documents(repository: &Repository) -> Result<Vec<(ObjectKey, Bytes)>, Error> {
    let macs: Vec<_> = repository
        .mac()
        .into_iter()
        .chain(
            repository
                .replaced
                .iter()
                .flat_map(|it| it.former.iter())
                .map(|key| keys::repository_mac(key, repository.id)),
        )
        .collect();
    let mut proven = Vec::new();
    let ours: Vec<KeyId> = repository.key_id().into_iter().chain(repository.former_ids()).collect();
    for (_, _, place) in documents(repository.store.as_ref(), &ours).await?.documents {
        let Some(bytes) = readable(repository.store.as_ref(), &place).await? else { continue };
        if macs.iter().any(|mac| signed::is_signed_by(&bytes, &place, mac)) {
            proven.push((place, bytes));
        }
    }
    Ok(proven)
}

/// Reads the documents of a rotation for their shape only.
pub(super) fn read_shape(bytes: &[u8]) -> Result<(), String> {
    let done = signed::read_unverified::<Done>(bytes);
    let retired = || signed::read_unverified::<Retired>(bytes).map(drop);
    done.map(drop).or_else(|_| retired()).map_err(|error| error.to_string())
}
