//! Whether the store takes, keeps, lists and returns an object, and how fast.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt;

use crate::base::class::Class;
use crate::base::units::ByteSize;
use crate::config::{self, Place};
use crate::job::doctor::{Check, Group, clock, lock};
use crate::job::{Context, Error, chain};
use crate::repository::layout;
use crate::store::{self, ObjectStore, local};

/// What the probe object holds: always the same, since nothing stored is ever overwritten by other bytes.
const PROBE: &[u8] =
    b"dbkeeper doctor put this object here and may not have been allowed to delete it. It means nothing.\n";
/// The range of it that is read.
const RANGE: std::ops::Range<usize> = 9..15;
/// Another doctor may delete the object between our put and our get.
const TRIES: u32 = 3;

/// Tries the store out; gives it back if it works.
pub(super) async fn check(context: &Context, checks: &mut Vec<Check>) -> Option<Arc<dyn ObjectStore>> {
    let store = match context.open_store().await {
        Ok(store) => store,
        // Told of among the secrets.
        Err(Error::Config(config::Error::Secret { .. })) => return None,
        Err(error) => {
            checks.push(Check::fail(Group::Store, "store", class(error.class()), chain(&error)).with_fix(error.hint()));
            return None;
        }
    };
    let location = store.location();
    match probe(store.as_ref()).await {
        Ok(took) => {
            let milliseconds = took.as_millis();
            let message = format!("{location}: an object was put, read and listed in {milliseconds} ms");
            checks.push(Check::ok(Group::Store, "probe", message));
        }
        Err(Probe::Failed(error)) => {
            let message = format!("{location}: {}", chain(&error));
            checks.push(Check::fail(Group::Store, "probe", class(error.class()), message).with_fix(error.hint()));
            return None;
        }
        Err(Probe::Different(what)) => {
            let message = format!("{location}: {what}");
            let fix = "do not keep backups there before the store's operator has explained it";
            checks.push(Check::fail(Group::Store, "probe", Class::Store, message).with_fix(Some(fix)));
            return None;
        }
    }
    checks.push(delete(store.as_ref()).await);
    if let Place::Folder(root) = &context.config.repository.place {
        checks.extend(unfinished(root.clone()).await);
    }
    lock::check(store.as_ref(), checks).await;
    clock::check_store(context, store.as_ref(), checks).await;
    Some(store)
}

/// What killed runs left in a folder; told, not removed: it may be of a run that is under way.
async fn unfinished(root: PathBuf) -> Option<Check> {
    let folder = root.join(local::INCOMING);
    let (count, bytes) = local::unfinished(root).await;
    let (folder, size) = (folder.display(), ByteSize(bytes).approximate());
    let message = format!("{count} unfinished objects ({size}) are in {folder}, of runs under way or killed");
    let fix = format!("wait: a backup removes what is older than a day; or, while none runs: rm {folder}/*");
    (0 < count).then(|| Check::warn(Group::Leftovers, "store", message).with_fix(Some(fix)))
}

