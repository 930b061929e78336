//! Object lock in a real bucket: what is uploaded is locked until it expires, prune and erase know it, and doctor looks first.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use dbkeeper::base::clock::{Clock, HeldClock, SystemClock};
use dbkeeper::codec::seal::Identity;
use dbkeeper::repository::expiry::pack_expiry;
use dbkeeper::repository::layout;
use dbkeeper::repository::rotation::{Begun, Former, begin};
use dbkeeper::store::s3::{Lock, LockMode, S3Options, S3Store};
use dbkeeper::store::{LockState, ObjectKey, ObjectStore};

use super::aged::{Aged, EXPIRED};
use crate::repository::fleet::keys;
use crate::repository::support::{KEY, Table, World, expected, rows};
use crate::support::seaweed::Seaweed;

fn locking(mut options: S3Options, mode: LockMode) -> S3Options {
    options.lock = Some(Lock { mode, until: layout::expires_at });
    options
}

async fn locked_until(options: &S3Options, key: &ObjectKey) -> Option<DateTime<Utc>> {
    let full = format!("{}/{key}", options.prefix);
    let head = Seaweed::shared().client().head_object().bucket(&options.bucket).key(full).send().await.expect("head");
    head.object_lock_retain_until_date().and_then(|at| DateTime::from_timestamp(at.secs(), 0))
}

/// Versions and delete markers of everything in a bucket.
async fn versions(options: &S3Options) -> Vec<String> {
    let client = Seaweed::shared().client();
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let call = client.list_object_versions().bucket(&options.bucket).set_key_marker(from);
        let page = call.send().await.expect("list versions");
        found.extend(page.versions().iter().filter_map(|version| version.key().map(str::to_owned)));
        found.extend(page.delete_markers().iter().filter_map(|marker| marker.key().map(str::to_owned)));
        from = page.next_key_marker().map(str::to_owned);
        if from.is_none() || page.is_truncated() != Some(true) {
            return found;
        }
    }
}

#[tokio::test]
async fn every_object_of_a_backup_is_locked_until_it_expires_and_cannot_be_destroyed_before() {
    let options = locking(Seaweed::shared().locking_bucket(), LockMode::Compliance);
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::open(options.clone()).await.expect("a store"));
    assert_eq!(store.lock_state().await.expect("ask"), LockState::Ready);
    let clock = Arc::new(HeldClock::new(SystemClock.now()));
    let world = World::over(Arc::clone(&store), clock).await;
    let (vault, tables): (_, [Table; 1]) = (world.acme(), [("table:1", rows(500, 1))]);
    let marker = world.back_up_for(&vault, 48, &tables).await.expect("back up").marker;
    let mut seen = 0;
    for key in keys(store.as_ref()).await {
        let Some(expires_at) = layout::expires_at(&key) else { continue };
        assert_eq!(locked_until(&options, &key).await, Some(expires_at), "{key}");
        seen += 1;
    }
    assert!(3 <= seen, "pack, manifest and marker");
    let epoch = layout::VaultObject::Epoch(marker.epoch, 1).key(vault.target());
    let packs_end = marker.expires_at + TimeDelta::hours(12);
    assert_eq!(locked_until(&options, &epoch).await, Some(packs_end), "as long as what it opens");
    // A second backup whose packs must be renewed: the copy is locked, too.
    world.advance(24);
    let later = world.back_up_for(&vault, 96, &tables).await.expect("back up").marker;
    let listing = vault.list().await.expect("list");
    for facts in &later.packs {
        let key = listing.pack_key(vault.target(), facts.sha256).expect("it is listed");
        assert_eq!(locked_until(&options, &key).await, layout::expires_at(&key), "{key}");
    }
    assert!(Some(packs_end) < locked_until(&options, &epoch).await, "the lock of the secret grew with it");
    let all = keys(store.as_ref()).await;
    let locked = store.destroy(&all).await.expect("destroy what may be");
    let still: Vec<ObjectKey> = keys(store.as_ref()).await;
    assert!(locked.iter().all(|locked| still.contains(&locked.key)), "what is locked is still there");
    assert_eq!(world.restore(&vault, later.id).await.expect("restore"), expected(b"S", &tables));
}

