//! Renewal: packs that expire too early for a new backup live on under a later expiry, unread; a store that cannot copy takes their
//! chunks once more.

use std::sync::Arc;

use dbkeeper::base::class::Class;
use dbkeeper::base::clock::{Clock, HeldClock, SystemClock};
use dbkeeper::store::ObjectStore;
use dbkeeper::store::local::LocalStore;
use dbkeeper::store::memory::MemoryStore;
use dbkeeper::store::s3::S3Store;

use crate::repository::support::{Table, World, expected, rows};
use crate::support::faults::{Fault, Faulty};
use crate::support::seaweed::Seaweed;

/// Backs up twice, so late that the first one's packs would expire before the second backup.
async fn twice(store: Arc<Faulty>) -> (World, [dbkeeper::repository::marker::Marker; 2], [Table; 1]) {
    let clock = Arc::new(HeldClock::new(SystemClock.now()));
    let world = World::over(store, clock).await;
    let (vault, tables): (_, [Table; 1]) = (world.acme(), [("table:1", rows(6_000, 1))]);
    let first = world.back_up_for(&vault, 48, &tables).await.expect("back up").marker;
    world.advance(40);
    let second = world.back_up_for(&vault, 48, &tables).await.expect("back up").marker;
    (world, [first, second], tables)
}

async fn check_renewal(inner: Arc<dyn ObjectStore>) {
    let store = Faulty::new(inner);
    let (world, [first, second], tables) = twice(Arc::clone(&store)).await;
    assert_eq!(second.packs, first.packs, "the same packs, by their hashes");
    let calls = store.calls();
    let of_packs = |operation: &str| {
        calls.iter().filter(|call| call.operation == operation && call.key.contains("/packs/")).count()
    };
    assert_eq!((of_packs("copy"), of_packs("get"), of_packs("get_range")), (first.packs.len(), 0, 0));
    assert!(second.stored_bytes * 5 < first.stored_bytes, "{} of {}", second.stored_bytes, first.stored_bytes);
    let vault = world.acme();
    let listing = vault.list().await.expect("list");
    for facts in &second.packs {
        assert!(second.expires_at <= listing.packs[&facts.sha256].expires_at);
    }
    // The earlier key may go at once, and the earlier backup still restores.
    let (plan, _) = super::prune::prune(&world, &vault, &super::prune::policy(1)).await.expect("prune");
    assert_eq!(plan.removals.len(), first.packs.len(), "{plan:?}");
    for marker in [first, second] {
        assert_eq!(world.restore(&vault, marker.id).await.expect("restore"), expected(b"S", &tables));
    }
}

#[tokio::test]
async fn packs_are_renewed_unread_in_memory() {
    check_renewal(Arc::new(MemoryStore::new(Arc::new(SystemClock)))).await;
}

#[tokio::test]
async fn packs_are_renewed_unread_in_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    check_renewal(Arc::new(LocalStore::new(folder.path().to_owned()))).await;
}

#[tokio::test]
async fn packs_are_renewed_unread_behind_s3() {
    check_renewal(Arc::new(S3Store::open(Seaweed::shared().options()).await.expect("a store"))).await;
}

#[tokio::test]
async fn a_store_that_cannot_copy_takes_the_chunks_once_more() {
    let store = Faulty::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
    store.when(usize::MAX, Fault::Fail(Class::Refused), |call| call.operation == "copy");
    let (world, [first, second], tables) = twice(Arc::clone(&store)).await;
    std::mem::forget(store);
    assert!(second.packs.iter().all(|pack| !first.packs.contains(pack)), "other packs");
    assert!(first.stored_bytes < second.stored_bytes * 2);
    for marker in [first, second] {
        assert_eq!(world.restore(&world.acme(), marker.id).await.expect("restore"), expected(b"S", &tables));
    }
}

#[tokio::test]
async fn what_is_stored_again_is_kept_apart_from_what_is_new_and_renewed_from_then_on() {
    let store = Faulty::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
    let world = World::over(Arc::<Faulty>::clone(&store), Arc::new(HeldClock::new(SystemClock.now()))).await;
    let vault = world.acme();
    let tables = |round: u32| -> [Table; 2] { [("table:1", rows(3_000, 1)), ("table:2", rows(2_000, 50 + round))] };
    let mut markers = Vec::new();
    for round in 0..3 {
        // What changes every time makes the first pack not worth a renewal.
        markers.push(world.back_up_for(&vault, 48, &tables(round)).await.expect("back up").marker);
        world.advance(40);
    }
    let copies =
        |calls: Vec<crate::support::faults::Call>| calls.iter().filter(|call| call.operation == "copy").count();
    assert_eq!(copies(store.calls()), 1, "the pack of what stays, by the third backup");
    assert!(markers[1].packs.iter().all(|pack| !markers[0].packs.contains(pack)), "all is stored again");
    assert_eq!(markers[1].packs.iter().filter(|pack| markers[2].packs.contains(pack)).count(), 1);
    assert!(markers[2].stored_bytes * 10 < markers[1].stored_bytes * 6, "{markers:?}");
    for (round, marker) in (0..).zip(&markers) {
        assert_eq!(world.restore(&vault, marker.id).await.expect("restore"), expected(b"S", &tables(round)));
    }
}
