#![doc = include_str!("FORMAT.md")]

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::class::Class;
use crate::base::clock::Entropy;
use crate::base::ids::{BackupId, Hash32, TargetId, TargetKind};
use crate::codec::digest::MacKey;
use crate::codec::{compress, seal};
use crate::repository::keys::{RepositoryId, VaultKeys};
use crate::store::{self, ObjectKey, ObjectStore};

pub(crate) mod ancestors;
pub mod checkpoint;
pub mod copy;
mod decoded;
pub mod erase;
pub mod expiry;
pub mod hold;
pub mod index;
pub mod intake;
pub mod json;
pub mod keys;
pub mod lane;
pub mod layout;
pub mod manifest;
pub mod marker;
pub mod pace;
pub(crate) mod pack_cache;
pub mod presence;
pub mod prior;
pub mod proof;
pub mod prune;
pub mod reader;
pub mod reports;
pub mod reseal;
pub mod rotation;
pub mod verify;

pub mod signed;
mod slots;
mod standing;
pub mod vault;
pub mod vouch;

pub mod writer;

/// `dbkeeper.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RepositoryDocument {
    format: u32,
    repository: String,
    created_at: DateTime<Utc>,
}

/// An open repository.
#[derive(Clone)]
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    id: RepositoryId,
    key: Option<Arc<zeroize::Zeroizing<[u8; 32]>>>,
    /// What the key replaced, where it is not the first one.
    replaced: Option<Arc<standing::Replaced>>,
}

/// Without the key: what prints itself is printed sooner or later.
impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({} at {})", self.id, self.store.location())
    }
}

impl Repository {
    /// Makes a new repository. Refuses where there is one, and where anything lies in its place.
    pub async fn create(
        store: Arc<dyn ObjectStore>,
        repository_key: &[u8; 32],
        now: DateTime<Utc>,
        entropy: &dyn Entropy,
    ) -> Result<Self, Error> {
        let place = layout::repository_document();
        match store.head(&place).await {
            Err(error) if error.is_not_found() => {}
            Err(source) => return Err(Error::Store { action: "look for a repository", source }),
            Ok(_) => return Err(Error::Exists { location: store.location() }),
        }
        let folders = match store.list_folders("").await {
            Ok(folders) => folders,
            // A folder that is not there yet holds nothing: the put below makes it, or says why it cannot.
            Err(error) if is_absent_folder(&error) => Vec::new(),
            Err(source) => return Err(Error::Store { action: "look for other objects", source }),
        };
        if folders.iter().any(|name| name == "vaults") {
            return Err(Error::Orphaned { location: store.location() });
        }
        let mut id = [0; 16];
        entropy.fill(&mut id);
        let id = RepositoryId(id);
        let document = RepositoryDocument { format: marker::FORMAT, repository: id.to_string(), created_at: now };
        let body = signed::write(&document, &place, &keys::repository_mac(repository_key, id));
        match store.put_new(&place, Bytes::from(body)).await {
            Err(store::Error::Exists { .. }) => return Err(Error::Exists { location: store.location() }),
            done => done.map_err(|source| Error::Store { action: "create the repository", source })?,
        }
        Ok(Self { store, id, key: Some(Arc::new(zeroize::Zeroizing::new(*repository_key))), replaced: None })
    }

    /// Opens a repository and proves that the key is its own, and the one that signs.
    pub async fn open(store: Arc<dyn ObjectStore>, repository_key: &[u8; 32]) -> Result<Self, Error> {
        let bytes = Self::read_document(store.as_ref()).await?;
        let unverified = Self::parse_document(store.as_ref(), &bytes)?;
        Self::open_as(store, (&bytes, unverified), repository_key).await
    }

