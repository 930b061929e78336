//! Stores that break one promise each: the check of that promise says so, and no other.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::*;
use crate::base::clock::SystemClock;
use crate::store::memory::MemoryStore;
use crate::store::{Error, ObjectMeta, Page, PageToken};

/// How a store lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    None,
    /// The newest object is not listed.
    LateListing,
    /// Keys are told without regard to case.
    OneCase,
    /// Whoever creates is told that it was the first.
    EverybodyWins,
    /// A listing ends after 1,000 objects.
    OnePage,
    /// A range is one byte off.
    ShiftedRange,
    /// What was deleted can be read on.
    Ghosts,
    /// No delete right.
    Writer,
    /// A copy has other bytes.
    BadCopy,
}

#[derive(Debug)]
struct Liar {
    inner: MemoryStore,
    lie: Lie,
}

impl Liar {
    fn folded(&self, key: &ObjectKey) -> ObjectKey {
        let text = key.as_str();
        if self.lie == Lie::OneCase { ObjectKey::new(text.to_lowercase()).expect("a key") } else { key.clone() }
    }
}

#[async_trait]
impl ObjectStore for Liar {
    fn location(&self) -> String {
        self.inner.location()
    }
    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        self.inner.put(&self.folded(key), body).await
    }
    async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let is_rival = body.first().is_some_and(|first| *first < RIVALS);
        match self.inner.put_new(key, body).await {
            Err(Error::Exists { .. }) if self.lie == Lie::EverybodyWins && is_rival => Ok(()),
            done => done,
        }
    }
    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        match self.inner.get(&self.folded(key)).await {
            Err(error) if error.is_not_found() && self.lie == Lie::Ghosts && key.as_str().contains("/gone/") => {
                Ok(Bytes::new())
            }
            done => done,
        }
    }
    async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, Error> {
        let off = u64::from(self.lie == Lie::ShiftedRange && offset > 0);
        self.inner.get_range(key, offset - off, length).await
    }
    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error> {
        self.inner.head(&self.folded(key)).await
    }
    async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error> {
        let mut page = self.inner.list_page(prefix, from).await?;
        match self.lie {
            Lie::LateListing => drop(page.objects.pop()),
            Lie::OnePage if prefix.contains("/many/") => page = Page { next: None, ..page },
            _ => {}
        }
        if self.lie == Lie::OnePage && prefix.contains("/many/") {
            page.objects.truncate(1000);
        }
        Ok(page)
    }
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.inner.list_folders(prefix).await
    }
    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), Error> {
        match self.lie {
            Lie::BadCopy => self.inner.put(to, Bytes::from_static(b"else")).await,
            _ => self.inner.copy(from, to).await,
        }
    }
    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        if self.lie == Lie::Writer {
            let reason = "AccessDenied".to_owned();
            return Err(Error::Failed {
                operation: "delete",
                key: None,
                class: Class::Store,
                reason,
                hint: None,
                source: None,
            });
        }
        let folded: Vec<ObjectKey> = keys.iter().map(|key| self.folded(key)).collect();
        self.inner.delete(&folded).await
    }
    async fn now(&self) -> Result<Option<DateTime<Utc>>, Error> {
        self.inner.now().await
    }
}

/// Requires that exactly this check is not well, and in this way.
async fn check_lie(lie: Lie, expected: &[(&str, Status)]) {
    let inner = MemoryStore::new(Arc::new(SystemClock));
    let store = Liar { inner, lie };
    let probe = Probe { store: &store, folder: "probe/0011223344556677".to_owned(), large_bytes: 30_000 };
    let checks = probe.all().await;
    let found: Vec<(&str, Status)> = checks
        .iter()
        .filter(|check| check.status != Status::Ok)
        .map(|check| (check.name.as_str(), check.status))
        .collect();
    assert_eq!(found, expected, "{lie:?}: {checks:#?}");
}

#[tokio::test]
async fn each_broken_promise_is_found_by_its_own_check() {
    check_lie(Lie::None, &[]).await;
    check_lie(Lie::OneCase, &[("keys", Status::Fail)]).await;
    check_lie(Lie::EverybodyWins, &[("create once", Status::Warn)]).await;
    check_lie(Lie::OnePage, &[("long listings", Status::Fail)]).await;
    check_lie(Lie::ShiftedRange, &[("ranges", Status::Fail)]).await;
    check_lie(Lie::Ghosts, &[("delete", Status::Fail), ("long listings", Status::Warn)]).await;
    check_lie(Lie::BadCopy, &[("copy", Status::Fail)]).await;
    check_lie(Lie::Writer, &[("delete", Status::Warn), ("long listings", Status::Warn)]).await;
}

#[tokio::test]
async fn a_listing_that_lags_behind_is_found() {
    let inner = MemoryStore::new(Arc::new(SystemClock));
    let store = Liar { inner, lie: Lie::LateListing };
    let probe = Probe { store: &store, folder: "probe/0011223344556677".to_owned(), large_bytes: 30_000 };
    let checks = probe.all().await;
    assert_eq!((checks[0].name.as_str(), checks[0].status), ("read after write", Status::Fail), "{checks:#?}");
}
