//! Layer 1: objects under keys.
//!
//! A store keeps whole immutable objects: put, get, list, copy, delete. It promises that an object is visible whole or not at
//! all and that a put which returned `Ok` lasts. It must not know what the objects mean, nor any key that opens them.
//! [`s3`] and [`local`] are the real ones, [`memory`] serves simulations; [`retrying`] and [`limited`] wrap any of them.
//! [`open`] makes what a job uses: a real store, its requests bounded, its passing faults tried again.

pub mod limited;
pub mod local;
pub mod memory;
pub mod place;
pub mod retrying;
pub mod s3;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::base::class::Class;
use crate::base::clock::Entropy;
use crate::base::retry::RetryPolicy;
use crate::store::limited::Limited;
use crate::store::local::LocalStore;
use crate::store::retrying::Retrying;
use crate::store::s3::{S3Options, S3Store};

/// The longest key, in bytes (S3's own limit).
pub const MAX_KEY_BYTES: usize = 1024;

/// The place of an object: segments of `[A-Za-z0-9._~-]`, joined by `/`, none of them empty, `.` or `..`.
///
/// Such a key needs no URL encoding and is a safe relative path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Takes a key, if it is one.
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        let good = text.len() <= MAX_KEY_BYTES && text.split('/').all(is_segment);
        if good { Ok(Self(text)) } else { Err(Error::BadKey { key: text }) }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_segment(segment: &str) -> bool {
    let plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'));
    plain && !matches!(segment, "" | "." | "..")
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a listing says of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key, relative to the repository.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was put, by the store's clock.
    pub modified_at: DateTime<Utc>,
    /// What the store says of its bytes, if it says anything that proves them.
    pub content: Option<Content>,
}

/// A store's own word on the bytes of an object: two objects of one store that have the same hold the same bytes.
/// Two that differ in it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content([u8; 16]);

impl Content {
    /// From the `ETag` of S3, where that is an MD5. Of an upload in parts, or encrypted by a key of the bucket's, it is not.
    fn of_etag(etag: &str) -> Option<Self> {
        hex::decode(etag.trim_matches('"')).ok()?.try_into().ok().map(Self)
    }

    /// Of a file: its device and its number there. Two links to one file have the same.
    fn of_file(device: u64, inode: u64) -> Self {
        Self(((u128::from(device) << 64) | u128::from(inode)).to_be_bytes())
    }

    /// Of bytes in memory: where they are. A copy inside the store shares them.
    fn of_memory(bytes: &Bytes) -> Self {
        Self((((bytes.as_ptr() as u128) << 64) | bytes.len() as u128).to_be_bytes())
    }
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects of the page; there may be none although more pages follow.
    pub objects: Vec<ObjectMeta>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<PageToken>,
}

/// Where a page of a listing begins: words of the store that gave it, meaningless to any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub String);

/// An object that cannot be destroyed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// Its key.
    pub key: ObjectKey,
    /// Until when it is locked.
    pub until: DateTime<Utc>,
}

/// Whether a place locks objects until their time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockState {
    /// Nobody asked it to.
    NotAsked,
    /// It does.
    Ready,
    /// It was asked to and cannot; why.
    Missing(String),
}

/// A place that keeps objects. All keys are relative to the repository's prefix.
///
/// Every method may be called again after an error: put and delete are idempotent. No key may be a folder of another key
/// (`a` and `a/b`): a file system cannot hold both.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Where it is, for messages; contains no secret.
    fn location(&self) -> String;

    /// Stores an object, whole or not at all.
    ///
    /// The caller guarantees that nobody puts other bytes under this key (invariant 2); the same bytes again are harmless.
    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error>;

    /// Stores an object under a key that must be free.
    ///
    /// `Error::Exists` if it is not. Atomic where the store can (folders; S3 with `If-None-Match`).
    async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error>;

    /// The whole object; `Error::NotFound` if there is none, `Error::TooLarge` if it has more than [`most_bytes`].
    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error>;

    /// `length` bytes from `offset`; fewer only where the object ends before.
    async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, Error>;

    /// Size and time of an object; `Error::NotFound` if there is none.
    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error>;

    /// The page of the listing below `prefix` that begins at `from`; the first page without it.
    ///
    /// [`list`](trait.ObjectStore.html#method.list) reads them all. Objects whose key is no [`ObjectKey`] are not ours and
    /// are left out.
    async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error>;

    /// The names of the folders directly below `prefix` (empty, or ending in `/`), sorted, without slashes.
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// Copies an object inside the store without reading it here.
    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), Error>;

    /// Deletes objects; one that is not there counts as deleted.
    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), Error>;

    /// Deletes objects for good: with every older version, where the place keeps some. Returns those that are locked.
    async fn destroy(&self, keys: &[ObjectKey]) -> Result<Vec<Locked>, Error> {
        self.delete(keys).await.map(|()| Vec::new())
    }

    /// Keeps an object from being deleted until this time, where objects are locked at all; never shortens a lock.
    async fn retain(&self, _key: &ObjectKey, _until: DateTime<Utc>) -> Result<(), Error> {
        Ok(())
    }

    /// True where the place keeps the older versions of what is deleted. One that does not say so is taken for one that does not.
    async fn keeps_versions(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Whether objects are locked here.
    async fn lock_state(&self) -> Result<LockState, Error> {
        Ok(LockState::NotAsked)
    }

    /// The time by the store's own clock, if it tells one.
    async fn now(&self) -> Result<Option<DateTime<Utc>>, Error>;
}