    /// Opens a repository for restoring only: nothing can be checked for authenticity, and the caller must say so.
    pub async fn open_without_key(store: Arc<dyn ObjectStore>) -> Result<Self, Error> {
        let bytes = Self::read_document(store.as_ref()).await?;
        let id = Self::parse_document(store.as_ref(), &bytes)?;
        Ok(Self { store, id, key: None, replaced: None })
    }

    async fn read_document(store: &dyn ObjectStore) -> Result<Bytes, Error> {
        match store.get(&layout::repository_document()).await {
            Err(error) if error.is_not_found() => Err(Error::Absent { location: store.location() }),
            Err(source) => Err(store_error("open the repository", source)),
            Ok(bytes) => Ok(bytes),
        }
    }

    fn parse_document(store: &dyn ObjectStore, bytes: &[u8]) -> Result<RepositoryId, Error> {
        let damaged = |what: String| Error::Damaged { key: layout::repository_document(), what };
        let document: RepositoryDocument =
            signed::read_unverified(bytes).map_err(|error| damaged(error.to_string()))?;
        if document.format != marker::FORMAT {
            return Err(Error::Format { location: store.location(), format: document.format });
        }
        RepositoryId::parse(&document.repository).ok_or_else(|| damaged("its id has no 32 digits".to_owned()))
    }

    /// The store below it.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Its id.
    pub fn id(&self) -> RepositoryId {
        self.id
    }

    /// True if signatures can be checked and chunks recognised.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The keys of a vault, if the repository key is there.
    pub fn vault_keys(&self, target: &TargetId) -> Option<VaultKeys> {
        self.key.as_ref().map(|key| VaultKeys::derive(key, self.id, target))
    }

    /// The key that signs the repository's own documents.
    pub fn mac(&self) -> Option<MacKey> {
        self.key.as_ref().map(|key| keys::repository_mac(key, self.id))
    }

    /// The key that signs checkpoints, which lie elsewhere.
    pub fn checkpoint_mac(&self) -> Option<MacKey> {
        self.key.as_ref().map(|key| keys::checkpoint_mac(key, self.id))
    }

    /// Every target that has a vault, in order. Folders that no target's name prints are returned apart.
    pub async fn vaults(&self) -> Result<(Vec<TargetId>, Vec<String>), Error> {
        let (mut targets, mut strangers) = (Vec::new(), Vec::new());
        for kind in TargetKind::ALL {
            let prefix = layout::kind_prefix(kind);
            let folders = self.store.list_folders(&prefix).await;
            for folder in folders.map_err(|source| Error::Store { action: "list the vaults", source })? {
                match layout::parse_vault_folder(kind, &folder) {
                    Some(target) => targets.push(target),
                    None => strangers.push(format!("{prefix}{folder}")),
                }
            }
        }
        targets.sort();
        Ok((targets, strangers))
    }
}

