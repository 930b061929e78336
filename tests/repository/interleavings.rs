//! Two writers and a pruner over one store, in every order of their calls: whatever is committed is whole at every moment.
//!
//! Each actor stands still before every call that matters, and one of them is let go on. An order is tried by running the real code
//! from the start along it; states that were seen before (what lies in the store, how far everybody is and what they have seen)
//! are not gone through again. The clocks of the three differ by more than any that a prune accepts: the order of events needs none.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use dbkeeper::base::clock::{Clock, HeldClock, SeededEntropy};
use dbkeeper::base::ids::{BackupId, TargetId};
use dbkeeper::repository::expiry::kept_for;
use dbkeeper::repository::presence::lacks;
use dbkeeper::repository::prune::cutoff;
use dbkeeper::repository::prune::execute::execute;
use dbkeeper::repository::prune::plan::plan;
use dbkeeper::repository::prune::survey::survey;
use dbkeeper::repository::writer::{BackupWriter, WriterOptions};
use dbkeeper::repository::{Error, Repository};
use dbkeeper::store::memory::MemoryStore;
use dbkeeper::store::{self, ObjectKey, ObjectMeta, ObjectStore, Page, PageToken};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::repository::prune::policy;
use crate::repository::support::{KEY, Table, World, expected, rows};

const ACTORS: usize = 3;

/// An actor's word to the one who orders them.
enum Word {
    /// It stands before a call.
    Waits(usize),
    /// It has ended.
    Ended(usize, bool),
}

/// A store whose calls wait to be let through, one by one.
struct Gate {
    inner: Arc<dyn ObjectStore>,
    actor: usize,
    words: mpsc::UnboundedSender<Word>,
    passes: Semaphore,
    /// What this actor has done and seen so far.
    seen: Mutex<DefaultHasher>,
}

impl Gate {
    async fn wait(&self) {
        self.words.send(Word::Waits(self.actor)).expect("somebody orders the calls");
        self.passes.acquire().await.expect("never closed").forget();
    }

    fn note(&self, what: impl Hash) {
        what.hash(&mut *self.seen.lock().expect("no panic"));
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gate({})", self.actor)
    }
}

