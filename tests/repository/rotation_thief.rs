//! What whoever has the repository key that is about to be replaced plants before and while that is done.

use std::sync::Arc;

use chrono::TimeDelta;
use dbkeeper::base::class::Class;
use dbkeeper::base::clock::Clock;
use dbkeeper::base::ids::RunId;
use dbkeeper::repository::checkpoint::erased_since;
use dbkeeper::repository::prune::Guard;
use dbkeeper::repository::prune::record::read_reports;
use dbkeeper::repository::reports::store_report;
use dbkeeper::repository::rotation::{Begun, Former, Rotation, begin};
use dbkeeper::repository::{Error, Repository};
use dbkeeper::store::memory::MemoryStore;
use dbkeeper::store::{ObjectKey, ObjectStore};

use crate::repository::prune::{planned, policy, prune};
use crate::repository::rotation::{SECOND, TABLES, THIRD, check_old, old_backups, over_faults, rotate, rotated, under};
use crate::repository::support::{KEY, World, expected};
use crate::support::faults::{Call, Fault};

/// A record of an erasure as a thief signs it.
async fn plant_erasure(world: &World, run: RunId, at: chrono::DateTime<chrono::Utc>) {
    let target = world.acme().target().clone();
    let record = serde_json::json!({ "format": 1, "run_id": run, "target": target, "at": at, "epochs": [],
        "backups": 3, "objects": 1, "bytes": 1, "left": [] });
    store_report(&world.repository, &run, "erase", &record).await.expect("plant");
}

#[tokio::test]
async fn a_backup_dated_later_than_now_is_not_vouched_for() {
    let world = World::new().await;
    let old = old_backups(&world).await;
    world.advance(24 * 300);
    let planted = world.back_up(&world.acme(), b"F", &TABLES(9)).await.expect("plant").marker.id;
    world.advance(-24 * 300);
    let (repository, refused) = rotate(&world, Former::Known(&KEY), &SECOND).await.expect("rotate");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains(&planted.to_string()) && refused[0].contains("later than now"), "{refused:?}");
    let new = under(&world, repository);
    let vault = new.acme();
    assert!(vault.marker(planted).await.is_err());
    assert_eq!(new.restore(&vault, old[1]).await.expect("restore"), expected(b"S", &TABLES(2)));
}

#[tokio::test]
async fn records_dated_later_than_now_decide_nothing_before_and_after_a_rotation() {
    let world = World::new().await;
    let old = old_backups(&world).await;
    let vault = world.acme();
    let now = world.clock.now();
    world.advance(24 * 300);
    for _ in 0..6 {
        world.advance(1);
        prune(&world, &vault, &policy(5)).await.expect("plant a record of a prune");
    }
    world.advance(-24 * 300 - 6);
    assert_eq!(world.clock.now(), now);
    let later = now + TimeDelta::days(300);
    plant_erasure(&world, RunId::new(later, [8; 4]), now).await;
    plant_erasure(&world, RunId::new(now, [8; 4]), later).await;
    prune(&world, &vault, &policy(5)).await.expect("an honest one");
    let check = async |world: &World| {
        let reports = read_reports(&world.repository, now).await.expect("read");
        assert_eq!(reports.remembered.get(vault.target()).map(|last| last.backups_left), Some(2));
        assert_eq!(reports.remembered[vault.target()].at, now);
        assert!(reports.problems.len() >= 7, "{:?}", reports.problems);
        assert!(erased_since(&world.repository, (now - TimeDelta::days(9), now)).await.expect("list").is_empty());
    };
    check(&world).await;
    let new = rotated(&world).await;
    check(&new).await;
    check_old(&new, old).await;
    // The honest one is vouched for, and none of the others, even when their time has come.
    new.advance(24 * 400);
    let then = new.clock.now();
    assert_eq!(read_reports(&new.repository, then).await.expect("read").remembered[vault.target()].at, now);
    assert!(erased_since(&new.repository, (now, then)).await.expect("list").is_empty());
}

#[tokio::test]
async fn where_the_former_key_is_lost_no_record_of_a_run_is_believed() {
    let world = World::new().await;
    old_backups(&world).await;
    let now = world.clock.now();
    plant_erasure(&world, RunId::new(now, [8; 4]), now).await;
    prune(&world, &world.acme(), &policy(5)).await.expect("prune");
    let (repository, _) = rotate(&world, Former::Lost, &SECOND).await.expect("rotate");
    assert!(read_reports(&repository, now).await.expect("read").remembered.is_empty());
    assert!(erased_since(&repository, (now, now)).await.expect("list").is_empty());
}

/// Puts what the one store has below `prefix` into the other.
async fn carry(from: &dyn ObjectStore, to: &dyn ObjectStore, prefix: &str) {
    for object in from.list_page(prefix, None).await.expect("list").objects {
        to.put(&object.key, from.get(&object.key).await.expect("get")).await.expect("put");
    }
}

async fn begun(world: &World, store: &Arc<dyn ObjectStore>, new: &[u8; 32]) -> Result<Rotation, Error> {
    let time = (world.clock.now(), &world.entropy as _);
    match begin(Arc::clone(store), Former::Known(&KEY), new, time).await? {
        Begun::Rotation(rotation) => Ok(rotation),
        Begun::Done(_) => panic!("it is not finished"),
    }
}

