//! A second repository over memory: complete, resumable at every call, and never the heir of damage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dbkeeper::base::class::Class;
use dbkeeper::base::clock::Clock;
use dbkeeper::base::cpu::ByteBudget;
use dbkeeper::base::monitor::Silent;
use dbkeeper::repository::copy::{CopiedVault, CopyOptions, copy_vault, open_destination};
use dbkeeper::repository::pace::Pace;
use dbkeeper::repository::presence::whole_backups;
use dbkeeper::repository::{Error, Repository};
use dbkeeper::store::ObjectStore;
use dbkeeper::store::memory::MemoryStore;
use futures::TryStreamExt;

use crate::repository::support::{KEY, Table, World, expected, rows};
use crate::support::faults::{Call, Fault, Faulty};

fn empty(world: &World) -> Arc<dyn ObjectStore> {
    let clock: Arc<dyn Clock> = Arc::<dbkeeper::base::clock::HeldClock>::clone(&world.clock);
    Arc::new(MemoryStore::new(clock))
}

async fn copy(world: &World, to: Arc<dyn ObjectStore>) -> Result<CopiedVault, Error> {
    let destination = open_destination(&world.repository, to, &KEY).await?;
    let (budget, pace) = (ByteBudget::new(8 << 20), Pace::new(None));
    let options = CopyOptions { now: world.clock.now(), keep_last: 2, budget: &budget, pace: &pace, monitor: &Silent };
    copy_vault(&world.acme(), &destination, options).await
}

async fn objects(store: &dyn ObjectStore) -> BTreeMap<String, Bytes> {
    let keys: Vec<_> = store.list("").map_ok(|object| object.key).try_collect().await.expect("list");
    let mut found = BTreeMap::new();
    for key in keys {
        let body = store.get(&key).await.expect("get");
        found.insert(key.to_string(), body);
    }
    found
}

/// Two backups that share most of their packs.
async fn world_with_two() -> (World, [Table; 1]) {
    let world = World::new().await;
    let mut tables = [("table:1", rows(4_000, 1))];
    world.back_up(&world.acme(), b"S", &tables).await.expect("back up");
    world.advance(24);
    tables[0].1[700] = b"changed\n".to_vec();
    world.back_up(&world.acme(), b"S", &tables).await.expect("back up");
    (world, tables)
}

#[tokio::test]
async fn the_copy_is_equal_byte_for_byte_and_restores_with_the_same_keys() {
    let (world, tables) = world_with_two().await;
    let there = empty(&world);
    let report = copy(&world, Arc::clone(&there)).await.expect("copy");
    assert_eq!((report.backups_copied, report.findings.len()), (2, 0));
    assert_eq!(objects(there.as_ref()).await, objects(world.store.as_ref()).await);
    let second = Repository::open(Arc::clone(&there), &KEY).await.expect("open");
    let vault = second.vault(world.acme().target());
    assert_eq!(world.restore_newest(&vault).await.expect("restore"), expected(b"S", &tables));
    assert_eq!(world.verify(&vault).await.findings, []);
    let again = copy(&world, there).await.expect("copy");
    assert_eq!((again.backups_copied, again.backups_present, again.objects_copied), (0, 2, 0));
}

/// After a copy that failed: what is there is whole, and the next copy finishes.
async fn check_resumes(world: &World, tables: &[Table; 1], inner: Arc<dyn ObjectStore>, whole: bool, what: &str) {
    if let Ok(second) = Repository::open(Arc::clone(&inner), &KEY).await {
        let vault = second.vault(world.acme().target());
        let (backups, problems) = whole_backups(&vault).await.expect("list");
        assert!(!whole || problems.is_empty(), "{what}: {problems:?}");
        for marker in backups {
            world.restore(&vault, marker.id).await.expect("what is listed restores");
        }
    }
    copy(world, Arc::clone(&inner)).await.expect("the next copy");
    let second = Repository::open(inner, &KEY).await.expect("open");
    let vault = second.vault(world.acme().target());
    assert_eq!(world.restore_newest(&vault).await.expect("restore"), expected(b"S", tables), "{what}");
    assert_eq!(world.verify(&vault).await.findings, [], "{what}");
}

#[tokio::test]
async fn a_copy_that_fails_at_any_call_leaves_whole_backups_and_the_next_one_finishes() {
    let (world, tables) = world_with_two().await;
    let counted = Faulty::new(empty(&world));
    copy(&world, Arc::<Faulty>::clone(&counted)).await.expect("copy");
    for number in 1..=counted.calls().len() {
        for fault in [Fault::Fail(Class::Store), Fault::LoseReply] {
            let inner = empty(&world);
            let store = Faulty::new(Arc::clone(&inner));
            store.at_call(number, fault.clone());
            // A failure that does not matter (no copy inside the store) may be got over.
            let _ = copy(&world, Arc::<Faulty>::clone(&store)).await;
            check_resumes(&world, &tables, inner, true, &format!("call {number}, {fault:?}")).await;
        }
    }
}