#[async_trait]
impl ObjectStore for Gate {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), store::Error> {
        // Nobody looks at the documents of a backup before its marker is there.
        if key.as_str().ends_with("backup.json") || key.as_str().contains("/packs/") {
            self.wait().await;
        }
        self.note(("put", key));
        self.inner.put(key, body).await
    }

    async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), store::Error> {
        self.inner.put_new(key, body).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, store::Error> {
        // Nobody deletes an epoch.
        if key.as_str().contains("/backups/") {
            self.wait().await;
        }
        let got = self.inner.get(key).await;
        self.note(("get", key, got.is_ok()));
        got
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, store::Error> {
        self.inner.get_range(key, offset, length).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, store::Error> {
        self.inner.head(key).await
    }

    async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, store::Error> {
        // Nobody replaces the repository key.
        if prefix != "rotations/" {
            self.wait().await;
        }
        let page = self.inner.list_page(prefix, from).await?;
        page.objects.iter().for_each(|object| self.note(&object.key));
        Ok(page)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, store::Error> {
        self.inner.list_folders(prefix).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), store::Error> {
        self.wait().await;
        let done = self.inner.copy(from, to).await;
        self.note(("copy", from, to, done.is_ok()));
        done
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), store::Error> {
        self.wait().await;
        self.note(("delete", keys));
        self.inner.delete(keys).await
    }

    async fn now(&self) -> Result<Option<DateTime<Utc>>, store::Error> {
        self.inner.now().await
    }
}

/// A vault with a past, and what three actors are about to do to it.
struct Scene {
    objects: Vec<(ObjectKey, Bytes)>,
    /// Of the two writers: when they begin, and for how many hours their backups are kept.
    writers: [(DateTime<Utc>, u64); 2],
    prunes_at: DateTime<Utc>,
    tables: [Table; 1],
}

fn acme() -> TargetId {
    TargetId::tenant("acme").expect("a name")
}

/// One backup of the past, which the pruner takes; its pack expires between the clocks of the writers and the pruner's.
async fn scene(hours: [u64; 2], prunes_after: TimeDelta) -> Scene {
    let world = World::new().await;
    let vault = world.acme();
    let tables: [Table; 1] = [("table:1", rows(40, 1))];
    let first = world.back_up_for(&vault, 96, &tables).await.expect("back up").marker.id;
    world.advance(90);
    world.back_up_for(&vault, 4, &tables).await.expect("back up");
    let packs_end = first.expires_at() + TimeDelta::hours(24);
    let begins = packs_end - TimeDelta::hours(1);
    let mut objects = Vec::new();
    for key in super::fleet::keys(world.store.as_ref()).await {
        let body = world.store.get(&key).await.expect("get");
        objects.push((key, body));
    }
    let writers = [(begins, hours[0]), (begins + TimeDelta::minutes(1), hours[1])];
    Scene { objects, writers, prunes_at: packs_end + prunes_after, tables }
}

/// What came of one order of calls.
struct Played {
    /// Actors that wait for their turn.
    waiting: Vec<usize>,
    /// Tells equal states apart from others.
    fingerprint: u64,
    /// How many backups the writers committed.
    committed: usize,
}

async fn write(repository: Repository, at: DateTime<Utc>, hours: u64, actor: usize, tables: [Table; 1]) -> bool {
    let world = World {
        clock: Arc::new(HeldClock::new(at)),
        entropy: SeededEntropy::new(100 + actor as u64),
        store: Arc::clone(repository.store()),
        repository: repository.clone(),
        officer: dbkeeper::codec::seal::Identity::from_bytes(&[9; 32]),
    };
    let keep = Some(kept_for(std::time::Duration::from_secs(hours * 3600)));
    let options = WriterOptions { keep, ..world.options() };
    let begun = BackupWriter::begin(&repository.vault(&acme()), options, at, &world.entropy).await;
    let Ok(writer) = begun else { return false };
    world.fill(writer, b"S", &tables).await.is_ok()
}

async fn prune(repository: Repository, at: DateTime<Utc>) -> Result<(), Error> {
    let times = (at, cutoff(at, None));
    let vault = repository.vault(&acme());
    let planned = plan(&survey(&vault, 1, times, None).await?, &policy(1), times.1);
    execute(&repository, &[planned], &[], false, &CancellationToken::new()).await.map(drop)
}

/// Plays an order, looks at the store after every call, and says who could go on.
async fn play(scene: &Scene, order: &[usize]) -> Played {
    let clock: Arc<dyn Clock> = Arc::new(HeldClock::new(scene.writers[0].0));
    let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(clock));
    for (key, body) in &scene.objects {
        inner.put(key, body.clone()).await.expect("put");
    }
    let plain = Repository::open(Arc::clone(&inner), &KEY).await.expect("open");
    let (words, mut heard) = mpsc::unbounded_channel();
    let mut gates = Vec::new();
    let mut tasks = Vec::new();
    for actor in 0..ACTORS {
        let (inner, words) = (Arc::clone(&inner), words.clone());
        let (passes, seen) = (Semaphore::new(0), Mutex::default());
        let gate = Arc::new(Gate { inner, actor, words: words.clone(), passes, seen });
        gates.push(Arc::clone(&gate));
        let repository = Repository::open(gate, &KEY).await.expect("open");
        let (tables, writers, prunes_at) = (scene.tables.clone(), scene.writers, scene.prunes_at);
        tasks.push(tokio::spawn(async move {
            let ended = match writers.get(actor) {
                Some((at, hours)) => Box::pin(write(repository, *at, *hours, actor, tables)).await,
                None => prune(repository, prunes_at).await.is_ok(),
            };
            words.send(Word::Ended(actor, ended)).expect("somebody listens");
        }));
    }
    let (mut waiting, mut committed) = (HashSet::new(), 0);
    let mut left = ACTORS;
    let mut turns = order.iter();
    loop {
        while waiting.len() < left {
            match heard.recv().await.expect("they live") {
                Word::Waits(actor) => drop(waiting.insert(actor)),
                Word::Ended(actor, good) => {
                    left -= 1;
                    committed += usize::from(good && actor < 2);
                    assert!(good, "actor {actor} failed in {order:?}");
                }
            }
        }
        let Some(turn) = turns.next() else { break };
        assert!(waiting.remove(turn), "{turn} can go on in {order:?}");
        gates[*turn].passes.add_permits(1);
    }
    // What lay before was looked at when the shorter order was played.
    check(&plain, order).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let mut hasher = DefaultHasher::new();
    super::fleet::keys(inner.as_ref()).await.hash(&mut hasher);
    for gate in &gates {
        hasher.write_u64(gate.seen.lock().expect("no panic").finish());
    }
    let mut waiting: Vec<usize> = waiting.into_iter().collect();
    waiting.sort_unstable();
    waiting.hash(&mut hasher);
    if waiting.is_empty() {
        check_restores(&plain, scene, order).await;
    }
    Played { waiting, fingerprint: hasher.finish(), committed }
}

/// Every backup that exists has all that it names.
async fn check(repository: &Repository, order: &[usize]) {
    let vault = repository.vault(&acme());
    let listing = vault.list().await.expect("list");
    for id in &listing.committed {
        let marker = vault.marker(*id).await.expect("a marker").marker;
        assert_eq!(lacks(vault.target(), &listing, &marker), [], "{id} in {order:?}");
    }
}

async fn check_restores(repository: &Repository, scene: &Scene, order: &[usize]) {
    let clock = Arc::new(HeldClock::new(scene.prunes_at));
    let world = super::fleet::world_in(Arc::clone(repository.store()), clock).await;
    let vault = repository.vault(&acme());
    let ids: Vec<BackupId> = vault.list().await.expect("list").committed.into_iter().collect();
    assert!(2 <= ids.len(), "both writers' backups are there: {order:?}");
    for id in ids {
        assert_eq!(
            world.restore(&vault, id).await.expect("restore"),
            expected(b"S", &scene.tables),
            "{id} in {order:?}"
        );
    }
}

/// Goes through every order; returns how many states there are, and how many ends.
async fn explore(scene: &Scene) -> (usize, usize) {
    let (mut seen, mut ends) = (HashSet::new(), 0);
    let mut open = VecDeque::from([Vec::new()]);
    while let Some(order) = open.pop_front() {
        let played = play(scene, &order).await;
        if !seen.insert(played.fingerprint) {
            continue;
        }
        if played.waiting.is_empty() {
            assert_eq!(played.committed, 2, "{order:?}");
            ends += 1;
        }
        for actor in played.waiting {
            let mut longer = order.clone();
            longer.push(actor);
            open.push_back(longer);
        }
    }
    (seen.len(), ends)
}

#[tokio::test]
async fn two_writers_that_renew_and_a_pruner_hurt_nobody_in_any_order() {
    let (states, ends) = explore(&scene([48, 24], TimeDelta::hours(2)).await).await;
    assert!(50 < states && 1 < ends, "{states} states, {ends} ends");
}

#[tokio::test]
async fn a_writer_that_reuses_beside_one_that_renews_and_a_pruner_in_any_order() {
    let (states, ends) = explore(&scene([1, 24], TimeDelta::minutes(50)).await).await;
    assert!(50 < states && 1 < ends, "{states} states, {ends} ends");
}
