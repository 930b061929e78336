//! The line of a checkpoint: it comes back as it was printed, no changed one is accepted, and 5,000 vaults fit.

use chrono::TimeDelta;
use dbkeeper::base::clock::{Clock, SeededEntropy};
use dbkeeper::base::ids::{BackupId, RetentionClass, RunId, TargetId};
use dbkeeper::codec::digest::sha256;
use dbkeeper::repository::Repository;
use dbkeeper::repository::checkpoint::{BadCheckpoint, Checkpoint, erased_since};
use dbkeeper::repository::reports::store_report;

use crate::repository::support::World;

fn of_many(world: &World, vaults: u32) -> Checkpoint {
    let mut checkpoint = Checkpoint::new(&world.repository, world.clock.now(), false);
    for number in 0..vaults {
        let target = TargetId::tenant(&format!("tenant-{number}")).expect("a name");
        let time = world.clock.now() + TimeDelta::seconds(i64::from(number));
        let tail = sha256(&number.to_le_bytes());
        let tail = [tail.0[0], tail.0[1], tail.0[2], tail.0[3]];
        let id = BackupId::new(time, RetentionClass::Daily, 336, tail);
        checkpoint.add(&target, id, &sha256(id.to_string().as_bytes()));
    }
    checkpoint
}

#[tokio::test]
async fn five_thousand_vaults_are_one_line_that_comes_back_as_it_was() {
    let world = World::new().await;
    let checkpoint = of_many(&world, 5_000);
    let line = checkpoint.print(&world.repository.checkpoint_mac().expect("a key"));
    assert!(!line.contains('\n') && line.len() < 5_000 * 64, "{} bytes", line.len());
    let back = Checkpoint::parse(&format!("{line}\n"), &world.repository).expect("ours");
    assert_eq!(back, checkpoint);
    assert_eq!((back.count(), back.targets().count()), (5_000, 5_000));
}

#[tokio::test]
async fn a_changed_or_foreign_line_is_never_accepted() {
    let world = World::new().await;
    let line = of_many(&world, 3).print(&world.repository.checkpoint_mac().expect("a key"));
    for at in 0..line.len() {
        assert!(Checkpoint::parse(&line[..at], &world.repository).is_err(), "cut at {at}");
        let mut changed = line.clone().into_bytes();
        changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert!(Checkpoint::parse(&changed, &world.repository).is_err(), "changed at {at}");
    }
    for wrong in ["", "\n", ":", "dbkeeper-checkpoint-1", "dbkeeper-checkpoint-1::", "hello"] {
        assert!(matches!(Checkpoint::parse(wrong, &world.repository), Err(BadCheckpoint::Shape(_))), "{wrong:?}");
    }
    let other = {
        let clock = std::sync::Arc::clone(&world.clock);
        let store = std::sync::Arc::new(dbkeeper::store::memory::MemoryStore::new(clock));
        let entropy = SeededEntropy::new(99);
        Repository::create(store, &[43; 32], world.clock.now(), &entropy).await.expect("create")
    };
    assert!(matches!(Checkpoint::parse(&line, &other), Err(BadCheckpoint::OtherRepository)));
    // Without the key the line is read, and the caller says that nobody could check it.
    let keyless = Repository::open_without_key(std::sync::Arc::clone(&world.store)).await.expect("open");
    assert_eq!(Checkpoint::parse(&line, &keyless).expect("readable").count(), 3);
}

#[tokio::test]
async fn only_a_signed_record_of_an_erasure_since_then_excuses_what_is_missing() {
    let world = World::new().await;
    let acme = TargetId::tenant("acme").expect("a name");
    let (run, at) = (RunId::new(world.clock.now(), [1; 4]), world.clock.now());
    let record =
        |left: &[&str]| serde_json::json!({ "format": 1, "target": acme, "at": at, "backups": 3, "left": left });
    let erased = |since| erased_since(&world.repository, (since, world.clock.now()));
    // One that was only begun, or that left a backup, excuses nothing.
    let marker = "vaults/tenant/acme/backups/20261121T091500Z-d336h-3fa9c2d1/backup.json";
    for (name, left) in [("erase", &[][..]), ("erase-done", &[marker])] {
        store_report(&world.repository, &run, name, &record(left)).await.expect("put");
        assert!(erased(at - TimeDelta::hours(1)).await.expect("list").is_empty(), "{name} {left:?}");
    }
    store_report(&world.repository, &run, "erase-done", &record(&["vaults/tenant/acme/packs/x"])).await.expect("put");
    assert!(erased(at - TimeDelta::hours(1)).await.expect("list").contains_key(&acme));
    assert!(erased(at + TimeDelta::hours(1)).await.expect("list").is_empty(), "it was erased before");
    // One that says it is of a later time, in its name or in its text, would excuse whatever vanishes until then.
    let later = at + TimeDelta::days(300);
    for (run, at) in [(RunId::new(later, [2; 4]), at), (RunId::new(at, [3; 4]), later)] {
        let beta = TargetId::tenant("beta").expect("a name");
        let record = serde_json::json!({ "format": 1, "target": beta, "at": at, "backups": 3, "left": [] });
        store_report(&world.repository, &run, "erase-done", &record).await.expect("put");
        assert!(!erased(at - TimeDelta::days(400)).await.expect("list").contains_key(&beta));
    }
    let key = dbkeeper::repository::layout::run_report(&run, "erase-done");
    let text = String::from_utf8(world.store.get(&key).await.expect("get").to_vec()).expect("text");
    world.store.delete(std::slice::from_ref(&key)).await.expect("delete");
    world.store.put(&key, text.replace("acme", "beta").into()).await.expect("put");
    assert!(erased(at - TimeDelta::hours(1)).await.expect("list").is_empty(), "a forged one excuses nobody");
}