/// What went wrong with the repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no repository.
    #[error("no repository at {location}")]
    Absent {
        /// The place.
        location: String,
    },
    /// There is a repository already.
    #[error("there is a repository at {location} already")]
    Exists {
        /// The place.
        location: String,
    },
    /// There are vaults, but no repository document.
    #[error("{location} holds vaults but no dbkeeper.json")]
    Orphaned {
        /// The place.
        location: String,
    },
    /// A later version wrote it.
    #[error("the repository at {location} has format {format}, and this program reads format 1")]
    Format {
        /// The place.
        location: String,
        /// Its format.
        format: u32,
    },
    /// The repository key belongs to another repository.
    #[error("the repository key does not fit the repository at {location}")]
    WrongKey {
        /// The place.
        location: String,
    },
    /// The repository key has a successor.
    #[error("the repository key was replaced on {} by key {successor}, at {location}", .at.format("%Y-%m-%d %H:%M UTC"))]
    KeyReplaced {
        /// The place.
        location: String,
        /// When that began.
        at: DateTime<Utc>,
        /// The name of the new key.
        successor: keys::KeyId,
    },
    /// The repository key is being replaced.
    #[error("the repository key is being replaced{}, and that is not finished, at {location}",
        .successor.map(|id| format!(" by key {id}")).unwrap_or_default())]
    RotationUnfinished {
        /// The place.
        location: String,
        /// The name of the new key; `None` where the key that was given is the new one.
        successor: Option<keys::KeyId>,
    },
    /// A copy has still the key that this repository had.
    #[error("the copy at {location} has still the former repository key")]
    CopyBehind {
        /// The place.
        location: String,
    },
    /// What should be the copy is another repository.
    #[error("{location} holds another repository, no copy of this one")]
    AnotherRepository {
        /// The place.
        location: String,
    },
    /// The repository key is needed and was not given.
    #[error("{action} needs the repository key")]
    NoKey {
        /// What was tried.
        action: &'static str,
    },
    /// The store failed.
    #[error("{action}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: store::Error,
    },
    /// A stored object is not what it should be.
    #[error("object {key} is damaged: {what}")]
    Damaged {
        /// The object.
        key: ObjectKey,
        /// What is wrong with it.
        what: String,
    },
    /// A stored object is whole, but not authentic.
    #[error("object {key} does not verify: {what}; this looks like tampering")]
    Tampered {
        /// The object.
        key: ObjectKey,
        /// What is wrong with it.
        what: String,
    },
    /// The store said that it took an object, and keeps something else.
    #[error("the store took the {sent} bytes of object {key} and keeps {kept}")]
    Torn {
        /// The object.
        key: ObjectKey,
        /// What it was given.
        sent: u64,
        /// What it keeps.
        kept: u64,
    },
    /// A pack that a backup needs is not there.
    #[error("backup {backup} of {target} needs pack {pack}, which is not in the store")]
    PackMissing {
        /// Whose backup it is.
        target: TargetId,
        /// The backup.
        backup: BackupId,
        /// The pack.
        pack: Hash32,
    },
    /// There is no such backup.
    #[error("{target} has no backup {wanted}")]
    NoBackup {
        /// Whose.
        target: TargetId,
        /// Which: an id, a time, or `at all`.
        wanted: String,
    },
    /// None of the identities opens the vault's keys.
    #[error("none of the given identities opens the keys of {target}")]
    WrongIdentity {
        /// Whose keys.
        target: TargetId,
        /// To whom they are sealed.
        sealed_to: Vec<String>,
    },
    /// An age plugin that the keys need is not installed, or did not do it.
    #[error("the keys of {target} need an age plugin")]
    Plugin {
        /// Whose keys.
        target: TargetId,
        /// What it said.
        #[source]
        source: seal::Error,
    },
    /// No recipient is configured.
    #[error("no recovery recipient is configured")]
    NoRecipient,
    /// A chunk could not be compressed.
    #[error("compress a chunk of {target}")]
    Compress {
        /// Whose chunk.
        target: TargetId,
        /// Why.
        #[source]
        source: compress::Error,
    },
    /// A document of a backup is larger than readers take.
    #[error("the {document} would have {size} {unit}, and no reader takes more than {limit}")]
    DocumentTooLarge {
        /// `manifest`, `index` or `marker`.
        document: &'static str,
        /// Its size.
        size: usize,
        /// The most that is read.
        limit: usize,
        /// What is counted: `bytes` or `values`.
        unit: &'static str,
    },
    /// A row or block is larger than the format can hold.
    #[error("a row of {bytes} bytes is larger than a chunk can be")]
    RowTooLarge {
        /// Its size.
        bytes: u64,
    },
}