/// The most bytes that an object under this key has: what somebody puts in its place must not fill the memory.
///
/// Documents (`.json`) name at most some 600,000 packs; sealed documents (`.age`) are read up to 256 MiB; the largest row,
/// in a pack of its own, is below 1 GiB.
pub fn most_bytes(key: &ObjectKey) -> u64 {
    match key.as_str().rsplit_once('.') {
        Some((_, "json")) => 64 << 20,
        Some((_, "age")) => 300 << 20,
        _ => 1200 << 20,
    }
}

/// Refuses an object of more than [`most_bytes`].
fn check_size(key: &ObjectKey, bytes: u64) -> Result<(), Error> {
    let most = most_bytes(key);
    if bytes <= most { Ok(()) } else { Err(Error::TooLarge { key: key.clone(), bytes, most }) }
}

impl dyn ObjectStore + '_ {
    /// All objects whose key begins with `prefix` (empty, or ending in `/`).
    ///
    /// Listed page by page as the stream is read, so memory stays bounded. An error ends the stream. The keys of one folder
    /// come one after another and ascend; folders, memory and S3 itself keep the order of whole keys, but a store that
    /// keeps real folders behind S3 (SeaweedFS) puts `a/x` before `a-b/x`.
    pub fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta, Error>> {
        let pages = stream::try_unfold(Cursor::Start, move |cursor| async move {
            let page = match &cursor {
                Cursor::End => return Ok(None),
                Cursor::Start => self.list_page(prefix, None).await?,
                Cursor::At(token) => self.list_page(prefix, Some(token)).await?,
            };
            let next = page.next.map_or(Cursor::End, Cursor::At);
            Ok(Some((stream::iter(page.objects).map(Ok), next)))
        });
        pages.try_flatten().boxed()
    }
}

/// Where a listing stands.
enum Cursor {
    Start,
    At(PageToken),
    End,
}

/// Refuses what is no prefix of a listing: empty, or segments each followed by `/`.
fn check_prefix(prefix: &str) -> Result<(), Error> {
    match prefix.strip_suffix('/') {
        Some(folder) => ObjectKey::new(folder).map(drop),
        None if prefix.is_empty() => Ok(()),
        None => Err(Error::BadKey { key: prefix.to_owned() }),
    }
}

/// Which store, and how hard to use it.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where the objects are.
    pub backend: Backend,
    /// The most requests at one time, at least 1; the others wait.
    pub max_requests: usize,
    /// How passing faults are tried again.
    pub retry: RetryPolicy,
}

/// Where the objects are.
#[derive(Clone, Debug)]
pub enum Backend {
    /// A folder of this machine or a mounted one.
    Folder(PathBuf),
    /// A bucket behind S3.
    S3(Box<S3Options>),
}

/// Makes the store that a job uses: the real one, its requests bounded, its passing faults tried again.
///
/// Reads the CA file and, where no access key is given, what the S3 client's own chain looks at; asks the store nothing.
pub async fn open(options: StoreOptions, entropy: Arc<dyn Entropy>) -> Result<Arc<dyn ObjectStore>, Error> {
    let store: Arc<dyn ObjectStore> = match options.backend {
        Backend::Folder(root) => Arc::new(LocalStore::new(root)),
        Backend::S3(options) => Arc::new(S3Store::open(*options).await?),
    };
    // The limit is inside: a call that waits before its next try holds up nobody.
    let limited = Arc::new(Limited::new(store, options.max_requests));
    Ok(Arc::new(Retrying::new(limited, options.retry, entropy)))
}

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that cannot be a key.
    #[error("{key:?} is no object key")]
    BadKey {
        /// The text.
        key: String,
    },
    /// The options cannot make a store.
    #[error("{reason}")]
    BadOptions {
        /// What is wrong with which of them; contains no secret.
        reason: String,
    },
    /// There is no such object.
    #[error("object {key} does not exist")]
    NotFound {
        /// Its key.
        key: ObjectKey,
    },
    /// There is an object already.
    #[error("object {key} exists already")]
    Exists {
        /// Its key.
        key: ObjectKey,
    },
    /// The object is larger than any of its kind.
    #[error(
        "object {key} has {bytes} bytes or more, and none of its kind has more than {most}: this looks like tampering"
    )]
    TooLarge {
        /// Its key.
        key: ObjectKey,
        /// Its size, or as much of it as was read.
        bytes: u64,
        /// What it may have.
        most: u64,
    },
    /// The store refused or could not be reached.
    #[error("{operation}{}: {reason}", .key.as_ref().map(|key| format!(" {key}")).unwrap_or_default())]
    Failed {
        /// The operation: `put`, `get`, `head`, `list`, `copy`, `delete`, `now`.
        operation: &'static str,
        /// The object, where there is one.
        key: Option<ObjectKey>,
        /// Transient, stalled, or for good.
        class: Class,
        /// The store's own words.
        reason: String,
        /// What to do about it, where that is known.
        hint: Option<String>,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::BadKey { .. } => Class::Unexpected,
            Self::BadOptions { .. } => Class::Usage,
            Self::NotFound { .. } | Self::Exists { .. } => Class::Store,
            Self::TooLarge { .. } => Class::Tampered,
            Self::Failed { class, .. } => *class,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Failed { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }

    /// True where the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