#[tokio::test]
async fn every_revision_of_what_opens_a_backup_and_what_vouches_for_it_are_locked_as_long() {
    let options = locking(Seaweed::shared().locking_bucket(), LockMode::Compliance);
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::open(options.clone()).await.expect("a store"));
    let clock = Arc::new(HeldClock::new(SystemClock.now()));
    let world = World::over(Arc::clone(&store), clock).await;
    let (vault, tables): (_, [Table; 1]) = (world.acme(), [("table:1", rows(500, 1))]);
    let marker = world.back_up_for(&vault, 48, &tables).await.expect("back up").marker;
    let second = Identity::from_bytes(&[77; 32]);
    let both = [world.officer.recipient().clone(), second.recipient().clone()];
    vault.reseal(&both, std::slice::from_ref(&world.officer)).await.expect("reseal");
    let resealed = layout::VaultObject::Epoch(marker.epoch, 2).key(vault.target());
    let packs_end = pack_expiry(&marker.id);
    assert_eq!(locked_until(&options, &resealed).await, Some(packs_end), "from the beginning");
    world.advance(24);
    let later = world.back_up_for(&vault, 96, &tables).await.expect("back up").marker;
    assert_eq!(later.epoch, marker.epoch);
    assert_eq!(locked_until(&options, &resealed).await, Some(pack_expiry(&later.id)), "and it grows");
    // A new repository key.
    let time = (world.clock.now(), &world.entropy as _);
    let begun = begin(Arc::clone(&store), Former::Known(&KEY), &[43; 32], time).await.expect("begin");
    let Begun::Rotation(rotation) = begun else { panic!("it is new") };
    let former = rotation.former.vault(vault.target());
    let renewed = rotation.renewed.vault(vault.target());
    let done = renewed.vouch_for(&former, rotation.id(), time).await.expect("vouch");
    assert_eq!(done.needed_until, Some(pack_expiry(&later.id)));
    let repository = rotation.finish(time, done.needed_until).await.expect("finish");
    let documents = keys(store.as_ref()).await;
    let new: Vec<&ObjectKey> =
        documents.iter().filter(|key| ["/vouches/", "/done."].iter().any(|what| key.as_str().contains(what))).collect();
    assert_eq!(new.len(), 2, "{new:?}");
    for key in new {
        assert_eq!(locked_until(&options, key).await, done.needed_until, "{key}");
    }
    assert!(repository.vault(vault.target()).marker(later.id).await.is_ok());
}

#[tokio::test]
async fn prune_leaves_no_version_of_what_has_expired_in_a_bucket_that_locks() {
    let options = Seaweed::shared().locking_bucket();
    let aged = Aged::in_s3(options.clone()).await;
    aged.reconfigure("[encryption]", "object_lock = \"governance\"\n\n[encryption]");
    let doctor = aged.run(&["doctor"]);
    assert!((doctor.stdout + &doctor.stderr).contains("locks objects until their expiry"), "doctor looks");
    let dry = aged.json(&["prune", "--dry-run", "--json"], 0);
    let removals =
        dry["vaults"].as_array().expect("vaults").iter().flat_map(|v| v["removals"].as_array().expect("some"));
    let gone: Vec<String> =
        removals.map(|removal| format!("prod/{}", removal["key"].as_str().expect("a key"))).collect();
    aged.run(&["prune"]).expect(0);
    assert_eq!(aged.listed("acme"), aged.ids("acme", EXPIRED));
    let left = versions(&options).await;
    let of_gone: Vec<&String> = left.iter().filter(|key| gone.contains(key)).collect();
    assert!(of_gone.is_empty(), "versions of what was pruned: {of_gone:?}");
    aged.check_restores().await;
}

#[tokio::test]
async fn prune_says_that_a_bucket_keeps_versions_and_deletes_them_where_it_is_told() {
    const SAID: &str = "the bucket keeps older versions";
    for all in [false, true] {
        let options = Seaweed::shared().locking_bucket();
        let aged = Aged::in_s3(options.clone()).await;
        let verb: &[&str] = if all { &["prune", "--all-versions", "--json"] } else { &["prune", "--json"] };
        let report = aged.json(verb, 0);
        let notes = report["notes"].as_array().expect("notes");
        assert_eq!(notes.iter().any(|note| note.as_str().expect("a text").starts_with(SAID)), !all, "{notes:?}");
        assert_eq!(report["deleted"]["versions"], all);
        let gone: Vec<String> = report["vaults"]
            .as_array()
            .expect("vaults")
            .iter()
            .flat_map(|vault| vault["removals"].as_array().expect("removals"))
            .map(|removal| format!("prod/{}", removal["key"].as_str().expect("a key")))
            .collect();
        let left = versions(&options).await;
        assert!(!gone.is_empty() && gone.iter().all(|key| left.contains(key) != all), "{all}: {gone:?} of {left:?}");
        aged.check_restores().await;
    }
}

#[tokio::test]
async fn erase_says_until_when_the_rest_is_locked() {
    let options = Seaweed::shared().locking_bucket();
    let aged = Aged::in_s3(options.clone()).await;
    aged.reconfigure("[encryption]", "object_lock = \"compliance\"\n\n[encryption]");
    let store = Arc::new(S3Store::open(locking(options, LockMode::Compliance)).await.expect("a store"));
    let clock = Arc::new(HeldClock::new(SystemClock.now()));
    let world = crate::repository::fleet::world_in(store, clock).await;
    let marker = world.back_up_for(&world.acme(), 24, &super::aged::table(0)).await.expect("back up").marker;
    let record = aged.json(&["erase", "--tenant", "acme", "--yes-erase", "acme", "--json"], 3);
    let locked = record["locked"].as_array().expect("an array");
    assert!(locked.iter().any(|one| one[0].as_str().expect("a key").contains(&marker.id.to_string())), "{record:#}");
    let said = aged.run(&["erase", "--tenant", "acme", "--yes-erase", "acme"]).expect(3).stderr;
    assert!(said.contains("still locks") && said.contains("run the same command again then"), "{said}");
}

#[tokio::test]
async fn a_bucket_that_cannot_lock_is_told_by_doctor() {
    let aged = Aged::in_s3(Seaweed::shared().bucket()).await;
    aged.reconfigure("[encryption]", "object_lock = \"compliance\"\n\n[encryption]");
    let doctor = aged.run(&["doctor"]);
    assert_ne!(doctor.code, 0);
    assert!((doctor.stdout + &doctor.stderr).contains("objects cannot be locked"), "doctor looks");
}