impl Error {
    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::Absent { .. } | Self::Exists { .. } | Self::Orphaned { .. } => Class::Store,
            Self::Format { .. } | Self::Torn { .. } | Self::AnotherRepository { .. } => Class::Store,
            Self::WrongKey { .. } | Self::NoKey { .. } | Self::KeyReplaced { .. } => Class::Key,
            Self::RotationUnfinished { .. } | Self::CopyBehind { .. } => Class::Key,
            Self::WrongIdentity { .. } | Self::Plugin { .. } => Class::Key,
            Self::Store { source, .. } => source.class(),
            Self::Damaged { .. } | Self::PackMissing { .. } | Self::Compress { .. } => Class::Corrupt,
            Self::Tampered { .. } => Class::Tampered,
            Self::NoBackup { .. } => Class::Empty,
            Self::NoRecipient => Class::Usage,
            Self::RowTooLarge { .. } | Self::DocumentTooLarge { .. } => Class::Refused,
        }
    }

    /// What to type next, where that is known.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Absent { .. } => "check [repository] url, or make a new repository with `dbkeeper init`".to_owned(),
            Self::Exists { .. } => "use it as it is, or choose another url; nothing was changed".to_owned(),
            Self::Orphaned { .. } => {
                "do not run init: bring dbkeeper.json back, or restore with --without-repository-key".to_owned()
            }
            Self::Format { .. } => "install the newest dbkeeper".to_owned(),
            Self::WrongKey { .. } => {
                "check [repository] key; a restore also works with --without-repository-key".to_owned()
            }
            Self::KeyReplaced { .. } => {
                "set [repository] key to the new key, wherever this job runs; with the former one nothing more is stored"
                    .to_owned()
            }
            Self::RotationUnfinished { .. } => {
                "finish it: `dbkeeper keys rotate --repository-key FILE` with the file of the new key; a restore also works \
                 with --without-repository-key"
                    .to_owned()
            }
            Self::CopyBehind { .. } => {
                "replace it there too: `dbkeeper keys rotate --repository NAME --repository-key FILE --former-key FILE`"
                    .to_owned()
            }
            Self::AnotherRepository { .. } => "give the copy a url of its own; nothing was changed".to_owned(),
            Self::Torn { .. } => {
                "this backup does not count; check the store before you trust it, then run the same command again"
                    .to_owned()
            }
            Self::NoKey { .. } => "set [repository] key".to_owned(),
            Self::Store { source, .. } => return source.hint().map(str::to_owned),
            Self::Damaged { .. } | Self::Tampered { .. } | Self::PackMissing { .. } => {
                "run `dbkeeper verify --read-packs` to see what is affected, and restore another backup with --backup"
                    .to_owned()
            }
            Self::NoBackup { target, .. } => format!("run `dbkeeper list` to see what there is for {target}"),
            Self::WrongIdentity { sealed_to, .. } => format!("they are sealed to {}", sealed_to.join(", ")),
            Self::Plugin { .. } => {
                "install the plugin (a program age-plugin-NAME in PATH), or use another identity".to_owned()
            }
            Self::NoRecipient => "set [encryption] recipients to what `dbkeeper keygen` printed".to_owned(),
            Self::Compress { .. } | Self::RowTooLarge { .. } | Self::DocumentTooLarge { .. } => return None,
        };
        Some(text)
    }
}

fn is_absent_folder(error: &store::Error) -> bool {
    let store::Error::Failed { source: Some(source), .. } = error else { return false };
    source.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The meaning of a store error: an object that is larger than any of its kind can be was put there by somebody else.
fn store_error(action: &'static str, source: store::Error) -> Error {
    match source {
        store::Error::TooLarge { key, bytes, most } => {
            Error::Tampered { key, what: format!("it has {bytes} bytes, and none of its kind has more than {most}") }
        }
        source => Error::Store { action, source },
    }
}

/// The meaning of a seal error for the object it was in.
fn seal_error(error: seal::Error, key: ObjectKey, target: &TargetId, sealed_to: Vec<String>) -> Error {
    match error {
        seal::Error::WrongIdentity => Error::WrongIdentity { target: target.clone(), sealed_to },
        seal::Error::Plugin { .. } => Error::Plugin { target: target.clone(), source: error },
        other => Error::Damaged { key, what: other.to_string() },
    }
}
