//! A store in memory, for simulations and tests.
//!
//! Promises what every store promises, as long as the process lives. Its clock is an argument.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::base::clock::Clock;
use crate::store::{Content, Error, ObjectKey, ObjectMeta, ObjectStore, Page, PageToken, check_prefix, check_size};

/// The most objects on one page of a listing, as with S3.
const PAGE_OBJECTS: usize = 1000;

/// Objects in memory.
pub struct MemoryStore {
    objects: Mutex<BTreeMap<ObjectKey, Stored>>,
    clock: Arc<dyn Clock>,
}

struct Stored {
    body: Bytes,
    put_at: DateTime<Utc>,
}

impl Stored {
    fn meta(&self, key: &ObjectKey) -> ObjectMeta {
        ObjectMeta {
            key: key.clone(),
            bytes: self.body.len() as u64,
            modified_at: self.put_at,
            content: Some(Content::of_memory(&self.body)),
        }
    }
}

impl MemoryStore {
    /// An empty store that lives by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { objects: Mutex::default(), clock }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Stored>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self, body: Bytes) -> Stored {
        Stored { body, put_at: self.clock.now() }
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryStore({} objects)", self.objects().len())
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let stored = self.stored(body);
        self.objects().insert(key.clone(), stored);
        Ok(())
    }

    async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let stored = self.stored(body);
        let mut objects = self.objects();
        if objects.contains_key(key) {
            return Err(Error::Exists { key: key.clone() });
        }
        objects.insert(key.clone(), stored);
        Ok(())
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let objects = self.objects();
        let found = objects.get(key).ok_or_else(|| Error::NotFound { key: key.clone() })?;
        check_size(key, found.body.len() as u64)?;
        Ok(found.body.clone())
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, Error> {
        let body = self.get(key).await?;
        let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
        Ok(body.slice(position(offset)..position(offset.saturating_add(length))))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error> {
        let objects = self.objects();
        objects.get(key).map(|stored| stored.meta(key)).ok_or_else(|| Error::NotFound { key: key.clone() })
    }

    async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error> {
        check_prefix(prefix)?;
        let after = from.map(|token| ObjectKey::new(token.0.as_str())).transpose()?;
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let objects = self.objects();
        let mut found = objects.range((start, Bound::Unbounded)).filter(|(key, _)| key.as_str().starts_with(prefix));
        let metas: Vec<_> = found.by_ref().take(PAGE_OBJECTS).map(|(key, stored)| stored.meta(key)).collect();
        let more = found.next().is_some();
        let next = metas.last().filter(|_| more).map(|last| PageToken(last.key.as_str().to_owned()));
        Ok(Page { objects: metas, next })
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        check_prefix(prefix)?;
        let objects = self.objects();
        let below = objects.keys().filter_map(|key| key.as_str().strip_prefix(prefix));
        let mut names: Vec<_> =
            below.filter_map(|rest| rest.split_once('/')).map(|(name, _)| name.to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), Error> {
        let body = self.get(from).await?;
        self.put(to, body).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        let mut objects = self.objects();
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }

    async fn now(&self) -> Result<Option<DateTime<Utc>>, Error> {
        Ok(Some(self.clock.now()))
    }
}