#[tokio::test]
async fn an_object_that_the_other_store_tears_is_found_at_once_and_put_again_by_the_next_copy() {
    let (world, tables) = world_with_two().await;
    let counted = Faulty::new(empty(&world));
    copy(&world, Arc::<Faulty>::clone(&counted)).await.expect("copy");
    for number in 1..=counted.count("put") {
        let inner = empty(&world);
        let store = Faulty::new(Arc::clone(&inner));
        let puts = AtomicUsize::new(0);
        let is_it = move |call: &Call| call.operation == "put" && puts.fetch_add(1, Ordering::Relaxed) + 1 == number;
        store.when(1, Fault::Tear(10), is_it);
        let error = copy(&world, Arc::<Faulty>::clone(&store)).await.expect_err("a torn object");
        assert!(matches!(error, Error::Torn { .. }), "put {number}: {error}");
        check_resumes(&world, &tables, inner, false, &format!("put {number}")).await;
    }
}

#[tokio::test]
async fn what_is_damaged_or_forged_here_stays_here_and_everything_else_is_copied() {
    let (world, _) = world_with_two().await;
    let vault = world.acme();
    let listing = vault.list().await.expect("list");
    let newest = vault.marker(*listing.committed.last().expect("two")).await.expect("a marker").marker;
    let oldest = vault.marker(*listing.committed.first().expect("two")).await.expect("a marker").marker;
    let old: Vec<_> = oldest.packs.iter().map(|pack| pack.sha256).collect();
    let only_new = newest.packs.iter().map(|pack| pack.sha256).find(|pack| !old.contains(pack)).expect("a new pack");
    let key = listing.pack_key(vault.target(), only_new).expect("its key");
    let mut body = world.store.get(&key).await.expect("get").to_vec();
    body[100] ^= 1;
    world.store.delete(std::slice::from_ref(&key)).await.expect("delete");
    world.store.put(&key, Bytes::from(body)).await.expect("put");
    let there = empty(&world);
    let report = copy(&world, Arc::clone(&there)).await.expect("copy");
    assert_eq!(report.backups_copied, 1);
    assert!(report.findings.iter().any(|finding| finding.key == key.to_string()), "{:?}", report.findings);
    assert!(report.findings.iter().any(|finding| finding.backups == [newest.id]), "{:?}", report.findings);
    let second = Repository::open(there, &KEY).await.expect("open");
    let copied = second.vault(vault.target());
    assert_eq!(world.verify(&copied).await.findings, []);
    assert_eq!(copied.list().await.expect("list").newest(), Some(oldest.id));
}

#[tokio::test]
async fn a_pack_that_was_renewed_here_is_renewed_there_without_being_sent_again() {
    use dbkeeper::repository::layout::VaultObject;

    let (world, _) = world_with_two().await;
    let there = Faulty::new(empty(&world));
    copy(&world, Arc::<Faulty>::clone(&there)).await.expect("copy");
    let (vault, before) = (world.acme(), there.count("put"));
    for (hash, pack) in vault.list().await.expect("list").packs {
        let older = VaultObject::Pack(pack.expires_at, hash).key(vault.target());
        let later = VaultObject::Pack(pack.expires_at + chrono::TimeDelta::days(1), hash).key(vault.target());
        world.store.copy(&older, &later).await.expect("copy");
    }
    let report = copy(&world, Arc::<Faulty>::clone(&there)).await.expect("copy");
    assert_eq!(there.count("put"), before);
    assert!(report.packs_renewed > 0 && report.bytes_copied == 0, "{report:?}");
}

#[tokio::test]
async fn what_has_expired_is_not_brought_back_but_the_newest_are_kept() {
    let (world, tables) = world_with_two().await;
    world.advance(24);
    world.back_up(&world.acme(), b"S", &tables).await.expect("back up");
    world.advance(24 * 365 * 3);
    let there = empty(&world);
    let report = copy(&world, Arc::clone(&there)).await.expect("copy");
    assert_eq!(report.backups_copied, 2, "the newest two, whatever their age");
    let second = Repository::open(there, &KEY).await.expect("open");
    assert_eq!(world.verify(&second.vault(world.acme().target())).await.findings, []);
}

#[tokio::test]
async fn another_repository_is_not_written_to() {
    let (world, _) = world_with_two().await;
    let other = World::over(empty(&world), Arc::clone(&world.clock)).await;
    other.back_up(&other.acme(), b"S", &[]).await.expect("back up");
    let before = objects(other.store.as_ref()).await;
    let id = |repository: &Repository| repository.id().to_string();
    if id(&other.repository) == id(&world.repository) {
        // Two repositories of one seed have one id: make it another one.
        let place = dbkeeper::repository::layout::repository_document();
        other.store.delete(&[place]).await.expect("delete");
        let error = copy(&world, Arc::clone(&other.store)).await.expect_err("vaults without their document");
        assert!(matches!(error, Error::Orphaned { .. }), "{error}");
        return;
    }
    let error = copy(&world, Arc::clone(&other.store)).await.expect_err("another repository");
    assert!(matches!(error, Error::AnotherRepository { .. }), "{error}");
    assert_eq!(objects(other.store.as_ref()).await, before);
}
