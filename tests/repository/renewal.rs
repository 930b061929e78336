//! Renewal: packs that expire too early for a new backup live on under a later expiry, unread; a store that cannot copy takes their
//! chunks once more.

use std::sync::Arc;

use dbkeeper::base::class::Class;
use dbkeeper::base::clock::{Clock, HeldClock, SystemClock};
use dbkeeper::repository::writer::{BackupWriter, Content};
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
    let world =
        World::over(Arc::new(MemoryStore::new(Arc::new(SystemClock))), Arc::new(HeldClock::new(SystemClock.now())))
            .await;
    let vault = world.acme();
    let tables = |round: u32| -> [Table; 2] { [("table:1", rows(2_000, 1)), ("table:2", rows(1_300, 50 + round))] };
    let mut markers = Vec::new();
    for round in 0..4 {
        // How much of a pack was in use is known of the backup before: the first pack is renewed once, then given up.
        markers.push(world.back_up_for(&vault, 48, &tables(round)).await.expect("back up").marker);
        world.advance(40);
    }
    let shared = |a: usize, b: usize| markers[a].packs.iter().filter(|pack| markers[b].packs.contains(pack)).count();
    assert_eq!([shared(0, 1), shared(1, 2), shared(2, 3)], [1, 0, 1], "the pack of what stays lasts");
    assert!(markers[3].stored_bytes * 10 < markers[2].stored_bytes * 6, "{markers:?}");
    for (round, marker) in (0..).zip(&markers) {
        assert_eq!(world.restore(&vault, marker.id).await.expect("restore"), expected(b"S", &tables(round)));
    }
}

#[tokio::test]
async fn what_was_taken_over_unread_is_not_new_when_it_is_read_again() {
    let world = World::new().await;
    let vault = world.acme();
    let mut packs = Vec::new();
    // Read, taken over twice, and read again since its stamp is another one: the same bytes.
    for (stamp, is_read) in [(1, true), (1, false), (1, false), (2, true)] {
        let writer =
            BackupWriter::begin(&vault, world.options(), world.clock.now(), &world.entropy).await.expect("begin");
        let mut lane = writer.lane();
        let part = match writer.reuse("file", &[stamp; 32]) {
            Some(part) => part,
            None => {
                lane.begin_bytes("file");
                lane.push(&[7; 100_000]);
                lane.drain().await.expect("drain");
                lane.end().await.expect("end")
            }
        };
        assert_eq!(writer.reuse("file", &[stamp; 32]).is_none(), is_read);
        lane.finish().await.expect("finish");
        let parts = vec![(part, Some([stamp; 32]))];
        let content = Content { parts, description: serde_json::Value::Null, engine: "made up".to_owned() };
        packs.push(writer.commit(content).await.expect("commit").marker.packs);
        world.advance(1);
    }
    assert_eq!(packs, vec![packs[0].clone(); 4]);
}
