//! A store that fails as it is told: the faults that real stores have, at the call where a test wants them.
//!
//! Every declared fault must strike, or the test fails when the store is dropped: a fault that never struck proved nothing.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use dbkeeper::base::class::Class;
use dbkeeper::store::{Error, LockState, Locked, ObjectKey, ObjectMeta, ObjectStore, Page, PageToken};

/// One call as it came in. `key` is the first one of a deletion, the source of a copy, the prefix of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The method: `put`, `put_new`, `get`, `get_range`, `head`, `list_page`, `list_folders`, `copy`, `delete`, `now`.
    pub operation: &'static str,
    pub key: String,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing is done, and the caller hears of it.
    Fail(Class),
    /// The work is done, but the caller hears of a passing failure.
    LoseReply,
    /// The caller never hears again.
    Hang,
    /// A put stores only this many bytes and says that all is well.
    Tear(usize),
    /// The work is done after this time.
    Late(Duration),
    /// The work is done twice, as by a proxy that repeats a call whose answer was slow.
    Twice,
    /// The caller hears of a passing failure; the change happens when the test lets it [`land`](Faulty::land).
    Straggle,
    /// A listing does not show the objects that were put last below its prefix, this many.
    HideNewest(usize),
}

/// A change that is still on its way.
#[derive(Clone)]
enum Straggler {
    Put(ObjectKey, Bytes),
    Copy(ObjectKey, ObjectKey),
}

type Chooses = Box<dyn Fn(usize, &Call) -> bool + Send>;

struct Declared {
    chooses: Chooses,
    fault: Fault,
    /// How often it still strikes.
    left: usize,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    faults: Vec<Declared>,
    put_order: Vec<ObjectKey>,
    stragglers: Vec<Straggler>,
}

/// A store that counts its calls and fails as it is told.
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    state: Mutex<State>,
    hung: tokio::sync::Notify,
}

impl Faulty {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self { inner, state: Mutex::default(), hung: tokio::sync::Notify::new() })
    }

    /// Fails call number `number`, counted from 1 since the store was made.
    pub fn at_call(&self, number: usize, fault: Fault) {
        self.declare(1, fault, Box::new(move |now, _| now == number));
    }

    /// Fails the next `times` calls that `chooses` likes.
    pub fn when(&self, times: usize, fault: Fault, chooses: impl Fn(&Call) -> bool + Send + 'static) {
        self.declare(times, fault, Box::new(move |_, call| chooses(call)));
    }

    fn declare(&self, left: usize, fault: Fault, chooses: Chooses) {
        self.state().faults.push(Declared { chooses, fault, left });
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How many calls of one method came in.
    pub fn count(&self, operation: &str) -> usize {
        self.state().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// The keys that were put or copied to, the newest last.
    pub fn put_order(&self) -> Vec<ObjectKey> {
        self.state().put_order.clone()
    }

    /// Returns when a call hangs.
    pub async fn hung(&self) {
        self.hung.notified().await;
    }

    /// Lets the changes that straggled happen; they may happen again.
    pub async fn land(&self) -> usize {
        let stragglers = self.state().stragglers.clone();
        for straggler in &stragglers {
            let landed = match straggler {
                Straggler::Put(key, body) => self.inner.put(key, body.clone()).await,
                Straggler::Copy(from, to) => self.inner.copy(from, to).await,
            };
            landed.unwrap();
        }
        stragglers.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Counts a call and takes the fault that strikes it.
    fn enter(&self, operation: &'static str, key: &str) -> Option<Fault> {
        let call = Call { operation, key: key.to_owned() };
        let mut state = self.state();
        state.calls.push(call.clone());
        let number = state.calls.len();
        let declared = state.faults.iter_mut().find(|fault| 0 < fault.left && (fault.chooses)(number, &call))?;
        declared.left -= 1;
        Some(declared.fault.clone())
    }

    /// Does the work of one call, with what goes wrong around it.
    async fn strike<T>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let fault = self.enter(operation, key);
        self.suffer(fault, operation, work).await
    }

    /// Does the work of one call, with what goes wrong around it.
    async fn suffer<T>(
        &self,
        fault: Option<Fault>,
        operation: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if matches!(fault, Some(Fault::Hang)) {
            self.hung.notify_one();
        }
        suffer(fault, operation, work).await
    }

    async fn strike_put(&self, operation: &'static str, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let (fault, body) = match self.enter(operation, key.as_str()) {
            Some(Fault::Tear(bytes)) => (None, body.slice(..bytes.min(body.len()))),
            Some(Fault::Straggle) => {
                self.state().stragglers.push(Straggler::Put(key.clone(), body));
                return Err(broken(operation, Class::Transient, "no answer yet"));
            }
            fault => (fault, body),
        };
        if operation == "put" && matches!(fault, Some(Fault::Twice)) {
            self.inner.put(key, body.clone()).await?;
        }
        let fault = fault.filter(|fault| !matches!(fault, Fault::Twice));
        let work = async {
            match operation {
                "put" => self.inner.put(key, body).await?,
                _ => self.inner.put_new(key, body).await?,
            }
            self.remember(key);
            Ok(())
        };
        self.suffer(fault, operation, work).await
    }

    fn remember(&self, key: &ObjectKey) {
        let mut state = self.state();
        state.put_order.retain(|there| there != key);
        state.put_order.push(key.clone());
    }

    fn newest(&self, prefix: &str, count: usize) -> Vec<ObjectKey> {
        let state = self.state();
        let below = state.put_order.iter().rev().filter(|key| key.as_str().starts_with(prefix));
        below.take(count).cloned().collect()
    }
}

