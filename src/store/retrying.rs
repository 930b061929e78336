//! A wrapper that tries passing faults again: the only place where calls to a store are retried.
//!
//! Promises that a call is made at most as often as its policy says (one that the store is too busy for, as long as the policy
//! says), with full jitter between, and that what it returns is
//! final: a fault that never passed is no longer `Transient`, so nobody above tries it again. Must not know which store it
//! wraps, nor the time of day.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use crate::base::class::Class;
use crate::base::clock::Entropy;
use crate::base::retry::{RetryPolicy, retry_delay};
use crate::store::{Error, LockState, Locked, ObjectKey, ObjectMeta, ObjectStore, Page, PageToken};

/// How often a stalled call is made. A connection that a gateway forgot looks like a dead store, so one more try is worth
/// its time, and more would only delay the report.
pub const STALLED_ATTEMPTS: u32 = 2;

/// A store whose passing faults are tried again.
pub struct Retrying {
    inner: Arc<dyn ObjectStore>,
    policy: RetryPolicy,
    entropy: Arc<dyn Entropy>,
}

impl Retrying {
    /// Tries the calls to `inner` as `policy` says; `entropy` scatters the waits.
    pub fn new(inner: Arc<dyn ObjectStore>, policy: RetryPolicy, entropy: Arc<dyn Entropy>) -> Self {
        Self { inner, policy, entropy }
    }

    /// Makes a call until it succeeds or is not worth another try; `call` is told how often it was made before.
    async fn attempt<'a, T>(&'a self, call: impl Fn(u32) -> BoxFuture<'a, Result<T, Error>>) -> Result<T, Error> {
        let (mut made, began) = (0, Instant::now());
        loop {
            let error = match call(made).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            made += 1;
            let most = match error.class() {
                Class::Busy if began.elapsed() < self.policy.patience => u32::MAX,
                Class::Transient | Class::Busy => self.policy.attempts,
                Class::Stalled => self.policy.attempts.min(STALLED_ATTEMPTS),
                _ => 1,
            };
            if most <= made {
                return Err(given_up(error, made));
            }
            let delay = retry_delay(&self.policy, made, self.entropy.unit());
            tracing::debug!(made, delay_ms = delay.as_millis(), %error, "store call is tried again");
            tokio::time::sleep(delay).await;
        }
    }

    /// Puts what must be new; after a try whose reply was lost, our own bytes under the key are success.
    async fn put_new_again(&self, key: &ObjectKey, body: Bytes, made: u32) -> Result<(), Error> {
        match self.inner.put_new(key, body.clone()).await {
            Err(Error::Exists { .. }) if 0 < made => {
                let there = self.inner.get(key).await?;
                if there == body { Ok(()) } else { Err(Error::Exists { key: key.clone() }) }
            }
            result => result,
        }
    }
}

/// The error after the last try.
fn given_up(error: Error, made: u32) -> Error {
    match error {
        Error::Failed { operation, key, class, reason, hint, source }
            if matches!(class, Class::Transient | Class::Busy | Class::Stalled) =>
        {
            let class = if class == Class::Stalled { class } else { Class::Store };
            let reason = if made == 1 { reason } else { format!("{reason} (tried {made} times)") };
            Error::Failed { operation, key, class, reason, hint, source }
        }
        error => error,
    }
}

impl std::fmt::Debug for Retrying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retrying").field("inner", &self.inner).field("policy", &self.policy).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Retrying {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let (inner, body) = (&self.inner, &body);
        self.attempt(|_| inner.put(key, body.clone())).await
    }

    async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let body = &body;
        self.attempt(|made| Box::pin(self.put_new_again(key, body.clone(), made))).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.attempt(|_| self.inner.get(key)).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, Error> {
        self.attempt(|_| self.inner.get_range(key, offset, length)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error> {
        self.attempt(|_| self.inner.head(key)).await
    }

    async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error> {
        self.attempt(|_| self.inner.list_page(prefix, from)).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.attempt(|_| self.inner.list_folders(prefix)).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), Error> {
        self.attempt(|_| self.inner.copy(from, to)).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        self.attempt(|_| self.inner.delete(keys)).await
    }

    async fn destroy(&self, keys: &[ObjectKey]) -> Result<Vec<Locked>, Error> {
        self.attempt(|_| self.inner.destroy(keys)).await
    }

    async fn retain(&self, key: &ObjectKey, until: DateTime<Utc>) -> Result<(), Error> {
        self.attempt(|_| self.inner.retain(key, until)).await
    }

    async fn keeps_versions(&self) -> Result<bool, Error> {
        self.attempt(|_| self.inner.keeps_versions()).await
    }

    async fn lock_state(&self) -> Result<LockState, Error> {
        self.attempt(|_| self.inner.lock_state()).await
    }

    async fn now(&self) -> Result<Option<DateTime<Utc>>, Error> {
        self.attempt(|_| self.inner.now()).await
    }
}