/// An empty vault's world, and the same store once more: what the second sees later is what two jobs at once do not see.
async fn twice() -> (World, Arc<dyn ObjectStore>) {
    let world = World::new().await;
    let other: Arc<dyn ObjectStore> =
        Arc::new(MemoryStore::new(Arc::<dbkeeper::base::clock::HeldClock>::clone(&world.clock)));
    carry(world.store.as_ref(), other.as_ref(), "").await;
    (world, other)
}

#[tokio::test]
async fn of_two_rotations_at_once_the_first_ends_and_the_other_is_told() {
    let (world, other) = twice().await;
    let first = begun(&world, &world.store, &SECOND).await.expect("begin");
    world.advance(1);
    let second = begun(&world, &other, &THIRD).await.expect("begin");
    carry(other.as_ref(), world.store.as_ref(), "rotations/").await;
    carry(world.store.as_ref(), other.as_ref(), "rotations/").await;
    let time = (world.clock.now(), &world.entropy as _);
    let lost = second.finish(time, None).await.expect_err("it came later");
    assert!(matches!(lost, Error::RotationUnfinished { successor: Some(_), .. }), "{lost}");
    first.finish(time, None).await.expect("it came first");
    carry(world.store.as_ref(), other.as_ref(), "rotations/").await;
    let late = begun(&world, &other, &THIRD).await.expect_err("another is finished");
    assert!(matches!(late, Error::KeyReplaced { .. }), "{late}");
    assert!(Repository::open(Arc::clone(&other), &SECOND).await.is_ok());
    assert!(Repository::open(other, &THIRD).await.is_err());
}

#[tokio::test]
async fn a_rotation_that_has_begun_goes_on_whatever_the_holder_of_the_former_key_signs() {
    for hours in [-1000, 1000] {
        let (world, other) = twice().await;
        world.advance(hours);
        begun(&world, &other, &THIRD).await.expect("the thief's");
        world.advance(-hours);
        let ours = begun(&world, &world.store, &SECOND).await.expect("begin");
        let own = Repository::key_id(&ours.renewed).expect("a key");
        carry(other.as_ref(), world.store.as_ref(), "rotations/").await;
        // A name alone is no end of a rotation.
        let name = format!("rotations/{}/done.{own}.json", ours.id());
        let name = ObjectKey::new(&name).expect("a key");
        world.store.put(&name, "{}\n{}\n".into()).await.expect("plant");
        let time = (world.clock.now(), &world.entropy as _);
        let again = begun(&world, &world.store, &SECOND).await.expect("go on");
        again.finish(time, None).await.expect("finish");
        assert!(Repository::open(Arc::clone(&world.store), &SECOND).await.is_ok());
        assert!(matches!(Repository::open(Arc::clone(&world.store), &KEY).await, Err(Error::KeyReplaced { .. })));
    }
}

#[tokio::test]
async fn names_of_other_keys_below_the_rotations_stop_nobody_however_many() {
    let world = World::new().await;
    for number in 0..1100 {
        let key = format!("rotations/20261121T091500Z-{number:08x}/done.{number:016x}.json");
        world.store.put(&ObjectKey::new(&key).expect("a key"), "{}".into()).await.expect("plant");
    }
    assert!(Repository::open(Arc::clone(&world.store), &KEY).await.is_ok());
    rotated(&world).await;
}

#[tokio::test]
async fn what_cannot_be_read_for_good_below_the_rotations_counts_as_not_signed() {
    let (world, store) = over_faults().await;
    let own = world.repository.key_id().expect("a key");
    let key = format!("rotations/20261121T091500Z-00000001/retired.{own}.0123456789abcdef.json");
    world.store.put(&ObjectKey::new(&key).expect("a key"), "{}".into()).await.expect("plant");
    let its = move |call: &Call| call.operation == "get" && call.key == key;
    store.when(1, Fault::Fail(Class::Store), its.clone());
    assert!(Repository::open(Arc::clone(&world.store), &KEY).await.is_ok());
    // A passing failure tells nothing: the key may have been replaced.
    store.when(1, Fault::Fail(Class::Transient), its);
    assert!(Repository::open(Arc::clone(&world.store), &KEY).await.is_err());
}

#[tokio::test]
async fn a_vouch_that_is_gone_or_torn_does_not_cost_the_newest_backups() {
    for torn in [false, true] {
        let world = World::new().await;
        let old = old_backups(&world).await;
        let new = rotated(&world).await;
        new.advance(24);
        new.back_up(&new.acme(), b"S", &TABLES(3)).await.expect("back up");
        new.advance(24 * 500);
        let before = planned(&new, &new.acme(), &policy(3)).await.expect("plan");
        assert!(!before.is_refused(), "{:?}", before.refusals);
        let vouches = new.store.list_page("vaults/tenant/acme/vouches/", None).await.expect("list").objects;
        let place = &vouches[0].key;
        let bytes = new.store.get(place).await.expect("get");
        new.store.delete(std::slice::from_ref(place)).await.expect("delete");
        if torn {
            new.store.put(place, bytes.slice(..bytes.len() / 2)).await.expect("put");
        }
        let plan = planned(&new, &new.acme(), &policy(3)).await.expect("plan");
        assert!(plan.removals.is_empty() || plan.is_refused(), "{plan:?}");
        assert!(plan.refusals.iter().all(|refusal| refusal.guard == Guard::Damaged), "{:?}", plan.refusals);
        let told = |word: &str| plan.refusals.iter().any(|refusal| refusal.reason.contains(word));
        assert!(told(&old[1].to_string()) && told("vouches") == torn, "{:?}", plan.refusals);
    }
}
