//! What whoever has the repository key that is about to be replaced plants before and while that is done.

use chrono::TimeDelta;
use dbkeeper::base::clock::Clock;
use dbkeeper::base::ids::RunId;
use dbkeeper::repository::checkpoint::erased_since;
use dbkeeper::repository::prune::record::read_reports;
use dbkeeper::repository::reports::store_report;
use dbkeeper::repository::rotation::Former;

use crate::repository::prune::{policy, prune};
use crate::repository::rotation::{SECOND, TABLES, check_old, old_backups, rotate, rotated, under};
use crate::repository::support::{KEY, World, expected};

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
