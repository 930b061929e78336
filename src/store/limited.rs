//! A wrapper that bounds the calls at one time.
//!
//! Promises that never more than its number of calls are inside the wrapped store; the others wait in the order in which
//! they came. Must not know why a call is made, nor judge its result.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::store::{Error, LockState, Locked, ObjectKey, ObjectMeta, ObjectStore, Page, PageToken};

/// A store with a bound on the calls at one time.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn ObjectStore>,
    permits: Semaphore,
}

impl Limited {
    /// Lets at most `max_requests` calls (at least one) into `inner` at one time.
    pub fn new(inner: Arc<dyn ObjectStore>, max_requests: usize) -> Self {
        Self { inner, permits: Semaphore::new(max_requests.clamp(1, Semaphore::MAX_PERMITS)) }
    }

    async fn enter(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Limited {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let _permit = self.enter().await;
        self.inner.put(key, body).await
    }

    async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let _permit = self.enter().await;
        self.inner.put_new(key, body).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let _permit = self.enter().await;
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, Error> {
        let _permit = self.enter().await;
        self.inner.get_range(key, offset, length).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error> {
        let _permit = self.enter().await;
        self.inner.head(key).await
    }

    async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error> {
        let _permit = self.enter().await;
        self.inner.list_page(prefix, from).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let _permit = self.enter().await;
        self.inner.list_folders(prefix).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), Error> {
        let _permit = self.enter().await;
        self.inner.copy(from, to).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        let _permit = self.enter().await;
        self.inner.delete(keys).await
    }

    async fn destroy(&self, keys: &[ObjectKey]) -> Result<Vec<Locked>, Error> {
        let _permit = self.enter().await;
        self.inner.destroy(keys).await
    }

    async fn retain(&self, key: &ObjectKey, until: DateTime<Utc>) -> Result<(), Error> {
        let _permit = self.enter().await;
        self.inner.retain(key, until).await
    }

    async fn keeps_versions(&self) -> Result<bool, Error> {
        let _permit = self.enter().await;
        self.inner.keeps_versions().await
    }

    async fn lock_state(&self) -> Result<LockState, Error> {
        let _permit = self.enter().await;
        self.inner.lock_state().await
    }

    async fn now(&self) -> Result<Option<DateTime<Utc>>, Error> {
        let _permit = self.enter().await;
        self.inner.now().await
    }
}