/// Why the probe did not go well.
enum Probe {
    Failed(store::Error),
    Different(&'static str),
}

impl From<store::Error> for Probe {
    fn from(error: store::Error) -> Self {
        Self::Failed(error)
    }
}

async fn probe(store: &dyn ObjectStore) -> Result<Duration, Probe> {
    let mut tries = 1;
    loop {
        match probe_once(store).await {
            Err(Probe::Failed(error)) if error.is_not_found() && tries < TRIES => tries += 1,
            Err(Probe::Different(_)) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

async fn probe_once(store: &dyn ObjectStore) -> Result<Duration, Probe> {
    let (key, began) = (layout::probe(), Instant::now());
    store.put(&key, Bytes::from_static(PROBE)).await?;
    if store.get(&key).await?.as_ref() != PROBE {
        return Err(Probe::Different("an object reads back other than it was put"));
    }
    let length = RANGE.len() as u64;
    if store.get_range(&key, RANGE.start as u64, length).await?.as_ref() != &PROBE[RANGE] {
        return Err(Probe::Different("a range of an object is not what was put there"));
    }
    let listed: Vec<_> = store.list("probe/").try_collect().await?;
    if !listed.iter().any(|object| object.key == key && object.bytes == PROBE.len() as u64) {
        return Err(Probe::Different("an object that was put is not in the listing"));
    }
    Ok(began.elapsed())
}

async fn delete(store: &dyn ObjectStore) -> Check {
    let key = layout::probe();
    match store.delete(std::slice::from_ref(&key)).await {
        Ok(()) => Check::ok(Group::Store, "delete", format!("{key} was deleted again: this login may also prune")),
        Err(error) if error.class() == Class::Store => {
            let message = format!("no delete right, as a writer should have; {key} stays ({})", chain(&error));
            Check::ok(Group::Store, "delete", message)
        }
        Err(error) => Check::warn(Group::Store, "delete", chain(&error)).with_fix(error.hint()),
    }
}

/// A store that does not answer is a store that cannot be reached.
pub(super) fn class(class: Class) -> Class {
    match class {
        Class::Transient | Class::Stalled | Class::Refused | Class::Unexpected | Class::Empty => Class::Store,
        class => class,
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::job::doctor::Status;
    use crate::store::memory::MemoryStore;
    use crate::store::{Error, ObjectKey, ObjectMeta, Page, PageToken};

    /// The store of a writer: it deletes nothing. Of all objects it gives back `returned`, if that is something.
    #[derive(Debug)]
    struct Writers {
        inner: MemoryStore,
        returned: Option<&'static [u8]>,
    }

    #[async_trait]
    impl ObjectStore for Writers {
        fn location(&self) -> String {
            self.inner.location()
        }
        async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
            self.inner.put(key, body).await
        }
        async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
            self.inner.put_new(key, body).await
        }
        async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
            let body = self.inner.get(key).await?;
            Ok(self.returned.map_or(body, Bytes::from_static))
        }
        async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, Error> {
            self.inner.get_range(key, offset, length).await
        }
        async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error> {
            self.inner.head(key).await
        }
        async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error> {
            self.inner.list_page(prefix, from).await
        }
        async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
            self.inner.list_folders(prefix).await
        }
        async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), Error> {
            self.inner.copy(from, to).await
        }
        async fn delete(&self, keys: &[ObjectKey]) -> Result<(), Error> {
            Err(Error::Failed {
                operation: "delete",
                key: keys.first().cloned(),
                class: Class::Store,
                reason: "AccessDenied".to_owned(),
                hint: None,
                source: None,
            })
        }
        async fn now(&self) -> Result<Option<DateTime<Utc>>, Error> {
            self.inner.now().await
        }
    }

    fn writers(returned: Option<&'static [u8]>) -> Writers {
        Writers { inner: MemoryStore::new(Arc::new(SystemClock)), returned }
    }

    #[tokio::test]
    async fn a_writer_that_may_not_delete_is_well_and_leaves_one_object_however_often_it_asks() {
        let store = writers(None);
        for _ in 0..3 {
            assert!(probe(&store).await.is_ok());
            let check = delete(&store).await;
            assert_eq!(check.status, Status::Ok);
            assert!(
                check.message.contains("probe/doctor stays (delete probe/doctor: AccessDenied)"),
                "{}",
                check.message
            );
        }
        let store: &dyn ObjectStore = &store;
        let left: Vec<_> = store.list("").try_collect().await.expect("a listing");
        assert_eq!(left.len(), 1);
    }

    #[tokio::test]
    async fn a_store_that_gives_other_bytes_back_is_no_store() {
        let answer = probe(&writers(Some(b"else"))).await;
        assert!(matches!(answer, Err(Probe::Different(what)) if what.contains("other than it was put")));
    }
}