/// Does the work of one call, with what goes wrong around it.
async fn suffer<T>(
    fault: Option<Fault>,
    operation: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match fault {
        None => work.await,
        Some(Fault::Fail(class)) => Err(broken(operation, class, "a declared fault")),
        Some(Fault::LoseReply) => {
            work.await?;
            Err(broken(operation, Class::Transient, "the reply was lost"))
        }
        Some(Fault::Hang) => std::future::pending().await,
        // Reading twice is reading.
        Some(Fault::Twice) => work.await,
        Some(Fault::Late(delay)) => {
            tokio::time::sleep(delay).await;
            work.await
        }
        Some(fault @ (Fault::Tear(_) | Fault::Straggle | Fault::HideNewest(_))) => {
            panic!("{fault:?} does not fit {operation}")
        }
    }
}

fn broken(operation: &'static str, class: Class, reason: &str) -> Error {
    Error::Failed { operation, key: None, class, reason: reason.to_owned(), hint: None, source: None }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let state = self.state.get_mut().unwrap();
            let unused: Vec<_> = state.faults.iter().filter(|fault| 0 < fault.left).map(|fault| &fault.fault).collect();
            assert!(unused.is_empty(), "faults that never struck: {unused:?}; the calls were {:?}", state.calls);
        }
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({:?})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Faulty {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        self.strike_put("put", key, body).await
    }

    async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        self.strike_put("put_new", key, body).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.strike("get", key.as_str(), self.inner.get(key)).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, Error> {
        self.strike("get_range", key.as_str(), self.inner.get_range(key, offset, length)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error> {
        self.strike("head", key.as_str(), self.inner.head(key)).await
    }

    async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error> {
        let (fault, hidden) = match self.enter("list_page", prefix) {
            Some(Fault::HideNewest(count)) => (None, self.newest(prefix, count)),
            fault => (fault, Vec::new()),
        };
        let mut page = self.suffer(fault, "list_page", self.inner.list_page(prefix, from)).await?;
        page.objects.retain(|object| !hidden.contains(&object.key));
        Ok(page)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.strike("list_folders", prefix, self.inner.list_folders(prefix)).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), Error> {
        let fault = self.enter("copy", from.as_str());
        if matches!(fault, Some(Fault::Straggle)) {
            self.state().stragglers.push(Straggler::Copy(from.clone(), to.clone()));
            return Err(broken("copy", Class::Transient, "no answer yet"));
        }
        self.suffer(fault, "copy", self.inner.copy(from, to)).await?;
        self.remember(to);
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        let first = keys.first().map(ObjectKey::as_str).unwrap_or_default();
        self.strike("delete", first, self.inner.delete(keys)).await
    }

    async fn destroy(&self, keys: &[ObjectKey]) -> Result<Vec<Locked>, Error> {
        let first = keys.first().map(ObjectKey::as_str).unwrap_or_default();
        self.strike("delete", first, self.inner.destroy(keys)).await
    }

    async fn retain(&self, key: &ObjectKey, until: DateTime<Utc>) -> Result<(), Error> {
        self.inner.retain(key, until).await
    }

    async fn keeps_versions(&self) -> Result<bool, Error> {
        self.inner.keeps_versions().await
    }

    async fn lock_state(&self) -> Result<LockState, Error> {
        self.inner.lock_state().await
    }

    async fn now(&self) -> Result<Option<DateTime<Utc>>, Error> {
        self.strike("now", "", self.inner.now()).await
    }
}
